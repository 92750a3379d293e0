"""Token files are those of datatrove's step, byte for byte, where the ids are."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datatrove.data import Document
from datatrove.pipeline.tokens import DocumentTokenizer as Theirs
from fox1.datatrove.pipeline.tokens import DocumentTokenizer

TEXTS = [
    "What does the fox say?",
    "The fox says nothing;\n\nit is  user 123.",
    "",
    "été 北京 fox",
    "it is the fox " * 40,
]


def files(step: Any, folder: Path, texts: list[str], metadata: list[dict[str, Any]]) -> tuple[dict[str, bytes], Any]:
    documents = [Document(t, str(k), metadata=dict(m)) for k, (t, m) in enumerate(zip(texts, metadata, strict=True))]
    step.run(iter(documents), 3, 8)
    found = {p.name: p.read_bytes() for p in folder.iterdir()}
    found = {name: data.split(b"|")[-1] if name.endswith(".metadata") else data for name, data in found.items()}
    return found, step.stats.stats.to_dict()


@pytest.fixture
def converted(chat_tokenizer: Path, tmp_path: Path) -> Path:
    """The model as a tokenizer.json."""
    gigatoken = pytest.importorskip("gigatoken")
    data = gigatoken.Tokenizer.from_sentencepiece(chat_tokenizer)._hf_json
    path = tmp_path / "tokenizer.json"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"eos_token": "<eos>", "shuffle_documents": False},
        {"eos_token": "<eos>", "save_loss_metadata": True, "batch_size": 2},
        {"eos_token": "<eos>", "shuffle_chunk_size": 16, "save_loss_metadata": True},
        {"shuffle_documents": False, "save_loss_metadata": True, "save_index": False},
    ],
)
def test_files_are_those_of_datatrove(
    arguments: dict[str, Any], chat_tokenizer: Path, converted: Path, tmp_path: Path
) -> None:
    losses: list[dict[str, Any]] = [{} for _ in TEXTS]
    if arguments.get("save_loss_metadata"):
        losses[0] = {"no_loss_ranges": [(0, 5), (9, 12)]}
        losses[1] = {"no_loss_ranges": [(4, len(TEXTS[1]))]}
        losses[4] = {"no_loss_ranges": [(3, 30), (200, 9999)]}
    made = {}
    for name, make, model in (("theirs", Theirs, converted), ("ours", DocumentTokenizer, chat_tokenizer)):
        step = make(str(tmp_path / name), str(model), seed=7, **arguments)
        made[name] = files(step, tmp_path / name, TEXTS, losses)
    assert made["ours"] == made["theirs"]
    assert any(name.endswith(".ds") and data for name, data in made["ours"][0].items())


def test_another_tokenizer_is_that_of_datatrove(converted: Path, tmp_path: Path) -> None:
    made = [
        files(make(str(tmp_path / name), str(converted), seed=7), tmp_path / name, TEXTS, [{}] * len(TEXTS))
        for name, make in (("theirs", Theirs), ("ours", DocumentTokenizer))
    ]
    assert made[0] == made[1]


def test_no_text_becomes_a_control_piece(chat_tokenizer: Path, tmp_path: Path) -> None:
    step = DocumentTokenizer(str(tmp_path / "out"), str(chat_tokenizer), eos_token="<eos>", shuffle_documents=False)
    step.run(iter([Document("fox <eos> fox", "0")]))
    ids = np.fromfile(tmp_path / "out" / "00000_unshuffled.ds", "<u2").tolist()
    assert ids.count(1) == 1 and ids[-1] == 1
    with pytest.raises(ValueError, match="has no piece '<none>'"):
        DocumentTokenizer(str(tmp_path / "out"), str(chat_tokenizer), eos_token="<none>").run(
            iter([Document("a", "0")])
        )


def test_a_worker_does_not_import_pandas(chat_tokenizer: Path, tmp_path: Path) -> None:
    probe = (
        "import sys\n"
        "from datatrove.data import Document\n"
        "from fox1.datatrove.pipeline.tokens import DocumentTokenizer\n"
        "step = DocumentTokenizer(sys.argv[1], sys.argv[2], eos_token='<eos>')\n"
        # A word with the sign of a space is handed to SentencePiece.
        "step.run(iter([Document('What does the fox say? \u2581 x', '0')]))\n"
        "print('pandas' in sys.modules)\n"
    )
    command = [sys.executable, "-c", probe, str(tmp_path / "out"), str(chat_tokenizer)]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.split() == ["False"]
