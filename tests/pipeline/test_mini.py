"""The real recipe, in small, on real text: runs where such a copy of the corpora lies beside the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from fox1.tokenize.shards import read_set

DATA = Path(__file__).parents[3] / "shared" / "data" / "corpora"

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not DATA.is_dir(), reason="no copy of the corpora here")]


@pytest.fixture(scope="module")
def mini(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mini") / "run"
    command = [sys.executable, "-m", "fox1", "curate", "mini", "--out", str(out)]
    done = subprocess.run(
        command, env={**os.environ, "FOX1_DATA": str(DATA)}, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr
    return out


def test_phases_have_the_published_shares(mini: Path) -> None:
    tokens = [p["tokens"] for p in json.loads((mini / "stats" / "mixture.json").read_text())["phases"]]
    shares = [100 * t / sum(tokens) for t in tokens]
    assert shares == pytest.approx([39.0, 58.7, 2.3], abs=1.0)


def test_phases_open_with_datasets_and_pyarrow_in_their_block_lengths(mini: Path) -> None:
    import datasets

    for name, lengths in {"phase1": [2048], "phase2": [4096, 8192], "phase3": [4096, 8192]}.items():
        opened = datasets.load_from_disk(str(mini / "phases" / name))
        assert [int(k) for k in opened] == lengths
        for split in read_set(mini / "phases" / name).splits:
            assert opened[str(split.block_length)].num_rows == split.blocks
            with pa.memory_map(str(mini / "phases" / name / str(split.block_length) / split.files[0])) as source:
                first = next(iter(pa.ipc.open_stream(source)))
                assert first.column("input_ids").type.list_size == split.block_length


def test_padding_of_large_sets_is_below_half_a_percent(mini: Path) -> None:
    for phase in json.loads((mini / "stats" / "mixture.json").read_text())["phases"]:
        for part in phase["sets"]:
            if part["blocks"] >= 1000:
                assert part["padding"] < 0.005 * part["blocks"] * part["block_length"]


def test_every_document_is_accounted_for(mini: Path) -> None:
    corpora = json.loads((mini / "stats" / "funnel.json").read_text())["corpora"]
    assert sum(c["rows"] for c in corpora) == 40_319
    for c in corpora:
        assert c["rows"] == c["kept"] + sum(c["dropped"].values()) + c["quarantined"]
