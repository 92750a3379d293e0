"""Passages: of equal ones the first stays, all others are cut, and nothing is lost; the same bytes for any schedule."""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline.curate import CurateSettings
from fox1.pipeline.curate import curate as curate_all
from fox1.pipeline.dedupe.order import NOT_HELD_OUT
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.pool import pool_session
from fox1.pipeline.engine.shuffle import sort_records
from fox1.pipeline.inspect.provenance import trace, why
from fox1.pipeline.inspect.run import FinishedRun
from fox1.pipeline.mix.budget import BlockRule, MixSettings, Phase, Weight
from fox1.pipeline.passages import find, hashing
from fox1.pipeline.passages.settings import KINDS, PassageSettings
from fox1.pipeline.passages.units import RUN, passages, runs_around
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.schemas import EDIT_TYPE
from fox1.pipeline.signals.segment import segment
from fox1.pipeline.text.edits import apply_edits, cut_upon, raw_span, raw_spans
from fox1.tokenize.spans import text_buffers
from hypothesis import given
from hypothesis import settings as of_hypothesis
from hypothesis import strategies as st

from tests.faults.promises import hashes
from tests.pipeline.dedupe.test_dedupe import decisions, settings_for, write
from tests.pipeline.passages import reference
from tests.pipeline.passages.reference import left, repeats

EVERY = PassageSettings(KINDS, min_words=2, sentences=2, substring_words=8, min_left=0)


def cuts_of(texts: Sequence[str], settings: PassageSettings, held_out: frozenset[int] = frozenset()) -> Any:
    """[(begin, end, kind, by)] of each text, by the kernels alone."""
    text = pa.array(texts, pa.large_string())
    order = np.array([0 if i in held_out else NOT_HELD_OUT for i in range(len(texts))], np.uint64)
    piece = find._Piece(np.arange(1, len(texts) + 1, dtype=np.uint64), order, segment(*text_buffers(text)))

    def walk(found: Any) -> tuple[np.ndarray, np.ndarray]:
        rows = sort_records(np.concatenate([piece.records(f) for f in found]), find.PASSAGES.by)
        columns = [np.ascontiguousarray(rows[name]) for name in find.PASSAGE.names]
        keepers, state = np.zeros((1, len(find._KEEPER)), np.uint64), np.zeros(len(find._STATE), np.uint64)
        # In two slices, as large partitions come.
        half, parts = len(rows) // 2, []
        for use in (slice(None, half), slice(half, None)):
            parts.append(find._repeats(*(c[use] for c in columns), np.zeros(len(rows), np.int64), 0, keepers, state))
        return tuple(np.concatenate(both) for both in zip(*parts, strict=True))

    cuts, marks = walk(passages(piece.segments, settings))
    if "substrings" in settings.cut and len(marks):
        marks = marks[np.lexsort((marks[:, 1], marks[:, 0]))].astype(np.int64)
        more, _ = walk([runs_around(piece.segments, (marks[:, 0] - 1, marks[:, 1]), settings)])
        cuts = np.concatenate([cuts, more])
    rows = cuts.view(find.CUT).ravel()
    packed = find.Unpacked.of(rows)
    found: list[list[Any]] = [[] for _ in texts]
    for i, row in enumerate(rows):
        if row["by"]:
            kind = KINDS[packed.kind[i] - 1]
            found[int(row["id"]) - 1].append((packed.begin[i], packed.end[i], kind, int(row["by"]) - 1))
    return [sorted(each) for each in found]


PIECES = st.sampled_from(["a", "b", "Ab", "c1", "c2", " ", " ", " ", ", ", ". ", '!" ', "\n", "\n\n", "\r\n", " - "])
TEXTS = st.lists(st.lists(PIECES, max_size=40).map("".join), min_size=1, max_size=5)


@of_hypothesis(deadline=None, max_examples=300)
@given(TEXTS, st.booleans(), st.sets(st.integers(0, 4)), st.sets(st.sampled_from(KINDS), min_size=1))
def test_what_is_cut_is_what_the_definition_says(
    texts: list[str], any_numbers: bool, held_out: set[int], kinds: set[Any]
) -> None:
    settings = replace(EVERY, cut=tuple(k for k in KINDS if k in kinds), any_numbers=any_numbers)
    expected = [
        sorted((c.begin, c.end, c.kind, c.by) for c in each) for each in repeats(texts, settings, frozenset(held_out))
    ]
    assert cuts_of(texts, settings, frozenset(held_out)) == expected


@of_hypothesis(deadline=None, max_examples=100)
@given(st.lists(st.sampled_from("aab"), min_size=8, max_size=80), st.integers(8, 12))
def test_every_substring_that_repeats_is_found_also_where_all_words_are_alike(words: list[str], length: int) -> None:
    settings = replace(EVERY, cut=("substrings",), substring_words=length)
    texts = [" ".join(words), " ".join(reversed(words))]
    expected = [sorted((c.begin, c.end, c.kind, c.by) for c in each) for each in repeats(texts, settings)]
    assert cuts_of(texts, settings) == expected


def test_the_hash_of_a_run_is_that_of_its_words_wherever_they_stand() -> None:
    rng = np.random.default_rng(3)
    words = rng.integers(1, 1 << 60, (2, 9_000), dtype=np.uint64)
    words[:, 5_000:9_000] = words[:, 100:4_100]
    runs = hashing.runs_of(words, 9_000)
    first, size = rng.integers(100, 3_000, 500), rng.integers(1, 1_100, 500)
    here = hashing.run_hashes(runs, first, first + size, RUN)
    there = hashing.run_hashes(runs, first + 4_900, first + 4_900 + size, RUN)
    assert (here == there).all()
    longer = hashing.run_hashes(runs, first, first + size + 1, RUN)
    other = hashing.run_hashes(runs, first, first + size, RUN - 1)
    assert not (here == longer).any() and not (here == other).any()
    prime, base = int(hashing.PRIME), int(hashing.BASES[0])
    value = 0
    for word in words[0, :3_000].tolist():
        value = (value * base + word) % prime
    assert int(runs.sums[0, 3_000]) == value


SPANS = st.lists(st.integers(0, 40), max_size=12).map(lambda at: sorted(set(at)))


@of_hypothesis(deadline=None, max_examples=300)
@given(SPANS, SPANS, st.lists(st.sampled_from(["", "<mail>", "é"]), min_size=6, max_size=6))
def test_cuts_upon_edits_make_what_both_make_in_turn(edited: list[int], cut: list[int], texts: list[str]) -> None:
    raw = "The lighthouse keeper counts ships at night."
    edits = [
        {"start": a, "end": b, "kind": 3, "replacement": t}
        for a, b, t in zip(edited[::2], edited[1::2], texts, strict=False)
    ]

    def applied(to: str, by: list[dict[str, Any]]) -> str:
        return apply_edits(pa.array([to], pa.large_string()), pa.array([by], EDIT_TYPE))[0].as_py()

    between = applied(raw, edits)
    at = [len(between[:i].encode()) for i in cut if i <= len(between)]
    spans = [(a, b, 9) for a, b in zip(at[::2], at[1::2], strict=False)]
    made = cut_upon(edits, spans)
    data = between.encode()
    for a, b, _ in reversed(spans):
        data = data[:a] + data[b:]
    assert applied(raw, made) == data.decode()
    places = [(0, 0), *((e["start"], e["end"]) for e in made), (len(raw), len(raw))]
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(places))
    if spans:
        begin, end = (np.array(column) for column in list(zip(*spans, strict=True))[:2])
        first, last = raw_spans(edits, begin, end)
        assert list(zip(first, last, strict=True)) == [raw_span(edits, a, b) for a, b, _ in spans]


NOUNS = "harbour gull rope mast tide lamp stone bread window garden letter river cloud horse candle market".split()


def sentence(rng: random.Random, words: int = 12) -> str:
    return " ".join(rng.choices(NOUNS, k=words)).capitalize() + f" {rng.randrange(10_000)}."


def documents(rng: random.Random, count: int, shared: list[str], lines: int = 8) -> list[str]:
    """Texts of lines of one to three sentences, a fifth of which are shared."""
    return [
        "\n".join(
            rng.choice(shared) if rng.random() < 0.2 else " ".join(sentence(rng) for _ in range(rng.randrange(1, 4)))
            for _ in range(lines)
        )
        for _ in range(count)
    ]


def with_letters(settings: CurateSettings) -> CurateSettings:
    """A tokenizer that holds all letters of the texts."""
    return replace(settings, tokenizer=replace(settings.tokenizer, vocab_size=400))


def with_passages(settings: CurateSettings, **options: Any) -> CurateSettings:
    return replace(settings, passages=PassageSettings(**options))


STAGES = ("prepare", "scan", "filter", "dedupe")


def final(run: Path, raw: dict[tuple[str, str, int], str]) -> dict[tuple[str, str, int], str]:
    """The texts that a run keeps, by corpus, file and row."""
    by_id = {d["doc_id"]: d for d in decisions(run)}
    found = {}
    for path in sorted((run / "cuts").rglob("*.parquet")):
        for row in pq.read_table(path).to_pylist():
            d = by_id[row["doc_id"]]
            if d["kept"]:
                key = d["corpus"], d["file"], d["row"]
                data = apply_edits(pa.array([raw[key]], pa.large_string()), pa.array([row["edits"]], EDIT_TYPE))
                found[key] = data[0].as_py()
    return found


def made(root: Path, rng: random.Random) -> tuple[CurateSettings, dict[tuple[str, str, int], str]]:
    """Two corpora and a held-out part that share lines; settings, and the texts."""
    shared = [f"{sentence(rng)} {sentence(rng)} {sentence(rng)}" for _ in range(12)]
    texts: dict[tuple[str, str, int], str] = {}
    for corpus, name, count in (("low", "a", 60), ("high", "a", 40), ("high", "val", 5)):
        own = documents(rng, count, shared)
        write(root, corpus, own, name)
        texts |= {(corpus, f"{name}.jsonl", i): t for i, t in enumerate(own)}
    return with_letters(settings_for(root, "high", "low", held_out="high")), texts


@pytest.mark.parametrize("kinds", [("lines",), ("paragraphs", "sentences"), ("substrings",), KINDS])
def test_a_run_keeps_what_the_definition_keeps(
    tmp_path: Path, curate: Callable[..., Any], kinds: tuple[Any, ...]
) -> None:
    settings, texts = made(tmp_path, random.Random(11))
    options = {"cut": kinds, "sentences": 2, "substring_words": 20, "min_left": 30}
    curate(with_passages(settings, **options), tmp_path / "run", *STAGES)
    run = tmp_path / "run"
    by_key = {(d["corpus"], d["file"], d["row"]): d for d in decisions(run)}
    quality = {
        row["doc_id"]: (-row["quality"], -row["n_bytes"], row["doc_id"])
        for path in (run / "signals").rglob("*.parquet")
        for row in pq.read_table(path, columns=["doc_id", "quality", "n_bytes"]).to_pylist()
    }
    # The order of dedupe: held out, priority of the corpus, quality, length, id.
    ordered = sorted(
        (k for k in texts if by_key[k]["kept"] or by_key[k]["reason"] == "duplicate_passages"),
        key=lambda k: (k[1] != "val.jsonl", k[0] != "high", quality[by_key[k]["doc_id"]]),
    )
    held_out = frozenset(i for i, k in enumerate(ordered) if k[1] == "val.jsonl")
    cuts = repeats([texts[k] for k in ordered], PassageSettings(**options), held_out)
    needed = {c.by for i, each in enumerate(cuts) for c in each if c.by != i}
    expected = {}
    for i, key in enumerate(ordered):
        text = left(texts[key], cuts[i])
        if not cuts[i] or (len(text.split()) >= 30 or (i in needed and text)):
            expected[key] = text
    assert final(run, texts) == expected
    assert any(texts[k] != text for k, text in expected.items())
    assert sum(d["kept"] for d in by_key.values()) == len(expected)
    # Each cut passage names a kept document, or a held-out one, that has its words.
    names = {d["doc_id"]: k for k, d in by_key.items()}
    for path in (run / "cuts").rglob("*.parquet"):
        for row in pq.read_table(path).to_pylist():
            for passage in row["passages"]:
                keeper = names[passage["kept_in"]]
                assert by_key[keeper]["kept"] or passage["kept_in"] == row["doc_id"]
                words = texts[names[row["doc_id"]]][passage["start"] : passage["end"]].split()
                assert set(words) <= set(texts[keeper].split())


def test_no_line_is_lost_whatever_kinds_are_cut(tmp_path: Path, curate: Callable[..., Any]) -> None:
    settings, texts = made(tmp_path, random.Random(12))
    curate(with_passages(settings, cut=KINDS, min_left=0), tmp_path / "run", *STAGES)
    kept = final(tmp_path / "run", texts)
    by_key = {(d["corpus"], d["file"], d["row"]): d for d in decisions(tmp_path / "run")}
    before = [t for k, t in texts.items() if by_key[k]["kept"] or by_key[k]["reason"] == "duplicate_passages"]
    sentences = {s for t in before for line in t.split("\n") for s in line.split(". ")}
    everything = "\n".join(kept.values())
    assert all(s in everything for s in sentences)


def test_bytes_are_equal_for_one_and_for_several_workers_and_after_an_end_in_the_middle(
    tmp_path: Path, curate: Callable[..., Any]
) -> None:
    settings, _ = made(tmp_path, random.Random(13))
    settings = with_passages(settings, cut=KINDS)
    curate(settings, tmp_path / "one")

    class Ended(Exception):
        pass

    class Ends:
        """Ends the run with the first task of a step that is done."""

        def __init__(self, step: str) -> None:
            self.step = step

        def __getattr__(self, name: str) -> Callable[..., None]:
            def told(*facts: Any) -> None:
                if name == "task_done" and facts[0] == self.step:
                    raise Ended

            return told

    for step in ("dedupe.passages", "dedupe.passage_repeats", "dedupe.passage_runs", "dedupe.passage_edits"):
        with pytest.raises(Ended):
            curate(settings, tmp_path / "ended", progress=Ends(step))
    _, engine = curate(settings, tmp_path / "ended")
    assert engine.reused["dedupe.passages"][0] == engine.reused["dedupe.passages"][1] > 0
    with pool_session(2) as pool:
        curate_all(settings, Engine(RunPaths(tmp_path / "several"), pool))
    one = hashes(tmp_path / "one")
    assert any(name.startswith("cuts/") for name in one)
    assert one == hashes(tmp_path / "ended") == hashes(tmp_path / "several")
    _, engine = curate(settings, tmp_path / "one")
    assert all(reused == total for reused, total in engine.reused.values())


def test_a_run_without_passages_is_as_if_there_were_none(tmp_path: Path, curate: Callable[..., Any]) -> None:
    settings, _ = made(tmp_path, random.Random(14))
    curate(settings, tmp_path / "never", *STAGES)
    curate(with_passages(settings, cut=("lines",)), tmp_path / "once", *STAGES)
    assert hashes(tmp_path / "never") != hashes(tmp_path / "once")
    curate(settings, tmp_path / "once", *STAGES)
    assert hashes(tmp_path / "never") == hashes(tmp_path / "once")
    assert settings.identity() != with_passages(settings, cut=("lines",)).identity()


def test_hostile_documents_are_cut_in_time_and_keep_their_first_passages(
    tmp_path: Path, curate: Callable[..., Any]
) -> None:
    rng = random.Random(15)
    line = sentence(rng, 20)
    hidden = line[:30] + "\u00ad" + line[30:60] + "\u200b" + line[60:]
    filler = "\n".join(sentence(rng, 20) for _ in range(6))
    texts = [
        "\n".join([line] * 20_000),
        " ".join(["rope"] * 20_000),
        f"{filler}\n{hidden}",
        "",
        "\n" * 50_000,
        "-" * 200_000,
        "漢字" * 10_000,
    ]
    write(tmp_path, "c", texts)
    options = {"cut": KINDS, "min_left": 0}
    curate(with_passages(with_letters(settings_for(tmp_path, "c")), **options), tmp_path / "run", *STAGES)
    kept = final(tmp_path / "run", {("c", "a.jsonl", i): t for i, t in enumerate(texts)})
    assert ("c", "a.jsonl", 3) not in kept or ("c", "a.jsonl", 4) not in kept, "one is an exact copy of the other"
    found = [kept.get(("c", "a.jsonl", i), texts[i] if i in (3, 4) else "") for i in range(len(texts))]
    assert found[1] == "rope " * 50
    assert found[3:6] == texts[3:6] and found[6] == texts[6][:50]
    # The line stands once: in the document that is nothing else, or in the other one, whose copy has invisible characters.
    assert sorted((found[0].count(line), found[2].count(hidden))) == [0, 1]
    assert len(found[0]) <= len(line) + 1 and found[2].startswith(filler)


def test_numbers_may_be_alike_and_code_may_not() -> None:
    texts = [
        "\n".join(f"posted on {n} of may by the keeper of the old light" for n in (3, 41, 5)),
        "total = first + second * third if ready else fourth + fifth\n",
        "total = first - second * third if ready else fourth + fifth\n",
    ]
    settings = replace(EVERY, cut=("lines",), min_words=5)
    assert [len(c) for c in cuts_of(texts, settings)] == [0, 0, 0]
    assert [len(c) for c in cuts_of(texts, replace(settings, any_numbers=True))] == [1, 0, 0]


def test_the_scope_and_exemptions_of_dedupe_hold_for_passages(tmp_path: Path, curate: Callable[..., Any]) -> None:
    rng = random.Random(16)
    line, own = sentence(rng, 20), [sentence(rng, 300) for _ in range(6)]
    write(tmp_path, "one", [f"{own[0]}\n{line}", f"{own[1]}\n{line}"])
    write(tmp_path, "two", [f"{own[2]}\n{line}", f"{own[3]}\n{line}"])
    write(tmp_path, "two", [own[4]], "val")
    settings = with_letters(settings_for(tmp_path, "one", "two", held_out="two"))

    def kept(name: str, **changes: Any) -> dict[str, int]:
        changed = replace(settings, dedupe=replace(settings.dedupe, **changes))
        curate(with_passages(changed, cut=("lines",), min_left=0), tmp_path / name, *STAGES)
        texts = {("one", "a.jsonl", i): f"{own[i]}\n{line}" for i in range(2)}
        texts |= {("two", "a.jsonl", i): f"{own[2 + i]}\n{line}" for i in range(2)}
        texts["two", "val.jsonl", 0] = own[4]
        found = final(tmp_path / name, texts)
        return {c: sum(line in t for (corpus, _, _), t in found.items() if corpus == c) for c in ("one", "two")}

    assert kept("all") == {"one": 1, "two": 0}
    assert kept("within", scope="within") == {"one": 1, "two": 1}
    assert kept("across", scope="across") == {"one": 2, "two": 0}
    assert kept("exempt", exempt=("one",)) == {"one": 2, "two": 1}
    # What stands in a held-out document goes everywhere, and that one stays as it is.
    write(tmp_path, "two", [f"{own[4]}\n{line}"], "val")
    own[4] = f"{own[4]}\n{line}"
    assert kept("held", exempt=("one",)) == {"one": 0, "two": 1}


def test_why_and_trace_name_the_document_that_keeps_a_passage(tmp_path: Path, curate: Callable[..., Any]) -> None:
    settings, texts = made(tmp_path, random.Random(17))
    mix = MixSettings((Phase("p", 3000, (Weight(1.0),), (BlockRule(256),)),))
    settings = replace(with_passages(settings, cut=("lines",), min_left=0), mix=mix)
    curate(settings, tmp_path / "run")
    run = FinishedRun(RunPaths(tmp_path / "run"))
    lost = {}
    for path in (tmp_path / "run" / "cuts").rglob("*.parquet"):
        lost |= {row["doc_id"]: row["passages"] for row in pq.read_table(path).to_pylist() if row["passages"]}
    doc_id, listed = min(lost.items())
    found = why(run, str(doc_id))
    assert [(p.start, p.end) for p in found.passages] == [(p["start"], p["end"]) for p in listed]
    assert {p.kind for p in found.passages} == {"duplicate line"}
    corpus, _, rest = found.passages[0].kept_in.partition("/")
    file, _, row = rest.partition("#")
    text = texts[corpus, file, int(row)]
    own = texts[(lambda n: (n[0], n[1], n[2]))(_key(found.name))]
    assert own[found.passages[0].start : found.passages[0].end].strip() in text
    seen = [s for block in range(8) for s in trace(run, "p", block)]
    assert any(s.passages and "duplicate line" in s.edits for s in seen)
    assert all(run.doc_id(p.kept_in) for s in seen for p in s.passages)
    figures = json.loads((tmp_path / "run" / "stats" / "dedupe.json").read_text())["passages"]
    assert figures["kinds"]["lines"]["passages"] == sum(map(len, lost.values()))
    assert sum(s["documents"] for s in figures["subsets"].values()) == len(lost)


def _key(name: str) -> tuple[str, str, int]:
    corpus, _, rest = name.partition("/")
    file, _, row = rest.partition("#")
    return corpus, file, int(row)


def test_the_reference_reads_texts_as_it_is_meant_to() -> None:
    text = "One two. Three four!\nFive six\n\nSeven eight."
    settings = replace(EVERY, cut=("lines", "paragraphs", "sentences"))
    assert [(p.kind[0], text[p.begin : p.end]) for p in reference.passages(text, settings)] == [
        ("l", "One two. Three four!\n"),
        ("l", "Five six\n"),
        ("l", "Seven eight."),
        ("p", "One two. Three four!\nFive six\n\n"),
        ("p", "Seven eight."),
        ("s", "One two. Three four!\n"),
        ("s", "Three four!\nFive six"),
        ("s", "Five six\n\nSeven eight."),
    ]
