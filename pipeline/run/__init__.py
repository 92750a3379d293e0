"""A run's folder: who its documents are, and the files that describe them.

identity.py      document ids, source files and their groups
artifacts.py     how files are published
paths.py         where everything lies
schemas.py       what files hold: schemas, sizes of row groups, names of stages and folders
file_sets.py     files that a task reads together
manifest.py      the file table, and lists of all artifacts, that readers open where they need them
published.py     artifacts as columns: what a driver holds, and what a list is
records.py       completion records as files: single ones, and parts of some thousand
spread.py        how work over a run's files is spread over workers
checksums.py     `fox1 verify`: do the files match the manifest?
garbage.py       `fox1 gc`: files that the run no longer uses
documents.py     documents by id: name, source file, stored token ids
parquet_rows.py  single rows of the run's Parquet files
"""
