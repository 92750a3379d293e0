"""Shared runs: small sample corpora and one curated run of them, made once per session without Ray."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import zstandard

os.environ.setdefault("RAY_AUTH_MODE", "disabled")
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")

SMALL = ("scale=0.1", "tokenizer.vocab_size=1024", "tokenizer.sample_bytes=1Mi")
"""Changes to the sample recipe for corpora of 2 MB."""


LONGEST = (
    "test_cluster",
    "test_curate",
    "test_train",
    "test_elastic",
    "test_mini",
    "test_storage",
    "test_scan",
    "test_evaluate",
)
"""Files in the order of what they take: two processes that take them file by file end together."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    place = {name: k for k, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(LONGEST)))


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of a run that is promised to be the same."""
    from fox1.pipeline.run.artifacts import FINAL

    found = {}
    for part in FINAL:
        for path in sorted((run / part).rglob("*")):
            if path.is_file():
                found[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


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


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five corpora of 2 MB in their native formats."""
    from fox1.pipeline.sample import write_sample

    root = tmp_path_factory.mktemp("corpora") / "sample"
    write_sample(root, megabytes=2.0)
    return root


@pytest.fixture(scope="session")
def settings_of(corpora: Path) -> Callable[..., Any]:
    """Curate settings of the sample recipe on the small corpora, with further `--set`s."""

    def make(*overrides: str, data: Path = corpora, limit: float = 1.0) -> Any:
        from fox1.recipes.load import load_recipe
        from fox1.recipes.settings import curate_settings

        recipe, _ = load_recipe("sample", [*SMALL, *overrides], {"FOX1_DATA": str(data)})
        return curate_settings(recipe, limit)

    return make


def curate_here(settings: Any, out: Path, *stages: str, progress: Any = None, files: Any = None) -> Any:
    """Curate in this process; (summary, engine)."""
    from fox1.pipeline.curate import STAGES, curate
    from fox1.pipeline.engine.tasks import Engine, InProcess, Silent
    from fox1.pipeline.run.artifacts import RunPaths

    engine = Engine(RunPaths(out), InProcess(), progress or Silent())
    return curate(settings, engine, stages or STAGES, files), engine


@pytest.fixture(scope="session")
def curate() -> Callable[..., Any]:
    return curate_here


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, settings_of: Callable[..., Any], corpora: Path) -> Path:
    """A finished run of the small corpora. Tests only read it."""
    from fox1.pipeline.curate import curate
    from fox1.pipeline.engine.tasks import Engine, InProcess
    from fox1.pipeline.run.artifacts import RunPaths
    from fox1.pipeline.run.manifest import run_files
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import training_json

    out = tmp_path_factory.mktemp("run") / "run"
    recipe, resolved = load_recipe("sample", SMALL, {"FOX1_DATA": str(corpora)})
    paths = RunPaths(out)
    files = run_files(paths, resolved, training_json(recipe))
    curate(settings_of(), Engine(paths, InProcess()), files=files)
    return out


@pytest.fixture(scope="session")
def chat_tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of Gemma's kind with 370 pieces, those of its chat template among them."""
    from fox1.tokenize.model import TokenizerSettings, train

    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    text = ["What does the fox say?\n\n  The fox says nothing; it is user and model 123.\n"] * 200
    path.write_bytes(train((f"{t}{i}" for i, t in enumerate(text)), TokenizerSettings(vocab_size=370)))
    return path
