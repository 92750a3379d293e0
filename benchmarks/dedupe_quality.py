"""Recall and precision of dedupe on data with a truth file, by true Jaccard computed from the text.

    FOX1_DATA=.../corpora python -m benchmarks.dedupe_quality --truth .../truth.jsonl [--set dedupe.jaccard=0.7] [--plot curve.svg]

Filters are off. The truth file has a JSON object a line: `corpus`, `file` (`<corpus>/<file>` of the decisions), `row`,
`key` (rows of one document), `how` (what was done to it) and optionally `natural_cluster`. Words are casefolded runs of
\\w after NFKC; the true Jaccard is that of the sets of their 5-grams.

    exact      rows with equal text (NFC, white space collapsed); all but one must go, none else may go as exact
    recall     of rows that exact dedupe leaves and that have another such row at 0.85 or more: the share dropped, or
               kept with no kept row at 0.85 or more
    precision  of such rows dropped as near: those whose kept partner has Jaccard >= 0.7 or containment >= 0.9
    lost       keys none of whose rows, nor of their natural clusters, is kept
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import re
import tempfile
import time
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from fox1.benchmarks.dedupe_only import decisions, scan_and_dedupe
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.signals.scan import ScanSettings
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings, sources_of

NEAR, TRUE, CONTAINED = 0.85, 0.7, 0.9
WORD = re.compile(r"\w+")
N = 5


@dataclass
class Texts:
    """Distinct texts by their normalised content, and the row of each."""

    content: list[int] = field(default_factory=list)
    """By row: which distinct text it has."""
    shingles: list[np.ndarray] = field(default_factory=list)
    """By distinct text: sorted uint64 5-grams."""
    begins: list[str] = field(default_factory=list)


def read_texts(files: Sequence[SourceFile]) -> Texts:
    """Shingles of every distinct text, rows in the order of the files."""
    texts, seen = Texts(), dict[str, int]()
    words: dict[str, int] = {}
    factors = np.random.default_rng(7).integers(1, 1 << 63, N, np.uint64) | np.uint64(1)
    for file in files:
        for batch in read_rows(file, Quarantine(file)):
            for text in batch.column("text").to_pylist():
                content = " ".join(unicodedata.normalize("NFC", text).split())
                number = seen.setdefault(content, len(seen))
                texts.content.append(number)
                if number < len(texts.shingles):
                    continue
                found = WORD.findall(unicodedata.normalize("NFKC", text).casefold())
                ids = np.array([words.setdefault(w, len(words) + 1) for w in found], np.uint64)
                ids = (ids + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
                ids ^= ids >> np.uint64(29)
                size = max(len(ids) - N + 1, min(len(ids), 1))
                grams = np.zeros(size, np.uint64)
                for k in range(min(N, len(ids))):
                    grams += ids[k : k + size] * factors[k]
                texts.shingles.append(np.unique(grams))
                texts.begins.append(content[:70])
    return texts


def jaccard(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """(Jaccard, containment of the smaller)."""
    both = len(np.intersect1d(a, b, assume_unique=True))
    return both / max(len(a) + len(b) - both, 1), both / max(min(len(a), len(b)), 1)


def similar_pairs(
    shingles: Sequence[np.ndarray], threshold: float, largest: int = 0
) -> Iterator[tuple[int, int, float]]:
    """(i, j, Jaccard) of all pairs at `threshold` or more: such pairs share one of the rarest (1 - t) n + 1 shingles.

    Args:
        largest: leave out shingles that more texts than this begin with (0: none): then a sample of the pairs.
    """
    every = np.concatenate([s for s in shingles if len(s)])
    values, counts = np.unique(every, return_counts=True)
    heads, owners = [], []
    for i, mine in enumerate(shingles):
        if not len(mine):
            continue
        rarest = np.lexsort((mine, counts[np.searchsorted(values, mine)]))
        head = mine[rarest[: int((1 - threshold) * len(mine)) + 1]]
        heads.append(head)
        owners.append(np.full(len(head), i))
    head, owner = np.concatenate(heads), np.concatenate(owners)
    order = np.lexsort((owner, head))
    head, owner = head[order], owner[order]
    bounds = np.flatnonzero(np.r_[True, head[1:] != head[:-1], True])
    seen: set[tuple[int, int]] = set()
    for begin, end in itertools.pairwise(bounds):
        if end - begin < 2 or (largest and end - begin > largest):
            continue
        group = owner[begin:end].tolist()
        for x in range(len(group)):
            for y in range(x + 1, len(group)):
                if (pair := (group[x], group[y])) in seen:
                    continue
                seen.add(pair)
                a, b = shingles[pair[0]], shingles[pair[1]]
                if min(len(a), len(b)) < threshold * max(len(a), len(b)):
                    continue
                similarity = jaccard(a, b)[0]
                if similarity >= threshold:
                    yield (*pair, similarity)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--show", type=int, default=10, help="missed and wrong cases to print of each kind")
    parser.add_argument("--plot", type=Path, help="write the S-curve, measured and in theory, as SVG")
    options = parser.parse_args()
    recipe, _ = load_recipe(options.recipe, options.overrides, os.environ)
    settings = curate_settings(recipe)
    files = list_sources(sources_of(recipe))
    with tempfile.TemporaryDirectory(prefix="fox1-quality-") as folder:
        began = time.monotonic()
        engine = Engine(RunPaths(Path(folder)), InProcess())
        result = scan_and_dedupe(files, engine, ScanSettings(settings.scan.minhash), settings.dedupe)
        print(f"scan and dedupe: {time.monotonic() - began:.1f} s; {json.dumps(result.figures['rounds'])}")
        decided = decisions(Path(folder), files).to_pydict()
        signals = [
            pq.read_table(RunPaths(Path(folder)).signatures(f.corpus, f.path), columns=["band_signature"])
            for f in files
        ]
        bands = [row for table in signals for row in table.column("band_signature").to_pylist()]
    texts = read_texts(files)
    truth = {}
    with open(options.truth) as lines:
        for line in lines:
            row = json.loads(line)
            truth[row["file"], row["row"]] = row
    names = [f"{c}/{f}" for c, f in zip(decided["corpus"], decided["file"], strict=True)]
    facts = [truth[name, row] for name, row in zip(names, decided["row"], strict=True)]
    report = measure(texts, decided, facts, options.show)
    if options.plot:
        shape = settings.scan.minhash
        plot(texts, bands, shape.bands, shape.rows, options.plot)
    print(json.dumps(report))


def measure(texts: Texts, decided: dict[str, list[Any]], facts: list[dict[str, Any]], show: int) -> dict[str, Any]:
    """Print the figures and the cases behind them; return them."""
    content = np.array(texts.content)
    kept = np.array(decided["kept"])
    kind = np.array(decided["kind"])
    row_of = {doc_id: i for i, doc_id in enumerate(decided["doc_id"])}

    # Exact: of rows of one content, exactly one does not go as an exact copy.
    exact = kind == "exact"
    partner = np.array([row_of.get(d, -1) for d in decided["duplicate_of"]])
    wrong_exact = [i for i in np.flatnonzero(exact) if content[i] != content[partner[i]]]
    # A copy of a document that itself goes as near goes with it, as near: so count rows that stay beside an equal one.
    stays = np.bincount(content[kept], minlength=len(texts.shingles))
    copies = np.bincount(content, minlength=len(texts.shingles))
    exact_recall = 1 - (np.maximum(stays - 1, 0).sum() / max((copies - 1).sum(), 1))
    print(f"exact: {int(exact.sum()):,} dropped, {len(wrong_exact)} of them wrong, recall {exact_recall:.4f}")

    # Near, over distinct texts.
    text_kept = stays > 0
    named = np.full(len(texts.shingles), -1)
    example = np.full(len(texts.shingles), -1)
    for i in range(len(content)):
        if example[content[i]] < 0 or kept[i]:
            example[content[i]] = i
        if kind[i] == "near":
            named[content[i]] = content[partner[i]]
    alike: dict[int, list[tuple[int, float]]] = {}
    for a, b, similarity in similar_pairs(texts.shingles, NEAR):
        alike.setdefault(a, []).append((b, similarity))
        alike.setdefault(b, []).append((a, similarity))
    found = {t: not text_kept[t] or not any(text_kept[o] for o, _ in alike[t]) for t in alike}
    recall = sum(found.values()) / max(len(found), 1)
    dropped = np.flatnonzero(~text_kept & (named >= 0))
    true = {int(t): jaccard(texts.shingles[t], texts.shingles[named[t]]) for t in dropped}
    right = {t: j >= TRUE or c >= CONTAINED for t, (j, c) in true.items()}
    precision = sum(right.values()) / max(len(right), 1)
    print(f"near: recall {recall:.4f} of {len(found):,} texts, precision {precision:.4f} of {len(right):,} drops")
    hows = Counter(facts[example[t]]["how"] for t in found)
    missed = Counter(facts[example[t]]["how"] for t, ok in found.items() if not ok)
    print("  by what was done to the text: " + ", ".join(f"{h} {n - missed[h]}/{n}" for h, n in sorted(hows.items())))

    def describe(t: int) -> str:
        f = facts[example[t]]
        return f"{f['file']}#{f['row']} ({f['how']}, {len(texts.shingles[t])} shingles) {texts.begins[t]!r}"

    for t in [t for t, ok in found.items() if not ok][:show]:
        other, similarity = max((o for o in alike[t] if text_kept[o[0]]), key=lambda o: o[1])
        print(f"  missed, {similarity:.3f}: {describe(t)}\n      and {describe(other)}")
    for t in [t for t, ok in right.items() if not ok][:show]:
        print(f"  wrong, {true[t][0]:.3f} / {true[t][1]:.3f}: {describe(t)}\n      for {describe(int(named[t]))}")

    # Wholly lost: no row of the key, nor of its natural clusters, is kept.
    units: dict[str, set[str]] = {}
    alive: set[str] = set()
    for i, f in enumerate(facts):
        its = {f["key"], *([f"natural:{f['natural_cluster']}"] if f.get("natural_cluster") is not None else [])}
        units.setdefault(f["key"], set()).update(its)
        if kept[i]:
            alive |= its
    lost = sorted(k for k, its in units.items() if not its & alive)
    covered = 0
    for key in lost:
        rows = [i for i, f in enumerate(facts) if f["key"] == key]
        best = max(
            (jaccard(texts.shingles[content[i]], texts.shingles[content[partner[i]]]) for i in rows), default=(0, 0)
        )
        covered += best[0] >= TRUE
        if show:
            print(f"  lost: {key} ({len(rows)} rows), a kept row has Jaccard {best[0]:.3f}, containment {best[1]:.3f}")
    print(
        f"wholly lost: {len(lost)} keys of {len(units):,}; for {len(lost) - covered} nothing kept reaches Jaccard {TRUE}"
    )
    return {
        "exact_precision": 1 - len(wrong_exact) / max(int(exact.sum()), 1),
        "exact_recall": float(exact_recall),
        "near_recall": recall,
        "near_precision": precision,
        "lost": len(lost),
        "lost_uncovered": len(lost) - covered,
    }


def plot(texts: Texts, signatures: list[bytes], bands: int, rows: int, path: Path) -> None:
    """The share of pairs that have a band in common, by true Jaccard, beside 1 - (1 - J^rows)^bands."""
    import matplotlib

    matplotlib.use("svg")
    from matplotlib import pyplot

    matplotlib.rcParams["svg.hashsalt"] = "fox1"
    first: dict[int, np.ndarray] = {}
    for i, t in enumerate(texts.content):
        first.setdefault(t, np.frombuffer(signatures[i], "<u8"))
    edges = np.linspace(0.4, 1.0, 25)
    hits, n = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)
    for a, b, similarity in similar_pairs(texts.shingles, 0.4, 40):
        # Short texts have few shingles, whose minima hardly vary: the curve is of those with 100 and more.
        if min(len(texts.shingles[a]), len(texts.shingles[b])) >= 100:
            k = min(int(np.searchsorted(edges, similarity, "right")) - 1, len(n) - 1)
            n[k] += 1
            hits[k] += bool((first[a] == first[b]).any())
    middle = (edges[1:] + edges[:-1]) / 2
    share = hits / np.maximum(n, 1)
    error = np.sqrt(share * (1 - share) / np.maximum(n, 1))
    figure, axes = pyplot.subplots(figsize=(6.4, 4))
    x = np.linspace(0.4, 1, 200)
    axes.plot(x, 1 - (1 - x**rows) ** bands, label=f"1 - (1 - J^{rows})^{bands}")
    axes.errorbar(
        middle[n > 9], share[n > 9], 2 * error[n > 9], fmt="o", ms=4, label=f"measured, {int(n.sum()):,} pairs"
    )
    axes.set_xlabel("true Jaccard similarity of word 5-grams")
    axes.set_ylabel("share of pairs with a band in common")
    axes.legend()
    axes.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    for m, s, count in zip(middle, share, n, strict=True):
        print(f"  J {m:.3f}: {int(count):6,} pairs, found {s:.3f}, theory {1 - (1 - m**rows) ** bands:.3f}")


if __name__ == "__main__":
    main()
