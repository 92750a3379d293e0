"""Commands under way and the processes below them: started, watched, sent signals, ended. Of the chaos run; Linux only."""

from __future__ import annotations

import ctypes
import ipaddress
import os
import signal
import socket
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)
_DEATH_SIGNAL, _SUBREAPER = 1, 36


def adopt_orphans() -> None:
    """Let what a killed command leaves behind be ours: a tree of processes stays one."""
    _libc.prctl(_SUBREAPER, 1, 0, 0, 0)


def descendants(pid: int) -> dict[int, str]:
    """Processes below one: pid -> first word of its command line, zombies left out."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with suppress(OSError, IndexError, ValueError):
                state, parent = Path("/proc", entry, "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    children.setdefault(int(parent), []).append(int(entry))
    found, waiting = {}, [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            with suppress(OSError):
                found[child] = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")[0].decode(errors="replace")
                waiting.append(child)
    return found


def listening(pid: int) -> set[str]:
    """Addresses at which a process and those below it accept TCP connections."""
    inside: dict[str, str] = {}
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            _, local, _, state, *_, inode = line.split()[:10]
            if state == "0A":
                words = bytes.fromhex(local.partition(":")[0])
                # Each four bytes are a number in the order of the machine.
                packed = b"".join(words[i : i + 4][::-1] for i in range(0, len(words), 4))
                inside[f"socket:[{inode}]"] = socket.inet_ntop(family, packed)
    found = set()
    for each in (pid, *descendants(pid)):
        with suppress(OSError):
            for descriptor in Path(f"/proc/{each}/fd").iterdir():
                with suppress(OSError):
                    found.add(inside.get(os.readlink(descriptor), ""))
    return found - {""}


def is_loopback(address: str) -> bool:
    return ipaddress.ip_address(address.removeprefix("::ffff:")).is_loopback


def send(pid: int, number: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def state(pid: int) -> str:
    """The letter that Linux gives the state of a process; empty if there is none."""
    with suppress(OSError, IndexError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return ""


def comes(state_of: str, pid: int, seconds: float = 0.5) -> bool:
    """Whether a process gets into a state (letters of which one is enough) before long."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if (state(pid) or "Z") in state_of:
            return True
        time.sleep(0.002)
    return False


class Command:
    """A fox1 command under way, with what it says in a file.

    Args:
        warm: run it in a fork of this process, which has imported what it needs; else as `python -m fox1`.
    """

    def __init__(self, words: list[str], said: Path, warm: bool) -> None:
        self.words, self.warm, self._said = words, warm, said
        self.status: int | None = None
        """As of `Popen.returncode`."""
        self.began = time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if self.pid:
            return
        status = 1
        try:
            # Nothing outlives the one who counts.
            _libc.prctl(_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
            os.setsid()
            out = os.open(said, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            status = self._inside(words, warm)
        except BaseException:
            traceback.print_exc()
        finally:
            with suppress(BaseException):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    @staticmethod
    def _inside(words: list[str], warm: bool) -> int:
        if not warm:
            os.execv(sys.executable, [sys.executable, "-m", "fox1", *words])
        from fox1.commands import app as cli

        sys.argv = ["fox1", *words]
        try:
            cli.main()
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0

    def poll(self) -> int | None:
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.status = os.waitstatus_to_exitcode(status)
        return self.status

    def wait(self, seconds: float) -> int | None:
        deadline = time.monotonic() + seconds
        while self.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        return self.status

    def everyone(self) -> list[int]:
        return [self.pid, *descendants(self.pid)]

    def kill(self) -> None:
        for pid in self.everyone():
            send(pid, signal.SIGKILL)
        self.wait(10)

    def said(self) -> str:
        return self._said.read_text(errors="replace") if self._said.exists() else ""


def end_orphans(seconds: float) -> int:
    """Give what ended commands left behind some seconds to go, then kill it; how many had to be killed."""
    deadline = time.monotonic() + seconds
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        time.sleep(0.05)
    for pid in left:
        send(pid, signal.SIGKILL)
    with suppress(ChildProcessError):
        # Ours by now, every one of them: until none is left.
        while left or os.waitpid(-1, os.WNOHANG)[0]:
            os.waitpid(-1, 0)
    return len(left)
