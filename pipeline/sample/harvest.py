"""Which files of this machine the sample may be made of.

Two places and no other: the Python standard library, and the distributions that fox1 itself requires (recursively),
as their RECORD lists them. Files are read as text; nothing is imported. The choice among them is by `rank`, a hash
of owner and path, so it depends on what is installed and never on the order in which a file system lists it.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath

import xxhash
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PYTHON = "python"
"""Owner of the standard library's files."""
CODE_SUFFIXES = frozenset({".py", ".pyi", ".pyx", ".h", ".hpp", ".cuh", ".c", ".cpp", ".cmake"})
LICENCE_NAMES = ("license", "licence", "copying", "notice")
SKIPPED_FOLDERS = frozenset({"__pycache__", "test", "tests", "idle_test", "site-packages", "dist-packages"})
"""Tests hold files that are broken on purpose; the package folders belong to other distributions."""
BUILD_RECORDS = ("_sysconfigdata", "__config__", "_sysconfig_vars", "_distutils_system_mod")
"""Modules written by a build: they name folders of the machine that built them."""
MAX_FILE_BYTES = 1 << 20


def rank(*parts: object) -> int:
    """A 64-bit hash of the parts: the only source of choice in the sample."""
    return xxhash.xxh3_64_intdigest("\0".join(map(str, parts)).encode())


@dataclass(frozen=True, order=True)
class SourceText:
    """A file that may be read. `owner` and `path` are its identity; where it lies is not."""

    owner: str
    """Normalised name of the distribution, or `PYTHON`."""
    path: str
    """Relative to the standard library or to the folder of the distribution, with forward slashes."""
    file: Path = field(compare=False)

    @property
    def key(self) -> str:
        return f"{self.owner}/{self.path}"

    def read(self) -> str | None:
        """The text; None where it is missing, too large or not clean UTF-8."""
        try:
            data = self.file.read_bytes() if self.file.stat().st_size <= MAX_FILE_BYTES else b"\0"
            text = data.decode()
        except (OSError, UnicodeDecodeError):
            return None
        return text if is_clean(text) else None


def is_clean(text: str) -> bool:
    """No NUL, no lone surrogate, and no mention of this machine's Python folders."""
    if "\0" in text or any(place in text for place in _places()):
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


@cache
def _places() -> tuple[str, ...]:
    return sysconfig.get_path("stdlib"), sysconfig.get_path("purelib")


def closure(root: str = "fox1") -> dict[str, metadata.Distribution]:
    """The installed distributions that `root` requires, recursively, by normalised name; `root` is not among them.

    Extras of `root` are not followed; an extra that a requirement names (``ray[default]``) is.

    Raises:
        importlib.metadata.PackageNotFoundError: `root` is not installed.
    """
    found = {root: metadata.distribution(root)}
    queue, seen = [(root, "")], {(root, "")}
    while queue:
        name, extra = queue.pop()
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
                continue
            required = canonicalize_name(requirement.name)
            try:
                found.setdefault(required, metadata.distribution(required))
            except metadata.PackageNotFoundError:
                continue
            wanted = {(required, e) for e in ("", *requirement.extras)} - seen
            queue += sorted(wanted)
            seen |= wanted
    del found[root]
    return dict(sorted(found.items()))


def standard_library() -> Iterator[SourceText]:
    """Every source file of the standard library outside its tests, in no promised order."""
    base = Path(sysconfig.get_path("stdlib"))
    for name in sys.stdlib_module_names:
        if (module := base / f"{name}.py").is_file():
            yield SourceText(PYTHON, module.name, module)
        for folder, folders, names in os.walk(base / name):
            folders[:] = [f for f in folders if f not in SKIPPED_FOLDERS]
            for file in (Path(folder, n) for n in names):
                yield SourceText(PYTHON, file.relative_to(base).as_posix(), file)


def of_distribution(name: str, distribution: metadata.Distribution) -> Iterator[SourceText]:
    """Every file that the distribution's RECORD puts inside its own folders, tests left out."""
    if distribution.read_text("RECORD") is None:
        return
    for path in distribution.files or ():
        if not path.is_absolute() and ".." not in path.parts and SKIPPED_FOLDERS.isdisjoint(path.parts):
            yield SourceText(name, path.as_posix(), Path(str(path.locate())))


@dataclass(frozen=True)
class Harvest:
    """What may be read, by use; each list is in the order of `rank`, so a prefix of it is a stable choice."""

    code: list[SourceText]
    readmes: list[SourceText]
    licences: list[SourceText]

    def paths(self) -> list[Path]:
        """Every file that may be read."""
        return [s.file for s in (*self.code, *self.readmes, *self.licences)]


def harvest() -> Harvest:
    """Find what may be read on this machine, without reading it."""
    found = Harvest([], [], [])
    for source in _every_source():
        path = PurePosixPath(source.path)
        if path.parts[0].endswith(".dist-info"):
            if path.name == "METADATA":
                found.readmes.append(source)
            elif path.name.lower().startswith(LICENCE_NAMES):
                found.licences.append(source)
        elif path.suffix in CODE_SUFFIXES and not path.name.startswith(BUILD_RECORDS):
            found.code.append(source)
    return Harvest(*(by_rank(sources) for sources in (found.code, found.readmes, found.licences)))


def _every_source() -> Iterator[SourceText]:
    yield from standard_library()
    for name, distribution in closure().items():
        yield from of_distribution(name, distribution)


def by_rank(sources: Iterable[SourceText]) -> list[SourceText]:
    """In the order of the hash of their keys, each file once."""
    return sorted(set(sources), key=lambda s: (rank(s.key), s))
