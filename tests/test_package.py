"""The package as a package: names, wheel, and a checkout under any folder name."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PARTS = ("commands", "pipeline", "recipes", "tokenize", "trainer")


def package_files() -> set[str]:
    """Files of the tree that belong into the wheel."""
    found = {p.name for p in ROOT.glob("*.py")} | {"ray_cluster.yaml", "py.typed"}
    for part in PARTS:
        for path in (ROOT / part).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix != ".pyc":
                found.add(path.relative_to(ROOT).as_posix())
    return found


def copy_of_the_tree(target: Path) -> Path:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split("\n")
    names = [n for n in listed if n] or sorted(package_files())
    for name in names:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def test_the_root_does_not_shadow_the_standard_librarys_tokenize() -> None:
    assert not (ROOT / "tokenize" / "__init__.py").exists()
    subprocess.run([sys.executable, "-c", "import tokenize; tokenize.open"], cwd=ROOT, check=True)


def test_help_answers_in_under_a_second() -> None:
    command = [sys.executable, "-m", "fox1", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    seconds = []
    for _ in range(3):
        began = time.monotonic()
        subprocess.run(command, check=True, capture_output=True)
        seconds.append(time.monotonic() - began)
    assert min(seconds) < 1.0


@pytest.mark.slow
def test_a_wheel_holds_the_package_and_works_with_its_recipes(tmp_path: Path) -> None:
    tree = copy_of_the_tree(tmp_path / "tree")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(tree)]
    subprocess.run(build, check=True, capture_output=True)
    wheel = next(tmp_path.glob("fox1-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        packed = {n.removeprefix("fox1/") for n in archive.namelist() if n.startswith("fox1/")}
        archive.extractall(tmp_path / "site")
    assert packed == package_files()
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "FOX1_DATA": "/nowhere", "FOX1_TOKENIZER": "x"}
    probe = "import fox1; from fox1.recipes.load import load_recipe; print(fox1.__file__, load_recipe('fox1')[0].name)"
    done = subprocess.run(
        [sys.executable, "-c", probe], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path / "site" / "fox1" / "__init__.py"), "fox1"]


@pytest.mark.slow
def test_tests_run_in_a_clone_of_another_name_and_load_the_project_under_its_own(tmp_path: Path) -> None:
    clone = copy_of_the_tree(tmp_path / "some-other-name")
    probe = clone / "tests" / "test_names.py"
    probe.write_text(
        "import sys\nfrom pathlib import Path\nimport fox1.pipeline.filter\n"
        "def test_names():\n"
        "    root = Path(__file__).parents[1]\n"
        "    for name, module in list(sys.modules.items()):\n"
        "        file = getattr(module, '__file__', None)\n"
        "        if file and Path(file).is_relative_to(root) and '.venv' not in file:\n"
        "            assert name.startswith(('tests.', 'fox1')) or name in ('conftest', 'tests'), (name, file)\n"
    )
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "fox1").symlink_to(clone)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    command = [sys.executable, "-m", "pytest", "tests/test_names.py", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=clone, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
