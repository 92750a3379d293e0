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
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numba.core import config, environment
from numba.core.caching import Cache, UserProvidedCacheLocator

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


def _is_ours(cache: object) -> bool:
    """Whether a cache of Numba's is that of a kernel of this package."""
    return isinstance(getattr(getattr(cache, "_impl", None), "locator", None), ByContent)


@contextmanager
def _modules_left_out() -> Iterator[None]:
    """A stored kernel names the modules of the functions of Numba that it was compiled from. They are not imported for it: their
    variables serve kernels that work on Python's objects, and of these this package has none."""
    rebuilding = environment._rebuild_env

    def rebuild(module: str, constants: Any, name: str) -> Any:
        if module in sys.modules or not module.startswith("numba."):
            return rebuilding(module, constants, name)
        found = environment.lookup_environment(name)
        if found is None:
            found = environment.Environment._memo[name] = environment.Environment({"__name__": module})
            found.consts[:] = constants
            found.env_name = name
        return found

    environment._rebuild_env = rebuild
    try:
        yield
    finally:
        environment._rebuild_env = rebuilding


def _load_without_compiler() -> None:
    """Have Numba load stored kernels of this package without what only a compilation needs.

    Before it looks into its cache it registers all that it can compile, which imports a good part of SciPy, and has installed
    packages, such as awkward, register what they bring: half a second of each process, where loading takes a tenth. Machine code
    needs none of that. A kernel that is not stored is compiled as before: the compiler registers what it needs by itself. A Numba
    whose parts have other names loads as it does for all.
    """
    try:
        from numba.core import dispatcher
        from numba.core.runtime import rtsys

        kind: Any = dispatcher._DispatcherBase
        registering, extending = Cache.load_overload, kind._compilation_chain_init_hook
        _ = Cache._load_overload, Cache._guard_against_spurious_io_errors
        _ = environment._rebuild_env, environment.Environment._memo
    except (ImportError, AttributeError):
        return

    def load_overload(self: Any, signature: Any, target: Any) -> Any:
        if not _is_ours(self):
            return registering(self, signature, target)
        rtsys.initialize(target)
        with _modules_left_out(), self._guard_against_spurious_io_errors():
            return self._load_overload(signature, target)

    def extend(self: Any) -> None:
        # Kernels of this package take arrays and numbers, no type of an extension.
        if not _is_ours(self._cache):
            extending(self)

    Cache.load_overload = load_overload
    kind._compilation_chain_init_hook = extend


_load_without_compiler()


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
