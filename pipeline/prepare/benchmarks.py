"""Items of the benchmarks that training must not have seen, from their published files or from `datasets`.

An adapter turns one row of a benchmark, as its authors' file or its hub data set writes it, into an item: the question
as a model would be asked it, in one or several wordings, and its right answer.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Annotated, Any

import fsspec
import msgspec

from ...storage.fields import Derived, OneOf
from ...storage.web import WebUrl, http_options, naming_private_hosts, reach_of
from ..sources.folder import local_path
from ..sources.formats import open_source
from ..sources.globs import local_paths, standard, unescape

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

    def __post_init__(self) -> None:
        if bool(self.files) == bool(self.dataset):
            raise ValueError("give `files` or `dataset`")


@dataclass(frozen=True)
class Item:
    """One item of a benchmark."""

    benchmark: str
    file: str
    """Name of its file or split."""
    row: int
    native_id: str
    """Its own id, empty where it has none."""
    questions: tuple[str, ...]
    """Wordings of the question; each is matched."""
    answer: str
    choices: tuple[str, ...] = ()
    """The choices of a multiple-choice item, in order."""

    @property
    def longer(self) -> tuple[str, ...]:
        """Stand-ins for a question too short to match alone: it with its answer, and it with its lettered choices."""
        lettered = "\n".join(f"{letter}. {choice}" for letter, choice in zip("ABCDEFGH", self.choices, strict=False))
        return tuple(f"{q}\n{more}" for q in self.questions for more in (self.answer, lettered) if more)


Parts = tuple[tuple[str, ...], str, tuple[str, ...]]
"""Wordings of the question, right answer, choices."""


def _choices(row: BenchmarkRow) -> tuple[str, tuple[str, ...]]:
    """(right answer, choices) of a multiple-choice row: ARC's and MMLU's shapes."""
    question, answer = row.get("question"), row.get("answerKey", row.get("answer"))
    if isinstance(question, Mapping):
        texts = [c["text"] for c in question["choices"]]
        labels = {c["label"]: c["text"] for c in question["choices"]}
    elif isinstance(choices := row.get("choices"), Mapping):
        texts = list(choices["text"])
        labels = dict(zip(choices["label"], texts, strict=True))
    else:
        texts = choices if isinstance(choices, list) else [row[f"choice{i}"] for i in range(4)]
        labels = {str(i): t for i, t in enumerate(texts)} | dict(zip("ABCD", texts, strict=False))
    return str(labels.get(str(answer), "")), tuple(map(str, texts))


def _multiple_choice(row: BenchmarkRow) -> Parts:
    question = row["question"]
    return (question["stem"] if isinstance(question, Mapping) else question,), *_choices(row)


def _gsm8k(row: BenchmarkRow) -> Parts:
    # <<3*4=12>> is the calculator's note, which copies leave out as often as not.
    return (row["question"],), re.sub(r"<<[^>]*>>", "", row["answer"]), ()


def _hellaswag(row: BenchmarkRow) -> Parts:
    label = str(row["label"])
    return (row["ctx"],), row["endings"][int(label)] if label.isdigit() else "", ()


def _winogrande(row: BenchmarkRow) -> Parts:
    sentence = row["sentence"]
    return (sentence, *(sentence.replace("_", row[o]) for o in ("option1", "option2"))), "", ()


def _truthfulqa(row: BenchmarkRow) -> Parts:
    question = row["Question"] if "Question" in row else row["question"]
    return (question,), row.get("Best Answer", row.get("best_answer")) or "", ()


def _question_answer(row: BenchmarkRow) -> Parts:
    return (row["question"],), str(row.get("answer") or ""), ()


ADAPTERS: dict[str, Callable[[BenchmarkRow], Parts]] = {
    "arc": _multiple_choice,
    "gsm8k": _gsm8k,
    "hellaswag": _hellaswag,
    "mmlu": _multiple_choice,
    "question_answer": _question_answer,
    "truthfulqa": _truthfulqa,
    "winogrande": _winogrande,
}
"""Benchmark format -> how its rows become question, answer and choices."""


def read_items(settings: BenchmarkSettings) -> Iterator[Item]:
    """Every item of a benchmark, in file and row order.

    Raises:
        ValueError: no file matches, or a row does not have the benchmark's shape; the message names benchmark, file and row.
    """
    adapt = ADAPTERS[settings.format]
    for name, rows in _sources(settings):
        for number, row in enumerate(rows):
            try:
                questions, answer, choices = adapt(row)
            except (KeyError, TypeError, IndexError, ValueError) as error:
                raise ValueError(
                    f"benchmark {settings.name}: row {number} of {name} is not a {settings.format} item "
                    f"({type(error).__name__} {error}); correct its `format` or the file"
                ) from None
            native_id = str(row.get("id") or row.get("qID") or "")
            yield Item(settings.name, name, number, native_id, tuple(dict.fromkeys(questions)), answer, choices)


def benchmark_files(settings: BenchmarkSettings) -> list[str]:
    """The files of a benchmark, sorted.

    Raises:
        ValueError: a pattern matches nothing.
    """
    found: list[str] = []
    for pattern in settings.files:
        if (local := local_path(pattern)) is not None:
            matches = local_paths(local)
        else:
            with naming_private_hosts(pattern):
                filesystem, path = fsspec.core.url_to_fs(pattern, **http_options(pattern))
                named = unescape(path)
                matches = [named] if _exists(filesystem, named, pattern) else filesystem.glob(standard(path))
            matches = [WebUrl(filesystem.unstrip_protocol(p), reach_of(pattern)) for p in matches]
        if not matches:
            raise ValueError(
                f"benchmark {settings.name}: no file matches {pattern}; correct `contamination.benchmarks`"
            )
        found += matches
    return sorted(set(found))


def _exists(filesystem: fsspec.AbstractFileSystem, path: str, url: str) -> bool:
    try:
        # What HTTP calls missing may be out of reach.
        with naming_private_hosts(url):
            filesystem.info(path)
    except OSError:
        return False
    return True


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
