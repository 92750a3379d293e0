"""Mix: budgets to the token, disjoint phases, blocks that hold what the documents say."""

from __future__ import annotations

import json
import pickle
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline import curate as curation
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.mix import blocks
from fox1.pipeline.mix.blocks import _apart
from fox1.pipeline.mix.budget import Phase, Weight, largest_remainder, quotas
from fox1.pipeline.mix.feasibility import BudgetShort
from fox1.pipeline.mix.select import floor_for
from fox1.pipeline.run.paths import RunPaths
from fox1.tokenize.pack import pack
from fox1.tokenize.shards import read_set, token_batches
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.promises import hashes


@given(st.integers(0, 10**13), st.lists(st.floats(0.001, 1000), min_size=1, max_size=30))
def test_largest_remainder_sums_exactly_and_drops_nobody(total: int, weights: list[float]) -> None:
    shares = largest_remainder(total, weights)
    assert sum(shares) == total
    if total >= 2 * len(weights):
        assert min(shares) >= 1


def test_an_absent_pool_gives_its_share_to_the_others() -> None:
    phase = Phase(
        "p", 100, (Weight(1, domain="web"), Weight(1, domain="code"), Weight(2, domain="dialogue", if_present=True)), ()
    )
    assert quotas(phase, [10, 10, 0]) == ([50, 50, 0], ["dialogue"])
    with pytest.raises(ValueError, match="the pool `code` is empty"):
        quotas(phase, [10, 0, 5])


def test_a_quality_floor_takes_the_best_share() -> None:
    table = np.zeros(65_536, np.int64)
    table[[100, 200, 300, 400]] = 25
    assert floor_for(table, 1.0) == 0
    assert floor_for(table, 0.5) == 300
    assert floor_for(table, 0.25) == 400


def tokens_of(run: Path) -> dict[int, list[int]]:
    found = {}
    for path in (run / "tokens").rglob("*.arrow"):
        for batch in token_batches(path):
            for row in batch.to_pylist():
                found[row["doc_id"]] = row["input_ids"]
    return found


def blocks_of(folder: Path) -> list[dict[str, Any]]:
    rows = []
    for split in read_set(folder).splits:
        for name in split.files:
            with pa.memory_map(str(folder / str(split.block_length) / name)) as source:
                rows += pa.ipc.open_stream(source).read_all().to_pylist()
    return rows


PHASES = ("phase1", "phase2", "phase3")


@pytest.mark.parametrize("name", [*PHASES, "held_out"])
def test_blocks_hold_exactly_what_their_documents_say(run: Path, name: str) -> None:
    folder = run / "held_out" if name == "held_out" else run / "phases" / name
    info = read_set(folder)
    tokens = tokens_of(run)
    for block in blocks_of(folder):
        length = len(block["input_ids"])
        begin = 0
        for doc, start, end, source in zip(
            block["doc_ids"], block["doc_starts"], block["doc_ends"], block["doc_sources"], strict=True
        ):
            stream = [info.bos, *tokens[doc], info.eos]
            assert block["input_ids"][begin:end] == stream[start : start + end - begin]
            assert source < len(info.sources)
            begin = end
        assert all(t == info.pad for t in block["input_ids"][begin:])
        assert len(block["doc_ids"]) <= info.max_docs_per_block[str(length)]
        assert len(set(block["doc_ids"])) == len(block["doc_ids"]) or length < 2000


def test_budgets_are_reached_to_the_token(run: Path) -> None:
    mixture = json.loads((run / "stats" / "mixture.json").read_text())
    for phase in mixture["phases"]:
        blocks = blocks_of(run / "phases" / phase["name"])
        assert sum(b["doc_ends"][-1] for b in blocks) == phase["tokens"]
        assert abs(phase["tokens"] - phase["wanted_tokens"]) <= len(phase["pools"])
        assert sum(p["wanted_tokens"] for p in phase["pools"]) == phase["wanted_tokens"]
        assert sum(c["tokens"] for c in phase["cells"]) == phase["tokens"]
        longest = max(s["block_length"] for s in phase["sets"])
        assert all(abs(p["tokens"] - p["wanted_tokens"]) <= longest for p in phase["pools"])


def test_phases_share_no_document_and_hold_no_held_out_one(run: Path) -> None:
    used = {name: {d for b in blocks_of(run / "phases" / name) for d in b["doc_ids"]} for name in PHASES}
    held_out = {d for b in blocks_of(run / "held_out") for d in b["doc_ids"]}
    for i, name in enumerate(PHASES):
        assert not used[name] & held_out
        for other in PHASES[i + 1 :]:
            assert not used[name] & used[other]


def test_every_phase_opens_with_datasets_and_pyarrow(run: Path) -> None:
    datasets = pytest.importorskip("datasets")
    for name in PHASES:
        opened = datasets.load_from_disk(str(run / "phases" / name))
        info = read_set(run / "phases" / name)
        assert list(opened) == [str(s.block_length) for s in info.splits]
        for split in info.splits:
            rows = opened[str(split.block_length)]
            assert len(rows) == split.blocks
            ids = rows.with_format("numpy")[0]["input_ids"]
            assert len(ids) == split.block_length


def test_the_index_finds_every_segment(run: Path) -> None:
    index = pa.concat_tables([pq.read_table(p) for p in sorted((run / "index").glob("blocks-*.parquet"))]).to_pylist()
    expected: Counter[tuple[int, ...]] = Counter()
    for number, name in enumerate(PHASES, 1):
        for split in read_set(run / "phases" / name).splits:
            rows = [b for b in blocks_of(run / "phases" / name) if len(b["input_ids"]) == split.block_length]
            for at, block in enumerate(rows):
                begin = 0
                for doc, start, end in zip(block["doc_ids"], block["doc_starts"], block["doc_ends"], strict=True):
                    expected[doc, number, split.block_length, at, start, end - begin] += 1
                    begin = end
    names = ("doc_id", "phase", "block_length", "block", "doc_start", "length")
    assert Counter(tuple(r[n] for n in names) for r in index) == expected
    ids = [r["doc_id"] for r in index]
    assert ids == sorted(ids)


def test_a_short_budget_is_an_error_with_pool_wanted_and_available(
    tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> None:
    with pytest.raises(BudgetShort, match=r"phase1, code: wanted [\d,]+, available [\d,]+ x 1 epochs") as caught:
        curate(settings_of("phases.phase1.tokens=10M"), tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "phases").exists()


def test_pools_repeat_within_their_epochs_and_copies_never_share_a_block(
    tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> None:
    settings = settings_of(
        "phases.phase3.weights=[{domain: encyclopedia, weight: 1, max_epochs: 8}]", "phases.phase3.tokens=2M"
    )
    curate(settings, tmp_path / "run")
    blocks = blocks_of(tmp_path / "run" / "phases" / "phase3")
    times = Counter(d for b in blocks for d, s in zip(b["doc_ids"], b["doc_starts"], strict=True) if s == 0)
    assert max(times.values()) > 1 and max(times.values()) - min(times.values()) <= 2
    for block in blocks:
        whole = [d for d, s in zip(block["doc_ids"], block["doc_starts"], strict=True) if s == 0]
        assert len(whole) == len(set(whole))


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(1, 150)), max_size=60), st.integers(1, 6))
def test_pieces_of_one_document_never_meet_in_a_block(pieces: list[tuple[int, int]], most: int) -> None:
    ids, lengths = [d for d, _ in pieces], [n for _, n in pieces]
    runs = _apart(ids, lengths, 64, most)
    assert sorted(i for run in runs for i in run) == list(range(len(pieces)))
    for run in runs:
        packed = pack(np.array([lengths[i] for i in run], np.int64), 64, most, "concatenate", last=True).segments
        for block in range(int(packed.block.max()) + 1):
            inside = packed.document[packed.block == block]
            documents = [ids[run[d]] for d in np.unique(inside)]
            assert len(documents) == len(set(documents))


def test_a_mixture_that_stops_half_way_leaves_no_set_that_looks_whole(
    tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    curate(settings_of(), tmp_path / "run")
    with monkeypatch.context() as patched:

        def dies(*arguments: Any) -> blocks.BlockFiles:
            raise ValueError("killed")

        patched.setattr(blocks, "write_files", dies)
        with pytest.raises(ValueError, match="killed"):
            curate(settings_of("phases.phase1.weights.0.weight=60"), tmp_path / "run")
    with pytest.raises(ValueError, match="not a phase set"):
        read_set(tmp_path / "run" / "phases" / "phase1")
    curate(settings_of(), tmp_path / "run")
    assert read_set(tmp_path / "run" / "phases" / "phase1").splits


def test_a_changed_mixture_reads_no_text_again(
    tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> None:
    curate(settings_of(), tmp_path / "run")
    _, engine = curate(settings_of("phases.phase1.weights.0.weight=60"), tmp_path / "run")
    assert (tmp_path / "run" / "phases").exists()
    clean = tmp_path / "clean"
    curate(settings_of("phases.phase1.weights.0.weight=60"), clean)
    assert hashes(tmp_path / "run") == hashes(clean)
    for stage in ("prepare", "scan", "filter", "dedupe.decisions", "tokenize"):
        reused, total = engine.reused[stage]
        assert reused == total
    # Sets whose documents are the same, those of phases that claim before, are not packed again.
    reused, total = engine.reused["mix.pack"]
    assert 0 < reused < total


class Measuring(InProcess):
    """Notes how large the arguments of tasks are."""

    def __init__(self) -> None:
        self.largest = 0
        self.tasks: Counter[str] = Counter()

    def run(self, waiting: Any, paths: RunPaths, progress: Any) -> Any:
        for index, outcome in super().run(waiting, paths, progress):
            planned = waiting.asked[index]
            self.tasks[planned.step] += 1
            self.largest = max(self.largest, len(pickle.dumps(planned.task)))
            yield index, outcome


def test_a_mixture_of_many_tasks_has_the_bytes_of_one_of_few(
    tmp_path: Path, run: Path, settings_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_of()
    shutil.copytree(run, tmp_path / "run")
    monkeypatch.setattr("fox1.pipeline.mix.assign.PARTITION_TOKENS", 1 << 11)
    monkeypatch.setattr("fox1.pipeline.mix.steps.BUCKET_TOKENS", 1 << 11)
    monkeypatch.setattr("fox1.pipeline.mix.steps.INDEX_PART", 200)
    monkeypatch.setattr("fox1.pipeline.mix.lookup_index.PART_ROWS", 200)
    monkeypatch.setattr("fox1.tokenize.shards.FILE_TOKENS", 1 << 11)

    def curated() -> Measuring:
        executor = Measuring()
        curation.curate(settings, Engine(RunPaths(tmp_path / "run"), executor))
        return executor

    few = curated()
    expected, mixture = hashes(tmp_path / "run"), (tmp_path / "run" / "stats" / "mixture.json").read_bytes()
    assert few.tasks["mix.pack"] > 10 and not few.tasks["mix.merge"]
    assert len(list((tmp_path / "run" / "phases").rglob("*.arrow"))) > 10
    for place, value in {
        "engine.two_level.MOST_MAPS": 1,
        "engine.two_level.LEAST_PIECE": 1 << 40,
        "engine.two_level.MERGE_BYTES": 5_000,
        "engine.two_level.LEAST_MERGE": 5_000,
        "engine.tasks.MOST_TASKS": 12,
        "mix.steps.MOST_EQUAL": 12,
        "engine.lists.MOST_FILES": 2,
        "engine.shuffle_file.SPILL_BYTES": 10_000,
        "engine.shuffle_file.SLICE_BYTES": 10_000,
        "mix.blocks.HELD_BYTES": 10_000,
        "mix.blocks.FILL_TOKENS": 1 << 11,
        "mix.plan.TASK_DOCUMENTS": 50,
        "engine.tree.FAN_IN": 2,
        "mix.select.SLICE_DOCUMENTS": 32,
        "mix.assign.SLICE_DOCUMENTS": 32,
    }.items():
        monkeypatch.setattr(f"fox1.pipeline.{place}", value)
    many = curated()
    assert hashes(tmp_path / "run") == expected
    assert many.tasks["mix.merge"] > 10 and many.tasks["mix.blocks.00"] and many.tasks["mix.index_merge"]
    assert many.tasks["mix.lookup_merge.url"] and many.tasks["mix.tally"] > many.tasks["mix.tally.sum"] > 0
    assert 0 < many.tasks["mix.pack"] < few.tasks["mix.pack"]
    assert many.largest < 100_000
    # Leftovers that are packed in several steps make other blocks of the same tokens.
    monkeypatch.setattr("fox1.pipeline.mix.steps.TAIL_PARTS", 2)
    assert curated().tasks["mix.tails.sum"]
    assert not list((tmp_path / "run" / "lists").iterdir())
    before, after = json.loads(mixture), json.loads((tmp_path / "run" / "stats" / "mixture.json").read_bytes())
    for old, new in zip(before["phases"], after["phases"], strict=True):
        assert {**new, "sets": 0} == {**old, "sets": 0}
        for one, two in zip(old["sets"], new["sets"], strict=True):
            assert two["tokens"] == one["tokens"] and two["blocks"] - one["blocks"] <= 1
    for name in PHASES:
        for block in blocks_of(tmp_path / "run" / "phases" / name):
            assert len(set(block["doc_ids"])) == len(block["doc_ids"]) or len(block["input_ids"]) < 2000
