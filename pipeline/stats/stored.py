"""The statistics of a run, as tables, the report and Python read them; nothing of the stages that made them is imported."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..run.artifacts import read_json
from ..run.paths import RunPaths

NAMES = (
    "funnel",
    "filter",
    "prepared",
    "dedupe",
    "overlap",
    "mixture",
    "tokens",
    "languages",
    "examples",
    "settings",
)
"""The files of `stats/` that every finished run has, by stem."""


def read_stats(run: Path) -> dict[str, Any]:
    """All statistics of a run.

    Raises:
        ValueError: the run has none (yet).
    """
    paths = RunPaths(run)
    if not run.is_dir():
        raise ValueError(f"no run at {run}; `fox1 curate RECIPE --out {run}` makes one")
    values = {name: read_json(paths.stats(name)) for name in NAMES}
    if "contamination" in values["prepared"]:
        values["contamination"] = read_json(paths.stats("contamination"))
    # Runs of earlier versions have none.
    if paths.stats("distributions").exists():
        values["distributions"] = read_json(paths.stats("distributions"))
    return values


def documents_by_class(domains: Mapping[str, Mapping[str, Sequence[int]]]) -> dict[int, int]:
    """Documents by class of length or quality, over all domains of a distribution of `stats/mixture.json`."""
    found: dict[int, int] = {}
    for classes in domains.values():
        for level, (documents, _) in classes.items():
            found[int(level)] = found.get(int(level), 0) + documents
    return found
