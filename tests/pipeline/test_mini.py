"""The real recipe, in small, on real text: runs where FOX1_TEST_DATA names a folder with such text."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.tokenize.shards import read_set

from tests.conftest import REAL, MakeOnce, needs_real_text

DATA = REAL / "corpora"

pytestmark = [pytest.mark.slow, needs_real_text]


@pytest.fixture(scope="module")
def mini(make_once: MakeOnce) -> Path:
    """A finished run of it, made by a pool of workers."""

    def curate(folder: Path) -> None:
        command = [sys.executable, "-m", "fox1", "curate", "mini", "--out", str(folder / "run")]
        environment = {**os.environ, "FOX1_DATA": str(DATA)}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
        assert done.returncode == 0, done.stderr

    return make_once("mini", curate) / "run"


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


MMLU_ROWS_COUNT_THEIR_HEADER = 1
FILES = {
    "gsm8k/test": ("gsm8k", "test.jsonl"),
    "winogrande/dev": ("winogrande", "dev.jsonl"),
    "hellaswag/val": ("hellaswag", "hellaswag_val.from_text.jsonl"),
    "truthfulqa": ("truthfulqa", "TruthfulQA.csv"),
    "arc/ARC-Challenge-Test": ("arc", "ARC-Challenge-Test.jsonl"),
}


def planted(mini: Path) -> list[tuple[str, str, str, bool]]:
    """(benchmark, how it was planted, what covers it, found) of every item planted in the corpora."""
    items = pq.read_table(mini / "prepare" / "benchmarks.parquet").to_pylist()
    at = {(i["benchmark"], i["file"], i["native_id"] or i["row"]): k for k, i in enumerate(items)}
    held: dict[str, dict[int, list[int]]] = {}
    rows = []
    for line in (REAL / "truth.jsonl").read_text().splitlines():
        truth = json.loads(line)
        for plant in truth.get("contaminated", []):
            if truth["file"] not in held:
                table = pq.read_table(
                    mini / "signals" / f"{truth['file']}.parquet", columns=["row", "contamination_items"]
                )
                held[truth["file"]] = dict(
                    zip(table["row"].to_pylist(), table["contamination_items"].to_pylist(), strict=True)
                )
            name = plant["set"]
            benchmark, file = FILES.get(name) or ("mmlu", f"{name.split('/')[-1]}.csv")
            key = plant["id"] - MMLU_ROWS_COUNT_THEIR_HEADER if benchmark == "mmlu" else plant["id"]
            if key != -1:  # the header of a file, planted for an item
                item = at[benchmark, file, key]
                found = item in held[truth["file"]][truth["row"]]
                rows.append((benchmark, plant["how"], items[item]["covered_by"], found))
    return rows


def test_every_verbatim_benchmark_item_is_found_unless_it_is_listed_as_too_short(mini: Path) -> None:
    rows = planted(mini)
    verbatim = [r for r in rows if r[1] == "verbatim"]
    assert {r[0] for r in verbatim} == {"arc", "gsm8k", "hellaswag", "mmlu", "truthfulqa", "winogrande"}
    # A short question planted alone, or with a short answer, where it is another answer that covers the item.
    missed = [r for r in verbatim if r[2] and not r[3]]
    assert {r[0] for r in missed} <= {"truthfulqa"} and len(missed) <= 4
    for how in sorted({r[1] for r in rows}):
        mine = [r for r in rows if r[1] == how]
        covered = [r for r in mine if r[2]]
        print(f"{how}: {sum(r[3] for r in mine)} of {len(mine)} found, {len(mine) - len(covered)} too short to match")
    # A short question planted without its answer or choices cannot be told; all others are.
    assert all(r[3] for r in rows if r[2] == "question")


def test_hardly_a_clean_document_is_called_contaminated(mini: Path) -> None:
    marked = {(t["file"], t["row"]) for t in map(json.loads, (REAL / "truth.jsonl").open()) if "contaminated" in t}
    clean = hit = 0
    for path in (mini / "signals").rglob("*.parquet"):
        table = pq.read_table(path, columns=["row", "contaminated"])
        name = path.relative_to(mini / "signals").as_posix().removesuffix(".parquet")
        for row, n in zip(table["row"].to_pylist(), table["contaminated"].to_pylist(), strict=True):
            if (name, row) not in marked:
                clean, hit = clean + 1, hit + (n > 0)
    print(f"{hit} of {clean:,} other documents share 13 words with an item: {100 * hit / clean:.3f} %")
    assert hit / clean < 0.001


def test_items_with_other_case_and_punctuation_are_found() -> None:
    """Every covered item of the six benchmarks, shouted and with its words parted by other marks; numbers stay whole."""
    from fox1.pipeline.prepare.benchmarks import read_items
    from fox1.pipeline.prepare.contamination import build
    from fox1.pipeline.signals.contamination import find_hits
    from fox1.pipeline.signals.segment import segment
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import curate_settings
    from fox1.tokenize.spans import text_buffers

    recipe, _ = load_recipe("mini", [], {"FOX1_DATA": str(DATA), "FOX1_TOKENIZER": ""})
    contamination = curate_settings(recipe).contamination
    items = [item for b in contamination.benchmarks for item in read_items(b)]
    index, table = build(items, contamination)
    covered = [i for i, how in enumerate(table.column("covered_by").to_pylist()) if how == "question"]
    longest = [max(items[i].questions, key=len) for i in covered]
    disguised = [
        "Before it. " + re.sub(r"(?<!\d)[^\w]+|[^\w]+(?!\d)", " -- ", q).swapcase() + " !! After it." for q in longest
    ]
    hits = find_hits(segment(*text_buffers(pa.array(disguised, pa.large_string()))), index)
    found = set(zip(hits.document.tolist(), hits.item.tolist(), strict=True))
    missed = [items[i].questions[0] for d, i in enumerate(covered) if (d, i) not in found]
    print(f"{len(covered) - len(missed):,} of {len(covered):,} found")
    assert len(missed) < 0.001 * len(covered), missed[:3]
