"""Filter: thresholds over `signals/`; no text is read.

stage.py      plans a task per group of files, or for some small ones; returns what was kept and the funnel
judge.py      a task: for every document the first rule that failed, in recipe order, and all that failed
rules.py      how many documents failed which rules, added up in files
exclude.py    documents removed on request: lists of rows, URLs, hosts, native ids and content hashes
scores.py     scores of others beside the signals: files of any size joined by key; score_files.py: their rows
reasons.py    the signal and value behind a reason
causes.py     where in a text a failed rule counts what it counts

In: `signals/` and the recipe's sections of thresholds. Out: `scores/` where the recipe has any; `filtered/`, a row per document
with `reason` and `reasons`, and counts by reason that balance with the rows scanned.
"""
