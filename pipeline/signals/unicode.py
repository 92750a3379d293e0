"""Character classes in one table, so that kernels treat letters, digits and spaces beyond ASCII correctly.

`CLASSES[cp]` holds bit flags of a code point; `FOLDED[cp]` its case-folded form (a word character) or 0. Both are made
from `unicodedata` once for a machine, in about a second. Kernels ask `class_of`, which knows the planes beyond too.
"""

from __future__ import annotations

import functools
import unicodedata

import numpy as np
from numba import njit

from .unpacked import Arrays, unpacked

LETTER, DIGIT, SPACE, WORD, ALONE, NOT_NFC, NEWLINE, MATH, STOP = 1, 2, 4, 8, 16, 32, 64, 128, 256
MARK, INVISIBLE, SIGN, OPERATOR = 512, 1024, 2048, 4096
"""Bits of a class. WORD: begins or continues a word. MARK: continues one, and begins none. INVISIBLE: passed over inside
a word, as if it were not there. ALONE: a letter of an unspaced script, which begins a word wherever it stands (digits of
these scripts make numbers, as others do). NOT_NFC: normalisation may change text that has it. NEWLINE: a line end of
`str.splitlines`. MATH: category Sm beyond ASCII. STOP: punctuation that ends a sentence, in any script. OPERATOR: tells a
line of code or a formula from prose: category Sm (such as + < = > | ~), and { } \\ ^. SIGN: what shingles see beside one:
operators and ! # $ % & ( ) * - / @ [ ]."""

TABLE_SIZE = 0x32000
"""Beyond the third plane there are no letters; what lies there counts as a word character that folds to itself."""
TAGS = (0xE0000, 0xE1000)
"""Tags and variation selectors, beyond the tables: all of them invisible."""

_INVISIBLE = (
    # Characters with the Unicode property Default_Ignorable_Code_Point (DerivedCoreProperties.txt), as (first, last): soft
    # hyphens, joiners, fillers, inherent vowels, direction marks, variation selectors, and places kept for more of them.
    (0x00AD, 0x00AD), (0x034F, 0x034F), (0x061C, 0x061C), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F),
    (0x200B, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F), (0x3164, 0x3164), (0xFE00, 0xFE0F), (0xFEFF, 0xFEFF),
    (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A),
)  # fmt: skip

_UNSPACED = (
    (0x0E00, 0x0EFF),  # Thai, Lao
    (0x1000, 0x109F),  # Myanmar
    (0x1780, 0x17FF),  # Khmer
    (0x3005, 0x3007),  # ideographic iteration mark and zero
    (0x3040, 0x30FF),  # Hiragana, Katakana
    (0x31F0, 0x31FF),  # small Katakana
    (0x3400, 0x4DBF),  # CJK extension A
    (0x4E00, 0x9FFF),  # CJK
    (0xA9E0, 0xA9FF),  # Myanmar, extended
    (0xAA60, 0xAA7F),  # Myanmar, extended
    (0xF900, 0xFAFF),  # CJK compatibility
    (0xFF66, 0xFF9F),  # Katakana of half width
    (0x1AFF0, 0x1B16F),  # Kana, extended
    (0x20000, 0x31FFF),  # CJK extensions B to I
)


_STOPS = (
    # Characters with the Unicode property Sentence_Terminal.
    "!.?։؝؞؟۔܀܁܂߹࠷࠹࠽࠾।॥၊။።፧፨᙮᜵᜶។៕៖៙៚᠃᠉᥄᥅᪨᪩᪪᪫᭚᭛᭞᭟᭽᭾᰻᰼᱾᱿‼‽⁇⁈⁉⸮⸼⹓⹔。꓿꘎꘏꛳꛷꡶꡷꣎꣏꤯꧈"
    "꧉꩝꩞꩟꫰꫱꯫﹒﹖﹗！．？｡"
    "𐩖𐩗𐽕𐽖𐽗𐽘𐽙𐾆𐾇𐾈𐾉𑁇𑁈𑂾𑂿𑃀𑃁𑅁𑅂𑅃𑇅𑇆𑇍𑇞𑇟𑈸𑈹𑈻𑈼𑊩𑑋𑑌𑗂𑗃𑗉𑗊𑗋𑗌𑗍𑗎"
    "𑗏𑗐𑗑𑗒𑗓𑗔𑗕𑗖𑗗𑙁𑙂𑜼𑜽𑜾𑥄𑥆𑩂𑩃𑪛𑪜𑱁𑱂𑻷𑻸𑽃𑽄𖩮𖩯𖫵𖬷𖬸𖭄𖺘𛲟𝪈"
)


@functools.cache
def tables() -> tuple[np.ndarray, np.ndarray]:
    """(classes uint16 [TABLE_SIZE], folded uint32 [TABLE_SIZE])."""
    made = unpacked(f"unicode-{unicodedata.unidata_version}", _tables, __file__)
    return made["classes"], made["folded"]


def _tables() -> Arrays:
    classes = np.zeros(TABLE_SIZE, np.uint16)
    folded = np.zeros(TABLE_SIZE, np.uint32)
    second = set()
    invisible = {cp for first, last in _INVISIBLE for cp in range(first, last + 1)}
    for cp in range(TABLE_SIZE):
        if 0xD800 <= cp < 0xE000:
            continue
        char = chr(cp)
        category = unicodedata.category(char)
        flags = INVISIBLE if cp in invisible else 0
        if category == "Cn":
            classes[cp] = flags
            continue
        if char.isspace():
            flags |= SPACE
        if len(f"a{char}b".splitlines()) > 1:
            flags |= NEWLINE
        if category == "Sm" and cp > 127:
            flags |= MATH
        if char in _STOPS:
            flags |= STOP
        if category[0] == "L" and not flags & INVISIBLE:
            flags |= LETTER
        if category == "Nd":
            flags |= DIGIT
        if flags & INVISIBLE:
            pass
        elif category[0] == "M":
            flags |= MARK
        elif char.isalnum() or char == "_":
            flags |= WORD
        elif category == "Sm" or char in "{}\\^":
            flags |= OPERATOR | SIGN
        elif char in "!#$%&()*-/@[]":
            flags |= SIGN
        if flags & (WORD | MARK):
            fold = unicodedata.normalize("NFC", char.casefold())
            folded[cp] = ord(fold[0]) if fold else cp
        decomposition = unicodedata.decomposition(char)
        if decomposition and decomposition[0] != "<":
            parts = decomposition.split()
            if len(parts) == 2:
                second.add(int(parts[1], 16))
        if unicodedata.combining(char) or not unicodedata.is_normalized("NFC", char):
            flags |= NOT_NFC
        classes[cp] = flags
    # A character that can combine with the one before it is "maybe" in NFC; Hangul vowels and finals as well.
    for cp in (*second, *range(0x1161, 0x1176), *range(0x11A8, 0x11C3)):
        classes[cp] |= NOT_NFC
    for first, last in _UNSPACED:
        block = classes[first : min(last + 1, TABLE_SIZE)]
        block[((block & WORD) != 0) & ((block & DIGIT) == 0)] |= ALONE
    return {"classes": classes, "folded": folded}


@njit(cache=True, nogil=True, inline="always")
def decode(text: np.ndarray, i: int) -> tuple[np.int64, int]:
    """(code point at byte i, byte after it). The text is valid UTF-8: the readers checked."""
    b = text[i]
    if b < 0x80:
        return np.int64(b), i + 1
    if b < 0xE0:
        return (np.int64(b & 0x1F) << 6) | np.int64(text[i + 1] & 0x3F), i + 2
    if b < 0xF0:
        return (
            (np.int64(b & 0x0F) << 12) | (np.int64(text[i + 1] & 0x3F) << 6) | np.int64(text[i + 2] & 0x3F),
            i + 3,
        )
    return (
        (np.int64(b & 0x07) << 18)
        | (np.int64(text[i + 1] & 0x3F) << 12)
        | (np.int64(text[i + 2] & 0x3F) << 6)
        | np.int64(text[i + 3] & 0x3F),
        i + 4,
    )


@njit(cache=True, nogil=True, inline="always")
def class_of(classes: np.ndarray, cp: int) -> np.uint16:
    """The class of any code point."""
    if cp < TABLE_SIZE:
        return classes[cp]
    return np.uint16(INVISIBLE) if TAGS[0] <= cp < TAGS[1] else np.uint16(WORD)


@njit(cache=True, nogil=True)
def flag_not_nfc(text: np.ndarray, offsets: np.ndarray, classes: np.ndarray) -> np.ndarray:
    """bool [n]: whether NFC may change a document. Blocks of low bytes are passed over by a vectorised loop."""
    n = len(offsets) - 1
    out = np.zeros(n, np.bool_)
    for d in range(n):
        i, end = offsets[d], offsets[d + 1]
        while i < end:
            # Below U+0300 (lead byte 0xCC) nothing combines and everything is composed.
            stop = min(i + 64, end)
            if stop == i + 64:
                high = np.uint8(0)
                part = text[i:stop]
                for k in range(len(part)):
                    high |= np.uint8(part[k] >= 0xCC)
                if not high:
                    i = stop
                    continue
            while i < stop:
                if text[i] < 0xCC:
                    i += 1
                    continue
                cp, i = decode(text, i)
                if cp < TABLE_SIZE and classes[cp] & NOT_NFC:
                    out[d] = True
                    break
            if out[d]:
                break
    return out
