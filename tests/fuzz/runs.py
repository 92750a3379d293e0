"""A finished run of somebody else, damaged in one file, and the commands that look at it."""

from __future__ import annotations

import functools
import json
import os
import random
import re
import shutil
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from fox1.pipeline.run.schemas import STAGES

from .cases import Case, Fault, damage, refused

CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What can steer a terminal; tables have lines of their own."""
DOCUMENT = "web-document"
LOOKS: tuple[tuple[str, ...], ...] = (
    ("stats", "RUN"),
    ("stats", "RUN", "--json"),
    ("verify", "RUN"),
    ("why", "RUN", DOCUMENT),
    ("trace", "RUN", "phase1", "0"),
    ("trace", "RUN", "phase2", "3", "--source"),
    ("find", "RUN", "--text", "TEXT"),
    ("find", "RUN", "--url", "https://example.org/a"),
    ("filter", "RUN", "--what-if", "filters.web.min_words=80"),
    ("tokenizer", "inspect", "RUN"),
    ("report", "RUN", "--out", "OUT"),
    ("gc", "RUN", "--dry-run"),
)
"""What users do with a run that they received."""


@dataclass(frozen=True)
class Finished:
    """A finished run of small corpora. Cases only read them."""

    run: Path
    corpora: Path


def _kept_folder() -> Path:
    """A folder that lasts as long as this process."""
    _folders.append(tempfile.TemporaryDirectory(prefix="fox1-fuzz-run-"))
    return Path(_folders[-1].name)


_folders: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def finished() -> Finished:
    from fox1.pipeline.sample import write_sample

    from tests.conftest import SMALL, curate_sample

    made = Finished(_kept_folder() / "run", _kept_folder() / "corpora")
    write_sample(made.corpora, megabytes=2.0)
    curate_sample(made.run, made.corpora, *SMALL)
    return made


@functools.cache
def chosen() -> tuple[str, ...]:
    """Paths of the files that are damaged: all small ones that describe the run, and one of each kind of table."""
    run = finished().run
    one_of_each: dict[tuple[str, str], str] = {}
    for path in sorted(p for p in run.rglob("*") if p.is_file()):
        inside = path.relative_to(run).as_posix()
        described = path.suffix in (".json", ".yaml") and not inside.startswith(("records/", "timings/"))
        one_of_each[(inside, "") if described else (inside.split("/")[0], path.suffix)] = inside
    return tuple(sorted(one_of_each.values()))


def make_run(rng: random.Random) -> Case:
    name = rng.choice(chosen())
    data = (finished().run / name).read_bytes()
    if name.endswith(".json") and rng.random() < 0.5:
        return Case(name, json.dumps(_other(json.loads(data), rng)).encode())
    return Case(name, damage(data, rng))


def _other(value: object, rng: random.Random) -> object:
    """The value with one part of it, at any depth, in place of another kind of value."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key = rng.choice(sorted(value))
        return {**value, key: _other(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.85:
        at = rng.randrange(len(value))
        return [*value[:at], _other(value[at], rng), *value[at + 1 :]]
    odd = (
        None,
        True,
        -1,
        1 << 70,
        1e308,
        "",
        "../../x",
        "/etc/passwd",
        "\x1b[2J\u202e",
        [],
        {},
        [[]],
        {"": None},
        "x" * 9000,
    )
    return rng.choice(odd)


def look(case: Case, folder: Path) -> str:
    """A command gives its answer, or one line that says what is wrong; it writes nothing into the run."""
    from tests.conftest import run_command

    whole, run = finished().run, folder / "run"
    shutil.copytree(whole, run)
    (run / case.name).write_bytes(case.data)
    text, out = folder / "text.txt", folder / "report.html"
    text.write_text("A text that is in no run.")
    first = next(p for p in sorted((whole / "decisions").rglob("*.parquet")))
    document = first.relative_to(whole / "decisions").as_posix().removesuffix(".parquet") + "#0"
    places = {"RUN": str(run), "TEXT": str(text), "OUT": str(out), DOCUMENT: document}
    words = [places.get(word, word) for word in LOOKS[zlib.crc32(case.data) % len(LOOKS)]]
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*")}
    done = run_command(*words, COLUMNS="120", FOX1_DATA=str(finished().corpora))
    said = " ".join(words[:1])
    if "Traceback" in done.stderr or "Error" in done.stderr.partition("error: ")[0]:
        raise Fault(f"{said}: {done.stderr[-600:]}")
    if (found := CONTROL.search(done.stdout.replace("\r\n", "\n") + done.stderr)) and "--json" not in words:
        raise Fault(f"{said}: prints {found[0]!r}")
    if {p: p.stat().st_mtime_ns for p in run.rglob("*")} != before:
        raise Fault(f"{said}: changed the run")
    if done.returncode not in (0, 1, 2):
        raise Fault(f"{said}: status {done.returncode}")
    if done.returncode and "error: " in done.stderr:
        line = "error: " + done.stderr.rpartition("error: ")[2].rstrip("\n")
        if len(line.splitlines()) != 1:
            raise Fault(f"{said}: an error of several lines: {line[:300]!r}")
        return "refused"
    return "shown" if not done.returncode else "found wrong"


@functools.cache
def decided() -> Path:
    """A run of the same corpora up to its decisions: what comes next reads the text again."""
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import curate_settings

    from tests.conftest import SMALL, curate_here

    run = _kept_folder() / "decided"
    recipe, _ = load_recipe("sample", list(SMALL), {"FOX1_DATA": str(finished().corpora)})
    curate_here(curate_settings(recipe), run, *STAGES[:4])
    return run


def make_change(rng: random.Random) -> Case:
    """A source file with as many bytes as before: two lines change places, or letters of them change."""
    corpora = finished().corpora
    path = rng.choice(sorted(p for p in corpora.rglob("*.jsonl") if p.parent != corpora))
    data = bytearray(path.read_bytes())
    if rng.random() < 0.3:
        lines = bytes(data).splitlines(keepends=True)
        i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
        lines[i], lines[j] = lines[j], lines[i]
        data = bytearray(b"".join(lines))
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(data))
        if chr(data[at]).isalpha() and data[at - 1 : at] != b"\\":
            data[at] = ord(rng.choice("abcxyz"))
    return Case(path.relative_to(corpora).as_posix(), bytes(data))


def go_on(case: Case, folder: Path) -> str:
    """The run stops and names the file, or no byte of it is another: what changed is not in it."""
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import curate_settings

    from tests.conftest import SMALL, curate_here
    from tests.faults.promises import hashes

    shutil.copytree(decided(), folder / "decided")
    shutil.copytree(finished().corpora, folder / "corpora")
    changed = folder / "corpora" / case.name
    facts = changed.stat()
    changed.write_bytes(case.data)
    os.utime(changed, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    recipe, _ = load_recipe("sample", list(SMALL), {"FOX1_DATA": str(folder / "corpora")})
    try:
        curate_here(curate_settings(recipe), folder / "decided")
    except ValueError as error:
        return refused(error, case.name)
    if hashes(folder / "decided") != hashes(finished().run):
        raise Fault("text that was never scanned is in the run")
    return "read"
