"""What training needs: torch, numpy and pyarrow."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

TRAINER = Path(__file__).parents[2] / "trainer"
OTHERS = """ray msgspec numba pydantic typer rich yaml xxhash sentencepiece datasets fsspec jinja2 transformers s3fs gigatoken
matplotlib lm_eval safetensors wandb requests""".split()
"""Packages that fox1 uses elsewhere, or that only some commands need."""


def test_training_needs_torch_numpy_and_pyarrow_alone() -> None:
    """The trainer and all its rooms but the one that evaluates."""
    script = f"""
import importlib, pkgutil, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {OTHERS!r}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import fox1.trainer.train
import fox1.trainer as trainer
names = [m.name for m in pkgutil.walk_packages(trainer.__path__, "fox1.trainer.")]
for name in names:
    if not name.startswith("fox1.trainer.evaluate."):
        importlib.import_module(name)
print(*sorted({{n.split(".")[2] for n in names}}))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert not done.returncode, done.stderr
    rooms = {p.name for p in TRAINER.iterdir() if (p / "__init__.py").exists()}
    assert rooms <= set(done.stdout.split()) and {"train", "loop"} <= set(done.stdout.split())


def test_no_module_of_the_trainer_asks_for_what_is_above_it() -> None:
    """Neither when it is imported nor within a function."""
    above = {"commands", "cluster", "recipes", "pipeline", "tune", "pydantic", "rich", "typer", "yaml"}
    for path in sorted(TRAINER.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or "", *(alias.name for alias in node.names if not node.module)]
            assert not above & {name.split(".")[0] for name in names}, f"{path}:{getattr(node, 'lineno', 0)}"
