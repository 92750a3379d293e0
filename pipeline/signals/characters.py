"""The characters that segmentation counts, and what it remembers of a document from one stretch of its text to the next."""

from __future__ import annotations

CHARACTER_COUNTS = (
    "n_bytes",
    "n_chars",
    "n_words",
    "n_alpha_words",
    "n_tokens",
    "n_split_words",
    "n_alpha_split_words",
    "n_word_chars",
    "n_letters",
    "n_digits",
    "n_spaces",
    "n_line_ends",
    "n_raw_lines",
    "n_lines",
    "n_paragraphs",
    "max_line_chars",
    "max_word_chars",
    "n_hashes",
    "n_ellipses",
    "n_curly_braces",
    "n_math_symbols",
    "latex_chars",
)
"""Columns of `Segments.counts` (segment.py), all int64.

n_words: words with spaces between them, and what the units of unspaced scripts make; n_alpha_words: those with a letter;
n_tokens: words and visible symbols, where one symbol right between two words, the second of a spaced script, is none
(`d'eau`), and they are one token if not both have a letter (`1,000`, `covid-19`); in documents in a script of southeast Asia,
symbols side by side are one token, or none with a word or number after them (`(19)`: southeast_symbols.py). n_split_words,
n_alpha_split_words: what `str.split` finds, symbols by themselves included and invisible characters by themselves not, and
what of it has a letter; n_raw_lines: lines of `str.splitlines`, empty ones included; max_line_chars: of raw lines; n_hashes:
`#`; n_ellipses: `...` (not overlapping) and U+2026; n_curly_braces: `{` and `}`; n_math_symbols: Unicode category Sm beyond
ASCII; latex_chars: characters of `\\name` commands, and dollar signs.
"""

(
    BYTES,
    CHARS,
    WORDS,
    ALPHA_WORDS,
    TOKENS,
    SPLIT_WORDS,
    ALPHA_SPLIT_WORDS,
    WORD_CHARS,
    LETTERS,
    DIGITS,
    SPACES,
    LINE_ENDS,
    RAW_LINES,
    LINES,
    PARAGRAPHS,
    MAX_LINE,
    MAX_WORD,
    HASHES,
    ELLIPSES,
    CURLY,
    MATH_SYMBOLS,
    LATEX,
) = range(len(CHARACTER_COUNTS))

(
    UNITS,
    ALPHA_UNITS,
    UNSPACED,
    SOUTHEAST,
    KHMER,
    BURMESE,
    THOUSANDTHS,
    IN_SPLIT,
    LETTERED,
    TOKEN,
    ALPHA_TOKEN,
    DOTS,
    LINE_CHAR,
    SPLIT_BEFORE,
    FIRST_BYTE,
    FIRST_CHAR,
    LAST_BYTE,
    LAST_CHAR,
    FIRST_WORD,
    EMPTY_BEFORE,
    OPERATORS,
    WORD_AT,
    LINE_AT,
    LAST_WORD,
    LAST_LINE,
) = range(len(CHARACTER_COUNTS), len(CHARACTER_COUNTS) + 25)
"""Places after the counts in the state of a document, int64 [STATE_SIZE].

UNITS, ALPHA_UNITS: units, and those with a letter; UNSPACED, SOUTHEAST: letters of unspaced scripts, and of those of southeast
Asia; KHMER, BURMESE: of these two of them; THOUSANDTHS: of a word, that the letters of southeast Asia make. IN_SPLIT, LETTERED:
within what `str.split` finds, and it has a letter. TOKEN: what a token may go on from, and ALPHA_TOKEN: it has a letter. DOTS:
full stops in a row. Of the line: LINE_CHAR: characters before it; SPLIT_BEFORE: split words before it; FIRST_BYTE (-1 while it
is empty) to LAST_CHAR: where it begins and ends; FIRST_WORD: its first word; EMPTY_BEFORE: an empty line or none is before it;
OPERATORS: it has one. WORD_AT, LINE_AT: the next word and line; LAST_WORD, LAST_LINE: where the room for those of the document
ends.
"""
STATE_SIZE = LAST_LINE + 1

NO_TOKEN, WORD_TOKEN, SYMBOL_TOKEN = range(3)
"""What a token may go on from: nothing, a word between spaces, or that and one symbol."""

LINE_START, LINE_END, LINE_CHARS, LINE_WORD, LINE_OPENS, LINE_SPLIT_WORDS = range(6)
"""Columns of the table of lines that kernels fill, int64 [lines, 6]: those of `Segments`. One array, since
Numba counts the uses of each that is handed on."""
