"""The search for an order, in steps: trainings across phases at a fixed aggregate, fit, choice, validation.

It needs the `model` kind: an n-gram model counts the same in any order. The mixture is the one that the verdict advises, and what
is found must be better than the same weights in all phases.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..pipeline.engine.engine import Engine
from ..pipeline.engine.tasks import Task
from ..pipeline.run.artifacts import Artifact, remove, write_json
from . import VERSION, fit
from .measured import Measures
from .placement import (
    FLAT,
    FOUND,
    NOT_TRIED,
    RECIPE,
    Curriculum,
    OrderVerdict,
    Placement,
    Predicted,
    as_json,
    choose_placement,
    design_placements,
    judge_placement,
)
from .pools import Packed, TunePaths
from .proxy import Trained, phased_parts, proxy_task, read_arms, train_arms
from .regressors import available
from .settings import TuneSettings

TRIED_DRAW = 2_000_000
"""Of the first placement that is tried: what its trainings draw, no other one did."""
CHECKED_DRAW = 3_000_000
"""Likewise, of the validation."""


@dataclass(frozen=True)
class Ordered:
    """`placement.json`."""

    file: Artifact
    word: str
    line: str


@dataclass(frozen=True)
class _Found:
    """`placement-fit.json`."""

    file: Artifact
    table: tuple[tuple[float, ...], ...]
    predicted: tuple[float, float, float]
    """Gain against the flat placement, and its interval."""

    @property
    def is_flat(self) -> bool:
        return not self.predicted[0]


def is_searched(settings: TuneSettings, phases: int) -> bool:
    """Whether placements are tried."""
    return settings.proxy.kind == "model" and settings.placement.trainings > 0 and phases > 1


def search_order(
    engine: Engine,
    here: Engine,
    packed: Packed,
    weights: Sequence[float],
    to_fit: Measures,
    to_check: Measures,
    settings: TuneSettings,
) -> Ordered | None:
    """Find how the phases should have a mixture, and judge it; None where that is not asked.

    Args:
        here: runs in this process.
        weights: of the mixture, by pool.
    """
    assert isinstance(engine.paths, TunePaths)
    if not is_searched(settings, len(packed.phase_shares)):
        # What an earlier tuning with other settings said of an order.
        for name in ("placement", "placement-fit"):
            remove(engine.paths.described(name))
        return None
    p = settings.placement
    curriculum = Curriculum(np.array(packed.phase_shares), np.array(weights), packed.table)
    rows = design_placements(curriculum, p.repeats, p.trainings, settings.seed)
    trained = _train(engine, packed, rows, settings, to_fit)
    arguments = (rows, curriculum, [t.losses for t in trained], to_fit.sequences.targets, to_fit.importance)
    out = engine.paths.described("placement-fit")
    task = Task("fit", _fit_and_choose, (*arguments, settings.seed, tuple(available()), out))
    found = here.run("tune.placement-fit", VERSION, [task])[0]
    tables = {FLAT: curriculum.flat, RECIPE: curriculum.as_recipe(), FOUND: np.array(found.table)}
    if found.is_flat:
        del tables[FOUND]
    if np.array_equal(tables[RECIPE], tables[FLAT]):
        del tables[RECIPE]
    bits = _validate(engine, packed, tables, settings, to_check)
    judged = (list(bits), curriculum, tables, found.predicted, packed.phases, to_check.files, to_check.importance)
    rules = (dict(settings.objective.never_worse), settings.seed, engine.paths.described("placement"))
    return here.run("tune.placement", VERSION, [Task("placement", _judge, (*judged, *rules))])[0]


def _train(
    engine: Engine, packed: Packed, rows: Sequence[Placement], settings: TuneSettings, to_fit: Measures
) -> list[Trained]:
    assert isinstance(engine.paths, TunePaths)
    tasks = []
    for i, row in enumerate(rows):
        parts = phased_parts(row.table, packed, settings.proxy.tokens, settings)
        out = engine.paths.proxy("placements", f"{i:05d}")
        tasks.append(proxy_task(f"{i:05d}", parts, TRIED_DRAW + i, settings.proxy, to_fit.files, out))
    return engine.run("tune.placements", VERSION, tasks)


def _fit_and_choose(
    rows: Sequence[Placement],
    of: Curriculum,
    losses: Sequence[Sequence[float]],
    targets: tuple[str, ...],
    importance: np.ndarray,
    seed: int,
    kinds: Sequence[str],
    out: Path,
) -> _Found:
    late = of.lateness(np.stack([row.table for row in rows]))
    known = available()
    fitted = fit.fit(
        fit.Observed(late, np.array(losses), targets, importance), seed, {name: known[name] for name in kinds}
    )
    best = choose_placement(fitted, of, seed)
    written = write_json(
        out, fit.as_json(fitted) | {"kinds": [row.kind for row in rows], "lateness": late.tolist(), "gain": best.gain}
    )
    return _Found(written, tuple(map(tuple, best.table.tolist())), (best.gain, best.low, best.high))


def _validate(
    engine: Engine, packed: Packed, tables: dict[str, np.ndarray], settings: TuneSettings, to_check: Measures
) -> list[Artifact]:
    """Train every arm with the same seeds on more tokens; the bits of what is measured, by arm and seed."""
    if len(tables) == 1:
        return []
    arms = {
        arm.split()[-1]: phased_parts(table, packed, settings.validation_tokens, settings)
        for arm, table in tables.items()
    }
    return train_arms(engine, "placement-validation", arms, CHECKED_DRAW, settings, to_check)


def _judge(
    bits: Sequence[Artifact],
    of: Curriculum,
    tables: dict[str, np.ndarray],
    predicted: tuple[float, float, float],
    phases: Sequence[str],
    measured: Sequence[Artifact],
    importance: np.ndarray,
    never_worse: dict[str, float],
    seed: int,
    out: Path,
) -> Ordered:
    if bits:
        verdict = judge_placement(read_arms(bits, tuple(tables), measured, importance), never_worse, seed)
    else:
        verdict = OrderVerdict(FLAT, f"no order is shown to matter: {NOT_TRIED}", (), False)
    best = Predicted(tables.get(FOUND, of.flat), *predicted)
    written = write_json(out, as_json(verdict, of, tables, best, phases))
    return Ordered(written, verdict.word, verdict.line)
