"""A run's folder: who its documents are, and the files that describe them.

identity.py      document ids, source files and their groups
artifacts.py     where everything lies, and how files are published
checksums.py     `fox1 verify`: do the files match the manifest?
garbage.py       `fox1 gc`: files that the run no longer uses
documents.py     documents by id: name, source file, stored token ids
parquet_rows.py  single rows of the run's Parquet files
"""
