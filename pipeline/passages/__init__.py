"""Passages: what stands a second time in documents that dedupe keeps is cut, as edits decided in one more shuffle.

    settings.py   what a recipe may ask for
    hashing.py    words as pairs of residues, and the hash of any run of them
    units.py      lines, paragraphs, spans of sentences, and runs of words, of a batch of documents
    find.py       map: the passages of kept documents; reduce: which of equal ones stays, and what is cut for it
    cut.py        `cuts/`, the edits of every document; `decisions/`, without what is too short now
    layout.py     how many tasks and partitions they make
    stage.py      the steps in order

In: documents that dedupe keeps, with their edits applied. Out: `cuts/` beside `signals/`, whose `edits` take the place of
scan's, and names for each cut passage the document that keeps it; and `decisions/`. Of equal passages the first one in the
order of documents (`dedupe/order.py`), and within a document the first one, stays; held-out documents, and those that are set
apart, come first and lose nothing. So every word that is cut stands, with the same words around it, at an earlier place, and
the first place of any word is never cut: nothing is lost, whatever kinds of passages are looked for.
"""

VERSION = 2
