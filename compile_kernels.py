"""Compile every Numba kernel into this machine's cache, so that no run and no worker pays for it.

`make install` runs it; it is also what to run in a container image. Takes half a minute where nothing is cached.
"""

from __future__ import annotations


def main() -> None:
    import numpy as np
    import pyarrow as pa

    from .pipeline.dedupe import decide, near
    from .pipeline.signals import counts, hashing, minhash, scan, unicode
    from .tokenize import pack

    text = pa.array(["Two words, and é more.", "", "the same the same the same"] * 3, pa.large_string())
    data, offsets = scan.text_buffers(text)
    counts.count_batch(data, offsets)
    unicode.flag_not_nfc(data, offsets, unicode.tables()[0])
    signed = minhash.sign_batch(data, offsets, minhash.MinHashSettings())
    hashing.mix_array(np.arange(3, dtype=np.uint64), 1)
    near._pairs(np.array([0]), np.array([2]), 4)
    sketches = np.zeros((1, 128), np.uint32)
    near._compare(
        sketches, np.array([1], np.uint32), np.array([0]), np.array([1]), signed.sketch, signed.sketch_offsets, 128
    )
    decide._first_independent_set(np.array([0]), np.array([1]), 2)
    lengths = np.array([5, 9, 2], np.int64)
    for packing in ("best_fit", "concatenate"):
        packed = pack.pack(lengths, 8, 4, packing, last=True)
    stream = pack.streams(np.arange(10, dtype=np.int32), np.array([0, 3, 10, 10]), lengths, 2, 1)
    s = packed.segments
    pack.fill(s.document, s.start, s.length, s.block, packed.n_blocks, 8, stream, np.r_[0, np.cumsum(lengths)], 0)


if __name__ == "__main__":
    main()
