"""What a run or a training left: phase sets, token shards, checkpoints."""

from __future__ import annotations

import functools
import io
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from .cases import Case, Fault, damage, refused


@functools.cache
def phase_set() -> tuple[dict[str, bytes], list[bytes]]:
    """Files of a phase set of two block lengths with spans that are trained on, and the tokens of its units."""
    from fox1.tokenize import shards
    from fox1.trainer.data.order import PhaseData

    rng, splits, sizes = np.random.default_rng(1), [], {}
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for length in (64, 128):
            n = 6
            ends = np.tile([length // 2, length - 3], n)
            loss = (np.tile([1, length // 2], n), np.arange(0, 2 * n + 1, 2))
            codes = rng.integers(0, 3, 2 * n).astype(np.uint16)
            batch = shards.blocks_to_batch(
                rng.integers(4, 1000, (n, length), np.int32),
                np.arange(0, 2 * n + 1, 2),
                np.arange(2 * n, dtype=np.uint64),
                np.zeros(2 * n, np.int64),
                ends,
                codes,
                loss,
            )
            name = shards.file_names(1)[0]
            (folder / str(length)).mkdir()
            with open(folder / str(length) / name, "wb") as out:
                table = pa.Table.from_batches([batch], shards.block_schema(length, True))
                shards.write_blocks(out, table, length, True)
            splits.append(shards.Split(length, n, n * length, (name,), str(length)))
            sizes[str(length)] = 1
        sources = tuple(("c", str(i), "web") for i in range(3))
        slots = {str(s.block_length): 4 for s in splits}
        info = shards.SetInfo("s", tuple(splits), sources, slots, 1000, 0, 1, 2, "x", True)
        for name, value in shards.set_metadata(info, sizes).items():
            (folder / name).write_text(json.dumps(value))
        data = PhaseData(folder, 1)
        units = [data.stream(i, 1).tokens.tobytes() for i in range(data.units)]
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}, units


def make_set(rng: random.Random) -> Case:
    files = phase_set()[0]
    name = rng.choice(sorted(n for n in files if n.endswith(".arrow") or n == "fox1.json"))
    return Case(name, damage(files[name], rng))


def read_set(case: Case, folder: Path) -> str:
    """Units as a trainer takes them: ids of the vocabulary, segments in order that fill them, sources of the table."""
    import torch
    from fox1.trainer.data.order import PhaseData

    files, units = phase_set()
    for name, data in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(case.data if name == case.name else data)
    try:
        data = PhaseData(folder, 1)
        if data.units > 1000:
            return "other"  # the number is changed: every file is refused when it is opened
        streams = [data.stream(i, 1) for i in range(data.units)]
        batches = [data.micro_batch(i, 1, torch.device("cpu")) for i in range(data.units)]
    except Exception as error:
        return refused(error, str(folder))
    for stream, batch in zip(streams, batches, strict=True):
        if not ((stream.tokens >= 0) & (stream.tokens < data.info.vocab_size)).all():
            raise Fault("ids outside of the vocabulary")
        if stream.ends[-1] != len(stream.tokens) or (np.diff(np.r_[0, stream.ends]) <= 0).any():
            raise Fault(f"segments {stream.ends.tolist()}")
        if not ((stream.sources >= 0) & (stream.sources < len(data.info.sources))).all():
            raise Fault("sources that the table does not have")
        if len(batch.tokens) != data.unit_tokens:
            raise Fault("a batch of another length")
    same = [s.tokens.tobytes() for s in streams] == units
    return "read" if same else "other"  # what only a checksum can tell: `fox1 verify`


@functools.cache
def token_shard() -> bytes:
    from fox1.tokenize.shards import TOKEN_SCHEMA

    out = io.BytesIO()
    rows = [{"doc_id": i, "quality": i, "input_ids": [4, 5, 6] * i, "loss_spans": []} for i in range(5)]
    with pa.ipc.new_stream(out, TOKEN_SCHEMA) as writer:
        for k in (0, 2):
            writer.write_batch(pa.RecordBatch.from_pylist(rows[k : k + 3], TOKEN_SCHEMA))
    return out.getvalue()


def read_tokens(case: Case, folder: Path) -> str:
    from fox1.tokenize.shards import TOKEN_SCHEMA, token_batches

    path = folder / case.name
    path.write_bytes(case.data)
    try:
        batches = list(token_batches(path))
    except Exception as error:
        return refused(error, str(path))
    for batch in batches:
        if batch.schema != TOKEN_SCHEMA:
            raise Fault(f"a batch of {batch.schema}")
        batch.validate(full=True)
        batch.to_pylist()
    return "read"


def _model() -> Any:
    import torch

    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(4, 8, bias=False), torch.nn.LayerNorm(8))


@functools.cache
def checkpoint_files() -> dict[str, bytes]:
    from fox1.trainer.checkpoints.checkpoint import TrainingProgress, write_whole

    with tempfile.TemporaryDirectory() as made:
        folder = write_whole(Path(made), _model(), TrainingProgress(1, 40, 7, 1 << 20), {"seed": 1, "lr": 1e-3}, 1000)
        return {p.name: p.read_bytes() for p in folder.iterdir()}


def make_checkpoint(rng: random.Random) -> Case:
    files = checkpoint_files()
    name = rng.choice(["manifest.json", *sorted(files)])
    return Case(name, damage(files[name], rng))


def read_checkpoint(case: Case, folder: Path) -> str:
    """What was saved, or nothing."""
    import torch
    from fox1.trainer.checkpoints.checkpoint import load_weights, newest_whole, read_manifest

    files = checkpoint_files()
    place = folder / "step-00000007"
    place.mkdir()
    for name, data in files.items():
        (place / name).write_bytes(case.data if name == case.name else data)
    model = _model()
    wanted = {name: value.clone() for name, value in model.state_dict().items()}
    for value in model.parameters():
        torch.nn.init.zeros_(value)
    try:
        found, _ = newest_whole(folder)
        if found is None:
            raise Fault("a damaged checkpoint is as good as none")
        manifest = read_manifest(found)
        load_weights(found, model)
    except Fault:
        raise
    except Exception as error:
        return refused(error, str(place))
    if any(not torch.equal(value, wanted[name]) for name, value in model.state_dict().items()):
        raise Fault("other weights")
    (folder / "as-written").mkdir()
    (folder / "as-written" / "manifest.json").write_bytes(files["manifest.json"])
    if manifest != read_manifest(folder / "as-written"):
        raise Fault(f"another manifest: {manifest}")
    return "read"
