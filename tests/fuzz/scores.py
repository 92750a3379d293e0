"""Scores of others: fastText classifiers, and files of scores."""

from __future__ import annotations

import io
import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from tests.pipeline.signals.fasttext_files import HS, made_up

from .cases import Case, Fault, damage, refused

MODELS = (
    made_up(1, ngrams=2, shortest=2, longest=3, buckets=40),
    made_up(2, ngrams=3, buckets=20, loss=HS),
    made_up(3, ngrams=2, buckets=20, pruned=((3, 0), (7, 1))),
    made_up(4, ngrams=2, buckets=40, parts=2, normed=True),
)


def make_classifier(rng: random.Random) -> Case:
    data = rng.choice(MODELS).file()
    # Sizes and names lie in the first bytes: half of the damage is done there.
    return Case("x.bin", damage(data[:300], rng) + data[300:] if rng.random() < 0.5 else damage(data, rng))


def classify(case: Case, folder: Path) -> str:
    """Scores between 0 and 1 of whatever it is asked, or one line that names score and file."""
    from fox1.pipeline.prepare.classifiers import read_classifier
    from fox1.pipeline.signals import fasttext
    from fox1.pipeline.signals.scores import ScoreSettings
    from fox1.tokenize.spans import text_buffers

    path = folder / case.name
    path.write_bytes(case.data)
    texts = ["the cat sat \u65e5\u672c </s> x", "", "naïve " * 50, case.data.decode(errors="replace")]
    try:
        classifier = read_classifier(ScoreSettings("fuzz", str(path), (("good", 1.0),))).classifier
    except Exception as error:
        return refused(error, "scores.fuzz")
    buffers = text_buffers(pa.array(texts, pa.large_string()))
    found = fasttext.score(classifier, *buffers, np.zeros(len(texts), bool))
    if not (np.isnan(found) | ((found >= 0) & (found <= 1))).all():
        raise Fault(f"scores {found}")
    return "read"


def make_scores(rng: random.Random) -> Case:
    ids = ["1", "9223372036854775807", "abc", "", "-1", "18446744073709551616", "é"]
    values = ["1", "0.5", "", "nan", "inf", "-inf", "1e999", "x", "null", "true"]
    rows = [(rng.choice(ids[: rng.choice([1, 7])]), rng.choice(values[: rng.choice([3, 10])])) for _ in range(5)]
    kind = rng.choice(["csv", "tsv", "jsonl", "parquet"])
    if kind == "parquet":
        out = io.BytesIO()
        pq.write_table(pa.table({"native_id": [i for i, _ in rows], "score": [v for _, v in rows]}), out)
        data = out.getvalue()
    elif kind == "jsonl":
        data = "".join(f'{{"native_id": "{i}", "score": {v or 0}}}\n' for i, v in rows).encode()
    else:
        joint = "," if kind == "csv" else "\t"
        data = "\n".join(joint.join(r) for r in (("native_id", "score"), *rows)).encode()
    return Case(f"x.{kind}", data if rng.random() < 0.3 else damage(data, rng))


def read_scores(case: Case, folder: Path) -> str:
    """Keys with finite scores, or one line that names score and file."""
    from fox1.pipeline.filter import score_files
    from fox1.pipeline.signals.scores import ScoreSettings

    path = folder / case.name
    path.write_bytes(case.data)
    for key, columns in (("doc_id", (("doc_id", "native_id"),)), ("native_id", ())):
        settings = ScoreSettings("fuzz", files=(str(path),), key=key, columns=columns)  # type: ignore[arg-type]
        try:
            found = list(score_files.read_scores(str(path), settings, 0))
        except Exception as error:
            outcome = refused(error, "scores.fuzz")
            continue
        if any(len(s.keys) != len(s.scores) or not np.isfinite(s.scores).all() or s.rows < len(s.keys) for s in found):
            raise Fault(f"scores {found}")
        outcome = "read"
    return outcome
