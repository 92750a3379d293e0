"""What the engine costs: the scan of shards of 64 MB on 1, 2 and 4 Ray nodes of this machine, and a driver with many tasks.

    python -m benchmarks.scaling [--shards 8] [--tasks 100000] [--data DIR]

Nodes are processes of this machine (`ray.cluster_utils.Cluster`) that share its cores, so more of them can only cost. The
overhead of a stage is the share of its wall time, times the cores, that was not spent in tasks. The text is that of
${FOX1_DATA} (or of `fox1 sample`), repeated to size. The driver runs tasks that write one small file; its peak memory and
rate are those of a process of its own. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zstandard
from fox1.pipeline.curate import CurateSettings, curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.memory import peak_bytes
from fox1.pipeline.engine.on_ray import OnRay
from fox1.pipeline.engine.records import task_times
from fox1.pipeline.engine.tasks import Silent, Task
from fox1.pipeline.mix.budget import MixSettings
from fox1.pipeline.run.artifacts import Artifact, write_json
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.sources.listing import SourceSettings

SHARD_BYTES = 64 << 20
SHAPES = (1, 2, 4)


def make_shards(folder: Path, count: int, data: Path) -> None:
    """Files of The Pile's format with about 64 MB of text each."""
    lines: list[bytes] = []
    size = 0
    for path in sorted((data / "pile" / "train").glob("*.jsonl.zst")):
        for line in zstandard.ZstdDecompressor().stream_reader(open(path, "rb")).read().splitlines(keepends=True):
            lines.append(line)
            size += len(line)
    folder.mkdir(parents=True)
    at = 0
    for number in range(count):
        held, taken = 0, []
        while held < SHARD_BYTES:
            taken.append(lines[at % len(lines)])
            held += len(taken[-1])
            at += 1
        (folder / f"{number:02d}.jsonl.zst").write_bytes(zstandard.ZstdCompressor(1).compress(b"".join(taken)))


def warm() -> None:
    """Keep a worker busy until all are there, with what the stage imports."""
    import fox1.pipeline.signals.scan  # noqa: F401

    time.sleep(3)


def scan_on(nodes: int, shards: Path, out: Path, cores: int) -> tuple[float, float]:
    """(wall seconds of the scan, seconds spent in its tasks) on so many nodes."""
    import ray
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "object_store_memory": 80 << 20})
    for k in range(nodes):
        # The cores are shared out; with more nodes than cores each has one all the same.
        cluster.add_node(num_cpus=max(1, cores // nodes + (k < cores % nodes)), object_store_memory=80 << 20)
    ray.init(address=cluster.address, logging_level="ERROR", log_to_driver=False)

    class Clock(Silent):
        seconds = 0.0

        def stage_done(self, name: str, seconds: float) -> None:
            if name == "scan":
                self.seconds = seconds

    try:
        source = SourceSettings("pile", "pile", str(shards.parent), ("train/*.jsonl.zst",))
        clock = Clock()
        engine = Engine(RunPaths(out), OnRay(), clock)
        # A worker starts and imports with its first task, which is not this stage's cost: prepare comes before it.
        ray.get([ray.remote(num_cpus=1)(warm).remote() for _ in range(engine.executor.cores)])
        curate(CurateSettings((source,), MixSettings(())), engine, ("scan",))
        spent = sum(e["seconds"] for e in task_times(engine.paths) if e["stage"] == "scan")
        return clock.seconds, spent
    finally:
        ray.shutdown()
        cluster.shutdown()


@dataclass(frozen=True)
class Small:
    """What a task of the drive returns."""

    file: Artifact
    number: int


def small(path: Path, number: int) -> Small:
    return Small(write_json(path, number), number)


def drive(tasks: int, out: Path) -> dict[str, float]:
    """Peak memory and rate of a driver with so many tasks on a local Ray."""
    from fox1.pipeline.engine.on_ray import ray_session

    with ray_session(None, None) as executor:
        before = peak_bytes()
        engine = Engine(RunPaths(out), executor, Silent())
        work = [Task(f"t{n:06d}", small, (out / "files" / f"{n % 1000:03d}" / str(n), n)) for n in range(tasks)]
        began = time.monotonic()
        assert len(engine.run("s", 1, work)) == tasks
        seconds = time.monotonic() - began
        peak = peak_bytes()
        began = time.monotonic()
        Engine(RunPaths(out), executor, Silent()).run("s", 1, work)
        again = time.monotonic() - began
    return {
        "tasks": tasks,
        "peak_mib": peak / (1 << 20),
        "before_mib": before / (1 << 20),
        "seconds": seconds,
        "resumed_seconds": again,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shards", type=int, default=8)
    parser.add_argument("--tasks", type=int, default=100_000)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("FOX1_DATA", "")))
    parser.add_argument("--drive", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    if options.drive:
        with tempfile.TemporaryDirectory(prefix="fox1-drive-") as folder:
            print(json.dumps(drive(options.drive, options.out or Path(folder))))
        return
    cores = os.cpu_count() or 1
    root = Path(tempfile.mkdtemp(prefix="fox1-scaling-"))
    found: dict[str, Any] = {}
    try:
        make_shards(root / "data" / "train", options.shards, options.data)
        walls: dict[int, list[float]] = {}
        overheads: dict[int, list[float]] = {}
        for k in range(options.pairs):
            for nodes in SHAPES:
                wall, spent = scan_on(nodes, root / "data" / "train", root / f"run-{nodes}-{k}", cores)
                at_once = max(cores, nodes)
                walls.setdefault(nodes, []).append(wall)
                overheads.setdefault(nodes, []).append(1 - spent / at_once / wall)
                shutil.rmtree(root / f"run-{nodes}-{k}")
                print(
                    f"{nodes} nodes: {wall:6.2f} s for {options.shards} shards of 64 MB, "
                    f"{options.shards * 67.1 / wall:6.1f} MB/s, overhead {overheads[nodes][-1]:.1%}",
                    flush=True,
                )
        for nodes in SHAPES:
            found[f"wall_{nodes}"] = round(sorted(walls[nodes])[len(walls[nodes]) // 2], 2)
            found[f"overhead_{nodes}"] = round(sorted(overheads[nodes])[len(overheads[nodes]) // 2], 4)
        found["ratio_4_to_1"] = round(found["wall_4"] / found["wall_1"], 3)
        for tasks in (options.tasks // 10, options.tasks):
            command = [sys.executable, __file__, "--drive", str(tasks), "--out", str(root / f"drive-{tasks}")]
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            one = json.loads(done.stdout.strip().splitlines()[-1])
            found[f"driver_{tasks}"] = {k: round(v, 1) for k, v in one.items()}
            print(
                f"{tasks:,} tasks: driver peaks at {one['peak_mib']:.0f} MiB, {tasks / one['seconds']:,.0f} tasks/s, "
                f"resumed {tasks / one['resumed_seconds']:,.0f} tasks/s",
                flush=True,
            )
        print(json.dumps(found))
    finally:
        shutil.rmtree(root, ignore_errors=True)


if __name__ == "__main__":
    main()
