"""What the folder of a tuning holds, for those that show or apply it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..pipeline.run.artifacts import read_json
from ..storage.store import shown
from .verdict import ADOPT, NATURAL

PARTS = ("tune", "fit", "choice", "verdict")


@dataclass(frozen=True)
class StoredTuning:
    """The JSON files of a tuning; those that it has not come to are None."""

    folder: Path
    tune: dict[str, Any]
    fit: dict[str, Any] | None
    choice: dict[str, Any] | None
    verdict: dict[str, Any] | None

    def as_json(self) -> dict[str, Any]:
        """All of it, by the name of the file."""
        return {name: getattr(self, name) for name in PARTS}

    def validated(self, force: bool = False) -> dict[str, float]:
        """Pool -> share of the trained tokens, as the verdict advises.

        Args:
            force: the chosen weights, whatever the verdict.

        Raises:
            ValueError: the verdict is to keep the recipe, or there is none yet.
        """
        if self.choice is None or (self.verdict is None and not force):
            raise ValueError(f"{shown(self.folder)} has no verdict yet; run `fox1 tune` again until it ends")
        said = self.verdict["verdict"] if self.verdict else ""
        if not force and said not in (ADOPT, NATURAL):
            line = self.verdict["line"] if self.verdict else ""
            raise ValueError(f"{line}. Nothing is written; add --force to take the chosen weights all the same")
        shares = self.choice["natural" if said == NATURAL and not force else "weights"]
        return dict(zip(self.choice["pools"], shares, strict=True))


def open_tuning(folder: Path) -> StoredTuning:
    """The files of a tuning.

    Raises:
        ValueError: there is none, or a file is damaged.
    """
    if not (folder / "tune.json").exists():
        raise ValueError(f"{shown(folder)} holds no tuning; `fox1 tune RUN --out {shown(folder)}` makes one")
    found: Mapping[str, dict[str, Any] | None] = {
        name: read_json(path) if (path := folder / f"{name}.json").exists() else None for name in PARTS
    }
    tune = found["tune"]
    assert tune is not None
    return StoredTuning(folder, tune, found["fit"], found["choice"], found["verdict"])
