"""Submitting: what travels with a job, what is refused before it starts, and one real cluster of one host."""

import ast
import http.server
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import fox1
import pyarrow.parquet as pq
import pytest
import yaml
from fox1.cluster import client, entry, package, submit
from fox1.cluster.entry import SubmitError
from fox1.cluster.submit import Submission

ROOT = package.ROOT

# Stands in for the command line of a staged copy: shows what arrived, joins the cluster, exits with its own status.
PROBE = """
import os, sys, time
from pathlib import Path
print("probe", sys.argv[1:], flush=True)
if "join" in sys.argv:
    import ray
    ray.init(log_to_driver=False)
    print("cpus", int(ray.cluster_resources()["CPU"]), flush=True)
    print("pythons", sys.executable, ray.get(ray.remote(lambda: sys.executable).remote()), flush=True)
if "recipe.yaml" in sys.argv:
    print("recipe", Path("recipe.yaml").read_text(), flush=True)
if "wait" in sys.argv:
    time.sleep(60)
sys.exit(7)
"""


def staged_probe(destination: Path) -> Path:
    staged = package.stage_package(destination)
    (staged / "__main__.py").write_text(PROBE)
    return staged


def run_job(folder: Path, staged: Path, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Runs a job's entry point as the cluster does: in the job's folder, with only the staged package to import."""
    environment = {**os.environ, "PYTHONPATH": str(staged.parent)}
    command = [sys.executable, "-m", "fox1.cluster.entry", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


# -- the package -------------------------------------------------------------------------------------------------


def test_staging_holds_exactly_the_code_of_the_tree(tmp_path: Path) -> None:
    staged = package.stage_package(tmp_path)
    assert staged == tmp_path / "fox1"
    here = [file.relative_to(ROOT) for file in ROOT.rglob("*.py")]
    beside = {"tests", "benchmarks", "docs", "build", "dist"}
    expected = {file for file in here if file.parts[0] not in beside and not file.parts[0].startswith(".")}
    assert {file.relative_to(staged) for file in staged.rglob("*.py")} == expected

    rest = {file.relative_to(staged) for file in staged.rglob("*") if file.is_file()} - expected
    assert {Path("py.typed"), Path("ray_cluster.yaml"), Path("commands/page/frame.css")} <= rest
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    places = [(Path(*package.split(".")[1:]), patterns) for package, patterns in declared.items()]
    data = {p.relative_to(ROOT) for folder, patterns in places for one in patterns for p in (ROOT / folder).glob(one)}
    assert rest == {file for file in data if (ROOT / file).is_file() and file.suffix != ".py"}
    assert not (staged / "tokenize" / "__init__.py").exists()
    again = package.stage_package(tmp_path / "again", root=staged)
    assert {f.relative_to(again) for f in again.rglob("*")} == {f.relative_to(staged) for f in staged.rglob("*")}


def test_staging_leaves_out_what_lies_beside_the_code(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    kept = {"submit.py", "py.typed", "recipes/mini.yaml", "tokenize/pack.py", "pipeline/sample/passages/melville.txt"}
    kept |= {"commands/page/static/base.css"}
    left = {"tests/test_a.py", "docs/a.py", ".venv/b.py", "env/lib/c.py", "env/pyvenv.cfg", "build/d.py", "README.md"}
    for name in kept | left | {"tokenize/__pycache__/pack.pyc", "pipeline/sample/passages/.hidden"}:
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text("")
    shutil.copy(ROOT / "pyproject.toml", tree)
    os.utime(tree / "submit.py", (1_000_000_000, 1_000_000_000))
    staged = package.stage_package(tmp_path / "staged", root=tree)
    assert {file.relative_to(staged).as_posix() for file in staged.rglob("*") if file.is_file()} == kept
    assert (staged / "submit.py").stat().st_mtime == 1_000_000_000


def test_an_installed_wheel_is_staged_by_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed, info = tmp_path / "site" / "fox1", tmp_path / "site" / "fox1-0.1.0.dist-info"
    installed.mkdir(parents=True)
    info.mkdir()
    for name in ("__init__.py", "submit.py", "stray.py"):
        (installed / name).write_text("")
    (info / "METADATA").write_text("Name: fox1\nVersion: 0.1.0\n")
    (info / "RECORD").write_text(
        "fox1/__init__.py,,\nfox1/submit.py,,\nfox1/__pycache__/submit.cpython-311.pyc,,\nfox1-0.1.0.dist-info/RECORD,,\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    staged = package.stage_package(tmp_path / "staged", root=installed)
    assert {file.name for file in staged.rglob("*")} == {"__init__.py", "submit.py"}


def test_the_staged_copy_runs_with_nothing_but_its_path(tmp_path: Path) -> None:
    staged = package.stage_package(tmp_path / "staged")
    program = "import fox1, fox1.commands.app, fox1.cluster.entry, tokenize; print(fox1.__file__); tokenize.open"
    environment = {**os.environ, "PYTHONPATH": str(staged.parent)}
    for arguments in (["-c", program], ["-m", "fox1", "--help"]):
        done = subprocess.run(
            [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        if arguments[0] == "-c":
            assert Path(done.stdout.strip()) == staged / "__init__.py"


# -- the job's folder --------------------------------------------------------------------------------------------


def test_a_job_runs_beside_the_files_that_travel(tmp_path: Path) -> None:
    recipe = "seed: 7\n" + "# Fölie\n" * 100_000
    command = ["curate", "recipe.yaml", "--out", "s3://run"]
    submit.stage_job(tmp_path / "job", {"recipe.yaml": recipe.encode(), "files/0/list.txt": b"x"})
    assert (tmp_path / "job" / "files" / "0" / "list.txt").read_bytes() == b"x"
    done = run_job(tmp_path / "job", staged_probe(tmp_path / "staged"), ["--", *command])
    assert done.returncode == 7, done.stderr
    assert done.stdout == f"probe {command}\nrecipe {recipe}\n"


def test_a_command_without_a_recipe_takes_only_its_versions_along(tmp_path: Path) -> None:
    submit.stage_job(tmp_path / "job", {})
    assert [file.name for file in (tmp_path / "job").iterdir()] == ["versions.json"]


# -- versions ----------------------------------------------------------------------------------------------------


def test_differing_versions_are_named_in_one_line() -> None:
    local = {"python": "3.11", "ray": "2.60.0", "torch": "2.13.0+cpu", "numba": "0.68.1"}
    with pytest.raises(SubmitError) as error:
        entry.check_versions({"python": "3.12", "ray": "2.60.0", "torch": "2.12.0+cu128"}, local)
    message = str(error.value)
    assert "\n" not in message and "ray" not in message
    assert "the cluster has python 3.12, torch 2.12.0+cu128, numba not installed" in message
    assert "this client python 3.11, torch 2.13.0+cpu, numba 0.68.1" in message


def test_a_build_label_is_no_difference() -> None:
    entry.check_versions({"torch": "2.13.0+cu128", "extra": "1"}, {"torch": "2.13.0+cpu"})
    entry.check_versions(entry.installed_versions(), entry.installed_versions())


def test_a_job_on_other_versions_exits_with_one_line_before_the_command(tmp_path: Path) -> None:
    submit.stage_job(tmp_path, {})
    versions = {**json.loads((tmp_path / "versions.json").read_text()), "pyarrow": "1.0.0"}
    (tmp_path / "versions.json").write_text(json.dumps(versions))
    done = run_job(tmp_path, staged_probe(tmp_path / "staged"), ["--", "--help"])
    assert done.returncode == entry.VERSION_MISMATCH
    assert done.stdout == "" and done.stderr.startswith("fox1 submit: the cluster has pyarrow")
    assert done.stderr.count("\n") == 1


# -- the token and the address -----------------------------------------------------------------------------------


def test_the_token_is_looked_up_in_ray_s_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    (tmp_path / ".ray").mkdir()
    (tmp_path / "other").write_text("from-path\n")
    (tmp_path / ".ray" / "auth_token").write_text("from-home\n")
    environment = {"RAY_AUTH_TOKEN": "from-variable", "RAY_AUTH_TOKEN_PATH": str(tmp_path / "other")}
    assert client.authentication_headers(environment) == {"Authorization": "Bearer from-variable"}
    del environment["RAY_AUTH_TOKEN"]
    assert client.authentication_headers(environment) == {"Authorization": "Bearer from-path"}
    assert client.authentication_headers({}) == {"Authorization": "Bearer from-home"}
    assert client.authentication_headers({"RAY_AUTH_MODE": "disabled"}) == {}


def test_a_missing_token_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    with pytest.raises(SubmitError, match="`ray get-auth-token --generate`"):
        client.authentication_headers({})
    with pytest.raises(SubmitError, match="RAY_AUTH_TOKEN_PATH names /nowhere"):
        client.authentication_headers({"RAY_AUTH_TOKEN_PATH": "/nowhere"})


def test_a_token_no_header_can_carry_is_not_shown() -> None:
    with pytest.raises(SubmitError) as error:
        client.authentication_headers({"RAY_AUTH_TOKEN": "secret\nsecond"})
    assert "secret" not in str(error.value)


def test_an_address_where_nothing_answers_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "any")
    [port] = free_ports(1)
    with pytest.raises(SubmitError, match=rf"no cluster answers at http://127.0.0.1:{port}") as error:
        client.connect(f"http://127.0.0.1:{port}")
    assert "\n" not in str(error.value)
    with pytest.raises(SubmitError, match="write http://HOST:8265"):
        client.connect("auto")


# -- the cluster file --------------------------------------------------------------------------------------------


KEEPALIVE = {"RAY_grpc_client_keepalive_time_ms": "30000", "RAY_grpc_client_keepalive_timeout_ms": "20000"}
"""Of all nodes alike: Ray's servers derive from it how often a client may ask."""


def test_the_cluster_file_fits_ray_s_own_schema_and_this_version() -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    config = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))
    validate_config(prepare_config(config))

    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"]["CPU"] == 0
    for start in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert any("export RAY_AUTH_MODE=token" in command and "ray start" in command for command in start)
        assert any(all(f"{name}={value}" in command for name, value in KEEPALIVE.items()) for command in start)
    assert any("--dashboard-host=127.0.0.1" in command for command in config["head_start_ray_commands"])
    assert config["file_mounts"]["~/.ray/auth_token"] == "~/.ray/auth_token"


def test_the_kubernetes_cluster_has_the_settings_of_the_other_one() -> None:
    cluster = yaml.safe_load((ROOT / "docs" / "kuberay.yaml").read_text(encoding="utf-8"))
    other = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))
    spec = cluster["spec"]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    assert f"ray=={spec['rayVersion']}" in constraints and spec["authOptions"] == {"mode": "token"}
    head = spec["headGroupSpec"]
    assert head["rayStartParams"]["num-cpus"] == "0" and head["serviceType"] == "ClusterIP"
    keepalive = [{"name": name, "value": value} for name, value in KEEPALIVE.items()]
    assert head["template"]["spec"]["containers"][0]["env"] == keepalive
    types = other["available_node_types"]
    for group in spec["workerGroupSpecs"]:
        theirs = types[group["groupName"]]
        assert (group["minReplicas"], group["maxReplicas"]) == (theirs["min_workers"], theirs["max_workers"])
        (container,) = group["template"]["spec"]["containers"]
        assert container["image"] == head["template"]["spec"]["containers"][0]["image"]
        assert container["env"] == [*keepalive, {"name": "FOX1_SCRATCH", "value": "/scratch/fox1"}]
    starts = [*other["head_start_ray_commands"], *other["worker_start_ray_commands"]]
    assert sum("FOX1_SCRATCH=" in command for command in starts) == 2


def test_the_image_has_one_name_and_the_versions_of_the_constraints() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    cluster = yaml.safe_load((ROOT / "ray_cluster.yaml").read_text(encoding="utf-8"))
    kubernetes = yaml.safe_load((ROOT / "docs" / "kuberay.yaml").read_text(encoding="utf-8"))
    head = kubernetes["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    (built,) = set(re.findall(r"(\S+/fox1-ray:\S+)", dockerfile))
    assert built == cluster["docker"]["image"] == head["image"]
    constraints = (ROOT / "constraints.txt").read_text(encoding="utf-8").split()
    ray = built.rpartition(":")[2]
    assert f"ray=={ray}" in constraints and f"FROM rayproject/ray:{ray}-py" in dockerfile
    assert f"ray[default]=={ray}" in dockerfile


@pytest.mark.slow
def test_the_image_can_compile_the_kernels_from_what_it_copies(tmp_path: Path) -> None:
    for line in re.findall(r"^COPY (.*)", (ROOT / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE):
        *sources, target = line.split()
        place = tmp_path / Path(target).relative_to("/tmp")
        for source in sources:
            assert (ROOT / source).exists(), f"the Dockerfile copies {source}, which is not there"
            if (ROOT / source).is_dir():
                shutil.copytree(ROOT / source, place, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / source, place)
    # What it imports, without the minute that compiling takes.
    tree = ast.parse((tmp_path / "fox1" / "commands" / "compile_kernels.py").read_text(encoding="utf-8"))
    needed = [f"fox1.{n.module}" for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.level == 2]
    assert len(needed) > 5
    program = f"import {', '.join(needed)}; print(fox1.__file__)"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd="/",
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.strip() == str(tmp_path / "fox1" / "__init__.py"), done.stderr


# -- a real cluster ----------------------------------------------------------------------------------------------


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for opened in sockets:
        opened.bind(("127.0.0.1", 0))
    ports = [opened.getsockname()[1] for opened in sockets]
    for opened in sockets:
        opened.close()
    return ports


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """A head of its own on this host, with a token: its dashboard's address and the token's file."""
    token = tmp_path_factory.mktemp("token") / "auth_token"
    token.write_text("a-token-of-this-test\n")
    port, dashboard, agent, client = free_ports(4)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    # Started by its path: the environment that holds Ray is not activated, and PATH leads to other Pythons or to none.
    environment |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "PATH": "/usr/bin:/bin"}
    # A short folder: Ray puts Unix sockets below it, whose paths end at 107 characters.
    with tempfile.TemporaryDirectory(prefix="fx", dir="/tmp", ignore_cleanup_errors=True) as temporary:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", "--num-cpus=2"]
        command += [f"--port={port}", "--include-dashboard=true", "--dashboard-host=127.0.0.1"]
        command += [f"--dashboard-port={dashboard}", f"--dashboard-agent-listen-port={agent}"]
        command += [f"--ray-client-server-port={client}", "--node-ip-address=127.0.0.1", f"--temp-dir={temporary}"]
        command += ["--object-store-memory=100000000", "--disable-usage-stats"]
        log = Path(temporary) / "head.log"
        with log.open("w") as output:
            head = subprocess.Popen(
                command, env=environment, cwd=temporary, stdout=output, stderr=output, start_new_session=True
            )
        try:
            wait_for_dashboard(f"http://127.0.0.1:{dashboard}", token.read_text().strip(), head, log)
            yield f"http://127.0.0.1:{dashboard}", token
        finally:
            head.terminate()  # Ray ends its own processes in order
            with suppress(subprocess.TimeoutExpired):
                head.wait(30)
            with suppress(ProcessLookupError):
                os.killpg(head.pid, signal.SIGKILL)
            head.wait(10)


def wait_for_dashboard(address: str, token: str, head: subprocess.Popen[bytes], log: Path) -> None:
    import requests

    for _ in range(240):
        if head.poll() is not None:
            break
        try:
            # Listing jobs answers only when the dashboard's job manager does.
            answer = requests.get(f"{address}/api/jobs/", headers={"Authorization": f"Bearer {token}"}, timeout=5)
            if answer.status_code == 200:
                return
        except OSError:
            pass
        time.sleep(0.25)
    pytest.fail(f"the head did not start:\n{log.read_text()}")


@pytest.fixture
def address(cluster: tuple[str, Path], monkeypatch: pytest.MonkeyPatch) -> str:
    for name in ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(cluster[1]))
    # Ray's client would let this win over the address it is given.
    monkeypatch.setenv("RAY_ADDRESS", "http://127.0.0.1:9")
    return cluster[0]


@pytest.mark.slow
def test_a_job_s_log_and_exit_status_are_the_command_s(address: str) -> None:
    out = io.StringIO()
    assert submit.submit(Submission(["--help"]), address=address, name="help", out=out) == 0
    assert out.getvalue().startswith(f"job help submitted to {address}\n")
    assert '"$FOX1_PYTHON" -m fox1.cluster.entry -- --help' in out.getvalue()
    assert os.environ["RAY_ADDRESS"] == "http://127.0.0.1:9"

    # A name is given again: the job before it has ended.
    out = io.StringIO()
    assert submit.submit(Submission(["--help"]), address=address, name="help", out=out) == 0
    assert out.getvalue().startswith(f"job help-2 submitted to {address}\n")

    out = io.StringIO()
    assert submit.submit(Submission(["no-such-command"]), address=address, out=out) == 2


@pytest.mark.slow
def test_a_job_gets_its_recipe_and_joins_the_cluster(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submit, "stage_package", staged_probe)
    out = io.StringIO()
    sent = Submission(["curate", "recipe.yaml", "join"], {"recipe.yaml": b"seed: 7"})
    assert submit.submit(sent, address=address, out=out) == 7
    assert "probe ['curate', 'recipe.yaml', 'join']" in out.getvalue()
    assert "cpus 2\n" in out.getvalue() and "recipe seed: 7\n" in out.getvalue()
    # The head was started by its path, with another Python or none on its PATH.
    python, of_tasks = next(line.split()[1:] for line in out.getvalue().splitlines() if line.startswith("pythons"))
    assert python == of_tasks and Path(python).parent == Path(sys.executable).parent


@pytest.fixture
def served(tmp_path: Path) -> Iterator[str]:
    """The address of an HTTP server that has what the test writes to `data`."""
    handler = partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "data"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.slow
def test_what_a_recipe_names_travels_with_the_job(address: str, served: str, tmp_path: Path) -> None:
    """A plug-in, a URL list and an exclude list beside the recipe; the run is resumed by a second job, and looked at later."""
    data, mine, run = tmp_path / "data", tmp_path / "mine", tmp_path / "run"
    data.mkdir()
    mine.mkdir()
    rows = [{"text": f"A note about the {animal}. " * 40, "id": animal} for animal in ("fox", "hound", "hare")]
    (data / "notes.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (mine / "urls.txt").write_text(f"{served}/notes.jsonl\n")
    (mine / "gone.txt").write_text("id:hound\n")
    (mine / "rules").mkdir()
    (mine / "rules" / "__init__.py").write_text("")
    (mine / "rules" / "words.py").write_text("WORDS = ['hare']\n")
    rule = "from .words import WORDS\n\n\ndef judge(text, row):\n    return not any(w in text for w in WORDS)\n"
    (mine / "rules" / "hares.py").write_text(rule)
    others = dict.fromkeys(("redpajama", "slimpajama", "dolma", "pile", "refinedweb"))
    weights = {"weights": [{"corpus": "notes", "weight": 1}]}
    recipe = {
        "extends": "sample.yaml",
        "sources": {**others, "notes": {"format": "huggingface", "urls": "urls.txt"}},
        "exclude": {"lists": ["gone.txt"]},
        "plugins": {"no_hares": {"target": "rules/hares.py:judge"}},
        "contamination": {"benchmarks": {"sample": None}},
        "phases": {f"phase{k}": {**weights, "blocks": [{"length": 512}]} for k in (1, 2, 3)},
        "tokenizer": {"vocab_size": 300},
    }
    (mine / "mine.yaml").write_text(yaml.safe_dump(recipe))
    command = [sys.executable, "-m", "fox1", "submit", "--address", address, "--"]
    command += ["curate", "mine.yaml", "--out", str(run), "--stages", "filter", "--allow-private-hosts"]
    for options in ([], ["--in-process"]):
        done = subprocess.run([*command, *options], cwd=mine, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
    reused, total = (int(n) for n in re.findall(r"(\d+) of (\d+) tasks reused", done.stdout)[-1])
    assert reused == total, done.stdout
    shutil.rmtree(mine)
    opened = fox1.open_run(run, trust=True)
    (filtered,) = (run / "filtered").rglob("*.parquet")
    reasons = pq.read_table(filtered).sort_by("doc_id")["reasons"].to_pylist()
    assert ["excluded" in r for r in reasons] == [False, True, False]
    assert ["no_hares" in r for r in reasons] == [False, False, True]
    # The URL list is gone with the folder of the recipe, and the jobs' folders are not the run's.
    assert "A note about the fox." in opened._opened.text(opened._opened.doc_id("notes/notes.jsonl#0"))[0].as_py()
    assert sorted(p.name for p in (run / "files").rglob("*") if p.is_file()) == ["gone.txt", "urls.txt"]


@pytest.mark.slow
def test_ctrl_c_stops_following_but_not_the_job(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(io.StringIO):
        def write(self, text: str) -> int:
            if text.startswith("probe") or "\nprobe" in text:
                raise KeyboardInterrupt
            return super().write(text)

    monkeypatch.setattr(submit, "stage_package", staged_probe)
    out = Interrupted()
    assert submit.submit(Submission(["wait"]), address=address, name="long", out=out) == submit.INTERRUPTED
    last = out.getvalue().splitlines()[-1]
    assert "job long keeps running" in last and f"fox1 jobs logs long --address {address}" in last

    ray = client.connect(address)
    assert ray.get_job_status("long").value == "RUNNING"
    for other, says in ((["other"], "another command"), (["wait"], "the same command with another recipe")):
        with pytest.raises(SubmitError, match=f"job long is running {says}"):
            sent = Submission(other, {"recipe.yaml": b"seed: 8"})
            submit.submit(sent, address=address, name="long", follow=False, out=io.StringIO())
    # Following again, a job that someone stops exits as an interrupted program does.
    ray.stop_job("long")
    out = io.StringIO()
    assert submit._exit_status(submit._follow(ray, "long", address, out), "long", out) == submit.INTERRUPTED
    assert "probe ['wait']" in out.getvalue() and "job long was stopped" in out.getvalue()


@pytest.mark.slow
def test_a_wrong_token_is_refused_in_one_line(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "not-the-token")
    with pytest.raises(SubmitError, match="refused the token") as error:
        submit.submit(Submission(["--help"]), address=address, out=io.StringIO())
    assert "\n" not in str(error.value) and "not-the-token" not in str(error.value)
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    with pytest.raises(SubmitError, match="refused the token"):
        client.connect(address)
