"""A large run on this machine: memory, disk and time against what was declared and planned, and the bytes after a kill.

    FOX1_DATA=... python -m benchmarks.large_run --folder DIR [--text 20G] [--workers 2]

Real documents are varied until they are so much text (`varied.py`), most as zstd of one frame or gz, one of them large. The
recipe is `mini` with larger phases. It is planned from a sample, run, run again in a new folder with a kill of all its
processes in the middle, and the files of both runs are compared by their hashes. Disk is what lies in the folder, looked at
every second. 45 GB for 20 GB of text; all is removed at the end. The last line is JSON.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from fox1.benchmarks.varied import write_varied
from fox1.pipeline.engine.records import task_times
from fox1.pipeline.engine.tasks import TASK_MEMORY
from fox1.pipeline.run.manifest import read_manifest
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.schemas import FINAL
from fox1.storage.fields import quantity

TOGETHER = 24
"""Copies of a small file that make one of the large run."""


class Watched:
    """A command with the memory of its own process and the disk that it takes."""

    def __init__(self, words: list[str], folder: Path, environment: dict[str, str]) -> None:
        self.driver_bytes = self.disk_bytes = 0
        self._folder = folder
        self._process = subprocess.Popen(
            [sys.executable, "-m", "fox1", *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
            start_new_session=True, env=environment,
        )  # fmt: skip
        self._began = time.monotonic()
        self._watch = threading.Thread(target=self._look, daemon=True)
        self._watch.start()

    def _look(self) -> None:
        process = psutil.Process(self._process.pid)
        while self._process.poll() is None:
            with contextlib.suppress(psutil.Error):
                self.driver_bytes = max(self.driver_bytes, process.memory_info().rss)
            self.disk_bytes = max(self.disk_bytes, size_of(self._folder))
            time.sleep(1)

    def kill_after(self, seconds: float) -> None:
        """Kill it and all its processes after so long, unless it has ended before."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(seconds)
            raise SystemExit("the run had ended before it was to be killed")
        children = psutil.Process(self._process.pid).children(recursive=True)
        os.kill(self._process.pid, signal.SIGKILL)
        for child in children:
            with contextlib.suppress(psutil.Error):
                child.kill()
        self._process.communicate()
        psutil.wait_procs(children)

    def wait(self) -> float:
        """Seconds that it took."""
        error = self._process.communicate()[1]
        if self._process.returncode:
            raise SystemExit(f"a run failed: {error[-2000:]}")
        self._watch.join()
        return time.monotonic() - self._began


def size_of(folder: Path) -> int:
    """Bytes on disk below a folder, of which files come and go."""
    total = 0
    for place, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                total += os.stat(os.path.join(place, name)).st_blocks * 512
    return total


def hashes(run: Path) -> dict[str, str]:
    listed = read_manifest(RunPaths(run))["artifacts"]
    return {name: listed[name]["hash"] for name in listed if name.split("/")[0] in FINAL}


def measure(folder: Path, data: Path, corpora: Path, text: int, workers: int, scale: float) -> dict[str, Any]:
    run, again, rates = folder / "run", folder / "again", folder / "rates.json"
    recipe = ["mini", "--set", f"scale={scale}"]
    environment = {**os.environ, "FOX1_DATA": str(corpora), "FOX1_EVAL": str(data.parent / "eval")}
    planning = time.monotonic()
    words = [sys.executable, "-m", "fox1", "plan", *recipe, "--save", str(rates), "--cores", str(workers), "--json"]
    plan = json.loads(subprocess.run(words, stdout=subprocess.PIPE, check=True, text=True, env=environment).stdout)
    planning = time.monotonic() - planning
    print(f"planned {plan['wall_seconds']:.0f} s, {plan['disk_bytes'] / 1e9:.1f} GB, in {planning:.0f} s", flush=True)
    command = ["curate", *recipe, "--workers", str(workers), "--out"]
    whole = Watched([*command, str(run)], run, environment)
    seconds = whole.wait()
    print(f"took {seconds:.0f} s, {whole.disk_bytes / 1e9:.1f} GB", flush=True)
    peaks: dict[str, int] = {}
    for task in task_times(RunPaths(run)):
        peaks[task["part"]] = max(peaks.get(task["part"], 0), task["peak_bytes"])
    expected = hashes(run)
    shutil.rmtree(run)
    killed = Watched([*command, str(again)], again, environment)
    killed.kill_after(seconds / 2)
    resumed = Watched([*command, str(again)], again, environment)
    resumed_seconds = resumed.wait()
    found = hashes(again)
    shutil.rmtree(again)
    if wrong := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise SystemExit(f"{len(wrong)} files differ after a kill, the first of them {wrong[0]}")
    print("peak memory of tasks, MiB: " + json.dumps({k: v >> 20 for k, v in sorted(peaks.items())}))
    return {
        "text_gb": round(text / 1e9, 2),
        "seconds": round(seconds),
        "time_of_plan": round(seconds / plan["wall_seconds"], 3),
        "disk_of_plan": round(whole.disk_bytes / plan["disk_bytes"], 3),
        "disk_gb": round(whole.disk_bytes / 1e9, 1),
        "driver_mib": whole.driver_bytes >> 20,
        "task_mib": max(peaks.values()) >> 20,
        "task_declared_mib": TASK_MEMORY >> 20,
        "seconds_after_kill": round(resumed_seconds),
        "files_equal": len(expected),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--text", default="20G", help="bytes of text")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--scale", type=float, default=4e-5, help="of the phases of the full recipe")
    parser.add_argument("--folder", type=Path, default=None, help="where all of it lies meanwhile")
    options = parser.parse_args()
    data = Path(os.environ["FOX1_DATA"])
    with tempfile.TemporaryDirectory(prefix="fox1-large-", dir=options.folder) as folder:
        corpora, began = Path(folder) / "corpora", time.monotonic()
        text = write_varied(data, corpora, quantity(options.text), TOGETHER)
        stored = size_of(corpora)
        print(f"{text / 1e9:.1f} GB of text in {stored / 1e9:.1f} GB, in {time.monotonic() - began:.0f} s", flush=True)
        print(json.dumps(measure(Path(folder), data, corpora, text, options.workers, options.scale)))


if __name__ == "__main__":
    main()
