"""The forms of a recipe's data part that differ from the settings of the code they are for.

Everything else is declared once, beside that code: a recipe is checked against those dataclasses as they stand. What is
here adds to them what only people write (a preset, a reason, one word for three switches).
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, WithJsonSchema, with_config

from ..pipeline.carve.settings import Carve
from ..pipeline.dedupe.order import DedupeSettings
from ..pipeline.filter.judge import LANGUAGES, Exclusion, signal_of
from ..pipeline.mix.items import ItemSettings
from ..pipeline.passages.settings import NOTHING, PassageSettings
from ..pipeline.prepare.contamination import ContaminationSettings
from ..pipeline.signals.minhash import MinHashSettings
from ..pipeline.signals.ratios import SIGNALS
from ..storage.fields import OneOf, Pairs, Share
from ..tokenize.chat import LEARNED, MARKS, TEMPLATES, Template
from ..tokenize.model import TokenizerSettings
from .languages import check_languages
from .multilingual import MULTILINGUAL, PRESET
from .presets import PRESETS

THRESHOLDS = [f"{bound}_{signal}" for signal in sorted(SIGNALS) for bound in ("min", "max")]


class Strict(BaseModel):
    """Unknown keys are errors; a typo must never be a silent default. Dataclasses inside have the same configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class HeldOut(Strict):
    """Files that never reach the phases; the other facts are those of the source of the same name."""

    files: tuple[str, ...]
    """Globs over paths relative to the root."""
    root: str = ""
    """Folder or URL; empty: that of the source."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class StrictCarve(Carve):
    """How many documents of every domain are set apart."""


@with_config(ConfigDict(extra="forbid"))
@dataclass(frozen=True)
class StrictItems(ItemSettings):
    """How many benchmark items are measured on."""


class HeldOutParts(BaseModel):
    """What validation reads: files of sources, documents that are set apart, and benchmark items."""

    model_config = ConfigDict(extra="allow", frozen=True)

    carve: StrictCarve | None = None
    """Set documents of every domain apart, which no phase then holds; null: none."""
    items: StrictItems | None = None
    """Measure bits per byte of the right option of items of `contamination.benchmarks`; null: none."""
    __pydantic_extra__: dict[str, HeldOut]

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: Any, handler: Any) -> Any:
        found = handler.resolve_ref_schema(handler(schema))
        found["additionalProperties"] = handler(HeldOut.__pydantic_core_schema__)
        return found

    @property
    def files(self) -> dict[str, HeldOut]:
        """By source."""
        return self.__pydantic_extra__


class Licence(Strict):
    """Subsets that may not be used."""

    exclude: tuple[Exclusion, ...] = ()
    """They are dropped with the reason `licence`."""


class Exclude(Strict):
    """Documents to take out, e.g. on request of whoever they are about."""

    lists: tuple[str, ...] = ()
    """Files or URLs with one corpus/file#row, https://..., host:NAME, id:NATIVE_ID or blake3:CONTENT_HASH a line."""
    copies: bool = DedupeSettings.excluded_copies
    """Take their exact and verified near copies out, too."""


class Signals(Strict):
    """What scan stores."""

    minhash: MinHashSettings = MinHashSettings()
    """How documents are signed for near-dedupe."""


@dataclass(frozen=True)
class Contamination(ContaminationSettings):
    """Benchmarks, and what is done with documents that hold an item of one."""

    action: Literal["drop", "cut", "keep"] = "drop"
    """Drop the document, cut the shared span, or only count."""


def _thresholds(value: Any) -> dict[str, float | list[str] | None]:
    if not isinstance(value, dict):
        raise ValueError("a section is a mapping of thresholds, such as {min_words: 50}")
    for key, threshold in value.items():
        if key == LANGUAGES:
            if threshold is not None:
                check_languages(threshold)
        elif not signal_of(str(key)):
            close = difflib.get_close_matches(str(key), THRESHOLDS, 1)
            raise ValueError(
                f"no threshold {key!r}" + (f" (did you mean `{close[0]}`?)" if close else "; see docs/signals.md")
            )
        elif threshold is not None and (isinstance(threshold, bool) or not isinstance(threshold, int | float)):
            raise ValueError(f"{key}: {threshold!r} is not a number")
        elif threshold is not None and not math.isfinite(threshold):
            raise ValueError(f"{key}: {threshold!r} is not a bound; write null to lift the threshold")
    return value


Thresholds = Annotated[
    dict[str, Any],
    BeforeValidator(_thresholds),
    WithJsonSchema(
        {
            "type": "object",
            "additionalProperties": False,
            "patternProperties": {
                "^(min|max)_score_[A-Za-z][A-Za-z0-9_]*$": {
                    "type": ["number", "null"],
                    "description": "Smallest or largest score (of `scores`) of a document that is kept; null lifts the threshold.",
                }
            },
            "properties": {
                LANGUAGES: {
                    "type": ["array", "null"],
                    "items": {"type": "string"},
                    "description": "Languages that are kept; null lifts the threshold of a wider section.",
                },
                PRESET: {
                    "enum": [MULTILINGUAL, None],
                    "description": "Thresholds of FineWeb-2 for each language of `languages`, in `all` or a domain.",
                },
                **{
                    key: {
                        "type": ["number", "null"],
                        "description": f"{'Smallest' if key.startswith('min') else 'Largest'} {key[4:]} of a document "
                        "that is kept; null lifts the threshold of a wider section.",
                    }
                    for key in THRESHOLDS
                },
            },
        }
    ),
]
"""`min_<signal>`, `max_<signal>` or `languages`; null lifts the threshold of a wider section."""


@dataclass(frozen=True)
class Dedupe(DedupeSettings):
    """What is a duplicate, and which copy stays."""

    preset: Annotated[str, OneOf(("", *PRESETS))] = ""
    """Published practice; sets `signals.minhash`, too."""
    near_limits: Annotated[tuple[tuple[str, Share], ...], Pairs()] = (("all", 0.95),)
    """`all`, corpus or corpus/subset, and the share that near-dedupe may drop of it before the run stops."""
    passages: PassageSettings = NOTHING
    """Lines, paragraphs, sentences and substrings of kept documents that are cut where they repeat."""


@dataclass(frozen=True)
class Turn:
    """What a chat template puts around what a role says; literals of `reserved` become the model's pieces."""

    before: str
    """Text before a turn."""
    after: str = ""
    """Text after a turn."""


@dataclass(frozen=True)
class Tokenizer(TokenizerSettings):
    """The model, and what it adds to a document."""

    chat_template: str | dict[str, Turn] = "gemma"
    """For sources of format `chat`: gemma, chatml, or what stands around each role's turns."""

    def __post_init__(self) -> None:
        if isinstance(self.chat_template, str):
            if self.chat_template not in TEMPLATES:
                raise ValueError(f"no chat template {self.chat_template!r}; choose {', '.join(TEMPLATES)} or write one")
        elif unknown := [role for role in self.chat_template if role not in MARKS]:
            raise ValueError(f"chat_template names the role {unknown[0]!r}; choose from {', '.join(MARKS)}")
        elif LEARNED not in self.chat_template:
            raise ValueError(f"chat_template needs the role {LEARNED}: its turns are what is trained on")

    @property
    def template(self) -> Template:
        """The chat template as (role, before its turns, after them)."""
        if isinstance(self.chat_template, str):
            return TEMPLATES[self.chat_template]
        return tuple((role, turn.before, turn.after) for role, turn in self.chat_template.items())
