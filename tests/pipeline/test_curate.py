"""The whole path: the same bytes for any workers, order and kills; accounting; bad input; memory."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import string
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline import curate as curate_module
from fox1.pipeline.engine.tasks import Silent
from fox1.pipeline.run.manifest import read_manifest
from fox1.pipeline.run.paths import RunPaths

from tests.conftest import ROOT, SMALL, as_set, read_stored, run_command, write_stored
from tests.faults.kill_at_publish import Kill, draw
from tests.faults.processes import comes, descendants, is_loopback, listening
from tests.faults.promises import hashes


def fox1(*arguments: object, data: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fox1", *map(str, arguments)]
    environment = {**os.environ, "FOX1_DATA": str(data)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def interruptible(words: list[str], environment: dict[str, str]) -> subprocess.Popen[str]:
    """A command that Ctrl-C reaches: a suite that a shell started in the background ignores it, and its children inherit that."""
    return subprocess.Popen(
        [sys.executable, "-m", "fox1", *words],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.mark.early
def test_four_workers_give_the_bytes_of_one_process_also_after_ctrl_c(run: Path, corpora: Path, tmp_path: Path) -> None:
    words = ["curate", "sample", "--out", str(tmp_path / "run"), "--workers", "4", *as_set(*SMALL)]
    process = interruptible(words, {"FOX1_DATA": str(corpora)})
    assert process.stderr
    for line in process.stderr:
        if line.startswith("scan"):
            break
    # The server, and workers: those that had not loaded what the rest of the run needs have just been replaced.
    while len(below := descendants(process.pid)) <= 2 and process.poll() is None:
        time.sleep(0.01)
    assert len(below) > 2
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130, rest
    assert rest.splitlines()[-1] == "interrupted; run the same command again to resume"
    assert all(comes("Z", pid, 10) for pid in below)
    done = fox1(*words, data=corpora)
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "run") == hashes(run)
    assert (tmp_path / "run" / "manifest.json").read_bytes() == (run / "manifest.json").read_bytes()


def test_another_order_of_files_and_another_place_give_the_same_bytes(
    run: Path, corpora: Path, tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    shutil.copytree(corpora, tmp_path / "moved")
    listed = curate_module.list_sources

    def shuffled(*arguments: Any) -> Any:
        files = listed(*arguments)
        random.Random(7).shuffle(files)
        return files

    monkeypatch.setattr(curate_module, "list_sources", shuffled)
    curate(settings_of(data=tmp_path / "moved"), tmp_path / "run")
    assert hashes(tmp_path / "run") == hashes(run)


def test_a_finished_run_is_reused_and_repeated_runs_change_nothing(
    run: Path, tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> None:
    shutil.copytree(run, tmp_path / "run")
    before = hashes(tmp_path / "run")
    summary, _ = curate(settings_of(), tmp_path / "run")
    assert all(reused == total for reused, total in summary.reused.values())
    assert hashes(tmp_path / "run") == before


def test_documents_in_are_kept_dropped_or_quarantined(run: Path) -> None:
    funnel = json.loads((run / "stats" / "funnel.json").read_text())
    assert len(funnel["corpora"]) == 5
    for corpus in funnel["corpora"]:
        assert corpus["rows"] == corpus["kept"] + sum(corpus["dropped"].values()) + corpus["quarantined"]
        subsets = corpus["subsets"].values()
        assert corpus["kept"] == sum(s["kept"] for s in subsets)


def test_the_manifest_lists_every_file_with_its_hash(run: Path) -> None:
    import xxhash

    manifest = read_manifest(RunPaths(run))
    for path in hashes(run):
        entry = manifest["artifacts"][path]
        data = (run / path).read_bytes()
        assert entry["bytes"] == len(data)
        assert entry["hash"] == xxhash.xxh3_128_hexdigest(data)
    assert len(manifest["files"]) == sum(1 for f in manifest["files"] if f["file_hash"])


def killed_run(run: Path, corpora: Path, out: Path, who: str) -> tuple[list[Kill], list[int]]:
    """Finish a run though `who` is killed in a publish of every stage; the kills, and what each left half written."""
    seed = random.randrange(1 << 32)
    kills = draw(run, random.Random(seed))
    print(f"seed {seed}: {', '.join(map(str, kills))}")
    command = [sys.executable, "-m", "tests.faults.killed_run", str(corpora), str(out), "--who", who, *as_set(*SMALL)]
    command += [word for kill in kills for word in ("--kill", str(kill))]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    # The tokenizer is made beside scan: the last publishes of prepare may come after the first of it.
    assert sorted(told["landed"]) == sorted(map(str, kills))
    return [Kill.parse(landed) for landed in told["landed"]], told["half_written"]


@pytest.mark.early
@pytest.mark.parametrize("who", [pytest.param("driver", marks=pytest.mark.long), "process"])
def test_a_run_killed_in_every_stage_finishes_with_the_same_bytes(
    run: Path, corpora: Path, tmp_path: Path, who: str
) -> None:
    kills, half_written = killed_run(run, corpora, tmp_path / "run", who)
    if who == "process":
        # Under Ray, workers outlive their driver by a moment and finish small writes; here the writer itself dies.
        assert all(left for left, kill in zip(half_written, kills, strict=True) if kill.moment == "middle")
    assert not list((tmp_path / "run").rglob(".*.tmp"))
    assert hashes(tmp_path / "run") == hashes(run)


@pytest.mark.early
@pytest.mark.parametrize(
    ("who", "error"), [("forks", "WorkerDied"), pytest.param("workers", "WorkerCrashed", marks=pytest.mark.long)]
)
def test_a_worker_killed_in_every_stage_is_replaced(
    run: Path, corpora: Path, tmp_path: Path, who: str, error: str
) -> None:
    kills, _ = killed_run(run, corpora, tmp_path / "run", who)
    tasks = [json.loads(line) for line in (tmp_path / "run" / "timings" / "tasks.jsonl").read_text().splitlines()]
    lost = {t["stage"].split(".")[0] for t in tasks if error in t["error"]}
    assert lost == {kill.stage for kill in kills}
    assert not list((tmp_path / "run").rglob(".*.tmp"))
    assert hashes(tmp_path / "run") == hashes(run)


def damaged(corpora: Path, target: Path) -> Path:
    shutil.copytree(corpora, target)
    return target


def test_broken_lines_are_quarantined_and_counted(
    corpora: Path, tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> None:
    data = damaged(corpora, tmp_path / "data")
    path = next((data / "redpajama").rglob("*.jsonl"))
    path.write_bytes(b'{"text": \n' + path.read_bytes() + b'{"text": 7}\n')
    summary, _ = curate(settings_of("max_bad_rows=2", data=data), tmp_path / "run")
    funnel = next(f for f in summary.funnels if f.corpus == "redpajama")
    assert funnel.quarantined == 2
    quarantined = next((tmp_path / "run" / "quarantine").rglob("*.jsonl")).read_text().splitlines()
    assert next(json.loads(line)["row"] for line in quarantined) == 0
    with pytest.raises(ValueError, match=r"exceed `max_bad_rows` 1; see .*quarantine/redpajama"):
        curate(settings_of("max_bad_rows=1", data=data), tmp_path / "strict")


def test_a_truncated_file_is_named_and_its_whole_rows_are_used(
    corpora: Path, tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> None:
    data = damaged(corpora, tmp_path / "data")
    path = data / "pile" / "train" / "00.jsonl.zst"
    whole = len(read_stored(path).splitlines())
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    summary, _ = curate(settings_of("max_bad_rows=0.9", data=data), tmp_path / "run", "prepare", "scan")
    funnel = next(f for f in summary.funnels if f.corpus == "pile" and not f.held_out)
    assert funnel.damaged[0].startswith("pile/train/00.jsonl.zst: the last zstd frame is incomplete")
    assert 0 < funnel.rows < whole + 2000
    with pytest.raises(ValueError, match=r"pile/train/00\.jsonl\.zst: the last zstd frame is incomplete"):
        curate(settings_of("max_bad_rows=0", data=data), tmp_path / "strict", "prepare", "scan")


def test_a_file_that_changes_between_the_two_reads_stops_the_run(
    corpora: Path, tmp_path: Path, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> None:
    data = damaged(corpora, tmp_path / "data")

    class Touch(Silent):
        def stage(self, name: str, tasks: int, weight: int, reused: int) -> None:
            if name == "tokenize":
                os.utime(next((data / "dolma").iterdir()), ns=(1, 1))

    with pytest.raises(ValueError, match=r"dolma/.* changed while the run was reading it"):
        curate(settings_of(data=data), tmp_path / "run", progress=Touch())


def test_errors_on_the_command_line_are_one_line_and_a_status(corpora: Path, tmp_path: Path) -> None:
    cases = {
        ("curate", "nonesuch", "--out", tmp_path / "a"): "no recipe nonesuch",
        ("curate", "sample", "--out", tmp_path / "a", "--in-process", "--set", "sclae=1"): "did you mean `scale`",
        ("curate", "sample", "--out", tmp_path / "a", "--in-process", "--stages", "scam"): "no stage scam",
        ("stats", tmp_path / "none"): "no run at",
        ("train", tmp_path / "none", "--out", tmp_path / "c"): "has no training.json",
        ("recipe", "check", "sample", "--set", "phases.phase1.tokens=9T"): "budget short even if every byte",
    }
    for arguments, says in cases.items():
        done = run_command(*arguments, FOX1_DATA=str(corpora))
        assert done.returncode != 0
        *table, line = done.stderr.strip().splitlines()
        assert says in line, done.stderr
        # A short budget shows its pools above the line.
        assert bool(table) == ("budget" in says)
        assert "Traceback" not in done.stderr
    nowhere = run_command("curate", "sample", "--out", "s3://", "--in-process", FOX1_DATA=str(corpora))
    assert nowhere.returncode == 2 and "s3:// is not a folder of a store" in nowhere.stderr
    nothing = str(tmp_path / "nothing")
    missing = run_command("curate", "sample", "--out", tmp_path / "b", "--in-process", FOX1_DATA=nothing)
    assert missing.returncode == 1 and "set `root` (or FOX1_DATA)" in missing.stderr


def test_stats_prints_tables_and_json(run: Path) -> None:
    tables = run_command("stats", run)
    for title in ("Funnel by corpus", "Dropped by reason", "Overlap, all rows", "Mixture by domain", "phase3"):
        assert title in tables.stdout
    assert json.loads(run_command("stats", run, "--json").stdout)["mixture"]["phases"]


def repeated(corpora: Path, target: Path, copies: int) -> Path:
    """Differing copies of the corpora: each letter shifted by the number of the copy."""
    letters = string.ascii_lowercase

    def shifted(texts: list[str], k: int) -> list[str]:
        table = str.maketrans(letters, letters[k:] + letters[:k])
        return [t.translate(table) for t in texts]

    for source in sorted(p for p in corpora.rglob("*") if p.is_file()):
        stem, *suffixes = source.name.split(".")
        folder = target / source.relative_to(corpora).parent
        folder.mkdir(parents=True, exist_ok=True)
        if source.name == "benchmarks.jsonl":
            (folder / source.name).write_bytes(source.read_bytes())
            continue
        for k in range(copies):
            path = folder / ".".join([f"{stem}-{k}", *suffixes])
            if path.suffix == ".parquet":
                table = pq.read_table(source)
                texts = pa.array(shifted(table["content"].to_pylist(), k))
                pq.write_table(table.set_column(0, "content", texts), path)
                continue
            rows = [json.loads(line) for line in read_stored(source).decode().splitlines()]
            for row, text in zip(rows, shifted([r["text"] for r in rows], k), strict=True):
                row["text"] = text
            write_stored(path, "\n".join(map(json.dumps, rows)).encode() + b"\n")
    return target


@pytest.mark.long
def test_five_times_the_sample_stays_within_a_gigabyte_and_a_half(tmp_path: Path) -> None:
    from fox1.pipeline.sample import write_sample

    write_sample(tmp_path / "sample", megabytes=26.0)
    data = repeated(tmp_path / "sample", tmp_path / "five", 5)
    probe = (
        "import sys; from fox1.commands.app import main; from fox1.pipeline.engine.memory import peak_bytes\n"
        "sys.argv = ['fox1', *sys.argv[1:]]\n"
        "try:\n    main()\nfinally:\n    print('peak', peak_bytes(), file=sys.stderr)\n"
    )
    command = [sys.executable, "-c", probe, "curate", "sample", "--out", str(tmp_path / "run"), "--in-process"]
    done = subprocess.run(
        command, env={**os.environ, "FOX1_DATA": str(data)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    peak = next(int(line.split()[1]) for line in done.stderr.splitlines() if line.startswith("peak"))
    rows = json.loads((tmp_path / "run" / "stats" / "funnel.json").read_text())
    assert sum(c["bytes"] for c in rows["corpora"]) > 120e6
    # Driver and every task in one process: more than any of them takes alone.
    print(f"peak {peak / (1 << 30):.2f} GiB")
    assert peak < 1.5 * (1 << 30), f"{peak / (1 << 30):.2f} GiB"


def given(pid: int, option: str) -> list[str]:
    """What a process was given for an option."""
    words = Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    return [word.partition("=")[2] for word in words if word.startswith(f"{option}=")]


@pytest.mark.early
def test_ctrl_c_leaves_with_130_and_the_same_command_resumes(run: Path, corpora: Path, tmp_path: Path) -> None:
    """Also: one Ray worker gives the bytes of one process, in two calls; what listens meanwhile, and that nothing remains."""
    words = ["curate", "sample", "--out", str(tmp_path / "run"), "--ray", "--workers", "1", *as_set(*SMALL)]
    # What Ray would connect to, given no address.
    (tmp_path / "ray").mkdir()
    (tmp_path / "ray" / "ray_current_cluster").write_text("127.0.0.1:1")
    environment = {"FOX1_DATA": str(corpora), "RAY_TMPDIR": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    process = interruptible(words, environment)
    assert process.stderr
    for line in process.stderr:
        if line.startswith("scan"):
            break
    below = descendants(process.pid)
    addresses = listening(process.pid)
    (session,) = {place for pid in below for place in given(pid, "--session-dir")}
    (head,) = {place for pid in below for place in given(pid, "--gcs-address")}
    assert addresses and all(map(is_loopback, addresses)), addresses
    # Anyone on the machine can reach it; without the token nobody is answered.
    with pytest.raises(grpc.RpcError) as refused, grpc.insecure_channel(head) as channel:
        channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetAllNodeInfo")(b"", timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert Path(session).parents[1].stat().st_mode & 0o777 == 0o700
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    assert process.wait(60) == 130, rest
    assert rest.splitlines()[-1] == "interrupted; run the same command again to resume"
    assert all(comes("Z", pid, 10) for pid in below)
    assert not Path(session).parents[1].exists()
    done = fox1(*words, data=corpora)
    assert done.returncode == 0, done.stderr
    assert hashes(tmp_path / "run") == hashes(run)
    assert (tmp_path / "run" / "manifest.json").read_bytes() == (run / "manifest.json").read_bytes()
