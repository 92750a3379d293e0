"""Faults done to a run on purpose, and the commands they are done to; chaos.py draws them, counts them and compares.

A fault is a generator: it strikes when it is first asked, yields the seconds after which it acts again, and undoes what
must not last when it is closed. It counts only if it says that it landed, with proof: a process seen stopped or dead, bytes
that differ, a command that names the failing disk.

Real: signals, a tmpfs without room (ENOSPC), a read-only bind mount (EROFS), bytes changed in place, a second command.
Simulated: clocks, by the times of files (no clock of the machine is touched); slow disks, by processes that are stopped for
most of the time.
"""

from __future__ import annotations

import ctypes
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.faults.processes import Command, comes, descendants, send

_libc = ctypes.CDLL(None, use_errno=True)
_NEW_MOUNTS = 0x20000
DISK_BYTES = 512 << 20
YEAR = 365 * 86400
UNTIL_THE_END = 1e6


# -- disks -----------------------------------------------------------------------------------------------------------


def _mount(*words: object) -> bool:
    return subprocess.run(["mount", *map(str, words)], capture_output=True).returncode == 0


@contextmanager
def own_disk(folder: Path) -> Iterator[bool]:
    """A tmpfs at `folder`, in a mount namespace that ends with this process; False: it may not be, a plain folder is."""
    folder.mkdir(parents=True)
    real = os.geteuid() == 0 and _libc.unshare(_NEW_MOUNTS) == 0 and _mount("--make-rprivate", "/")
    real = real and _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", folder)
    try:
        yield real
    finally:
        if real:
            subprocess.run(["umount", "-l", str(folder)], capture_output=True)


# -- what is struck ----------------------------------------------------------------------------------------------------


@dataclass
class Fault:
    """One fault: where it was drawn, what became of it."""

    kind: str
    at: float = 0.0
    """Seconds after the command began."""
    what: str = ""
    landed: bool = False
    evidence: str = ""
    """What the command or its log must say for the fault to count: one of some texts with a bar between them."""
    outcome: str = ""


@dataclass
class Target:
    """A folder that a command writes."""

    folder: Path
    disk: Path
    rng: random.Random
    parts: dict[str, str]
    """Name of what may be damaged -> glob below the folder."""
    corpora: Path
    """What a curation reads. It is put back as it was."""
    outside: dict[Path, bytes] = field(default_factory=dict)
    """Files beside the folder that a link in it names, and what they hold: no command may touch them."""
    command: Command | None = None
    attempts: int = 0
    """At tasks, in all commands."""
    others: list[Command] = field(default_factory=list)
    """Second commands on the folder."""

    @property
    def running(self) -> Command:
        assert self.command
        return self.command

    def files(self, pattern: str = "**/*") -> list[Path]:
        found = (p for p in self.folder.glob(pattern) if not p.name.endswith(".tmp"))
        return sorted(p for p in found if p.is_file() and not p.is_symlink())


Strikes = Generator[float, None, None]
"""Seconds until a fault acts again."""
Strike = Callable[[Target, Fault], Strikes]


def kill(target: Target, fault: Fault) -> Strikes:
    send(target.running.pid, signal.SIGKILL)
    target.running.wait(60)
    fault.landed = target.running.status == -9
    yield UNTIL_THE_END


def stop(target: Target, fault: Fault) -> Strikes:
    """Stopped for a moment."""
    yield from _stopped(target.running.pid, fault, target.rng.uniform(0.2, 1.0))


def hang(target: Target, fault: Fault) -> Strikes:
    """Stopped, and killed when somebody has waited long enough."""
    send(target.running.pid, signal.SIGSTOP)
    seen = comes("T", target.running.pid)
    yield 1.0
    send(target.running.pid, signal.SIGKILL)
    target.running.wait(60)
    fault.landed = seen and target.running.status == -9
    yield UNTIL_THE_END


def _stopped(pid: int, fault: Fault, seconds: float) -> Strikes:
    send(pid, signal.SIGSTOP)
    fault.landed = comes("T", pid)
    try:
        yield seconds
    finally:
        send(pid, signal.SIGCONT)
    yield UNTIL_THE_END


def slow(target: Target, fault: Fault) -> Strikes:
    """Every process of the command is stopped for most of the time."""
    stops, deadline = 0, time.monotonic() + target.rng.uniform(1.5, 3.0)
    while time.monotonic() < deadline:
        pids = target.running.everyone()
        for pid in pids:
            send(pid, signal.SIGSTOP)
        stops += comes("T", target.running.pid, 0.1)
        try:
            yield 0.06
        finally:
            for pid in pids:
                send(pid, signal.SIGCONT)
        fault.landed, fault.what = stops >= 10, f"{stops} stops"
        yield 0.03
    yield UNTIL_THE_END


def full(target: Target, fault: Fault, lasts: float = UNTIL_THE_END) -> Strikes:
    """The disk has no room for more than a few pages."""
    facts, room = os.statvfs(target.disk), target.rng.randrange(1 << 16)
    used = (facts.f_blocks - facts.f_bfree) * facts.f_frsize
    fault.what, fault.evidence = f"{room:,} bytes left", "No space left|is the disk full"
    fault.landed = _mount("-o", f"remount,size={used + room}", target.disk)
    try:
        yield lasts
    finally:
        _mount("-o", f"remount,size={DISK_BYTES}", target.disk)
    yield UNTIL_THE_END


def full_for_a_while(target: Target, fault: Fault) -> Strikes:
    yield from full(target, fault, target.rng.uniform(0.3, 2.0))


def read_only(target: Target, fault: Fault, lasts: float = UNTIL_THE_END) -> Strikes:
    """A folder of the run, or all of it, can be read but not written."""
    folders = [target.folder, *(p for p in target.folder.glob("*") if p.is_dir() and not p.is_symlink())]
    folder = target.rng.choice(folders)
    fault.what, fault.evidence = folder.name, "Read-only file system"
    aside = target.disk / "aside"
    aside.mkdir(exist_ok=True)
    # First aside, so that the folder changes from one moment to the next.
    fault.landed = _mount("--bind", folder, aside) and _mount("-o", "remount,bind,ro", aside)
    fault.landed = fault.landed and _mount("--bind", aside, folder)
    try:
        yield lasts
    finally:
        for place in (folder, aside):
            subprocess.run(["umount", "-l", str(place)], capture_output=True)
    yield UNTIL_THE_END


def read_only_for_a_while(target: Target, fault: Fault) -> Strikes:
    yield from read_only(target, fault, target.rng.uniform(0.3, 2.0))


def second(target: Target, fault: Fault) -> Strikes:
    """The same command once more, on the same folder."""
    first = target.running
    other = Command(first.words, first._said.with_name(f"second-{len(target.others)}.log"), first.warm)
    target.others.append(other)
    try:
        while other.poll() is None:
            yield 0.02
    finally:
        other.wait(60)
        fault.landed = other.status == 1 and "is being written by" in other.said()
        fault.what = f"exit {other.status}"
    yield UNTIL_THE_END


# -- bytes and times ---------------------------------------------------------------------------------------------------


def spoil(path: Path, rng: random.Random) -> str:
    """Change a file's bytes in place, or remove it; what was done."""
    data = path.read_bytes()
    how = rng.choice(("cut", "flip", "flip", "flip", "zeros", "longer", "gone"))
    if how == "gone" or not data:
        path.unlink()
        return "removed"
    place = rng.randrange(len(data))
    if how == "cut":
        new = data[:place]
    elif how == "flip":
        new = data[:place] + bytes([data[place] ^ 1 << rng.randrange(8)]) + data[place + 1 :]
    elif how == "zeros":
        new = data[:place] + bytes(min(512, len(data) - place)) + data[place + 512 :]
    else:
        new = data + rng.randbytes(rng.randrange(1, 100))
    with open(path, "r+b") as file:
        file.write(new)
        file.truncate(len(new))
    return f"{how} at {place:,} of {len(data):,}"


def damage(target: Target, fault: Fault) -> Strikes:
    """A file of a kind that is drawn first, then changed."""
    for name in target.rng.sample(sorted(target.parts), len(target.parts)):
        if files := target.files(target.parts[name]):
            path = target.rng.choice(files)
            before = path.read_bytes()
            done = spoil(path, target.rng)
            fault.landed = not path.exists() or path.read_bytes() != before
            fault.what = f"{path.relative_to(target.folder)}: {done}"
            break
    yield UNTIL_THE_END


def damage_under_way(target: Target, fault: Fault) -> Strikes:
    """A file is changed while the command that wrote or will read it is stopped; it goes on."""
    pids = target.running.everyone()
    for pid in pids:
        send(pid, signal.SIGSTOP)
    stopped = comes("T", target.running.pid)
    try:
        next(damage(target, fault))
        fault.landed &= stopped
    finally:
        for pid in pids:
            send(pid, signal.SIGCONT)
    yield UNTIL_THE_END


def rot(target: Target, fault: Fault) -> Strikes:
    """A file of a finished run changes though nobody wrote it: the same size and time, other bytes."""
    from fox1.pipeline.run.manifest import read_manifest
    from fox1.pipeline.run.paths import RunPaths

    artifacts = read_manifest(RunPaths(target.folder))["artifacts"]
    path = target.folder / target.rng.choice(sorted(name for name, facts in artifacts.items() if facts["bytes"]))
    data, facts = path.read_bytes(), path.stat()
    place = target.rng.randrange(len(data))
    with open(path, "r+b") as file:
        file.seek(place)
        file.write(bytes([data[place] ^ 1 << target.rng.randrange(8)]))
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    fault.what = f"{path.relative_to(target.folder)}: flip at {place:,} of {len(data):,}, same time"
    fault.landed = path.read_bytes() != data and path.stat().st_mtime_ns == facts.st_mtime_ns
    yield UNTIL_THE_END


def linked(target: Target, fault: Fault) -> Strikes:
    """A file of the run becomes a link to one that is no part of it."""
    path = target.rng.choice(target.files())
    victim = target.disk / f"outside-{len(target.outside)}-{path.name}"
    victim.write_bytes(path.read_bytes() if target.rng.random() < 0.5 else b"somebody else's")
    target.outside[victim] = victim.read_bytes()
    path.unlink()
    path.symlink_to(victim)
    fault.landed, fault.what = path.is_symlink(), str(path.relative_to(target.folder))
    yield UNTIL_THE_END


def swapped(target: Target, fault: Fault) -> Strikes:
    """Between its two reads a source file gets other text, of the same size and time; at the end it is as before."""
    log = target.folder / "timings" / "tasks.jsonl"
    before = log.stat().st_size if log.exists() else 0
    # Only then is all that this command scans read.
    while b'"stage": "dedupe' not in (log.read_bytes()[before:] if log.exists() else b""):
        yield 0.02
    path = target.rng.choice(sorted(p for p in target.corpora.rglob("*.jsonl") if p.parent != target.corpora))
    data, facts = path.read_bytes(), path.stat()
    letters = bytes.maketrans(b"shlm", b"hsml")  # none of them part of an escape
    other = b"".join(
        text.translate(letters) + after + rest
        for line in data.splitlines(keepends=True)
        for text, after, rest in [line.rpartition(b'", "')]
    )
    path.write_bytes(other)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    fault.what, fault.landed = path.name, path.read_bytes() != data
    try:
        yield UNTIL_THE_END
    finally:
        path.write_bytes(data)
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    yield UNTIL_THE_END


def clock(target: Target, fault: Fault) -> Strikes:
    """Files seem to be written years ago, or in years: so a clock that jumped leaves them."""
    files = target.files()
    shift = target.rng.choice((-1, 1)) * target.rng.uniform(3600, 10 * YEAR)
    chosen = target.rng.sample(files, min(len(files), target.rng.randrange(1, 60)))
    for path in chosen:
        with suppress(OSError):  # it is gone, or its disk is read-only just now
            os.utime(path, (time.time() + shift,) * 2)
            fault.landed |= abs(path.stat().st_mtime - time.time() - shift) < 60
    fault.what = f"{len(chosen)} files {shift / YEAR:+.1f} years"
    yield UNTIL_THE_END


# -- a Ray session -----------------------------------------------------------------------------------------------------


def _one(target: Target, title: str) -> int:
    """A process below the command whose title begins so; 0 if there is none."""
    below = descendants(target.running.pid).items()
    # Ray's agents have titles like those of workers.
    found = sorted(p for p, t in below if (t.startswith(title) and "Agent" not in t) or os.path.basename(t) == title)
    return target.rng.choice(found) if found else 0


def _kill_one(title: str) -> Strike:
    def strike(target: Target, fault: Fault) -> Strikes:
        while not (pid := _one(target, title)):
            yield 0.05
        send(pid, signal.SIGKILL)
        fault.landed, fault.what = comes("Z", pid), f"process {pid}"
        yield UNTIL_THE_END

    return strike


def _stop_one(title: str, low: float, high: float, then: int = signal.SIGCONT) -> Strike:
    def strike(target: Target, fault: Fault) -> Strikes:
        while not (pid := _one(target, title)):
            yield 0.05
        seconds = target.rng.uniform(low, high)
        fault.what = f"process {pid} for {seconds:.1f} s"
        send(pid, signal.SIGSTOP)
        fault.landed = comes("T", pid)
        try:
            yield seconds
        finally:
            send(pid, then)
        yield UNTIL_THE_END

    return strike


AT_WORK: dict[str, Strike] = {
    "kill": kill,
    "stop": stop,
    "hang": hang,
    "slow": slow,
    "full": full,
    "full for a while": full_for_a_while,
    "read-only": read_only,
    "read-only for a while": read_only_for_a_while,
    "second run": second,
    "clock under way": clock,
    "damage under way": damage_under_way,
}
"""Done to a command while it runs."""

READING: dict[str, Strike] = AT_WORK | {"swapped source": swapped}
"""Done to a command that reads sources."""

AT_REST: dict[str, Strike] = {"damage": damage, "clock": clock, "linked": linked, "rot": rot}
"""Done to what a command left, before the next one."""

_WITH_WORKERS: dict[str, Strike] = {
    "driver killed": kill,
    "driver stopped": stop,
    "slow": slow,
    "full for a while": full_for_a_while,
    "read-only": read_only,
    "second run": second,
    "damage under way": damage_under_way,
}

ON_RAY: dict[str, Strike] = {
    "worker killed": _kill_one("ray::"),
    "worker stopped": _stop_one("ray::", 0.5, 3.0),
    "worker hung": _stop_one("ray::", 3.0, 6.0, signal.SIGKILL),
    "raylet killed": _kill_one("raylet"),
    "control store killed": _kill_one("gcs_server"),
    "raylet stopped": _stop_one("raylet", 0.5, 4.0),
    **_WITH_WORKERS,
}

ON_POOL: dict[str, Strike] = {
    # Its server is one of them: then the command ends, in one line.
    "forked process killed": _kill_one(os.path.basename(sys.executable)),
    "forked process stopped": _stop_one(os.path.basename(sys.executable), 0.5, 3.0),
    "forked process hung": _stop_one(os.path.basename(sys.executable), 3.0, 6.0, signal.SIGKILL),
    **_WITH_WORKERS,
}

RANKS: dict[str, Strike] = {
    "rank killed": _kill_one(os.path.basename(sys.executable)),
    "rank stopped": _stop_one(os.path.basename(sys.executable), 0.5, 2.0),
    "launcher killed": kill,
    "slow": slow,
    "full": full,
}
"""Done to a training of two processes."""

NEED_A_DISK = ("full", "full for a while", "read-only", "read-only for a while")


def drive(target: Target, command: Command, faults: list[tuple[Fault, Strike]], limit: float) -> bool:
    """Let a command run to its end while faults strike; False if it had to be killed for taking longer than `limit`."""
    target.command = command
    waiting = [(fault.at, fault, strike(target, fault)) for fault, strike in faults]
    acting: list[Strikes] = []
    log, hung = target.folder / "timings" / "tasks.jsonl", False
    logged = log.stat().st_size if log.exists() else 0
    while command.poll() is None:
        now = time.monotonic() - command.began
        for entry in [e for e in waiting if e[0] <= now]:
            waiting.remove(entry)
            if command.poll() is None:
                if entry[2] not in acting:
                    acting.append(entry[2])
                waiting.append((now + next(entry[2], UNTIL_THE_END), *entry[1:]))
        if now > limit:
            hung = True
            command.kill()
        time.sleep(0.004)
    for generator in reversed(acting):
        generator.close()
    entries = log.read_bytes()[logged:].decode(errors="replace") if log.exists() else ""
    target.attempts += entries.count("\n")
    said = command.said() + entries
    for fault, _ in faults:
        fault.landed &= any(text in said for text in fault.evidence.split("|"))
    return not hung


def copy(source: Path, target: Path) -> None:
    """A folder with the times of its files."""
    shutil.copytree(source, target, symlinks=True)
