"""What the shell completes after a command's name: recipes of the package and the phases of a run.

A completion answers within a key press and never fails, so it reads one small file and imports nothing of the pipeline.
"""

from __future__ import annotations

from pathlib import Path

import typer

from ..storage.reading import read_json

RECIPES = Path(__file__).parents[1] / "recipes"


def recipe_names(incomplete: str) -> list[str]:
    """Names of the package's recipes; YAML files and folders of the user's."""
    own = [path.stem for path in sorted(RECIPES.glob("*.yaml"))]
    folder, _, begun = incomplete.rpartition("/")
    place = Path(folder or ("/" if incomplete.startswith("/") else "."))
    prefix = incomplete[: len(incomplete) - len(begun)]
    files = []
    try:
        for path in sorted(place.iterdir()):
            if path.is_dir() and not path.name.startswith("."):
                files.append(f"{prefix}{path.name}/")
            elif path.suffix in (".yaml", ".yml"):
                files.append(f"{prefix}{path.name}")
    except OSError:
        pass
    return [name for name in [*own, *files] if name.startswith(incomplete)]


def phase_names(context: typer.Context, incomplete: str) -> list[str]:
    """Names of the phases of the run that stands before on the line."""
    # After an option without its value, as in `--phase <tab>`, arguments are left unparsed.
    run = context.params.get("run") or next(iter(context.args), None)
    try:
        phases = read_json(Path(run) / "stats" / "mixture.json")["phases"] if run else []
        names = [str(phase["name"]) for phase in phases]
        return [name for name in names if name.startswith(incomplete) and name.isprintable()]
    except (OSError, ValueError, KeyError, TypeError):
        return []
