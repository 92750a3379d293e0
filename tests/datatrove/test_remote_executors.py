"""The steps in datatrove's executors for clusters: a job leaves the files, statistics and logs that datatrove's steps leave."""

from __future__ import annotations

import json
import os
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from datatrove.executor import LocalPipelineExecutor, RayPipelineExecutor, SlurmPipelineExecutor
from datatrove.pipeline import filters as theirs
from datatrove.pipeline import tokens as their_tokens
from datatrove.pipeline.formatters import PIIFormatter as TheirFormatter
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from fox1.datatrove.pipeline import filters as ours
from fox1.datatrove.pipeline import tokens as our_tokens
from fox1.datatrove.pipeline.formatters import PIIFormatter
from fox1.datatrove.utils.word_tokenizers import WhiteSpaceWords
from fox1.tokenize.fast_tokenizer import fast_tokenizer
from fox1.tokenize.model import read_model
from fox1.tokenize.model_file import parse_model

from .test_executor import NAMES, documents

TASKS = 2
SBATCH = f"""#!{sys.executable}
import os, re, subprocess, sys

# The tasks of a job array one after the other, on this machine.
script = open(sys.argv[-1]).read()
exported = next((word for word in sys.argv if word.startswith("--export=ALL,")), "--export=ALL,RUN_OFFSET=0")
environment = {{**os.environ, "SLURM_JOB_ID": "7", "SLURM_NODELIST": "node", **dict([exported.split(",")[1].split("=")])}}
for number in range(int(re.search(r"^#SBATCH --array=0-(\\d+)", script, re.M)[1]) + 1):
    task = {{**environment, "SLURM_ARRAY_TASK_ID": str(number)}}
    subprocess.run(["bash", sys.argv[-1]], env=task, check=True, stdout=sys.stderr)
print("Submitted batch job 7")
"""
SRUN = f"""#!{sys.executable}
import os, sys

at = sys.argv.index("launch_pickled_pipeline")
os.execvp(sys.argv[at], sys.argv[at:])
"""
SCONTROL = "#!/bin/sh\necho node\n"


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    folder.mkdir()
    for part in range(TASKS):
        rows = [json.dumps({"id": f"{part}-{k}", "text": text}) for k, text in enumerate(documents())]
        (folder / f"{part}.jsonl").write_text("\n".join(rows) + "\n")
    return folder


def pipeline(lines: Path, folder: Path, model: Path, own: bool) -> list[Any]:
    filters, tokens, formatter = (ours, our_tokens, PIIFormatter) if own else (theirs, their_tokens, TheirFormatter)
    steps = [
        getattr(filters, name)(
            language=WhiteSpaceWords(), exclusion_writer=JsonlWriter(f"{folder}/{name}", compression=None)
        )
        for name in NAMES
    ]
    last = tokens.DocumentTokenizer(str(folder / "tokens"), str(model), eos_token="<eos>", seed=3)
    return [JsonlReader(str(lines)), *steps, formatter(), JsonlWriter(f"{folder}/kept", compression=None), last]


def left(folder: Path) -> dict[str, Any]:
    """What a pipeline leaves: its files, statistics without times, and what its logs say, apart from times and places."""
    logged = folder / "logs"
    stats = {p.name: counted(p) for p in sorted((logged / "stats").iterdir())}
    # How executors write the sum of several tasks is their own.
    sums = [
        {name: value["total"] if isinstance(value, dict) else value for name, value in step["stats"].items()}
        for step in counted(logged / "stats.json")
    ]
    files = {
        p.relative_to(folder).as_posix(): p.read_bytes().split(b"|")[-1]
        for p in sorted(folder.rglob("*"))
        if p.is_file() and not p.is_relative_to(logged)
    }
    logs = {p.name: said(p) for p in sorted((logged / "logs").iterdir())}
    completed = sorted(p.name for p in (logged / "completions").iterdir())
    return {"stats": stats, "sums": sums, "files": files, "logs": logs, "completed": completed}


def counted(stats: Path) -> list[dict[str, Any]]:
    """The statistics of each step without times."""
    steps: list[dict[str, Any]] = json.loads(stats.read_text())
    for step in steps:
        step["times"] = step.pop("time_stats").get("n")
    return steps


def said(log: Path) -> list[list[str]]:
    """The words of each entry of a log, its level first, the figures left out: those of statistics are compared by themselves, and
    come in the order in which each was first counted.
    """
    entries = re.findall(r"^[\d-]+ [\d:.]+ \| (\w+) *\| \S+ - (.*(?:\n(?!\d{4}-).*)*)", log.read_text(), re.MULTILINE)
    figures = r"[0-9][0-9.,]*|(milli|micro)?seconds?|minutes?"
    return [[level, *sorted(re.sub(figures, "#", text).split())] for level, text in entries]


@pytest.fixture
def expected(lines: Path, tmp_path: Path, chat_tokenizer: Path) -> dict[str, Any]:
    """What datatrove's steps leave in its local executor."""
    model = parse_model(read_model(chat_tokenizer))
    converted = tmp_path / "tokenizer.json"
    converted.write_text(json.dumps(fast_tokenizer(model, None)))
    folder = tmp_path / "theirs"
    LocalPipelineExecutor(
        pipeline(lines, folder, converted, False), tasks=TASKS, workers=1, logging_dir=str(folder / "logs")
    ).run()
    found = left(folder)
    assert len(found["files"]) > 12 and len(found["completed"]) == TASKS
    return found


def run_on_slurm(steps: list[Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    programs = folder.parent / "bin"
    programs.mkdir()
    for name, text in (("sbatch", SBATCH), ("srun", SRUN), ("scontrol", SCONTROL)):
        (programs / name).write_text(text)
        (programs / name).chmod(stat.S_IRWXU)
    monkeypatch.setenv("PATH", os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]))
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    SlurmPipelineExecutor(steps, tasks=TASKS, time="1:00:00", partition="cpu", logging_dir=str(folder / "logs")).run()


def run_on_ray(steps: list[Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import ray

    ray.init(num_cpus=TASKS, include_dashboard=False, log_to_driver=False)
    try:
        RayPipelineExecutor(steps, tasks=TASKS, mem_per_cpu_gb=0.5, logging_dir=str(folder / "logs")).run()
    finally:
        ray.shutdown()


@pytest.mark.parametrize(
    "run",
    [
        pytest.param(run_on_slurm, marks=pytest.mark.slow, id="slurm"),
        pytest.param(run_on_ray, marks=pytest.mark.long, id="ray"),
    ],
)
def test_an_executor_for_clusters_leaves_what_datatroves_steps_leave(
    run: Callable[..., None],
    expected: dict[str, Any],
    lines: Path,
    tmp_path: Path,
    chat_tokenizer: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    folder = tmp_path / "ours"
    run(pipeline(lines, folder, chat_tokenizer, True), folder, monkeypatch)
    assert left(folder) == expected
