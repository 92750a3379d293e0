"""Training a tokenizer: what its errors advise, and that it can be interrupted."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from fox1.tokenize.model import TokenizerSettings, load, train

from tests.conftest import run_command

LETTERS = [chr(0x4E00 + i) * 3 for i in range(800)]
"""A large alphabet, as Chinese has it."""


@pytest.mark.parametrize(
    ("documents", "size", "says"),
    [
        (LETTERS, 1000, "already take 1,070; choose a larger `tokenizer.vocab_size`, or lower `tokenizer.character_c"),
        (LETTERS, 100, r"already take 1,070; choose a larger `tokenizer.vocab_size`$"),
        (["a few words"], 1000, r"the sample gives no more than \d+; give it more text"),
        ([], 1000, "the sample holds no text; give it more"),
    ],
)
def test_a_vocabulary_that_cannot_be_trained_is_refused_with_what_helps(
    documents: list[str], size: int, says: str
) -> None:
    with pytest.raises(ValueError, match=says) as told:
        train(documents, TokenizerSettings(vocab_size=size))
    assert "INTERNAL" not in str(told.value) and "--character" not in str(told.value)


def test_the_remedies_for_an_alphabet_that_is_too_large_help(tmp_path: Path) -> None:
    words = ["".join(pair) for pair in itertools.product(*["abcdefgh"] * 4)]
    text = [" ".join(words) * 10, *LETTERS]
    with pytest.raises(ValueError, match="choose a larger"):
        train(text, TokenizerSettings(vocab_size=1000))
    for name, settings in {
        "larger": TokenizerSettings(vocab_size=1100),
        "covering less": TokenizerSettings(vocab_size=1000, character_coverage=0.98),
    }.items():
        (tmp_path / name).write_bytes(train(text, settings))
        model = load(tmp_path / name)
        assert model.vocab_size() == settings.vocab_size
        assert model.decode(model.encode(LETTERS[-1])) == LETTERS[-1]


def interrupted() -> Iterator[str]:
    yield "some text\n"
    signal.raise_signal(signal.SIGINT)
    yield from ["more text\n"] * 1000


def test_an_interruption_while_the_sample_is_read_is_no_error_of_the_text(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, corpora: Path
) -> None:
    # Tests that run in the background of a shell ignore it.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(interrupted(), TokenizerSettings(vocab_size=300))
        monkeypatch.setattr("fox1.pipeline.prepare.tokenizer.sample_text", lambda *_: interrupted())
        run = ("curate", "sample", "--out", tmp_path / "run", "--in-process", "--stages", "prepare")
        done = run_command(*run, FOX1_DATA=str(corpora))
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.returncode == 130 and done.stderr.splitlines()[-1] == (
        "interrupted; run the same command again to resume"
    )
