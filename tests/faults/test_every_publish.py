"""Every publish of a run fails in turn, by a crash and by a full disk, and costs no byte.

Where `python -m tests.faults.chaos` draws moments, this goes through all of them: each file that a task publishes, and its
completion record, at one of three moments. One curation sees them all: a task is attempted again until none is left.
"""

from __future__ import annotations

import errno
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fox1.pipeline.curate import curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess, Outcome, Planned, Silent, Waiting, attempt
from fox1.pipeline.run.artifacts import Publication
from fox1.pipeline.run.manifest import run_files
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.records import StepRecords

from tests.faults.promises import hashes

MOMENTS = ("before", "middle", "after")
pytestmark = pytest.mark.slow


class Crash(BaseException):
    """The process ends here: nothing is cleaned up."""


class FullDisk(OSError):
    def __init__(self) -> None:
        super().__init__(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Faults:
    """Makes one publish fail: the n-th from now, from 0, at a moment of it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.moment, self.fault = -1, "", Crash
        self.struck = False
        self.nothing = self.temporary = Path(os.devnull, "nothing")
        begin, write, commit, discard = (getattr(Publication, n) for n in ("__init__", "write", "commit", "discard"))

        def began(publication: Any, *arguments: Any, **named: Any) -> None:
            publication.chosen = self.left == 0
            self.left -= 1
            self._strike(publication, "before")
            begin(publication, *arguments, **named)

        def written(publication: Any, data: Any) -> int:
            if publication.chosen and self.moment == "middle":
                whole = memoryview(data).tobytes()
                write(publication, whole[: len(whole) // 2])
                publication.flush()
                self._strike(publication, "middle")
            return int(write(publication, data))

        def committed(publication: Any) -> None:
            self._strike(publication, "middle")  # nothing was written: the file is empty
            # A full disk is noticed by then; what a name points to is whole.
            self._strike(publication, "after", FullDisk)
            commit(publication)
            self._strike(publication, "after", Crash)

        def discarded(publication: Any) -> None:
            if not (self.struck and self.fault is Crash):
                discard(publication)

        for name, new in (("__init__", began), ("write", written), ("commit", committed), ("discard", discarded)):
            monkeypatch.setattr(Publication, name, new)

    def arm(self, publish: int, moment: str, fault: Any) -> None:
        self.left, self.moment, self.fault, self.struck = publish, moment, fault, False

    def disarm(self) -> None:
        self.left = -1

    def _strike(self, publication: Any, moment: str, fault: Any = None) -> None:
        if publication.chosen and self.moment == moment and fault in (None, self.fault):
            publication.chosen, self.struck = False, True
            self.temporary = getattr(publication, "temporary", self.nothing)
            raise self.fault


class Failing(InProcess):
    """Attempts every task once for every publish and fault, and at last without."""

    def __init__(self, faults: Faults) -> None:
        self.faults = faults
        self.failures: Counter[tuple[str, str]] = Counter()

    def run(self, waiting: Waiting, paths: RunPaths, progress: Any) -> Iterator[tuple[int, Outcome]]:
        for planned in waiting:
            publish, outcome = 0, None
            while outcome is None or not outcome.host:
                for fault in (Crash, FullDisk):
                    moment = MOMENTS[(publish + sum(self.failures.values())) % 3]
                    self.faults.arm(publish, moment, fault)
                    outcome = self._attempt(planned, paths)
                    if not self.faults.struck:
                        break
                    self.failures[fault.__name__, moment] += 1
                    planned = replace(planned, replaces=True)  # as the engine asks again
                    # Nothing vouches for outputs that are not whole.
                    record = StepRecords(paths, planned.step).found.get(planned.task.name)
                    done = record is not None and record.key == planned.key
                    last = fault is Crash and moment == "after" and done
                    assert not done or last, (planned.step, planned.task.name, publish, moment)
                    outcome = None
                publish += 1
            assert outcome
            self.faults.disarm()
            yield planned.index, outcome

    def _attempt(self, planned: Planned, paths: RunPaths) -> Outcome | None:
        try:
            outcome = attempt(planned, paths)
        except Crash:
            return None
        if self.faults.struck:
            assert outcome.result is None and outcome.transient and "No space left on device" in outcome.error
            assert len(outcome.error.splitlines()) == 1
            assert not self.faults.temporary.exists()
            return None
        return outcome


@pytest.mark.early
def test_a_publish_that_fails_costs_no_byte(one_phase: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    files = {path: run_files(RunPaths(path), {"name": "recipe"}, {"training": 1}) for path in (whole, run)}
    curate(one_phase, Engine(RunPaths(whole), InProcess(), Silent()), files=files[whole])

    faults = Faults(monkeypatch)
    executor = Failing(faults)
    curate(one_phase, Engine(RunPaths(run), executor, Silent()), files=files[run])
    assert hashes(run) == hashes(whole)
    published = sum(executor.failures.values()) // 2
    assert published > 400 and min(executor.failures.values()) > 50 and len(executor.failures) == 6
    print(executor.failures)

    # What the driver itself publishes, once all tasks are done.
    publish = 0
    while True:
        faults.arm(publish, MOMENTS[publish % 3], Crash)
        try:
            curate(one_phase, Engine(RunPaths(run), InProcess(), Silent()), files=files[run])
        except Crash:
            publish += 1
        if not faults.struck:
            break
    assert publish > 1
    assert hashes(run) == hashes(whole)
    assert (run / "manifest.json").read_bytes() == (whole / "manifest.json").read_bytes()
    assert not list(run.rglob(".*.tmp"))
