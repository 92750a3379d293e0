"""Following a job's log over a connection that breaks, by a client whose answers the test plays."""

import io
from collections.abc import AsyncIterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from fox1.cluster import submit
from fox1.cluster.entry import SubmitError


@dataclass
class Played:
    """A client of which each answer is one of a list: the last one stays."""

    logs: list[tuple[str, bool]]
    """(the log from its beginning, whether the connection then ends as it should)."""
    states: list[str | None]
    """None: no answer."""
    asked: int = 0
    tailed: int = 0

    async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
        text, whole = self.logs[min(self.tailed, len(self.logs) - 1)]
        self.tailed += 1
        if text:
            yield text
        if not whole:
            raise RuntimeError("the websocket is closed")

    def get_job_info(self, job: str) -> Any:
        state = self.states[min(self.asked, len(self.states) - 1)]
        self.asked += 1
        if state is None:
            raise ConnectionError("nobody answers")
        ended = state in ("SUCCEEDED", "FAILED")
        return SimpleNamespace(status=SimpleNamespace(value=state, is_terminal=lambda: ended))


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that only sleeping moves."""
    now = [0.0]
    clock = SimpleNamespace(monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds))
    monkeypatch.setattr(submit, "time", clock)
    return now


def follow(client: Played) -> tuple[Any, str]:
    out = io.StringIO()
    return submit._follow(client, "job", "http://there", out), out.getvalue()


def test_a_log_is_written_once_over_connections_that_break() -> None:
    logs = [("one\n", False), ("", False), ("one\ntwo\n", False), ("one\ntwo\nthree\n", True)]
    details, written = follow(Played(logs, ["RUNNING", None, "SUCCEEDED", "SUCCEEDED"]))
    assert written == "one\ntwo\nthree\n" and details.status.value == "SUCCEEDED"


def test_a_job_may_wait_for_a_node_as_long_as_it_must(clock: list[float]) -> None:
    hours = int(4 * submit.PATIENCE_SECONDS)
    client = Played([("", False)] * hours + [("done\n", True)], ["PENDING"] * hours + ["SUCCEEDED"])
    details, written = follow(client)
    assert written == "done\n" and details.status.is_terminal() and clock[0] >= hours


@pytest.mark.parametrize("state", ["RUNNING", "SUCCEEDED", None])
def test_a_connection_that_stays_broken_is_lost_after_a_while(state: str | None, clock: list[float]) -> None:
    with pytest.raises(SubmitError, match="lost the connection to http://there; job job may still be running"):
        follow(Played([("one\n", False)], [state]))
    assert submit.PATIENCE_SECONDS <= clock[0] < submit.PATIENCE_SECONDS + 5


def test_a_quiet_log_that_breaks_after_hours_is_followed_again(clock: list[float]) -> None:
    class Quiet(Played):
        async def tail_job_logs(self, job: str) -> AsyncIterator[str]:
            clock[0] += 3600
            async for text in super().tail_job_logs(job):
                yield text

    _, written = follow(Quiet([("", False), ("", False), ("end\n", True)], ["RUNNING", "RUNNING", "SUCCEEDED"]))
    assert written == "end\n"


def test_a_reader_that_has_gone_ends_the_following() -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        submit._follow(Played([("one\n", True)], ["RUNNING"]), "job", "http://there", Gone())
