"""Benchmark items that a training is measured on: whole segments, of which the right option alone counts."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fox1.pipeline.engine.shuffle_file import Levels
from fox1.pipeline.mix.blocks import SetShape
from fox1.pipeline.mix.items import BenchmarkItems, ItemSettings, write_items
from fox1.pipeline.prepare.benchmarks import BenchmarkSettings
from fox1.pipeline.run.artifacts import Artifact
from fox1.recipes.load import load_recipe
from fox1.tokenize.model import load
from fox1.tokenize.shards import block_batches, check_descriptions, read_set
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.conftest import SMALL, MakeOnce, curate_sample

ROWS = [{"question": f"What comes after the number {i} on a ruler?", "answer": f"It is {i + 1}."} for i in range(12)]


def shape(length: int) -> SetShape:
    return SetShape(length, 64, "best_fit", Levels(1), 0, 2, -1, 0, True)


def items_of(folder: Path, rows: list[dict[str, str]], tokenizer: Path, per_benchmark: int = 400) -> BenchmarkItems:
    file = folder / "items.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    benchmark = BenchmarkSettings("own", "question_answer", (str(file),))
    return BenchmarkItems((benchmark,), (), ItemSettings(per_benchmark), Artifact(str(tokenizer), 0, 0, "x"), ())


def options(folder: Path, found: tuple[Artifact, ...], length: int, tokenizer: Path) -> list[tuple[str, str]]:
    """(text before the option, option) of every segment."""
    processor, texts = load(tokenizer), []
    for artifact in found:
        for batch in block_batches(artifact.file, length, True):
            for row in batch.to_pylist():
                spans = np.array(row["loss_spans"]).reshape(-1, 2)
                assert len(spans) == len(row["doc_ends"])
                for begin, end, (first, last) in zip([0, *row["doc_ends"]], row["doc_ends"], spans, strict=False):
                    assert begin < first < last == end
                    parts = row["input_ids"][begin:first], row["input_ids"][first:end]
                    texts.append(tuple(processor.decode([i for i in p if i != 2]) for p in parts))
    return texts


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    drawn=st.lists(st.tuples(st.text("abc xyz?", min_size=1), st.text("abc xyz.", min_size=1)), min_size=1, max_size=30)
)
def test_every_option_that_counts_is_the_items_own(
    drawn: list[tuple[str, str]], tmp_path: Path, chat_tokenizer: Path
) -> None:
    rows = [{"question": q, "answer": a} for q, a in drawn]
    expected = {(q.strip(), a.strip()) for q, a in drawn if a.strip()}
    asked = items_of(tmp_path, rows, chat_tokenizer)
    if not expected:
        with pytest.raises(ValueError, match="has items with a right answer"):
            write_items(asked, shape(256), tmp_path / "256")
        return
    found = write_items(asked, shape(256), tmp_path / "256")
    texts = options(tmp_path, found.files, 256, chat_tokenizer)
    assert found.names == ("own",) and found.items == (len(expected),)
    assert sorted((q + a).split() for q, a in texts) == sorted(f"{q} {a}".split() for q, a in expected)
    assert all(a.strip() and any(a.strip() in own for _, own in expected) for _, a in texts)


def test_items_are_drawn_by_what_they_say_and_long_ones_keep_their_end(tmp_path: Path, chat_tokenizer: Path) -> None:
    def texts(rows: list[dict[str, str]], most: int) -> set[tuple[str, str]]:
        found = write_items(items_of(tmp_path, rows, chat_tokenizer, most), shape(64), tmp_path / "64")
        return set(options(tmp_path, found.files, 64, chat_tokenizer))

    some = texts(ROWS, 5)
    assert len(some) == 5 and some == texts(ROWS[::-1], 5) and some < texts(ROWS, 12)
    ((question, answer),) = texts([{"question": "word " * 500 + "the last", "answer": "of all"}], 1)
    assert answer.strip() == "of all" and question.endswith("the last") and len(question) < 400


@pytest.fixture(scope="module")
def measuring(make_once: MakeOnce, corpora: Path) -> Path:
    """A run with items of the recipe's benchmarks and of one of its own."""

    def make(folder: Path) -> None:
        (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        named = f"contamination.benchmarks.own={{format: question_answer, files: [{folder}/own.jsonl]}}"
        curate_sample(folder / "run", corpora, *SMALL, named, "held_out.items={per_benchmark: 7}")

    return make_once("items", make) / "run"


def test_a_recipe_measures_items_of_its_benchmarks(measuring: Path) -> None:
    folder = measuring / "held_out" / "items"
    info = read_set(folder)
    check_descriptions(folder)
    assert ("own", "items", "own") in info.sources and info.masked
    counts = json.loads((measuring / "stats" / "mixture.json").read_text())["items"]
    assert counts["own"] == 7 and set(counts) == {source[0] for source in info.sources}
    # Of the documents nothing changes.
    plain = read_set(measuring / "held_out")
    assert not plain.masked and not plain.carved


def test_a_training_measures_the_bits_of_right_options_over_their_bytes(measuring: Path) -> None:
    import torch
    import torch.distributed as dist
    from fox1.trainer.checks.held_out_loss import open_held_out
    from fox1.trainer.data.order import UnitStream, to_micro_batch
    from fox1.trainer.parallel import build, start_processes
    from fox1.trainer.settings import TrainSettings

    cpu, small = torch.device("cpu"), json.loads((measuring / "training.json").read_text())
    small["model"] |= {"layers": 1, "hidden": 32, "intermediate": 48, "heads": 4, "kv_heads": 2, "head_dim": 8}
    small |= {"evaluate_blocks": 2, "micro_batch_tokens": 1024}
    settings = TrainSettings.from_json(small)
    start_processes()
    try:
        held_out = open_held_out(measuring, settings)
        assert held_out and held_out.items
        model = build(settings, held_out.data.info.vocab_size, cpu)
        found = held_out.measure(model, cpu)
        sizes = np.load(measuring / "prepare" / "piece_bytes.npy").astype(np.int64)
        sums: dict[str, list[float]] = {}
        info = held_out.items.info
        for split in info.splits:
            for name in split.files:
                path = measuring / "held_out" / "items" / str(split.block_length) / name
                rows = [row for batch in block_batches(path, split.block_length, True) for row in batch.to_pylist()]
                for row in rows:
                    begins, spans = [0, *row["doc_ends"]], np.array(row["loss_spans"]).reshape(-1, 2)
                    for begin, end, source, (first, _) in zip(
                        begins, row["doc_ends"], row["doc_sources"], spans, strict=False
                    ):
                        ids = np.array(row["input_ids"][begin:end], np.int32)
                        one = to_micro_batch(
                            UnitStream(ids, np.array([len(ids)]), np.zeros(1, int), np.zeros(1, bool)), cpu
                        )
                        with torch.no_grad():
                            losses = model(one.tokens, one.documents, one.targets)[1]
                        of_item = sums.setdefault(info.sources[source][0], [0.0, 0.0])
                        # The loss of a place is that of the token after it.
                        of_item[0] += float(losses[first - begin - 1 : -1].double().sum()) / np.log(2)
                        of_item[1] += float(sizes[ids[first - begin :]].sum())
    finally:
        dist.destroy_process_group()
    expected = {name: bits / size for name, (bits, size) in sums.items()}
    assert found["bits_per_byte_by_item"] == pytest.approx(expected, rel=1e-4) and len(expected) == 2
    assert found["bits_per_byte_items"] == pytest.approx(sum(expected.values()) / 2, rel=1e-4)


def test_items_need_benchmarks_and_documents_beside_them() -> None:
    with pytest.raises(ValueError, match="names none; name some"):
        load_recipe("sample", ["contamination.benchmarks={}", "held_out.items={}"], {"FOX1_DATA": "/none"})
