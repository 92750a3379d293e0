"""Trainings as ranks that record what they train on (`recorded.py`), and what they left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

RECORDED = Path(__file__).parent / "recorded.py"


@cache
def server() -> subprocess.Popen[str]:
    """The process whose forks are the ranks; it ends with this one, which closes its input."""
    return subprocess.Popen(
        [sys.executable, str(RECORDED), "--serve"],
        # A thread of Arrow's allocator would be lost in a fork.
        env={**os.environ, "JE_ARROW_MALLOC_CONF": "background_thread:false"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="session", autouse=True)
def stopped_server() -> Iterator[None]:
    """Ends the server after all tests; the modules that use it import this. To start it takes longer than a small training."""
    yield
    if server.cache_info().currsize:
        server().communicate(timeout=60)
        server.cache_clear()


def train(run: Path, out: Path, nproc: int, *options: str, die: str = "") -> int:
    """Train as recorded ranks; the exit status."""
    request = {
        "ranks": nproc,
        "arguments": [str(run), str(out), *options],
        "environment": {"RECORD": f"{out}.record", "DIE": die or "never:0"},
    }
    channel = server()
    assert channel.stdin and channel.stdout
    print(json.dumps(request), file=channel.stdin, flush=True)
    return int(channel.stdout.readline())


def token_ids(out: Path, world: int) -> dict[tuple[int, int], list[str]]:
    """(unit tokens of the phase, units before the step) -> hashes of its micro-batches in the order of the data."""
    found: dict[tuple[int, int], dict[int, str]] = defaultdict(dict)
    for rank in range(world):
        path = Path(f"{out}.record.{rank}")
        for line in path.read_text().splitlines() if path.exists() else []:
            unit, units, rank, hashes = json.loads(line)
            for place, value in enumerate(hashes):
                # A step that was repeated after a kill was the same.
                key = place * world + rank
                assert found[unit, units].setdefault(key, value) == value
    return {step: [hashes[k] for k in sorted(hashes)] for step, hashes in found.items()}


def reports(out: Path, kind: str = "train") -> list[dict[str, Any]]:
    """What a training reported, oldest first."""
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if line["kind"] == kind]


def losses(out: Path) -> dict[int, float]:
    """Mean loss of the steps since the last report, by the step it was reported at."""
    return {line["step"]: line["loss"] for line in reports(out)}
