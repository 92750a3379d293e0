"""Random faults, each time others: what `python -m tests.faults.chaos` does for an hour, for some seconds."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

pytestmark = pytest.mark.slow


def chaos(run: Path, corpora: Path, *options: str) -> dict[str, Any]:
    """Episodes on a copy of the session's run; the result, where no byte was lost and every failure was one clear line."""
    seed = random.randrange(1 << 32)
    command = [sys.executable, "-m", "tests.faults.chaos", f"--seed={seed}", f"--corpora={corpora}", f"--run={run}"]
    done = subprocess.run([*command, "--here", *options], cwd=ROOT, capture_output=True, text=True, timeout=280)
    # The draws, with the seed and what became of them.
    print(done.stdout)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


@pytest.mark.long
def test_random_faults_cost_no_byte(run: Path, corpora: Path) -> None:
    result = chaos(run, corpora, "--only=curate,train", "--faults=6", "--seconds=10")
    assert result["faults"] >= 1 and result["lost"] == result["bytes_lost"] == 0


@pytest.mark.long
def test_random_faults_to_a_ray_session_cost_no_byte(run: Path, corpora: Path) -> None:
    result = chaos(run, corpora, "--only=ray", "--faults=1", "--calls=1", "--seconds=30")
    assert result["faults"] >= 1 and result["lost"] == result["bytes_lost"] == 0
