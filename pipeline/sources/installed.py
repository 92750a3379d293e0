"""Code that a recipe names by a dotted path: of an installed package, never of the folder that a command was started in."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any


def import_installed(target: str) -> Any:
    """The function or class with a dotted path.

    Raises:
        ImportError: its module is not installed, or only the current folder holds it.
        Exception: whatever the module raises while it is imported.
    """
    module, _, attribute = target.rpartition(".")
    _check_installed(module.partition(".")[0])
    return getattr(importlib.import_module(module), attribute)


def _check_installed(package: str) -> None:
    """Refuse a module that is found only because Python searches the folder it was started in.

    Raises:
        ImportError: the current folder holds the module, and neither an installation nor PYTHONPATH names that folder.
    """
    if not package or package in sys.modules:
        return
    spec = importlib.util.find_spec(package)
    places = [*(spec.submodule_search_locations or ()), spec.origin or ""] if spec else []
    here = Path.cwd()
    asked = [Path(p).resolve() for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p]
    if (
        any(place and Path(place).resolve().parent == here for place in places)
        and here not in asked
        and package not in importlib.metadata.packages_distributions()
    ):
        raise ImportError(
            f"{package} is a module of the current folder and not installed; install it, or name a plug-in's file beside the "
            f"recipe, as in {package}.py:NAME"
        )
