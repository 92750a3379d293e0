"""The parts of a recipe that make data: sources, policy, signals, filters, dedupe, tokenizer, phases."""

from __future__ import annotations

import difflib
import math
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from ..pipeline.filter.judge import LANGUAGES, signal_of
from ..pipeline.prepare.benchmarks import ADAPTERS as BENCHMARK_ADAPTERS
from ..pipeline.signals.c4 import LINE_RULES
from ..pipeline.signals.pii import KINDS
from ..pipeline.signals.ratios import SIGNALS
from ..pipeline.sources.domains import DOMAINS
from ..pipeline.sources.rows import ADAPTERS
from ..tokenize.chat import LEARNED, MARKS, TEMPLATES
from .presets import PRESETS
from .units import Quantity, Share

THRESHOLDS = [f"{bound}_{signal}" for signal in sorted(SIGNALS) for bound in ("min", "max")]
Domain = Literal[DOMAINS]  # type: ignore[valid-type]


class Strict(BaseModel):
    """Unknown keys are errors; a typo must never be a silent default."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


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
    """A subset that is not used."""

    corpus: str
    subset: str
    why: str = ""


class Licence(Strict):
    """Subsets that may not be used."""

    exclude: list[Exclusion] = []


class Exclude(Strict):
    """Documents to take out, e.g. on request of whoever they are about."""

    lists: list[str] = Field(
        [], description="Files or URLs with one corpus/file#row, https://..., id:NATIVE_ID or hash:CONTENT_HASH a line."
    )
    copies: bool = Field(True, description="Take their exact and verified near copies out, too.")


class MinHash(Strict):
    """How signatures are made: one n-gram unit, `bands` bands of `rows` rows."""

    unit: Literal["word", "char"] = Field("word", description="What an n-gram counts.")
    ngram: int = Field(
        5, ge=1, le=32, description="Units of a shingle. FineWeb: word, 5, 14 x 8; SlimPajama: char, 13, 9 x 13."
    )
    bands: int = Field(14, ge=1, le=64)
    rows: int = Field(8, ge=1, le=512)
    sketch_size: int = Field(128, ge=16, le=4096, description="k of the bottom-k verification sketch.")
    seed: int = 1


class Signals(Strict):
    """What scan stores."""

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
    """Benchmarks, and what is done with documents that hold an item of one."""

    ngram: int = Field(13, ge=4, le=32, description="Words that a document and an item must share in a row.")
    action: Literal["drop", "cut", "keep"] = Field(
        "drop", description="Drop the document, cut the shared span, or only count."
    )
    benchmarks: dict[str, Benchmark | None] = Field({}, description="By name; null switches one off.")


class Plugin(Strict):
    """A datatrove filter class or a function (text, row) -> bool | reason; one Python call per document: slow."""

    target: str = Field(
        description="FILE.py:NAME, by the file's path from the recipe, or a dotted path, e.g. "
        "datatrove.pipeline.filters.RegexFilter."
    )
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
        elif threshold is not None and not math.isfinite(threshold):
            raise ValueError(f"{key}: {threshold!r} is no bound; write null to lift it")
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
    """What is a duplicate, and which copy stays."""

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
    """The model, and what it adds to a document."""

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
    """Which documents go to blocks of a length."""

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
    """A phase of the curriculum: how many tokens of which pools."""

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
    """How documents become blocks."""

    packing: Literal["best_fit", "concatenate"] = "best_fit"
    tokens_per_segment: int = Field(32, ge=1, description="A block of L tokens holds at most L / this segments.")
    claim_order: list[str] = Field([], description="Phases in the order they claim documents; empty: last first.")
    held_out_block_length: Quantity = 0
