"""The six benchmarks' published files as rows of lm-eval's tasks, for machines without a network.

A folder holds `arc/`, `gsm8k/`, `hellaswag/`, `mmlu/`, `truthfulqa/` and `winogrande/`, each with the files as their authors
publish them. If the training split is missing, few-shot examples come from the development split, or else from the items
themselves, without the one in question (lm-eval does that).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]
EVAL, SHOTS = "test", "shots"


@dataclass(frozen=True)
class BenchmarkItems:
    """The rows of a benchmark."""

    rows: list[Row]
    """Rows to evaluate on."""
    shots: list[Row] | None = None
    """Rows for few-shot examples; None: the same rows."""


def _find(folder: Path, patterns: Iterable[str], needed: bool = True) -> list[Path]:
    for pattern in patterns:
        if found := sorted(folder.glob(pattern)):
            return found
    if needed:
        raise ValueError(f"{folder} has no {' or '.join(patterns)}; put the published files of the benchmark there")
    return []


def _json_lines(paths: Iterable[Path]) -> list[Row]:
    rows = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                try:
                    rows.append(json.loads(line))
                except ValueError as error:
                    raise ValueError(f"{path}, line {number}: not JSON ({error}); fetch the file again") from None
    return rows


def arc(folder: Path) -> BenchmarkItems:
    """ARC Challenge: question stems with labelled choices."""

    def row(value: Row) -> Row:
        choices = value["question"]["choices"]
        return {
            "question": value["question"]["stem"],
            "choices": {"text": [c["text"] for c in choices], "label": [c["label"] for c in choices]},
            "answerKey": value["answerKey"],
        }

    shots = _find(folder, ["*Challenge-Train*.jsonl", "*Challenge-Dev*.jsonl"], needed=False)
    rows = [row(v) for v in _json_lines(_find(folder, ["*Challenge-Test*.jsonl"]))]
    return BenchmarkItems(rows, [row(v) for v in _json_lines(shots)] or None)


def gsm8k(folder: Path) -> BenchmarkItems:
    """GSM8k: questions and worked answers."""
    return BenchmarkItems(
        _json_lines(_find(folder, ["test.jsonl"])), _json_lines(_find(folder, ["train.jsonl"], False)) or None
    )


def hellaswag(folder: Path) -> BenchmarkItems:
    """HellaSwag: as published (ctx_a, ctx_b), or with the context joined to one text."""

    def row(value: Row) -> Row:
        if "ctx_a" not in value:
            label, _, context = value["ctx"].partition(": ")
            # The second part of a context is an unfinished sentence, which not every context has.
            first, _, second = (
                context.rpartition(". ") if not context.rstrip().endswith((".", "!", "?")) else ("", "", "")
            )
            whole = {"ctx_a": f"{first}.", "ctx_b": second} if first else {"ctx_a": context, "ctx_b": ""}
            value = {**value, "activity_label": label, **whole}
        return {k: value[k] for k in ("activity_label", "ctx_a", "ctx_b", "endings")} | {"label": str(value["label"])}

    shots = _json_lines(_find(folder, ["*train*.jsonl"], needed=False))
    rows = [row(v) for v in _json_lines(_find(folder, ["*val*.jsonl"]))]
    return BenchmarkItems(rows, [row(v) for v in shots] or None)


def truthfulqa(folder: Path) -> BenchmarkItems:
    """TruthfulQA, multiple choice: the correct answers against the incorrect ones."""

    def split(text: str) -> list[str]:
        return [part.strip() for part in text.split(";") if part.strip()]

    (path,) = _find(folder, ["TruthfulQA.csv"])
    rows = []
    with open(path, encoding="utf-8", newline="") as file:
        for value in csv.DictReader(file):
            best, right, wrong = (
                value["Best Answer"].strip(),
                split(value["Correct Answers"]),
                split(value["Incorrect Answers"]),
            )
            labels = [1] * len(right) + [0] * len(wrong)
            rows.append(
                {
                    "question": value["Question"],
                    "mc1_targets": {"choices": [best, *wrong], "labels": [1] + [0] * len(wrong)},
                    "mc2_targets": {"choices": [*right, *wrong], "labels": labels},
                }
            )
    return BenchmarkItems(rows)


def winogrande(folder: Path) -> BenchmarkItems:
    """WinoGrande: sentences with a gap and two options."""
    keys = ("sentence", "option1", "option2", "answer")

    def rows(paths: list[Path]) -> list[Row]:
        return [{k: v[k] for k in keys} for v in _json_lines(paths)]

    return BenchmarkItems(
        rows(_find(folder, ["dev.jsonl"])), rows(_find(folder, ["train_xl.jsonl"], needed=False)) or None
    )


def mmlu_subjects(folder: Path) -> list[str]:
    """The subjects of MMLU that a folder has files of."""
    return [p.name.removesuffix("_test.csv") for p in _find(folder, ["test/*_test.csv"])]


def mmlu(folder: Path, subject: str) -> BenchmarkItems:
    """One subject of MMLU: four choices, the answer as a letter or a number; with or without a header line."""

    def rows(split: str) -> list[Row]:
        (path,) = _find(folder, [f"{split}/{subject}_{split}.csv"])
        found = []
        with open(path, encoding="utf-8", newline="") as file:
            for number, cells in enumerate(csv.reader(file), 1):
                if number == 1 and cells[-1] == "answer":
                    continue
                answer = "0123".find(cells[-1]) if cells[-1].isdigit() else "ABCD".find(cells[-1])
                if len(cells) != 6 or answer < 0:
                    raise ValueError(f"{path}, row {number}: expected a question, four choices and an answer")
                found.append({"question": cells[0], "choices": cells[1:5], "answer": answer, "subject": subject})
        return found

    return BenchmarkItems(rows("test"), rows("dev"))


def local_splits(read: Callable[[], BenchmarkItems]) -> dict[str, Any]:
    """The settings that make a task of lm-eval use local rows."""
    from datasets import Dataset

    items = read()
    splits = {EVAL: Dataset.from_list(items.rows)}
    if items.shots is not None:
        splits[SHOTS] = Dataset.from_list(items.shots)
    return {
        "custom_dataset": lambda **_: splits,
        "training_split": None,
        "validation_split": None,
        "test_split": EVAL,
        "fewshot_split": SHOTS if items.shots is not None else EVAL,
    }
