"""A tuning as calls in order: pools, design, proxies, fit, choose, validate, order.

Everything but `records/` and `timings/` has the same bytes for any number of workers and after any kill; what is finished is not
repeated.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..pipeline.engine.engine import Engine
from ..pipeline.engine.tasks import InProcess, Task
from ..pipeline.mix.budget import MixSettings
from ..pipeline.prepare.benchmarks import BenchmarkSettings
from ..pipeline.prepare.questions import Question
from ..pipeline.run.artifacts import Artifact, write_json
from ..pipeline.run.paths import remove_partial
from ..storage import lease
from ..trainer.model.model import flops_per_token
from . import VERSION, choose, fit, verdict
from .design import Row, Space, design, design_near, rounded, within
from .items import measure_items, part_of, questions
from .measured import MeasuredFile, Measures, read_sequences
from .mixmin import mixmin
from .order import Ordered, is_searched, search_order
from .pools import CHECK, FIT, Packed, SourceRun, TunePaths, cap_share, pack_pools
from .proxy import Trained, parts_of, proxy_task, read_arms, score_pool, train_arms
from .regressors import available
from .settings import TuneSettings

MIXMIN = "mixmin"
FIRST_DRAW = 1_000_000
"""Of the validation: what its trainings draw, no training of the fit did."""


@dataclass(frozen=True)
class Asked:
    """What a tuning is made of, besides the run."""

    settings: TuneSettings
    mix: MixSettings
    """Of the run's recipe."""
    benchmarks: tuple[BenchmarkSettings, ...]


@dataclass(frozen=True)
class Fitted:
    """`fit.json` and `choice.json`."""

    fit: Artifact
    choice: Artifact
    weights: tuple[float, ...]


@dataclass(frozen=True)
class Judged:
    """`verdict.json`."""

    file: Artifact
    word: str
    line: str
    order: Ordered | None = None
    """Where placements were tried."""


def tune(run: SourceRun, asked: Asked, engine: Engine) -> Judged:
    """Find weights and judge them; the folder is `engine.paths`, a `TunePaths`.

    Raises:
        ValueError: the run or the settings do not allow it, or a training failed; one line.
    """
    assert isinstance(engine.paths, TunePaths)
    with lease.held(engine.paths.root, lease.TUNING) as held:
        engine.paths = replace(engine.paths, lease=held)
        remove_partial(engine.paths.root)
        packed = pack_pools(engine, run, asked.mix, asked.settings)
        return search(engine, packed, *measures(engine, run, asked, packed), asked.settings)


def search(engine: Engine, packed: Packed, to_fit: Measures, to_check: Measures, s: TuneSettings) -> Judged:
    """The same, of pools that are packed."""
    assert isinstance(engine.paths, TunePaths)
    here = Engine(engine.paths, InProcess(), engine.progress)
    space = space_of(packed, s)
    rows = design(space, s.anchors, s.proxies, s.seed)
    describe(engine.paths, packed, space, rows, s)
    trained = train_proxies(engine, packed, rows, s, to_fit, "proxies")
    fitted = fit_and_choose(here, space, rows, trained, to_fit, s, "first-" if s.refine else "")
    if s.refine:
        near = design_near(space, np.array(fitted.weights), s.refine, s.seed)
        trained += train_proxies(engine, packed, near, s, to_fit, "refined")
        fitted = fit_and_choose(here, space, (*rows, *near), trained, to_fit, s, judged=len(rows))
    judged = validate(engine, here, packed, space, fitted, to_check, to_fit, s)
    advised = {verdict.ADOPT: fitted.weights, verdict.NATURAL: space.natural, verdict.KEEP: space.recipe}[judged.word]
    order = search_order(engine, here, packed, [float(w) for w in advised], to_fit, to_check, s)
    engine.look()
    return replace(judged, order=order)


# -- what is measured -----------------------------------------------------------------------------------------------------


def measures(engine: Engine, run: SourceRun, asked: Asked, packed: Packed) -> tuple[Measures, Measures]:
    """What the fit and what the validation measure."""
    found = questions(asked.benchmarks, asked.settings.objective.items)
    parts = []
    for number, (part, documents) in enumerate(((FIT, packed.fit), (CHECK, packed.check))):
        files = [*documents]
        if items := part_of(found, number):
            files.append(_measure_items(engine, run, part, items, packed.block_length))
        sequences = read_sequences([m.file.file for m in files])
        importance = importance_of(sequences.targets, packed, asked.settings)
        parts.append(Measures(tuple(m.file for m in files), sequences, importance))
    return parts[0], parts[1]


def _measure_items(
    engine: Engine, run: SourceRun, part: str, items: tuple[Question, ...], longest: int
) -> MeasuredFile:
    assert isinstance(engine.paths, TunePaths)
    bos = run.vocabulary.bos if run.vocabulary.add_bos else -1
    arguments = (items, run.tokenizer, run.reserved, bos, longest, engine.paths.measured(part, "items"))
    return engine.run(f"tune.measured.{part}-items", VERSION, [Task("items", measure_items, arguments)])[0]


def importance_of(targets: Sequence[str], packed: Packed, settings: TuneSettings) -> np.ndarray:
    """The weight of every target in the objective; they sum to 1."""
    o, domains = settings.objective, dict(packed.domains)
    weights = np.array([(domains[t] if o.domains == "natural" else 1.0) if t in domains else 0.0 for t in targets])
    items = np.array([float(t not in domains) for t in targets])
    share = o.items_weight if items.any() else 0.0
    return np.asarray((1 - share) * weights / weights.sum() + share * items / max(1.0, items.sum()))


# -- the design -----------------------------------------------------------------------------------------------------------


def space_of(packed: Packed, settings: TuneSettings) -> Space:
    """Floors and caps of the pools. The recipe's and natural weights always lie within: they are what all is compared with."""
    names = [p.name for p in packed.pools]
    known = np.minimum(packed.natural, packed.recipe)
    floors = np.minimum(settings.constraints.floor, known)
    caps = np.array([cap_share(p.tokens, packed.total, settings) for p in packed.pools])
    caps = np.maximum(caps, np.maximum(packed.natural, packed.recipe))
    return Space.of(names, packed.natural, packed.recipe, floors.tolist(), caps.tolist())


def describe(paths: TunePaths, packed: Packed, space: Space, rows: Sequence[Row], settings: TuneSettings) -> None:
    """Publish `tune.json` and `design.json`."""
    pools = [
        {
            "name": p.name,
            "tokens": p.tokens,
            "trained": p.trained,
            "units": p.units,
            "natural": float(space.natural[k]),
            "recipe": float(space.recipe[k]),
            "floor": float(space.floors[k]),
            "cap": float(space.caps[k]),
            "used_units": parts_of(space.recipe.tolist(), packed, settings.proxy.tokens, settings)[k].cap,
            "data_identity": p.packed.data_identity,
            "selects": {
                "domain": p.weight.domain,
                "corpus": p.weight.corpus,
                "subset": p.weight.subset,
                "top": p.weight.top,
                "below": p.weight.below,
            },
            "by_phase": list(p.by_phase),
        }
        for k, p in enumerate(packed.pools)
    ]
    facts = {
        "version": VERSION,
        "kind": settings.proxy.kind,
        "proxies": settings.proxies,
        "refined": settings.refine,
        "proxy_tokens": settings.proxy.tokens,
        "validation_tokens": settings.validation_tokens,
        "seeds": settings.validation.seeds,
        "block_length": packed.block_length,
        "total_tokens": packed.total,
        "domains": dict(packed.domains),
        "phases": list(packed.phases),
        "pools": pools,
    }
    write_json(paths.described("tune"), facts)
    write_json(paths.described("design"), [{"kind": r.kind, "weights": r.weights, "seed": r.seed} for r in rows])


# -- the trainings --------------------------------------------------------------------------------------------------------


def train_proxies(
    engine: Engine, packed: Packed, rows: Sequence[Row], settings: TuneSettings, to_fit: Measures, folder: str
) -> list[Trained]:
    """The trainings of some rows, in their order; those that are finished are not repeated.

    Args:
        folder: of their results in the tuning.
    """
    assert isinstance(engine.paths, TunePaths)
    tasks = []
    for i, row in enumerate(rows):
        parts = parts_of(row.weights, packed, settings.proxy.tokens, settings)
        out = engine.paths.proxy(folder, f"{i:05d}")
        tasks.append(proxy_task(f"{i:05d}", parts, row.seed, settings.proxy, to_fit.files, out))
    return engine.run(f"tune.{folder}", VERSION, tasks)


def fit_and_choose(
    here: Engine,
    space: Space,
    rows: Sequence[Row],
    trained: Sequence[Trained],
    to_fit: Measures,
    settings: TuneSettings,
    which: str = "",
    judged: int = 0,
) -> Fitted:
    """Fit all targets and choose a mixture, in this process.

    Args:
        which: what the names of the files begin with.
        judged: as in `fit.Observed`.
    """
    assert isinstance(here.paths, TunePaths)
    observed = fit.Observed(
        np.array([r.weights for r in rows]),
        np.array([t.losses for t in trained]),
        to_fit.sequences.targets,
        to_fit.importance,
        judged,
    )
    bounds = choose.Bounds(settings.constraints.kl, dict(settings.objective.never_worse))
    arguments = (observed, space, bounds, settings.seed, tuple(available()))
    paths = here.paths.described(f"{which}fit"), here.paths.described(f"{which}choice")
    return here.run(f"tune.{which}fit", VERSION, [Task("fit", _fit_and_choose, (*arguments, *paths))])[0]


def _fit_and_choose(
    observed: fit.Observed,
    space: Space,
    bounds: choose.Bounds,
    seed: int,
    kinds: Sequence[str],
    fit_out: Path,
    choice_out: Path,
) -> Fitted:
    known = available()
    fitted = fit.fit(observed, seed, {name: known[name] for name in kinds})
    chosen = choose.choose(fitted, space, bounds, seed)
    curves = choose.response(fitted, space, np.array(chosen.weights))
    return Fitted(
        write_json(fit_out, fit.as_json(fitted) | {"response": curves}),
        write_json(choice_out, choose.as_json(chosen, space, observed.targets)),
        chosen.weights,
    )


# -- the validation -------------------------------------------------------------------------------------------------------


def validate(
    engine: Engine,
    here: Engine,
    packed: Packed,
    space: Space,
    fitted: Fitted,
    to_check: Measures,
    to_fit: Measures,
    settings: TuneSettings,
) -> Judged:
    """Train the chosen mixture and those that it is compared with, on more tokens, and judge by other documents."""
    assert isinstance(engine.paths, TunePaths)
    arms = {
        verdict.CHOSEN: fitted.weights,
        verdict.RECIPE: tuple(space.recipe.tolist()),
        verdict.NATURAL_ARM: tuple(space.natural.tolist()),
        MIXMIN: convex_baseline(engine, packed, space, to_fit, settings),
    }
    parts = {arm: parts_of(weights, packed, settings.validation_tokens, settings) for arm, weights in arms.items()}
    files = train_arms(engine, "validation", parts, FIRST_DRAW, settings, to_check)
    arguments = (files, tuple(arms), arms[MIXMIN], to_check.files, to_check.importance)
    v = settings.validation
    rules = (v.margin, dict(settings.objective.never_worse), settings.seed)
    out = engine.paths.described("verdict")
    return here.run("tune.verdict", VERSION, [Task("verdict", _judge, (*arguments, *rules, out))])[0]


def _judge(
    bits: Sequence[Artifact],
    arms: Sequence[str],
    convex: Sequence[float],
    measured: Sequence[Artifact],
    importance: np.ndarray,
    margin: float,
    never_worse: dict[str, float],
    seed: int,
    out: Path,
) -> Judged:
    data = read_arms(bits, arms, measured, importance)
    said = verdict.judge(data, margin, never_worse, seed)
    return Judged(write_json(out, verdict.as_json(said, data) | {MIXMIN: list(convex)}), said.word, said.line)


def convex_baseline(
    engine: Engine, packed: Packed, space: Space, to_fit: Measures, settings: TuneSettings
) -> tuple[float, ...]:
    """The weights that MixMin gives, within floors and caps."""
    assert isinstance(engine.paths, TunePaths)
    parts = parts_of([1.0] * len(packed.pools), packed, settings.proxy.tokens * len(packed.pools), settings)
    tasks = []
    for k, part in enumerate(parts):
        used = replace(part, quota=min(part.units, part.cap))
        arguments = (used, to_fit.files, engine.paths.named(f"mixmin/{k:03d}.scores"))
        tasks.append(Task(f"{k:03d}", score_pool, arguments))
    scores = np.stack(
        [np.frombuffer(s.file.file.read_bytes(), "<f4") for s in engine.run("tune.mixmin", VERSION, tasks)]
    )
    counts = _token_importance(to_fit)
    scored = counts > 0
    weights = mixmin(scores[:, scored].astype(np.float64), counts[scored])
    return tuple(rounded(within(weights[None], space.floors, space.caps))[0].tolist())


def _token_importance(measured: Measures) -> np.ndarray:
    """float64 [T]: what each scored token counts in the objective: its target's weight over the target's bytes."""
    s = measured.sequences
    size = np.bincount(s.target, s.size, len(s.targets))
    of_document = (measured.importance / size)[s.target]
    lengths = np.diff(np.r_[0, s.ends])
    place = np.arange(len(s.tokens)) - np.repeat(s.ends - lengths, lengths)
    scored = place >= np.repeat(np.maximum(s.skip, 1), lengths)
    return np.asarray(np.repeat(of_document[s.document], lengths) * scored)


# -- the plan -------------------------------------------------------------------------------------------------------------

NGRAM_RATE = 3e6
"""Tokens a second that a core counts, measuring and packing included."""
CORE_FLOPS = 4e10
"""FLOPs a second of a core on a small network in fp32."""


@dataclass(frozen=True)
class Plan:
    """What a tuning will take."""

    kind: str
    proxies: int
    proxy_tokens: int
    placements: int
    """Trainings across phases, of as many tokens."""
    validations: int
    validation_tokens: int
    core_hours: float

    @property
    def tokens(self) -> int:
        return (self.proxies + self.placements) * self.proxy_tokens + self.validations * self.validation_tokens


def plan(settings: TuneSettings, vocab_size: int, block_length: int, phases: int = 1) -> Plan:
    """What a tuning will take at most, before anything runs."""
    placements = settings.placement.trainings if is_searched(settings, phases) else 0
    validations = (4 + 3 * bool(placements)) * settings.validation.seeds
    proxies = settings.proxies + settings.refine
    rate = NGRAM_RATE
    if settings.proxy.kind == "model":
        rate = CORE_FLOPS / flops_per_token(settings.proxy.model, vocab_size, block_length)
    found = Plan(
        settings.proxy.kind, proxies, settings.proxy.tokens, placements, validations, settings.validation_tokens, 0.0
    )
    return replace(found, core_hours=found.tokens / rate / 3600)
