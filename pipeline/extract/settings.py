"""What a step of `before_scan` is in a recipe, and what the key of a task has of it."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Annotated, Any

from ...storage.fields import Arguments, Derived
from ..signals.plugin_files import code_version, import_target, split_target


@dataclass(frozen=True)
class StepSettings:
    """A step of a datatrove pipeline between reader and scan: an extractor, a formatter or a filter."""

    name: Annotated[str, Derived()]
    target: str
    """A class of a step: its dotted path, e.g. datatrove.pipeline.extractors.Trafilatura, or `FILE.py:NAME`, beside the recipe."""
    arguments: Arguments = "{}"
    """Arguments of the class."""
    sources: tuple[str, ...] = ()
    """Corpora whose documents it is given; empty: all."""
    version: Annotated[str, Derived()] = ""
    """What changes when the step's code changes; filled by `with_version` when a run is planned."""

    def identity(self) -> object:
        """What it leaves of a document depends on: the code, by `version`, not the folder that a file of it lies in."""
        by_file = split_target(self.target)
        return [self.name, by_file[1] if by_file else self.target, self.arguments, self.version]

    def serves(self, corpus: str) -> bool:
        """Whether documents of a corpus are given to it."""
        return not self.sources or corpus in self.sources


def with_version(settings: StepSettings) -> StepSettings:
    """The settings with a hash of the code that they name, and the versions of the packages that it says it needs.

    Raises:
        ValueError: it cannot be imported; names the step.
    """
    try:
        version, target = code_version(settings.target), import_target(settings.target, settings.version)
    except (ImportError, ValueError) as error:
        raise ValueError(f"before_scan.{settings.name}: {error}") from None
    return replace(settings, version=" ".join([version, *_needs(target)]))


def _needs(target: Any) -> Iterator[str]:
    """The packages, with their versions, that a step of datatrove declares."""
    declared = [need for cls in getattr(target, "__mro__", ()) for need in vars(cls).get("_requires_dependencies", ())]
    for package in sorted({need if isinstance(need, str) else need[1] for need in declared}):
        with suppress(importlib.metadata.PackageNotFoundError):
            yield f"{package}={importlib.metadata.version(package)}"
