"""Corpora of tier 0: how much a text is copied, and how much junk the web holds, in doses.

The base is one row of each document, without those that the truth file calls poor. `copiesN` has N rows of each (further ones are
drawn with replacement from the document's own rows, true copies and edited ones); `junkN` has so many poor documents, drawn with
replacement, that they are N per cent of the bytes of the web. A domain is a source of its own.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import xxhash
from fox1.benchmarks.efficacy_data import (
    Place,
    Recipe,
    Row,
    SourceText,
    no_dedupe,
    no_edits,
    no_filters,
    rows_of,
    truth_of,
)

SHORT = "short"
"""Poor documents of this kind are whole small texts, and no junk."""


def doses(place: Place) -> list[str]:
    """The names of all doses."""
    tier = place.plan["tier0"]
    return [*(f"copies{n}" for n in tier["copies"]), *(f"junk{n}" for n in tier["junk"])]


def make_dose(place: Place, name: str) -> Path:
    """The corpora of a dose: a JSON lines file for each domain."""
    out = place.root / "doses" / name
    if out.exists():
        return out
    part = out.with_name(f"{name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    documents, junk = _documents(place)
    rng = np.random.default_rng(xxhash.xxh3_64_intdigest(b"dose"))
    copies = int(name.removeprefix("copies")) if name.startswith("copies") else 1
    texts: dict[str, list[str]] = {d: [] for d in place.plan["domains"]}
    for rows in documents:
        texts[rows[0].domain].append(rows[0].text)
        texts[rows[0].domain] += [rows[k].text for k in rng.integers(len(rows), size=copies - 1)]
    if name.startswith("junk"):
        share = int(name.removeprefix("junk")) / 100
        wanted = share / (1 - share) * sum(len(t.encode()) for t in texts["web"])
        while wanted > 0:
            text = junk[int(rng.integers(len(junk)))]
            texts["web"].append(text)
            wanted -= len(text.encode())
    for domain, of_domain in texts.items():
        with open(part / f"{_source(domain)}.jsonl", "w") as file:
            for k in rng.permutation(len(of_domain)):
                file.write(json.dumps({"text": of_domain[k]}) + "\n")
    part.rename(out)
    return out


def _source(domain: str) -> str:
    return domain.replace("&", "_and_")


def _documents(place: Place) -> tuple[list[list[SourceText]], list[str]]:
    """(the rows of every document of the base, the first one in its original form if there is such a row; junk)."""
    share, domains = place.plan["tier0"]["share"], set(place.plan["domains"])
    texts = {s.row: s for s in rows_of(place, place.corpora) if s.domain in domains}
    places = _moved(place, set(texts))
    found: dict[str, list[tuple[bool, SourceText]]] = {}
    junk: dict[str, str] = {}
    for row, fact in truth_of(place):
        if row not in places or xxhash.xxh3_64_intdigest(fact["key"].encode()) >= share * 2**64:
            continue
        source = texts[places[row]]
        if kind := fact.get("poor"):
            if kind != SHORT and len(source.text) < 200_000:
                junk.setdefault(fact["key"], source.text)
        else:
            found.setdefault(fact["key"], []).append((fact["how"] != "original", source))
    documents = [[s for _, s in sorted(rows, key=lambda r: r[0])] for _, rows in sorted(found.items())]
    return documents, [text for _, text in sorted(junk.items())]


def _moved(place: Place, there: set[Row]) -> dict[Row, Row]:
    """Row of the data -> its row in `corpora/`, of whose files some rows were taken out."""
    moved = {}
    for name, numbers in json.loads((place.root / "kept.json").read_text()).items():
        corpus, file = name.split("/", 1)
        for new, old in enumerate(numbers):
            if (row := Row(corpus, file, new)) in there:
                moved[Row(corpus, file, old)] = row
    return moved


def dose_recipe(place: Place, folder: Path, recipe: Recipe) -> None:
    """Have a recipe read the corpora of a dose."""
    recipe["sources"] = {
        _source(d): {"format": "huggingface", "root": str(folder), "files": [f"{_source(d)}.jsonl"], "domain": d}
        for d in place.plan["domains"]
    }
    recipe |= {"held_out": {}, "expected": {}, "quality": {}, "licence": {}}
    recipe["dedupe"] = {k: v for k, v in recipe["dedupe"].items() if k not in ("priority", "exempt")}


RAW = (no_filters, no_dedupe, no_edits)
"""Changes of the raw arm of a dose, after `dose_recipe`."""
