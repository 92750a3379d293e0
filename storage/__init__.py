"""Runs and checkpoints in folders and object stores; knows no other part.

store.py      a store as a local mirror: what is opened is fetched, what is published is uploaded whole
copying.py    a second name for a file, or a copy that a store makes
lease.py      one writer of a run, or of a folder of checkpoints, at a time; whose a folder is
inside.py     paths that stay in their folder: neither names (names.py) nor links lead out of it
scratch.py    where mirrors lie; private.py: folders that nobody else can write
disk.py       errors of a disk that refuses to be written
reading.py    files of ours, read within limits and checked; JSON as the dataclass that it must be
web.py        where HTTP may lead: an address is judged when it is connected to
wording.py    an error as one line; text that cannot steer a terminal
fields.py     marks on fields of settings: units, bounds and choices of what a recipe may write

In: a path or a URL. Out: local paths to read and write. A file is there whole or not at all, and two attempts at one file
may both win, since they write equal bytes.
"""
