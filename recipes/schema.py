"""The recipe schema: every key, its type and its meaning; unknown keys are errors. The settings of the parts as they stand, and how
they refer to each other."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Annotated, Any

from pydantic import Field, model_validator

from ..pipeline.curate import CurateSettings
from ..pipeline.dedupe.order import DUPLICATES
from ..pipeline.extract.settings import StepSettings
from ..pipeline.filter.judge import ALL, LANGUAGES, signal_of
from ..pipeline.mix.budget import MixSettings, Phase, Weight
from ..pipeline.passages.settings import REASON as PASSAGES_CUT
from ..pipeline.prepare.quality import DomainSubsets
from ..pipeline.run.identity import TOKENS
from ..pipeline.signals.plugins import PluginSettings
from ..pipeline.signals.scan import EditSettings
from ..pipeline.signals.scores import PREFIX, ScoreSettings, is_score
from ..pipeline.sources.domains import CHAT, DOMAINS, SUBSET_DOMAINS, Domain
from ..pipeline.sources.listing import SourceSettings
from ..pipeline.tokens.given import CONTROL, EMPTY
from ..storage.fields import Bounds, Keyed, Quantity, quantity, share
from ..tune.settings import TuneSettings
from .curation import Contamination, Dedupe, Exclude, HeldOutParts, Licence, Signals, Strict, Thresholds, Tokenizer
from .json_schema import RecipeJsonSchema
from .sections import Place, place_of
from .training import Training
from .units import RowsOrShare

RESERVED_PHASES = ("held_out", "all")
"""Words that `trace`, `dump` and `train` take beside the names of phases, as they take numbers."""
RESERVED_REASONS = (
    "excluded",
    "licence",
    "url",
    "contaminated",
    "held_out",
    CONTROL,
    EMPTY,
    *DUPLICATES,
    PASSAGES_CUT,
    LANGUAGES,
)


GIVEN_BY_A_GROUP = (
    *("domain", "corpus", "subset", "if_present", "max_epochs", "top", "below", "min_quality"),
    *("repeat", "reuse"),
)
"""What the pools of a group have from it, unless they say otherwise (null and "" say nothing)."""


def _all(weights: Iterable[Weight]) -> Iterator[Weight]:
    for weight in weights:
        yield weight
        yield from _all(weight.within)


def _spread(weights: Any, group: Mapping[str, Any]) -> Any:
    """Weights as written, with what they have from their group."""
    if not isinstance(weights, list):
        return weights
    spread = []
    for weight in weights:
        if isinstance(weight, Mapping):
            own = {k: v for k, v in weight.items() if k not in GIVEN_BY_A_GROUP or v not in (None, "")}
            weight = {**group, **own}
            if "within" in weight:
                below = {k: weight[k] for k in GIVEN_BY_A_GROUP if k in weight}
                weight["within"] = _spread(weight["within"], below)
        spread.append(weight)
    return spread


def _absolute(where: str, tokens: Any, total: Any) -> Any:
    """A phase's tokens as a number, if a share is what is written; else what is written."""
    with suppress(ValueError):
        return quantity(tokens)
    try:
        part = share(tokens)
    except ValueError as error:
        if "%" in str(tokens):
            raise ValueError(f"{where}: {error}") from None
        return tokens
    if not total:
        raise ValueError(f"{where} is a share; give `total_tokens`")
    return round(part * quantity(total))


class Expected(Strict):
    """What is known of a corpus before it is read; `fox1 plan` uses it where the files cannot be listed."""

    files: Annotated[int, Bounds(ge=1)]
    """Number of files."""
    stored: Quantity
    """Bytes as stored."""
    text: Quantity
    """Bytes of text."""
    documents: Quantity
    """Number of documents."""
    survivors: dict[Domain, Quantity] = Field({})
    """Domain and the tokens that filters and dedupe leave of it."""
    source: str
    """Where the figures are from."""


class Recipe(Strict):
    """A whole recipe."""

    extends: str = ""
    """A recipe that this one changes; a name beside it or of the package."""
    name: str
    """What the recipe is called."""
    seed: int = CurateSettings.seed
    """Chooses samples, and which documents a phase takes."""
    id_salt: int = CurateSettings.id_salt
    """Changes all document ids, where two files' ids collide."""
    scale: Annotated[float, Bounds(gt=0)] = 1.0
    """Multiplies the phases' token budgets and nothing else."""
    total_tokens: Quantity = 0
    """What the phases' shares are shares of."""
    expected: dict[str, Expected] = Field({})
    """By corpus, what is known before it is read."""
    max_bad_rows: RowsOrShare = CurateSettings.max_bad_rows
    """Bad rows a corpus may have: a number, or a share. Stored bytes that damage made unreadable count as the rows that so
    many bytes hold; a file that ends too early is taken to miss as much as there is of it, and at least a mean file."""
    sources: Annotated[dict[str, SourceSettings], Keyed("corpus"), Bounds(min_length=1)]
    """Corpora by name; null takes one out, with all that is said of it by name."""
    held_out: HeldOutParts = HeldOutParts()
    """By source, files that validation reads; `carve`: documents of every domain that are set apart for it; `items`:
    benchmark items."""
    before_scan: Annotated[dict[str, StepSettings | None], Keyed("name")] = Field({})
    """Steps of a datatrove pipeline between the sources and the scan, in order; the name of each is the reason of what it drops.
    Null takes one out."""
    licence: Licence = Licence()
    """Subsets that may not be used."""
    signals: Signals = Signals()
    """What scan stores."""
    edits: EditSettings = EditSettings()
    """What is cut from the text or replaced in it."""
    quality: Annotated[dict[Domain, DomainSubsets], Keyed("domain")] = Field({})
    """By domain, what a quality model learns from, or a score that is the quality; without either a formula judges."""
    scores: Annotated[dict[str, ScoreSettings], Keyed("name")] = Field({})
    """Scores of others by name: fastText classifiers, and columns of files. Filters bound them as min_score_NAME and
    max_score_NAME."""
    contamination: Contamination = Contamination()
    """Benchmarks that training must not have seen."""
    url_lists: tuple[str, ...] = ()
    """Block lists of domains, pages, words and parts of URLs: the package's own by its bare name (blocked_urls.txt), others
    by a path (./mine.txt)."""
    exclude: Exclude = Exclude()
    """Documents to take out."""
    plugins: Annotated[dict[str, PluginSettings], Keyed("name")] = Field({})
    """Filters of other makers by name, which is the reason of what they drop."""
    filters: dict[str, Thresholds] = Field({})
    """Section (`all`, a domain, a language, domain/language, or corpus/subset) and its thresholds; of these the last, which
    is the narrowest, counts."""
    dedupe: Dedupe = Dedupe()
    """What is a duplicate."""
    tokenizer: Tokenizer = Tokenizer()
    """How text becomes tokens."""
    mix: MixSettings = MixSettings()
    """How documents become blocks."""
    phases: Annotated[dict[str, Phase], Keyed("name"), Bounds(min_length=1)]
    """The curriculum, in order."""
    training: Training
    """The model and how it is trained."""
    tune: TuneSettings = TuneSettings()
    """How `fox1 tune` searches for the weights of the pools."""

    @classmethod
    def model_json_schema(cls, *arguments: Any, **options: Any) -> dict[str, Any]:
        return super().model_json_schema(*arguments, **{"schema_generator": RecipeJsonSchema, **options})

    @model_validator(mode="before")
    @classmethod
    def _write_out(cls, value: Any) -> Any:
        """With what pools have from their group, and shares of `total_tokens` as tokens."""
        phases = value.get("phases") if isinstance(value, Mapping) else None
        if not isinstance(phases, Mapping):
            return value
        written = {}
        for name, phase in phases.items():
            if isinstance(phase, Mapping):
                phase = {**phase, "weights": _spread(phase["weights"], {})} if "weights" in phase else dict(phase)
                if "tokens" in phase:
                    where = f"phases.{name}.tokens"
                    phase["tokens"] = _absolute(where, phase["tokens"], value.get("total_tokens"))
            written[name] = phase
        return {**value, "phases": written}

    @model_validator(mode="after")
    def _references(self) -> Recipe:
        def known(kind: str, where: str, names: Iterable[str], valid: Sequence[str]) -> None:
            for name in names:
                if name not in valid:
                    raise ValueError(
                        f"{where} names the {kind} {name!r}, which does not exist; choose from {', '.join(valid)}"
                    )

        corpora, phases, domains = list(self.sources), list(self.phases), self.domains
        for name in (*corpora, *phases):
            # Both become folders of the run.
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"{name!r} cannot name a source or phase: use letters, digits, - and _")
        for name in phases:
            if name in RESERVED_PHASES or name.isdigit():
                raise ValueError(
                    f"{name!r} cannot name a phase: commands take the word for something else; choose another"
                )
        if not self.tokenizer.model and (given := next((n for n, s in self.sources.items() if s.format == TOKENS), "")):
            raise ValueError(f"sources.{given} holds token ids; set `tokenizer.model` to the model that made them")
        known("source", "held_out", list(self.held_out.files), corpora)
        if self.held_out.items and not self.contamination.benchmarks:
            raise ValueError("held_out.items measures items of `contamination.benchmarks`, which names none; name some")
        if self.held_out.items and not (self.held_out.carve or self.held_out.files):
            raise ValueError("held_out.items needs held-out documents beside it; name files of a source, or `carve`")
        known("source", "expected", list(self.expected), corpora)
        for step in self.steps:
            known("source", f"before_scan.{step.name}.sources", step.sources, corpora)
            chats = [name for name in corpora if step.serves(name) and self.sources[name].format == CHAT]
            if chats:
                raise ValueError(
                    f"before_scan.{step.name} would be given the conversations of {chats[0]}, which are no plain text; name "
                    "the other sources in its `sources`"
                )
        named = {
            "dedupe.priority": self.dedupe.priority,
            "dedupe.exempt": self.dedupe.exempt,
            "dedupe.near_limits": [n for n, _ in self.dedupe.near_limits if n != ALL],
        }
        for where, names in named.items():
            known("corpus", where, [n.split("/")[0] for n in names], corpora)
            for name in names:
                if "/" in name:
                    self._subset(where, *name.split("/", 1))
        known("corpus", "dedupe.url.corpora", self.dedupe.url.corpora, corpora)
        known("phase", "mix.claim_order", self.mix.claim_order, phases)
        if self.mix.claim_order and sorted(self.mix.claim_order) != sorted(phases):
            raise ValueError(f"mix.claim_order must name every phase once: {', '.join(phases)}")
        for i, exclusion in enumerate(self.licence.exclude):
            self._subset(f"licence.exclude.{i}", exclusion.corpus, exclusion.subset)
        for section in self.filters:
            if "/" in (where := self.place(section).where):
                self._subset("filters", *where.split("/", 1))
        for where, name in self._named_domains():
            if name not in domains:
                raise ValueError(
                    f"{where} names the domain {name!r}, which no source has; choose from {', '.join(domains)}"
                )
        for domain, model in self.quality.items():
            for corpus, subset in (*model.good, *model.ordinary):
                self._subset(f"quality.{domain}", corpus, subset)
        self._scores(known, corpora)
        for kind, names in (("a plug-in", list(self.plugins)), ("a step", [s.name for s in self.steps])):
            for name in names:
                if name in RESERVED_REASONS or signal_of(name) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                    raise ValueError(
                        f"{name!r} cannot name {kind}: choose letters, digits and _, and no reason that fox1 itself gives"
                    )
        if both := next((step.name for step in self.steps if step.name in self.plugins), ""):
            raise ValueError(
                f"{both!r} names a plug-in and a step of before_scan; each name is a reason, so rename one"
            )
        for name, phase in self.phases.items():
            where = f"phases.{name}"
            pools = list(_all(phase.weights))
            known("corpus", f"{where}.weights", [w.corpus for w in pools if w.corpus], corpora)
            for corpus in (c for r in phase.blocks for c in r.corpora):
                known("corpus", f"{where}.blocks", [corpus.split("/")[0]], corpora)
                if "/" in corpus:
                    self._subset(f"{where}.blocks", *corpus.split("/", 1))
            for weight in pools:
                if weight.corpus and weight.subset:
                    self._subset(f"{where}.weights", weight.corpus, weight.subset)
            claims = self.mix.claim_order or phases[::-1]
            earlier = claims[: claims.index(name)]
            known("earlier claiming phase", f"{where}.weights.reuse", [p for w in pools for p in w.reuse], earlier)
        known("size", "training.size", [self.training.size], list(self.training.sizes))
        size = self.training.chosen
        if size.schedule.decay_from is not None:
            known(
                "phase", f"training.sizes.{self.training.size}.schedule.decay_from", [size.schedule.decay_from], phases
            )
        for name, phase in self.phases.items():
            if name not in size.batch_tokens:
                raise ValueError(f"training.sizes.{self.training.size}.batch_tokens has no {name}")
            batch, longest = size.batch_tokens[name], max(r.length for r in phase.blocks)
            if batch % longest or size.micro_batch_tokens % longest:
                raise ValueError(
                    f"{name}: batch and micro-batch tokens must be multiples of the longest block, {longest}"
                )
            if batch % size.micro_batch_tokens:
                raise ValueError(
                    f"{name}: the batch of {batch} tokens is not a multiple of the micro-batch of {size.micro_batch_tokens}"
                )
            if self.phase_tokens(name) < batch:
                raise ValueError(
                    f"{name} has {self.phase_tokens(name):,} tokens, less than one batch of {batch:,}; raise `scale`"
                )
        return self

    def _scores(self, known: Callable[[str, str, Iterable[str], Sequence[str]], None], corpora: list[str]) -> None:
        """Raise ValueError where a score has no name, or is used and is none."""
        for name, score in self.scores.items():
            if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} cannot name a score: use letters, digits and _")
            known("corpus", f"scores.{name}.corpora", score.corpora, corpora)
        names = list(self.scores) or ["none: the recipe has no `scores`"]
        for where, thresholds in self.filters.items():
            used = (signal_of(key) for key in thresholds)
            known("score", f"filters.{where}", [s.removeprefix(PREFIX) for s in used if is_score(s)], names)
        for domain, model in self.quality.items():
            if not model.score:
                continue
            known("score", f"quality.{domain}.score", [model.score], names)
            score = self.scores[model.score]
            if score.domains and domain not in score.domains:
                raise ValueError(
                    f"quality.{domain}.score is {model.score}, which has no documents of {domain} (`domains`)"
                )
            if score.bounds is None:
                raise ValueError(
                    f"quality.{domain}.score: give scores.{model.score} the scores that are the `worst` and the `best`, such as "
                    "{worst: 0, best: 5}"
                )

    @property
    def steps(self) -> tuple[StepSettings, ...]:
        """The steps before the scan, in order."""
        return tuple(step for step in self.before_scan.values() if step)

    @property
    def domains(self) -> list[str]:
        """Those of the table, and those of the recipe's own sources."""
        return list(dict.fromkeys([*DOMAINS, *(s.domain for s in self.sources.values() if s.domain)]))

    def place(self, section: str) -> Place:
        """The documents of a section of filters."""
        return place_of(section, self.sources, self.domains)

    def _named_domains(self) -> Iterator[tuple[str, str]]:
        """(where, domain) of all that are named besides sections of filters."""
        yield from (("quality", domain) for domain in self.quality)
        yield from (("edits.lines", domain) for domain, _ in self.edits.lines)
        yield from ((f"scores.{name}", domain) for name, score in self.scores.items() for domain in score.domains)
        yield from ((f"plugins.{name}", domain) for name, plugin in self.plugins.items() for domain in plugin.domains)
        yield from ((f"expected.{name}", domain) for name, known in self.expected.items() for domain in known.survivors)
        for name, phase in self.phases.items():
            for i, weight in enumerate(phase.weights):
                yield from ((f"phases.{name}.weights.{i}.domain", w.domain) for w in _all([weight]) if w.domain)
            yield from ((f"phases.{name}.blocks", domain) for rule in phase.blocks for domain in rule.domains)

    def _subset(self, where: str, corpus: str, subset: str) -> None:
        """Refuse a subset that the table of its corpus does not know: a typo would let withdrawn text in."""
        if corpus not in self.sources:
            raise ValueError(f"{where} names the corpus {corpus!r}; choose from {', '.join(self.sources)}")
        known = SUBSET_DOMAINS.get(self.sources[corpus].format)
        if known is not None and subset not in known:
            raise ValueError(f"{where} names the subset {subset!r}; {corpus} has {', '.join(known)}")

    def phase_tokens(self, name: str) -> int:
        """The token budget of a phase, scaled."""
        return round(self.phases[name].tokens * self.scale)
