"""Tasks on a Ray cluster, or on a session of this machine. The only file of the pipeline that imports Ray.

Ray sees plain tasks with declared CPU and memory in a bounded window. Retries are counted by the engine, not by Ray (which
retries out-of-memory tasks without end). Files are the only medium between tasks; results are small.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from ...storage.wording import first_line
from ..run.paths import RunPaths
from .stragglers import Stragglers
from .tasks import TASK_MEMORY, Outcome, Planned, Progress, Waiting, attempt_each

if TYPE_CHECKING:
    from ray.job_config import JobConfig

CONNECT_SECONDS = 10.0
"""How long a cluster may take to answer at all."""
ASK_SECONDS = 5.0
"""How often the driver looks at the cluster."""
LOOPBACK = "127.0.0.1"
TEMPORARY_CHARACTERS = 27
"""Longest path of a folder in which Ray's sockets can lie, some 80 characters deeper: their paths end at 107."""


class OnRay:
    """Runs tasks on a Ray cluster with a bounded window in flight."""

    on_this_machine = False

    def __init__(self) -> None:
        import ray

        self._ray = ray
        # Ray's own retries are off: a task that always exceeds its memory would otherwise loop for ever.
        self._attempt = ray.remote(max_retries=0, num_cpus=1)(attempt_each)

        self._cores, self._asked = 1, 0.0

    @property
    def cores(self) -> int:
        # Nodes come and go, but to ask for each of a hundred thousand tasks would cost as much as the small ones do.
        if time.monotonic() - self._asked > ASK_SECONDS:
            self._look()
            self._cores, self._asked = int(self._ray.cluster_resources().get("CPU", 1)), time.monotonic()
        return self._cores

    @property
    def room(self) -> int:
        return max((int(n["Resources"].get("memory", 0)) for n in self._ray.nodes() if n["Alive"]), default=TASK_MEMORY)

    def preload(self, function: Callable[..., object], *arguments: object) -> None: ...

    def run(self, waiting: Waiting, paths: RunPaths, progress: Progress) -> Iterator[tuple[int, Outcome]]:
        in_flight: dict[Any, list[Planned]] = {}
        stragglers = Stragglers(progress)
        while waiting or in_flight:
            self._look()
            window = max(2, 2 * self.cores)
            while len(in_flight) < window and waiting.next():
                bundle = waiting.take_bundle(self.cores)
                # One name for all: Ray keeps metrics of every name, some 20 KiB each, for as long as the driver lives.
                attempting = self._attempt.options(
                    memory=max(p.task.memory for p in bundle),
                    num_gpus=max(p.task.gpus for p in bundle),
                    name=bundle[0].step,
                )
                reference = attempting.remote(bundle, paths)
                in_flight[reference] = bundle
                stragglers.began(bundle[0])
            if not in_flight:
                time.sleep(waiting.seconds())
                continue
            done, _ = self._ray.wait(list(in_flight), num_returns=1, timeout=min(10.0, waiting.seconds() or 10.0))
            for reference in done:
                bundle = in_flight.pop(reference)
                stragglers.ended(bundle[0].index)
                try:
                    outcomes = self._ray.get(reference)
                except self._ray.exceptions.RayError as cause:
                    error = f"{type(cause).__name__}: {first_line(cause)}"
                    outcomes = [Outcome(None, error, str(cause), True, "", 0.0, 0)] * len(bundle)
                yield from zip((p.index for p in bundle), outcomes, strict=True)
            stragglers.look()

    def _look(self) -> None:
        """Is the session of this machine still whole? Ray waits a minute for a lost part, then ends this process itself.

        Raises:
            ValueError: a part has ended.
        """
        node = self._ray._private.worker._global_node
        dead = {name for name, _ in node.dead_processes()} if node else set()
        if lost := sorted(dead & {"raylet", "gcs_server"}):
            raise ValueError(f"the Ray session is lost ({lost[0]} has ended); run the same command again to go on")


def _require_answer(address: str) -> None:
    """Raise ValueError where nothing listens at HOST:PORT or ray://HOST:PORT: Ray would try for many minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        try:
            socket.create_connection((host, int(port)), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise ValueError(
                f"no Ray cluster answers at {address} ({error}); is it up, and is this its address?"
            ) from None


@contextlib.contextmanager
def ray_session(address: str | None, cpus: int | None) -> Iterator[OnRay]:
    """A Ray session: the cluster at `address` (or the job's own), else one of this machine for as long as the block.

    Raises:
        ValueError: it does not start, or is lost.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    # With it a driver waits for workers that are started before it asks, and for ever if one of them is killed.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    import ray

    with contextlib.ExitStack() as closing:
        if not ray.is_initialized():
            target = address or os.environ.get("RAY_ADDRESS") or "local"
            if target == "local":
                folder = closing.enter_context(_kept_private())
                closing.callback(ray.shutdown)
                _start_here(cpus or os.cpu_count() or 1, folder)
            else:
                _require_answer(target)
                closing.callback(ray.shutdown)
                _start(address=target)
        try:
            yield OnRay()
        except ray.exceptions.RayError as error:
            raise ValueError(
                f"the Ray session is lost ({first_line(error)}); run the same command again to go on"
            ) from error


def _start(**options: Any) -> None:
    """`ray.init`, without a word of it.

    Raises:
        ValueError: Ray does not start, or there is no cluster.
    """
    import logging

    import ray
    from ray._private import utils

    take_sigterm = utils.set_sigterm_handler
    if signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        # Whoever listens to SIGTERM knows better than Ray what is to be done.
        utils.set_sigterm_handler = lambda handler: None
    try:
        ray.init(**options, job_config=_job(), logging_level=logging.ERROR, log_to_driver=False)
    except ConnectionError:
        if options["address"] == "local":
            raise
        raise ValueError(
            f"no Ray cluster at {options['address']}: start one (`ray start --head`), or leave out --address to run on this "
            "machine"
        ) from None
    except (ValueError, OSError):
        raise
    # Of a node that dies while it starts, Ray knows no narrower one.
    except Exception as error:
        raise ValueError(f"Ray does not start ({first_line(error)}); run the same command again") from error
    finally:
        utils.set_sigterm_handler = take_sigterm


class _KnownPaths(list[str]):
    """Folders that this process imports from too; others are not taken up."""

    def extend(self, paths: Iterable[str]) -> None:
        known = {os.path.abspath(path) for path in sys.path}
        super().extend(path for path in paths if os.path.abspath(path) in known)


def _job() -> JobConfig:
    """What Ray is told of a session's job. By itself it lets workers import from the current folder, before all others."""
    from ray.job_config import JobConfig

    job = JobConfig()
    job._py_driver_sys_path = _KnownPaths()
    return job


def _start_here(cpus: int, folder: str) -> None:
    """Start a session of this machine, reached from this machine only.

    Raises:
        ValueError: it does not start, or would listen to the network.
    """
    import ray
    from psutil import NoSuchProcess, Process
    from ray._private import ray_constants

    children = Process().children(recursive=True)
    # What keeps Ray to the loopback interface on other systems; the address alone it takes for the machine's own.
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    try:
        _start(
            # Without it, Ray would connect to whatever /tmp/ray/ray_current_cluster names.
            address="local",
            num_cpus=cpus,
            include_dashboard=False,
            _node_ip_address=LOOPBACK,
            _temp_dir=folder,
            object_store_memory=128 << 20,
        )
    except BaseException:
        # Ray knows nothing yet of what it has begun to start, and some of it would live on for half a minute.
        for process in set(Process().children(recursive=True)).difference(children):
            with contextlib.suppress(NoSuchProcess):
                process.kill()
        raise
    finally:
        ray_constants.ENABLE_RAY_CLUSTER = before
    if (found := ray._private.worker._global_node.node_ip_address) != LOOPBACK:
        raise ValueError(
            f"Ray {ray.__version__} would listen at {found}, not on the loopback interface alone; install the version of "
            "constraints.txt, or pass --in-process"
        )


@contextlib.contextmanager
def _kept_private() -> Iterator[str]:
    """What belongs to a session of this machine alone while the block lasts: its token, and a folder that nobody else enters.

    Without a token anyone on the machine could run code in the session, so that it has one even where the environment
    switches authentication off. The folder holds Ray's sockets and logs; `/tmp/ray`, its default, may be anyone's.
    """
    changes = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    changes |= dict.fromkeys(("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME"), "lo")  # of the workers of a training
    before = {name: os.environ.get(name) for name in changes}
    place = os.environ.get("RAY_TMPDIR") or tempfile.gettempdir()
    if len(place) > TEMPORARY_CHARACTERS:
        place = "/tmp"
    # Ray opens its folder to everyone, hence one within.
    with tempfile.TemporaryDirectory(prefix="fox1-", dir=place, ignore_cleanup_errors=True) as folder:
        os.environ.update(changes)
        _read_authentication()
        try:
            yield os.path.join(folder, "r")
        finally:
            for name, value in before.items():
                os.environ.pop(name) if value is None else os.environ.update({name: value})
            _read_authentication()


def _read_authentication() -> None:
    """Let Ray read the variables of authentication again, which it keeps from its import."""
    from ray._raylet import AuthenticationTokenLoader, Config  # type: ignore[attr-defined]

    Config.initialize("")
    AuthenticationTokenLoader.instance().reset_cache()
