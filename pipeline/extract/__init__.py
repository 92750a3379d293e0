"""Extract: the steps of `before_scan`, between reader and scan, which make the texts that a run stores and all else reads.

stage.py      plans a task per source file, or per piece of a large one; returns the files with their stored texts
extract.py    a task: rows in, `extracted/<corpus>/<file>.parquet` out, with what each step dropped and changed
steps.py      gives the documents of a file to one step after the other, in batches, and counts
calls.py      how the kinds of steps are made and called, and what is none
settings.py   what a step is in a recipe

In: source files whose corpus a step serves. Out: one row for each row that could be read, in its order, with the text, the
step that dropped it, and the hash of the raw text that binds it to its file.
"""
