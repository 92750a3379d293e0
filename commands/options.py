"""Options and arguments that several commands have."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from ..storage.store import open_root, shown


@dataclass(frozen=True)
class Place:
    """Marks a text that names a folder, file or URL, as a `Path` does by its type: in a job it must not be relative."""

    words: tuple[str, ...] = ()
    """What may stand instead, e.g. `auto`."""


@dataclass(frozen=True)
class Recipe:
    """Marks a text that names a recipe: a job gets it resolved. With a `Place`, the text may name a run instead."""


Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. phases.phase1.tokens=1B.")
]
RayAddress = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Of a running Ray cluster; default: local.")]
Workers = Annotated[int | None, typer.Option(help="Local worker processes; default: one per core.")]
OneProcess = Annotated[bool, typer.Option("--in-process", help="One process, without Ray.")]
Dashboard = Annotated[str, typer.Option(help="Of the cluster's dashboard.", envvar="FOX1_DASHBOARD")]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", parser=open_root, help="Folder that `fox1 curate` wrote, or its URL.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C leaves with 130 and says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        raise typer.Exit(130) from None


def warn_unfinished(run: Path) -> None:
    """Tell of a run whose last `curate` did not come to its end: what lies there may be of an earlier recipe."""
    from ..pipeline.run.artifacts import RunPaths, is_finished, read_json

    paths = RunPaths(run)
    if paths.manifest.exists() and not is_finished(read_json(paths.manifest)):
        print(
            f"warning: the last `fox1 curate` of {shown(run)} did not come to its end: stages after it are of an earlier "
            "one, or missing; run it again",
            file=sys.stderr,
        )
