"""Published practice of near-dedupe as presets: what a preset sets, what it reproduces, and what it does not.

A preset stands in `dedupe.preset`. It sets what is written below over the recipes that this one extends; what the same
file (or another `--set`) says stands above it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from ..pipeline.signals import minhash
from ..pipeline.signals.minhash import MinHashSettings


@dataclass(frozen=True)
class Preset:
    """One published practice: the settings it is made of, and in words where it is from and what is not the same."""

    minhash: MinHashSettings
    """Its unit, n-gram, bands and rows go into `signals.minhash`."""
    dedupe: dict[str, Any]
    reproduces: str
    differs: str
    source: str
    ranking: tuple[str, ...] = field(default=())
    """Corpora by their format, best first, as far as the recipe has them."""


ALL_DIFFER = (
    "a document goes only for a kept one that is verified to be like it, where the original drops all but one of a "
    "chain of candidates"
)

PRESETS = {
    "slimpajama": Preset(
        minhash.PRESETS["slimpajama"],
        {"jaccard": 0.8, "scope": "all"},
        "13-grams of characters of the normalised text, 9 bands of 13 rows, Jaccard 0.8, over all sources together",
        f"128 minima are hashed by another family; {ALL_DIFFER}",
        "Soboleva et al. 2023",
    ),
    "fineweb": Preset(
        minhash.PRESETS["fineweb"],
        {"jaccard": 0.72, "scope": "all"},
        "5-grams of words, 14 bands of 8 rows, which find half of the pairs with Jaccard 0.72",
        f"words are fox1's own; FineWeb dedupes each crawl by itself, here all corpora are one; {ALL_DIFFER}",
        "Penedo et al. 2024",
    ),
    "zyda": Preset(
        MinHashSettings("word", 13, 32, 4),
        {"jaccard": 0.4, "scope": "all"},
        "13-grams of words, 32 bands of 4 rows, Jaccard 0.4, and its ranking of the corpora that are here too: "
        "RefinedWeb before The Pile before SlimPajama; Dolma and RedPajama, which it had not, come after",
        f"within a corpus quality decides, where the original takes the first; {ALL_DIFFER}",
        "Tokpanov et al. 2024",
        ("refinedweb", "pile", "slimpajama", "dolma", "redpajama"),
    ),
    "refinedweb": Preset(
        MinHashSettings("word", 5, 20, 450),
        {"jaccard": 0.8, "scope": "within", "passages": {"cut": ["substrings"], "min_left": 4}},
        "5-grams of words, 9,000 minima in 20 bands of 450 rows, within a corpus; then exact substrings of 50 and more are "
        "cut, and what has fewer than 4 words left (20 characters there) goes",
        "words are fox1's own, not GPT-2 tokens; of equal substrings the first stays, where a suffix array's cut takes "
        f"all; {ALL_DIFFER}",
        "Penedo et al. 2023",
    ),
}


def expand(value: dict[str, Any]) -> dict[str, Any]:
    """A recipe's mapping with the settings of its `dedupe.preset` below what it says itself.

    What is no preset stays for the schema to refuse.
    """
    dedupe = value.get("dedupe")
    if not isinstance(dedupe, dict) or dedupe.get("preset") not in PRESETS:
        return value
    preset = PRESETS[dedupe["preset"]]
    signals = dict(value.get("signals") or {})
    shape = {name: getattr(preset.minhash, name) for name in ("unit", "ngram", "bands", "rows")}
    signals["minhash"] = {**shape, **(signals.get("minhash") or {})}
    ranking = {"priority": list(preset.ranking)} if preset.ranking else {}
    return {**value, "signals": signals, "dedupe": {**preset.dedupe, **ranking, **dedupe}}
