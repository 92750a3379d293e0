"""Runs the tasks of a stage, and none that is finished.

tasks.py      which tasks are due; running them, in this process or by an executor
keys.py       a task's key, derived from the artifacts and settings it is given
finished.py   whether a task is finished: its record, and its outputs as they lie there
origin.py     another run, which finished tasks are taken from
records.py    completion records, and the logs of a run's times
on_ray.py     the executor on a Ray cluster or a session of this machine; the only file of curation that imports Ray
shuffle.py    how rows move between tasks: records of fixed width, sorted or not
rows.py       rows of any length for the same
shuffle_file.py  the files of a shuffle, written in bounded memory
two_level.py  shuffles of thousands of tasks: merged files between map tasks and reducers
memory.py     how much a process took at most, and how it keeps what it freed

In: functions with their artifacts and settings. Out: published artifacts, each with a completion record that holds the key
of its task. A task whose record has its key, and whose files are in place, is not run again. The bytes do not depend on
the executor, the number of workers, or retries.
"""
