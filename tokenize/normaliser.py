"""The normaliser of a SentencePiece model, as steps of a `tokenizer.json` (the format of Hugging Face's `tokenizers`).

A model keeps its rules as a compiled map: a trie of texts, each with what it becomes; the longest text that fits is replaced.
`tokenizers` can load the map itself, but applies it to one grapheme at a time and takes the shortest text that fits, so
that a letter with two marks, half-width kana with their marks, or a line end of two characters come out wrong. The maps that
SentencePiece brings along are a Unicode form with some texts apart: they are written as replacements of these and that form,
and so are maps of few rules. Only what is neither is left to the map itself.
"""

from __future__ import annotations

import base64
import unicodedata
from collections.abc import Callable
from typing import Any

import numpy as np

SPACE = "\u2581"
"""What stands for a space in pieces."""
Step = dict[str, Any]
MOST_STEPS = 1500
"""Replacements that a text goes through one after the other."""
_CHARACTERS = [chr(code) for code in (*range(1, 0xD800), *range(0xE000, 0x110000))]
_HELD = [chr(code) for code in (*range(0xFDD0, 0xFDF0), *range(0x10FD00, 0x10FFFE))]
"""What stands in for texts that the Unicode form must not touch: noncharacters, then the last characters of private use."""
_FORMS: dict[tuple[str, ...], Callable[[str], str]] = {
    (): str,
    ("NFC",): lambda text: unicodedata.normalize("NFC", text),
    ("NFKC",): lambda text: unicodedata.normalize("NFKC", text),
    ("NFC", "Lowercase"): lambda text: _lower(unicodedata.normalize("NFC", text)),
    ("NFKC", "Lowercase"): lambda text: _lower(unicodedata.normalize("NFKC", text)),
}
"""Steps of `tokenizers` -> what they do."""


def _lower(text: str) -> str:
    """Lower case, each character by itself."""
    return "".join(character.lower() for character in text)


def replace(pattern: str, content: str, regex: bool = False) -> Step:
    """A step that replaces a text, or what a regular expression (Oniguruma) matches."""
    return {"type": "Replace", "pattern": {"Regex" if regex else "String": pattern}, "content": content}


def read_charsmap(blob: bytes) -> dict[str, str]:
    """The rules of a compiled map that `model_file.parse_model` has accepted: text -> what it becomes."""
    if not blob:
        return {}
    size = int.from_bytes(blob[:4], "little")
    units = np.frombuffer(blob, "<u4", size // 4, 4)
    texts = blob[4 + size :]

    # Layout of darts-clone; see `model_file._check_charsmap`. A child lies at its parent's base, xor-ed with its label.
    base = np.arange(len(units), dtype=np.uint32) ^ ((units >> 10) << ((units & 0x200) >> 6))
    label = units & 0x800000FF
    children = np.flatnonzero((label > 0) & (label < 256))
    parents = children.astype(np.uint32) ^ label[children]
    order = np.argsort(parents, kind="stable")
    children, parents = children[order], parents[order]
    rules: dict[str, str] = {}
    nodes, keys = np.zeros(1, np.int64), [b""]
    while len(nodes):
        for at in np.flatnonzero(units[nodes] >> 8 & 1).tolist():
            begin = int(units[base[nodes[at]]]) & 0x7FFFFFFF
            rules[keys[at].decode(errors="replace")] = texts[begin : texts.index(b"\0", begin)].decode(errors="replace")
        begins, ends = (np.searchsorted(parents, base[nodes], side) for side in ("left", "right"))
        counts = ends - begins
        owners = np.repeat(np.arange(len(nodes)), counts)
        found = children[np.arange(len(owners)) + np.repeat(begins - (np.cumsum(counts) - counts), counts)]
        keys = [
            keys[owner] + bytes((letter,)) for owner, letter in zip(owners.tolist(), label[found].tolist(), strict=True)
        ]
        nodes = found
    return rules


def _as_form(rules: dict[str, str]) -> list[Step] | None:
    """The rules as replacements and a Unicode form; None where they are something else."""
    best: list[Step] | None = None
    single = {text: to for text, to in rules.items() if len(text) == 1}
    longer = {text: to for text, to in rules.items() if len(text) > 1}
    some = list(rules.items())[:: max(1, len(rules) // 500)]
    for names, form in _FORMS.items():
        if len(rules) > MOST_STEPS and sum(form(text) != to for text, to in some) > len(some) // 4:
            continue
        others = {c: to for c, to in single.items() if to != form(c)}
        others |= {c: c for c in _CHARACTERS if c not in single and form(c) != c}
        # What the form would change is put in its place afterwards.
        held = [(c, to) for c, to in others.items() if form(to) != to]
        apart: dict[str, list[str]] = {}
        for character, to in others.items():
            if form(to) == to:
                apart.setdefault(to, []).append(character)
        single_steps = len(apart) + 2 * len(held) + len(names)
        if len(held) > len(_HELD) or single_steps > MOST_STEPS:
            continue
        rest = {
            text: to
            for text, to in longer.items()
            if form("".join(others.get(c, c) for c in text)) != to and form(to) == to
        }
        if single_steps + len(rest) > MOST_STEPS or (best is not None and single_steps + len(rest) >= len(best)):
            continue
        stands = [(character, stand, to) for (character, to), stand in zip(held, _HELD, strict=False)]
        best = [
            *(replace(text, rest[text]) for text in sorted(rest, key=lambda t: (-len(t), t))),
            *(replace(character, stand) for character, stand, _ in stands),
            *(replace(_one_of(characters), to, regex=True) for to, characters in apart.items()),
            *({"type": name} for name in names),
            *(replace(stand, to) for _, stand, to in stands),
        ]
    return best


def _one_of(characters: list[str]) -> str:
    """A regular expression of one of some characters."""
    return "[" + "".join(f"\\x{{{ord(c):X}}}" for c in characters) + "]"


def charsmap_steps(blob: bytes) -> list[Step]:
    """Steps that do what a compiled map does."""
    rules = read_charsmap(blob)
    if not rules:
        return []
    if (steps := _as_form(rules)) is not None:
        return steps
    return [{"type": "Precompiled", "precompiled_charsmap": base64.b64encode(blob).decode()}]


def normaliser_steps(spec: Any, suffix: bool) -> list[Step]:
    """Everything that a model does to a text before it looks for pieces.

    Args:
        spec: the model's `NormalizerSpec`.
        suffix: whether the model puts the space that it adds at the end (`treat_whitespace_as_suffix`).
    """
    space = SPACE if spec.escape_whitespaces else " "
    steps = charsmap_steps(spec.precompiled_charsmap)
    if spec.add_dummy_prefix and not suffix and not spec.remove_extra_whitespaces:
        # Before anything is deleted: a text of which nothing is left has its space nevertheless.
        steps.insert(0, {"type": "Prepend", "prepend": " "})
    if spec.remove_extra_whitespaces:
        steps += [
            replace(" {2,}", " ", regex=True),
            replace(r"\A +", "", regex=True),
            replace(f"[ {space}]+\\z", "", regex=True),
        ]
    if spec.escape_whitespaces:
        steps.append(replace(" ", SPACE))
    if spec.add_dummy_prefix and suffix:
        steps.append(replace(r"(?<=(?m:.))\z", space, regex=True))
    elif spec.add_dummy_prefix and spec.remove_extra_whitespaces:
        steps.append({"type": "Prepend", "prepend": space})
    return steps
