"""Dedupe across corpora: verified, explained, and without reading text.

    order.py     the total order of documents, who may stand for whom, and the records between tasks
    exact.py     rows of one content hash (or one URL) form a class; its best-ordered member stays in
    buckets.py   documents with an equal band, in rounds -> candidate pairs
    verify.py    candidate pairs, joined with sketches -> verified edges
    decide.py    the lexicographically first independent set of the verified graph
    result.py    `decisions/`, clusters and the overlap of subsets
    guard.py     limits on what a subset may lose       against.py   a finished run that new corpora are compared with
    stage.py     the steps in order                 steps.py     how they are run, and how rows go from one to the next

A document is dropped only when a kept document is its verified duplicate. Everything moves through the file shuffle in
fixed-width records; tasks handle chunks of file groups (by document) or hash ranges (by content and band).
"""

VERSION = 7
