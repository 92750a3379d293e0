"""Commands as jobs of a Ray cluster.

submit.py     `fox1 submit`: checks a command, sends it with all it needs, follows its log, ends with its exit status
package.py    the package's own files, as they travel with a job
entry.py      the first act of a job: compares versions, then becomes the command
client.py     the cluster's dashboard: address, token, and errors of one line
jobs.py       `fox1 jobs`: list, follow, stop

In: a fox1 command line. Out: a job that runs it with the client's code and recipe on the cluster's dependencies. This file
imports nothing: a job's entry must report a wrong version before anything else can fail.
"""
