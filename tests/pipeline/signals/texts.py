"""Generated text for the kernels over it, and the definition of words, in plain Python."""

from __future__ import annotations

import unicodedata

import pyarrow as pa
from fox1.pipeline.signals import unicode as classes
from fox1.pipeline.signals.segment import Segments, segment
from fox1.pipeline.signals.southeast import END, FIRST, shares
from fox1.tokenize.spans import text_buffers
from hypothesis import strategies as st

WORDS = st.sampled_from(
    "the and Of with lorem ipsum JavaScript x1 42 été Straße naïve terms of use privacy policy use cookies a b a b".split()
)
GLUE = st.sampled_from(
    [
        " ",
        " ",
        "\n",
        "\n\n",
        ".\n",
        "...",
        "…\n",
        "#",
        " - ",
        "\n* ",
        "{",
        "}",
        "\t",
        "?\n",
        "。",
        "漢字",
        "ไทย",
        "ที่เ",
        "พ.ศ. ๒๕๖๗",
        "កម្ពុជា",
        "သည်",
        "\u3000",
    ]
    + [
        "\u00ad",
        "\u200d",
        "\u0301",
        "\ufe0f",
        "\n> ",
        " + ",
        " = ",
        " * ",
        "/",
        "a*b",
        " !x",
        "!",
        " (",
        "ក្ក",
        "\r\n",
        "\r",
        "\u2028",
        ". ",
        '."\n',
        "\\alpha",
        "$",
        "∑",
        "\\x41" * 8,
        "0x4f, ",
        "\\u00e9" * 8,
        "A1b2" * 16,
        "\u3164",
        "\u115f",
        "\u0600",
        "\ufff9",
        "ｱﾞ々",
        "[1]",
        ".[٣]",
        "[edit]",
        "[citation needed]",
        ". [",
        "[]",
    ]
)
TEXT = st.lists(
    st.one_of(WORDS, GLUE, st.text(st.characters(exclude_categories=("Cs",)), max_size=4)), max_size=40
).map("".join)

SOUTHEAST_TEXT = st.lists(
    st.one_of(
        st.sampled_from(["ที่นี่", "มหาวิทยาลัย", "ๆ", "ພາສາລາວ", "ກ໋", "ភាសាខ្មែរ", "ញ៊ុំ", "မြန်မာ", "ဘာသာ", "ꧠꩠ"]),
        st.sampled_from(
            ["๑", "២០", "၁", "2.5", "covid-19", "a", "漢", "(", "...", ".", ",", "฿", "។", "၊", "๚", "\u0e4c"]
        ),
        st.sampled_from([" ", "\n", "\u200b", "\u17b4", "\u3164", "\U000e0041", "\u0301", "่" * 30]),
    ),
    max_size=40,
).map("".join)
"""Most of it in unspaced scripts of southeast Asia."""


def segments(texts: list[str]) -> Segments:
    return segment(*text_buffers(pa.array(texts, pa.large_string())))


def is_mark(char: str) -> bool:
    return unicodedata.category(char)[0] == "M" and not is_invisible(char)


def is_invisible(char: str) -> bool:
    known = (*classes._INVISIBLE, (classes.TAGS[0], classes.TAGS[1] - 1))
    return any(first <= ord(char) <= last for first, last in known)


def begins_word(char: str) -> bool:
    if ord(char) >= classes.TABLE_SIZE:
        return not is_invisible(char)
    hidden = unicodedata.category(char) == "Cn" or is_mark(char) or is_invisible(char)
    return not hidden and (char.isalnum() or char == "_")


def alone(char: str) -> bool:
    unspaced = any(a <= ord(char) <= b for a, b in classes._UNSPACED)
    return unspaced and begins_word(char) and unicodedata.category(char) != "Nd"


def fold(char: str) -> str:
    folded = unicodedata.normalize("NFC", char.casefold())
    return folded[0] if folded else char


def places_of(text: str) -> list[list[int]]:
    """The places of the visible characters of every word."""
    words: list[list[int]] = []
    inside = unspaced = False
    for i, char in enumerate(text):
        if begins_word(char) and (not inside or unspaced or alone(char)):
            words.append([])
            inside, unspaced = True, alone(char)
        inside = inside and (begins_word(char) or is_mark(char) or is_invisible(char))
        if inside and not is_invisible(char):
            words[-1].append(i)
    return words


def words_of(text: str) -> list[str]:
    return ["".join(text[i] for i in places) for places in places_of(text)]


def joined_words(text: str) -> list[list[str]]:
    """Words, those together that only one symbol right between them parts; an empty list for every other symbol."""
    found: list[list[str]] = []
    inside = joined = unspaced = False  # joined: the last character was one symbol right after a word
    for char in text:
        if begins_word(char) and (not inside or unspaced or alone(char)):
            if joined and not alone(char):
                found.pop()
                found[-1].append("")
            else:
                found.append([""])
            inside, joined, unspaced = True, False, alone(char)
        after_word = inside
        inside = inside and (begins_word(char) or is_mark(char) or is_invisible(char))
        if inside:
            found[-1][-1] += char
        elif char.isspace():
            joined = False
        elif not is_invisible(char):
            joined = after_word
            found.append([])
    return found


def is_southeast(word: str) -> bool:
    return alone(word[0]) and (ord(word[0]) < 0x3000 or 0xA9E0 <= ord(word[0]) <= 0xAA7F)


def counted_words(units: list[str]) -> int:
    """Words that units make: of Han and Kana 1.8, and of Thai, Lao, Khmer and Burmese what the shares of their letters say."""
    southeast = [u for u in units if is_southeast(u)]
    east = sum(alone(u[0]) for u in units) - len(southeast)
    share = shares()
    letters = [sum(int(share[ord(c) - FIRST]) for c in u if FIRST <= ord(c) < END) for u in southeast]
    words = -(-sum(min(one, 1000) for one in letters) // 1000)
    return len(units) - len(southeast) - east + -(-10 * east // 18) + words


def tenths_of_word(units: list[str]) -> int:
    """Units of a word by the script of most of a text's units."""
    southeast = [u for u in units if is_southeast(u)]
    unspaced = sum(alone(u[0]) for u in units)
    if 2 * unspaced <= len(units):
        return 10
    if 2 * len(southeast) <= unspaced:
        return 18
    khmer = sum(0x1780 <= ord(u[0]) < 0x1800 for u in southeast)
    burmese = sum(0x1000 <= ord(u[0]) < 0x1780 or ord(u[0]) >= 0xA9E0 for u in southeast)
    return 30 if 2 * khmer > len(southeast) else 22 if 2 * burmese > len(southeast) else 37


def units_of_words(units: list[str], words: int) -> int:
    """Units of so many words, as words of the script have on average."""
    return (words * tenths_of_word(units) + 5) // 10


def own_units_of_words(units: list[str], words: int) -> int:
    """Units of so many words, in scripts of southeast Asia as words of the text have on average."""
    tenths, counted = tenths_of_word(units), counted_words(units)
    if tenths > 18:
        tenths = min(max((10 * len(units) + counted // 2) // max(counted, 1), 10), 60)
    return (words * tenths + 5) // 10


def southeast_symbols(text: str) -> int:
    """Tokens of symbols by the rule for scripts of southeast Asia."""
    runs = 0
    run = ""  # or "symbols", or "word": symbols and a word
    inside = unspaced = weighed = False
    for char in text:
        if begins_word(char) and (not inside or unspaced or alone(char)):
            inside, unspaced, weighed = True, alone(char), is_southeast(char)
            if run == "symbols" and not weighed:
                runs, run = runs - 1, "word"
            run = "" if weighed else run
        after_word = inside
        inside = inside and (begins_word(char) or is_mark(char) or is_invisible(char))
        if char.isspace():
            run = ""
        elif not inside and not is_invisible(char) and not run:
            abbreviates = char == "." and weighed and after_word
            runs, run = (runs, "") if abbreviates else (runs + 1, "symbols")
    return runs


def folded_words(text: str) -> list[str]:
    return ["".join(map(fold, w)) for w in words_of(text)]


def is_ascii_word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


def signs_of(text: str) -> list[str]:
    """The signs of every word: before it on its line, or after the last."""
    signs: list[str] = []
    for line in text.splitlines():
        places = places_of(line)
        operator = False
        between = [""] * (len(places) + 1)
        inside = {i for word in places for i in word}
        begins = {word[0] for word in places}
        before = 0
        for i, char in enumerate(line):
            before += i in begins
            kind = unicodedata.category(char)
            if i in inside or is_invisible(char) or (char == ">" and not before):
                continue
            left = line[i - 1] if line[:i].strip() else "\n"
            right = line[i + 1 : i + 2]
            alone_here = char in "*/%&" and left + right == "  "
            if is_ascii_word(right):
                inside_word = is_ascii_word(left)
                alone_here |= (char == "*" and inside_word) or (char == "!" and left < "\x80" and not inside_word)
            if strong := kind == "Sm" or char in "{}\\^":
                operator = True
            operator = operator or bool(alone_here)
            if strong or char in "!#$%&()*-/@[]":
                between[before] += char
        if places:
            last = between.pop()
            between[-1] += "\0" + last if last else ""
            signs += between if operator else [""] * len(places)
    return signs
