"""Prepare: what has to exist before the first read, each an artifact of the run with its hash.

    tokenizer.model, piece_bytes.npy        loaded, or trained on a bounded sample; bytes of every piece
    quality.arrow                           a linear model per domain (signals/quality.py)
    contamination.arrow, -passages, -pairs  n-grams of the benchmarks' items
    benchmarks.parquet                      the items, and which of them no n-gram covers
    urls.arrow                              the block lists of the recipe, as one
    exclude.parquet                         what the exclude lists name
    score-NAME.arrow                        a fastText classifier, as workers map it

Scan's key holds the hashes of those it reads, so a changed list or benchmark repeats the scan and nothing else does.
"""
