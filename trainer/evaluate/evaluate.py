"""`fox1 eval`: the six benchmarks, run by lm-eval with the published numbers of examples, and what generating costs."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ...storage.wording import first_line
from ..model.model import Fox1
from . import benchmark_data as data
from .generate import Cache, next_logits
from .text_model import TextModel

if TYPE_CHECKING:
    from .harness import Track


@dataclass(frozen=True)
class PublishedBenchmark:
    """A benchmark as Fox-1 was measured on it."""

    name: str
    task: str
    """Name of lm-eval's task; for MMLU, the prefix of its subjects' tasks."""
    shots: int
    """Number of examples before each question."""
    metric: str
    """Name of lm-eval's metric."""
    published: float
    """Score of the released Fox-1 in per cent (arXiv 2411.05281)."""
    read: Callable[..., data.BenchmarkItems]
    """Reads the published files."""


BENCHMARKS = (
    PublishedBenchmark("arc", "arc_challenge", 25, "acc_norm,none", 41.21, data.arc),
    PublishedBenchmark("hellaswag", "hellaswag", 10, "acc_norm,none", 62.82, data.hellaswag),
    PublishedBenchmark("truthfulqa", "truthfulqa_mc2", 0, "acc,none", 38.66, data.truthfulqa),
    PublishedBenchmark("mmlu", "mmlu_", 5, "acc,none", 43.05, data.mmlu),
    PublishedBenchmark("winogrande", "winogrande", 5, "acc,none", 60.62, data.winogrande),
    PublishedBenchmark("gsm8k", "gsm8k", 5, "exact_match,strict-match", 36.39, data.gsm8k),
)
TASK_FOLDERS = ("arc", "gsm8k", "hellaswag", "mmlu", "truthfulqa", "winogrande")
"""Where lm-eval defines these tasks, below its folder of all tasks."""
PUBLISHED_MEMORY_MIB, PUBLISHED_TOKENS_PER_SECOND = 3703, 200
"""Memory and speed of the released model in bf16 on one H100."""
MEASURED_TOKENS = 64
"""Tokens generated to measure the speed."""


@dataclass(frozen=True)
class Score:
    """The score of a model on a benchmark."""

    benchmark: str
    shots: int
    per_cent: float
    standard_error: float
    items: int
    published: float


@dataclass(frozen=True)
class Generation:
    """What generating costs."""

    device: str
    dtype: str
    memory_mib: float
    """Peak memory of the device if it is a GPU, else the size of weights and cache."""
    tokens_per_second: float


def choose(names: str) -> list[PublishedBenchmark]:
    """Benchmarks by their names, separated by commas; all if there are none.

    Raises:
        ValueError: there is no such benchmark.
    """
    wanted = [n.strip() for n in names.split(",") if n.strip()] or [b.name for b in BENCHMARKS]
    known = {b.name: b for b in BENCHMARKS}
    if unknown := [n for n in wanted if n not in known]:
        raise ValueError(f"--tasks: there is no benchmark {unknown[0]}; choose from {', '.join(known)}")
    return [known[n] for n in wanted]


def evaluate(
    model: TextModel,
    benchmarks: list[PublishedBenchmark],
    folder: Path | None,
    limit: int = 0,
    track: Track | None = None,
) -> list[Score]:
    """Scores of a model.

    Args:
        folder: folder of the benchmarks' published files; None: lm-eval fetches them from the Hugging Face hub.
        limit: items of each task; 0: all. Few items measure nothing; they only show that the evaluation runs.
        track: shows the progress over items, as `commands.show.scores.track_items` does.

    Raises:
        ValueError: lm-eval is not installed, or items are missing or cannot be read.
    """
    try:
        from lm_eval import simple_evaluate, tasks
    except ImportError:
        raise ValueError("`fox1 eval` needs lm-eval, which is not installed: pip install lm-eval") from None
    from .harness import HarnessModel, untracked

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # To read the definitions of all 14,000 tasks takes twelve seconds; the six lie in folders of their own.
    folders = [str(Path(tasks.__file__).parent / name) for name in TASK_FOLDERS]
    manager = tasks.TaskManager(include_path=folders, include_defaults=False)
    adapted = HarnessModel(model, track or untracked)
    scores = []
    for benchmark in benchmarks:
        specs = _specs(benchmark, folder, manager.all_tasks)
        try:
            with _alone():
                found = simple_evaluate(
                    model=adapted,
                    tasks=specs,
                    num_fewshot=benchmark.shots,
                    limit=limit or None,
                    bootstrap_iters=0,
                    log_samples=False,
                    task_manager=manager,
                )
        except OSError as error:
            raise ValueError(
                f"{benchmark.name}: the items cannot be fetched ({first_line(error)}); without a network, give a folder "
                "of the published files with --data"
            ) from error
        assert found is not None
        scores.append(_score(benchmark, found))
    return scores


@contextmanager
def _alone() -> Iterator[None]:
    """Keep lm-eval from describing the current folder and this machine, which nothing here reads: git complains to the terminal
    where the folder is no repository, and listing the machine's packages takes seconds."""
    from lm_eval import evaluator

    names = [name for name in ("get_git_commit_hash", "add_env_info") if hasattr(evaluator, name)]
    before = {name: getattr(evaluator, name) for name in names}
    for name in names:
        setattr(evaluator, name, lambda *_: None)
    try:
        yield
    finally:
        for name, function in before.items():
            setattr(evaluator, name, function)


def _specs(benchmark: PublishedBenchmark, folder: Path | None, known: list[str]) -> list[Any]:
    """lm-eval's tasks for a benchmark, with local rows where there is a folder."""
    if benchmark.name != "mmlu":
        if folder is None:
            return [benchmark.task]
        return _local({benchmark.task: partial(benchmark.read, folder / benchmark.name)})
    if folder is None:
        return ["mmlu"]
    files = folder / benchmark.name
    subjects = data.mmlu_subjects(files)
    if unknown := [s for s in subjects if benchmark.task + s not in known]:
        raise ValueError(f"{files}/test/{unknown[0]}_test.csv: lm-eval has no such subject of MMLU; remove the file")
    return _local({benchmark.task + s: partial(benchmark.read, files, s) for s in subjects})


def _local(readers: dict[str, Callable[[], data.BenchmarkItems]]) -> list[Any]:
    """lm-eval's tasks over local rows: as members of a group, since only there changes are merged into a registered task."""
    members = [{"task": task, **data.local_splits(read)} for task, read in readers.items()]
    return [{"group": "local", "task": members}]


def _score(benchmark: PublishedBenchmark, found: dict[str, Any]) -> Score:
    """The mean over the items of all tasks, as published for MMLU, with the standard error of a mean of zeros and ones."""
    counts = {task: found["n-samples"][task]["effective"] for task in found["n-samples"]}
    total = sum(counts.values())
    mean = sum(found["results"][task][benchmark.metric] * n for task, n in counts.items()) / total
    error = (mean * (1 - mean) / max(total - 1, 1)) ** 0.5
    return Score(benchmark.name, benchmark.shots, 100 * mean, 100 * error, total, benchmark.published)


def measure_generation(model: Fox1) -> Generation:
    """Memory and speed of greedy generation of one text."""
    like = model.embedding
    cuda = like.device.type == "cuda"
    cache = Cache(model, 16 + MEASURED_TOKENS)
    next_logits(model, torch.zeros(16, dtype=torch.long, device=like.device), cache)
    began = time.monotonic()
    token = torch.zeros(1, dtype=torch.long, device=like.device)
    for _ in range(MEASURED_TOKENS):
        token = next_logits(model, token, cache).argmax(keepdim=True)
    int(token)  # waits for the device
    seconds = time.monotonic() - began
    held = sum(p.numel() * p.element_size() for p in model.parameters()) + 2 * cache.keys.nbytes
    memory = torch.cuda.max_memory_allocated(like.device) if cuda else held
    name = torch.cuda.get_device_name(like.device) if cuda else "cpu"
    return Generation(name, str(like.dtype).removeprefix("torch."), memory / 2**20, MEASURED_TOKENS / seconds)


def as_json(scores: list[Score], generation: Generation) -> dict[str, Any]:
    """Scores and generation as JSON, with the published figures."""
    return {
        "scores": [asdict(s) for s in scores],
        "generation": asdict(generation)
        | {
            "published_memory_mib": PUBLISHED_MEMORY_MIB,
            "published_tokens_per_second": PUBLISHED_TOKENS_PER_SECOND,
        },
    }
