"""Questions to a finished run; nothing here writes to it.

run.py           a run, opened by its manifest: from names to documents, their facts, ids and text
provenance.py    `fox1 why` and `fox1 trace`
lookup.py        `fox1 find`: from a URL, a native id or a content hash to documents
what_if.py       `fox1 filter --what-if`: the stored signals, judged by other thresholds
dump.py          `fox1 dump`: the curated documents as Parquet, in a folder of their own

In: a run and a question. Out: typed answers, for the commands and the Python API to show.
"""
