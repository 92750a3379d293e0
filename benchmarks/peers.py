"""datatrove as the benchmarks run it: its own defaults, and its fastest setting."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xxhash


def whitespace_words() -> Any:
    """A datatrove tokenizer of words between white space and nothing more: the fastest words it can be given."""
    from datatrove.utils.word_tokenizers import WhitespaceTokenizer

    class Whitespace(WhitespaceTokenizer):
        def word_tokenize(self, text: str) -> list[str]:
            return text.split()

    return Whitespace()


def signature_step(folder: Path, words: Any, config: Any) -> Any:
    """datatrove's first MinHash stage."""
    from datatrove.pipeline.dedup.minhash import MinhashDedupSignature

    step = MinhashDedupSignature(str(folder), config, language=words)
    # Its hash function hands a str to xxhash, which newer releases refuse: the same hash of the same bytes.
    step._hash_func = lambda gram: xxhash.xxh64_intdigest(gram.encode())
    return step


def minhash_dedup(sources: Path, folder: Path, files: int, words: Any) -> Iterator[tuple[Any, int]]:
    """Run datatrove's four MinHash stages over JSON lines files, one core; (document, file) of all it keeps."""
    from datatrove.pipeline.dedup.minhash import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
    )
    from datatrove.pipeline.readers import JsonlReader

    config = MinhashConfig()
    reader = JsonlReader(str(sources))
    signatures = signature_step(folder / "signatures", words, config)
    for rank in range(files):
        signatures.run(reader.run(rank=rank, world_size=files), rank, files)
    buckets = MinhashDedupBuckets(
        str(folder / "signatures"), str(folder / "buckets"), config=config, only_dedup_in_index=False
    )
    for rank in range(config.num_buckets):
        buckets.run(None, rank, config.num_buckets)
    MinhashDedupCluster(str(folder / "buckets"), str(folder / "remove"), config).run(None, 0, 1)
    last = MinhashDedupFilter(str(folder / "remove"))
    for rank in range(files):
        for document in last.run(reader.run(rank=rank, world_size=files), rank, files):
            yield document, rank
