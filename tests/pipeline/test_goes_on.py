"""A task that reads a file of one stream from beginning to end goes on after the parts that a lost attempt has published."""

from __future__ import annotations

import gzip
import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import msgspec
import pytest
from fox1.pipeline.curate import curate
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.parts import Parts
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.extract import extract
from fox1.pipeline.run import identity
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.run.records import StepRecords
from fox1.pipeline.signals import scan
from fox1.pipeline.sources import pieces, rows
from fox1.pipeline.tokens import shards
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings

from tests.faults.promises import hashes
from tests.pipeline.test_cut_files import CHANGES, write_damaged


class Killed(BaseException):
    """Nobody catches it, as nobody catches a node that goes away."""


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pieces, "MOST_TEXT", 60_000)
    monkeypatch.setattr(pieces, "ROWS_TEXT", 20_000)
    monkeypatch.setattr(identity, "GROUP_TEXT", 10_000)
    monkeypatch.setattr(rows, "BATCH_BYTES", 5_000)


@pytest.fixture
def settings(tmp_path: Path, settings_of: Callable[..., Any]) -> Any:
    write_damaged(tmp_path / "data")
    return settings_of(*CHANGES, data=tmp_path / "data")


@contextmanager
def killed_after(module: Any, parts: int) -> Iterator[None]:
    """Have the process end when a stage has kept so many parts of its tasks."""
    kept = list[int]()

    class Until(Parts[Any]):
        def add(self, number: int, part: Any) -> None:
            super().add(number, part)
            kept.append(number)
            if len(kept) == parts:
                raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(module, "Parts", Until)
        yield


def names_given(monkeypatch: pytest.MonkeyPatch, module: Any, function: str, place: int, name: str) -> list[str]:
    """What the argument at a place is called in each call of a function of a stage, from now on."""
    calls, original = list[str](), getattr(module, function)

    def noting(*args: Any) -> Any:
        calls.append(getattr(args[place], name))
        return original(*args)

    monkeypatch.setattr(module, function, noting)
    return calls


@pytest.mark.usefixtures("small_pieces")
def test_scan_goes_on_after_the_pieces_that_are_there(
    tmp_path: Path, settings: Any, curate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    scanned = names_given(monkeypatch, scan, "scan_piece", 1, "part")
    curate(settings, whole, "scan")
    everything = set(scanned)
    with killed_after(scan, 3):
        curate(settings, killed, "scan")
    kept = sorted((killed / "parts" / "scan").rglob("*.json"))
    assert [path.name for path in kept] == ["00000.json", "00001.json", "00002.json"]
    corpus, _, name = unquote(kept[0].parent.name).partition("/")
    pieces_of_it = {part for part in everything if part.startswith(f"{name}/")}
    assert len(pieces_of_it) > 3
    for damage in ("none", "key", "record", "file"):
        run = tmp_path / damage
        shutil.copytree(killed, run)
        said, table = run / kept[1].relative_to(killed), run / "signals" / corpus / name / "00001.parquet"
        if damage == "key":
            said.write_text(said.read_text().replace('"key":"', '"key":"0'))
        elif damage == "record":
            said.write_text(said.read_text().replace('"documents":', '"documents":1'))
        elif damage == "file":
            table.write_bytes(table.read_bytes()[:-1] + b"?")
        scanned.clear()
        curate(settings, run, "scan")
        known = {f"{name}/{number:05d}" for number in ((0, 1, 2) if damage == "none" else (0, 2))}
        assert pieces_of_it - set(scanned) == known, damage
        assert hashes(run) == hashes(whole), damage
        assert not (run / "parts").exists()


@pytest.mark.usefixtures("small_pieces")
def test_tokenize_goes_on_after_the_groups_that_are_there(
    tmp_path: Path, settings: Any, curate: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole, run = tmp_path / "whole", tmp_path / "run"
    encoded = names_given(monkeypatch, shards, "_encode", 0, "name")
    curate(settings, whole)
    everything = len(encoded)
    with killed_after(shards, 2):
        curate(settings, run)
    assert len(list((run / "parts" / "tokenize").rglob("*.json"))) == 2
    before = set(encoded[everything:])
    encoded.clear()
    curate(settings, run)
    assert len(before) >= 2 and before.isdisjoint(encoded)
    assert hashes(run) == hashes(whole)
    assert not (run / "parts").exists()


PAGES = """
extends: sample
name: own
sources: {{redpajama: null, slimpajama: null, dolma: null, pile: null, refinedweb: null, pages: {{root: "{root}"}}}}
max_bad_rows: 20
contamination: {{benchmarks: {{sample: null}}}}
before_scan: {{bare: {{target: "{ours}:Bare"}}, fewer: {{target: "{ours}:Fewer"}}, numbered: {{target: "{ours}:Numbered"}}}}
filters: {{all: {{min_words: 1}}}}
tokenizer: {{vocab_size: 320}}
"""


@pytest.mark.usefixtures("small_pieces")
def test_extract_goes_on_after_the_tables_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures, quarantine and what a step remembers of earlier rows are those of a run that was not killed."""
    marks = {3: "<!broken", 40: "advertised advertised", 44: "<!broken", 71: "<!broken"}
    words = random.Random(7)
    texts = [" ".join(f"{words.getrandbits(30):x}" for _ in range(120)) for _ in range(90)]
    rows_ = [json.dumps({"text": f"<p>{marks.get(n, '')} {text}</p>"}) for n, text in enumerate(texts)]
    rows_[20] = "no json"
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages" / "a.jsonl.gz").write_bytes(gzip.compress("\n".join(rows_).encode(), mtime=0))
    ours = Path(__file__).parent / "extract" / "made_steps.py"
    recipe = tmp_path / "own.yaml"
    recipe.write_text(PAGES.format(root=tmp_path / "pages", ours=ours))
    settings = curate_settings(load_recipe(str(recipe), [])[0])

    def curate_scan(run: Path) -> None:
        curate(settings, Engine(RunPaths(run), InProcess()), ("scan",))

    whole, killed = tmp_path / "whole", tmp_path / "killed"
    treated = names_given(monkeypatch, extract, "treated", 0, "table")
    curate_scan(whole)
    batches, expected = len(treated), hashes(whole)
    tables = sorted((whole / "extracted" / "pages" / "a.jsonl.gz").iterdir())
    assert len(tables) > 3
    with killed_after(extract, 3):
        curate_scan(killed)
    kept = sorted((killed / "parts").rglob("*.json"))
    assert [path.name for path in kept] == ["00000.json", "00001.json", "00002.json"]
    for damage in ("none", "key", "record", "file"):
        run = tmp_path / damage
        shutil.copytree(killed, run)
        said, table = run / kept[1].relative_to(killed), run / tables[1].relative_to(whole)
        if damage == "key":
            said.write_text(said.read_text().replace('"key":"', '"key":"0'))
        elif damage == "record":
            said.write_text(said.read_text().replace('"given": ', '"given": 1'))
        elif damage == "file":
            table.write_bytes(table.read_bytes()[:-1] + b"?")
        treated.clear()
        curate_scan(run)
        assert batches - len(treated) >= (3 if damage == "none" else 2), damage
        assert hashes(run) == expected, damage
        found = (StepRecords(RunPaths(r), "scan.extract").found["pages/a.jsonl.gz"].result for r in (run, whole))
        of_killed, of_whole = map(msgspec.json.decode, found)
        assert of_killed["figures"] == of_whole["figures"] and of_killed["quarantined"] == 4, damage
        assert not (run / "parts").exists()
