"""Tables of the mixture: phases, pools, domains, corpora, subsets, languages, lengths and quality."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...pipeline.inspect.what_if_mixture import MixtureWhatIf, PhaseMixture
from ...pipeline.stats.outcomes import funnel
from ...pipeline.stats.stored import documents_by_class
from .terminal import TextTable, new_console, new_table, print_table


def mixture_tables(values: dict[str, Any]) -> dict[str, list[TextTable]]:
    """The tables of `stats/mixture.json` and what belongs to it, by section."""
    mixture = values["mixture"]
    phases = mixture["phases"]
    by: tuple[tuple[str, str, Callable[[dict[str, Any]], str]], ...] = (
        ("domain", "Mixture by domain", lambda cell: cell["domain"]),
        ("corpus", "Mixture by corpus", lambda cell: cell["corpus"]),
        ("subset", "Mixture by subset", lambda cell: f"{cell['corpus']}/{cell['subset']}"),
    )
    shares = []
    for label, title, key in by:
        rows = [(key(c), i, c["tokens"]) for i, p in enumerate(phases) for c in p["cells"]]
        shares.append(_shares(title, label, phases, rows))
    languages = values["languages"]["languages"]
    rows = [(name, i, counts.get(str(i + 1), 0)) for name, counts in languages.items() for i in range(len(phases))]
    kinds = (("lengths", "Lengths of documents"), ("quality", "Quality of documents"))
    classes = {kind: [_classes(title, kind, mixture)] for kind, title in kinds}
    table = new_table("Tokens per byte", "subset", "tokens", "bytes", "tokens per byte")
    for name, subset in values["tokens"]["subsets"].items():
        rate = subset["tokens"] / max(subset["bytes"], 1)
        table.add_row(name, f"{subset['tokens']:,}", f"{subset['bytes']:,}", f"{rate:.3f}")
    return {
        "tokens": [_funnel(values)],
        "phases": [_phases(mixture)],
        "pools": [_pools(phases)],
        "mixture": shares,
        "languages": [_shares("Languages", "language", phases, [r for r in rows if r[2]])],
        **classes,
        "rates": [table],
    }


def _funnel(values: dict[str, Any]) -> TextTable:
    """From rows to trained tokens: what is indented adds up to the line above it."""
    table = new_table("Funnel to trained tokens", "", "documents", "tokens")
    for line in funnel(values):
        cells = ("" if n is None else f"{n:,}" for n in (line.documents, line.tokens))
        table.add_row(f"{'  ' * line.depth}{line.name}", *cells)
    table.caption, table.caption_justify = "What is indented adds up to the line above it.", "left"
    return table


def _phases(mixture: dict[str, Any]) -> TextTable:
    phases = mixture["phases"]
    total = sum(p["tokens"] for p in phases) or 1
    table = new_table("Phases", "phase", "wanted", "tokens", "share", "copies", "blocks", "padding")
    for p in phases:
        blocks = ", ".join(f"{s['blocks']:,} x {s['block_length']:,}" for s in p["sets"])
        padding, size = (sum(s[k] for s in p["sets"]) for k in ("padding", "tokens"))
        table.add_row(
            p["name"],
            f"{p['wanted_tokens']:,}",
            f"{p['tokens']:,}",
            f"{100 * p['tokens'] / total:.1f} %",
            f"{p['documents']:,}",
            blocks,
            f"{100 * padding / (padding + size):.2f} %",
        )
    table.add_row(
        "held out", "", f"{mixture['held_out']['tokens']:,}", "", "", f"{mixture['held_out']['blocks']:,}", ""
    )
    return table


def _repeats(repeat: dict[str, int]) -> str:
    """How often documents of a pool count, by the copies that they represent; empty: once each."""
    parts = [
        f"{times} x from {int(copies):,} copies" for copies, times in sorted(repeat.items(), key=lambda e: int(e[0]))
    ]
    return f" ({', '.join(parts)})" if parts else ""


def _pools(phases: Sequence[dict[str, Any]]) -> TextTable:
    table = new_table("Pools", "phase", "pool", "wanted", "reached", "share", "available", "epochs", "allowed")
    table.labels, table.columns[1].justify = 2, "left"
    for p in phases:
        for pool in p["pools"]:
            table.add_row(
                p["name"],
                pool["pool"] + _repeats(pool.get("repeat", {})),
                f"{pool['wanted_tokens']:,}",
                f"{pool['tokens']:,}",
                f"{100 * pool['tokens'] / max(p['tokens'], 1):.2f} %",
                f"{pool['available_tokens']:,}",
                f"{pool['epochs']:.2f}",
                f"{pool['max_epochs']:g}",
            )
        if p["given_away"]:
            table.add_row(p["name"], f"no documents for {', '.join(p['given_away'])}", *[""] * 6)
    return table


def _shares(
    title: str, label: str, phases: Sequence[dict[str, Any]], rows: Iterable[tuple[str, int, int]]
) -> TextTable:
    """Tokens and shares by phase. `rows`: (name, phase, tokens), which are summed."""
    sums: dict[str, list[int]] = {}
    for name, phase, tokens in rows:
        sums.setdefault(name, [0] * len(phases))[phase] += tokens
    table = new_table(title, label, *(x for p in phases for x in (p["name"], "share")))
    for name, row in sorted(sums.items(), key=lambda item: (-sum(item[1]), item[0])):
        parts = [(f"{n:,}", f"{100 * n / max(p['tokens'], 1):.2f} %") for n, p in zip(row, phases, strict=True)]
        table.add_row(name, *(x for part in parts for x in part))
    return table


def _classes(title: str, kind: str, mixture: dict[str, Any]) -> TextTable:
    """Documents by class of length or quality: what is kept, and each phase, each document once."""
    series = [("kept", mixture["survivors"][kind]), *((p["name"], p[kind]) for p in mixture["phases"])]
    counts = [documents_by_class(domains) for _, domains in series]
    table = new_table(title, "tokens" if kind == "lengths" else "quality", *(name for name, _ in series))
    for level in sorted({level for documents in counts for level in documents}):
        low, high = (2**level, 2 ** (level + 1) - 1) if kind == "lengths" else (level / 20, (level + 1) / 20)
        name = f"{low:,} to {high:,}" if kind == "lengths" else f"{low:.2f} to {high:.2f}"
        table.add_row(name, *(f"{documents.get(level, 0):,}" for documents in counts))
    return table


def print_mixture_what_if(found: MixtureWhatIf, overrides: Sequence[str]) -> None:
    """What other weights would change: by phase its pools and domains, now and then; or which pools are short."""
    console = new_console()
    console.print(f"what if {', '.join(overrides)}", style="bold")
    if found.short:
        console.print(found.short, style="yellow", soft_wrap=True)
        for line in found.details:
            console.print(line)
        return
    phases = {phase.name: phase for phase in found.before}
    for after in found.after:
        before = phases.get(after.name, PhaseMixture(after.name, 0, 0, 0, (), {}, {}))
        title = f"{after.name}: {before.tokens:,} tokens now, {after.tokens:,} then"
        table = new_table(title, "pool", "share now", "then", "tokens then", "available", "times read", "allowed")
        had = {pool.pool: pool for pool in before.pools}
        for pool in after.pools:
            old = had.get(pool.pool)
            now = f"{100 * old.tokens / max(before.tokens, 1):.2f} %" if old else ""
            then = f"{100 * pool.tokens / max(after.tokens, 1):.2f} %"
            counts = (f"{pool.tokens:,}", f"{pool.available:,}", f"{pool.epochs:.2f}", f"{pool.max_epochs:g}")
            table.add_row(pool.pool, now, then, *counts)
        if after.given_away:
            table.caption, table.caption_justify = f"no documents for {', '.join(after.given_away)}", "left"
        print_table(console, table)
        console.print()
    console.print(f"kept tokens that no phase uses: {found.unused[0]:,} now, {found.unused[1]:,} then")
    console.print("a curation with this change would reuse all up to the tokens and redo mix and stats")
