"""The sums of a run's statistics close as they are printed, and a name counts the same wherever it stands."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import fox1
import numpy as np
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.stats.outcomes import (
    BY_PHASE,
    FILTERED,
    KEPT,
    TRAINED,
    UNREADABLE,
    funnel,
    kept_documents,
    outcomes,
)
from fox1.tokenize.shards import token_batches

from tests.conftest import SMALL, curate_sample, run_command


@pytest.fixture(scope="module")
def stats(run: Path) -> dict[str, Any]:
    return fox1.open_run(run).stats


def table(printed: str, title: str) -> list[tuple[str, list[str]]]:
    """The rows of a printed table: (name with its indent, cells)."""
    lines = printed[printed.index(title) :].splitlines()[2:]
    cut = lines[: lines.index("")] if "" in lines else lines
    return [(re.split(r"\s{2,}\d", line)[0].rstrip(), re.findall(r"(?<=\s)[\d,.]+(?=\s|$)", line)) for line in cut]


def number(cell: str) -> int:
    return int(cell.replace(",", ""))


def test_the_outcomes_of_a_corpus_add_up_to_its_rows(stats: dict[str, Any]) -> None:
    for corpus in stats["funnel"]["corpora"]:
        assert sum(outcomes(corpus).values()) == corpus["rows"]
    made_up = {
        "quarantined": 2,
        "kept": 3,
        "dropped": {"min_words": 4, "licence": 5, "near_duplicate": 6, "languages": 7},
    }
    expected = {UNREADABLE: 2, "licence": 5, FILTERED: 11, "near duplicates": 6, KEPT: 3}
    assert outcomes(made_up) == expected


def test_a_name_counts_the_same_in_both_tables(run: Path, stats: dict[str, Any]) -> None:
    printed = run_command("stats", run, "--section", "tokens").stdout
    shown = {name.strip(): cells for name, cells in table(printed, "Funnel to trained tokens")}
    sums: dict[str, int] = {}
    for corpus in stats["funnel"]["corpora"]:
        for name, n in outcomes(corpus).items():
            sums[name] = sums.get(name, 0) + n
    assert {name: number(shown[name][0]) for name in sums} == sums
    assert sum(sums.values()) == number(shown["rows"][0])
    by_corpus = table(run_command("stats", run, "--section", "funnel").stdout, "Funnel by corpus")
    corpora = {c["corpus"]: c for c in stats["funnel"]["corpora"]}
    for name, cells in by_corpus:
        if name in corpora:
            rows, _, *counts, _ = cells
            assert sum(map(number, counts)) == number(rows) == corpora[name]["rows"]


def test_the_funnel_to_trained_tokens_closes(run: Path, stats: dict[str, Any]) -> None:
    rows = table(run_command("stats", run, "--section", "tokens").stdout, "Funnel to trained tokens")
    shown = {name.strip(): [number(cell) for cell in cells] for name, cells in rows}
    parts = ("held out for validation", "not used in any phase", "used in phases, each once and whole")
    assert [sum(shown[p][i] for p in parts) for i in (0, 1)] == shown["kept"]
    phases = [p["name"] for p in stats["mixture"]["phases"]]
    assert [sum(shown[p][i] for p in phases) for i in (0, 1)] == shown[TRAINED] == shown[BY_PHASE]
    lines = funnel(stats)
    at = next(i for i, line in enumerate(lines) if line.name == TRAINED)
    end = next(i for i, line in enumerate(lines) if line.name == BY_PHASE)
    assert sum(line.tokens or 0 for line in lines[at + 1 : end]) == lines[at].tokens
    assert sum(line.documents or 0 for line in lines[at + 1 : end]) == lines[at].documents
    assert shown["kept"][1] == stats["tokens"]["tokens"]
    every = sum(n for c in stats["mixture"]["survivors"]["lengths"].values() for _, n in c.values())
    training = shown["kept"][0] - shown["held out for validation"][0]
    assert every - 2 * training == shown["kept"][1] - shown["held out for validation"][1]
    # By the index of blocks, which says of each document where it is used.
    used = {i for path in (run / "index").glob("blocks-*") for i in pq.read_table(path).column("doc_id").to_pylist()}
    assert shown["used in phases, each once and whole"][0] == len(used)


def test_documents_that_several_phases_use_are_counted_once_and_told() -> None:
    phase = {"name": "one", "lengths": {"web": {"3": [5, 50], "4": [1, 20]}}}
    mixture = {
        "held_out": {"documents": 2, "tokens": 10},
        "unused": [{"documents": 3, "tokens": 30}],
        "survivors": {"lengths": {"web": {"3": [9, 90], "4": [2, 40]}}},
        "phases": [phase, {**phase, "name": "two"}],
    }
    found = kept_documents([{"kept": 13}], mixture, 114)
    # Two of a document's tokens are BOS and EOS.
    assert (found.used, found.again, found.used_tokens) == (8, 4, 84) and found.phases == {"one": 6, "two": 6}


def whole_lengths(run: Path) -> dict[int, int]:
    """Tokens of every kept document, BOS and EOS included, by its id."""
    found: dict[int, int] = {}
    for path in (run / "tokens").rglob("*.arrow"):
        for batch in token_batches(path):
            sizes = np.diff(batch.column("input_ids").offsets.to_numpy()) + 2
            found |= dict(zip(batch.column("doc_id").to_pylist(), sizes.tolist(), strict=True))
    return found


def test_further_epochs_are_apart_from_what_a_budget_cuts(corpora: Path, tmp_path: Path) -> None:
    """By the index of blocks: of each phase the tokens of documents beyond one whole pass, and what is missing of one."""
    weights = "phases.phase1.weights=[{domain: math, weight: 4, max_epochs: 9}, {domain: web, weight: 1}]"
    curate_sample(tmp_path / "run", corpora, *SMALL, weights)
    lengths, read = whole_lengths(tmp_path / "run"), dict[tuple[int, int], int]()
    for path in (tmp_path / "run" / "index").glob("blocks-*"):
        part = pq.read_table(path, columns=["doc_id", "phase", "length"])
        for doc_id, phase, n in zip(*(column.to_pylist() for column in part.columns), strict=True):
            read[phase, doc_id] = read.get((phase, doc_id), 0) + n
    beyond = [n - lengths[doc_id] for (_, doc_id), n in read.items()]
    lines = {line.name: line.tokens for line in funnel(fox1.open_run(tmp_path / "run").stats)}
    assert max(beyond) > 0 and lines["further epochs of a phase"] == sum(n for n in beyond if n > 0)
    assert min(beyond) < 0 and lines["cut where a budget ends"] == sum(n for n in beyond if n < 0)
