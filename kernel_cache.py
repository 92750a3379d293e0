"""Where Numba keeps a compiled kernel: by the contents of its file, not by its place.

Ray unpacks the package of every job into a new folder. Numba by itself would look for the kernels of that folder, and each
node would compile them again for each job; so equal files share one entry, whatever unpacked them, and what an image or
`make install` compiled serves jobs as well. `fox1/__init__.py` names this class to Numba.
"""

from __future__ import annotations

import functools
import hashlib
import os
from pathlib import Path
from typing import Any

from numba.core import config
from numba.core.caching import UserProvidedCacheLocator

ROOT = Path(__file__).resolve().parent


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
    """The name of a module, and the hash of its file; each kernel of the file asks for it."""
    content = hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return ".".join(path.relative_to(ROOT).with_suffix("").parts) + f"-{content}"
