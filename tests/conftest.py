"""Shared runs: small sample corpora and one curated run of them, made once per session without Ray."""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import zstandard
from filelock import FileLock

# Test processes, and the ranks they start, share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

# No test cuts the power; those of a disk that fails put a function of their own in its place.
os.fsync = lambda descriptor: None  # type: ignore[assignment]

SMALL = ("scale=0.1", "tokenizer.vocab_size=1024", "tokenizer.sample_bytes=1Mi")
"""Changes to the sample recipe for corpora of 2 MB."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests marked `early` come first of those that each process begins with, which are neighbours in this list; then those
    that share the longest run: later, idle processes would take some of them and wait for it.
    """
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    early = [item for item in items if item.get_closest_marker("early")]
    others = [item for item in items if not item.get_closest_marker("early")]
    others.sort(key=lambda item: item.path.name != "test_mini.py")
    items.clear()
    for number in range(processes):
        own = early[number::processes]
        begin, end = (len(others) * n // processes for n in (number, number + 1))
        items += own + others[begin:end]


ROOT = Path(__file__).parents[1]
"""The checkout, where `python -m tests...` is called."""

NAMED = os.environ.get("FOX1_TEST_DATA")
REAL = Path(NAMED).resolve() / "data" if NAMED else Path(os.devnull)
"""Real text: `corpora/` in the five formats, `eval/`, `tokenizer/` and `truth.jsonl`, below the folder that the variable
names. Without it, tests over real text are skipped."""
needs_real_text = pytest.mark.skipif(
    not (REAL / "corpora").is_dir(),
    reason=f"{REAL / 'corpora'} is no folder" if NAMED else "FOX1_TEST_DATA names no folder with real text",
)


def run_command(*words: object, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run a fox1 command in this process, with `variables` in its environment; its exit status and what it printed.

    A process of its own would spend seconds on imports. It is needed only where Ray, signals or other processes come in.
    """
    from fox1.__main__ import main

    status: object = 0
    with (
        # The whole environment is put back, also what the command sets for libraries that it is about to import.
        mock.patch.dict(os.environ, variables),
        mock.patch.object(sys, "argv", ["fox1", *map(str, words)]),
        redirect_stdout(io.StringIO()) as out,
        redirect_stderr(io.StringIO()) as err,
    ):
        try:
            main()
        except SystemExit as end:
            status = end.code or 0
    code = status if isinstance(status, int) else 1
    return subprocess.CompletedProcess(["fox1", *map(str, words)], code, out.getvalue(), err.getvalue())


def as_set(*changes: str) -> list[str]:
    """Changes of a recipe as options of the command line."""
    return [word for change in changes for word in ("--set", change)]


def read_stored(path: Path) -> bytes:
    """The bytes of a .zst, .gz or plain file, decompressed."""
    data = path.read_bytes()
    if path.suffix == ".zst":
        return bytes(zstandard.ZstdDecompressor().stream_reader(data).read())
    return gzip.decompress(data) if path.suffix == ".gz" else data


def write_stored(path: Path, data: bytes) -> None:
    """Write a .zst, .gz or plain file."""
    if path.suffix == ".zst":
        data = zstandard.ZstdCompressor(1).compress(data)
    path.write_bytes(gzip.compress(data, 1) if path.suffix == ".gz" else data)


ONE_LAYER = {"layers": 1, "hidden": 32, "intermediate": 32, "heads": 1, "kv_heads": 1}
TWO_LAYERS = {"layers": 2, "hidden": 64, "intermediate": 96, "heads": 2, "kv_heads": 1}
"""Shapes that train in seconds."""


def run_to_train(
    run: Path, out: Path, model: dict[str, int] | None = None, batch_tokens: int = 0, **changes: Any
) -> dict[str, Any]:
    """Make `out` a run with the data of another and training settings of its own; the settings.

    Args:
        model: parts of its shape.
        batch_tokens: of every phase; 0: as they are.
        changes: other settings.
    """
    out.mkdir()
    for part in ("phases", "held_out", "prepare"):
        (out / part).symlink_to((run / part).resolve())
    settings: dict[str, Any] = json.loads((run / "training.json").read_text()) | changes
    settings["model"] |= model or {}
    for phase in settings["phases"] if batch_tokens else []:
        phase["batch_tokens"] = batch_tokens
    (out / "training.json").write_text(json.dumps(settings))
    return settings


MakeOnce = Callable[[str, Callable[[Path], None]], Path]


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeOnce]:
    """Make a folder once per session: the first of the test processes does, the others wait and read it.

    All read it and none writes into it, which is checked at the end; a test that writes copies it first.
    """
    base = tmp_path_factory.getbasetemp()
    # Each process of pytest-xdist has its own folder below the session's.
    place = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "shared"
    place.mkdir(exist_ok=True)
    used: set[str] = set()

    def make(name: str, write: Callable[[Path], None]) -> Path:
        folder, listing = place / name, place / f"{name}.json"
        with FileLock(place / f"{name}.lock"):
            if not listing.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of an attempt that failed
                folder.mkdir()
                write(folder)
                listing.write_text(json.dumps(list_files(folder)))
        used.add(name)
        return folder

    yield make
    for name in sorted(used):
        before, now = json.loads((place / f"{name}.json").read_text()), list_files(place / name)
        changed = sorted(path for path in before | now if before.get(path) != now.get(path))
        assert not changed, f"tests changed the shared {place / name}: {changed[:5]}"


def list_files(folder: Path) -> dict[str, list[int]]:
    """Size and time of every file below a folder."""
    files = ((p, p.stat()) for p in sorted(folder.rglob("*")) if p.is_file() and not p.is_symlink())
    # A training marks the run that it reads.
    files = ((p, facts) for p, facts in files if p.name != ".readers")
    return {p.relative_to(folder).as_posix(): [facts.st_size, facts.st_mtime_ns] for p, facts in files}


@pytest.fixture(scope="session")
def corpora(make_once: MakeOnce) -> Path:
    """Five corpora of 2 MB in their native formats. Tests only read them."""
    from fox1.pipeline.sample import write_sample

    return make_once("corpora", lambda folder: write_sample(folder / "sample", megabytes=2.0)) / "sample"


@pytest.fixture(scope="session")
def settings_of(corpora: Path) -> Callable[..., Any]:
    """Curate settings of the sample recipe on the small corpora, with further `--set`s."""

    def make(*overrides: str, data: Path = corpora, limit: float = 1.0) -> Any:
        from fox1.recipes.load import load_recipe
        from fox1.recipes.settings import curate_settings

        recipe, _ = load_recipe("sample", [*SMALL, *overrides], {"FOX1_DATA": str(data)})
        return curate_settings(recipe, limit)

    return make


@pytest.fixture(scope="session")
def one_phase(settings_of: Callable[..., Any]) -> Any:
    """Settings of a run in which every kind of task runs few times: one phase, and a part of the files."""
    settings = settings_of("scale=0.06", limit=0.4)
    return replace(settings, mix=replace(settings.mix, phases=settings.mix.phases[:1]))


def curate_here(settings: Any, out: Path, *stages: str, progress: Any = None, files: Any = None) -> Any:
    """Curate in this process; (summary, engine)."""
    from fox1.pipeline.curate import STAGES, curate
    from fox1.pipeline.engine.engine import Engine
    from fox1.pipeline.engine.tasks import InProcess, Silent
    from fox1.pipeline.run.paths import RunPaths

    engine = Engine(RunPaths(out), InProcess(), progress or Silent())
    return curate(settings, engine, stages or STAGES, files), engine


@pytest.fixture(scope="session")
def curate() -> Callable[..., Any]:
    return curate_here


def curate_sample(out: Path, data: Path, *changes: str) -> None:
    """Curate the sample recipe in this process, as `fox1 curate` does."""
    from fox1.pipeline.run.manifest import run_files
    from fox1.pipeline.run.paths import RunPaths
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import curate_settings, training_json

    recipe, resolved = load_recipe("sample", list(changes), {"FOX1_DATA": str(data)})
    curate_here(curate_settings(recipe), out, files=run_files(RunPaths(out), resolved, training_json(recipe)))


@pytest.fixture(scope="session")
def run(make_once: MakeOnce, corpora: Path) -> Path:
    """A finished run of the small corpora. Tests only read it."""
    return make_once("run", lambda folder: curate_sample(folder / "run", corpora, *SMALL)) / "run"


@pytest.fixture(scope="session")
def chat_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of Gemma's kind with 370 pieces, those of its chat template among them."""
    from fox1.tokenize.model import TokenizerSettings, train

    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    text = ["What does the fox say?\n\n  The fox says nothing; it is user and model 123.\n"] * 200
    path.write_bytes(train((f"{t}{i}" for i, t in enumerate(text)), TokenizerSettings(vocab_size=370)))
    return path
