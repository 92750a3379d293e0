"""`fox1 plan`: from a recipe or a run, its inputs (or what is published about them) and the machines to a plan."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ..pipeline.capacity.estimate import (
    Actual,
    CapacityPlan,
    CorpusEstimate,
    TrainingWorkload,
    actual,
    corpora_of,
    make_plan,
    stored_rates,
)
from ..pipeline.capacity.rates import Rates, measure
from ..pipeline.curate import CurateSettings
from ..pipeline.engine.on_ray import ray_session
from ..pipeline.engine.pool import pool_session
from ..pipeline.inspect.run import stored_run
from ..pipeline.run.identity import TOKENS
from ..pipeline.run.paths import RunPaths
from ..pipeline.sample import write_sample
from ..pipeline.sources.listing import list_sources
from ..trainer.model.model import flops_per_token
from ..trainer.watch.metrics import peak_flops
from .load import is_own, load_recipe, stored_recipe
from .resolve import resolve
from .schema import Recipe
from .settings import curate_settings, train_settings

SHARE = 0.02
"""Share of the inputs that rates are measured on."""


@dataclass(frozen=True)
class Machine:
    """What a run would be given."""

    nodes: int = 1
    cores: int | None = None
    """Cores of a node; None: those of this one."""
    gpus: int = 8
    gpu: str = "H200"
    utilisation: float = 0.4
    """Share of the GPU's peak that the training reaches."""
    memory: int = 1 << 30
    """Bytes that a task may take."""


def plan_recipe(
    name: str,
    overrides: Sequence[str],
    machine: Machine,
    share: float | None,
    rates_file: Path | None,
    private_hosts: bool = False,
    trust: bool = False,
    say: Callable[[str], None] = lambda _: None,
    moves: Sequence[str] = (),
) -> tuple[CapacityPlan, Actual | None]:
    """A plan of a recipe; of a finished run, with what it took.

    The files are listed where they can be; else the recipe's `expected` stands for them, and rates come from the sample
    corpora.

    Args:
        private_hosts: lists and redirects may lead to addresses that are not public.
        trust: `name` is a run whose recipe may run code, and lead to such addresses.
        moves: places of data that moved, as `--data` takes them.

    Raises:
        ValueError: neither the files nor what to expect of them is known, or the device is not.
    """
    then = None
    if not is_own(name) and (run := stored_run(name)) is not None:
        paths = RunPaths(run)
        recipe = stored_recipe(paths.recipe, trust, rates_file is None, moves)[0]
        private_hosts = trust
        then = actual(paths)
        if overrides:
            raise ValueError("a run is planned with its own recipe; leave out --set, or name a recipe")
    else:
        recipe = resolve(name, overrides, moves=moves).recipe
    settings = curate_settings(recipe).reaching(private_hosts)
    if given := [s.corpus for s in settings.sources if s.format == TOKENS]:
        say(f"left out, for token ids take next to no time: {', '.join(given)}")
        settings = replace(settings, sources=tuple(s for s in settings.sources if s.format != TOKENS))
        if not settings.sources:
            raise ValueError(f"{name} has no source of text, whose work a plan is of")
    peak = peak_flops(machine.gpu)
    if peak is None:
        raise ValueError(f"--gpu {machine.gpu}: the peak of this GPU is not known; choose H100, H200 or A100")
    try:
        files = list_sources(settings.sources, settings.id_salt, private_hosts)
        unknown = not all(f.size for f in files)
    except ValueError:
        # A folder that is not there is an error; a store that cannot be reached is what `expected` is for.
        if not recipe.expected or any(s.root and "://" not in s.root for s in settings.sources):
            raise
        unknown, files = True, []
    if unknown and not {s.corpus for s in settings.sources} <= set(recipe.expected):
        raise ValueError(
            "the sizes of the files cannot be listed; give every corpus an entry in `expected`, or set FOX1_DATA to the data"
        )
    cores = then.cores if then and machine.cores is None else machine.cores
    if rates_file:
        rates = stored_rates(rates_file)
    else:
        rates = _measure(settings, share or SHARE, unknown, machine.nodes > 1, say)
    corpora = _expected(recipe) if unknown else corpora_of(files, rates)
    made = make_plan(
        settings,
        corpora,
        rates,
        _training(recipe, machine, peak),
        machine.nodes,
        cores or os.cpu_count() or 1,
        machine.memory,
    )
    return made, then


def _measure(settings: CurateSettings, share: float, unknown: bool, on_ray: bool, say: Callable[[str], None]) -> Rates:
    """Rates on a sample of the settings' files; where they are not here, on the sample corpora with the same rules.

    Args:
        on_ray: as the run will be, on a cluster; else it is in a pool of processes.
    """
    with tempfile.TemporaryDirectory(prefix="fox1-plan-") as folder:
        source = "a sample of the inputs"
        if unknown:
            source, share = "the sample corpora of this machine", 1.0
            say("the inputs cannot be listed here: making the sample corpora")
            write_sample(Path(folder) / "corpora")
            sample = load_recipe("sample", [], {"FOX1_DATA": str(Path(folder) / "corpora")})[0]
            rules = settings
            settings = replace(curate_settings(sample), filter=rules.filter, dedupe=rules.dedupe, mix=rules.mix)
        files = list_sources(settings.sources, settings.id_salt, settings.private_hosts)
        cores = os.cpu_count() or 1
        session = ray_session(None, cores) if on_ray else pool_session(cores)
        return measure(settings, files, share, session, cores, Path(folder), source, say)


def _expected(recipe: Recipe) -> list[CorpusEstimate]:
    found = []
    for name, e in recipe.expected.items():
        tokens = float(sum(e.survivors.values()))
        # Four bytes a token: published counts are of tokens, the second read of bytes.
        found.append(
            CorpusEstimate(
                name,
                e.files,
                e.stored,
                e.text,
                e.documents,
                4.0 * tokens,
                tokens,
                dict(e.survivors),
                e.source,
                # As large as they are on average; a listing knows the largest one.
                longest_text=e.text / max(e.files, 1),
            )
        )
    return found


def _training(recipe: Recipe, machine: Machine, peak: float) -> TrainingWorkload:
    settings = train_settings(recipe)
    phases = []
    for phase in settings.phases:
        longest = max(r.length for r in recipe.phases[phase.name].blocks)
        # One document a block, as throughput is usually stated; documents of a mixture are shorter and cost less.
        phases.append(
            (phase.name, phase.tokens, flops_per_token(settings.model, recipe.tokenizer.vocab_size, float(longest)))
        )
    return TrainingWorkload(tuple(phases), machine.gpus, machine.gpu, peak, machine.utilisation)
