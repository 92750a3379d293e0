"""What a signal does to a command, whichever it is."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fox1.commands.interrupt import ENDING
from fox1.pipeline.run import checksums

from tests.conftest import run_command


@pytest.fixture(autouse=True)
def as_in_a_terminal() -> Iterator[None]:
    """Signals are heeded, and afterwards they are as they were: a command that is interrupted leaves them ignored."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in ENDING}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_command_in_one_line(
    run: Path, monkeypatch: pytest.MonkeyPatch, number: int, status: int
) -> None:
    monkeypatch.setattr(checksums, "verify", lambda paths, spread: signal.raise_signal(number))
    done = run_command("verify", run)
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "interrupted\n")


def test_what_unwinds_is_left_in_peace(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that closes sends SIGHUP twice; a status of failure that follows from the first is none."""
    tidied = []

    def verify(paths: object, spread: object) -> None:
        try:
            signal.raise_signal(signal.SIGHUP)
        finally:
            signal.raise_signal(signal.SIGHUP)
            tidied.append(True)

    monkeypatch.setattr(checksums, "verify", verify)
    assert run_command("verify", run).returncode == 129 and tidied


def test_nohup_is_respected(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    monkeypatch.setattr(checksums, "verify", lambda paths, spread: signal.raise_signal(signal.SIGHUP) or (1, 0, []))
    done = run_command("verify", run)
    assert done.returncode == 0 and "all match" in done.stdout, done.stderr
