"""Dedupe across corpora: verified, explained, and without reading text.

    exact.py    rows with one content hash form a class; its best-ordered member goes on
    near.py     band buckets -> candidate pairs -> verified by sketches -> edges
    decide.py   the lexicographically first independent set of the verified graph -> `decisions/`

A document is dropped only when a kept document is its verified duplicate. The order of documents is total: held-out
first, corpus priority of the recipe, clean before contaminated, quality, length, id. Everything moves through the file
shuffle in fixed-width records; tasks handle chunks of file groups (by document) or hash ranges (by content).
"""
