"""Every kernel takes time in proportion to its text, whatever the text is: four times as much takes no sixteen times as long."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fox1.pipeline.prepare.benchmarks import Item
from fox1.pipeline.prepare.contamination import ContaminationSettings, build
from fox1.pipeline.signals import c4, code, contamination, fineweb, gopher, language, minhash, pii, quality, urls
from fox1.pipeline.signals.scan import content_hashes
from fox1.pipeline.signals.segment import segment
from fox1.tokenize.encode import Encoder
from fox1.tokenize.model import TokenizerSettings, train
from fox1.tokenize.spans import text_buffers

SMALL, LARGE = 1 << 15, 1 << 17
"""Characters of a text and of one four times as long."""
GROWTH = 8
"""Most that the time may grow: 4 is linear, 16 quadratic."""
FLOOR = 0.05
"""Seconds that any kernel may take for the long text: below, the clock says nothing of growth."""

_rng = random.Random(1)
Runs = dict[str, Callable[[], Any]]

ITEMS = [" ".join(f"word{i}" for i in range(40)), " ".join(["a"] * 40)]
BLOCKED = ["x.org", "word", "a-b-a-b-a-b-a-c", "x.y/a/b", "*aaab*", f"*{'a' * 63}b*"]
UNITS = {
    "letters": "a", "letters and dots": "a.", "words and dots": "a" * 63 + ".", "words and dashes": "a" * 63 + "-",
    "words": "a ", "long words": "a" * 63 + " ", "pairs": "ab cd ", "items": ITEMS[0] + " ", "at": "a@", "at and dots": "a@a.",
    "addresses": "x@y.com ", "quotes of an address": '"a"@', "apostrophes": "a'",
    "paths on a host": "a@b.cd:", "letters of an address": "é@é.",
    "digits": "4", "digits and dots": "1.", "digits and spaces": "1 ", "dashed digits": "1-",
    "cards": "4111 ", "columns of cards": "4111111111111111 ", "card groups": "4111-1111-1111-1111-",
    "pluses": "+", "numbers": "+1 ", "areas": "(212) ", "addresses of hosts": "8.8.8.8.", "colons": "1::",
    "groups": "2a00:1:", "keys": "sk-a1", "key": "AKIA", "tokens": "eyJhbGciOiJI.", "private keys": "PRIVATE KEY-----\n",
    "begun keys": "-----BEGIN PRIVATE KEY-----\n", "spaces": " ", "no-break spaces": "\xa0", "line ends": "\n",
    "short lines": "a\n", "paragraphs": "ab\n\n", "sentences": "a. ", "dots": ".", "ellipses": "…", "quotes": '."', "braces": "{",
    "hashes": "#", "commands": "\\a", "backslash": "\\aaaaaaa", "bytes": "\\x41", "escapes": "\\u00e9", "base64": "QUJD+/0x",
    "signs": "a+b=c ", "operators": "a * b ", "ideographs": "漢字", "kana": "か\u3099", "Khmer": "ក្", "Thai": "ไทย",
    "syllables": "\u1100\u1161\u11a8", "soft hyphens": "a\u00ad", "joiners": "\u200d", "emoji": "\U0001f468\u200d",
    "marks": "\u0301", "marks of two classes": "\u0301\u0323", "marks of many classes": "\u0301\u0323\u05b0\u0345\u0334",
    "marks that decompose": "\u0344\u0f73\u0f75", "letters with marks": "a\u0301", "script": "javascript\n",
    "lorem": "lorem ipsum ", "policy": "cookie policy\n", "pages": "http://x.y/a?b=c&", "escapes of a page": "http://x/%e",
    "markers": "[1]", "brackets": "[", "open markers": "[12", "full stops and markers": ".[1][",
    "users": "http://@", "slashes": "/", "backslashes": "\\", "phrases": "a-b-", "colons of a page": "http://x:",
    "turns": "<start_of_turn>", "ends": "<eos>",
    "separators": "\x1d a", "beyond the tables": "\U000e0041", "private": "\U000f0000",
}  # fmt: skip
"""Text that a matcher may begin at every place, walk far from, and give up."""
TEXTS: dict[str, Callable[[int], str]] = {
    **{name: lambda n, unit=unit: (unit * (n // len(unit) + 1))[:n] for name, unit in UNITS.items()},
    "an address of long words": lambda n: ("a" * 63 + ".") * (n // 64) + "@b.cd",
    "words of every length": lambda n: " ".join("c" * (i % 300) for i in range(n // 150)),
    "distinct words": lambda n: " ".join(f"w{i}" for i in range(n // 7)),
    "random letters": lambda n: "".join(_rng.choices("abcdefABCDEF0123456789+/", k=n)),
    "a page of many names": lambda n: "http://" + "a." * (n // 2),
}


@functools.cache
def index_of_items() -> contamination.ContaminationIndex:
    items = [Item(questions=(item,), benchmark="b", file="f", row=i) for i, item in enumerate(ITEMS)]
    return build(items, ContaminationSettings())[0]


def kernels(document: str) -> Runs:
    """Each kernel over a text, ready to run."""
    text = pa.array([document], pa.large_string())
    s = segment(*text_buffers(text))
    index = index_of_items()
    models = quality.QualityModels(("web",), np.zeros((1, quality.BUCKETS), np.int16))
    judged = c4.judge_lines(s)
    flags = np.full(len(s.line_start), 255, np.uint8)
    repeats = gopher.repetition_counts(s, 5)[1]
    thai = np.array([language.load_model().languages.index("th")])
    return {
        "segment": lambda: segment(*text_buffers(text)),
        "quality counts": lambda: gopher.quality_counts(s, thai),
        "repetition": lambda: gopher.repetition_counts(s, 5),
        "lines": lambda: c4.judge_lines(s),
        "dropped lines": lambda: c4.dropped_lines(s, flags, np.array([255], np.uint8)),
        "citation markers": lambda: c4.kept_markers(s, judged, np.array([255], np.uint8)),
        "punctuation": lambda: fineweb.punctuation_counts(s),
        "encoded data": lambda: code.encoded_counts(s),
        "personal data": lambda: pii.find_pii(s),
        "contamination": lambda: contamination.find_hits(s, index),
        "language": lambda: language.identify(s.text, s.offsets),
        "quality": lambda: quality.score(s, models, np.zeros(1, np.int64), np.zeros(1, np.uint16)),
        "signature of words": lambda: minhash.sign(s, minhash.PRESETS["fineweb"], repeats),
        "signature of characters": lambda: minhash.sign(s, minhash.PRESETS["slimpajama"]),
        "content hash": lambda: content_hashes(text),
        "blocked": lambda: urls.blocked(text, urls.parse_rules(BLOCKED)),
        "hash of a page": lambda: urls.normalised_hashes(text),
    }


def seconds(run: Callable[[], Any]) -> float:
    began = time.process_time()
    run()
    return time.process_time() - began


def growing(kernels_of: Callable[[str], Runs], text: Callable[[int], str]) -> dict[str, str]:
    """The kernels whose time grew too much, by the better of two measurements each, and how it grew."""
    large = kernels_of(text(LARGE))
    suspects = {name: run for name, run in large.items() if seconds(run) > FLOOR}
    small = kernels_of(text(SMALL)) if suspects else {}
    out = {}
    for name, run in suspects.items():
        before = min(seconds(small[name]) for _ in range(2))
        took = min(seconds(run) for _ in range(2))
        if took > max(FLOOR, GROWTH * before):
            out[name] = f"{before:.3f} s, then {took:.3f} s"
    return out


@pytest.fixture(scope="module")
def encoders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Encoder]:
    path = tmp_path_factory.mktemp("tokenizer") / "t.model"
    # Of the units themselves, so that there is much to merge.
    texts = (f"{unit * k} {i}" for i, unit in enumerate(UNITS.values()) for k in range(1, 9))
    shape = TokenizerSettings(vocab_size=700)
    path.write_bytes(train(texts, shape))
    return {"fast": Encoder(path, shape.reserved), "exact": Encoder(path, shape.reserved, fast=False)}


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """No measured call compiles or loads anything."""
    for run in kernels("Some e\u0301 text of a@b.com. {} words").values():
        run()


@pytest.mark.parametrize("name", TEXTS)
def test_four_times_the_text_takes_no_kernel_much_more_than_four_times_as_long(name: str) -> None:
    assert not growing(kernels, TEXTS[name])


@pytest.mark.parametrize("name", TEXTS)
def test_four_times_the_text_is_encoded_in_not_much_more_than_four_times_as_long(
    name: str, encoders: dict[str, Encoder]
) -> None:
    def encode(text: str) -> Runs:
        array = pa.array([text], pa.large_string())
        return {kind: lambda encoder=encoder: encoder.encode(array) for kind, encoder in encoders.items()}

    assert not growing(encode, TEXTS[name])
