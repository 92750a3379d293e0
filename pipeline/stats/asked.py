"""What a run was asked for, as one hash: `settings` of `stats/settings.json`, by which two runs are compared.

The form that is hashed is older than the classes of the settings, and stays as it is when these change: a run and one that
another version made of the same recipe must not seem to have asked for different things.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ...tokenize.model import TokenizerSettings
from ..carve.settings import Carve
from ..dedupe.order import DedupeSettings
from ..engine.keys import identity_of
from ..extract.settings import StepSettings
from ..filter.judge import FilterSettings
from ..mix.budget import MixSettings
from ..mix.items import ItemSettings
from ..passages.settings import PassageSettings
from ..prepare.contamination import ContaminationSettings
from ..prepare.quality import QualitySettings
from ..run.artifacts import content_key
from ..signals.scan import ScanSettings
from ..signals.scores import ScoreSettings

PII_ORDER = ("email", "ip", "phone", "card", "key")
"""The kinds of personal data in the order in which the first recipes wrote them, which was part of the hash."""


def hash_of_settings(
    scan: ScanSettings,
    contamination: ContaminationSettings,
    filters: FilterSettings,
    dedupe: DedupeSettings,
    near_limits: Sequence[tuple[str, float]],
    tokenizer: TokenizerSettings,
    quality: QualitySettings,
    mix: MixSettings,
    seed: int,
    limit: float,
    scores: tuple[Sequence[ScoreSettings], Sequence[tuple[str, str]]] = ((), ()),
    before_scan: Sequence[StepSettings] = (),
    passages: PassageSettings | None = None,
    carve: Carve | None = None,
    items: ItemSettings | None = None,
) -> str:
    """The hash of what was asked for. Without the places of files: what they hold is among the inputs of the run."""
    of_scan, of_dedupe, of_filters = asdict(scan), asdict(dedupe), asdict(filters)
    # Scores are hashed as a whole, below.
    del of_scan["classifiers"], of_filters["scores"], of_filters["steps"]
    if before_scan:
        of_filters["before_scan"] = [[step.identity(), step.sources] for step in before_scan]
    for plugin in of_scan["plugins"]:
        # What the filter does with its verdicts is in the filter's settings.
        del plugin["drop"]
    of_scan["contamination_ngram"] = contamination.ngram
    own = [
        (b.name, *found) for b in contamination.benchmarks if (found := contamination.of(b)) != (contamination.ngram, 0)
    ]
    if own:
        of_scan["contamination_of"] = own
    edits = of_scan["edits"]
    cut = edits.pop("cut_contamination")
    edits["contamination"] = "cut" if cut else "drop" if filters.drop_contaminated else "keep"
    edits["pii"] = sorted(edits["pii"], key=lambda pair: PII_ORDER.index(pair[0]))
    url = of_dedupe.pop("url")
    if of_dedupe.pop("held_out_jaccard") < dedupe.jaccard:
        of_dedupe["held_out_jaccard"] = dedupe.held_out_jaccard
    of_dedupe |= {"url": url["corpora"], "url_rule": url["rule"], "near_limits": near_limits}
    of_mix = asdict(mix)
    for weight in (w for phase in of_mix["phases"] for w in _every(phase["weights"])):
        if not weight["repeat"]:
            del weight["repeat"]
    if passages and passages.cut:
        of_dedupe["passages"] = asdict(passages)
    return content_key(
        of_scan,
        of_filters,
        of_dedupe,
        asdict(tokenizer) | {"model": ""},
        asdict(quality) | {"domains": [{k: v for k, v in asdict(d).items() if k != "score"} for d in quality.domains]},
        of_mix,
        seed,
        limit,
        *([identity_of(scores)] if any(scores) else []),
        *([asdict(carve)] if carve else []),
        *([asdict(items)] if items else []),
    )


def _every(weights: Sequence[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Weights, and those within them."""
    for weight in weights:
        yield weight
        yield from _every(weight["within"])
