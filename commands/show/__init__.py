"""All that a terminal shows; the only part that imports rich.

terminal.py     the console and the tables that all of these share
bars.py         a bar per stage while a run is made
runs.py         summaries of a run, what a filter would change, jobs
documents.py    a document and what happened to it; a block
diff.py         what is different between two runs
stats.py        the stored statistics as tables; mixture.py: the mixture among them
plan.py         a plan as tables
scores.py       the results of `fox1 eval` beside the published ones

In: results of the parts, as typed values or stored statistics. Out: lines and tables, in which no text of a document or
name of a file steers the terminal.
"""
