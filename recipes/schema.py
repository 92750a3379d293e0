"""The recipe schema: every key, its type and its meaning; unknown keys are errors. Wraps the settings of the parts."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from ..pipeline.filter import ALL, LANGUAGES, signal_of
from ..pipeline.prepare.benchmarks import ADAPTERS as BENCHMARK_ADAPTERS
from ..pipeline.signals.c4 import LINE_RULES
from ..pipeline.signals.pii import KINDS
from ..pipeline.signals.ratios import SIGNALS
from ..pipeline.sources.domains import DOMAINS, SUBSET_DOMAINS
from ..pipeline.sources.rows import ADAPTERS
from ..tokenize.chat import LEARNED, MARKS, TEMPLATES
from .presets import PRESETS
from .units import Quantity, RowsOrShare, Share

THRESHOLDS = [f"{bound}_{signal}" for signal in sorted(SIGNALS) for bound in ("min", "max")]
RESERVED_REASONS = (
    "excluded",
    "licence",
    "url",
    "contaminated",
    "held_out",
    "exact_duplicate",
    "near_duplicate",
    LANGUAGES,
)

Domain = Literal[DOMAINS]  # type: ignore[valid-type]


class Strict(BaseModel):
    """Unknown keys are errors; a typo must never be a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Source(Strict):
    """Where a corpus lies."""

    format: Literal[tuple(ADAPTERS)] = Field(  # type: ignore[valid-type]
        description="How rows are written; `huggingface` takes columns text, id and url, `datatrove` a `reader`, `chat` "
        "conversations."
    )
    root: str = Field("", description="Folder or fsspec URL (s3://, https://, hf://datasets/...); ${VAR} is replaced.")
    files: list[str] = Field(["**/*"], description="Globs over paths relative to the root.")
    urls: str = Field("", description="A list of file URLs; used where no local root is given.")
    revision: str = Field("", description="Of a hub data set; resolved to a commit when a run is planned.")
    dataset: str = Field("", description="Name of a data set to stream through `datasets`, instead of root and files.")
    config: str = ""
    split: str = "train"
    reader: str = Field("", description="A datatrove reader of files, e.g. datatrove.pipeline.readers.CSVReader.")
    arguments: dict[str, Any] = Field({}, description="Arguments of the reader besides its folder.")

    @model_validator(mode="after")
    def _somewhere(self) -> Source:
        if not (self.root or self.urls or self.dataset):
            raise ValueError("give `root`, `urls` or `dataset`")
        if self.dataset and self.format != "huggingface":
            raise ValueError("a streamed `dataset` needs `format: huggingface`")
        if bool(self.reader) != (self.format == "datatrove"):
            raise ValueError("`format: datatrove` and `reader` belong together")
        if self.reader and not self.root:
            raise ValueError("a `reader` needs `root`, the folder it reads")
        return self


class HeldOut(Strict):
    """Files that never reach the phases; the other facts are those of the source of the same name."""

    files: list[str]
    root: str = ""


class Exclusion(Strict):
    corpus: str
    subset: str
    why: str = ""


class Licence(Strict):
    exclude: list[Exclusion] = []


class Exclude(Strict):
    """Documents to take out, e.g. on request of whoever they are about."""

    lists: list[str] = Field(
        [], description="Files or URLs with one corpus/file#row, https://..., id:NATIVE_ID or hash:CONTENT_HASH a line."
    )
    copies: bool = Field(True, description="Take their exact and verified near copies out, too.")


class MinHash(Strict):
    unit: Literal["word", "char"] = Field("word", description="What an n-gram counts.")
    ngram: int = Field(
        5, ge=1, le=32, description="Units of a shingle. FineWeb: word, 5, 14 x 8; SlimPajama: char, 13, 9 x 13."
    )
    bands: int = Field(14, ge=1, le=64)
    rows: int = Field(8, ge=1, le=512)
    sketch_size: int = Field(128, ge=16, le=4096, description="k of the bottom-k verification sketch.")
    seed: int = 1


class Signals(Strict):
    minhash: MinHash = MinHash()


class Edits(Strict):
    """What is cut from the text or replaced in it."""

    pii: dict[Literal[KINDS], str] = Field({}, description="Kind of personal data -> the placeholder that replaces it.")  # type: ignore[valid-type]
    lines: dict[Domain, list[Literal[LINE_RULES]]] = Field({}, description="Domain -> C4 rules that drop its lines.")  # type: ignore[valid-type]


class QualityModel(Strict):
    """A domain's quality model learns to tell good subsets from ordinary ones; each is corpus/subset."""

    good: list[str] = Field(min_length=1)
    ordinary: list[str] = Field(min_length=1)


class Benchmark(Strict):
    """Items that training must not have seen."""

    format: Literal[tuple(BENCHMARK_ADAPTERS)]  # type: ignore[valid-type]
    files: list[str] = Field([], description="Paths, globs or URLs of JSON lines or CSV files.")
    dataset: str = Field("", description="Name of a data set to read through `datasets`, instead of files.")
    config: str = ""
    split: str = "test"
    revision: str = ""

    @model_validator(mode="after")
    def _somewhere(self) -> Benchmark:
        if bool(self.files) == bool(self.dataset):
            raise ValueError("give `files` or `dataset`")
        return self


class Contamination(Strict):
    ngram: int = Field(13, ge=4, le=32, description="Words that a document and an item must share in a row.")
    action: Literal["drop", "cut", "keep"] = Field(
        "drop", description="Drop the document, cut the shared span, or only count."
    )
    benchmarks: dict[str, Benchmark | None] = Field({}, description="By name; null switches one off.")


class Plugin(Strict):
    """A datatrove filter class or a function (text, row) -> bool | reason; one Python call per document: slow."""

    target: str = Field(description="Dotted path, e.g. datatrove.pipeline.filters.RegexFilter.")
    arguments: dict[str, Any] = {}
    domains: list[Domain] = []


def _thresholds(value: Any) -> dict[str, float | list[str] | None]:
    if not isinstance(value, dict):
        raise ValueError("a section is a mapping of thresholds, such as {min_words: 50}")
    for key, threshold in value.items():
        if key == LANGUAGES:
            if threshold is not None and not (
                isinstance(threshold, list) and all(isinstance(t, str) for t in threshold)
            ):
                raise ValueError("languages: a list such as [en]")
        elif not signal_of(str(key)):
            close = difflib.get_close_matches(str(key), THRESHOLDS, 1)
            raise ValueError(
                f"no threshold {key!r}" + (f" (did you mean `{close[0]}`?)" if close else "; see docs/recipes.md")
            )
        elif threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
            raise ValueError(f"{key}: {threshold!r} is not a number")
    return value


Thresholds = Annotated[
    dict[str, Any],
    BeforeValidator(_thresholds),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                LANGUAGES: {"type": ["array", "null"], "items": {"type": "string"}},
                **{key: {"type": ["number", "null"]} for key in THRESHOLDS},
            },
        }
    ),
]
"""`min_<signal>`, `max_<signal>` or `languages`; null lifts the threshold of a wider section."""


class UrlDedupe(Strict):
    """Equal URLs."""

    corpora: list[str] = Field([], description="Corpora in which an equal URL makes two documents candidates.")
    rule: Literal["candidates", "newest"] = Field(
        "candidates", description="`newest`: only the newest document of a URL stays, compared or not."
    )


class Dedupe(Strict):
    preset: Literal["", *PRESETS] = Field("", description="Published practice; sets signals.minhash, too.")  # type: ignore[valid-type]
    priority: list[str] = Field([], description="Corpora (or corpus/subset), best first: which copy survives.")
    jaccard: Share = Field(0.8, description="Estimated similarity from which a pair counts as duplicates.")
    containment: Share = Field(
        1.0, description="A document goes, too, if more than this share of its shingles is in a better one; 1: never."
    )
    fan_out: int = Field(32, ge=1, le=1024, description="Members of a bucket that the others are compared with.")
    scope: Literal["all", "within", "across"] = Field(
        "all", description="Duplicates of any corpora, of the same corpus only, or of different corpora only."
    )
    exempt: list[str] = Field([], description="Corpora or corpus/subset that take no part, held-out copies apart.")
    url: UrlDedupe = UrlDedupe()
    near_limits: dict[str, Share] = Field(
        {"all": 0.95},
        description="all, corpus or corpus/subset -> share that near-dedupe may drop before the run stops.",
    )

    @model_validator(mode="after")
    def _newest_has_a_direction(self) -> Dedupe:
        if self.url.rule == "newest" and self.scope == "across":
            raise ValueError("`url.rule: newest` drops within a corpus, too; use the scope `all` or `within`")
        return self


class Turn(Strict):
    """What a chat template puts around what a role says; literals of `reserved` become the model's pieces."""

    before: str
    after: str = ""


class Tokenizer(Strict):
    model: str = Field("", description="Path of a SentencePiece .model; empty: train one from the run's text.")
    vocab_size: Quantity = 16_000
    sample_bytes: Quantity = 32 << 20
    reserved: list[str] = ["<start_of_turn>", "<end_of_turn>"]
    chat_template: str | dict[str, Turn] = Field(
        "gemma", description="For sources of format `chat`: gemma, chatml, or what stands around each role's turns."
    )
    bos: bool = True
    eos: bool = True
    specials: dict[Literal["pad", "eos", "bos", "unk"], int] = Field(
        {}, description="Ids the model must have (-1: none); a model with others is refused."
    )

    @model_validator(mode="after")
    def _template(self) -> Tokenizer:
        if isinstance(self.chat_template, str):
            if self.chat_template not in TEMPLATES:
                raise ValueError(f"no chat template {self.chat_template!r}; choose {', '.join(TEMPLATES)} or write one")
        elif unknown := [role for role in self.chat_template if role not in MARKS]:
            raise ValueError(f"chat_template names the role {unknown[0]!r}; choose from {', '.join(MARKS)}")
        elif LEARNED not in self.chat_template:
            raise ValueError(f"chat_template needs the role {LEARNED}: its turns are what is trained on")
        return self


class Weight(Strict):
    """A pool, or a group of pools that divide its share (`within`, or `by`). Pools have what their group says."""

    weight: float = Field(gt=0)
    domain: Domain | Literal[""] = ""
    corpus: str = ""
    subset: str = ""
    if_present: bool | None = Field(None, description="An empty pool gives its share to the others.")
    max_epochs: float | None = Field(None, ge=1, le=63, description="How often a document may be used; default 1.")
    top: Share | None = Field(None, description="Only this share of the domain's tokens, best quality first.")
    min_quality: Share | None = Field(None, description="Only documents of at least this quality, 0 to 1.")
    reuse: list[str] | None = Field(
        None, description="Phases that claim documents before this one and whose documents this pool may take again."
    )
    by: Literal["", "domain", "corpus", "subset"] = Field(
        "", description="One pool for each of these that the run holds, weighed by its tokens."
    )
    temperature: float = Field(1.0, gt=0, description="With `by`: n tokens weigh n ** (1 / temperature).")
    within: list[Weight] = Field([], description="Pools that divide this weight's share; weights count among them.")

    @model_validator(mode="after")
    def _a_group_is_one_thing(self) -> Weight:
        if self.by and self.within:
            raise ValueError("a weight has `by` or `within`, not both")
        if self.temperature != 1 and not self.by:
            raise ValueError("`temperature` needs `by`: domain, corpus or subset")
        for pool in self.within:
            for key in ("domain", "corpus", "subset"):
                mine, its = getattr(self, key), getattr(pool, key)
                if mine and its and mine != its:
                    raise ValueError(f"a pool of {key} {its} cannot lie within one of {mine}")
        return self


class BlockRule(Strict):
    length: Quantity
    min_tokens: Quantity = 0
    domains: list[Domain] = []
    corpora: list[str] = []
    fill: Share = 0.0

    @model_validator(mode="after")
    def _length(self) -> BlockRule:
        if not 64 <= self.length <= 65_536 or self.length & (self.length - 1):
            raise ValueError(f"block length {self.length} is not a power of two between 64 and 65,536")
        return self


class Phase(Strict):
    tokens: Quantity | Share = Field(description="Absolute (62B), or a share of `total_tokens` (39%).")
    prefer: Literal["any", "long", "quality"] = "any"
    weights: list[Weight] = Field(min_length=1)
    blocks: list[BlockRule] = Field(min_length=1)

    @model_validator(mode="after")
    def _last_rule_takes_all(self) -> Phase:
        last = self.blocks[-1]
        if last.domains or last.corpora or last.min_tokens:
            raise ValueError("the last entry of `blocks` must take every document: only a `length`")
        return self


class Mix(Strict):
    packing: Literal["best_fit", "concatenate"] = "best_fit"
    tokens_per_segment: int = Field(32, ge=1, description="A block of L tokens holds at most L / this segments.")
    claim_order: list[str] = Field([], description="Phases in the order they claim documents; empty: last first.")
    held_out_block_length: Quantity = 0


class Optimizer(Strict):
    learning_rate: float = Field(gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.1
    clip_norm: float = 1.0


class Schedule(Strict):
    warmup_steps: int = Field(ge=0)
    decay_share: Share = Field(0.1, description="Share of all steps, at the end, over which the rate falls to zero.")


class ModelShape(Strict):
    """Shapes of a Fox-1; see trainer/model.py."""

    layers: int
    hidden: int
    intermediate: int
    heads: int
    kv_heads: int
    head_dim: int
    max_positions: int = 8192
    rope_theta: float = 10_000.0
    norm_eps: float = 1e-5
    init_std: float = 0.02


class Size(Strict):
    """A model size: its shape, and the batches and schedule that belong to it."""

    model: ModelShape
    batch_tokens: dict[str, Quantity] = Field(description="Phase -> tokens of a batch.")
    micro_batch_tokens: Quantity
    optimizer: Optimizer
    schedule: Schedule
    checkpoint_every: int | None = Field(None, ge=1, description="In place of the training's.")
    evaluate_every: int | None = Field(None, ge=0, description="In place of the training's.")
    evaluate_blocks: int | None = Field(None, ge=1, description="In place of the training's.")


class Training(Strict):
    size: str = Field(description="Which of `sizes` is trained.")
    sizes: dict[str, Size]
    seed: int = 1
    checkpoint_every: int = Field(1000, ge=1, description="Steps between checkpoints.")
    keep_last: int = Field(2, ge=2)
    keep_every: int = Field(0, ge=0, description="Steps between checkpoints that are kept for good; 0: none.")
    evaluate_every: int = Field(500, ge=0, description="Steps between held-out evaluations; 0: at phase ends only.")
    evaluate_blocks: int = Field(512, ge=1, description="Held-out blocks of an evaluation.")
    activation_checkpointing: Literal["none", "selective", "full"] = "none"
    z_loss: float = Field(0.0, ge=0, description="Weight of the squared log-partition, e.g. 1e-4; 0: off.")
    fp8_head: bool = Field(False, description="An experiment: the head's logits from fp8 operands.")
    replicas: int = Field(1, ge=1, description="Copies of the sharded parameters (HSDP), e.g. one for each machine.")
    skip_sigma: float = Field(
        6.0, ge=0, description="Skip a step whose loss or gradient norm is so many deviations above the last; 0: off."
    )
    skip_window: int = Field(128, ge=8, description="Steps that the deviations are taken over.")
    max_skipped: int = Field(16, ge=1, description="Skipped steps in a row after which the training stops.")


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
    held_out: dict[str, HeldOut] = {}
    licence: Licence = Licence()
    signals: Signals = Signals()
    edits: Edits = Edits()
    quality: dict[Domain, QualityModel] = {}
    contamination: Contamination = Contamination()
    url_lists: list[str] = Field(
        [], description="Block lists of URL domains and words; a name of the package's own or a path."
    )
    exclude: Exclude = Exclude()
    plugins: dict[str, Plugin] = {}
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
