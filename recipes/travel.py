"""A recipe that leaves the machine it was written on.

A job runs in a folder of its own on another machine. Of what a recipe names,

    data              must be a URL or an absolute path, which all nodes read; files of scores are data
    lists and models  travel if they lie here: URL lists, block lists, exclude lists, a SentencePiece model, classifiers
    plug-ins, steps   travel if they are named by file, with their package

What travels is renamed to `files/HASH/NAME`, relative to the job's folder, where HASH is of the contents: the name is the
same in every job and on every node, so the keys of tasks are, too. A run keeps the lists that travelled, since looking at it
later needs them and the job's folder is gone by then. It does not keep code: none is ever loaded from a run.

A run states absolute paths, whatever folder it was made in, and data that moved since is found where `--data OLD=NEW` says.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..pipeline.run.artifacts import publish
from ..pipeline.signals.plugin_files import code_files, digest_of, split_target
from ..pipeline.sources.globs import escape
from ..pipeline.sources.url_list import parse
from ..storage.inside import named
from .settings import list_file

MOST = 64 << 20
"""Bytes of all files that travel with one recipe."""
_TRAVELLED = re.compile(r"files/[0-9a-f]{16}/.+")


class NamedAs(Enum):
    DATA = "data"
    LIST = "list"
    MODEL = "model"
    CODE = "code"


#: Values of a recipe that name something outside it; `*` is any key of a mapping or place in a list.
_NAMED = {
    "sources.*.root": NamedAs.DATA,
    "held_out.*.root": NamedAs.DATA,
    "contamination.benchmarks.*.files.*": NamedAs.DATA,
    "scores.*.files.*": NamedAs.DATA,
    "scores.*.fasttext": NamedAs.MODEL,
    "sources.*.urls": NamedAs.LIST,
    "sources.*.arguments.paths_file": NamedAs.LIST,
    "url_lists.*": NamedAs.LIST,
    "exclude.lists.*": NamedAs.LIST,
    "tokenizer.model": NamedAs.MODEL,
    "plugins.*.target": NamedAs.CODE,
    "before_scan.*.target": NamedAs.CODE,
}


@dataclass(frozen=True)
class _Mention:
    """A value of a recipe that names something outside it."""

    holder: Any
    """The mapping or list that has it."""
    key: str | int
    where: str
    """Its dotted key, for messages."""
    kind: NamedAs

    @property
    def text(self) -> str:
        return str(self.holder[self.key])

    def rename(self, text: str) -> None:
        self.holder[self.key] = text


def _names(resolved: Mapping[str, Any]) -> Iterator[_Mention]:
    """What a resolved recipe names, in the order of `_NAMED`."""
    for pattern, kind in _NAMED.items():
        yield from _matches(resolved, pattern.split("."), "", kind)


def places(resolved: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """(dotted key, value) of all that a resolved recipe names outside it."""
    return ((name.where, name.text) for name in _names(resolved))


def _matches(holder: Any, path: list[str], where: str, kind: NamedAs) -> Iterator[_Mention]:
    keys = holder if isinstance(holder, Mapping) else range(len(holder)) if isinstance(holder, list) else ()
    for key in keys:
        if path[0] not in ("*", key):
            continue
        # Places in a list say nothing to a reader: the value itself is quoted.
        inside = f"{where}.{key}".lstrip(".") if isinstance(key, str) else where
        if path[1:]:
            yield from _matches(holder[key], path[1:], inside, kind)
        elif isinstance(holder[key], str) and holder[key]:
            yield _Mention(holder, key, inside, kind)


def pack(resolved: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """A resolved recipe as a job can read it, and the files that travel with it, by their paths in the job's folder.

    Raises:
        ValueError: it names data by a relative path, or a file that is not here, or too much would travel; names the key.
    """
    packed = copy.deepcopy(dict(resolved))
    files: dict[str, bytes] = {}
    for name in _names(packed):
        if name.kind is NamedAs.CODE:
            _pack_code(name, files)
        elif not _stays(name):
            path = Path(name.text)
            _check_size(name, path.stat().st_size, files)
            content = path.read_bytes()
            if name.where.endswith(".urls") and (
                line := next((u for u in parse(content, name.text) if "://" not in u), "")
            ):
                raise ValueError(
                    f"{name.where}: {name.text} has the line {line!r}, a path below its folder, which a job does not have; "
                    "write URLs, or put the list where all nodes read it and name its URL"
                )
            name.rename(_place({path.name: content}, path.name))
            files[name.text] = content
    return packed, files


def _stays(name: _Mention) -> bool:
    """Whether a job reads this where its name says.

    Raises:
        ValueError: the name is a relative path, and leads to nothing that could travel.
    """
    text, absolute = name.text, name.text.startswith("/")
    if "://" in text or (name.where == "url_lists" and list_file(text) != text):
        return True
    if name.kind is NamedAs.DATA:
        if not absolute:
            raise ValueError(
                f"{name.where}: {text} is relative; a job needs a URL, or an absolute path that all nodes share"
            )
        return True
    here = Path(text).is_file()
    if not here and not absolute:
        raise ValueError(
            f"{name.where}: {text} is relative, and there is no such file here that could travel with the job; name a file, "
            "a URL, or an absolute path that all nodes share"
        )
    return not here


def _pack_code(name: _Mention, files: dict[str, bytes]) -> None:
    if not (target := split_target(name.text)):
        return  # of a package that the cluster's image has
    try:
        sources = code_files(target[0])
    except ValueError as error:
        raise ValueError(f"{name.where}: {error}") from None
    _check_size(name, sum(p.stat().st_size for p in sources.values()), files)
    contents = {relative: path.read_bytes() for relative, path in sources.items()}
    main = next(relative for relative, path in sources.items() if path == target[0])
    name.rename(f"{_place(contents, main)}:{target[1]}")
    files |= {_place(contents, relative): content for relative, content in contents.items()}


def _place(contents: dict[str, bytes], name: str) -> str:
    return f"files/{digest_of(contents)}/{name}"


def _check_size(name: _Mention, size: int, files: Mapping[str, bytes]) -> None:
    if size + sum(map(len, files.values())) > MOST:
        raise ValueError(
            f"{name.where}: {name.text} ({size / 1e6:,.0f} MB) is too large to travel with a job, which takes {MOST >> 20} MiB "
            "in all; put it into a store and name its URL"
        )


def keep_lists(resolved: Mapping[str, Any], run: Path) -> None:
    """Put the lists that travelled with a recipe into the folder of its run."""
    for name in _names(resolved):
        if name.kind is NamedAs.LIST and _TRAVELLED.fullmatch(name.text):
            content = Path(name.text).read_bytes()
            if not (path := named(run, name.text)).exists():
                with publish(path) as out:
                    out.write(content)


def find_lists(resolved: dict[str, Any], folder: Path) -> None:
    """Let a recipe name the lists that travelled with it where they lie: beside it, in its run or its job."""
    for name in _names(resolved):
        if name.kind is NamedAs.LIST and _TRAVELLED.fullmatch(name.text) and named(folder, name.text).exists():
            name.rename(os.fspath(folder / name.text))


def find_plugins(resolved: dict[str, Any], folder: Path) -> None:
    """Let a recipe's plug-ins be named by absolute paths, where they are files beside it.

    What travelled keeps its name: workers find it in the folder of the job, which they all have as their current one.
    """
    for name in _names(resolved):
        target = split_target(name.text) if name.kind is NamedAs.CODE else None
        if (
            target
            and not target[0].is_absolute()
            and not name.text.startswith("${")
            and not _TRAVELLED.match(name.text)
        ):
            name.rename(f"{(folder / target[0]).absolute()}:{target[1]}")


def find_data(resolved: dict[str, Any], folder: Path) -> None:
    """Let data, lists and models that a recipe's file names by relative paths be those beside it.

    Values that begin with a variable are left: what the environment says is relative to the current folder.
    """
    for name in _names(resolved):
        if _is_relative(name) and not name.text.startswith("${") and folder != Path():
            name.rename(os.path.join(_literal(name, str(folder)), name.text))


def absolute(resolved: Mapping[str, Any]) -> dict[str, Any]:
    """A resolved recipe whose relative names are those of the current folder, so that it can be read from any other."""
    changed = copy.deepcopy(dict(resolved))
    for name in _names(changed):
        if _is_relative(name):
            name.rename(os.path.normpath(os.path.join(_literal(name, os.getcwd()), name.text)))
    return changed


def move_data(resolved: dict[str, Any], moves: Sequence[str]) -> None:
    """Let a recipe name data, lists and models by their new places.

    Args:
        moves: `OLD=NEW`; what lies at OLD or below it lies at NEW or below that now.

    Raises:
        ValueError: it is of another form, or the recipe names nothing at OLD or below.
    """
    for move in moves:
        names = [name for name in _names(resolved) if name.kind is not NamedAs.CODE]
        moved = [_move(name, move) for name in names]
        if not any(moved):
            roots = dict.fromkeys(name.text for name in names if name.kind is NamedAs.DATA)
            raise ValueError(
                f"--data {move}: write OLD=NEW, where OLD holds data that the recipe names: {', '.join(roots)}"
            )


def _move(name: _Mention, move: str) -> bool:
    """Rename what lies below the old place of `OLD=NEW`; whether it does."""
    # Folders may have an equals sign in their names.
    for at in (m.start() for m in re.finditer("=", move)):
        old, new = _plain_name(move[:at]), _plain_name(move[at + 1 :])
        if not old or not new:
            continue
        text, before = _plain_name(name.text), old if "://" in old else _literal(name, old)
        if text == before or text.startswith(before.rstrip("/") + "/"):
            below = text[len(before) :].lstrip("/")
            after = new if "://" in new else _literal(name, os.path.abspath(new))
            name.rename(f"{after}/{below}" if below else after)
            return True
    return False


def _plain_name(text: str) -> str:
    return text.rstrip("/") if "://" in text or not text else os.path.normpath(text)


def _is_relative(name: _Mention) -> bool:
    text = name.text
    return not (
        name.kind is NamedAs.CODE
        or "://" in text
        or text.startswith("/")
        or _TRAVELLED.fullmatch(text)
        or (name.where == "url_lists" and list_file(text) != text)
    )


def _literal(name: _Mention, path: str) -> str:
    """A path as the value takes it: the files of benchmarks and scores are patterns."""
    patterns = ("contamination.benchmarks.", "scores.")
    return escape(path) if name.kind is NamedAs.DATA and name.where.startswith(patterns) else path
