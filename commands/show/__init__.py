"""All that a terminal shows; the only part that imports rich.

documents.py    a document, a block, what a filter would change
stats.py        the stored statistics as tables
mixture.py      the mixture among them
plan.py         a plan as tables

In: results of the parts, as typed values or stored statistics. Out: lines and tables, in which no text of a document or
name of a file steers the terminal.
"""
