"""Hostile bytes for everything that reads what others wrote: the long form of the fuzz tests.

    python -m tests.fuzz [--cases 1000000] [--seconds N] [--seed S] [--jobs 2] [--targets a,b] [--keep DIR]

Workers are processes of their own, so that a crash or a hang is found as well as a wrong answer. A case follows from (seed,
target, number); the input of each that fails is kept in DIR. Prints what came of the cases of each target, and JSON last;
the status is 1 if one failed.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from tests.fuzz import TARGETS, Case, Fault, run_case

ROOT = Path(__file__).resolve().parents[2]
SLICE, SLICE_SECONDS = 50, 20
"""Cases of a target that a worker runs in one go: so many, or fewer that are expected to take so long."""
HANG_SECONDS = 30
SLOW_SECONDS = 10
"""Processor time of a case that is a failure: it does not depend on what else the machine does."""
START_SECONDS = 120
"""To import, to compile kernels, and to make the valid files."""


@dataclass
class Tally:
    """What came of the cases of one target."""

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    failures: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return self.outcomes.total()


def case_of(seed: int, target: str, number: int) -> Case:
    return TARGETS[target].make(random.Random(f"{seed} {target} {number}"))


def work(seed: int) -> None:
    """Run slices as they are asked for: a line `target first count` each; answers are lines of JSON."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print is no answer
    with tempfile.TemporaryDirectory(prefix="fox1-fuzz-") as folder:
        for line in sys.stdin:
            target, first, count = line.split()
            for number in range(int(first), int(first) + int(count)):
                print(json.dumps({"begins": number}), file=answers)
                case = case_of(seed, target, number)
                began = sum(os.times()[:4])
                try:
                    outcome, fault = run_case(target, case, Path(folder)), ""
                except Fault as found:
                    outcome, fault = "fault", str(found)
                seconds = sum(os.times()[:4]) - began
                print(json.dumps({"outcome": outcome, "fault": fault, "seconds": seconds}), file=answers)
            print(json.dumps({"done": True}), file=answers)


class Fuzzer:
    """Hands slices of cases to workers and counts what comes back."""

    def __init__(self, seed: int, targets: list[str], cases: int, seconds: float, keep: Path) -> None:
        self._seed, self._keep = seed, keep
        self._left = dict.fromkeys(targets, -(-cases // len(targets)))
        self._next = dict.fromkeys(targets, 0)
        self._ends = time.monotonic() + seconds
        self._lock = threading.Lock()
        self.tallies = {name: Tally() for name in targets}

    def _slice(self) -> tuple[str, int, int] | None:
        """The next cases of the target that took the least time so far."""
        with self._lock:
            open_ = [name for name, left in self._left.items() if left]
            if not open_ or time.monotonic() > self._ends:
                return None
            name = min(open_, key=lambda n: (self.tallies[n].seconds, self._next[n]))
            tally, first = self.tallies[name], self._next[name]
            usual = tally.seconds / tally.cases if tally.cases else SLICE_SECONDS
            count = min(SLICE, self._left[name], max(1, int(SLICE_SECONDS / max(usual, 1e-3))))
            self._left[name] -= count
            self._next[name] += count
            return name, first, count

    def _failed(self, target: str, number: int, what: str) -> None:
        tally, case = self.tallies[target], case_of(self._seed, target, number)
        if len(tally.failures) < 20:
            path = self._keep / f"{target}-{self._seed}-{number}-{Path(case.name).name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(case.data)
            tally.failures.append(f"{what} ({path})")
            print(f"{target} {number}: {what}\n  {path}", flush=True)

    def run(self) -> None:
        """One worker at a time, as long as there are cases; a new one for each that crashed or hung."""
        asked = self._slice()
        while asked:
            command = [sys.executable, "-m", "tests.fuzz", "--work", str(self._seed)]
            worker = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            try:
                while asked:
                    asked = self._run_slice(worker, *asked) or self._slice()
                    if worker.poll() is not None:
                        break
            finally:
                worker.kill()
                worker.wait()

    def _run_slice(
        self, worker: subprocess.Popen[str], target: str, first: int, count: int
    ) -> tuple[str, int, int] | None:
        """Let a worker run a slice; what is left of it if the worker is lost."""
        assert worker.stdin and worker.stdout
        tally, number, hung = self.tallies[target], first, False

        def kill() -> None:
            nonlocal hung
            hung = True
            worker.kill()

        began, patience = time.monotonic(), START_SECONDS
        try:
            worker.stdin.write(f"{target} {first} {count}\n")
            worker.stdin.flush()
        except BrokenPipeError:
            pass
        while True:
            watch = threading.Timer(patience, kill)
            watch.start()
            line = worker.stdout.readline()
            watch.cancel()
            if not line:
                break
            answer = json.loads(line)
            if "done" in answer:
                tally.seconds += time.monotonic() - began
                return None
            if "begins" in answer:
                number, patience = answer["begins"], START_SECONDS if answer["begins"] == first else HANG_SECONDS
                continue
            tally.outcomes[answer["outcome"]] += 1
            if answer["fault"]:
                self._failed(target, number, answer["fault"])
            elif answer["seconds"] > SLOW_SECONDS and number != first:
                self._failed(target, number, f"took {answer['seconds']:.1f} s of a core")
        worker.wait()
        tally.seconds += time.monotonic() - began
        tally.outcomes["hang" if hung else "crash"] += 1
        self._failed(target, number, "hangs" if hung else f"ends the process with status {worker.returncode}")
        rest = first + count - number - 1
        return (target, number + 1, rest) if rest else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--targets", default=",".join(TARGETS))
    parser.add_argument("--keep", type=Path, default=ROOT / "build" / "fuzz")
    parser.add_argument("--work", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work is not None:
        work(options.work)
        return
    began = time.monotonic()
    fuzzer = Fuzzer(options.seed, options.targets.split(","), options.cases, options.seconds, options.keep)
    threads = [threading.Thread(target=fuzzer.run) for _ in range(options.jobs)]
    for thread in threads:
        thread.start()
    while alive := [thread for thread in threads if thread.is_alive()]:
        alive[0].join(60)
        done = sum(t.cases for t in fuzzer.tallies.values())
        print(f"{done:,} cases, {time.monotonic() - began:.0f} s", file=sys.stderr, flush=True)
    seconds = time.monotonic() - began
    print(f"{'target':20} {'cases':>9} {'seconds':>8}  outcomes")
    for name, tally in fuzzer.tallies.items():
        outcomes = ", ".join(f"{n:,} {outcome}" for outcome, n in tally.outcomes.most_common())
        print(f"{name:20} {tally.cases:9,} {tally.seconds:8.1f}  {outcomes}")
    cases = sum(t.cases for t in fuzzer.tallies.values())
    failures = sum(len(t.failures) for t in fuzzer.tallies.values())
    print(f"{cases:,} cases in {seconds:.0f} s, {failures} failures")
    targets = {n: {"seconds": round(t.seconds, 1), **dict(t.outcomes)} for n, t in fuzzer.tallies.items()}
    found = [f for t in fuzzer.tallies.values() for f in t.failures]
    print(json.dumps({"seed": options.seed, "cases": cases, "seconds": seconds, "targets": targets, "failures": found}))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
