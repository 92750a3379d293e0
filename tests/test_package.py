"""The package as a package: names, wheel, and a checkout under any folder name."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fox1
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PARTS = ("cluster", "commands", "datatrove", "pipeline", "recipes", "storage", "tokenize", "trainer", "tune")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PYTHON_ACTION = ROOT / ".github" / "actions" / "python" / "action.yml"


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


def test_the_root_does_not_shadow_the_installed_datatrove() -> None:
    assert not (ROOT / "datatrove" / "__init__.py").exists()
    subprocess.run([sys.executable, "-c", "import datatrove.data; datatrove.data.Document"], cwd=ROOT, check=True)


def supported_pythons() -> list[str]:
    """The versions that the classifiers name, such as "3.12"."""
    classifiers = PROJECT["project"]["classifiers"]
    return [m[1] for c in classifiers if (m := re.fullmatch(r"Programming Language :: Python :: (\d\.\d+)", c))]


def jobs(workflow: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    yield from yaml.safe_load(workflow.read_text())["jobs"].items()


def commands(job: dict[str, Any]) -> Iterator[str]:
    """What the steps of a job run, once for each value of its matrix."""
    for step in job["steps"]:
        found = [step.get("run", "")]
        for key, values in job.get("strategy", {}).get("matrix", {}).items():
            named = f"${{{{ matrix.{key} }}}}"
            found = [text.replace(named, value) for text in found for value in (values if named in text else [""])]
        yield from found


def test_the_version_is_written_once() -> None:
    assert "version" not in PROJECT["project"] and PROJECT["project"]["dynamic"] == ["version"]
    assert (ROOT / "__init__.py").read_text().count(f'__version__ = "{fox1.__version__}"') == 1


def test_every_package_that_fox1_names_is_pinned() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = {
        canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines) if version
    }
    project = PROJECT["project"]
    named = [*project["dependencies"], *(r for extra in project["optional-dependencies"].values() for r in extra)]
    for requirement in map(Requirement, named):
        pin = pins.get(canonicalize_name(requirement.name))
        assert pin and requirement.specifier.contains(pin), f"constraints.txt pins no version that fits {requirement}"


def test_workflows_call_make_targets_that_exist() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    called = [text for workflow in WORKFLOWS for _, job in jobs(workflow) for text in commands(job)]
    called += [hook["entry"] for hook in hooks]
    made = {name for text in called for name in re.findall(r"\bmake ([\w-]+)", text)}
    assert {"check", "test", "test-long", "fuzz", "chaos"} <= made <= targets


def test_workflows_test_every_python_that_the_package_supports() -> None:
    named = supported_pythons()
    supported = SpecifierSet(PROJECT["project"]["requires-python"])
    oldest = min(named, key=lambda v: int(v.split(".")[1]))
    before = f"3.{int(oldest.split('.')[1]) - 1}"
    assert all(supported.contains(v) for v in named) and not supported.contains(before)
    assert dict(jobs(ROOT / ".github" / "workflows" / "ci.yml"))["test"]["strategy"]["matrix"]["python"] == named
    assert yaml.safe_load(PYTHON_ACTION.read_text())["inputs"]["version"]["default"] == oldest
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{oldest.replace('.', '')}"
    assert PROJECT["tool"]["mypy"]["python_version"] == oldest


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda p: p.stem)
def test_a_workflow_may_only_read_and_pins_what_it_uses(workflow: Path) -> None:
    read = yaml.safe_load(workflow.read_text())
    assert read["permissions"] == {"contents": "read"} and read["concurrency"]["group"]
    for _, job in jobs(workflow):
        assert "permissions" not in job and job["timeout-minutes"] <= 350
        for step in job["steps"]:
            used = step.get("uses", "./")
            assert used.startswith("./") or re.fullmatch(r"actions/[\w-]+@v\d+", used), used


@pytest.mark.parametrize("form", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda p: p.stem)
def test_an_issue_form_has_what_a_form_needs(form: Path) -> None:
    read = yaml.safe_load(form.read_text())
    if form.stem == "config":
        assert read == {"blank_issues_enabled": True}
        return
    assert read["name"] and read["description"]
    questions = [part for part in read["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in questions}) == len(questions) > 0
    assert all(part["attributes"]["label"] for part in questions)


def test_help_takes_little_work() -> None:
    command = [sys.executable, "-m", "fox1", "--help"]
    subprocess.run(command, check=True, capture_output=True)
    seconds = []
    for _ in range(3):
        # Of the processor, not of the clock: other tests run at the same time.
        before = os.times()
        subprocess.run(command, check=True, capture_output=True)
        after = os.times()
        seconds.append(after.children_user + after.children_system - before.children_user - before.children_system)
    assert min(seconds) < 0.6


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
    assert wheel.name.startswith(f"fox1-{fox1.__version__}-")
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
