"""Items of the benchmarks that training must not have seen, from their published files or from `datasets`.

An adapter turns one row of a benchmark, as its authors' file or its hub data set writes it, into the texts of an item: the
question as a model would be asked it, in one or several wordings, what answers it, and the choices.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any

import msgspec

from ...storage.fields import Bounds, Derived, OneOf, Share
from ..signals.item_grams import MAX_NGRAM
from ..sources.formats import open_source
from ..sources.patterns import files_of_patterns

BenchmarkRow = Mapping[str, Any]


@dataclass(frozen=True)
class BenchmarkSettings:
    """One benchmark, whose items training must not have seen: files, or a data set by name."""

    name: Annotated[str, Derived()]
    format: Annotated[str, OneOf(tuple(ADAPTERS))]
    """Whose rows they are; `question_answer` takes items of your own."""
    files: tuple[str, ...] = ()
    """Paths, globs or URLs of JSON lines or CSV files; what exists as it is written is meant literally."""
    dataset: str = ""
    """Name of a data set to read through `datasets`, instead of files."""
    config: str = ""
    """Configuration of the data set."""
    split: str = "test"
    """Split of the data set."""
    revision: str = ""
    """Revision of the data set."""
    ngram: Annotated[int, Bounds(ge=4, le=MAX_NGRAM)] | None = None
    """Words in a row for this benchmark, instead of `contamination.ngram`."""
    overlap: Share | None = None
    """Share of n-grams for this benchmark, instead of `contamination.overlap`."""

    def __post_init__(self) -> None:
        if bool(self.files) == bool(self.dataset):
            raise ValueError("give `files` or `dataset`")


@dataclass(frozen=True)
class Texts:
    """What an item of a benchmark consists of. A text may be given twice."""

    questions: tuple[str, ...]
    """Wordings of the question; each is matched."""
    answers: tuple[str, ...] = ()
    """Right answers and wordings of them; each is matched, alone and after the question."""
    wrong: tuple[str, ...] = ()
    """Wrong answers, which are matched only after the question: alone they are what anybody may have written."""
    choices: tuple[str, ...] = ()
    """The choices of a multiple-choice item, in order; their list is matched after the question."""
    context: str = ""
    """What the question is about, of a source that others may quote; matched only where the question follows it."""


@dataclass(frozen=True, kw_only=True)
class Item(Texts):
    """One item of a benchmark."""

    benchmark: str
    file: str
    """Name of its file or split."""
    row: int
    native_id: str = ""
    """Its own id, empty where it has none."""


LETTERS = "ABCDEFGHIJ"
"""Of choices, in their order."""


def _right(choices: Sequence[str], label: object, labels: Sequence[str] = ()) -> tuple[str, ...]:
    """The right one of some choices, by its letter, its number or its own label; none where the row does not say."""
    places = {str(i): c for i, c in enumerate(choices)} | dict(zip(LETTERS, choices, strict=False))
    return tuple(c for c in [(places | dict(zip(labels, choices, strict=False))).get(str(label), "")] if c)


def _listed(row: BenchmarkRow) -> tuple[list[str], list[str]]:
    """(choices, their own labels) of a multiple-choice row: the shapes of ARC, OpenBookQA and MMLU."""
    question, choices = row.get("question"), row.get("choices", row.get("options"))
    if isinstance(question, Mapping):
        return [c["text"] for c in question["choices"]], [c["label"] for c in question["choices"]]
    if isinstance(choices, Mapping):
        return list(choices["text"]), list(choices["label"])
    if isinstance(choices, list):
        return [str(c) for c in choices], []
    names = next((names for names in _COLUMNS if names[0] in row), _COLUMNS[0])
    return [str(row[name]) for name in names], []


_COLUMNS = (tuple(f"choice{i}" for i in range(4)), tuple("ABCD"))
"""How tables name the columns of four choices."""


def _multiple_choice(row: BenchmarkRow) -> Texts:
    choices, labels = _listed(row)
    asked = next((row[name] for name in ("question", "question_stem", "query") if name in row), None)
    question = asked["stem"] if isinstance(asked, Mapping) else str(row["question"] if asked is None else asked)
    label = next((row[name] for name in ("answerKey", "answer", "gold") if name in row), "")
    right = _right(choices, label, labels)
    wrong = tuple(c for c in choices if c not in right)
    return Texts((question.removeprefix("Question:").strip(),), right, wrong, tuple(choices))


def _gsm8k(row: BenchmarkRow) -> Texts:
    # <<3*4=12>> is the calculator's note, which copies leave out as often as not.
    answer = row["answer"]
    return Texts((row["question"],), tuple(dict.fromkeys((re.sub(r"<<[^>]*>>", "", answer), answer))))


def _hellaswag(row: BenchmarkRow) -> Texts:
    endings, label = [str(e) for e in row["endings"]], str(row["label"])
    if label and not (label.isdigit() and int(label) < len(endings)):
        raise ValueError(f"label {label} names none of {len(endings)} endings")
    right = _right(endings, label)
    return Texts((row["ctx"],), right, tuple(e for e in endings if e not in right))


def _winogrande(row: BenchmarkRow) -> Texts:
    sentence = row["sentence"]
    return Texts((sentence, *(sentence.replace("_", row[o]) for o in ("option1", "option2"))))


def _truthfulqa(row: BenchmarkRow) -> Texts:
    question = row["Question"] if "Question" in row else row["question"]
    best = row.get("Best Answer", row.get("best_answer")) or ""
    right, wrong = (
        found if isinstance(found, list) else [a.strip() for a in (found or "").split(";")]
        for found in (
            row.get(f"{kind.capitalize()} Answers", row.get(f"{kind}_answers")) for kind in ("correct", "incorrect")
        )
    )
    for name in ("mc1_targets", "mc2_targets"):
        for choice, label in zip(*(row.get(name, {}).get(k, ()) for k in ("choices", "labels")), strict=True):
            (right if label else wrong).append(choice)
    return Texts((question,), tuple(filter(None, (best, *right))), tuple(filter(None, wrong)))


def _piqa(row: BenchmarkRow) -> Texts:
    choices = [row["sol1"], row["sol2"]]
    right = _right(choices, row.get("label", ""))
    return Texts((row["goal"],), right, tuple(c for c in choices if c not in right))


def _boolq(row: BenchmarkRow) -> Texts:
    # The passage is a page of an encyclopedia, which training may well read.
    return Texts((row["question"],), context=row["passage"])


def _humaneval(row: BenchmarkRow) -> Texts:
    return Texts((row["prompt"],), (row["canonical_solution"],))


def _question_answer(row: BenchmarkRow) -> Texts:
    answer = str(row.get("answer") or "")
    return Texts((row["question"],), (answer,) if answer else ())


ADAPTERS: dict[str, Callable[[BenchmarkRow], Texts]] = {
    "arc": _multiple_choice,
    "boolq": _boolq,
    "gsm8k": _gsm8k,
    "hellaswag": _hellaswag,
    "humaneval": _humaneval,
    "mmlu": _multiple_choice,
    "openbookqa": _multiple_choice,
    "piqa": _piqa,
    "question_answer": _question_answer,
    "truthfulqa": _truthfulqa,
    "winogrande": _winogrande,
}
"""Benchmark format -> how its rows become the texts of an item."""


def _checked(texts: Texts) -> Texts:
    """Raise TypeError where one of them is no text: files of others hold numbers and lists in the place of some."""
    for text in (*texts.questions, *texts.answers, *texts.wrong, *texts.choices, texts.context):
        if not isinstance(text, str):
            raise TypeError(f"{str(text)[:40]!r} is no text")
    return texts


def read_items(settings: BenchmarkSettings) -> Iterator[Item]:
    """Every item of a benchmark, in file and row order.

    Raises:
        ValueError: no file matches, or a row does not have the benchmark's shape; the message names benchmark, file and row.
    """
    adapt = ADAPTERS[settings.format]
    for name, rows in _sources(settings):
        for number, row in enumerate(rows):
            try:
                texts = _checked(adapt(row))
            except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
                raise ValueError(
                    f"benchmark {settings.name}: row {number} of {name} is not a {settings.format} item "
                    f"({type(error).__name__} {error}); correct its `format` or the file"
                ) from None
            native_id = next((str(row[key]) for key in ("id", "qID", "task_id", "ind") if row.get(key) is not None), "")
            yield Item(**vars(texts), benchmark=settings.name, file=name, row=number, native_id=native_id)


def benchmark_files(settings: BenchmarkSettings) -> list[str]:
    """The files of a benchmark, sorted.

    Raises:
        ValueError: a pattern matches nothing.
    """
    return files_of_patterns(settings.files, f"benchmark {settings.name}", "contamination.benchmarks")


def _sources(settings: BenchmarkSettings) -> Iterator[tuple[str, Iterator[BenchmarkRow]]]:
    if settings.dataset:
        yield f"{settings.dataset}/{settings.config or 'default'}/{settings.split}", _streamed(settings)
    for path in benchmark_files(settings):
        yield PurePosixPath(path).name, _file_rows(path, settings.name)


def _streamed(settings: BenchmarkSettings) -> Iterator[BenchmarkRow]:
    from ..sources.huggingface import open_dataset

    yield from open_dataset(settings.dataset, settings.config or None, settings.split, settings.revision or None)


def _file_rows(path: str, benchmark: str) -> Iterator[BenchmarkRow]:
    try:
        with open_source(path) as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"benchmark {benchmark}: {path} cannot be read ({error}); correct the path or the file"
        ) from None
    if path.endswith(".csv"):
        try:
            rows = list(csv.reader(io.StringIO(text)))
        except csv.Error as error:
            raise ValueError(f"benchmark {benchmark}: {path} is no CSV file ({error}); correct the file") from None
        header = rows[0] if rows else []
        if "question" in [h.lower() for h in header]:
            yield from (dict(zip(header, row, strict=False)) for row in rows[1:])
        else:
            # MMLU as first published: question, four choices, the answer's letter, no header.
            names = ["question", *(f"choice{i}" for i in range(4)), "answer"]
            for number, row in enumerate(rows):
                if len(row) != len(names):
                    raise ValueError(
                        f"benchmark {benchmark}: row {number} of {path} has {len(row)} columns, not {len(names)}; correct the file"
                    )
                yield dict(zip(names, row, strict=True))
    else:
        # Not by `splitlines`: a string of JSON may hold U+2028 and its like.
        for number, line in enumerate(text.split("\n")):
            if not line.strip():
                continue
            try:
                yield msgspec.json.decode(line)
            except msgspec.MsgspecError as error:
                raise ValueError(
                    f"benchmark {benchmark}: line {number + 1} of {path} is not valid JSON ({error})"
                ) from None
