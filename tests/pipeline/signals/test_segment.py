"""Plain text is segmented 64 bytes at a time, other text and ends of documents character by character: both find the same."""

import random

import numpy as np
import pytest
from fox1.pipeline.signals import characters
from fox1.tokenize.vectors import LANES

from tests.pipeline.signals.texts import segments

PIECES = [
    *("word", "a", "12", "x_y", "Of", "_", "don't", "1,000", "covid-19", "a.b.1", "I/O", "seventy-seven", "x" * 40),
    *(
        " ",
        " ",
        " ",
        "  ",
        "\t",
        ".",
        "...",
        "..",
        "-",
        "'",
        "!",
        " * ",
        " = ",
        "a*b",
        "!ok",
        "> ",
        "#",
        "{",
        "}",
        "$",
        "\\alpha",
    ),
]
SUMS = [
    getattr(characters, name)
    for name in (
        *(
            "BYTES",
            "CHARS",
            "WORDS",
            "ALPHA_WORDS",
            "TOKENS",
            "SPLIT_WORDS",
            "ALPHA_SPLIT_WORDS",
            "WORD_CHARS",
            "LETTERS",
        ),
        *("DIGITS", "SPACES", "LINES", "HASHES", "ELLIPSES", "CURLY", "LATEX"),
    )
]


def short_lines(seed: int, others: tuple[str, ...] = ()) -> list[str]:
    """Lines that are too short for a block of 64 bytes."""
    pick = random.Random(seed)
    lines = []
    for _ in range(60):
        line = "".join(pick.choices([*PIECES, *others], k=pick.randrange(14))).strip()
        while len(line.encode()) >= LANES:
            line = line[:-1].strip()
        lines.append(line)
    return lines


@pytest.mark.parametrize("others", [(), ("é", "“", "”", "中", "—", "\u00ad")], ids=["plain", "mixed"])
def test_a_line_is_segmented_alike_in_a_document_and_by_itself(others: tuple[str, ...]) -> None:
    for seed in range(40):
        lines = short_lines(seed, others)
        whole, alone = segments(["\n".join(lines)]), segments(lines)
        for column in ("word_hash", "word_chars", "word_signs", "line_chars", "line_split_words"):
            assert getattr(whole, column).tolist() == getattr(alone, column).tolist(), (seed, column)
        # A document's first byte is one later for every line end before it.
        late = np.repeat(np.arange(len(lines)), np.diff(alone.word_offsets))
        assert (whole.word_start == alone.word_start + late).all() and (whole.word_end == alone.word_end + late).all()
        expected = alone.counts.sum(axis=0)
        expected[[characters.BYTES, characters.CHARS, characters.SPACES]] += len(lines) - 1
        if not others:  # of unspaced scripts, words are counted by documents
            assert whole.counts[0, SUMS].tolist() == expected[SUMS].tolist(), seed
        assert whole.counts[0, characters.RAW_LINES] == len(lines) - (not lines[-1])
        for longest in (characters.MAX_LINE, characters.MAX_WORD):
            assert whole.counts[0, longest] == alone.counts[:, longest].max()
