"""The command line: one line from argv to a call of a part.

app.py                which commands there are; errors as one line, tracebacks only with `--debug`
curation.py           sample, curate, plan, dump, verify, gc
inspection.py         stats, report, filter, why, trace, find
training.py           train, curves, export, import, generate, eval
recipes.py            recipe check, show and schema; tokenizer train and inspect
tune.py               tune, tune show, tune apply
cluster.py            submit, jobs; remote.py: the submitted command, parsed before anything is sent
doctor.py             is this machine ready?
interrupt.py          signals: one line, a status each, and nothing left behind
options.py            arguments that several commands share; complete.py: what the shell completes
compile_kernels.py    run while installing: compiles every Numba kernel
show/                 all that a terminal shows

In: words of a command line. Out: text on a terminal, JSON with `--json`, and an exit status. Nothing is computed here, and
heavy imports happen inside the commands, so that `--help` answers at once.
"""
