"""Does curation help, which weights, which order? The experiment of docs/efficacy-plan.md, whose numbers are in efficacy.yaml.

    FOX1_DATA=... python -m benchmarks.efficacy --out DIR [--only tier1:raw:0] [--prepare]
    python -m benchmarks.efficacy --out DIR --tables        the results so far, as Markdown; trains nothing
    python -m benchmarks.efficacy --out DIR --plan benchmarks/efficacy-100m.yaml [--cost]

One process of one thread, which does everything in the plan's order: corpora, curations and pools, then one (arm, seed) after the
other. Stopped, it continues with the same command: a training loses at most five minutes. `--only` takes those tasks whose name
begins so. DIR/results.jsonl has a line for every (arm, seed, evaluation), DIR/bits the bits of every document; `--tables` also
keeps the lines in benchmarks/results/<name of the plan>.jsonl and the bits of finished networks beside them. A new DIR begins with
what is kept there. The last line of `--tables` is JSON.

`--plan` takes another plan, such as that of docs/efficacy-plan-100m.md, whose network needs a GPU; `--cost` prints what it takes
and trains nothing. Networks are trained on a GPU where there is one.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["NUMBA_NUM_THREADS"] = os.environ["RAYON_NUM_THREADS"] = "1"

import numpy as np
from fox1.benchmarks import efficacy_data as data
from fox1.benchmarks.efficacy_data import Place, natural_shares, pools_of
from fox1.benchmarks.efficacy_dose import RAW, dose_recipe, doses, make_dose
from fox1.benchmarks.efficacy_statistics import seed_sd, tables
from fox1.benchmarks.efficacy_training import Results, Task, cost, run

KEPT = Path(__file__).parent / "results"
FIRST_SEEDS = 2
ITEMS_MEASURED, TOKENS_OF_ITEM = 400, 150
"""Items of a benchmark at most, and about so many tokens of each, for `--cost`."""


def prepare(place: Place) -> None:
    """Corpora, curations and pools of tiers 1 to 3, and what is measured; nothing is done where that is finished."""
    for name in ("base-dedupe", "base-kept"):
        data.curate(place, name, place.data)
    data.make_measures(place)
    data.make_corpora(place)
    data.make_datatrove(place)
    for name in ("raw", "dedupe", "curated", "filters"):
        data.curate(place, name, place.corpora)
        pools_of(place, name)
    data.curate(place, "datatrove", place.root / "datatrove")
    pools_of(place, "datatrove")
    for name in ("raw", "dedupe", "curated", "filters", "datatrove"):
        print(name, {d: p.tokens for d, p in pools_of(place, name).items()}, flush=True)


# --- the tasks of every tier ------------------------------------------------------------------------------------------


def arm_pools(place: Place, arm: str) -> dict[str, data.DomainPool]:
    """The pools of an arm of tier 1. datatrove's steps are for web text: the other domains are those of `curated`."""
    if arm == "datatrove":
        return pools_of(place, "curated") | {"web": pools_of(place, "datatrove")["web"]}
    return pools_of(place, arm)


def tier0(place: Place) -> Iterator[Callable[[], Task]]:
    """The n-gram model on the arms of tier 1, then on doses of copies and junk."""
    own = place.plan["tier0"]
    arms = [*place.plan["tier1"]["primary"], *place.plan["tier1"]["others"]]
    for arm in arms:
        for tokens in own["arms_tokens"]:
            for seed in range(own["draws"]):
                yield lambda a=arm, t=tokens, s=seed: Task(  # type: ignore[misc]
                    "tier0", a, s, t, arm_pools(place, a), natural_shares(place), "ngram"
                )
    for dose in doses(place):
        for arm in ("raw", "curated"):
            for tokens in own["tokens"]:
                for seed in range(own["draws"]):
                    yield lambda d=dose, a=arm, t=tokens, s=seed: Task(  # type: ignore[misc]
                        "tier0", f"{d}-{a}", s, t, dose_pools(place, d, a), natural_shares(place), "ngram"
                    )


def dose_pools(place: Place, dose: str, arm: str) -> dict[str, data.DomainPool]:
    """The pools of a dose, raw or curated."""
    name = f"{dose}-{arm}"
    if not (place.root / "packed" / name / "pools.json").exists():
        folder = make_dose(place, dose)
        changes = (lambda recipe: dose_recipe(place, folder, recipe), *(RAW if arm == "raw" else ()))
        data.curate(place, name, place.corpora, changes)
    return pools_of(place, name)


def tier1(place: Place, seeds: range, arms: list[str], tokens: int = 0) -> Iterator[Callable[[], Task]]:
    """Cleaning at equal domain shares."""
    size = tokens or place.plan["tier1"]["tokens"]
    for seed in seeds:
        for arm in arms:
            yield lambda a=arm, s=seed: Task("tier1", a, s, size, arm_pools(place, a), natural_shares(place))  # type: ignore[misc]


def tier2(place: Place, seeds: range) -> Iterator[Callable[[], Task]]:
    """Weights, on the curated pools."""
    own = place.plan["tier2"]
    for seed in seeds:
        for arm in own["arms"]:
            yield lambda a=arm, s=seed: Task(  # type: ignore[misc]
                "tier2", a, s, own["tokens"], pools_of(place, "curated"), weights_of(place, a)
            )


def weights_of(place: Place, arm: str) -> dict[str, float]:
    """The shares of the domains in an arm of tier 2."""
    if arm == "natural":
        return natural_shares(place)
    if arm == "recipe":
        return dict(data.recipe_shares(place))
    return tuned_weights(place)


def tuned_weights(place: Place) -> dict[str, float]:
    """What `fox1 tune` finds on the curated run with n-gram proxies, whatever its verdict. It measures documents that it sets
    apart itself, by domain alone: none of the experiment's."""
    from fox1.pipeline.engine.engine import Engine
    from fox1.pipeline.engine.tasks import InProcess
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import curate_settings
    from fox1.tune import tune as tuning
    from fox1.tune.pools import TunePaths, open_source_run
    from fox1.tune.settings import ProxySettings, TuneSettings, Validation

    own, out = place.plan["tier2"]["tuned"], place.root / "tune"
    if not (out / "verdict.json").exists():
        recipe, _ = load_recipe(str(place.root / "recipes" / "curated.yaml"), [], dict(os.environ))
        proxy = ProxySettings("ngram", own["tokens"], place.plan["block_length"])
        settings = TuneSettings(
            own["proxies"], own["refine"], proxy, repetition="ignore", validation=Validation(times=own["times"])
        )
        asked = tuning.Asked(settings, curate_settings(recipe).mix, ())
        print(tuning.tune(open_source_run(place.run("curated")), asked, Engine(TunePaths(out), InProcess())).line)
    choice = json.loads((out / "choice.json").read_text())
    return dict(zip(choice["pools"], choice["weights"], strict=True))


def tier3(place: Place, seeds: range) -> Iterator[Callable[[], Task]]:
    """Order, of the same blocks."""
    own = place.plan["tier3"]
    for seed in seeds:
        for arm in own["arms"]:
            yield lambda a=arm, s=seed: Task(  # type: ignore[misc]
                "tier3", a, s, own["tokens"], pools_of(place, "curated"), {}, phases=tuple(data.recipe_phases(place))
            )


def queue(place: Place, results: Results) -> Iterator[Callable[[], Task]]:
    """All tasks in the order in which they run. A task is opened only when its turn comes: what it needs is then made."""
    own = place.plan["tier1"]
    if "order" in place.plan:
        yield from planned(place)
        return
    first, rest = range(FIRST_SEEDS), range(FIRST_SEEDS, 5)
    yield from tier0(place)
    yield from tier1(place, first, own["primary"])
    noisy = seed_sd(results.lines(), own["primary"], own["tokens"]) > place.plan["tests"]["seed_sd"]
    if noisy:
        # Fewer arms and more tokens.
        print(
            "the sd of seeds is above the plan's bound: tier 1 goes on with its primary arms and more tokens",
            flush=True,
        )
        yield from tier1(place, range(own["seeds"]), own["primary"], place.plan["tests"]["more_tokens"])
    else:
        yield from tier1(place, range(FIRST_SEEDS, 3), own["primary"])
        yield from tier1(place, first, own["others"])
    yield from tier3(place, first)
    yield from tier2(place, first)
    if not noisy:
        yield from tier1(place, range(3, own["seeds"]), own["primary"])
        yield from tier1(place, rest, own["others"])
    yield from tier3(place, range(FIRST_SEEDS, place.plan["tier3"]["seeds"]))
    yield from tier2(place, range(FIRST_SEEDS, place.plan["tier2"]["seeds"]))


def print_cost(place: Place) -> None:
    """Tokens and hours of a plan that says its order, as a table; the last line is JSON.

    Raises:
        ValueError: the plan does not say its order.
    """
    if "order" not in place.plan:
        raise ValueError(f"{place.file} has no `order`; --cost is for plans that have one")
    own, measures = place.plan["network"], place.plan["measures"]
    items = TOKENS_OF_ITEM * ITEMS_MEASURED * len(measures["items"])
    measured = 2 * measures["tokens"] * len(place.plan["domains"]) + measures["original"] + items
    parts = cost(place.plan, place.plan["recipe"]["tokenizer"]["vocab_size"], measured)
    print(f"at {own['tflops']} TFLOP/s, evaluations included:\n| tier | tokens (M) | hours |\n|---|---|---|")
    for tier, tokens, hours in parts:
        print(f"| {tier} | {tokens / 1e6:,.0f} | {hours:.1f} |")
    print(json.dumps({"tokens": sum(t for _, t, _ in parts), "hours": round(sum(h for *_, h in parts), 2)}))


def planned(place: Place) -> Iterator[Callable[[], Task]]:
    """The tasks of a plan that says their order itself."""
    for part in place.plan["order"]:
        for seed in part["seeds"]:
            seeds = range(seed, seed + 1)
            if part["tier"] == "tier1":
                yield from tier1(place, seeds, part["arms"])
            else:
                yield from {"tier2": tier2, "tier3": tier3}[part["tier"]](place, seeds)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", default="", metavar="TIER[:ARM[:SEED]]", help="only tasks whose name begins so")
    parser.add_argument("--truth", type=Path)
    parser.add_argument("--plan", type=Path, default=data.PLAN, help="the experiment's numbers")
    parser.add_argument("--cost", action="store_true", help="only print tokens and hours of a plan with an order")
    parser.add_argument("--prepare", action="store_true", help="only corpora, curations and pools")
    parser.add_argument("--tables", action="store_true", help="only print the results so far")
    options = parser.parse_args()
    root = options.out.absolute()
    root.mkdir(parents=True, exist_ok=True)
    corpora = Path(os.environ.get("FOX1_DATA", root)).absolute()
    os.environ.setdefault("FOX1_EVAL", str(corpora.parent / "eval"))
    place = Place(root, corpora, options.truth or corpora.parent / "truth.jsonl", options.plan)
    if options.cost:
        print_cost(place)
        return
    results = Results(place)
    results.take_up(KEPT)
    if options.tables:
        for line in tables(place, results, data.read_measures(place)):
            print(line)
        results.keep(KEPT)
        return
    prepare(place)
    if options.prepare:
        return
    measured = data.read_measures(place)
    count = {t: int(np.sum(measured.target == k)) for k, t in enumerate(measured.targets)}
    print("measured documents:", count, flush=True)
    wanted = options.only.split(":") if options.only else []
    for opened in queue(place, results):
        task = opened()
        if task.name.split(":")[: len(wanted)] == wanted:
            run(task, place, measured)


if __name__ == "__main__":
    main()
