"""What libraries import on their way and nothing here needs, kept out of the processes of fox1: half of the time until a command
has begun.

Only processes of the command line call these, never one that imported fox1 as a library.
"""

from __future__ import annotations

import sys
import types
import warnings
from importlib.util import find_spec


def leave_out_pandas() -> None:
    """pyarrow looks for pandas when it makes its first array of a Python value; it comes back to it when something is to become
    a data frame."""
    if "pandas" in sys.modules:
        return
    import pyarrow

    old = types.ModuleType("pandas")
    # Too old for pyarrow, which goes on without it.
    old.__version__ = "0.0.0"  # type: ignore[attr-defined]
    sys.modules["pandas"] = old
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            pyarrow.array([0])
    finally:
        del sys.modules["pandas"]


def leave_out_scipy() -> None:
    """Numba looks whether SciPy brings it a BLAS before it loads its first kernel; it comes back to it when a kernel calls one."""
    if "scipy" in sys.modules or not find_spec("scipy"):
        return
    sys.modules["scipy"] = None  # type: ignore[assignment]
    try:
        from numba.np import arraymath
    finally:
        del sys.modules["scipy"]
    arraymath._HAVE_BLAS = True
