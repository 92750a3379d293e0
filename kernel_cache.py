"""Where Numba keeps a compiled kernel: by the contents of its file and of those that it is compiled from, not by its place.

Ray unpacks the package of every job into a new folder. Numba by itself would look for the kernels of that folder, and each
node would compile them again for each job; so equal files share one entry, whatever unpacked them, and what an image or
`make install` compiled serves jobs as well. `fox1/__init__.py` names this class to Numba.

A kernel holds the code of the kernels that it calls, and the constants that it names. Numba by itself looks at its own file
alone, and would go on with what it called before a change of another one.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numba.core import config
from numba.core.caching import UserProvidedCacheLocator

ROOT = Path(__file__).resolve().parent
_IMPORT = re.compile(rb"^from (\.+)([\w.]*) import (\([^)]*\)|[^\n]*)", re.MULTILINE)
_NAME = re.compile(rb"\w+")


class ByContent(UserProvidedCacheLocator):
    """Kernels of this package; of other files Numba's own locators decide."""

    def __init__(self, py_func: Any, py_file: str) -> None:
        super().__init__(py_func, py_file)
        path = Path(py_file).resolve()
        self._cache_path = os.path.join(config.CACHE_DIR, _name(path))

    @classmethod
    def from_function(cls, py_func: Any, py_file: str) -> Any:
        inside = Path(py_file).resolve().is_relative_to(ROOT)
        return super().from_function(py_func, py_file) if inside else None


@functools.cache
def _name(path: Path) -> str:
    """The name of a module, and a hash of what its kernels are compiled from; each kernel of the file asks for it."""
    together = hashlib.sha256(b"".join(_read(part).hash for part in sorted(_sources(path)))).hexdigest()[:16]
    return ".".join(path.relative_to(ROOT).with_suffix("").parts) + f"-{together}"


def _sources(path: Path) -> set[Path]:
    """A file, those of this package that it imports, and of those with kernels, what they import in turn."""
    found, left = {path}, [path]
    while left:
        imported = _read(left.pop()).imports - found
        found |= imported
        left += [file for file in imported if _read(file).has_kernels]
    return found


@dataclass(frozen=True)
class _Source:
    """A file of this package."""

    hash: bytes
    has_kernels: bool
    imports: frozenset[Path]
    """The files of this package that it imports."""


@functools.cache
def _read(path: Path) -> _Source:
    source = path.read_bytes()
    found = set[Path]()
    for dots, module, names in _IMPORT.findall(source):
        folder = (
            path.parents[len(dots) - 1].joinpath(*module.decode().split(".")) if module else path.parents[len(dots) - 1]
        )
        candidates = [folder.with_suffix(".py"), *(folder / f"{name.decode()}.py" for name in _NAME.findall(names))]
        found.update(file for file in candidates if file.is_file())
    return _Source(hashlib.sha256(source).digest(), b"njit" in source, frozenset(found))
