"""From a checked recipe to the frozen settings of the parts."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from ..pipeline.curate import CurateSettings
from ..pipeline.dedupe.order import DedupeSettings
from ..pipeline.filter.judge import Exclusion, FilterSettings, Section
from ..pipeline.mix.budget import BlockRule, MixSettings, Phase, Weight
from ..pipeline.prepare.benchmarks import BenchmarkSettings
from ..pipeline.prepare.contamination import ContaminationSettings
from ..pipeline.prepare.quality import DomainSubsets, QualitySettings
from ..pipeline.signals.minhash import MinHashSettings
from ..pipeline.signals.plugins import PluginSettings
from ..pipeline.signals.scan import EditSettings, ScanSettings
from ..pipeline.sources.listing import SourceSettings
from ..tokenize.chat import TEMPLATES, Template
from ..tokenize.model import TokenizerSettings
from ..trainer.settings import ModelSettings, OptimizerSettings, PhaseTraining, ScheduleSettings, TrainSettings
from .curation import Weight as WeightOfRecipe
from .schema import Recipe


def _tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {
        k: tuple(v) if isinstance(v, list) else json.dumps(v, sort_keys=True) if k == "arguments" else v
        for k, v in values.items()
    }


def _pairs(names: list[str]) -> tuple[tuple[str, str], ...]:
    """`corpus/subset` as pairs."""
    return tuple((corpus, subset) for corpus, _, subset in (name.partition("/") for name in names))


def list_file(name: str) -> str:
    """A list file: one of the package's own by its bare name, else as given."""
    own = Path(__file__).parent / name
    return str(own) if Path(name).name == name and own.exists() else name


def sources_of(recipe: Recipe) -> tuple[SourceSettings, ...]:
    """Training sources, then held-out parts, which share the corpus name and, unless given, the root."""
    training = [SourceSettings(corpus=name, **_tuples(s.model_dump())) for name, s in recipe.sources.items()]
    held_out = []
    for name, part in recipe.held_out.items():
        source = _tuples(recipe.sources[name].model_dump())
        source |= {"files": tuple(part.files), "root": part.root or source["root"]}
        held_out.append(SourceSettings(corpus=name, held_out=True, **source))
    return (*training, *held_out)


def curate_settings(recipe: Recipe, limit: float = 1.0) -> CurateSettings:
    """What `curate` needs of a recipe."""
    phases = tuple(
        Phase(
            name,
            recipe.phase_tokens(name),
            tuple(_weight(w, WHOLE) for w in phase.weights),
            tuple(BlockRule(**_tuples(b.model_dump())) for b in phase.blocks),
            phase.prefer,
        )
        for name, phase in recipe.phases.items()
    )
    tokenizer = _tuples(recipe.tokenizer.model_dump())
    tokenizer["specials"] = tuple(sorted(tokenizer["specials"].items()))
    del tokenizer["chat_template"]
    tokenizer["chat"] = _chat_template(recipe)
    return CurateSettings(
        sources=sources_of(recipe),
        mix=MixSettings(phases, seed=recipe.seed, **_tuples(recipe.mix.model_dump())),
        scan=ScanSettings(
            MinHashSettings(**recipe.signals.minhash.model_dump()),
            EditSettings(
                tuple(recipe.edits.pii.items()),
                tuple((domain, tuple(rules)) for domain, rules in recipe.edits.lines.items()),
                recipe.contamination.action,
            ),
            recipe.contamination.ngram,
            tuple(
                PluginSettings(name, p.target, json.dumps(p.arguments, sort_keys=True), tuple(p.domains))
                for name, p in recipe.plugins.items()
            ),
        ),
        quality=QualitySettings(
            tuple(
                DomainSubsets(domain, _pairs(model.good), _pairs(model.ordinary))
                for domain, model in recipe.quality.items()
            )
        ),
        contamination=ContaminationSettings(
            tuple(
                BenchmarkSettings(name, **_tuples(b.model_dump()))
                for name, b in recipe.contamination.benchmarks.items()
                if b
            ),
            recipe.contamination.ngram,
            recipe.contamination.action,
        ),
        exclude_lists=tuple(recipe.exclude.lists),
        url_lists=tuple(list_file(name) for name in recipe.url_lists),
        filter=FilterSettings(
            tuple(
                Section(where, tuple((k, tuple(t) if isinstance(t, list) else t) for k, t in thresholds.items()))
                for where, thresholds in recipe.filters.items()
            ),
            tuple(Exclusion(**e.model_dump()) for e in recipe.licence.exclude),
            recipe.contamination.action == "drop",
            tuple(recipe.plugins),
        ),
        dedupe=_dedupe(recipe),
        tokenizer=TokenizerSettings(**tokenizer),
        seed=recipe.seed,
        id_salt=recipe.id_salt,
        max_bad_rows=recipe.max_bad_rows,
        limit=limit,
    )


def _chat_template(recipe: Recipe) -> Template:
    template = recipe.tokenizer.chat_template
    if isinstance(template, str):
        return TEMPLATES[template]
    return tuple((role, turn.before, turn.after) for role, turn in template.items())


WHOLE = Weight(1.0)
"""What a weight is part of that is part of none."""


def _weight(weight: WeightOfRecipe, group: Weight) -> Weight:
    """A weight with what it has from its group."""
    own = weight.model_dump(exclude={"within", "by", "temperature"}, exclude_none=True)
    own = {k: tuple(v) if isinstance(v, list) else v for k, v in own.items() if v != ""}
    here = replace(group, by=weight.by, temperature=weight.temperature, within=(), **own)
    return replace(here, within=tuple(_weight(w, here) for w in weight.within))


def _dedupe(recipe: Recipe) -> DedupeSettings:
    d = recipe.dedupe
    return DedupeSettings(
        priority=tuple(d.priority),
        jaccard=d.jaccard,
        containment=d.containment,
        fan_out=d.fan_out,
        scope=d.scope,
        exempt=tuple(d.exempt),
        url=tuple(d.url.corpora),
        url_rule=d.url.rule,
        excluded_copies=recipe.exclude.copies,
        near_limits=tuple(sorted(d.near_limits.items())),
    )


def train_settings(recipe: Recipe) -> TrainSettings:
    """What the trainer needs of a recipe; a run stores it as `training.json`."""
    t = recipe.training
    size = t.sizes[t.size]
    return TrainSettings(
        model=ModelSettings(**size.model.model_dump()),
        phases=tuple(
            PhaseTraining(name, recipe.phase_tokens(name), size.batch_tokens[name], index + 1)
            for index, name in enumerate(recipe.phases)
        ),
        micro_batch_tokens=size.micro_batch_tokens,
        optimizer=OptimizerSettings(**size.optimizer.model_dump()),
        schedule=ScheduleSettings(**size.schedule.model_dump()),
        seed=t.seed,
        checkpoint_every=_own(size.checkpoint_every, t.checkpoint_every),
        keep_last=t.keep_last,
        keep_every=t.keep_every,
        evaluate_every=_own(size.evaluate_every, t.evaluate_every),
        evaluate_blocks=_own(size.evaluate_blocks, t.evaluate_blocks),
        activation_checkpointing=t.activation_checkpointing,
        z_loss=t.z_loss,
        fp8_head=t.fp8_head,
        replicas=t.replicas,
        skip_sigma=t.skip_sigma,
        skip_window=t.skip_window,
        max_skipped=t.max_skipped,
        chat=_chat_template(recipe),
        add_bos=recipe.tokenizer.bos,
    )


def _own(of_size: int | None, of_training: int) -> int:
    """A size may have a pace of its own."""
    return of_training if of_size is None else of_size


def training_json(recipe: Recipe) -> dict[str, Any]:
    """What a run stores as `training.json`."""
    return asdict(train_settings(recipe))
