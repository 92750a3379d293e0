"""Instruction data from its rows to the trainer's targets: only answers are trained on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from fox1.pipeline.inspect.provenance import trace
from fox1.pipeline.inspect.run import FinishedRun
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.run.paths import RunPaths
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.tokenize.chat import turns_of
from fox1.tokenize.encode import Encoder
from fox1.tokenize.shards import read_set
from fox1.trainer.data.order import PhaseData
from fox1.trainer.model.loss import IGNORE

WORDS = (
    "river stone lantern orchard winter market copper violin harbor meadow candle thunder ribbon garden silver".split()
)


def rows(n: int) -> list[dict[str, Any]]:
    """Conversations in all shapes, each with words of its own."""
    found = []
    for i in range(n):
        own = " ".join(WORDS[(i * k + k * k) % len(WORDS)] + str(i % 97 * k) for k in range(1, 12))
        asked, answer = f"What is known of {own}?", f"Much is known: {own[::-1]}, and more."
        found.append(
            [
                {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]},
                {"conversations": [{"from": "human", "value": asked}, {"from": "gpt", "value": answer}]},
                {"instruction": asked, "input": "", "output": answer},
                {"prompt": asked, "completion": answer, "source": "pairs"},
                {"inputs": asked, "targets": answer},
            ][i % 5]
        )
    return found


def read(path: Path) -> tuple[list[dict[str, Any]], Quarantine]:
    stat = path.stat()
    file = SourceFile("chat", path.name, str(path), stat.st_size, "", "chat", False, 1)
    quarantine = Quarantine(file)
    return [r for batch in read_rows(file, quarantine) for r in batch.to_pylist()], quarantine


def test_rows_of_every_shape_become_turns(tmp_path: Path) -> None:
    given = rows(5)
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(r) + "\n" for r in given))
    found, _ = read(tmp_path / "a.jsonl")
    assert [[role for role, _ in turns_of(r["text"])] for r in found] == [["user", "assistant"]] * 5
    assert [r["subset"] for r in found] == ["train", "train", "train", "pairs", "train"]
    with_input = {"instruction": "Add.", "input": "1 2", "output": "3", "system": "Be brief."}
    (tmp_path / "b.jsonl").write_text(json.dumps(with_input))
    assert turns_of(read(tmp_path / "b.jsonl")[0][0]["text"]) == [
        ("system", "Be brief."),
        ("user", "Add.\n\n1 2"),
        ("assistant", "3"),
    ]
    pq.write_table(
        pa.Table.from_pylist([given[0], {"messages": [{"role": "user", "content": "x"}]}]), tmp_path / "c.parquet"
    )
    found, quarantine = read(tmp_path / "c.parquet")
    assert found[0]["text"] == read(tmp_path / "a.jsonl")[0][0]["text"] and len(found) == 1 and quarantine.rows == 1


@pytest.mark.parametrize(
    "row", [{"text": "no turns"}, {"messages": []}, {"messages": [{"role": "boss", "content": "x"}]}, {"prompt": "q"}]
)
def test_a_row_that_is_no_conversation_is_quarantined(tmp_path: Path, row: dict[str, Any]) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps(row) + "\n")
    found, quarantine = read(tmp_path / "a.jsonl")
    assert not found and quarantine.rows == 1


@pytest.fixture(scope="module")
def chat_run(
    tmp_path_factory: pytest.TempPathFactory, settings_of: Callable[..., Any], curate: Callable[..., Any]
) -> tuple[Path, Any]:
    root = tmp_path_factory.mktemp("chat")
    for name, part in (("train-0.jsonl", rows(400)), ("val.jsonl", rows(420)[400:])):
        (root / name).write_text("".join(json.dumps(r) + "\n" for r in part))
    source = f"{{format: chat, root: {root}, files: ['train*.jsonl']}}"
    settings = settings_of(
        f"sources.talks={source}",
        "held_out.talks.files=['val*']",
        "dedupe.exempt=[talks]",
        "phases.phase3.weights=[{domain: web, weight: 1}, {corpus: talks, weight: 3, max_epochs: 2}]",
        "phases.phase3.tokens=80K",
    )
    curate(settings, root / "run")
    return root / "run", settings


def test_blocks_name_exactly_the_answers(chat_run: tuple[Path, Any]) -> None:
    run, settings = chat_run
    encoder = Encoder(run / "prepare" / "tokenizer.model", settings.tokenizer.reserved)
    answered = 0
    for folder in (run / "phases" / "phase3", run / "held_out"):
        info = read_set(folder)
        assert info.masked
        for split in info.splits:
            for name in split.files:
                with pa.memory_map(str(folder / str(split.block_length) / name)) as file:
                    blocks = pa.ipc.open_stream(file).read_all().to_pylist()
                for block in blocks:
                    learned = [False] * split.block_length
                    for a, b in zip(block["loss_spans"][::2], block["loss_spans"][1::2], strict=True):
                        learned[a:b] = [True] * (b - a)
                    begin = 0
                    for end, code in zip(block["doc_ends"], block["doc_sources"], strict=True):
                        mine = learned[begin:end]
                        if info.sources[code][0] == "talks":
                            text = encoder.decode(
                                [i for i, on in zip(block["input_ids"][begin:end], mine, strict=True) if on]
                            )
                            assert "What is known" not in text.decode(errors="replace") and not all(mine)
                            answered += text.endswith(b"<end_of_turn>") and text.startswith(b"Much is known")
                        else:
                            assert all(mine)
                        begin = end
                    assert not any(learned[begin:])
    assert answered > 40
    assert not read_set(run / "phases" / "phase1").masked


def test_the_trainer_s_targets_are_those(chat_run: tuple[Path, Any]) -> None:
    run, _ = chat_run
    data = PhaseData(run / "phases" / "phase3", 0)
    units = min(4, data.units)
    stream, batch = data.stream(0, units), data.micro_batch(0, units, torch.device("cpu"))
    assert stream.learned is not None
    plain = torch.from_numpy(stream.tokens[1:].astype("int64"))
    counted = batch.targets[:-1] != IGNORE
    assert batch.valid == int((batch.targets != IGNORE).sum()) and 0 < batch.valid < len(stream.tokens)
    assert torch.equal(batch.targets[:-1][counted], plain[counted])
    assert torch.from_numpy(stream.learned[1:])[counted].all()
    # What counts is all that is learned, but for the first token of a segment, which nothing predicts.
    firsts = [0, *stream.ends[:-1].tolist()]
    learned = stream.learned.copy()
    learned[firsts] = False
    assert int(learned.sum()) == batch.valid


def test_a_block_of_talks_is_traced_to_their_turns(chat_run: tuple[Path, Any]) -> None:
    run, settings = chat_run
    opened = FinishedRun(RunPaths(run), lambda _: list_sources(settings.sources, settings.id_salt))
    length = read_set(run / "phases" / "phase3").splits[0].block_length
    traced = [s for b in range(3) for s in trace(opened, "phase3", b, length)]
    talks = [s for s in traced if s.name.startswith("talks/")]
    assert talks
    for s in talks:
        raw = opened.text(opened.doc_id(s.name))[0].as_py().encode()
        assert raw[slice(*s.raw)].decode(errors="replace") == s.text or s.edits
    assert any(turns_of(s.text)[-1][0] == "assistant" for s in talks)


def test_a_template_of_one_s_own(settings_of: Callable[..., Any]) -> None:
    made = settings_of("tokenizer.chat_template={user: {before: 'Q: ', after: ' '}, assistant: {before: 'A: '}}")
    assert made.tokenizer.chat == (("user", "Q: ", " "), ("assistant", "A: ", ""))
    for wrong, message in (("nosuch", "choose gemma, chatml"), ("{user: {before: x}}", "needs the role assistant")):
        with pytest.raises(ValueError, match=message):
            settings_of(f"tokenizer.chat_template={wrong}")
