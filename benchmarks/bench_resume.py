"""How long a finished run of many tasks takes to resume, and to be opened: the engine and the manifest alone, without any work.

    python -m benchmarks.bench_resume [--tasks 300000] [--steps 30] [--files 69335]

Tasks that publish three files each are made up, with their completion records; no file is written, so what a file system or a
store takes to list a million files comes on top. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import Outcome, Progress, Task, Waiting
from fox1.pipeline.run.artifacts import Artifact
from fox1.pipeline.run.identity import SourceFile, file_hash
from fox1.pipeline.run.manifest import write_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.storage import store
from fox1.tokenize.model import TokenizerSettings

FOLDERS = ("signals", "decisions", "tokens", "mix", "dedupe", "phases")
OF_A_TASK = 3
LOOK = """
import os, sys, time
from pathlib import Path
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.manifest import is_finished, read_manifest
def held():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
began, before = time.process_time(), held()
manifest = read_manifest(RunPaths(Path(sys.argv[1])))
manifest["artifacts"].get("signals/000/000007.1"), list(manifest["artifacts"].below("index/"))
print(time.process_time() - began, held() - before)
"""


@dataclass(frozen=True)
class Published:
    """What a task of this benchmark returns."""

    files: tuple[Artifact, ...]


def publish(folder: Path, number: int) -> Published:
    """What a worker would call; `Instant` answers in its place."""
    names = (f"{folder}/{number:06d}.{k}" for k in range(OF_A_TASK))
    return Published(tuple(Artifact(name, 1, 1, f"{number:032x}") for name in names))


class Instant:
    """An executor whose tasks take no time, and have nothing but a result."""

    on_this_machine, cores, room = False, 512, 1 << 40

    def preload(self, function: Callable[..., object], *arguments: object) -> None: ...

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        for planned in waiting:
            yield planned.index, Outcome(publish(*planned.task.args), "", "", False, "host", 1.0, 1)


class InPlace(store.AtStart):
    """Every file is where its record says."""

    def facts(self, name: str) -> store.Facts:
        return 1, 0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tasks", type=int, default=300_000)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--files", type=int, default=69_335, help="of the sources")
    options = parser.parse_args()
    store.AtStart = InPlace  # type: ignore[misc]
    with tempfile.TemporaryDirectory(prefix="fox1-resume-") as folder:
        print(json.dumps(measure(Path(folder), options.tasks, options.steps, options.files)))


def measure(root: Path, count: int, steps: int, files: int) -> dict[str, float]:
    """CPU seconds and MiB."""

    def curate() -> tuple[Engine, float]:
        engine, began = Engine(RunPaths(root), Instant()), time.process_time()
        for step in range(steps):
            place = root / FOLDERS[step % len(FOLDERS)] / f"{step:03d}"
            todo = [Task(f"corpus/{i:06d}", publish, (place, i)) for i in range(count // steps)]
            engine.run(f"step{step:03d}", 1, todo)
        return engine, time.process_time() - began

    _, first = curate()
    engine, resumed = curate()
    assert all(reused == tasks for reused, tasks in engine.reused.values())
    sources = [
        SourceFile("pile", f"{i:06d}.zst", "", 1 << 28, "", "pile", False, file_hash("pile", f"{i:06d}.zst"))
        for i in range(files)
    ]
    began = time.process_time()
    write_manifest(engine.paths, sources, engine.finished.values(), TokenizerSettings())
    wrote = time.process_time() - began
    done = subprocess.run([sys.executable, "-c", LOOK, str(root)], capture_output=True, text=True, check=True)
    look, held = map(float, done.stdout.split())
    mib = {name: sum(p.stat().st_size for p in (root / name).rglob("*")) / 2**20 for name in ("records", "manifest")}
    return {
        "tasks": count,
        "artifacts": count * OF_A_TASK,
        "first_cpu_s": round(first, 1),
        "resume_cpu_s": round(resumed, 1),
        "manifest_cpu_s": round(wrote, 2),
        "look_cpu_s": round(look, 2),
        "look_mib": round(held),
        "records_mib": round(mib["records"], 1),
        "lists_mib": round(mib["manifest"], 1),
    }


if __name__ == "__main__":
    main()
