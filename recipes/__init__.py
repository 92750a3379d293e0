"""Recipes: what a run is made of, as YAML that people read.

load.py       `extends`, `${VAR}` and `--set`, then the schema; an error is one line that names the key; resolve.py: the result
schema.py     every key, its type and its meaning; json_schema.py: the same for editors; units.py: `1.05T` tokens, `0.5%`
presets.py    published practice of near-dedupe
check.py      `fox1 recipe check`: sources, plug-ins, and whether the budgets could be met
thresholds.py which threshold of the filters counts for which documents
plan.py       `fox1 plan`: from a recipe or a run to hours, bytes and machines
tuned.py      a recipe with the weights that `fox1 tune` found
travel.py     a recipe that leaves this machine, with the small files it names

In: YAML of a user or of the package. Out: the frozen settings of the parts. What a recipe says is checked here, before any
text is read.
"""
