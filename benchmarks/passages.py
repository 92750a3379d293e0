"""What cutting passages costs and takes: a recipe in one process up to dedupe, then once for each kind of passage and for all.

    FOX1_DATA=... python -m benchmarks.passages [--recipe mini] [--kinds lines sentences] [--set KEY=VALUE]

Prints, for each, the CPU seconds of its steps, how many passages and bytes of the kept documents' text go, and how many documents
then have too little left; JSON last. Compile kernels first (`python -m fox1.commands.compile_kernels`).
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from fox1.pipeline.curate import CurateSettings, curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess, Silent
from fox1.pipeline.passages.settings import KINDS, PassageSettings
from fox1.pipeline.run.paths import RunPaths
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings

STAGES = ("prepare", "scan", "filter", "dedupe")


class Clock(Silent):
    """CPU seconds of this process by step."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._began = time.process_time()

    def stage_done(self, name: str, seconds: float) -> None:
        now = time.process_time()
        self.seconds[name], self._began = now - self._began, now


def run(settings: CurateSettings, folder: Path) -> Clock:
    clock = Clock()
    curate(settings, Engine(RunPaths(folder), InProcess(), clock), STAGES)
    return clock


def kept(folder: Path) -> tuple[int, int]:
    """(documents, bytes of their edited text) that the decisions of a run keep, held-out ones included."""
    documents = size = 0
    for path in (folder / "decisions").rglob("*.parquet"):
        use = pq.read_table(path, columns=["kept"]).column(0).to_numpy()
        signals = folder / "signals" / path.relative_to(folder / "decisions")
        documents += int(use.sum())
        size += int(pq.read_table(signals, columns=["n_bytes"]).column(0).to_numpy()[use].sum())
    return documents, size


def measure(settings: CurateSettings, folder: Path, documents: int, size: int) -> dict[str, Any]:
    """What one choice of passages costs and takes."""
    # What another choice left must not be taken for this one's.
    for records in (folder / "records").glob("dedupe.passage*"):
        shutil.rmtree(records)
    steps = {name: round(s, 2) for name, s in run(settings, folder).seconds.items() if ".passage" in name}
    figures: dict[str, Any] = {"passages": 0, "documents": 0, "dropped": 0, "bytes": 0, "kept_short": 0}
    for path in (folder / "records").glob("dedupe.passage_edits/*"):
        result = json.loads(path.read_bytes())["result"]
        figures["passages"] += sum(kind["passages"] for kind in result["kinds"])
        for subset in result["subsets"]:
            for name in ("documents", "dropped", "bytes", "kept_short"):
                figures[name] += subset["tally"][name]
    return {
        "seconds": round(sum(steps.values()), 2),
        "steps": steps,
        **figures,
        "cut_share": figures["bytes"] / size,
        "touched_share": figures["documents"] / documents,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--set", action="append", default=[], dest="changes", metavar="KEY=VALUE")
    options = parser.parse_args()
    settings = curate_settings(load_recipe(options.recipe, options.changes)[0])
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="fox1-passages-") as folder:
        out = Path(folder) / "run"
        # Once for the kernels, and to scan and dedupe.
        scan = run(replace(settings, passages=replace(settings.passages, cut=tuple(KINDS))), out).seconds["scan"]
        run(replace(settings, passages=PassageSettings()), out)
        documents, size = kept(out)
        print(
            f"{documents:,} kept documents, {size / 1e6:.1f} MB of text; the scan of all text took {scan:.1f} CPU seconds"
        )
        choices = [(kind,) for kind in options.kinds] + ([tuple(options.kinds)] if len(options.kinds) > 1 else [])
        for cut in choices:
            result = measure(replace(settings, passages=replace(settings.passages, cut=cut)), out, documents, size)
            found[", ".join(cut)] = result
            print(
                f"{', '.join(cut)}: {result['seconds']:.1f} CPU seconds, {result['passages']:,} passages, "
                f"{100 * result['cut_share']:.2f} % of the text, {result['dropped']:,} documents too short"
            )
    print(json.dumps({"documents": documents, "bytes": size, "scan_seconds": scan, "cut": found}))


if __name__ == "__main__":
    main()
