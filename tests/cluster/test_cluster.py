"""A cluster of several nodes with a run in a store: submitted through the Jobs API, with nodes and drivers killed."""

from __future__ import annotations

import http.client
import http.server
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.clusters import (
    TOKEN,
    Bucket,
    Nodes,
    at_work,
    cut_off,
    hosts,
    in_session_of_head,
    open_cluster,
    open_store,
)
from tests.conftest import REAL, SMALL, needs_real_text, run_to_train

pytest.importorskip("s3fs")
pytest.importorskip("moto.server")
pytestmark = pytest.mark.long

STAGES = ("prepare", "scan", "filter", "dedupe.", "tokenize", "mix.", "stats")
"""Real text in the five formats, where the variable names a folder with some."""


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A store on this machine. It has a bucket named `bucket`."""
    with open_store("127.0.0.1", tmp_path_factory.mktemp("scratch")) as found:
        yield found


@pytest.fixture(scope="module")
def bucket(store: dict[str, str]) -> Bucket:
    return Bucket(store["AWS_ENDPOINT_URL"])


@pytest.fixture(scope="module")
def nodes(store: dict[str, str], corpora: Path, bucket: Bucket) -> Iterator[Nodes]:
    with open_cluster(store, corpora) as cluster:
        yield cluster


def submit(nodes: Nodes, *words: str, token: str = TOKEN, **variables: str) -> subprocess.Popen[str]:
    """`fox1 submit` as a user's process."""
    environment = {**nodes.environment, "RAY_AUTH_TOKEN": token, **variables}
    command = [sys.executable, "-m", "fox1", "submit", "--address", nodes.address, *words]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def curate(nodes: Nodes, run: str, *options: str) -> subprocess.Popen[str]:
    changes = [word for change in SMALL for word in ("--set", change)]
    return submit(nodes, *options, "--", "curate", "sample", "--out", f"s3://bucket/{run}", *changes)


def assert_equal_to(run: Path, bucket: Bucket, prefix: str) -> None:
    from fox1.pipeline.run.schemas import FINAL

    expected = {p.relative_to(run).as_posix(): p for part in FINAL for p in (run / part).rglob("*") if p.is_file()}
    found = {k.removeprefix(prefix + "/") for part in FINAL for k in bucket.keys(f"{prefix}/{part}/")}
    assert found == expected.keys()
    assert [name for name, p in expected.items() if bucket.get(f"{prefix}/{name}") != p.read_bytes()] == []


def attempts(bucket: Bucket, prefix: str) -> list[dict[str, object]]:
    """Every attempt at a task, of all drivers that logged."""
    return [json.loads(line) for line in bucket.get(f"{prefix}/timings/tasks.jsonl").splitlines()]


def test_a_submitted_curation_in_a_store_gives_the_bytes_of_a_local_one(
    nodes: Nodes, bucket: Bucket, run: Path
) -> None:
    job = curate(nodes, "runs/submitted", "--name", "submitted")
    said = job.communicate(timeout=300)[0]
    assert job.returncode == 0, said
    assert "job submitted submitted to" in said and "s3://bucket/runs/submitted: prepare, scan" in said
    assert_equal_to(run, bucket, "runs/submitted")
    log = attempts(bucket, "runs/submitted")
    assert all(entry["attempt"] == 1 and not entry["error"] for entry in log)


@needs_real_text
def test_the_real_recipe_in_small_gives_the_bytes_of_a_local_run(nodes: Nodes, bucket: Bucket, tmp_path: Path) -> None:
    """`mini` over 280 MB of text."""
    environment = {**os.environ, "FOX1_DATA": str(REAL / "corpora")}
    command = [sys.executable, "-m", "fox1", "curate", "mini", "--out", str(tmp_path / "run"), "--in-process"]
    subprocess.run(command, env=environment, check=True, capture_output=True)
    words = ("--", "curate", "mini", "--out", "s3://bucket/runs/mini")
    job = submit(nodes, *words, FOX1_DATA=str(REAL / "corpora"))
    said = job.communicate(timeout=1200)[0]
    assert job.returncode == 0, said
    assert_equal_to(tmp_path / "run", bucket, "runs/mini")


def test_hosts_of_a_network_lose_one_whose_cable_is_cut(corpora: Path, run: Path, tmp_path: Path) -> None:
    """Nodes with network, loopback and scratch folder of their own; one is cut off while it runs a task."""
    with hosts(4) as (here, places), open_store(here, tmp_path / "scratch") as store:
        bucket = Bucket(store["AWS_ENDPOINT_URL"])
        with open_cluster(store, corpora, iter(places)) as nodes:
            job = curate(nodes, "runs/network")
            deadline = time.monotonic() + 200
            while not bucket.keys("runs/network/records/scan") and time.monotonic() < deadline:
                time.sleep(0.02)
            # One that has nothing to do at the moment would cost nothing.
            while not (busy := [host for host in places[1:3] if at_work(host)]) and time.monotonic() < deadline:
                time.sleep(0.005)
            cut_off(busy[0])
            nodes.add()
            said = job.communicate(timeout=400)[0]
            lost = [entry for entry in attempts(bucket, "runs/network") if entry["error"]]
            why = [bucket.get(k).decode() for k in bucket.keys("runs/network/timings/failed")]
            assert job.returncode == 0, f"{said}\n{lost}\n{why}"
            assert_equal_to(run, bucket, "runs/network")
            assert lost, "the cut cost no task"


def test_a_wrong_token_is_refused(nodes: Nodes) -> None:
    job = submit(nodes, "--", "curate", "sample", "--out", "s3://bucket/runs/none", token="wrong")
    said = job.communicate(timeout=60)[0]
    assert job.returncode == 1 and said.startswith("error: the cluster at") and "refused the token" in said
    assert "wrong" not in said.replace("wrong-token", "") and len(said.splitlines()) == 1


def test_nodes_killed_in_every_stage_cost_the_tasks_they_had(nodes: Nodes, bucket: Bucket, run: Path) -> None:
    job = curate(nodes, "runs/killed")
    assert job.stdout
    kills: list[str] = []
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(job.stdout or ()))
    reader.start()
    deadline = time.monotonic() + 400
    for stage in STAGES:
        # Once a stage has begun to finish tasks, a node is lost in the middle of it, and another one comes.
        while job.poll() is None and not bucket.keys(f"runs/killed/records/{stage}") and time.monotonic() < deadline:
            time.sleep(0.02)
        if job.poll() is not None:
            break
        nodes.workers.pop(0).kill()
        kills.append(stage)
        nodes.add()
    assert job.wait(400) == 0, "".join(lines)
    reader.join()
    assert len(kills) >= 5, kills
    assert_equal_to(run, bucket, "runs/killed")
    log = attempts(bucket, "runs/killed")
    finished = [(e["stage"], e["task"]) for e in log if not e["error"]]
    assert len(finished) == len(set(finished))
    lost = [e for e in log if e["error"]]
    # A node has one CPU, so a kill costs the task it ran, and at most what waited for it there.
    assert len(lost) <= 4 * len(kills), lost


def test_a_killed_driver_is_submitted_again_and_goes_on(nodes: Nodes, bucket: Bucket, run: Path) -> None:
    nodes.wait(lambda: nodes.cpus() >= 2)
    first = curate(nodes, "runs/driver", "--name", "driver")
    deadline = time.monotonic() + 200
    while not bucket.keys("runs/driver/records/dedupe.") and time.monotonic() < deadline:
        time.sleep(0.05)
    drivers = [p for p in in_session_of_head(nodes) if b"fox1\0curate" in Path(f"/proc/{p}/cmdline").read_bytes()]
    assert drivers
    for pid in drivers:
        os.kill(pid, signal.SIGKILL)
    said = first.communicate(timeout=120)[0]
    assert first.returncode not in (0, None), said
    before = set(bucket.keys("runs/driver/records/"))
    second = curate(nodes, "runs/driver", "--name", "driver")
    said = second.communicate(timeout=300)[0]
    assert second.returncode == 0 and "job driver-2 submitted to" in said, said
    assert_equal_to(run, bucket, "runs/driver")
    reused, total = (int(n) for n in re.findall(r"(\d+) of (\d+) tasks reused", said)[-1])
    # All that had a record was used again; tasks that were under way at the kill may have added some.
    assert len(before) <= reused < total


def put_run_to_train(bucket: Bucket, run: Path, here: Path, prefix: str, checkpoint_every: int) -> None:
    """Make `here` a run to train on, and put it into the store."""
    shape = {"layers": 8, "hidden": 256, "intermediate": 512, "heads": 4, "kv_heads": 2}
    paces = {"checkpoint_every": checkpoint_every, "evaluate_blocks": 2, "micro_batch_tokens": 1024}
    settings = run_to_train(run, here, shape, 2048, **paces)
    for part in ("phases", "held_out", "prepare"):
        for file in (run / part).rglob("*"):
            if file.is_file():
                key = f"{prefix}/{part}/{file.relative_to(run / part).as_posix()}"
                bucket.client.put_object(Bucket="bucket", Key=key, Body=file.read_bytes())
    bucket.client.put_object(Bucket="bucket", Key=f"{prefix}/training.json", Body=json.dumps(settings).encode())


def test_a_training_whose_job_is_stopped_saves_a_checkpoint(
    nodes: Nodes, bucket: Bucket, run: Path, tmp_path: Path
) -> None:
    put_run_to_train(bucket, run, tmp_path / "run", "runs/stop-training", 1000)
    nodes.wait(lambda: nodes.cpus() >= 2)
    words = ["train", "s3://bucket/runs/stop-training", "--out", "s3://bucket/stopped", "--ray", "2"]
    job = submit(nodes, "--name", "stop-training", "--", *words)
    assert job.stdout
    assert any(" parameters, " in line for line in job.stdout), "it did not begin to train"
    time.sleep(5)  # the first steps
    command = [sys.executable, "-m", "fox1", "jobs", "stop", "stop-training", "--address", nodes.address]
    stopped = subprocess.run(command, env=nodes.environment, capture_output=True, text=True)
    said = job.communicate(timeout=200)[0]
    assert stopped.stdout == "job stop-training: STOPPED\n", stopped.stderr
    assert "stopped at step" in said, said
    kept = [key for key in bucket.keys("stopped/step-") if key.endswith("manifest.json")]
    assert kept and json.loads(bucket.get(kept[-1]))["progress"]["step"] > 0
    assert not bucket.keys("stopped/.stop")


def test_training_on_the_cluster_loses_a_node_and_ends_as_on_one_machine(
    nodes: Nodes, bucket: Bucket, run: Path, tmp_path: Path
) -> None:
    """Data and checkpoints in the store, workers on nodes that share no disk; one is lost after the first checkpoint."""
    here = tmp_path / "run"
    put_run_to_train(bucket, run, here, "runs/train", 2)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "fox1", "train", str(here), "--out", str(tmp_path / "ckpt"), "--phase", "1"]
    subprocess.run(command, env=environment, check=True, capture_output=True)

    nodes.wait(lambda: nodes.cpus() >= 2)
    words = ["train", "s3://bucket/runs/train", "--out", "s3://bucket/ckpt", "--phase", "1", "--ray", "1:2"]
    job = submit(nodes, "--", *words)
    deadline = time.monotonic() + 200
    while not any(k.endswith("manifest.json") for k in bucket.keys("ckpt/step-")) and time.monotonic() < deadline:
        time.sleep(0.05)
    nodes.workers.pop(0).kill()
    said = job.communicate(timeout=400)[0]
    nodes.add()
    assert job.returncode == 0, said
    assert "resumed from s3://bucket/ckpt/step-" in said and "last checkpoint: s3://bucket/ckpt/step-" in said, said

    def losses(text: str) -> dict[int, float]:
        lines = [json.loads(line) for line in text.splitlines()]
        return {line["step"]: line["loss"] for line in lines if line["kind"] == "held_out"}

    theirs = losses(bucket.get("ckpt/metrics.jsonl").decode())
    assert theirs == pytest.approx(losses((tmp_path / "ckpt" / "metrics.jsonl").read_text()), rel=2e-5) and theirs


def test_jobs_are_listed_shown_and_stopped(nodes: Nodes) -> None:
    def jobs(*words: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "fox1", "jobs", *words, "--address", nodes.address]
        return subprocess.run(command, env={**nodes.environment, "COLUMNS": "160"}, capture_output=True, text=True)

    nodes.wait(lambda: nodes.cpus() >= 2)
    running = curate(nodes, "runs/stopped", "--name", "stopped", "--no-follow")
    assert running.wait(120) == 0
    attached = curate(nodes, "runs/stopped", "--name", "stopped", "--no-follow")
    assert "job stopped is running" in attached.communicate(timeout=60)[0]
    listed = jobs()
    assert listed.returncode == 0, listed.stderr
    wanted = r"stopped +(running|pending) .*curate recipe.yaml --out s3://bucket/runs/stopped"
    assert re.search(wanted, listed.stdout), f"{listed.stdout}\n{jobs('logs', 'stopped', '--no-follow').stdout}"
    stopped = jobs("stop", "stopped")
    assert stopped.returncode == 0 and stopped.stdout == "job stopped: STOPPED\n", stopped.stderr
    assert jobs("stop", "stopped").stdout == "job stopped: STOPPED\n"
    shown = jobs("logs", "stopped", "--no-follow")
    assert shown.returncode == 0 and "fox1" in shown.stdout + shown.stderr
    assert jobs("logs", "stopped").returncode == 130
    nothing = jobs("logs", "never")
    assert nothing.returncode == 1 and "has no job never" in nothing.stderr and len(nothing.stderr.splitlines()) == 1


# -- a store that fails for a while -------------------------------------------------------------------------------------


class Faults(http.server.BaseHTTPRequestHandler):
    """Passes requests on to a store, or fails as stores do: 503, 500, a closed connection, an answer that is late."""

    protocol_version = "HTTP/1.1"
    target = ("", 0)
    rng = random.Random(7)
    share = 0.05
    faults: dict[str, int] = {}  # noqa: RUF012

    def handle_any(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        chosen = self.rng.choice(("503", "500", "reset", "late")) if self.rng.random() < self.share else ""
        if chosen:
            self.faults[chosen] = self.faults.get(chosen, 0) + 1
        if chosen == "reset":
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        if chosen in ("503", "500"):
            text = b"<Error><Code>SlowDown</Code><Message>Reduce your request rate</Message></Error>"
            self.send_response(int(chosen))
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(text)
            return
        if chosen == "late":
            time.sleep(0.3)
        upstream = http.client.HTTPConnection(*self.target, timeout=30)
        upstream.request(self.command, self.path, body, dict(self.headers.items()))
        answer = upstream.getresponse()
        data = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        size = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(data))
        self.send_header("Content-Length", size or "0")
        self.end_headers()
        self.wfile.write(data)
        upstream.close()

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = handle_any

    def log_message(self, *_: object) -> None: ...


def test_a_store_that_fails_for_a_while_is_survived(
    store: dict[str, str], bucket: Bucket, corpora: Path, run: Path
) -> None:
    host, port = store["AWS_ENDPOINT_URL"].removeprefix("http://").split(":")
    Faults.target = (host, int(port))
    proxy = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Faults)
    thread = threading.Thread(target=proxy.serve_forever, daemon=True)
    thread.start()
    try:
        environment = {**os.environ, **store, "FOX1_DATA": str(corpora)}
        environment["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{proxy.server_address[1]}"
        command = [sys.executable, "-m", "fox1", "curate", "sample", "--out", "s3://bucket/runs/faults", "--in-process"]
        command += [word for change in SMALL for word in ("--set", change)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=500)
    finally:
        proxy.shutdown()
        proxy.server_close()
    assert done.returncode == 0, done.stderr
    assert min(Faults.faults.get(kind, 0) for kind in ("503", "500", "reset", "late")) > 3, Faults.faults
    assert_equal_to(run, bucket, "runs/faults")


def test_a_worker_without_memory_is_a_clear_failure_not_an_endless_retry(corpora: Path, tmp_path: Path) -> None:
    """Ray ends any task of a machine that has passed a threshold which this one always has."""
    environment = {**os.environ, "FOX1_DATA": str(corpora)}
    environment |= {"RAY_memory_usage_threshold": "0.0", "RAY_memory_monitor_refresh_ms": "50"}
    command = [sys.executable, "-m", "fox1", "curate", "sample", "--out", str(tmp_path / "run"), "--workers", "1"]
    began = time.monotonic()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
    assert done.returncode == 1 and time.monotonic() - began < 200
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: prepare failed on ") and "after 4 attempts" in last and "OutOfMemoryError" in last, (
        last
    )
