"""What `preset: multilingual` keeps of text in several languages, beside what FineWeb-2's filters keep of it.

    python -m benchmarks.language_agreement FOLDER [--out FILE.json] [--show 3]

FOLDER holds `<language>.jsonl`, rows with `text`, by codes of the language model. Every document is judged as if it were in
the language of its file: which language it is in is another question, and printed apart. FineWeb-2's side is datatrove's
GopherRepetitionFilter, FineWebQualityFilter and GopherQualityFilter as FineWeb-2's pipeline sets them up, with the words of
the segmenter that datatrove assigns to the language (`pip install jieba sudachipy sudachidict_core pythainlp
indic-nlp-library` for zh, ja, th and hi). Prints, by language: documents, units and characters of a word by segmenter, the
shares that each side keeps, and the share decided alike; with --show, documents that only one keeps, and why.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from fox1.benchmarks.fineweb2_rules import configuration_of
from fox1.pipeline.filter.judge import FilterSettings, Section, judge
from fox1.pipeline.run.identity import SourceFile
from fox1.pipeline.signals import scan
from fox1.pipeline.signals.fineweb2 import LanguageRules, language_rules
from fox1.pipeline.signals.segment import segment
from fox1.pipeline.sources.text_schema import TEXT_SCHEMA
from fox1.recipes.multilingual import multilingual_thresholds
from fox1.tokenize.spans import text_buffers


def theirs(language: str, rules: LanguageRules) -> list[Any]:
    """FineWeb-2's filters, in its order (fineweb-2-pipeline.py)."""
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    words = configuration_of(language)
    return [
        GopherRepetitionFilter(
            language=words,
            dup_para_frac=0,
            dup_line_char_frac=0,
            dup_para_char_frac=0,
            dup_line_frac=rules.dup_line_frac,
            top_n_grams=tuple(zip((2, 3, 4), rules.top_n_grams, strict=True)),
            dup_n_grams=tuple(zip(range(5, 11), rules.dup_n_grams, strict=True)),
        ),
        FineWebQualityFilter(
            language=words,
            short_line_thr=999,
            char_duplicates_ratio=0.1,
            line_punct_thr=rules.line_punct_thr,
            new_line_ratio=rules.new_line_ratio,
        ),
        GopherQualityFilter(
            language=words,
            max_avg_word_length=rules.max_avg_word_length,
            min_avg_word_length=rules.min_avg_word_length,
            stop_words=list(rules.stopwords),
            max_non_alpha_words_ratio=rules.max_non_alpha_words_ratio,
            min_stop_words=2,
        ),
    ]


def rejected(filters: list[Any], text: str) -> str:
    """Why the first filter that drops a document does; empty where none does."""
    from datatrove.data import Document

    for filter_ in filters:
        try:
            result = filter_.filter(Document(text=text, id=""))
        except ZeroDivisionError:
            return "no words"
        if isinstance(result, tuple):
            return str(result[1])
        if not result:
            return type(filter_).__name__
    return ""


def ours(language: str, texts: list[str]) -> tuple[list[list[str]], pa.RecordBatch]:
    """(the rules of the preset that each document fails, its signals), whatever language the model takes it for."""
    columns = [
        range(len(texts)),
        texts,
        [""] * len(texts),
        [""] * len(texts),
        [""] * len(texts),
        [0] * len(texts),
    ]
    batch = pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, TEXT_SCHEMA, strict=True)], schema=TEXT_SCHEMA
    )
    file = SourceFile("text", "x.jsonl", "", 0, "", "huggingface", False, 1)
    settings = scan.ScanSettings()
    schema, models = scan.signals_schema(settings), scan.Models.nothing()
    signals = scan.scan_piece(batch, file, settings, schema, models)
    judged = judge(
        signals.set_column(signals.schema.get_field_index("language"), "language", pa.array([language] * len(texts))),
        "text",
        FilterSettings((Section("all", tuple(multilingual_thresholds(language).items())),)),
    )
    return [[name for name, hit in judged if hit[i]] for i in range(len(texts))], signals


def segmented(language: str, texts: list[str]) -> tuple[float, float]:
    """(units of ours, characters) of a word of the language's segmenter, over the words with a letter."""
    from datatrove.utils.text import split_into_words

    words = [
        w for t in texts[:100] for w in split_into_words(t, configuration_of(language)) if any(map(str.isalpha, w))
    ]
    s = segment(*text_buffers(pa.array(words, pa.large_string())))
    return int(s.n_units.sum()) / len(words), sum(map(len, words)) / len(words)


def documents(folder: Path) -> Iterator[tuple[str, list[str]]]:
    for file in sorted(folder.glob("*.jsonl")):
        if file.stem in language_rules():
            texts = [json.loads(line)["text"] for line in file.read_text(encoding="utf-8").splitlines()]
            yield file.stem, [t for t in texts if t.strip()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--show", type=int, default=0, metavar="N", help="documents of each kind that one side keeps")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    print(f"{'':4}{'documents':>10}{'units':>8}{'chars':>8}{'FineWeb-2':>11}{'fox1':>8}{'alike':>9}{'language':>10}")
    for language, texts in documents(options.folder):
        filters = theirs(language, language_rules()[language])
        dropped = [rejected(filters, text) for text in texts]
        failed, signals = ours(language, texts)
        kept, own = np.array([not d for d in dropped]), np.array([not f for f in failed])
        units, chars = segmented(language, texts)
        found = float(np.mean([name == language for name in signals.column("language").to_pylist()]))
        alike = float((kept == own).mean())
        row = {
            "language": language,
            "documents": len(texts),
            "units": round(units, 2),
            "chars": round(chars, 2),
            "fineweb2": round(float(kept.mean()), 4),
            "fox1": round(float(own.mean()), 4),
            "alike": round(alike, 4),
            "identified": round(found, 4),
        }
        rows.append(row)
        print(
            f"{language:4}{len(texts):10,}{units:8.2f}{chars:8.2f}{100 * kept.mean():9.1f} %{100 * own.mean():6.1f} %"
            f"{100 * alike:7.1f} %{100 * found:8.1f} %",
            flush=True,
        )
        for i in [*np.flatnonzero(kept & ~own)[: options.show], *np.flatnonzero(~kept & own)[: options.show]]:
            print(f"     FineWeb-2: {dropped[i] or 'kept'}; fox1: {', '.join(failed[i]) or 'kept'}: {texts[i][:60]!r}")
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n")
    print(json.dumps({"languages": len(rows), "least_alike": min(r["alike"] for r in rows)}))


if __name__ == "__main__":
    main()
