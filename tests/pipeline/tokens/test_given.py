"""Token files as a source: their documents are trained on as they are, and what cannot be is refused or counted."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml
from datatrove.pipeline.tokens.tokenizer import TokenizedFile
from fox1.api import open_run
from fox1.pipeline.curate import CurateSettings
from fox1.pipeline.filter.judge import Exclusion, FilterSettings
from fox1.pipeline.mix.budget import BlockRule, MixSettings, Phase, Weight
from fox1.pipeline.run.checksums import hash_file
from fox1.pipeline.sources.listing import SourceSettings
from fox1.tokenize.encode import Encoder
from fox1.tokenize.model import TokenizerSettings
from fox1.tokenize.shards import block_batches, read_set, token_batches

from tests.conftest import run_command

BOS, EOS, PAD = 2, 1, 0
TEXTS = [f"What does fox {n} say? It says nothing; it is user {n * n}.\n" * (1 + n % 5) for n in range(40)]


def encoded(model: Path) -> list[list[int]]:
    found = Encoder(model).encode(pa.array(TEXTS, pa.large_string()))
    return [found.ids[a:b].tolist() for a, b in zip(found.offsets, found.offsets[1:], strict=False)]


def write(path: Path, documents: list[list[int]], tokenizer: str, size: int = 2) -> None:
    """A file as datatrove's tokenizing step leaves it."""
    file = TokenizedFile(
        str(path.parent), path.name, tokenizer_name_or_path=tokenizer, save_final_metadata=True, token_size=size
    )
    for document in documents:
        file.write(document, None)
    file.close()


def settings(folder: Path, model: Path, tokens: int = 600, **source: Any) -> CurateSettings:
    """A run of a few notes and of the token files below `folder`/given."""
    (folder / "notes").mkdir(parents=True, exist_ok=True)
    rows = [
        json.dumps({"text": f"Note {n} is about user {n * 17} and what the fox said to it.\n" * 3}) for n in range(60)
    ]
    (folder / "notes" / "all.jsonl").write_text("\n".join(rows) + "\n")
    given = SourceSettings("given", "tokens", root=str(folder / "given"), domain="web", **source)
    phase = Phase("phase1", tokens, (Weight(2, corpus="given"), Weight(1, corpus="notes")), (BlockRule(64),))
    return CurateSettings(
        sources=(SourceSettings("notes", root=str(folder / "notes")), given),
        mix=MixSettings((phase,)),
        tokenizer=TokenizerSettings(model=str(model)),
    )


def trained_on(run: Path) -> dict[int, list[int]]:
    """The tokens of every document in the blocks of a run."""
    pieces: dict[int, dict[int, list[int]]] = {}
    folder = run / "phases" / "phase1"
    for split in read_set(folder).splits:
        for file in split.files:
            for batch in block_batches(folder / str(split.block_length) / file, split.block_length, False):
                for row in batch.to_pylist():
                    begin = 0
                    for doc_id, start, end in zip(row["doc_ids"], row["doc_starts"], row["doc_ends"], strict=True):
                        pieces.setdefault(doc_id, {})[start] = row["input_ids"][begin:end]
                        begin = end
    return {doc_id: [i for _, part in sorted(parts.items()) for i in part] for doc_id, parts in pieces.items()}


def test_documents_of_token_files_are_trained_on_as_they_are(
    tmp_path: Path, chat_tokenizer: Path, curate: Callable[..., Any]
) -> None:
    ids = encoded(chat_tokenizer)
    # With both, with EOS alone, and with neither: packing adds what the recipe says.
    stored = [[BOS, *ids[0], EOS], *([*one, EOS] for one in ids[1:20]), ids[20]]
    dropped = [[*ids[21], EOS, *ids[22]], [EOS], []]
    write(tmp_path / "given" / "web" / "a.ds", [*stored, *dropped], "another name")
    # As a dump of fox1 names it, and in four bytes.
    write(tmp_path / "given" / "books" / "b.ds", ids[23:30], f"gemma.model@{hash_file(chat_tokenizer)}", 4)
    write(tmp_path / "given" / "withdrawn" / "c.ds", ids[30:32], str(chat_tokenizer))
    asked = settings(tmp_path, chat_tokenizer, tokenizer="another name")
    asked = replace(asked, filter=FilterSettings(excluded=(Exclusion("given", "withdrawn"),)))
    summary, _ = curate(asked, tmp_path / "run")
    run = open_run(tmp_path / "run")

    funnel = next(f for f in summary.funnels if f.corpus == "given")
    assert (funnel.rows, funnel.kept) == (33, 28)
    assert funnel.dropped == {"control_ids": 1, "no_tokens": 2, "licence": 2}
    assert funnel.subsets["books"] == {"": 7} and funnel.subsets["withdrawn"] == {"licence": 2}
    assert run.stats["tokens"]["subsets"]["given/books"]["bytes"] == sum(len(t.encode()) for t in TEXTS[23:30])

    names = {f"given/web/a.ds#{n}": ids[n] for n in range(21)} | {
        f"given/books/b.ds#{n}": ids[23 + n] for n in range(7)
    }
    expected = {run._opened.doc_id(name): [BOS, *one, EOS] for name, one in names.items()}
    found = {doc_id: one for doc_id, one in trained_on(tmp_path / "run").items() if doc_id in expected}
    # The last document of a pool is trimmed to the budget.
    assert sum(found[doc_id] == expected[doc_id] for doc_id in found) >= len(found) - 1 > 3
    assert all(expected[doc_id][: len(one)] == one for doc_id, one in found.items())

    name = next(n for n in names if run.why(n).blocks)
    why = run.why(name, text=True)
    assert why.text == TEXTS[ids.index(names[name])] and why.given and why.signals["tokens"] == len(names[name])
    segments = [s for p in why.blocks for s in run.trace("phase1", p.block) if s.name == name]
    assert "".join(s.text for s in segments) == why.text
    with pytest.raises(ValueError, match=r"given/web/a.ds#21: no such document was taken"):
        run.why("given/web/a.ds#21")
    (tmp_path / "removed.txt").write_text(f"{name}\n")
    assert run.find_listed(str(tmp_path / "removed.txt")).named[name][0].trained_on
    # Nothing that looks at text knows of them.
    assert set(run.documents("true", ["corpus"]).column("corpus").to_pylist()) == {"notes"}

    for command in ("stats", "report", "verify"):
        done = run_command(command, tmp_path / "run")
        assert done.returncode == 0, done.stderr
    again, _ = curate(asked, tmp_path / "run")
    assert again.reused["tokenize.given"] == (2, 2) and again.mixture == summary.mixture

    done = run_command("dump", tmp_path / "run", tmp_path / "dump", "--tokens", "datatrove", "--in-process")
    assert done.returncode == 0, done.stderr
    dumped = np.fromfile(next((tmp_path / "dump" / "given" / "books").glob("*.ds")), "<u2").tolist()
    assert dumped == [i for one in ids[23:30] for i in (BOS, *one, EOS)]


def test_a_dump_is_taken_back_as_it_was(tmp_path: Path, run: Path, curate: Callable[..., Any]) -> None:
    done = run_command("dump", run, tmp_path / "given", "--tokens", "datatrove", "--in-process")
    assert done.returncode == 0, done.stderr
    for loss in (tmp_path / "given").rglob("*.ds.loss"):
        loss.write_bytes(b"\1" * loss.stat().st_size)
    curate(settings(tmp_path, run / "prepare" / "tokenizer.model"), tmp_path / "run", "tokenize")

    def documents(root: Path, pattern: str) -> list[list[int]]:
        paths = [p for p in root.glob(pattern) if not p.name.startswith("held-out-")]
        return sorted(r for p in paths for b in token_batches(p) for r in b.column("input_ids").to_pylist())

    assert documents(tmp_path / "run" / "tokens" / "given", "*/*.arrow") == documents(run / "tokens", "*/*/*.arrow")


def change(path: Path, data: bytes) -> None:
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (
            lambda p: change(p.with_name("a.ds.metadata"), b"gpt2|2\n5\n5 T"),
            "made with the tokenizer gpt2, and the recipe's",
        ),
        (lambda p: change(p.with_name("a.ds.metadata"), b"gpt2"), "a.ds.metadata cannot be read: its first line"),
        (lambda p: p.with_name("a.ds.metadata").unlink(), "a.ds has no .metadata beside it"),
        (lambda p: p.with_name("a.ds.index").unlink(), "a.ds has no .index beside it"),
        (
            lambda p: change(p, np.array([5, 6, 400, 7], "<u2").tobytes()),
            "a.ds#1 holds the id 400, and the recipe's tokenizer",
        ),
        (lambda p: change(p, p.read_bytes()[:-2]), "it ends before the ids that its .index tells of"),
        (lambda p: change(p, p.read_bytes() * 2), "it holds more ids than the 4 that its .index tells of"),
        (lambda p: change(p.with_name("a.ds.index"), np.array([3, 2], "<u8").tobytes()), "document 1 has -1 ids"),
        (
            lambda p: change(p.with_name("a.ds.index"), np.array([1 << 40], "<u8").tobytes()),
            "document 0 has 1,099,511,627,776",
        ),
        (lambda p: change(p.with_name("a.ds.loss"), b"\1\1\0\1"), "not all of it is trained on, by its .loss"),
    ],
)
def test_what_is_no_token_file_of_the_tokenizer_is_refused(
    spoil: Callable[[Path], object], said: str, tmp_path: Path, chat_tokenizer: Path, curate: Callable[..., Any]
) -> None:
    path = tmp_path / "given" / "a.ds"
    write(path, [[5, 6], [7, 8]], str(chat_tokenizer))
    spoil(path)
    with pytest.raises(ValueError) as raised:
        curate(settings(tmp_path, chat_tokenizer, tokens=6), tmp_path / "run", "tokenize")
    message = str(raised.value)
    assert said in message and "given/a.ds" in message and "\n" not in message


def test_recipe_check_opens_token_files_and_asks_for_their_model(tmp_path: Path, chat_tokenizer: Path) -> None:
    write(tmp_path / "given" / "a.ds", [[5, 6, 7]], str(chat_tokenizer))
    weights = [{"corpus": "given", "weight": 1}]
    phases = {
        name: {"tokens": 50_000, "weights": weights, "blocks": [{"length": 512}]}
        for name in ("phase1", "phase2", "phase3")
    }
    others = dict.fromkeys(("redpajama", "slimpajama", "dolma", "pile", "refinedweb"))
    recipe: dict[str, Any] = {
        "extends": "sample.yaml",
        "name": "given",
        "sources": {**others, "given": {"format": "tokens", "root": "given"}},
        "contamination": {"benchmarks": {"sample": None}},
        "phases": phases,
    }
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(recipe))
    done = run_command("recipe", "check", tmp_path / "own.yaml", "--set", f"tokenizer.model={chat_tokenizer}")
    assert "given/a.ds: document 0 is of subset default and has 3 tokens" in done.stdout
    change(tmp_path / "given" / "a.ds.metadata", b"gpt2|2\n3\n3 T")
    done = run_command("recipe", "check", tmp_path / "own.yaml", "--set", f"tokenizer.model={chat_tokenizer}")
    assert done.returncode == 1 and "given/a.ds was made with the tokenizer gpt2" in done.stderr
    done = run_command("recipe", "check", tmp_path / "own.yaml")
    assert done.returncode == 1 and "set `tokenizer.model` to the model that made them" in done.stderr
