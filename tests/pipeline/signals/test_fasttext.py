"""fastText classifiers: read from their files as they are, refused where they are not, and evaluated as the package does."""

from __future__ import annotations

import io
import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from fox1.pipeline.prepare import fasttext_file
from fox1.pipeline.prepare.classifiers import read_classifier
from fox1.pipeline.prepare.fasttext_file import read_fasttext
from fox1.pipeline.signals import fasttext
from fox1.pipeline.signals.scores import ScoreSettings, as_quality
from fox1.storage.reading import Misshapen
from fox1.tokenize.spans import text_buffers
from hypothesis import given, settings
from hypothesis import strategies as st

from .fasttext_files import HS, OVA, SOFTMAX, Model, made_up

TEXTS = [
    "the cat sat of naïve 日本語",
    "",
    " \n\t the\n\ncat\r\nof  the\0the ",
    "unknown words wörter 日本 </s> the cat",
    "__label__good the __label__none cat",
    "a " * 300 + "the",
    "<>",
    "</s>",
]
MODELS = {
    "words": made_up(1),
    "runs of words": made_up(2, ngrams=3, buckets=50),
    "runs of seven": made_up(3, ngrams=7, buckets=31),
    "characters": made_up(4, shortest=1, longest=4, buckets=97),
    "both": made_up(5, shortest=2, longest=3, ngrams=2, buckets=64),
    "hierarchical": made_up(6, ngrams=2, buckets=10, loss=HS),
    "each label alone": made_up(7, loss=OVA),
    "pruned": made_up(8, ngrams=2, shortest=3, longest=3, buckets=20, pruned=((3, 0), (7, 2), (11, 1), (19, 3))),
    "all n-grams pruned": made_up(9, ngrams=2, buckets=20, pruned=()),
    "quantised": made_up(10, ngrams=2, buckets=40, parts=2, dim=5),
    "quantised with norms": made_up(11, dim=6, parts=3, normed=True),
    "more labels than dimensions": made_up(12, dim=2, ngrams=2, buckets=9),
    "one label": made_up(13, labels=(("__label__only", 3),), loss=HS),
}


def read(model: Model) -> fasttext_file.ReadClassifier:
    data = model.file()
    return read_fasttext(io.BytesIO(data), len(data))


def scored(classifier: fasttext.Classifier, texts: list[str], skip: list[bool] | None = None) -> np.ndarray:
    buffers = text_buffers(pa.array(texts, pa.large_string()))
    return fasttext.score(classifier, *buffers, np.array(skip or [False] * len(texts)))


def check(model: Model, texts: list[str]) -> None:
    found = read(model)
    expected = [model.probabilities(text) for text in texts]
    for k, label in enumerate(found.labels):
        scores = scored(found.counting(((label, 1.0),)), texts)
        for text, score, probabilities in zip(texts, scores, expected, strict=True):
            if probabilities is None:
                assert np.isnan(score), text
            else:
                assert abs(score - probabilities[k]) < 1e-6, (text, label)


@pytest.mark.parametrize("name", MODELS)
def test_scores_are_those_of_the_plain_form(name: str) -> None:
    check(MODELS[name], TEXTS)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(sorted(MODELS)),
    st.lists(st.text(st.sampled_from("the cat<>\n\tsofé日_/\0"), max_size=60), min_size=1, max_size=4),
)
def test_scores_of_any_text_are_those_of_the_plain_form(name: str, texts: list[str]) -> None:
    check(MODELS[name], texts)


def test_scores_are_those_of_the_package() -> None:
    """`fasttext/` holds classifiers that the package trained, and what it said of each text and label."""
    folder = Path(__file__).parent / "fasttext"
    files = sorted(p for p in folder.iterdir() if p.suffix in (".bin", ".ftz"))
    assert len(files) >= 4
    said = json.loads((folder / "predictions.json").read_text())
    for file in files:
        data = file.read_bytes()
        found = read_fasttext(io.BytesIO(data), len(data))
        assert sorted(found.labels) == sorted(said[file.name])
        for label, probabilities in said[file.name].items():
            scores = scored(found.counting(((label, 1.0),)), said["texts"])
            # It adds 1e-5 to every probability, of every step of a tree; and looks up sigmoids in a table of 512.
            near = 8e-3 if "ova" in file.name else 1e-4 if "hs" in file.name else 5e-6  # of float32 sums
            shift = 0 if "ova" in file.name or "hs" in file.name else 1e-5
            np.testing.assert_allclose(scores + shift, probabilities, atol=near, rtol=0)


def test_labels_are_weighed_and_documents_skipped() -> None:
    model = MODELS["both"]
    found = read(model)
    weighed = scored(found.counting((("good", 2.0), ("__label__dull", 0.5))), TEXTS[:2] * 2, [False, True, True, False])
    good, _, dull = model.probabilities(TEXTS[0])  # type: ignore[misc]
    assert abs(weighed[0] - (2 * good + dull / 2)) < 1e-6
    assert np.isnan(weighed[1:3]).all() and np.isfinite(weighed[3])
    with pytest.raises(Misshapen, match="no label 'great'; its labels are __label__good, __label__bad"):
        found.counting((("great", 1.0),))
    with pytest.raises(Misshapen, match="no `labels` say"):
        found.counting(())


def test_a_stored_classifier_is_the_same(tmp_path: Path) -> None:
    from fox1.pipeline.prepare.classifiers import prepare_classifier
    from fox1.pipeline.run.paths import RunPaths
    from fox1.pipeline.sources.listing import NamedFile

    file = tmp_path / "model.bin"
    file.write_bytes(MODELS["both"].file())
    asked = ScoreSettings("good", str(file), (("__label__good", 1.0),))
    prepared = prepare_classifier(asked, NamedFile.of(str(file)), RunPaths(tmp_path / "run"))
    stored = fasttext.load_classifier(prepared.file)
    np.testing.assert_array_equal(scored(stored, TEXTS), scored(read_classifier(asked).classifier, TEXTS))
    assert prepared.source == f"fastText model.bin, {prepared.file.hash}"
    # Of somebody else's run it may be anything.
    stored = fasttext.Classifier(*(array.copy() for array in stored))  # what is mapped is about to be written over
    for name, values in {
        "slots": stored.slots | np.uint64(1),
        "table": stored.table[:-1],
        "word_offsets": stored.word_offsets + 1_000_000,
        "numbers": stored.numbers * 1000,
        "output": stored.output[:4],
        "values": stored.values[:0],
    }.items():
        fasttext.load_classifier.cache_clear()
        batch = stored._replace(**{name: values}).stored()
        with pa.OSFile(str(prepared.file.file), "wb") as out, pa.ipc.new_file(out, batch.schema) as writer:
            writer.write_batch(batch)
        with pytest.raises(ValueError, match=r"score-good.arrow is damaged; delete it"):
            fasttext.load_classifier(prepared.file)
    prepared.file.file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"score-good.arrow is damaged"):
        fasttext.load_classifier(prepared.file)
    assert prepared.labels == ("__label__good", "__label__bad", "__label__dull")


def test_the_exponential_is_exact_to_its_last_bits() -> None:
    x = -np.geomspace(1e-9, 690, 5000)
    found = np.array([fasttext.exponential(v) for v in x])
    np.testing.assert_allclose(found, np.exp(x), rtol=4e-16)
    assert fasttext.exponential(-1e9) == 0.0 and fasttext.exponential(0.0) == 1.0


@pytest.mark.parametrize("name", ["both", "pruned", "quantised with norms"])
def test_a_file_that_ends_anywhere_is_refused(name: str) -> None:
    data = MODELS[name].file()
    for end in range(0, len(data), 7):
        with pytest.raises(Misshapen):
            read_fasttext(io.BytesIO(data[:end]), end)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(["both", "pruned", "quantised"]), st.data())
def test_a_file_with_changed_bytes_is_refused_or_scores(name: str, data: st.DataObject) -> None:
    """Nothing but `Misshapen` is raised, and no score reads beyond what there is."""
    changed = bytearray(MODELS[name].file())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 4))
        changed[at : at + 4] = data.draw(
            st.sampled_from([b"\0\0\0\0", b"\xff\xff\xff\x7f", b"\xff\xff\xff\xff", b"\1\0\0\0"])
        )
    try:
        found = read_fasttext(io.BytesIO(bytes(changed)), len(changed))
    except Misshapen:
        return
    scored(found.counting(((found.labels[0], 1.0),)), TEXTS)


def test_sizes_are_checked_before_memory_is_taken() -> None:
    good = MODELS["both"]
    data = good.file()
    at = 8 + 12 * 4 + 8
    entries = data[:at] + struct.pack("<3i2q", 29_999_998, 29_999_997, 1, 0, -1) + data[at + 28 :]
    huge = replace(good, inputs=good.inputs[:8], buckets=2_000_000_000)
    for bad, says in {
        entries: "its dictionary would take 299,999,980 bytes",
        huge.file(): "rows for",
        replace(good, model=1).file(): "holds word vectors",
        replace(good, version=13).file(): "version 13",
        replace(good, magic=1).file(): "no fastText model",
        replace(good, ngrams=99).file(): "words of an n-gram is 99",
        replace(good, buckets=0).file(): "buckets",
        replace(good, inputs=good.inputs * np.float32(np.inf)).file(): "are no numbers",
        replace(good, words=("a", "a", *good.words[2:])).file(): "has a twice",
        b"": "no fastText model",
        b"PK\3\4" * 20: "no fastText model",
    }.items():
        with pytest.raises(Misshapen, match=says):
            read_fasttext(io.BytesIO(bad), len(bad))


def test_a_file_that_is_no_classifier_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_bytes(b"nothing")
    for file in ("model.bin", "none.bin", "."):
        with pytest.raises((ValueError, OSError), match=r"scores\.edu: ") as refused:
            read_classifier(ScoreSettings("edu", str(tmp_path / file), (("x", 1.0),)))
        assert str(refused.value).isprintable()


def test_scores_become_qualities_in_equal_steps() -> None:
    scores = np.array([-1, 0, 2.5, 5, 9, np.nan], np.float32)
    assert as_quality(scores, (0.0, 5.0)).tolist() == [0, 0, 32_768, 65_535, 65_535, 0]
    assert as_quality(scores, (5.0, 0.0)).tolist() == [65_535, 65_535, 32_768, 0, 0, 0]
    assert SOFTMAX == fasttext.SOFTMAX
