"""Tune: which weights of a run's pools give the lowest held-out loss, by small trainings on mixtures of them.

In: a finished run. Out: weights, how far they can be trusted, and a verdict in one line: adopt, keep the recipe, take natural.

    settings.py   what a recipe says of it, under `tune`
    tune.py       the steps in order: pools, design, proxies, fit, choose, validate, order
    pools.py      the run's pools, packed once, and the documents that are measured on and never trained on
    tiers.py      pools by quality
    items.py      the right options of benchmark items, as token sequences
    design.py     which mixtures are tried
    proxy.py      one training on one mixture, as a task: ngram.py counts, model.py trains the project's own network
    fit.py        from mixtures and their losses to a prediction; regressors.py has the kinds of it
    choose.py     the mixture with the lowest prediction that caps, floors and promises allow
    verdict.py    whether it is better, by trainings with ten times the tokens, on other documents
    order.py      how the phases should have it; placement.py has the mathematics
    mixmin.py     the convex baseline: one n-gram model a pool
    stored.py     what a folder of a tuning holds, for those that show or apply it

The mathematics (design, fit, choose, verdict, placement, mixmin) are pure functions over arrays. A mixture is never written as
data: a training takes its units from the packed pools (`trainer/data/mixture.py`).
"""

VERSION = 1
