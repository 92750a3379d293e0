"""A document's text, as every stage after scan sees it.

edits.py        spans that are cut or replaced, and the one function that applies them
survivors.py    the second read: documents that the decisions keep, edited, their content hash checked
excerpts.py     the text of a few documents, for people to read

In: source files, `signals/` and `decisions/`. Out: raw or edited text, and how byte positions in one map to the other.
"""
