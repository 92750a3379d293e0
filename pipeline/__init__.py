"""From source files to phase sets: seven stages as pure functions of files and settings.

curate.py    the stages in order, as plain calls
prepare/     tokenizer, quality models, benchmark n-grams, lists          -> prepare/
signals/     read 1 of the text: one row of facts per document            -> signals/
filter/      thresholds over these rows                                   -> filtered/
carve/       documents set apart to measure on, if a recipe asks for any
dedupe/      duplicates among what is kept                                -> decisions/
tokens/      read 2 of the text: the survivors' tokens                    -> tokens/
mix/         budgets to packed, shuffled blocks                           -> phases/, held_out/, index/
stats/       what every stage counted                                     -> stats/, report.html

sources/     reading the corpora                     text/        edits, survivors, excerpts
run/         artifacts and identity of a run         engine/      tasks, here or on Ray; shuffles
inspect/     why, trace, find, dump, what-if         capacity/    rates and plans
sample/      the sample corpora

The folder of a stage has a stage.py, which plans tasks and returns a frozen, named result for the next stage. Nothing here
knows argv or a terminal, and only engine/on_ray.py knows Ray.
"""
