"""Code that a recipe names, by the dotted path of an installed package or by file, `FILE.py:NAME`: plug-ins, and steps of
`before_scan`. A file is loaded by its place, never by a search path.

A file stands alone, unless its folder holds an `__init__.py`: then the folder is a package, whose modules import each other
relatively (`from .words import WORDS`) and whose data files belong to it. The module's name holds a hash of the code, so two
plug-ins with files of one name, or two states of one file, never meet.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import xxhash

from ..sources.installed import import_installed

MOST_CODE = 16 << 20
"""Bytes of a plug-in with its package."""


def split_target(target: str) -> tuple[Path, str] | None:
    """(file, name of the function or class) of a target `FILE.py:NAME`; None for a dotted path."""
    file, colon, attribute = target.rpartition(":")
    return (Path(file), attribute) if colon and file.endswith(".py") else None


def import_target(target: str, version: str = "") -> Any:
    """The function or class that a target names.

    Args:
        version: of a file, what `code_digest` must give, unless empty.

    Raises:
        ImportError: it cannot be imported; names the target.
    """
    try:
        if named := split_target(target):
            return getattr(load_file(named[0], version), named[1])
        return import_installed(target.replace(":", "."))
    except Exception as error:  # a module of others may fail in any way while it is imported
        raise ImportError(f"cannot import {target}: {error}") from None


def code_version(target: str) -> str:
    """A hash of the code that a target names: of its file, with its package if there is one.

    Raises:
        ImportError: it cannot be imported; names the target.
    """
    if named := split_target(target):
        return code_digest(named[0])
    found = import_target(target)
    source = inspect.getsourcefile(found)
    top = found.__module__.partition(".")[0]
    packages = [top]
    if top == __package__.partition(".")[0]:
        # Of what is in fox1 itself its file, since a change of another part changes no verdict; of the steps for datatrove all
        # of theirs, and datatrove's own, which they stand on.
        steps = f"{top}.datatrove"
        packages = [steps, "datatrove"] if found.__module__.startswith(f"{steps}.") else []
    folders = [path for name in packages for path in getattr(importlib.import_module(name), "__path__", ())]
    files = [p for folder in folders for p in sorted(Path(folder).rglob("*.py"))] or ([Path(source)] if source else [])
    hashed = xxhash.xxh3_64()
    for file in files:
        hashed.update(file.read_bytes())
    return hashed.hexdigest()


def code_files(file: Path) -> dict[str, Path]:
    """The files of a plug-in by the names they have beside each other: `FILE.py`, or `PACKAGE/...` for all of its package.

    Raises:
        ValueError: there is no such file, it lies in a run's folder, or the package is too large.
    """
    if not file.is_file():
        raise ValueError(f"there is no file {file}; name it by its path from the recipe, or by an absolute one")
    for folder in file.absolute().parents:
        if (folder / "manifest.json").is_file() and (folder / "recipe.yaml").is_file():
            raise ValueError(f"{file} lies in the run {folder}, and code is never loaded from a run: copy it elsewhere")
    folder = file.parent
    if not (folder / "__init__.py").is_file():
        return {file.name: file}
    files = {}
    size = 0
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        if path.is_file() and not any(p.startswith(".") or p == "__pycache__" for p in parts):
            files["/".join((folder.resolve().name, *parts))] = path
            size += path.stat().st_size
        if size > MOST_CODE:
            raise ValueError(
                f"the package {folder} is larger than {MOST_CODE >> 20} MiB: give the plug-in a folder of its own"
            )
    return files


def code_digest(file: Path) -> str:
    """A hash of all files of a plug-in."""
    return digest_of({name: path.read_bytes() for name, path in code_files(file).items()})


def digest_of(contents: dict[str, bytes]) -> str:
    """A hash of files by their names and contents, in hexadecimal."""
    hashed = xxhash.xxh3_64()
    for name, content in sorted(contents.items()):
        hashed.update(f"{name}\0{len(content)}\0".encode())
        hashed.update(content)
    return hashed.hexdigest()


def load_file(file: Path, version: str = "") -> ModuleType:
    """The module of a plug-in's file.

    Args:
        version: what `code_digest` must give, unless empty.

    Raises:
        ValueError: there is no such file here, or it holds other code.
        Exception: whatever the module raises while it is imported.
    """
    digest = code_digest(file)
    if version and digest != version:
        raise ValueError(f"{file} is not the code that this run was planned with")
    package = (file.parent / "__init__.py").is_file()
    top = f"fox1_plugin_{digest}"
    if top not in sys.modules:
        first = file.parent / "__init__.py" if package else file
        spec = importlib.util.spec_from_file_location(
            top, first.absolute(), submodule_search_locations=[str(file.parent.absolute())] if package else None
        )
        assert spec and spec.loader
        module = sys.modules[top] = importlib.util.module_from_spec(spec)
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[top]
            raise
    if package and file.stem != "__init__":
        return importlib.import_module(f"{top}.{file.stem}")
    return sys.modules[top]
