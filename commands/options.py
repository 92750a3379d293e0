"""Options and arguments that several commands have."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from ..storage.reading import as_written
from ..storage.store import open_root, shown
from ..storage.wording import say
from .complete import recipe_names
from .interrupt import report

ASK_FOR = "read it with the version that wrote it, or curate it again"
"""What to do with a run that is not of the shape that this version writes."""


@dataclass(frozen=True)
class HoldsPlace:
    """Marks a text that names a folder, file or URL, as a `Path` does by its type: in a job it must not be relative."""

    words: tuple[str, ...] = ()
    """What may stand instead, e.g. `auto`."""


@dataclass(frozen=True)
class HoldsRecipe:
    """Marks a text that names a recipe: a job gets it resolved. With a `HoldsPlace`, the text may name a run instead."""


RecipeName = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A YAML file, or one of the package: fineweb, fox1, mini, sample.",
        autocompletion=recipe_names,
    ),
    HoldsRecipe(),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the recipe, e.g. phases.phase1.tokens=1B; repeatable."
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Run on the Ray cluster at this address."),
]
Workers = Annotated[
    int | None, typer.Option(metavar="N", help="Number of local worker processes (default: one per core).")
]
OneProcess = Annotated[bool, typer.Option("--in-process", help="Run everything in this process alone.")]
LocalRay = Annotated[bool, typer.Option("--ray", help="Run on Ray on this machine, as on a cluster.")]
Dashboard = Annotated[str, typer.Option(metavar="URL", help="URL of the cluster's dashboard.", envvar="FOX1_DASHBOARD")]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", parser=open_root, help="Folder or URL of a run that `fox1 curate` wrote.")
]
ModelFolder = Annotated[
    Path,
    typer.Argument(metavar="CKPT", parser=open_root, help="Folder of a training, or of an exported model."),
]
ComputeType = Annotated[
    str,
    typer.Option(metavar="TYPE", help="Type to compute in: bf16 or fp32 (default: bf16 on a GPU, else fp32)."),
]
PrivateHosts = Annotated[
    bool,
    typer.Option(
        "--allow-private-hosts",
        help="Let URL lists and redirects lead to private, link-local and loopback addresses.",
    ),
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust",
        help="Run the plug-ins and readers that the run's recipe names, and let its lists lead to private addresses.",
    ),
]
Moves = Annotated[
    list[str] | None,
    typer.Option(
        "--data", metavar="OLD=NEW", help="New place of data that moved, e.g. /old/corpora=/new/corpora; repeatable."
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


@contextmanager
def resumable() -> Iterator[None]:
    """Ctrl-C and other signals that end a command (see `interrupt.py`): say how to resume."""
    try:
        yield
    except KeyboardInterrupt:
        report("interrupted; run the same command again to resume")
        raise typer.Exit(130) from None


def say_which(recipe: str) -> None:
    """Say which recipe a name stands for, where the package and the current folder both have something of that name."""
    from ..recipes.load import ambiguity

    if note := ambiguity(recipe):
        say(note, sys.stderr)


def looking(command: Callable[..., None], failure: int = 1) -> Callable[..., None]:
    """A command that looks at a run, which anyone may have made: whatever the run holds, an error is one line.

    Args:
        failure: exit status of an error; 2 where 1 is an answer, as with grep.
    """

    @functools.wraps(command)
    def looked(*args: Any, **options: Any) -> None:
        try:
            with as_written(shown(next(iter(options.values()))), ASK_FOR):
                command(*args, **options)
        except (ValueError, OSError) as error:
            error.exit_status = failure  # type: ignore[union-attr]
            raise

    return looked


def warn_unfinished(run: Path) -> None:
    """Warn of a run whose last `curate` did not finish: some of its files may be those of an earlier recipe."""
    from ..pipeline.run.manifest import is_finished, read_manifest
    from ..pipeline.run.paths import RunPaths

    paths = RunPaths(run)
    if paths.manifest.exists() and not is_finished(read_manifest(paths)):
        say(
            f"warning: the last `fox1 curate` of {shown(run)} did not finish; later stages are missing or out of date. "
            "Run it again.",
            sys.stderr,
        )
