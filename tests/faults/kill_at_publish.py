"""SIGKILL inside the n-th publish of a stage, in whichever process publishes. The product knows nothing of it.

A task publishes files, each under a temporary name that is then renamed, and its completion record last. A process dies at
one of three moments of that: `before` there is a temporary file, in the `middle` of writing it, or `after` it was renamed.
Publishes are counted over all processes of a run, in a folder, where each kill also notes that it landed: so the n-th
publish happens once, whatever the number of workers, and a kill either landed or did not.
"""

from __future__ import annotations

import fcntl
import json
import os
import random
import signal
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from fox1.pipeline.engine import on_ray, tasks
from fox1.pipeline.run.artifacts import Publication
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.records import outputs_in, stored_files
from fox1.pipeline.run.schemas import STAGES

VARIABLE = "FOX1_TEST_KILLS"
"""Tells Ray's workers, who inherit it, what `arm` was told."""
MOMENTS = ("before", "middle", "after")


@dataclass(frozen=True)
class Kill:
    """One kill: in which publish of a stage, from 1, and when in it."""

    stage: str
    publish: int
    moment: str

    def __str__(self) -> str:
        return f"{self.stage}:{self.publish}:{self.moment}"

    @classmethod
    def parse(cls, text: str) -> Kill:
        stage, publish, moment = text.split(":")
        return cls(stage, int(publish), moment)


def publishes(run: Path) -> dict[str, int]:
    """Stage -> files that its tasks publish, completion records among them, by the records of a finished run."""
    found: Counter[str] = Counter()
    for path in stored_files(RunPaths(run)):
        outputs = outputs_in(path)
        found[path.parent.name.split(".")[0]] += len(outputs) + sum(map(len, outputs))
    return found


def draw(run: Path, rng: random.Random) -> list[Kill]:
    """A kill for every stage, in their order and at every moment, by what a finished run published."""
    published = publishes(run)
    assert set(published) == set(STAGES), f"the records of {run} are of the stages {sorted(published)}"
    moments = [MOMENTS[k % len(MOMENTS)] for k in range(len(STAGES))]
    rng.shuffle(moments)
    return [
        Kill(stage, rng.randint(1, published[stage]), moment) for stage, moment in zip(STAGES, moments, strict=True)
    ]


def arm(folder: Path, kills: Sequence[Kill], victim: int = 0) -> None:
    """Let this process, and the workers that it will start, die as told.

    Args:
        folder: where publishes are counted; it is empty.
        victim: who dies; 0: the process that publishes.
    """
    os.environ[VARIABLE] = json.dumps({"folder": str(folder), "kills": [str(k) for k in kills], "victim": victim})
    _told.cache_clear()
    # Ray's workers get the function that runs tasks by its name here, and import this file for it.
    assert tasks.attempt in (_attempt, attempt_that_may_die)
    assert on_ray.attempt_each in (tasks.attempt_each, attempt_each_that_may_die)
    tasks.attempt, on_ray.attempt_each = attempt_that_may_die, attempt_each_that_may_die  # type: ignore[assignment]


def preload() -> None:
    """What the server of a pool loads, so that its workers die as their driver was told."""
    from fox1.pipeline import curate  # noqa: F401

    tasks.attempt = attempt_that_may_die  # type: ignore[assignment]


def landed(folder: Path) -> list[Kill]:
    """The kills that struck, in their order."""
    note = folder / "landed"
    return [Kill.parse(line) for line in note.read_text().splitlines()] if note.exists() else []


_attempt = tasks.attempt
_begin, _write, _commit = Publication.__init__, Publication.write, Publication.commit
_stage = ""
"""Of the task that this process works on, or did last."""


@cache
def _told() -> tuple[Path, dict[tuple[str, int], Kill], int]:
    told = json.loads(os.environ[VARIABLE])
    kills = map(Kill.parse, told["kills"])
    return Path(told["folder"]), {(kill.stage, kill.publish): kill for kill in kills}, told["victim"]


def attempt_that_may_die(planned: Any, paths: Any) -> Any:
    """`attempt` of the engine, in a process whose publishes are counted."""
    global _stage
    _stage = planned.step.split(".")[0]
    Publication.__init__, Publication.write, Publication.commit = begin, write, commit  # type: ignore[method-assign]
    return _attempt(planned, paths)


def attempt_each_that_may_die(bundle: Any, paths: Any) -> Any:
    """`attempt_each` of the engine, likewise."""
    return [attempt_that_may_die(planned, paths) for planned in bundle]


def begin(publication: Any, *arguments: Any, **named: Any) -> None:
    folder, kills, _ = _told()
    publication.kill = kills.get((_stage, _count(folder)))
    _die(publication, "before")
    _begin(publication, *arguments, **named)


def write(publication: Any, data: Any) -> int:
    if publication.kill and publication.kill.moment == "middle" and memoryview(data).nbytes > 1:
        whole = memoryview(data).tobytes()
        _write(publication, whole[: len(whole) // 2])
        publication.flush()
        _die(publication, "middle")
        # Another process was killed; this one lives a moment longer.
        return _write(publication, whole[len(whole) // 2 :])
    return _write(publication, data)


def commit(publication: Any) -> None:
    _die(publication, "middle")  # nothing was written: the file is empty
    _commit(publication)
    _die(publication, "after")


def _count(folder: Path) -> int:
    """The number of this publish among those of its stage."""
    with open(folder / f"{_stage}.publishes", "ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write(b".")
        file.flush()
        return os.fstat(file.fileno()).st_size


def _die(publication: Any, moment: str) -> None:
    if publication.kill is None or publication.kill.moment != moment:
        return
    folder, _, victim = _told()
    with open(folder / "landed", "a") as file:
        file.write(f"{publication.kill}\n")
    publication.kill = None
    os.kill(victim or os.getpid(), signal.SIGKILL)
