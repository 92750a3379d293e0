"""A curate run of the sample recipe that is killed: the driver by itself, or its Ray workers, one per stage.

    killed_run.py DATA OUT driver STAGE SECONDS     SIGKILL to the driver, SECONDS after STAGE began
    killed_run.py DATA OUT process STAGE SECONDS    the same without Ray: the process that dies is the one that writes
    killed_run.py DATA OUT workers SEED             SIGKILL to one worker per stage, at a random moment
    killed_run.py DATA OUT none                     no kill

Further KEY=VALUE arguments change the recipe. The tests and kills.py run this as a process of its own.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from contextlib import nullcontext
from pathlib import Path

from fox1.pipeline.curate import curate
from fox1.pipeline.engine.on_ray import ray_session
from fox1.pipeline.engine.tasks import Engine, InProcess, Silent
from fox1.pipeline.run.artifacts import RunPaths
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings


def workers() -> dict[int, str]:
    """Ray workers below this process: pid -> title."""
    parents, titles = {}, {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            try:
                stat = Path("/proc", entry, "stat").read_text()
                title = Path("/proc", entry, "cmdline").read_bytes().split(b"\0")[0].decode()
            except OSError:
                continue
            parents[int(entry)] = int(stat.rsplit(")", 1)[1].split()[1])
            titles[int(entry)] = title

    def mine(pid: int) -> bool:
        while pid > 1:
            pid = parents.get(pid, 0)
            if pid == os.getpid():
                return True
        return False

    return {pid: title for pid, title in titles.items() if title.startswith("ray::") and mine(pid)}


class Killer(Silent):
    """Told of every stage by the engine; kills as asked."""

    def __init__(self, mode: str, *options: str) -> None:
        self.mode, self.options = mode, options
        self.random = random.Random(int(options[0])) if mode == "workers" else random.Random()
        self.part = ""
        self.began: dict[str, float] = {}
        self.seconds: dict[str, float] = {}

    def stage(self, name: str, tasks: int, weight: int, reused: int) -> None:
        part = name.split(".")[0]
        if part == self.part:
            return
        self.part, self.began[part] = part, time.monotonic()
        if self.mode in ("driver", "process") and self.options and part == self.options[0]:
            threading.Thread(target=self.kill_driver, args=(float(self.options[1]),), daemon=True).start()
        if self.mode == "workers":
            threading.Thread(target=self.kill_worker, args=(part,), daemon=True).start()

    def task_done(self, name: str, weight: int) -> None: ...

    def stage_done(self, name: str, seconds: float) -> None:
        part = name.split(".")[0]
        self.seconds[part] = time.monotonic() - self.began[part]

    def kill_driver(self, seconds: float) -> None:
        time.sleep(seconds)
        os.kill(os.getpid(), signal.SIGKILL)

    def kill_worker(self, part: str) -> None:
        """Wait for a worker at work in this stage (a moment at random), then kill it."""
        time.sleep(self.random.uniform(0, 0.05))
        while self.part == part:
            busy = [pid for pid, title in workers().items() if title.startswith(f"ray::{part}")]
            if busy:
                victim = self.random.choice(busy)
                print(f"killed {victim} in {part}", flush=True)
                os.kill(victim, signal.SIGKILL)
                return


def main(data: str, out: str, mode: str, *options: str) -> None:
    recipe, _ = load_recipe("sample", [o for o in options if "=" in o], {"FOX1_DATA": data})
    killer = Killer(mode, *(o for o in options if "=" not in o))
    with nullcontext(InProcess()) if mode == "process" else ray_session(None, 2) as executor:
        curate(curate_settings(recipe), Engine(RunPaths(Path(out)), executor, killer))
    for part, seconds in killer.seconds.items():
        print(f"{part} {seconds:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:])
