"""What a page says of a run at first sight, from its stored statistics: no table of documents is opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from ... import __version__
from ...storage.reading import as_written
from ...storage.store import shown
from ..engine.records import asked_of, curated
from ..run.manifest import is_finished, read_manifest
from ..run.paths import RunPaths
from ..stats.concerns import concerns
from ..stats.findings import findings, verdict
from ..stats.outcomes import kept_documents, outcomes
from ..stats.stored import read_stats


def overview(paths: RunPaths, stats: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Figures, verdict, findings and mixture of a finished run, as JSON.

    Args:
        stats: of the run; None: they are read.

    Raises:
        ValueError: it is not finished, or its statistics are not of the shape that this version writes.
    """
    stats = stats or read_stats(paths.root)
    finished = is_finished(read_manifest(paths))
    with as_written(f"{shown(paths.root)}/stats", "curate the run again", ValueError):
        return {
            "name": paths.root.name,
            "place": shown(paths.root),
            "version": __version__,
            "asked": asked_of(paths) or {},
            "curated": curated(paths),
            "finished": finished,
            "verdict": asdict(verdict(stats, finished)),
            **_figures(stats),
            "findings": findings(stats),
            "warnings": concerns(stats),
            "corpora": [_corpus(c) for c in stats["funnel"]["corpora"]],
            "domains": _domains(stats["mixture"]),
            "languages": _languages(stats["languages"]["languages"]),
            "phases": [_phase(p) for p in stats["mixture"]["phases"]],
        }


def _figures(stats: Mapping[str, Any]) -> dict[str, Any]:
    corpora = stats["funnel"]["corpora"]
    found = kept_documents(corpora, stats["mixture"], stats["tokens"]["tokens"])
    return {
        "rows": sum(c["rows"] for c in corpora),
        "bytes": sum(c["bytes"] for c in corpora),
        "kept": found.kept,
        "kept_tokens": found.tokens,
        "used": found.used,
        "unused": found.unused,
        "held_out": found.held_out,
        "trained_tokens": sum(p["tokens"] for p in stats["mixture"]["phases"]),
    }


def _corpus(corpus: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": corpus["corpus"],
        "rows": corpus["rows"],
        "kept": corpus["kept"],
        "bytes": corpus["bytes"],
        "damaged": corpus["damaged_files"],
        "outcomes": outcomes(corpus),
    }


def _domains(mixture: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Kept training documents and tokens by domain, the largest first."""
    found: dict[str, list[int]] = {}
    for domain, classes in mixture["survivors"]["lengths"].items():
        for documents, tokens in classes.values():
            own = found.setdefault(domain, [0, 0])
            own[0] += documents
            own[1] += tokens
    return [{"name": d, "documents": n, "tokens": t} for d, (n, t) in sorted(found.items(), key=lambda e: -e[1][1])]


def _languages(languages: Mapping[str, Mapping[str, int]]) -> list[dict[str, Any]]:
    by_size = sorted(languages.items(), key=lambda e: (-e[1].get("rows", 0), e[0]))
    return [{"name": name, "rows": n.get("rows", 0), "kept": n.get("kept", 0)} for name, n in by_size]


def _phase(phase: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": phase["name"],
        "wanted": phase["wanted_tokens"],
        "tokens": phase["tokens"],
        "documents": phase["documents"],
        "pools": [
            {
                name: pool[name]
                for name in ("pool", "wanted_tokens", "tokens", "documents", "available_tokens", "epochs")
            }
            for pool in phase["pools"]
        ],
        "domains": _shares(phase["cells"], "domain"),
        "corpora": _shares(phase["cells"], "corpus"),
        "sets": phase["sets"],
    }


def _shares(cells: Sequence[Mapping[str, Any]], by: str) -> dict[str, int]:
    """Domain or corpus -> tokens."""
    found: dict[str, int] = {}
    for cell in cells:
        found[cell[by]] = found.get(cell[by], 0) + cell["tokens"]
    return found
