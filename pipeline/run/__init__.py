"""A run on disk: what lies where, what it is called, and whether it is intact.

artifacts.py    paths, schemas, and the one way to publish a file
identity.py     ids of files and documents, which stay the same whatever else is in the run
verify.py       `fox1 verify`: every file against the manifest's checksum
garbage.py      `fox1 gc`: files that no stage names any more

In: the folder of a run, local or a mirror of a store. Out: paths, ids, and files that are there whole or not at all.
"""
