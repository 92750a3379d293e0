"""Where the run comes from: its files and what was wrong with them, what was prepared, times, hashes and the recipe."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ....storage.wording import counted
from .. import charts
from ..elements import Element, Node, h
from ..formats import duration, number, percent, size
from .facts import RECIPE_SHOWN, RunFacts
from .groups import MOST_ROWS

NAMED = 100
"""Damaged files of a corpus that are named."""


def cards(run: RunFacts) -> Iterator[Element]:
    yield _card("Files", _files(run), *_damage(run))
    yield from _prepared(run)
    yield from _benchmarks(run)
    yield _card("Times", _times(run))
    yield _card("Hashes", h("p", {"class": "lead"}, "Equal hashes mean equal bytes."), _hashes(run.stats["settings"]))
    text = run.recipe[:RECIPE_SHOWN]
    cut = (
        f"The first {number(RECIPE_SHOWN)} of {number(len(run.recipe))} characters."
        if len(run.recipe) > len(text)
        else ""
    )
    yield _card(
        "The resolved recipe",
        h("p", {"class": "note"}, cut) if cut else None,
        h("pre", {"class": "text recipe", "tabindex": 0}, text),
    )


def _card(title: str, *inside: Node) -> Element:
    return h("section", {"class": "card span"}, h("h2", {}, title), *inside)


def _files(run: RunFacts) -> Element:
    rows: list[list[Node]] = []
    for c in run.corpora:
        lost = percent(c.get("lost_bytes", 0), c.get("stored_bytes", 0)) if c["damaged_files"] else "·"
        counts = [number(c["rows"]), number(c["quarantined"]) if c["quarantined"] else "·"]
        rows.append([c["corpus"], number(c["files"]), size(c.get("stored_bytes", 0)), size(c["bytes"]), *counts, lost])
    heads: list[Node] = ["corpus", "files", "stored", "text", "rows", "unreadable", "lost to damage"]
    return charts.table(heads, rows, "Files")


def _damage(run: RunFacts) -> Iterator[Element]:
    for c in run.corpora:
        damaged = c["damaged_files"]
        if damaged:
            lost = percent(c.get("lost_bytes", 0), c.get("stored_bytes", 0))
            said = f"{c['corpus']}: {counted(len(damaged), 'damaged file')} that lost {lost} of the corpus; "
            said += "rows before the damage were used"
            more = (
                f"and {number(len(damaged) - NAMED)} more, listed in stats/funnel.json" if len(damaged) > NAMED else ""
            )
            listed = [h("li", {}, h("code", {}, each)) for each in damaged[:NAMED]]
            yield h(
                "details",
                {"open": True},
                h("summary", {}, said),
                h("ul", {"class": "list"}, listed, h("li", {}, more) if more else None),
            )
        if times := c.get("times_not_understood"):
            yield h(
                "p",
                {"class": "note"},
                f"{c['corpus']}: {counted(times, 'document')} with a time that was not understood; rules by time take them "
                "for the oldest.",
            )


def _prepared(run: RunFacts) -> Iterator[Element]:
    prepared = run.stats["prepared"]
    models = prepared.get("quality", {"models": {}, "skipped": {}})
    if models["models"] or models["skipped"]:
        rows: list[list[Node]] = [
            [
                domain,
                number(m["good"]),
                number(m["ordinary"]),
                percent(m["correct"], m["held_out"]),
                number(m["held_out"]),
            ]
            for domain, m in models["models"].items()
        ]
        rows += [[domain, "", "", f"none: {why}", ""] for domain, why in models["skipped"].items()]
        heads: list[Node] = ["domain", "good", "ordinary", "correct", "of held-out documents"]
        yield _card("Quality models", charts.table(heads, rows, "Quality models"))
    if scores := prepared.get("scores"):
        rows = [
            [
                name,
                s["source"],
                number(s["matched"]) if "matched" in s else "",
                number(sum(s["missing"].values())) if "missing" in s else "",
            ]
            for name, s in sorted(scores.items())
        ]
        yield _card(
            "Scores of others", charts.table(["score", "from", "documents", "without a score"], rows, "Scores", (1,))
        )
    if steps := run.stats["funnel"].get("before_scan"):
        rows = [
            [
                f"{corpus}: {s['step']}",
                *(number(n) for n in (s["given"], sum(s["dropped"].values()), s["changed"], s["failed"])),
            ]
            for corpus, made in steps.items()
            for s in made
        ]
        yield _card(
            "Before the scan",
            charts.table(["step", "given", "dropped", "changed", "failed"], rows, "Steps before the scan"),
        )


def _benchmarks(run: RunFacts) -> Iterator[Element]:
    if "contamination" not in run.stats:
        return
    rows: list[list[Node]] = []
    for name, b in sorted(run.stats["contamination"]["benchmarks"].items()):
        why = ", ".join(f"{reason} {number(n)}" for reason, n in b["why_uncovered"].items() if n)
        rows.append([name, number(b["items"]), number(b["uncovered"]), why, number(b["found"]), number(b["documents"])])
    heads: list[Node] = ["benchmark", "items", "not covered", "why not", "found", "documents with an item"]
    yield _card("Benchmark items in the corpora", charts.table(heads, rows, "Benchmarks", (3,)))


def _times(run: RunFacts) -> Element:
    if not run.stages:
        return h("p", {"class": "lead"}, "No timings were kept with this run.")
    rows: list[list[Node]] = [
        [
            t.name,
            number(t.tasks),
            duration(t.cpu_seconds),
            duration(t.wall_seconds),
            f"{t.bytes_per_second / 1e6:.1f}" if t.bytes_per_second else "–",
            f"{t.peak_bytes / 2**20:.0f} MiB",
            number(t.retried),
        ]
        for t in run.stages
    ]
    heads: list[Node] = [
        "stage",
        "tasks",
        "CPU time",
        "wall time",
        "MB of text a CPU second",
        "largest task",
        "retried",
    ]
    return charts.table(heads, rows, "Times of the stages")


def _hashes(stored: dict[str, Any]) -> Element:
    rows: list[list[Node]] = [
        ["settings", stored["settings"]],
        [f"inputs, {counted(stored['files'], 'file')}", stored["inputs"]],
    ]
    rows.append(["tokenizer", stored["tokenizer"]])
    rows += [[f"output of {name}", digest] for name, digest in stored["stages"].items()]
    rows += [[f"data identity of {name}", digest] for name, digest in stored["phases"].items()]
    return charts.table(
        ["", "hash"], [[name, h("code", {}, str(digest))] for name, digest in rows[:MOST_ROWS]], "Hashes", (1,)
    )
