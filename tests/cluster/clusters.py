"""Clusters of several nodes on one machine, a store for them, and how to lose their parts."""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TOKEN = "a-token-of-this-test"


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return int(opened.getsockname()[1])


def own_disks() -> bool:
    """Whether a node can be given a scratch folder of its own under the name that all share."""
    command = ["unshare", "-m", "sh", "-c", "mount -t tmpfs none /tmp"]
    return shutil.which("unshare") is not None and subprocess.run(command, capture_output=True).returncode == 0


@dataclass(frozen=True)
class Host:
    """Where a node runs: this machine, or a network namespace of it that has an address of its own."""

    ip: str = "127.0.0.1"
    name: str = ""
    """Of the namespace."""

    @property
    def enter(self) -> list[str]:
        return ["ip", "netns", "exec", self.name] if self.name else []


@contextmanager
def hosts(count: int) -> Iterator[tuple[str, list[Host]]]:
    """(this machine's address, hosts) on a bridge; each host has an interface and a loopback of its own."""
    tag = f"fx{os.getpid() % 100_000}"
    net = f"10.{random.randrange(64, 128)}.{random.randrange(256)}"
    made = [Host(f"{net}.{k + 2}", f"{tag}h{k}") for k in range(count)]

    def ip(*words: str) -> None:
        subprocess.run(["ip", *words], check=True, capture_output=True)

    try:
        ip("link", "add", tag, "type", "bridge")
        ip("addr", "add", f"{net}.1/24", "dev", tag)
        ip("link", "set", tag, "up")
        for host in made:
            outside, inside = f"{host.name}o", f"{host.name}i"
            ip("netns", "add", host.name)
            ip("link", "add", outside, "type", "veth", "peer", "name", inside)
            ip("link", "set", inside, "netns", host.name)
            ip("link", "set", outside, "master", tag, "up")
            ip("-n", host.name, "addr", "add", f"{host.ip}/24", "dev", inside)
            ip("-n", host.name, "link", "set", inside, "up")
            ip("-n", host.name, "link", "set", "lo", "up")
    except (OSError, subprocess.CalledProcessError) as error:
        count = 0
        reason = str(getattr(error, "stderr", b"") or error)
    try:
        if not count:
            pytest.skip(f"this machine gives no network namespaces: {reason}")
        yield f"{net}.1", made
    finally:
        for host in made:
            subprocess.run(["ip", "link", "del", f"{host.name}o"], capture_output=True)
            subprocess.run(["ip", "netns", "del", host.name], capture_output=True)
        subprocess.run(["ip", "link", "del", tag], capture_output=True)


def at_work(host: Host) -> bool:
    """Whether a worker of a host runs a task, by the titles that Ray gives its processes."""
    titles = []
    for pid in subprocess.run(["ip", "netns", "pids", host.name], capture_output=True, text=True).stdout.split():
        with suppress(OSError):
            titles.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    return any(title.startswith(b"ray::") and not title.startswith(b"ray::IDLE") for title in titles)


def cut_off(host: Host) -> None:
    """Take a host's cable out."""
    subprocess.run(["ip", "link", "set", f"{host.name}o", "down"], check=True)


@dataclass
class Node:
    """A node of the cluster as processes of a session of their own: killing them is losing the machine."""

    process: subprocess.Popen[bytes]

    def kill(self) -> None:
        # The node's processes may have left its group, but not its session.
        for pid in in_session(self.process.pid):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)


def in_session(session: int) -> list[int]:
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            if int((folder / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                found.append(int(folder.name))
    return found


@dataclass
class Nodes:
    """A head without CPUs, and workers that come and go."""

    folder: Path
    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    dashboard: int = field(default_factory=free_port)
    workers: list[Node] = field(default_factory=list)
    hosts: Iterator[Host] = field(default_factory=lambda: itertools.repeat(Host()))
    """Where the next nodes run; the first is the head's."""

    @property
    def address(self) -> str:
        return f"http://{self.ip}:{self.dashboard}"

    def _start(self, host: Host, *options: str, scratch: bool) -> Node:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats", *options]
        command += ["--object-store-memory=80000000", f"--node-ip-address={host.ip}"]
        command += [f"--dashboard-agent-listen-port={free_port()}", f"--metrics-export-port={free_port()}"]
        if scratch and own_disks():
            # Ray's folder too: what a node unpacked of a job it clears away, others' of the same name as well.
            own = [self.environment["FOX1_SCRATCH"], str(self.folder)]
            mount = "; ".join(f"mkdir -p {folder}; mount -t tmpfs none {folder}" for folder in own)
            command = ["unshare", "-m", "sh", "-c", f'{mount}; cd /; exec "$@"', "node", *command]
        command = [*host.enter, *command]
        log = open(self.folder / f"node-{len(self.workers)}-{time.monotonic():.0f}.log", "w")
        process = subprocess.Popen(
            command, env=self.environment, cwd=self.folder, stdout=log, stderr=log, start_new_session=True
        )
        return Node(process)

    def start(self, workers: int) -> None:
        # A short folder: Ray puts Unix sockets below it, whose paths end at 107 characters.
        host = next(self.hosts)
        self.ip = host.ip
        self.head = self._start(
            host, "--head", f"--port={self.port}", "--num-cpus=0", "--include-dashboard=true", f"--dashboard-host={host.ip}",
            f"--dashboard-port={self.dashboard}", f"--ray-client-server-port={free_port()}",
            f"--temp-dir={self.folder}", scratch=False,
        )  # fmt: skip
        self.wait(lambda: self.answers())
        for count in range(1, workers + 1):
            # One after the other: nodes of one machine pick their sockets by number.
            self.add()
            self.wait(lambda count=count: self.cpus() == count)  # type: ignore[misc]

    def add(self) -> Node:
        options = (f"--address={self.ip}:{self.port}", "--num-cpus=1")
        self.workers.append(self._start(next(self.hosts), *options, scratch=True))
        return self.workers[-1]

    def get(self, path: str) -> dict:  # type: ignore[type-arg]
        import requests

        answer = requests.get(self.address + path, headers={"Authorization": f"Bearer {TOKEN}"}, timeout=5)
        answer.raise_for_status()
        return dict(answer.json()) if path != "/api/jobs/" else {"jobs": answer.json()}

    def answers(self) -> bool:
        with suppress(OSError):
            self.get("/api/jobs/")
            return True
        return False

    def cpus(self) -> int:
        with suppress(OSError, KeyError):
            nodes = self.get("/nodes?view=summary")["data"]["summary"]
            return sum(
                int(n["raylet"].get("resourcesTotal", {}).get("CPU", 0))
                for n in nodes
                if n["raylet"].get("state") == "ALIVE"
            )
        return 0

    def wait(self, until: Callable[[], bool], seconds: float = 90) -> None:
        deadline = time.monotonic() + seconds
        while not until():
            assert time.monotonic() < deadline, "".join(p.read_text()[-2000:] for p in self.folder.glob("*.log"))
            time.sleep(0.25)

    def stop(self) -> None:
        for node in [*self.workers, self.head]:
            node.kill()


@contextmanager
def open_store(ip: str, scratch: Path) -> Iterator[dict[str, str]]:
    """A store: what a process must know to reach it."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address=ip, port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "FOX1_SCRATCH": str(scratch),
    }
    server.stop()


class Bucket:
    """Looks into the store as itself, not through what is tested."""

    def __init__(self, endpoint: str) -> None:
        import boto3
        from botocore.config import Config

        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
        self.client = boto3.client("s3", endpoint_url=endpoint, config=Config(retries={"max_attempts": 5}), **keys)
        with suppress(Exception):
            self.client.create_bucket(Bucket="bucket")

    def keys(self, prefix: str) -> list[str]:
        pages = self.client.get_paginator("list_objects_v2").paginate(Bucket="bucket", Prefix=prefix)
        return [entry["Key"] for page in pages for entry in page.get("Contents", [])]

    def get(self, key: str) -> bytes:
        return bytes(self.client.get_object(Bucket="bucket", Key=key)["Body"].read())


@contextmanager
def open_cluster(store: dict[str, str], corpora: Path, places: Iterator[Host] | None = None) -> Iterator[Nodes]:
    """A head and two workers."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": TOKEN, "FOX1_DATA": str(corpora), **store}
    # A lost node is noticed in seconds, not half a minute.
    environment |= {"RAY_health_check_period_ms": "1000", "RAY_health_check_failure_threshold": "3"}
    environment |= {"RAY_grpc_client_keepalive_time_ms": "10000", "RAY_grpc_client_keepalive_timeout_ms": "5000"}
    with tempfile.TemporaryDirectory(prefix="fx", dir="/tmp", ignore_cleanup_errors=True) as folder:
        cluster = Nodes(Path(folder), environment, hosts=places or itertools.repeat(Host()))
        try:
            cluster.start(workers=2)
            yield cluster
        finally:
            cluster.stop()


def in_session_of_head(nodes: Nodes) -> list[int]:
    """Processes on the head: of its session, and what its job manager started in sessions of their own."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, IndexError, ValueError):
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(folder.name))
    found, waiting = [], [*in_session(nodes.head.process.pid)]
    while waiting:
        pid = waiting.pop()
        if pid not in found:
            found.append(pid)
            waiting += children.get(pid, [])
    return found
