"""The hash of contents and texts, against the vectors that its authors publish, and each text hashed alone."""

from __future__ import annotations

import numpy as np
from fox1.pipeline.signals.blake3 import CHUNK, hash_texts
from hypothesis import given, settings
from hypothesis import strategies as st

VECTORS = {
    0: "af1349b9f5f9a1a6a0404dea36dcc949",
    1: "2d3adedff11b61f14c886e35afa03673",
    1023: "10108970eeda3eb932baac1428c7a216",
    1024: "42214739f095a406f3fc83deb889744a",
    1025: "d00278ae47eb27b34faecf67b4fe263f",
    2048: "e776b6028c7cd22a4d0ba182a8bf6220",
    2049: "5f4d72f40d7a5f82b15ca2b2e44b1de3",
    3072: "b98cb0ff3623be03326b373de6b90952",
    3073: "7124b49501012f81cc7f11ca069ec922",
    4097: "9b4052b38f1c5fc8b1f9ff7ac7b27cd2",
    6145: "f1323a8631446cc50536a9f705ee5cb6",
    7169: "a003fc7a51754a9b3c7fae0367ab3d78",
    8192: "aae792484c8efe4f19e2ca7d371d8c46",
    8193: "bab6c09cb8ce8cf459261398d2e7aef3",
    31744: "62b6960e1a44bcc1eb1a611a8d6235b6",
    102400: "bc3e3d41a1146b069abffad3c0d44860",
}
"""Length of an input, whose byte i is i mod 251 -> the first half of its hash (test_vectors.json of the BLAKE3 team)."""


def hashed(texts: list[bytes]) -> list[str]:
    offsets = np.cumsum([0, *map(len, texts)]).astype(np.int64)
    return [h.tobytes().hex() for h in hash_texts(np.frombuffer(b"".join(texts), np.uint8), offsets)]


def test_the_published_vectors_are_reproduced() -> None:
    assert hashed([bytes(i % 251 for i in range(n)) for n in VECTORS]) == list(VECTORS.values())


SIZES = (
    st.integers(0, 200)
    | st.integers(0, 12 * CHUNK)
    | st.sampled_from([k * CHUNK + d for k in range(9) for d in (0, 1)])
)


@settings(max_examples=60, deadline=None)
@given(sizes=st.lists(SIZES, max_size=80), seed=st.integers(0, 1 << 32))
def test_a_text_has_one_hash_whatever_is_hashed_beside_it(sizes: list[int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    texts = [rng.bytes(n) for n in sizes]
    alone = {text: hashed([text])[0] for text in texts}
    assert hashed(texts) == [alone[text] for text in texts] and len(set(alone.values())) == len(alone)
