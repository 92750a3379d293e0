"""Compiled kernels are found again where nothing that they are compiled from has changed, and nowhere else."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from fox1 import kernel_cache

FILES = {
    "caller.py": "from numba import njit\nfrom .below.called import (\n    add,\n)\nfrom . import limits\n"
    "from .plain import read\n",
    "below/called.py": "from numba import njit\nfrom ..deeper import step\n",
    "deeper.py": "from numba import njit\nSTEP = 1\n",
    "limits.py": "MOST = 3\n",
    "plain.py": "from .far import name\n",
    "far.py": "name = 1\n",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(kernel_cache, "ROOT", tmp_path)
    return tmp_path


def key(package: Path) -> str:
    kernel_cache._name.cache_clear()
    kernel_cache._read.cache_clear()
    return kernel_cache._name(package / "caller.py")


@pytest.mark.parametrize("changed", ["caller.py", "below/called.py", "deeper.py", "limits.py", "plain.py"])
def test_a_change_of_what_a_kernel_is_compiled_from_compiles_it_again(package: Path, changed: str) -> None:
    before = key(package)
    assert before.startswith("caller-") and key(package) == before
    (package / changed).write_text(FILES[changed] + "# changed\n")
    assert key(package) != before


def test_a_change_elsewhere_compiles_nothing(package: Path) -> None:
    before = key(package)
    (package / "far.py").write_text("name = 2\n")
    (package / "other.py").write_text("from numba import njit\n")
    assert key(package) == before


def test_constants_of_kernels_are_where_the_cache_looks_for_them() -> None:
    """A file without kernels that hands on a constant of a third one would hide a change of it."""
    root = Path(kernel_cache.__file__).parent
    for path in root.glob("[!.t]*/**/*.py"):
        if "njit" not in (source := path.read_text()) or "benchmarks" in path.parts:
            continue
        used = {
            node.id
            for function in ast.walk(ast.parse(source))
            if isinstance(function, ast.FunctionDef) and "njit" in ast.dump(ast.List(function.decorator_list))
            for node in ast.walk(function)
            if isinstance(node, ast.Name)
        }
        for file in kernel_cache._read(path).imports:
            if kernel_cache._read(file).has_kernels:
                continue
            handed_on = {
                alias.asname or alias.name
                for node in ast.parse(file.read_text()).body
                if isinstance(node, ast.ImportFrom) and node.level
                for alias in node.names
            }
            taken = {
                alias.name
                for node in ast.parse(source).body
                if isinstance(node, ast.ImportFrom) and node.level and (node.module or "").endswith(file.stem)
                for alias in node.names
            }
            assert not handed_on & taken & used, f"{path} takes a constant from {file}, which has it from elsewhere"


LOADING = """
import sys
import numpy as np
from fox1.pipeline.signals.hashing import mix_array
mixed = mix_array(np.arange(3, dtype=np.uint64), 1)
print(int(mixed[2]), sorted({"scipy.linalg", "awkward", "numba.np.arraymath"} & {*sys.modules}))
from numba import njit
print(njit(lambda a: np.dot(a, a))(np.ones((2, 2)))[0, 0], "scipy.linalg" in sys.modules)
print(int(njit(lambda a: mix_array(a, 1)[2])(np.arange(3, dtype=np.uint64))))
"""


def test_a_stored_kernel_is_loaded_without_what_only_compiling_needs() -> None:
    """The first process may compile it; kernels of others, which may call these, are compiled as ever."""
    for _ in range(2):
        done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, check=True)
    number, *found = done.stdout.splitlines()[0].split(" ", 1)
    assert found == ["[]"]
    assert done.stdout.splitlines()[1:] == ["2.0 True", number]
