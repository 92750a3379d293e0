"""What is kept out of the processes of the command line is there as soon as somebody asks for it."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import ROOT

CODE = """
import sys
from fox1.commands.compile_kernels import preload
preload()
print(sorted({"pandas", "scipy", "torch", "ray", "datasets"} & {*sys.modules}))
import numpy as np, pyarrow as pa
from numba import njit
print(pa.table({"a": [1, 2]}).to_pandas()["a"].sum(), pa.array(__import__("pandas").Series([3])).to_pylist())
print(njit(lambda a: np.dot(a, a))(np.ones((2, 2)))[0, 0])
"""


def test_workers_begin_without_what_nobody_needs_and_have_it_when_asked() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == ["[]", "3 [3]", "2.0"]


def test_a_command_that_reads_a_recipe_begins_without_what_only_others_need() -> None:
    code = (
        "import sys, fox1.commands.curation, fox1.api, fox1.pipeline.curate, fox1.recipes.load\n"
        "print(sorted({'pandas', 'torch', 'ray', 'datasets', 'sklearn', 'duckdb', 'datatrove'} & {*sys.modules}))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.split() == ["[]"]
