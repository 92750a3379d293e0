"""From a checked recipe to the frozen settings of the parts: each is given what it acts on, and nothing else."""

from __future__ import annotations

from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from ..pipeline.carve.settings import Carve
from ..pipeline.curate import CurateSettings
from ..pipeline.dedupe.order import DedupeSettings
from ..pipeline.filter.judge import FilterSettings, Section, signal_of
from ..pipeline.mix.items import ItemSettings
from ..pipeline.prepare.contamination import ContaminationSettings
from ..pipeline.prepare.quality import QualitySettings
from ..pipeline.signals.scan import ScanSettings
from ..pipeline.sources.listing import SourceSettings
from ..tokenize.model import TokenizerSettings
from ..trainer.settings import PhaseTraining, Routine, TrainSettings
from .schema import Recipe

T = TypeVar("T")


def _plain(kind: type[T], value: T, **changes: Any) -> T:
    """Settings without what a form of the recipe adds to them."""
    return kind(**{f.name: getattr(value, f.name) for f in fields(kind)} | changes)  # type: ignore[arg-type]


def list_file(name: str) -> str:
    """A list file: one of the package's own by its bare name, else as given."""
    own = Path(__file__).parent / name
    return str(own) if Path(name).name == name and own.exists() else name


def sources_of(recipe: Recipe) -> tuple[SourceSettings, ...]:
    """Training sources, then held-out parts, which share the corpus name and, unless given, the root."""
    held_out = [
        replace(source, files=part.files, root=part.root or source.root, held_out=True)
        for source, part in ((recipe.sources[name], part) for name, part in recipe.held_out.files.items())
    ]
    return (*recipe.sources.values(), *held_out)


def curate_settings(recipe: Recipe, limit: float = 1.0) -> CurateSettings:
    """What `curate` needs of a recipe."""
    contamination = recipe.contamination
    bounded = {signal_of(key) for thresholds in recipe.filters.values() for key in thresholds}
    return CurateSettings(
        sources=sources_of(recipe),
        mix=replace(
            recipe.mix,
            phases=tuple(replace(phase, tokens=recipe.phase_tokens(name)) for name, phase in recipe.phases.items()),
            seed=recipe.seed,
        ),
        carve=_plain(Carve, recipe.held_out.carve) if recipe.held_out.carve else None,
        items=_plain(ItemSettings, recipe.held_out.items) if recipe.held_out.items else None,
        before_scan=recipe.steps,
        scan=ScanSettings(
            recipe.signals.minhash,
            replace(recipe.edits, cut_contamination=contamination.action == "cut"),
            tuple(recipe.plugins.values()),
        ),
        quality=QualitySettings(tuple(q for q in recipe.quality.values() if not q.score)),
        scores=tuple(recipe.scores.values()),
        ranking=tuple(sorted((domain, q.score) for domain, q in recipe.quality.items() if q.score)),
        contamination=_plain(ContaminationSettings, contamination),
        exclude_lists=recipe.exclude.lists,
        url_lists=tuple(list_file(name) for name in recipe.url_lists),
        filter=FilterSettings(
            tuple(
                Section(
                    place.where,
                    tuple((k, tuple(t) if isinstance(t, list) else t) for k, t in thresholds.items()),
                    place.language,
                )
                for place, thresholds in ((recipe.place(s), t) for s, t in recipe.filters.items())
            ),
            recipe.licence.exclude,
            contamination.action == "drop",
            tuple(name for name, plugin in recipe.plugins.items() if plugin.drop),
            tuple(s for s in recipe.scores.values() if s.column in bounded),
            tuple(step.name for step in recipe.steps),
        ),
        dedupe=_plain(DedupeSettings, recipe.dedupe, excluded_copies=recipe.exclude.copies),
        tokenizer=_plain(TokenizerSettings, recipe.tokenizer, chat=recipe.tokenizer.template),
        seed=recipe.seed,
        id_salt=recipe.id_salt,
        max_bad_rows=recipe.max_bad_rows,
        near_limits=recipe.dedupe.near_limits,
        passages=recipe.dedupe.passages,
        limit=limit,
    )


def train_settings(recipe: Recipe) -> TrainSettings:
    """What the trainer needs of a recipe; a run stores it as `training.json`."""
    size = recipe.training.chosen
    routine: dict[str, Any] = {f.name: getattr(recipe.training, f.name) for f in fields(Routine)}
    own = {name: getattr(size, name, None) for name in routine}
    return TrainSettings(
        model=size.model,
        phases=tuple(
            PhaseTraining(name, recipe.phase_tokens(name), size.batch_tokens[name], index + 1)
            for index, name in enumerate(recipe.phases)
        ),
        micro_batch_tokens=size.micro_batch_tokens,
        optimizer=size.optimizer,
        schedule=size.schedule,
        **routine | {name: value for name, value in own.items() if value is not None},
        chat=recipe.tokenizer.template,
        add_bos=recipe.tokenizer.bos,
    )


def training_json(recipe: Recipe) -> dict[str, Any]:
    """What a run stores as `training.json`."""
    return asdict(train_settings(recipe))
