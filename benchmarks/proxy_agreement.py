"""Do n-gram models rank mixtures as networks do? Both kinds of proxy, trained on the same mixtures of a finished run.

    python -m benchmarks.proxy_agreement RUN --out DIR [--mixtures 24] [--tokens 2M] [--set tune.KEY=VALUE ...]

RUN is a finished run of real text with some ten million tokens. Pools, mixtures and what is measured are those of `fox1 tune`: the
recipe's, natural and equal weights, and candidates of its design; the first two are trained twice, which tells the noise. One
process, one thread; trainings that are finished in DIR are not repeated. The last line is JSON: `spearman` of the objective
(`macro`, the mean of domains, and `objective` where items are measured) and of every target, and the noise and spread of each kind
in bits per byte.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.recipes.load import stored_tuning_recipe
from fox1.recipes.settings import curate_settings
from fox1.recipes.units import quantity
from fox1.trainer.model.model import Fox1
from fox1.tune.design import design
from fox1.tune.fit import noise_of, spearman
from fox1.tune.pools import TunePaths, open_source_run, pack_pools
from fox1.tune.settings import Anchors, Kind
from fox1.tune.tune import Asked, measures, space_of, train_proxies

REPEATED = Anchors(recipe=2, natural=2, uniform=1, drop_one=0)
KINDS: tuple[Kind, ...] = ("ngram", "model")


def trained(run: Path, out: Path, mixtures: int, tokens: int, changes: list[str]) -> dict[str, Any]:
    """Train both kinds; losses by kind [n, T], what repeats belong to, and the facts of the trainings."""
    recipe, _ = stored_tuning_recipe(run / "recipe.yaml", changes)
    mix, benchmarks = curate_settings(recipe).mix, curate_settings(recipe).contamination.benchmarks
    settings = replace(recipe.tune, proxy=replace(recipe.tune.proxy, tokens=tokens))
    source = open_source_run(run)
    engine = Engine(TunePaths(out), InProcess())
    packed = pack_pools(engine, source, mix, settings)
    to_fit, _ = measures(engine, source, Asked(settings, mix, benchmarks), packed)
    # Two of the anchors are repeats.
    rows = design(space_of(packed, settings), REPEATED, mixtures + 2, settings.seed)
    losses: dict[str, np.ndarray] = {}
    seconds: dict[str, float] = {}
    for kind in KINDS:
        began = time.perf_counter()
        of_kind = replace(settings, proxy=replace(settings.proxy, kind=kind))
        found = train_proxies(engine, packed, rows, of_kind, to_fit, kind)
        losses[kind] = np.array([t.losses for t in found])
        seconds[kind] = time.perf_counter() - began
    names = {row: i for i, row in reversed([*enumerate(r.weights for r in rows)])}
    return {
        "losses": losses,
        "seconds": seconds,
        "mixtures": np.array([names[r.weights] for r in rows]),
        "targets": to_fit.sequences.targets,
        "domains": [t in dict(packed.domains) for t in to_fit.sequences.targets],
        "importance": to_fit.importance,
        "parameters": sum(p.numel() for p in Fox1(settings.proxy.model, source.vocabulary.size).parameters()),
    }


def agreement(found: dict[str, Any]) -> dict[str, Any]:
    """Rank correlations over distinct mixtures, and each kind's noise and spread."""
    which = found["mixtures"]
    distinct = np.unique(which)
    is_domain = np.array(found["domains"])
    views = {"macro": is_domain / is_domain.sum()}
    if not is_domain.all():
        views["objective"] = found["importance"]
    views |= {name: np.eye(len(is_domain))[t] for t, name in enumerate(found["targets"])}
    result: dict[str, Any] = {"mixtures": len(distinct), "spearman": {}, "noise": {}, "spread": {}}
    for name, weights in views.items():
        values = {kind: found["losses"][kind] @ weights for kind in KINDS}
        means = {kind: np.array([v[which == g].mean() for g in distinct]) for kind, v in values.items()}
        result["spearman"][name] = round(spearman(means["ngram"], means["model"]), 3)
        result["noise"][name] = {kind: round(noise_of(v, which), 4) for kind, v in values.items()}
        result["spread"][name] = {kind: round(float(v.std()), 4) for kind, v in means.items()}
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--mixtures", type=int, default=24)
    parser.add_argument("--tokens", type=quantity, default=2_000_000)
    parser.add_argument("--set", dest="changes", action="append", default=[], metavar="tune.KEY=VALUE")
    o = parser.parse_args()
    found = trained(o.run, o.out, o.mixtures, o.tokens, o.changes)
    table = np.concatenate([found["losses"][kind] @ found["importance"] for kind in KINDS]).reshape(2, -1)
    print("mixture  ngram   model")
    for i, (ngram, model) in enumerate(table.T):
        print(f"{found['mixtures'][i]:7d}  {ngram:.4f}  {model:.4f}")
    facts = {"tokens": o.tokens, "parameters": found["parameters"]}
    seconds = {kind: round(s, 1) for kind, s in found["seconds"].items()}
    print(json.dumps(agreement(found) | facts | {"seconds": seconds}))


if __name__ == "__main__":
    main()
