"""The full recipe, planned and run on virtual clusters: what it takes, and how that grows with the corpora.

    python -m benchmarks.simulate [--fraction 1] [--slots 512 4096] [--folder DIR]

The corpora are sparse files of the published names and sizes, and the planning is the run's own (`curate`, its engine, leases,
records and manifest). Only the executor and the store are replaced: tasks return made-up results, which no disk sees, and a
virtual clock says when each would have ended, on so many slots of which a node is lost every 20 minutes
(`simulation/virtual.py`, `simulation/results.py`). A tenth, a quarter, a half and all of the fraction run in a process each;
then the run is resumed with everything finished. CPU and memory are those of the driver. The last line is JSON.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from fox1.pipeline.curate import CurateSettings, curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.run.paths import RunPaths
from fox1.recipes.load import load_recipe
from fox1.recipes.schema import Recipe
from fox1.recipes.settings import curate_settings
from fox1.storage import store

from .simulation.made_up import MadeUp
from .simulation.planned import plan
from .simulation.published import fates, write_sparse
from .simulation.virtual import NODE_SLOTS, REQUEST_SECONDS, Clock, Objects, Simulated, SimulatedEngine

PARTS = (0.1, 0.25, 0.5, 1.0)
SLOTS = (512, 4096)
CORE_HOUR, GET_PRICE, PUT_PRICE, GIB_MONTH = 0.02, 0.4e-6, 5e-6, 0.023
"""Dollars: an hour of a core of a spot machine, a request that reads, one that writes, a GiB kept for a month."""
SHORT = 2.0
"""Seconds below which a step is left out of the table of what the end waits for."""
GROWING = ("tasks", "driver_cpu_s", "driver_bytes", "requests", "pickled_bytes", "artifacts", "records_bytes")
"""What is compared between fractions."""


def write_recipe(folder: Path, fraction: float) -> tuple[Recipe, int]:
    """(the full recipe with its files, lists and model below a folder, and budgets for a fraction of the corpora; how many
    files)."""
    corpora, lists = folder / "corpora", folder / "lists"
    lists.mkdir(parents=True)
    for name in ("items.jsonl", "tokenizer.model"):
        (lists / name).write_text("{}\n")
    full = yaml.safe_load((Path(__file__).parent.parent / "recipes" / "fox1.yaml").read_text())
    items = {"dataset": "", "config": "", "split": "", "files": [str(lists / "items.jsonl")]}
    value = {
        "extends": "fox1.yaml",
        "name": "simulated",
        "scale": fraction,
        "sources": {
            name: {"root": str(corpora / name), **({"urls": ""} if "urls" in source else {})}
            for name, source in full["sources"].items()
        },
        "contamination": {
            "benchmarks": {
                name: {key: items[key] for key in items if key in b or key == "files"}
                for name, b in full["contamination"]["benchmarks"].items()
            }
        },
        "tokenizer": {"model": str(lists / "tokenizer.model")},
    }
    path = folder / "simulated.yaml"
    path.write_text(yaml.safe_dump(value))
    recipe = load_recipe(str(path), [])[0]
    return recipe, write_sparse(recipe, corpora, fraction)


def simulate(fraction: float, slots: Sequence[int], folder: Path, resume: bool = True) -> dict[str, Any]:
    """One run and its resumption; what both took."""
    os.environ["FOX1_SCRATCH"] = str(folder / "scratch")
    recipe, files = write_recipe(folder, fraction)
    settings = curate_settings(recipe)
    root = store.open_root("simulated://bucket/run")
    paths = RunPaths(root)
    made_up = MadeUp(fates(recipe), paths)
    executor = Simulated(made_up, [Clock(n) for n in slots])
    Objects.root = Objects._strip_protocol("simulated://bucket/run")
    Objects.store.clear()
    Objects.requests.clear()
    began = time.process_time()
    engine = SimulatedEngine(paths, executor)
    Objects.finished = engine.finished
    curate(settings, engine)
    cpu = time.process_time() - began - executor.own_seconds
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    requests = dict(Objects.requests)
    for clock in executor.clocks:
        clock.run()
    return {
        "fraction": fraction,
        "driver_cpu_s": cpu,
        "driver_bytes": peak,
        "driver_requests": requests,
        "units": {
            "bytes": made_up.totals["text"],
            "documents": made_up.documents,
            "kept_bytes": made_up.totals["kept_bytes"],
            "trained_tokens": sum(p.tokens for p in settings.mix.phases),
            "files": files,
        },
        "artifacts": sum(table.num_rows for table in engine.finished.values()),
        "records_bytes": sum(file.size for name, file in Objects.store.items() if "/records/" in name),
        **(resumed(settings, paths, executor, engine) if resume else {}),
        **totals(executor),
    }


def resumed(settings: CurateSettings, paths: RunPaths, executor: Simulated, before: Engine) -> dict[str, Any]:
    """Seconds to plan everything again where all is finished, requests included, without what the store made up for them."""
    store._known.clear()
    # On another machine.
    shutil.rmtree(str(paths.root))
    Objects.requests.clear()
    Objects.finished = dict(before.finished)
    before.finished = {}
    Objects.own_seconds = 0.0
    ran = executor.ran
    began = time.monotonic()
    curate(settings, Engine(paths, executor))
    took = time.monotonic() - began - Objects.own_seconds
    if executor.ran > ran:
        raise AssertionError(f"{executor.ran - ran} finished tasks ran again")
    asked = Objects.requests
    # Listings, and the records that are no part yet, are asked for side by side.
    several = asked["LIST"] + asked["FETCH"]
    waited = REQUEST_SECONDS * (asked["GET"] + asked["PUT"] + asked["DELETE"] + several / store.REQUESTS)
    return {"resume_s": took + waited, "resume_requests": dict(asked)}


def totals(executor: Simulated) -> dict[str, Any]:
    """What the steps of a run add up to."""
    steps = executor.steps.values()
    work, serial = sum(s.seconds for s in steps), executor.clocks[0].chain()
    value: dict[str, Any] = {
        "tasks": sum(s.tasks for s in steps),
        "requests": sum(s.requests for s in steps),
        "moved_bytes": sum(s.moved for s in steps),
        "written_bytes": sum(s.written for s in steps),
        "pickled_bytes": sum(s.pickled for s in steps),
        "arguments_bytes": max(s.arguments for s in steps),
        "longest_task_s": max(s.longest_split for s in steps),
        "longest_file_s": max(s.longest for s in steps),
        "core_seconds": work,
        "serial_seconds": serial,
        "steps": {name: asdict(s) for name, s in executor.steps.items()},
    }
    for clock in executor.clocks:
        value[f"on_{clock.slots}"] = {
            "seconds": clock.now,
            "ratio": clock.now / max(work / clock.slots, serial),
            "redone_share": clock.redone / clock.work,
            "steps": [
                {
                    "name": batch.name,
                    "after": sorted(batch.after),
                    "tasks": batch.tasks,
                    "began": clock.lasted[batch.name].began,
                    "ended": clock.lasted[batch.name].ended,
                    "even": batch.work / clock.slots,
                    "longest": batch.longest,
                    "serial": batch.serial,
                }
                for batch, _ in clock.batches
            ],
        }
    return value


def in_a_process(fraction: float, slots: Sequence[int], folder: Path) -> dict[str, Any]:
    """The same in a process of its own, so that its peak memory is its own."""
    words = [sys.executable, "-m", __spec__.name, "--one", str(fraction), "--folder", str(folder), "--slots"]
    done = subprocess.run([*words, *map(str, slots)], stdout=subprocess.PIPE, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


def slopes(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """By count: the largest slope in log-log between fractions that follow each other."""

    def slope(a: Mapping[str, Any], b: Mapping[str, Any], name: str) -> float:
        return math.log(b[name] / a[name]) / math.log(b["fraction"] / a["fraction"])

    return {n: max((slope(a, b, n) for a, b in itertools.pairwise(runs)), default=0.0) for n in GROWING}


def dollars(run: Mapping[str, Any]) -> dict[str, float]:
    """What a run costs by the prices above."""
    return {
        "cores": run["core_seconds"] / 3600 * CORE_HOUR,
        "requests": run["requests"] * (GET_PRICE + PUT_PRICE) / 2,
        "a month of disk": run["written_bytes"] / 2**30 * GIB_MONTH,
    }


def plan_errors(runs: Sequence[Mapping[str, Any]], slots: int) -> dict[str, float]:
    """How far a plan of the largest run, from the rates of the smallest one, is off."""
    first, last = runs[0], runs[-1]
    recipe = load_recipe("fox1", [f"scale={last['fraction']}"])[0]
    made = plan(recipe, curate_settings(recipe), first, last["fraction"], slots)
    return {
        "hours": made.wall_seconds / last[f"on_{slots}"]["seconds"] - 1,
        "core-hours": made.cpu_seconds / last["core_seconds"] - 1,
        "tasks": sum(s.tasks for s in made.stages) / last["tasks"] - 1,
    }


def show_time(steps: Sequence[Mapping[str, Any]], slots: int) -> None:
    """Where the time goes: the steps that the end waits for, one after the other, each with what it would take if its work were
    spread evenly, and its longest task.
    """
    of = {s["name"]: s for s in steps}
    held: Mapping[str, Any] | None = max(of.values(), key=lambda s: float(s["ended"]))
    path = []
    while held:
        path.append(held)
        held = max((of[name] for name in held["after"] if name in of), key=lambda s: float(s["ended"]), default=None)
    print(f"\nwhat the end waits for, on {slots} slots:")
    print(
        f"{'step':32s} {'tasks':>8s} {'from s':>8s} {'to s':>8s} {'lasts':>8s} {'even':>7s} {'longest':>8s} {'idle %':>7s}"
    )
    for s in reversed(path):
        lasts = s["ended"] - s["began"]
        if lasts >= SHORT:
            idle = 100 * max(0.0, 1 - s["even"] / lasts)
            print(
                f"{s['name']:32s} {s['tasks']:8,d} {s['began']:8.0f} {s['ended']:8.0f} {lasts:8.1f} {s['even']:7.1f} "
                f"{s['longest']:8.1f} {idle:7.0f}"
            )
    stages: dict[str, float] = {}
    for s in path:
        stage = s["name"].split(".")[0]
        stages[stage] = stages.get(stage, 0.0) + s["ended"] - s["began"]
    print("by stage: " + ", ".join(f"{name} {seconds:,.0f} s" for name, seconds in reversed(stages.items())))


def show(runs: Sequence[Mapping[str, Any]], slots: Sequence[int]) -> None:
    """The table of docs/scale.md, and what each step takes of the largest run."""
    last = runs[-1]
    print(
        f"{'step':32s} {'tasks':>8s} {'core-h':>8s} {'longest s':>9s} {'requests':>11s} {'GiB moved':>10s} {'arg KB':>7s}"
    )
    for name, s in last["steps"].items():
        print(
            f"{name:32s} {s['tasks']:8,d} {s['seconds'] / 3600:8.1f} {s['longest']:9.1f} {s['requests']:11,d} "
            f"{s['moved'] / 2**30:10,.1f} {s['arguments'] / 1000:7.1f}"
        )
    for n in slots:
        show_time(last[f"on_{n}"]["steps"], n)
    print()
    rows: list[tuple[str, str, float]] = [
        ("tasks", "tasks", 1),
        ("artifacts", "artifacts", 1),
        ("driver, CPU seconds", "driver_cpu_s", 1),
        ("driver, GiB", "driver_bytes", 2**30),
        ("arguments of all tasks, GiB", "pickled_bytes", 2**30),
        ("largest arguments, KB", "arguments_bytes", 1000),
        ("requests, millions", "requests", 1e6),
        ("TiB moved", "moved_bytes", 2**40),
        ("TiB written", "written_bytes", 2**40),
        ("core-hours", "core_seconds", 3600),
        ("resume, seconds", "resume_s", 1),
    ]
    print(f"| {'fraction':28s} |" + "".join(f" {r['fraction']:>10g} |" for r in runs))
    print("|---|" + "---|" * len(runs))
    for label, key, unit in rows:
        print(
            f"| {label:28s} |"
            + "".join(f" {r[key] / unit:>10,.{0 if unit == 1 and r[key] > 100 else 2}f} |" for r in runs)
        )
    for n in slots:
        label = f"hours on {n} cores"
        print(f"| {label:28s} |" + "".join(f" {r[f'on_{n}']['seconds'] / 3600:>10.2f} |" for r in runs))
    print(f"\nlongest task: {last['longest_task_s']:.0f} s, of a file of one frame: {last['longest_file_s']:.0f} s")
    for n in slots:
        on = last[f"on_{n}"]
        print(
            f"{n} slots ({n // NODE_SLOTS} nodes): {on['seconds'] / 3600:.2f} h, {on['ratio']:.2f} of the least there is; "
            f"{100 * on['redone_share']:.2f} % redone"
        )
    print("dollars: " + ", ".join(f"{name} {value:,.0f}" for name, value in dollars(last).items()))
    errors = plan_errors(runs, slots[0])
    print(f"plan against {slots[0]} slots: " + ", ".join(f"{name} {100 * e:+.0f} %" for name, e in errors.items()))
    print("growth: " + ", ".join(f"{name} n^{slope:.2f}" for name, slope in slopes(runs).items()))


def summary(runs: Sequence[Mapping[str, Any]], slots: Sequence[int]) -> dict[str, Any]:
    """The last line."""
    last = runs[-1]
    few, many = slots[0], slots[-1]
    return {
        "driver_gib": round(last["driver_bytes"] / 2**30, 3),
        "driver_cpu_s": round(last["driver_cpu_s"], 1),
        "growth": round(max(slopes(runs).values()), 3),
        f"makespan_ratio_{few}": round(last[f"on_{few}"]["ratio"], 3),
        f"makespan_ratio_{many}": round(last[f"on_{many}"]["ratio"], 3),
        "longest_task_s": round(last["longest_task_s"], 1),
        "tasks": last["tasks"],
        "requests_per_mib": round(
            (last["requests"] + sum(last["driver_requests"].values())) / (last["moved_bytes"] / 2**20), 3
        ),
        "arguments_kb": round(last["arguments_bytes"] / 1000, 1),
        "resume_s": round(last["resume_s"], 1),
        "redone_share": round(last[f"on_{few}"]["redone_share"], 4),
        "plan_error": round(abs(plan_errors(runs, few)["hours"]), 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fraction", type=float, default=1.0, help="share of the corpora's files, and of the budgets")
    parser.add_argument("--slots", type=int, nargs="+", default=list(SLOTS), help="tasks that run at once, by cluster")
    parser.add_argument("--folder", default=None, help="where the sparse files and the driver's own files lie")
    parser.add_argument("--one", type=float, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one is not None:
        print(json.dumps(simulate(options.one, options.slots, Path(options.folder))))
        return
    runs = []
    for part in PARTS:
        with tempfile.TemporaryDirectory(prefix="fox1-simulate-", dir=options.folder) as folder:
            began = time.monotonic()
            runs.append(in_a_process(options.fraction * part, options.slots, Path(folder)))
            print(f"fraction {options.fraction * part:g}: {time.monotonic() - began:.0f} s", flush=True)
    show(runs, options.slots)
    print(json.dumps(summary(runs, options.slots)))


if __name__ == "__main__":
    main()
