"""`fox1 stats`: the stored statistics as tables: funnel by corpus and reason, overlap of corpora, mixture by phase."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ...pipeline.engine.records import command_of
from ...pipeline.stats.outcomes import KEPT, ORDER, outcomes
from ...pipeline.stats.tokenizer_figures import SubsetTokens
from ...storage.wording import counted
from ...tokenize.model import PieceCounts
from .mixture import mixture_tables
from .runs import note_damage, note_times
from .terminal import TextTable, new_console, new_table, print_table

SECTIONS = (
    "funnel",
    "reasons",
    "prepared",
    "rules",
    "overlap",
    "dedupe",
    "tokens",
    "phases",
    "pools",
    "mixture",
    "languages",
    "lengths",
    "quality",
    "rates",
)
"""Of the statistics, in the order in which they are printed."""


def print_tokenizer(pieces: PieceCounts, rows: Sequence[SubsetTokens]) -> None:
    """What a model consists of, and how it does on a run's text by subset and domain."""
    console = new_console()
    normal = pieces.total - len(pieces.control) - pieces.user_defined - pieces.bytes
    console.print(
        f"{pieces.total:,} pieces: {normal:,} ordinary, {pieces.user_defined:,} user-defined, {pieces.bytes:,} for byte "
        f"fallback, {len(pieces.control)} special: " + ", ".join(f"{i} {p}" for i, p in pieces.control),
    )
    console.print("longest: " + " ".join(repr(p) for _, p in pieces.longest))
    if not rows:
        return
    totals: dict[str, list[SubsetTokens]] = {}
    for row in rows:
        totals.setdefault(row.domain, []).append(row)
    table = new_table("Tokens", "text", "domain", "tokens", "bytes per token", "unknown", "byte fallback")
    groups = [(f"{r.corpus}/{r.subset}", r.domain, [r]) for r in rows]
    groups += [("all", domain, subsets) for domain, subsets in sorted(totals.items())] + [("all", "", list(rows))]
    for name, domain, subsets in groups:
        tokens, seen = sum(r.tokens for r in subsets), max(sum(r.seen for r in subsets), 1)
        table.add_row(
            name,
            domain,
            f"{tokens:,}",
            f"{sum(r.bytes for r in subsets) / max(tokens, 1):.2f}",
            f"{100 * sum(r.unknown for r in subsets) / seen:.3f} %",
            f"{100 * sum(r.byte_fallback for r in subsets) / seen:.3f} %",
        )
    console.print(table)


def print_tables(values: dict[str, Any], section: str = "") -> None:
    """Print the tables of a run's statistics.

    Args:
        section: one of `SECTIONS`, to print no other; empty: all.
    """
    console = new_console()
    sections = {
        "funnel": [_funnel(values), *_steps(values["funnel"].get("before_scan", {}))],
        "reasons": [_reasons(values)],
        "prepared": _prepared(values),
        "rules": [_rules(values["filter"])],
        "overlap": _overlaps(values["overlap"]),
        "dedupe": _dedupe(values["dedupe"]),
        **mixture_tables(values),
    }
    if asked := values.get("asked"):
        console.print(f"curated by {command_of(asked)}", soft_wrap=True)
        console.print()
    for name, tables in sections.items():
        if section in ("", name):
            for table in tables:
                print_table(console, table)
                console.print()
    if section not in ("", "funnel"):
        return
    for c in values["funnel"]["corpora"]:
        # Runs of earlier versions have no such figures.
        lost = 100 * c.get("lost_bytes", 0) / max(c.get("stored_bytes", 0), 1)
        note_damage(console, c["corpus"], c["damaged_files"], lost)
        note_times(console, c["corpus"], c.get("times_not_understood", 0))


def _funnel(values: dict[str, Any]) -> TextTable:
    tokens: dict[str, int] = {}
    # Held-out documents are among the kept, and so are their tokens.
    for name, subset in values["tokens"]["subsets"].items():
        corpus = name.split("/", 1)[0]
        tokens[corpus] = tokens.get(corpus, 0) + subset["tokens"]
    corpora = values["funnel"]["corpora"]
    found = {c["corpus"]: outcomes(c) for c in corpora}
    names = [name for name in ORDER if name == KEPT or any(name in sums for sums in found.values())]
    table = new_table("Funnel by corpus", "corpus", "rows", "MB", *names, "tokens")
    sums = [0] * (len(names) + 3)
    for c in corpora:
        own = [found[c["corpus"]].get(name, 0) for name in names]
        row = [c["rows"], c["bytes"], *own, tokens.get(c["corpus"], 0)]
        sums = [a + b for a, b in zip(sums, row, strict=True)]
        table.add_row(c["corpus"], *_row(row))
    table.add_row("all", *_row(sums), style="bold")
    table.caption, table.caption_justify = (
        "Rows are the sum of all that follows them, up to those that are kept.",
        "left",
    )
    return table


def _steps(corpora: dict[str, list[dict[str, Any]]]) -> list[TextTable]:
    """What the steps before the scan did with the documents that they were given."""
    if not corpora:
        return []
    table = new_table("Before the scan", "corpus", "step", "given", "dropped", "changed", "failed", "why dropped")
    for corpus, steps in corpora.items():
        for step in steps:
            reasons = sorted(step["dropped"].items(), key=lambda item: (-item[1], item[0]))
            why = ", ".join(f"{reason} {n:,}" for reason, n in reasons[:3] if reason)
            figures = (step["given"], sum(step["dropped"].values()), step["changed"], step["failed"])
            table.add_row(corpus, step["step"], *(f"{n:,}" for n in figures), why)
    return [table]


def _row(values: list[int]) -> list[str]:
    return [f"{v / 1e6:,.1f}" if i == 1 else f"{v:,}" for i, v in enumerate(values)]


def _reasons(values: dict[str, Any]) -> TextTable:
    corpora = values["funnel"]["corpora"]
    reasons = sorted({r for c in corpora for r in c["dropped"]})
    table = new_table("Dropped by reason", "reason", *(c["corpus"] for c in corpora), "all")
    for reason in reasons:
        row = [c["dropped"].get(reason, 0) for c in corpora]
        table.add_row(reason, *(f"{n:,}" if n else "" for n in row), f"{sum(row):,}")
    return table


def _rules(rules: dict[str, dict[str, int]]) -> TextTable:
    table = new_table("Rules", "rule", "failed", "alone", "most often together with")
    for rule, n in rules["failed"].items():
        if not n:
            continue
        others = {}
        for pair, both in rules["both"].items():
            names = pair.split("|")
            if rule in names:
                others[names[names[0] == rule]] = both
        top = sorted(others.items(), key=lambda item: (-item[1], item[0]))[:2]
        table.add_row(rule, f"{n:,}", f"{rules['alone'][rule]:,}", ", ".join(f"{name} {both:,}" for name, both in top))
    return table


def _prepared(values: dict[str, Any]) -> list[TextTable]:
    """Quality models with their held-out accuracy, benchmark items found, and scores of others."""
    tables = []
    models = values["prepared"].get("quality", {"models": {}, "skipped": {}})
    if models["models"] or models["skipped"]:
        table = new_table("Quality models", "domain", "good", "ordinary", "correct on held-out documents")
        for domain, m in models["models"].items():
            right = f"{m['correct']:,} of {m['held_out']:,} ({100 * m['correct'] / max(m['held_out'], 1):.1f} %)"
            table.add_row(domain, f"{m['good']:,}", f"{m['ordinary']:,}", right)
        for domain, why in models["skipped"].items():
            table.add_row(domain, "", "", f"none; the formula is used: {why}")
        tables.append(table)
    if "contamination" in values:
        table = new_table("Benchmark items in the corpora", "benchmark", "items", "not covered", "found", "documents")
        for name, b in values["contamination"]["benchmarks"].items():
            why = ", ".join(f"{n:,} {reason}" for reason, n in b["why_uncovered"].items() if n)
            cells = [f"{b[k]:,}" for k in ("items", "uncovered", "found", "documents")]
            cells[1] += f" ({why})" if why else ""
            table.add_row(name, *cells)
        tables.append(table)
    if scores := values["prepared"].get("scores"):
        table = new_table("Scores of others", "score", "from", "documents", "without a score")
        for name, s in scores.items():
            without = ", ".join(f"{corpus} {n:,}" for corpus, n in sorted(s.get("missing", {}).items()))
            table.add_row(name, s["source"], f"{s['matched']:,}" if "matched" in s else "", without)
        tables.append(table)
    return tables


def _overlaps(overlap: dict[str, Any]) -> list[TextTable]:
    titles = {
        "all_corpora": "Overlap, all rows: documents of the row's corpus with an exact copy in the column's",
        "kept_corpora": "Overlap, after the filters: exact copies",
        "near_corpora": "Overlap, after the filters: documents in a cluster with one of the column's, exact or near",
    }
    tables = []
    for name, title in titles.items():
        table = new_table(title, "", *overlap["corpora"])
        cells = {(a, b): documents for a, b, documents, _ in overlap[name]}
        for a, corpus in enumerate(overlap["corpora"]):
            row = [cells.get((a, b), 0) for b in range(len(overlap["corpora"]))]
            table.add_row(corpus, *(f"{n:,}" if n else "·" for n in row))
        tables.append(table)
    return tables


def _dedupe(figures: dict[str, Any]) -> list[TextTable]:
    """Clusters by size, and the rounds of near-dedupe."""
    sizes = new_table("Cluster sizes", "documents", "kept documents that represent as many")
    for size, n in sorted(figures["cluster_sizes"].items(), key=lambda e: int(e[0])):
        sizes.add_row(size if int(size) < 4 else f"{int(size):,}-{2 * int(size) - 1:,}", f"{n:,}")
    rounds = new_table("Rounds of near-dedupe", "round", "window", "bucket rows left", "pairs", "verified", "dropped")
    for i, r in enumerate(figures["rounds"], 1):
        names = ("window", "bucket_rows_walked_again", "candidate_pairs", "verified_pairs", "dropped")
        rounds.add_row(str(i), *(f"{r[name]:,}" for name in names))
    capped = f"{counted(figures['kept_past_a_cap'], 'document')} kept past the cap of a bucket"
    rounds.caption, rounds.caption_justify = capped, "left"
    return [sizes, rounds, *(_passages(figures["passages"]) if "passages" in figures else ())]


def _passages(figures: dict[str, Any]) -> list[TextTable]:
    """What was cut of documents since others have it, by kind and by subset."""
    kinds = new_table("Passages cut", "kind", "passages", "bytes")
    for kind, counts in figures["kinds"].items():
        kinds.add_row(kind, f"{counts['passages']:,}", f"{counts['bytes']:,}")
    kinds.caption, kinds.caption_justify = "Those of several kinds may share bytes.", "left"
    names = ("documents", "words", "bytes", "dropped", "kept_short")
    subsets = new_table("Documents that lost passages", "subset", *names[:3], "too short: dropped", "kept for others")
    for name, counts in figures["subsets"].items():
        subsets.add_row(name, *(f"{counts[n]:,}" for n in names))
    held_out = figures.get("of_held_out", {})
    if held_out.get("passages"):
        subsets.caption_justify = "left"
        subsets.caption = (
            f"{counted(held_out['passages'], 'passage')} ({held_out['bytes']:,} bytes) of "
            f"{counted(held_out['documents'], 'document')} went because they also stand in held-out documents."
        )
    return [kinds, subsets]
