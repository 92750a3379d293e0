"""A recipe that leaves the machine it was written on.

A job runs in a folder of its own on another machine. Of what a recipe names,

    data              must be a URL or an absolute path, which all nodes read
    lists and models  travel if they lie here: URL lists, block lists, exclude lists, a SentencePiece model
    plug-ins          travel if they are named by file, with their package

What travels is renamed to `files/HASH/NAME`, relative to the job's folder, where HASH is of the contents: the name is the
same in every job and on every node, so the keys of tasks are, too. A run keeps the lists that travelled, since looking at it
later needs them and the job's folder is gone by then. It does not keep plug-ins: no code is ever loaded from a run.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from ..pipeline.run.artifacts import publish
from ..pipeline.signals.plugin_files import code_files, digest_of, split_target
from ..storage.inside import named
from .settings import list_file

MOST = 64 << 20
"""Bytes of all files that travel with one recipe."""
_TRAVELLED = re.compile(r"files/[0-9a-f]{16}/.+")


class NamedAs(Enum):
    DATA = "data"
    LIST = "list"
    MODEL = "model"
    CODE = "plug-in"


#: Values of a recipe that name something outside it; `*` is any key of a mapping or place in a list.
_NAMED = {
    "sources.*.root": NamedAs.DATA,
    "held_out.*.root": NamedAs.DATA,
    "contamination.benchmarks.*.files.*": NamedAs.DATA,
    "sources.*.urls": NamedAs.LIST,
    "url_lists.*": NamedAs.LIST,
    "exclude.lists.*": NamedAs.LIST,
    "tokenizer.model": NamedAs.MODEL,
    "plugins.*.target": NamedAs.CODE,
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
