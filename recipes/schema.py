"""The recipe schema: every key, its type and its meaning; unknown keys are errors. Wraps the settings of the parts."""

from __future__ import annotations

import re
from collections.abc import Iterator

from pydantic import Field, model_validator

from ..pipeline.dedupe.order import DUPLICATES
from ..pipeline.filter.judge import ALL, LANGUAGES, signal_of
from ..pipeline.sources.domains import DOMAINS, SUBSET_DOMAINS
from .curation import (
    Contamination,
    Dedupe,
    Domain,
    Edits,
    Exclude,
    HeldOut,
    Licence,
    Mix,
    Phase,
    Plugin,
    QualityModel,
    Signals,
    Source,
    Strict,
    Thresholds,
    Tokenizer,
    Weight,
)
from .training import Training
from .units import Quantity, RowsOrShare

RESERVED_REASONS = (
    "excluded",
    "licence",
    "url",
    "contaminated",
    "held_out",
    *DUPLICATES,
    LANGUAGES,
)


def _all(weights: list[Weight]) -> Iterator[Weight]:
    for weight in weights:
        yield weight
        yield from _all(weight.within)


class Expected(Strict):
    """What is known of a corpus before it is read; `fox1 plan` uses it where the files cannot be listed."""

    files: int = Field(ge=1)
    stored: Quantity = Field(description="Bytes as stored.")
    text: Quantity = Field(description="Bytes of text.")
    documents: Quantity
    survivors: dict[Domain, Quantity] = Field({}, description="Domain -> tokens that filters and dedupe leave.")
    source: str = Field(description="Where the figures are from.")


class Recipe(Strict):
    """A whole recipe."""

    extends: str = Field("", description="A recipe this one changes; a name beside it or of the package.")
    name: str
    seed: int = 0
    id_salt: int = 0
    scale: float = Field(1.0, gt=0, description="Multiplies the phases' token budgets and nothing else.")
    total_tokens: Quantity = Field(0, description="What the phases' shares are shares of.")
    expected: dict[str, Expected] = Field({}, description="By corpus.")
    max_bad_rows: RowsOrShare = Field(0.001, description="Bad rows a corpus may have: a number, or a share.")
    sources: dict[str, Source] = Field(min_length=1)
    held_out: dict[str, HeldOut] = Field({})
    licence: Licence = Licence()
    signals: Signals = Signals()
    edits: Edits = Edits()
    quality: dict[Domain, QualityModel] = Field({})
    contamination: Contamination = Contamination()
    url_lists: list[str] = Field(
        [],
        description="Block lists of URL domains and words: the package's own by its bare name (blocked_urls.txt), others by "
        "a path (./mine.txt).",
    )
    exclude: Exclude = Exclude()
    plugins: dict[str, Plugin] = Field({})
    filters: dict[str, Thresholds] = Field(
        {}, description="Section (`all`, a domain, or corpus/subset) -> thresholds; the narrowest section counts."
    )
    dedupe: Dedupe = Dedupe()
    tokenizer: Tokenizer = Tokenizer()
    mix: Mix = Mix()
    phases: dict[str, Phase] = Field(min_length=1)
    training: Training

    @model_validator(mode="after")
    def _references(self) -> Recipe:
        def known(kind: str, where: str, names: list[str], valid: list[str]) -> None:
            for name in names:
                if name not in valid:
                    raise ValueError(
                        f"{where} names the {kind} {name!r}, which is not there; choose from {', '.join(valid)}"
                    )

        corpora, phases = list(self.sources), list(self.phases)
        for name in (*corpora, *phases):
            # Both become folders of the run.
            if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", name):
                raise ValueError(f"{name!r} cannot name a source or phase: use letters, digits, - and _")
        known("source", "held_out", list(self.held_out), corpora)
        known("source", "expected", list(self.expected), corpora)
        named = {
            "dedupe.priority": self.dedupe.priority,
            "dedupe.exempt": self.dedupe.exempt,
            "dedupe.near_limits": [n for n in self.dedupe.near_limits if n != ALL],
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
        for where in self.filters:
            corpus, slash, subset = where.partition("/")
            if slash:
                self._subset("filters", corpus, subset)
            elif where not in (ALL, *DOMAINS):
                raise ValueError(
                    f"filters has the section {where!r}; choose {ALL}, corpus/subset or {', '.join(DOMAINS)}"
                )
        for domain, model in self.quality.items():
            for entry in (*model.good, *model.ordinary):
                corpus, slash, subset = entry.partition("/")
                if not slash:
                    raise ValueError(f"quality.{domain}: write corpus/subset, not {entry!r}")
                self._subset(f"quality.{domain}", corpus, subset)
        for name in self.plugins:
            if name in RESERVED_REASONS or signal_of(name) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*", name):
                raise ValueError(f"{name!r} cannot name a plug-in: it is the reason of what it drops")
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
            known(
                "earlier claiming phase", f"{where}.weights.reuse", [p for w in pools for p in w.reuse or []], earlier
            )
            if isinstance(phase.tokens, float) and not self.total_tokens:
                raise ValueError(f"{where}.tokens is a share; give `total_tokens`")
        known("size", "training.size", [self.training.size], list(self.training.sizes))
        size = self.training.sizes[self.training.size]
        for name, phase in self.phases.items():
            if name not in size.batch_tokens:
                raise ValueError(f"training.sizes.{self.training.size}.batch_tokens has no {name}")
            batch, longest = size.batch_tokens[name], max(r.length for r in phase.blocks)
            if batch % longest or size.micro_batch_tokens % longest:
                raise ValueError(
                    f"{name}: batch and micro-batch tokens must be multiples of the longest block, {longest}"
                )
            if batch % size.micro_batch_tokens:
                raise ValueError(f"{name}: the batch of {batch} tokens is no multiple of the micro-batch")
            if self.phase_tokens(name) < batch:
                raise ValueError(
                    f"{name} has {self.phase_tokens(name):,} tokens, less than one batch of {batch:,}; raise `scale`"
                )
        return self

    def _subset(self, where: str, corpus: str, subset: str) -> None:
        """Refuse a subset that the table of its corpus does not know: a typo would let withdrawn text in."""
        if corpus not in self.sources:
            raise ValueError(f"{where} names the corpus {corpus!r}; choose from {', '.join(self.sources)}")
        known = SUBSET_DOMAINS.get(self.sources[corpus].format)
        if known is not None and subset not in known:
            raise ValueError(f"{where} names the subset {subset!r}; {corpus} has {', '.join(known)}")

    def phase_tokens(self, name: str) -> int:
        """The token budget of a phase, scaled."""
        tokens = self.phases[name].tokens
        whole = tokens * self.total_tokens if isinstance(tokens, float) else tokens
        return round(whole * self.scale)
