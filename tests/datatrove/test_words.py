"""Words between white space are those of `str.split`, whatever stands at the eight bytes that a kernel looks at together."""

from __future__ import annotations

import random

import numpy as np
from fox1.datatrove.kernels.batch import Texts, words_of
from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords

EVERY = [*map(chr, range(0x86)), *"\xa0é北\u2003\u3000😀"]
USUAL = [*"abc  \n\t."]


def test_words_between_white_space_are_those_of_str_split() -> None:
    chosen = random.Random(3)
    for round_ in range(600):
        alphabet = USUAL if round_ % 2 else EVERY + 20 * USUAL if round_ % 3 else EVERY
        strings = ["".join(chosen.choices(alphabet, k=chosen.randrange(60))) for _ in range(chosen.randrange(6))]
        texts = Texts.of(strings)
        words = words_of(texts, WhiteSpaceWords(), np.ones(len(texts), np.bool_))
        data, bounds = texts.data.tobytes(), words.offsets.tolist()
        spans = list(zip(words.start.tolist(), words.end.tolist(), strict=True))
        found = [[data[a:b].decode() for a, b in spans[bounds[d] : bounds[d + 1]]] for d in range(len(texts))]
        assert found == [string.split() for string in strings]
