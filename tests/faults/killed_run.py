"""A curation of the sample recipe that is killed where it publishes, as often as asked, and then finished.

    python -m tests.faults.killed_run DATA OUT --who WHO --kill STAGE:N:MOMENT ... [--set KEY=VALUE ...]

WHO dies in the N-th publish of a stage (kill_at_publish.py):

    process    one process that does all the work; a process for every kill
    driver     the driver of a Ray session, whose workers outlive it by a moment; a driver for every kill
    workers    one worker of a Ray session for every kill; the driver replaces them, so one run sees all kills
    forks      one worker of a pool for every kill, which is replaced likewise

The last line is JSON: the kills that landed, and how many half-written files each left. Its status is 1 if one did not land.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from fox1.pipeline.curate import curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.on_ray import ray_session
from fox1.pipeline.engine.pool import pool_session
from fox1.pipeline.engine.tasks import Executor, InProcess
from fox1.pipeline.run.paths import RunPaths
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings

from tests.faults.kill_at_publish import Kill, arm, landed, preload

WHO = ("process", "driver", "workers", "forks")
GO_ON = ("workers", "forks")
"""Those whose death the run survives."""


def session(who: str) -> AbstractContextManager[Executor]:
    """Where tasks run."""
    if who == "process":
        return nullcontext(InProcess())
    return pool_session(2, f"{preload.__module__}:{preload.__name__}") if who == "forks" else ray_session(None, 2)


def finish(data: str, out: Path, changes: Sequence[str], who: str) -> None:
    """Run what is not finished."""
    recipe, _ = load_recipe("sample", list(changes), {"FOX1_DATA": data})
    with session(who) as executor:
        curate(curate_settings(recipe), Engine(RunPaths(out), executor))


def in_a_fork(options: argparse.Namespace, kills: Sequence[Kill], folder: Path) -> int:
    """`finish` in a process of its own that has imported everything; its status, negative for a signal."""
    sys.stdout.flush()
    pid = os.fork()
    if not pid:
        status = 1
        try:
            if kills:
                arm(folder, kills, os.getpid() if options.who == "driver" else 0)
            finish(options.data, options.out, options.changes, options.who)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("out", type=Path)
    parser.add_argument("--who", choices=WHO, default="process")
    parser.add_argument("--kill", dest="kills", type=Kill.parse, action="append", default=[])
    parser.add_argument("--set", dest="changes", action="append", default=[])
    options = parser.parse_args()
    rounds = [options.kills] if options.who in GO_ON else [[kill] for kill in options.kills]
    struck: list[Kill] = []
    half_written: list[int] = []
    for kills in rounds:
        with tempfile.TemporaryDirectory(prefix="fox1-kills-") as folder:
            status = in_a_fork(options, kills, Path(folder))
            struck += landed(Path(folder))
        # A driver that lost a worker goes on; one that was killed itself does not.
        expected = 0 if options.who in GO_ON else -signal.SIGKILL
        if status != expected or not set(kills) <= set(struck):
            missed = ", ".join(str(kill) for kill in kills if kill not in struck)
            sys.exit(f"status {status} in place of {expected}; kills that did not land: {missed or 'none'}")
        half_written.append(len(list(options.out.rglob(".*.tmp"))))
    if options.who not in GO_ON and (status := in_a_fork(options, [], options.out)):
        sys.exit(f"the run does not finish after its kills: status {status}")
    print(json.dumps({"landed": [str(kill) for kill in struck], "half_written": half_written}))


if __name__ == "__main__":
    main()
