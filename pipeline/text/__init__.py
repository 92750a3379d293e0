"""The text of documents: the edits made to it, the second read of it, and excerpts of it for people.

edits.py      spans that are cut or replaced, and the one function that applies them
binding.py    the check that a text is still the one that was scanned
survivors.py  kept documents with their edits applied, batch by batch
excerpts.py   the text of a single document
"""
