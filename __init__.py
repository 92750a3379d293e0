"""fox1: Ray-distributed data curation and curriculum pre-training for the Fox-1 language model.

Importing the package costs nothing but three environment variables and the folders they name: where Numba keeps compiled
kernels, that it finds them by the contents of a file, and where torch keeps what it compiles. They must be set before Numba
is first imported, in the driver and in every worker, so they are set here. The folders belong to the machine, not to the
package (which may be read-only) and not to a run (a new run must not compile again). What lies in them is loaded as code:
nobody else can write there.
"""

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from .storage.private import cache_folder, why_not_private

if TYPE_CHECKING:
    from .api import Run as Run
    from .api import curate as curate
    from .api import load_phase as load_phase
    from .api import open_run as open_run

__version__ = "0.1.0"
__all__ = ["Run", "curate", "load_phase", "open_run"]


def _kernel_cache() -> str:
    """A private folder for compiled kernels, versioned so that two installations never share an entry."""
    if named := os.environ.get("NUMBA_CACHE_DIR"):
        with suppress(OSError):
            os.makedirs(named, 0o700, exist_ok=True)
        if not why_not_private(os.path.realpath(named)):
            return named
    return cache_folder(f"kernels-{__version__}-py{sys.version_info.major}{sys.version_info.minor}")


os.environ["NUMBA_CACHE_DIR"] = _kernel_cache()
if "TORCHINDUCTOR_CACHE_DIR" not in os.environ:  # its own is below /tmp, by the name of the user
    os.environ["TORCHINDUCTOR_CACHE_DIR"] = cache_folder("inductor")
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
