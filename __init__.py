"""fox1: Ray-distributed data curation and curriculum pre-training for the Fox-1 language model.

Importing the package costs nothing but two environment variables: where Numba keeps compiled kernels, and that it finds
them by the contents of a file. They must be set before Numba is first imported, in the driver and in every worker, so
they are set here. The folder belongs to the machine, not to the package (which may be read-only) and not to a run (a new
run must not compile again).
"""

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .api import Run as Run
    from .api import curate as curate
    from .api import load_phase as load_phase
    from .api import open_run as open_run

__version__ = "0.1.0"
__all__ = ["Run", "curate", "load_phase", "open_run"]


def _kernel_cache() -> str:
    """A writable folder for compiled kernels, versioned so that two installations never share an entry."""
    version = f"kernels-{__version__}-py{sys.version_info.major}{sys.version_info.minor}"
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    if not os.access(next((p for p in (base, *base.parents) if p.exists()), base), os.W_OK):
        base = Path(tempfile.gettempdir()) / f"fox1-{os.getuid()}"
    return str(base / "fox1" / version)


os.environ.setdefault("NUMBA_CACHE_DIR", _kernel_cache())
os.environ.setdefault(
    "NUMBA_CACHE_LOCATOR_CLASSES",
    "fox1.kernel_cache.ByContent,UserProvidedCacheLocator,InTreeCacheLocator,UserWideCacheLocator,IPythonCacheLocator",
)


def __getattr__(name: str) -> Any:
    """What `api.py` has is imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    from . import api

    return getattr(api, name)


def __dir__() -> list[str]:
    """The public API, before and after it is imported."""
    return sorted([*__all__, "__version__"])
