"""Golden hashes: the bytes of every stage may change only together with the stage's version.

After a deliberate change: raise the stage's VERSION and record the new hashes with FOX1_RECORD_GOLDEN=1.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fox1.pipeline import mix
from fox1.pipeline.dedupe import stage as dedupe
from fox1.pipeline.filter import stage as filter
from fox1.pipeline.prepare import stage as prepare
from fox1.pipeline.signals import stage as scan
from fox1.pipeline.tokens import stage as tokenize

from tests.faults.promises import hashes

GOLDEN = Path(__file__).parent / "golden.json"
STAGES = {
    "prepare": (prepare.VERSION, ("prepare",)),
    "scan": (scan.VERSION, ("signals", "signatures")),
    "filter": (filter.VERSION, ("filtered",)),
    "dedupe": (dedupe.VERSION, ("decisions",)),
    "tokenize": (tokenize.VERSION, ("tokens",)),
    "mix": (mix.VERSION, ("phases", "held_out", "index")),
}

WORDS = (
    "the of and to in a is that it was for on with as be have by this from at or an are not but which one "
    "we all has there been if more when can time new some could them other than then now only its over "
    "also after use two how our work first well way even want because any these give day most us great "
    "élan façade naïve Zürich 12 345 6.7 x_y"
).split()


def write_corpora(root: Path) -> None:
    """Five small corpora that depend on nothing but this file."""
    rng = random.Random(20241111)
    documents = []
    for _ in range(400):
        words = [rng.choice(WORDS) for _ in range(rng.randrange(30, 400))]
        lines = [" ".join(words[i : i + 12]) + "." for i in range(0, len(words), 12)]
        documents.append("\n".join(lines))
    kinds = {
        "redpajama": (("c4", 160), ("github", 100), ("arxiv", 40), ("wikipedia", 40), ("stackexchange", 40)),
        "slimpajama": (("RedPajamaC4", 120), ("RedPajamaGithub", 60)),
        "dolma": (("cc_en_head", 120), ("open-web-math", 50), ("books", 50)),
        "pile": (("Pile-CC", 100), ("FreeLaw", 50), ("Ubuntu IRC", 30), ("Books3", 5)),
        "refinedweb": (("train", 80),),
    }
    rows: dict[str, list[tuple[str, str]]] = {}
    for corpus, subsets in kinds.items():
        rows[corpus] = [(rng.choice(documents), subset) for subset, n in subsets for _ in range(n)]
    for part in (
        "redpajama/mixed",
        "slimpajama/train",
        "slimpajama/validation",
        "dolma",
        "pile/train",
        "refinedweb/data",
    ):
        (root / part).mkdir(parents=True)

    def write(path: str, corpus: str, make: Callable[[str, str], dict[str, Any]], chosen: slice) -> None:
        data = "".join(json.dumps(make(t, s)) + "\n" for t, s in rows[corpus][chosen]).encode()
        (root / path).write_bytes(gzip.compress(data, mtime=0) if path.endswith("gz") else data)

    write(
        "redpajama/mixed/a.jsonl",
        "redpajama",
        lambda t, s: {"text": t, "meta": {}, "red_pajama_subset": s},
        slice(None),
    )
    slim = lambda t, s: {"text": t, "meta": {"redpajama_set_name": s}}  # noqa: E731
    write("slimpajama/train/a.jsonl", "slimpajama", slim, slice(10, None))
    write("slimpajama/validation/a.jsonl", "slimpajama", slim, slice(0, 10))
    write("dolma/a.json.gz", "dolma", lambda t, s: {"id": "1", "text": t, "source": s}, slice(None))
    write("pile/train/a.jsonl", "pile", lambda t, s: {"text": t, "meta": {"pile_set_name": s}}, slice(None))
    table = pa.table({"content": [t for t, _ in rows["refinedweb"]], "url": [f"http://x/{i}" for i in range(80)]})
    pq.write_table(table, root / "refinedweb" / "data" / "a.parquet")
    item = {"question": " ".join(documents[7].split()[:20]), "answer": "12"}
    (root / "benchmarks.jsonl").write_text(json.dumps(item) + "\n")


OVERRIDES = (
    "sources.slimpajama.files=['train/*.jsonl']",
    "sources.pile.files=['train/*.jsonl']",
    "held_out={slimpajama: {files: ['validation/*']}}",
    "tokenizer.vocab_size=420",
    "quality.web={good: [dolma/cc_en_head], ordinary: [redpajama/c4]}",
)


@pytest.fixture(scope="module")
def golden_run(
    tmp_path_factory: pytest.TempPathFactory, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> Path:
    root = tmp_path_factory.mktemp("golden")
    write_corpora(root / "data")
    # Only the tokens of phase 3 are more than the small corpora hold once.
    curate(settings_of(*OVERRIDES, data=root / "data"), root / "run")
    return root / "run"


def digest(run: Path, parts: tuple[str, ...]) -> str:
    found = {**hashes(run)}
    for path in sorted((run / "filtered").rglob("*.parquet")):
        found[str(path.relative_to(run))] = hashlib.sha256(path.read_bytes()).hexdigest()
    lines = [f"{name} {value}" for name, value in sorted(found.items()) if name.split("/")[0] in parts]
    assert lines
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


@pytest.mark.parametrize("stage", STAGES)
def test_bytes_change_only_with_the_version_of_their_stage(golden_run: Path, stage: str) -> None:
    version, parts = STAGES[stage]
    recorded = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
    found = {"version": version, "hash": digest(golden_run, parts)}
    if os.environ.get("FOX1_RECORD_GOLDEN"):
        GOLDEN.write_text(json.dumps({**recorded, stage: found}, indent=1, sort_keys=True) + "\n")
        return
    assert stage in recorded, "record it with FOX1_RECORD_GOLDEN=1"
    assert found == recorded[stage], f"the bytes of {stage} changed: raise its VERSION and record the new hash"
