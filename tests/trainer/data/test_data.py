"""The data order: a pure function of the unit index."""

from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from fox1.storage import store
from fox1.tokenize import shards
from fox1.trainer.data import block_reader
from fox1.trainer.data import order as data_module
from fox1.trainer.data.mixture import MixtureData
from fox1.trainer.data.order import Loader, PhaseData, interleave, open_set
from fox1.trainer.data.permutation import permute
from fox1.trainer.model.loss import IGNORE
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given
from hypothesis import strategies as st


@given(st.lists(st.integers(0, 40), min_size=1, max_size=4).filter(sum))
def test_interleaving_takes_every_unit_once_in_order_and_in_proportion(counts: list[int]) -> None:
    total = sum(counts)
    split, number = interleave(np.arange(total), tuple(counts))
    seen = list(zip(split.tolist(), number.tolist(), strict=True))
    alone = [interleave(np.array([i]), tuple(counts)) for i in range(total)]
    assert seen == [(int(s[0]), int(n[0])) for s, n in alone]
    for split, count in enumerate(counts):
        assert [n for s, n in seen if s == split] == list(range(count))
    first = counts[0]
    for i in range(total):
        taken = sum(1 for s, _ in seen[: i + 1] if s == 0)
        assert abs(taken - (i + 1) * first / total) <= 1


@given(st.integers(1, 3000), st.integers(0, 5))
def test_permute_is_a_permutation(n: int, seed: int) -> None:
    assert sorted(permute(np.arange(n), n, seed).tolist()) == list(range(n))


def test_micro_batches_are_the_blocks_on_disk(run: Path) -> None:
    data = PhaseData(run / "phases" / "phase2", 1)
    batch = data.micro_batch(0, data.units, torch.device("cpu"))
    assert len(batch.tokens) == data.units * data.unit_tokens
    ends = batch.documents.ends
    assert ends[-1] == len(batch.tokens) and list(ends) == sorted(set(ends))
    targets, tokens = batch.targets.numpy(), batch.tokens.numpy()
    counted = targets != IGNORE
    assert counted.sum() == batch.valid
    assert (targets[counted] == tokens[1:][counted[:-1]]).all()
    # The last token of a segment predicts nothing; a position of zero begins each.
    assert not counted[np.array(ends) - 1].any()
    begins = np.r_[0, np.array(ends)[:-1]]
    assert (batch.documents.positions.numpy()[begins] == 0).all()


def test_units_past_the_end_are_the_same_units_in_another_order(run: Path) -> None:
    data = PhaseData(run / "phases" / "phase2", 1)
    first = sorted(data.stream(i, 1).tokens.tobytes() for i in range(data.units))
    second = sorted(data.stream(i + data.units, 1).tokens.tobytes() for i in range(data.units))
    assert first == second


def test_padding_counts_for_nothing(run: Path) -> None:
    data = PhaseData(run / "phases" / "phase1", 1)
    for i in range(data.units):
        unit = data.stream(i, 1)
        if unit.padding[-1]:
            batch = data.micro_batch(i, 1, torch.device("cpu"))
            assert (batch.targets[unit.ends[-2] - 1 :] == IGNORE).all()
            return
    pytest.skip("no block of the sample is padded")


def test_a_missing_set_is_a_plain_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not a phase set"):
        PhaseData(tmp_path, 1)


def write_set(
    folder: Path, lengths: dict[int, int], seed: int = 0
) -> dict[int, list[tuple[list[int], list[int], int]]]:
    """A phase set of made-up blocks; by block length, (tokens, ends, source of the first segment) of every block."""
    rng = np.random.default_rng(seed)
    known: dict[int, list[tuple[list[int], list[int], int]]] = {}
    splits, sizes = [], {}
    for length, n_blocks in lengths.items():
        per_file = shards.rows_per_file(length)
        names = shards.file_names(-(-n_blocks // per_file))
        known[length] = []
        for k, name in enumerate(names):
            n = min(per_file, n_blocks - k * per_file)
            tokens = rng.integers(4, 1000, (n, length), np.int32)
            ends = [sorted({*rng.integers(1, length, 2).tolist(), length - int(rng.random() < 0.3)}) for _ in range(n)]
            counts = np.array([len(e) for e in ends])
            codes = rng.integers(0, 3, counts.sum()).astype(np.uint16)
            offsets = np.r_[0, np.cumsum(counts)]
            batch = shards.blocks_to_batch(
                tokens,
                offsets,
                np.arange(counts.sum(), dtype=np.uint64),
                np.zeros(counts.sum(), np.int64),
                np.array([e for one in ends for e in one]),
                codes,
            )
            (folder / str(length)).mkdir(parents=True, exist_ok=True)
            with open(folder / str(length) / name, "wb") as out:
                shards.write_blocks(out, pa.Table.from_batches([batch], shards.block_schema(length)), length)
            known[length] += [(tokens[i].tolist(), ends[i], int(codes[offsets[i]])) for i in range(n)]
        splits.append(shards.Split(length, n_blocks, n_blocks * length, tuple(names), f"{length}"))
        sizes[str(length)] = 1
    info = shards.SetInfo(
        "s",
        tuple(splits),
        tuple(("c", str(i), "web") for i in range(3)),
        {str(n): 8 for n in lengths},
        1000,
        0,
        1,
        2,
        "x",
    )
    for name, value in shards.set_metadata(info, sizes).items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(json.dumps(value))
    return known


@pytest.mark.parametrize("lengths", [{64: 700}, {64: 300, 128: 170}])
def test_any_range_of_units_is_its_blocks_however_many_files_they_lie_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lengths: dict[int, int]
) -> None:
    monkeypatch.setattr(shards, "FILE_TOKENS", 64 * 8)
    monkeypatch.setattr(shards, "BATCH_TOKENS", 64 * 2)
    monkeypatch.setattr(block_reader, "OPEN_FILES", 5)
    monkeypatch.setattr(data_module, "WINDOW", 16)
    known = write_set(tmp_path, lengths)
    data = PhaseData(tmp_path, 3)
    unit = max(lengths)
    for first, count in ((0, data.units), (5, 1), (data.units - 3, 10), (3 * data.units + 7, 40), (data.units - 1, 1)):
        stream = data.stream(first, count)
        split, number = interleave(data.places(first, count), tuple(n * L // unit for L, n in lengths.items()))
        tokens, ends, sources, padding = [], [], [], []
        for s, i in zip(split.tolist(), number.tolist(), strict=True):
            length = list(lengths)[s]
            for block in range(i * unit // length, (i + 1) * unit // length):
                block_tokens, block_ends, code = known[length][block]
                ends += [len(tokens) + e for e in block_ends]
                sources.append((len(ends) - len(block_ends), code))
                padding += [False] * len(block_ends)
                if block_ends[-1] < length:
                    ends.append(len(tokens) + length)
                    padding.append(True)
                tokens += block_tokens
        assert stream.tokens.tolist() == tokens
        assert stream.ends.tolist() == ends and stream.padding.tolist() == padding
        assert all(stream.sources[at] == code for at, code in sources)
    assert all(len(reader.open_files) <= 5 for reader in data._splits)


def test_a_micro_batch_is_one_buffer_and_its_segments_have_their_exact_number(tmp_path: Path) -> None:
    write_set(tmp_path, {64: 12})
    data = PhaseData(tmp_path, 1)
    batch, stream = data.micro_batch(0, 3, torch.device("cpu")), data.stream(0, 3)
    parts = [batch.tokens, batch.targets, batch.documents.positions, batch.sources]
    assert len({t.untyped_storage().data_ptr() for t in parts}) == 1 and all(t.dtype is torch.int64 for t in parts)
    assert batch.tokens.tolist() == stream.tokens.tolist() and batch.documents.ends == tuple(stream.ends.tolist())
    sizes = np.diff(np.r_[0, stream.ends])
    assert batch.sources.tolist() == np.repeat(stream.sources, sizes).tolist()
    assert batch.documents.positions.tolist() == [i for n in sizes for i in range(n)]
    # For a GPU, 0 and the ends lie behind the four rows.
    tail = torch.empty(0, dtype=torch.int32).set_(batch.tokens.untyped_storage())[8 * len(stream.tokens) :]
    assert tail[: len(stream.ends) + 1].tolist() == [0, *stream.ends.tolist()]
    assert sizes.max() <= batch.documents.longest < sizes.max() + data_module.LONGEST_STEP


@pytest.mark.parametrize("lengths", [{64: 12}, {64: 8, 128: 8}])
def test_units_anywhere_are_filled_up_to_a_number_of_tokens(tmp_path: Path, lengths: dict[int, int]) -> None:
    write_set(tmp_path, lengths)
    data = PhaseData(tmp_path, 1)
    unit, places = data.unit_tokens, np.array([7, 0, 3])
    batch = data.micro_batch_of(places, 4 * unit, torch.device("cpu"))
    alone = [data.micro_batch(int(n), 1, torch.device("cpu")) for n in places]
    assert batch.tokens[: 3 * unit].tolist() == [t for one in alone for t in one.tokens.tolist()]
    assert batch.targets[: 3 * unit].tolist() == [t for one in alone for t in one.targets.tolist()]
    assert len(batch.tokens) == 4 * unit and (batch.targets[3 * unit :] == IGNORE).all()
    assert batch.valid == sum(one.valid for one in alone)
    assert batch.documents.ends[-2:] == (3 * unit, 4 * unit)
    assert len(data.micro_batch_of(places, 0, torch.device("cpu")).tokens) == 3 * unit


def loaded_steps(data: PhaseData | MixtureData, world: int, units: int, n: int) -> list[list[list[int]]]:
    """Micro-batches of `n` steps, by step, in the order of the stream."""
    loaders = [Loader(data, units, 16, 2, rank, world, torch.device("cpu")) for rank in range(world)]
    found = []
    for _ in range(n):
        parts = [loader.next_step() for loader in loaders]
        found.append([parts[m % world][m // world].tokens.tolist() for m in range(8)])
    for loader in loaders:
        loader.__exit__(None, None, None)
    return found


def test_the_loader_gives_every_rank_its_part_whatever_the_world(tmp_path: Path) -> None:
    write_set(tmp_path, {64: 96})
    data = PhaseData(tmp_path, 1)

    steps = partial(loaded_steps, data)

    alone = steps(1, 0, 4)
    assert steps(2, 0, 4) == steps(4, 0, 4) == alone
    # Nothing but the units consumed says where to continue.
    assert steps(8, 32, 2) == alone[2:]
    assert [t for step in alone for m in step for t in m] == data.stream(0, 64).tokens.tolist()


def test_a_set_that_changed_after_it_was_opened_is_not_read_on(tmp_path: Path) -> None:
    write_set(tmp_path, {64: 10})
    shard, description = tmp_path / "64" / "data-00000-of-00001.arrow", tmp_path / "fox1.json"
    data = PhaseData(tmp_path, 1)
    shard.rename(tmp_path / "old")
    shard.write_bytes((tmp_path / "old").read_bytes())
    with pytest.raises(ValueError, match=r"data-00000-of-00001.arrow has changed since this training opened it"):
        data.stream(0, 10)
    data = PhaseData(tmp_path, 1)
    data.check()
    description.unlink()  # as curate does, before it replaces files
    with pytest.raises(ValueError, match="has changed"):
        data.stream(0, 10)
    with pytest.raises(ValueError, match="has changed"):
        data.check()


def test_a_link_may_stand_for_a_folder_of_a_run_and_nothing_below_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    write_set(tmp_path / "other" / "phase1", {64: 10})
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "phases").symlink_to(tmp_path / "other")
    assert open_set(tmp_path / "run", "phases/phase1", 1).units == 10
    (tmp_path / "other" / "phase2").symlink_to(tmp_path / "other" / "phase1")
    with pytest.raises(ValueError, match="phases/phase2 is a symbolic link"):
        open_set(tmp_path / "run", "phases/phase2", 1)
    with pytest.raises(ValueError, match="not below its folder"):
        open_set(tmp_path / "run", "phases/../../other/phase1", 1)
    shard = tmp_path / "other" / "phase1" / "64" / "data-00000-of-00001.arrow"
    shard.rename(tmp_path / "real")
    shard.symlink_to(tmp_path / "real")
    with pytest.raises(ValueError, match=r"data-00000-of-00001.arrow is not a regular file"):
        open_set(tmp_path / "run", "phases/phase1", 1)


def test_a_missing_or_damaged_shard_is_named(tmp_path: Path) -> None:
    write_set(tmp_path, {64: 10})
    shard = tmp_path / "64" / "data-00000-of-00001.arrow"
    whole = shard.read_bytes()
    shard.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"data-00000-of-00001.arrow.*run `fox1 curate` again"):
        PhaseData(tmp_path, 1).stream(0, 10)
    shard.unlink()
    with pytest.raises(ValueError, match=r"data-00000-of-00001.arrow is missing"):
        PhaseData(tmp_path, 1)


def test_a_set_in_a_store_is_listed_once_when_it_is_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemoryFileSystem, "store", {})
    monkeypatch.setenv("FOX1_SCRATCH", str(tmp_path / "scratch"))
    write_set(tmp_path / "set", {64: 10, 128: 5})
    root = store.open_root("memory://bucket/set")
    for path in sorted(p for p in (tmp_path / "set").rglob("*") if p.is_file()):
        (root / path.relative_to(tmp_path / "set")).write_bytes(path.read_bytes())
    asked: list[str] = []
    real = MemoryFileSystem.info

    def info(self: MemoryFileSystem, path: str, **options: Any) -> Any:
        asked.append(path)
        return real(self, path, **options)

    monkeypatch.setattr(MemoryFileSystem, "info", info)
    shutil.rmtree(root.local)
    data = PhaseData(root, 1)
    assert not [path for path in asked if path.endswith(".arrow")]
    assert data.stream(0, 4).tokens.tolist() == PhaseData(tmp_path / "set", 1).stream(0, 4).tokens.tolist()
    (root / "64" / "data-00000-of-00001.arrow").unlink()
    with pytest.raises(ValueError, match=r"data-00000-of-00001.arrow is missing"):
        PhaseData(root, 1)
