"""Tokenize, the second read of the text: survivors, edits applied, as token shards.

stage.py     plans a task per group of files, or per file that is only read from its start; returns the shards with their counts
shards.py    a task: from survivors to `tokens/<corpus>/<subset>/<group>.arrow`
given.py     a task: the same from documents that come as token ids, which no stage before knows

In: `decisions/`, `signals/` for the edits, source files, the tokenizer. Out: shards of token ids in document order, and the
counts of documents, bytes and tokens by subset.
"""
