"""A chaos run: the whole path from corpora to a trained model, hit by some hundred random faults.

    python -m tests.faults.chaos [--faults 200] [--seed S] [--seconds N] [--only curate,ray,train,ranks] [--keep]

1. Sample corpora of 2 MB are curated and a tiny Fox-1 is trained on them, once without faults. What is promised is noted: the
   SHA-256 of every final file of the run, the weights of the last checkpoint, the loss of every step.
2. An episode begins with a copy of that run, or of its checkpoints, of which random parts are removed. The same command is
   called some times over; faults (`faults.py`) hit it while it runs, or what it left before the next call.
3. Then it is called without faults until its exit status is 0, and every promised byte must be there.

A call that fails by itself must say why in one line. Only faults with proof that they landed are counted. Every draw is
printed; a seed repeats the draws as long as calls end as they did. The package is copied first, so that a change of the
checkout does not disturb a long run. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.faults import faults
from tests.faults.faults import Fault, Strike, Target, drive
from tests.faults.processes import Command, adopt_orphans, end_orphans
from tests.faults.promises import complaint, promised_of_a_run, promised_of_a_training

ROOT = Path(__file__).resolve().parents[2]
SMALL = ("scale=0.1", "tokenizer.vocab_size=1024", "tokenizer.sample_bytes=1Mi")
MODEL = {"layers": 1, "hidden": 32, "intermediate": 32, "heads": 1, "kv_heads": 1}
HEALS = 6
"""Calls without faults after which a run that still fails is lost."""
RUN_PARTS = {
    **{
        p: f"{p}/**/*" for p in ("prepare", "signals", "filtered", "decisions", "tokens", "phases", "held_out", "index")
    },
    **{p: f"{p}/**/*" for p in ("stats", "dedupe", "mix", "counts", "manifest", "records", "timings")},
    **{p: p for p in ("manifest.json", "recipe.yaml", "training.json")},
}
CHECKPOINT_PARTS = {"weights": "step-*/__*", "metadata": "step-*/.metadata", "manifest": "step-*/manifest.json"}
"""metrics.jsonl, the log of what was, is not damaged: nothing could tell what it said."""


@dataclass(frozen=True)
class Kind:
    """What an episode does, over and over."""

    weight: int
    options: tuple[str, ...]
    at_work: dict[str, Strike]
    at_rest: dict[str, Strike]
    parts: dict[str, str]
    limit: float
    """Seconds after which a call hangs."""
    warm: bool = True
    """In a fork of this process, not as a process of its own."""
    healed_by: tuple[str, ...] | None = None
    """Other options for calls without faults."""

    @property
    def trains(self) -> bool:
        return self.parts is CHECKPOINT_PARTS


_at_rest = {name: strike for name, strike in faults.AT_REST.items() if name != "rot"}
KINDS = {
    "curate": Kind(12, ("--in-process",), faults.READING, _at_rest, RUN_PARTS, 120),
    "pool": Kind(4, ("--workers", "2"), faults.ON_POOL, _at_rest, RUN_PARTS, 120, False, ("--in-process",)),
    "ray": Kind(2, ("--ray", "--workers", "2"), faults.ON_RAY, _at_rest, RUN_PARTS, 240, False, ("--in-process",)),
    "train": Kind(5, (), faults.AT_WORK, _at_rest, CHECKPOINT_PARTS, 120),
    "ranks": Kind(1, ("--nproc", "2"), faults.RANKS, _at_rest, CHECKPOINT_PARTS, 180, False),
}


def _step(line: str) -> int:
    """The step of a line of metrics; of one that a full disk cut off, one that never comes."""
    try:
        return int(json.loads(line)["step"])
    except ValueError:
        return 1 << 60


@dataclass
class Chaos:
    """The clean results, the draws and what came of them."""

    folder: Path
    disk: Path
    real_disk: bool
    rng: random.Random
    corpora: Path
    calls_each: int = 0
    """Calls of an episode that faults hit; 0: two or three."""
    decks: dict[str, list[str]] = field(default_factory=dict)
    seconds: dict[tuple[str, str], float] = field(default_factory=dict)
    """(stage, task) -> seconds of the clean run."""
    took: dict[str, float] = field(default_factory=dict)
    """Kind -> seconds of a clean training."""
    landed: list[tuple[str, Fault]] = field(default_factory=list)
    drawn: Counter[tuple[str, str]] = field(default_factory=Counter)
    messages: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    lost_bytes: int = 0
    calls: int = 0
    missing: int = 0
    attempts: int = 0
    orphans: int = 0

    @property
    def clean(self) -> Path:
        return self.folder / "clean"

    def clean_training(self, kind: str) -> Path:
        return self.folder / f"clean-{kind}"

    def words(self, kind: str, place: Path, options: tuple[str, ...]) -> list[str]:
        if KINDS[kind].trains:
            return ["train", str(self.folder / "to-train"), "--out", str(place), *options]
        changes = [word for change in SMALL for word in ("--set", change)]
        return ["curate", "sample", "--out", str(place), *options, *changes]

    # -- without faults ------------------------------------------------------------------------------------------------

    def call(self, words: list[str], warm: bool = True, limit: float = 300) -> Command:
        self.calls += 1
        command = Command(words, self.folder / "said" / f"{self.calls}.log", warm)
        if command.wait(limit) is None:
            command.kill()
        return command

    def begin(self, run: Path | None, kinds: list[str]) -> None:
        """The runs that all others are compared with."""
        (self.folder / "said").mkdir()
        if not self.corpora.exists():
            self._must(self.call(["sample", str(self.corpora), "--megabytes", "2"]))
        if run:
            faults.copy(run, self.clean)
        self._must(self.call(self.words("curate", self.clean, ("--in-process",))))
        self.run_promise = promised_of_a_run(self.clean)
        for line in (self.clean / "timings" / "tasks.jsonl").read_text().splitlines():
            entry = json.loads(line)
            self.seconds[entry["stage"], entry["task"]] = entry["seconds"]
        print(
            f"clean run: {len(self.run_promise)} promised files, {sum(self.seconds.values()):.1f} s in tasks",
            flush=True,
        )
        if not any(KINDS[kind].trains for kind in kinds):
            return
        to_train = self.folder / "to-train"
        to_train.mkdir()
        for part in ("phases", "held_out", "prepare"):
            (to_train / part).symlink_to(self.clean / part)
        settings = json.loads((self.clean / "training.json").read_text())
        settings |= {"checkpoint_every": 5, "evaluate_blocks": 4, "micro_batch_tokens": 1024}
        settings["model"] |= MODEL
        for phase in settings["phases"]:
            phase["batch_tokens"] = 1024
        (to_train / "training.json").write_text(json.dumps(settings))
        self.training_promise = {}
        for name in (kind for kind in kinds if KINDS[kind].trains):
            place, began = self.clean_training(name), time.monotonic()
            self._must(self.call(self.words(name, place, KINDS[name].options), KINDS[name].warm))
            self.took[name] = time.monotonic() - began
            self.training_promise[name] = promised_of_a_training(place)
            print(
                f"clean training ({name}): {self.took[name]:.1f} s, {len(self.training_promise[name])} promises",
                flush=True,
            )

    @staticmethod
    def _must(command: Command) -> None:
        if command.status:
            sys.exit(f"{' '.join(command.words)} failed without a fault:\n{command.said()}")

    # -- one episode ---------------------------------------------------------------------------------------------------

    def draw(self, kind: str) -> str:
        """Every fault of a kind before any comes again."""
        deck = self.decks.setdefault(kind, [])
        if not deck:
            deck += [n for n in KINDS[kind].at_work if self.real_disk or n not in faults.NEED_A_DISK]
            self.rng.shuffle(deck)
        return deck.pop()

    def episode(self, number: int, kind: str) -> None:
        """Faults in some calls of one command, then calls without, then every byte."""
        of, rng = KINDS[kind], self.rng
        place = self.disk / f"e{number}"
        self._prepare(kind, place)
        target = Target(place, self.disk, rng, of.parts, self.corpora)
        print(f"episode {number}: {kind}, {self._left(kind, place):.1f} s of work left", flush=True)
        struck: list[Fault] = []
        for _ in range(self.calls_each or rng.randrange(2, 4)):
            here: list[Fault] = []
            if rng.random() < 0.6 and any(target.files()):
                here.append(self._at_rest(kind, target, rng.choice(sorted(of.at_rest))))
            if self._left(kind, place) < 1:
                self._remove(kind, place)
            expected, pairs = self._left(kind, place), []
            for _ in range(rng.randrange(1, 4 if kind != "ranks" else 2)):
                fault = Fault(self.draw(kind), rng.uniform(0, expected))
                pairs.append((fault, of.at_work[fault.kind]))
                self.drawn[kind, fault.kind] += 1
            self.calls += 1
            command = Command(self.words(kind, place, of.options), self.folder / "said" / f"{self.calls}.log", of.warm)
            ended = drive(target, command, pairs, of.limit)
            self.orphans += end_orphans(15)
            here += [fault for fault, _ in pairs]
            self._judge(kind, command, ended, here)
            if of.trains and command.status == 0 and expected > 1:
                # What a machine takes that others work on as well changes.
                self.took[kind] *= min(1.5, (time.monotonic() - command.began) / expected)
            struck += [fault for fault in here if fault.landed]
        whole = self._heal(kind, place)
        if touched := [path.name for path, data in target.outside.items() if path.read_bytes() != data]:
            whole = self.problem(f"{kind} wrote through a link: {', '.join(touched)}")
        if whole and not of.trains and rng.random() < 0.4:
            fault = self._at_rest(kind, target, "rot")
            whole = self._verify(place, fault) and self._heal(kind, place)
            fault.outcome = "healed"
            print(f"  {fault.kind}: {fault.what}", flush=True)
            struck.append(fault)
        for fault in struck:
            fault.outcome = fault.outcome if whole else "lost"
            self.landed.append((kind, fault))
        self.attempts += target.attempts
        if whole:
            shutil.rmtree(place)

    def _at_rest(self, kind: str, target: Target, name: str) -> Fault:
        fault = Fault(name)
        self.drawn[kind, name] += 1
        generator = faults.AT_REST[name](target, fault)
        next(generator)
        generator.close()
        return fault

    def _judge(self, kind: str, command: Command, ended: bool, here: list[Fault]) -> None:
        """What became of one call."""
        said, words = command.said(), "survived"
        killed = any(f.landed and f.kind in ("kill", "hang", "driver killed", "launcher killed") for f in here)
        if not ended:
            words = "hung"
            self.problem(f"{kind} hung with {[f.kind for f in here if f.landed]}; last words: {said[-300:]!r}")
        elif killed:
            words = "killed"
        elif command.status:
            words = f"exit {command.status}"
            wrong = complaint(said)
            if wrong:
                self.problem(f"{kind} with {[f.kind for f in here if f.landed]}: {wrong}")
            else:
                self.messages[self._plain(said.strip().splitlines()[-1])] += 1
        for fault in here:
            fault.outcome = "survived" if command.status == 0 else "healed"
            mark = "" if fault.landed else " (missed)"
            print(f"  {fault.at:5.2f} s {fault.kind}{mark}: {fault.what}", flush=True)
        print(f"    {words} after {time.monotonic() - command.began:.1f} s", flush=True)
        if command.status and not killed:
            print(f"    {said.strip().splitlines()[-1] if said.strip() else '(nothing said)'}", flush=True)

    def _heal(self, kind: str, place: Path) -> bool:
        """Call without faults until the status is 0; whether every promised byte is there."""
        of = KINDS[kind]
        options = of.options if of.healed_by is None else of.healed_by
        for attempt in range(HEALS):
            command = self.call(self.words(kind, place, options), of.warm or of.healed_by is not None, of.limit)
            if command.status == 0:
                break
            print(f"    heal {attempt + 1}: exit {command.status}: {command.said()[-300:].strip()}", flush=True)
            # A link is refused, not replaced: whoever reads that takes it away.
            for link in re.findall(r"(/\S+) is a symbolic link", command.said()):
                Path(link).unlink(missing_ok=True)
            if "remove its checkpoints to start over" in command.said():
                for folder in place.glob("step-*"):
                    shutil.rmtree(folder)
        else:
            return self.problem(f"{kind} does not heal: {command.said()[-300:]!r}")
        expected = self.training_promise[kind] if of.trains else self.run_promise
        found = promised_of_a_training(place) if of.trains else promised_of_a_run(place)
        wrong = sorted(name for name in expected | found if expected.get(name) != found.get(name))
        if wrong:
            original = self.clean_training(kind) if of.trains else self.clean
            self.lost_bytes += sum((original / n).stat().st_size for n in wrong if (original / n).exists())
            return self.problem(f"{kind}: {len(wrong)} promises broken: {', '.join(wrong[:5])}")
        if left := [p.name for p in place.rglob(".*.tmp")]:
            return self.problem(f"{kind}: {len(left)} half-written files are left")
        return True

    def _verify(self, place: Path, fault: Fault) -> bool:
        """`fox1 verify` must find what rotted; its advice is followed."""
        command = self.call(["verify", str(place)])
        said = command.said()
        name = fault.what.split(": ")[0]
        if command.status != 1 or f"{place}/{name} does not match its checksum" not in said:
            return self.problem(f"verify did not find {fault.what}: exit {command.status}, {said[-300:]!r}")
        (place / name).unlink()
        return True

    def problem(self, text: str) -> bool:
        self.problems.append(self._plain(text))
        print(f"  PROBLEM {text}", flush=True)
        return False

    def _plain(self, text: str) -> str:
        """A message without what differs between episodes."""
        text = re.sub(re.escape(str(self.disk)) + r"/e\d+", "RUN", text)
        text = re.sub(r"[0-9a-f]{32}|process \d+", "...", text)
        return text.replace(str(self.folder), "FOLDER")

    # -- where an episode begins ---------------------------------------------------------------------------------------

    def _prepare(self, kind: str, place: Path) -> None:
        if KINDS[kind].trains:
            faults.copy(self.clean_training(kind), place)
        else:
            faults.copy(self.clean, place)
        self._remove(kind, place)
        if not KINDS[kind].trains:
            self.missing += len(self._unfinished(place))

    def _remove(self, kind: str, place: Path) -> None:
        """Remove random parts of what is finished."""
        if KINDS[kind].trains:
            found = sorted(place.glob("step-*"))
            first = self.rng.randrange(len(found))
            for folder in found[first:]:
                shutil.rmtree(folder)
            last = int(found[first - 1].name[5:]) if first else 0
            metrics = place / "metrics.jsonl"
            if metrics.exists():
                lines = metrics.read_text().splitlines(keepends=True)
                metrics.write_text("".join(line for line in lines if _step(line) <= last))
            return
        from fox1.pipeline.run.records import outputs_in

        share = self.rng.choice((0.1, 0.3, 0.6, 1.0))
        for records in sorted(place.glob("records/*")):
            if self.rng.random() < share:
                with_outputs = self.rng.random() < 0.5
                for record in sorted(records.iterdir()):
                    with suppress(ValueError):
                        for output in (n for names in outputs_in(record) for n in names) if with_outputs else []:
                            (place / output).unlink(missing_ok=True)
                    record.unlink()

    def _unfinished(self, place: Path) -> list[tuple[str, str]]:
        from fox1.pipeline.run.paths import RunPaths
        from fox1.pipeline.run.records import StepRecords

        paths = RunPaths(place)
        found = {step: StepRecords(paths, step).found for step in {step for step, _ in self.seconds}}
        return [(step, task) for step, task in self.seconds if task not in found[step]]

    def _untrained(self, kind: str, place: Path) -> float:
        """Share of the steps that the newest checkpoint has not seen."""
        last = max((int(p.parent.name[5:]) for p in place.glob("step-*/manifest.json")), default=0)
        return 1 - last / max(int(p.name[5:]) for p in self.clean_training(kind).glob("step-*"))

    def _left(self, kind: str, place: Path) -> float:
        """About how many seconds the next call will take."""
        if KINDS[kind].trains:
            return self.took[kind] * self._untrained(kind, place) + 0.4
        work = sum(self.seconds[task] for task in self._unfinished(place))
        return 1.3 * work + {"ray": 10, "pool": 4}.get(kind, 0.8)

    # -- report --------------------------------------------------------------------------------------------------------

    def report(self, seconds: float) -> dict[str, Any]:
        table: dict[str, Counter[str]] = {}
        for kind, fault in self.landed:
            table.setdefault(f"{kind}: {fault.kind}", Counter())[fault.outcome] += 1
        drawn = {f"{kind}: {name}": n for (kind, name), n in self.drawn.items()}
        print(f"\n{'fault':34} {'drawn':>6} {'landed':>6} {'survived':>8} {'healed':>6} {'lost':>5}")
        for name in sorted(drawn):
            of = table.get(name, Counter())
            cells = (drawn[name], sum(of.values()), of["survived"], of["healed"], of["lost"])
            print(f"{name:34} {cells[0]:6} {cells[1]:6} {cells[2]:8} {cells[3]:6} {cells[4]:5}")
        for text, n in self.messages.most_common():
            print(f"{n:4} x {text}")
        for text, n in Counter(self.problems).most_common():
            print(f"PROBLEM {n} x {text}")
        outcomes = Counter(fault.outcome for _, fault in self.landed)
        return {
            "faults": len(self.landed),
            "kinds": len(table),
            **{name: outcomes[name] for name in ("survived", "healed", "lost")},
            "problems": len(self.problems),
            "bytes_lost": self.lost_bytes,
            "calls": self.calls,
            "tasks_missing": self.missing,
            "task_attempts": self.attempts,
            "orphans_killed": self.orphans,
            "real_disk_faults": self.real_disk,
            "seconds": round(seconds, 1),
        }


def chaos(options: argparse.Namespace, folder: Path) -> int:
    print(f"seed {options.seed}", flush=True)
    kinds = options.only.split(",")
    adopt_orphans()
    # Faults change them for a while: those of others are copied.
    corpora = folder / "corpora"
    if options.corpora:
        faults.copy(options.corpora, corpora)
    # Ray puts sockets below its folder, whose paths end at 107 characters.
    temporary = folder / "t"
    temporary.mkdir()
    # `python -m` looks for the package where it is called first.
    os.chdir(temporary)
    os.environ |= {
        "FOX1_DATA": str(corpora), "OMP_NUM_THREADS": "1", "TMPDIR": str(temporary), "RAY_TMPDIR": str(temporary),
        "RAY_AUTH_MODE": "disabled", "RAY_USAGE_STATS_ENABLED": "0",
    }  # fmt: skip
    import_all(kinds)
    with faults.own_disk(folder / "d") as real:
        print(
            "disk: " + ("a tmpfs of its own" if real else "may not mount: no full and no read-only disks"), flush=True
        )
        run = Chaos(folder, folder / "d", real, random.Random(options.seed), corpora, options.calls)
        run.begin(options.run, kinds)
        began, number = time.monotonic(), 0
        order: list[str] = []
        while len(run.landed) < options.faults and (not run.landed or time.monotonic() - began < options.seconds):
            if not order:
                order = [kind for kind in kinds for _ in range(KINDS[kind].weight)]
                run.rng.shuffle(order)
            run.episode(number, order.pop())
            number += 1
        if options.keep:
            faults.copy(folder / "d", folder / "kept")
        result = run.report(time.monotonic() - began)
    print(json.dumps(result | {"seed": options.seed, "episodes": number}))
    return 0 if run.landed and not run.problems else 1


def import_all(kinds: list[str]) -> None:
    """What commands import, so that a fork of this process begins at once. Nothing here may start a thread."""
    import fox1.commands.app
    import fox1.commands.show.bars
    import fox1.commands.show.runs
    import fox1.pipeline.curate
    import fox1.pipeline.run.checksums
    import fox1.recipes.load
    import fox1.recipes.settings

    if any(KINDS[kind].trains for kind in kinds):
        import fox1.trainer.train  # noqa: F401


def elsewhere(folder: Path) -> int:
    """The same call on a copy of the checkout; its kernels are compiled anew, in minutes."""
    unneeded = shutil.ignore_patterns(".*", "build", "dist", "*.egg-info", "__pycache__")
    # Named as the package is imported, so that its folder serves as `fox1` and as the place of `tests`.
    tree = folder / "fox1"
    shutil.copytree(ROOT, tree, ignore=unneeded)
    changes = {"PYTHONPATH": str(folder), "NUMBA_CACHE_DIR": str(folder / "kernels")}
    command = [sys.executable, "-m", "tests.faults.chaos", *sys.argv[1:], "--here"]
    return subprocess.run(command, cwd=tree, env=os.environ | changes).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--faults", type=int, default=200, help="until so many have landed")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--seconds", type=float, default=3600, help="or so much time has passed, and one has landed")
    parser.add_argument("--only", default=",".join(KINDS), help="kinds of episodes")
    parser.add_argument("--calls", type=int, default=0, help="calls of an episode that faults hit; 0: two or three")
    parser.add_argument("--corpora", type=Path, help="sample corpora that exist")
    parser.add_argument("--run", type=Path, help="a finished run of them")
    parser.add_argument("--here", action="store_true", help="use the package where it lies, and its compiled kernels")
    parser.add_argument("--keep", action="store_true", help="keep the folder, and what went wrong")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fxc"))
    try:
        status = chaos(options, folder) if options.here else elsewhere(folder / "code")
    finally:
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    sys.exit(status)


if __name__ == "__main__":
    main()
