"""The package's own files, as they travel with a job."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
_NOT_STAGED = {"tests", "benchmarks", "docs", "build", "dist", "__pycache__"}


def stage_package(destination: Path, root: Path = ROOT) -> Path:
    """Copies the files of the package at `root` to `destination`/fox1 (returned), modification times kept.

    An installed wheel is copied by its RECORD; a checkout or editable install by its tree, without tests, benchmarks,
    documents and whatever else lies beside the code.
    """
    staged = destination / "fox1"
    for file in _recorded_files(root) or _tree_files(root):
        target = staged / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(root / file, target)
    return staged


def _recorded_files(root: Path) -> list[Path]:
    """The package's files, relative to `root`, by the wheel that put them there; empty if no wheel did."""
    try:
        distribution = importlib.metadata.distribution("fox1")
    except importlib.metadata.PackageNotFoundError:
        return []
    inside = [file for file in distribution.files or [] if file.parts[0] == "fox1" and "__pycache__" not in file.parts]
    # An editable install records no file of the package, and a wheel may be installed beside the checkout in use.
    if not any(Path(str(distribution.locate_file(file))).resolve() == root / "__init__.py" for file in inside):
        return []
    return [Path(*file.parts[1:]) for file in inside]


def _tree_files(root: Path) -> list[Path]:
    """The package's files in a checkout, relative to `root`: what the wheel built from it would hold."""
    project = root / "pyproject.toml"
    # What travelled with a job has none; there, every file belongs to the package.
    tool = tomllib.loads(project.read_text(encoding="utf-8"))["tool"] if project.exists() else {}
    declared = tool.get("setuptools", {}).get("package-data", {})
    places = {root.joinpath(*package.split(".")[1:]): patterns for package, patterns in declared.items()}
    data = {file for place, patterns in places.items() for pattern in patterns for file in place.glob(pattern)}
    files: list[Path] = []
    for folder, folders, names in os.walk(root):
        here = Path(folder)
        # `tokenize` has no __init__.py on purpose, so a folder counts by its files, not by its __init__.py.
        folders[:] = [
            name
            for name in sorted(folders)
            if name not in _NOT_STAGED and not name.startswith(".") and not (here / name / "pyvenv.cfg").exists()
        ]
        files += [
            (here / name).relative_to(root)
            for name in sorted(names)
            if not name.startswith(".") and (not tool or name.endswith(".py") or here / name in data)
        ]
    return files
