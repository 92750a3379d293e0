"""Large tables that take a second to make, made once for a machine: arrays beside the compiled kernels.

Every process that scans maps the same pages, in place of that work and a copy of its own.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import xxhash
from numba.core import config

Arrays = dict[str, np.ndarray]
_HASHES = "hashes.json"


def unpacked(name: str, make: Callable[[], Mapping[str, np.ndarray]], source: str = "") -> Arrays:
    """The arrays that `make` gives, read-only: from the folder `name` of the kernel cache where they are there and whole.

    Args:
        name: names all that the arrays depend on, such as the version of a package.
        source: the file whose code they depend on as well.
    """
    if source:
        name += f"-{xxhash.xxh3_64_hexdigest(Path(source).read_bytes())}"
    # Where Numba was imported before fox1, it has no folder.
    folder = Path(config.CACHE_DIR or os.environ["NUMBA_CACHE_DIR"]) / name
    with suppress(OSError, ValueError, KeyError, AttributeError):
        return _read(folder)
    arrays = {key: np.ascontiguousarray(value) for key, value in make().items()}
    with suppress(OSError):  # a full or read-only disk: every process makes its own
        _write(folder, arrays)
    for array in arrays.values():
        array.setflags(write=False)
    return arrays


def _hash(array: np.ndarray) -> str:
    return f"{array.dtype.str} {list(array.shape)} {xxhash.xxh3_128_hexdigest(np.ascontiguousarray(array).data)}"


def _read(folder: Path) -> Arrays:
    arrays = {}
    for key, expected in json.loads((folder / _HASHES).read_bytes()).items():
        array = np.asarray(np.load(folder / f"{key}.npy", mmap_mode="r", allow_pickle=False))
        if _hash(array) != expected:
            raise ValueError(f"{folder / key}.npy is damaged")
        arrays[key] = array
    return arrays


def _write(folder: Path, arrays: Arrays) -> None:
    """Write a folder under another name and rename it; of several processes the first to finish wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        for key, array in arrays.items():
            np.save(made / f"{key}.npy", array, allow_pickle=False)
        (made / _HASHES).write_text(json.dumps({key: _hash(array) for key, array in arrays.items()}))
        with suppress(OSError):
            os.rename(made, folder)
            return
        # There is one that could not be read.
        shutil.rmtree(folder, ignore_errors=True)
        os.rename(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
