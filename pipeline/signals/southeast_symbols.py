"""Tokens of symbols in documents of Thai, Lao, Khmer or Burmese, as segmenters of these languages take them.

What stands side by side without a space or a letter of these scripts between is one token: `---`, or `(COVID-19),`, which is the
word alone. A full stop right after a letter abbreviates and is part of that word, since sentences there end without one.
Only such documents are walked over once more for it; what all others are counted by (segment.py) pays nothing.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np

from .characters import NO_TOKEN, SYMBOL_TOKEN, WORD_TOKEN
from .continuations import ATTACHED, HIDDEN, INSIDE, SPELLED, continuation
from .leaf import leaf
from .southeast import is_southeast
from .unicode import ALONE, INVISIBLE, SPACE, WORD, class_of, decode

_NO_RUN, _RUN, _RUN_WITH_WORD = range(3)
"""Whether symbols, or symbols and words between spaces after them, stand side by side up to here."""


@leaf
def count_symbols(text: np.ndarray, begin: int, end: int, classes: np.ndarray, continues: np.ndarray) -> np.int64:
    """Tokens of symbols of a document, less the words that symbols join to the word before them; perhaps below 0."""
    tokens = np.int64(0)
    run, token, alpha_token = _NO_RUN, NO_TOKEN, False
    word_end = np.int64(-1)  # of the last word, if that is a letter of southeast Asia
    i = begin
    while i < end:
        cp, after = decode(text, i)
        flags = class_of(classes, cp)
        if flags & WORD:
            goes_on = np.int64(INSIDE)
            weighed = False
            if flags & ALONE:
                goes_on = np.int64(ATTACHED)
                weighed = is_southeast(cp)
                token = NO_TOKEN
            alpha = False
            kind = continuation(continues, cp)
            going = True
            while going:
                alpha |= (kind & SPELLED) != 0 and (kind & HIDDEN) == 0
                i = after
                if i >= end:
                    break
                cp, after = decode(text, i)
                kind = continuation(continues, cp)
                going = (kind & goes_on) != 0
            if weighed:
                run = _NO_RUN
            elif run == _RUN:
                tokens -= 1
                run = _RUN_WITH_WORD
            if token == SYMBOL_TOKEN and not (alpha and alpha_token):
                tokens -= 1
                alpha |= alpha_token
            alpha_token = alpha
            token = WORD_TOKEN
            word_end = i if weighed else np.int64(-1)
            continue
        if flags & SPACE:
            run = _NO_RUN
            token = NO_TOKEN
        elif (flags & INVISIBLE) == 0:
            abbreviates = cp == 46 and i == word_end and run == _NO_RUN
            if run == _NO_RUN and not abbreviates:
                tokens += 1
                run = _RUN
            token = SYMBOL_TOKEN if token == WORD_TOKEN else NO_TOKEN
        i = after
    return tokens
