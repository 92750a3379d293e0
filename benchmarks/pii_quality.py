"""Recall and precision of the rules for personal data, on a labelled set made here and, where FOX1_DATA is set, on real text.

    [FOX1_DATA=...] python -m benchmarks.pii_quality [--cases 2000] [--recipe mini] [--out FILE.json]

The made set has as many lines with personal data as lines with what only looks like it, of each kind. A line counts as found
if exactly its datum is; any span in a lookalike, and any other span beside a datum, is a false one.

    recall      of the data made, the share found
    precision   of the spans found in the made set, the share that are a datum
    lookalikes  of the lines without personal data, the share in which something was found

Real text has no labels: printed are documents, spans by kind, and with --out every distinct span with the text around it, to
be judged by a reader.
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import os
import random
import string
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
from fox1.pipeline.signals.pii import KINDS, find_pii
from fox1.pipeline.signals.segment import segment
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.recipes.load import load_recipe
from fox1.recipes.settings import curate_settings
from fox1.tokenize.spans import text_buffers

Rng = random.Random
Made = Callable[[Rng], str]
AROUND = 40
"""Characters shown on each side of a span of real text."""
WORDS = "the report of our office names every river and each bridge that was built in those years by hand".split()
NAMES = "anna joe maria.silva o'neil j.smith li_wei team+news info k.mueller2 jos\u00e9".split()
HOSTS = "example.com mail.example.org uni-bonn.de foo.co.uk shop.example.net m\u00fcller.de".split()


def digits(rng: Rng, n: int) -> str:
    return "".join(rng.choices(string.digits, k=n))


def grouped(number: str, sizes: list[int], gap: str) -> str:
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return gap.join(number[end - size : end] for end, size in zip(ends, sizes, strict=True))


def card(rng: Rng) -> str:
    lead, n = rng.choice(
        [("4", 16), ("51", 16), ("55", 16), ("37", 15), ("34", 15), ("6011", 16), ("3530", 16), ("4", 16)]
    )
    body = lead + digits(rng, n - 1 - len(lead))
    total = sum(sum(divmod(2 * int(c), 10)) if k % 2 == 0 else int(c) for k, c in enumerate(reversed(body)))
    number = body + str(-total % 10)
    sizes = [4, 4, 4, 4] if n == 16 else [4, 6, 5]
    return rng.choice([number, grouped(number, sizes, " "), grouped(number, sizes, "-")])


def address(rng: Rng) -> str:
    while True:
        found = ipaddress.ip_address(rng.getrandbits(32))
        if found.is_global and not found.is_multicast and not found.is_reserved and int(found) >> 24:
            return str(found)


def address6(rng: Rng) -> str:
    return str(
        ipaddress.ip_address((0x2A00 << 112) | rng.getrandbits(112) >> rng.choice([0, 0, 16]) << rng.choice([0, 8]))
    )


def north_american(rng: Rng) -> str:
    area, exchange, line = str(rng.randrange(201, 990)), str(rng.randrange(200, 1000)), digits(rng, 4)
    return rng.choice([f"({area}) {exchange}-{line}", f"{area}-{exchange}-{line}", f"{area}.{exchange}.{line}"])


def international(rng: Rng) -> str:
    code, sizes = rng.choice(
        [("44", [2, 4, 4]), ("49", [3, 7]), ("33", [1, 2, 2, 2, 2]), ("91", [5, 5]), ("1", [3, 3, 4])]
    )
    number = str(rng.randrange(2, 10)) + digits(rng, sum(sizes) - 1)
    if code == "1":
        number = f"{rng.randrange(201, 990)}{rng.randrange(200, 1000)}{digits(rng, 4)}"
    return f"+{code}{rng.choice(' -')}{grouped(number, sizes, rng.choice(' -'))}"


def key(rng: Rng) -> str:
    base62 = string.ascii_letters + string.digits
    prefix, alphabet, n = rng.choice(
        [
            ("AKIA", string.ascii_uppercase + "234567", 16), ("ghp_", base62, 36), ("sk-", base62, 48),
            ("sk-proj-", base62 + "-_", 74), ("hf_", string.ascii_letters, 34), ("AIza", base62 + "-_", 35),
            ("xoxb-", base62, 44), ("npm_", base62, 36), ("glpat-", base62 + "-_", 20), ("sk_live_", base62, 24),
        ]
    )  # fmt: skip
    return prefix + "".join(rng.choices(alphabet, k=n))


DATA: dict[str, tuple[Made, list[str]]] = {
    "email": (
        lambda rng: f"{rng.choice(NAMES)}@{rng.choice(HOSTS)}",
        ["write to {}.", "<{}>", "{}, or call", "mailto:{}?subject=x", "({})", "author: '{}'", "{}--he said", "{}"],
    ),
    "ip": (
        lambda rng: address(rng) if rng.random() < 0.8 else address6(rng),
        ["{} - - [10/Oct/2024] GET /", "from {} port 22", "has address {}", "({})", "ping {}.", '"ip": "{}"', "http://[{}]/"],
    ),
    "card": (
        card,
        ["{}", "{} 12/25 123", "card {} exp 04/27", "{}, {}", "paid with {}.", "{}-1", "{}\n{}", "12/25 {}", "Visa: {} CVV 123"],
    ),
    "phone": (
        lambda rng: north_american(rng) if rng.random() < 0.6 else international(rng),
        ["call {}", "Tel: {}, Fax", "{}", "({}?)", "phone {} ext. 5", "{}\n"],
    ),
    "key": (key, ["{}", 'token = "{}"', "export KEY={}", "Authorization: Bearer {}", "key: {}."]),
}  # fmt: skip


def small(rng: Rng) -> str:
    return ".".join(str(rng.randrange(1, 30)) for _ in range(4))


def slug(rng: Rng) -> str:
    return "-".join(rng.choices([*WORDS, "semiconductor", "telecommunications5g", "2nd", "internationalization"], k=6))


LOOKALIKES: dict[str, list[Made]] = {
    "email": [
        lambda rng: f"img/{rng.choice(WORDS)}@{rng.randrange(1, 4)}x.{rng.choice(['png', 'jpg', 'zip', 'ai', 'webp'])}",
        lambda rng: f"git@{rng.choice(['github.com', 'gitlab.com', 'bitbucket.org'])}:{rng.choice(WORDS)}/x.git",
        lambda rng: f"npm i {rng.choice(WORDS)}@4.17.{rng.randrange(99)} @types/node@18.{rng.randrange(99)}.0",
        lambda rng: f"y = {rng.choice('ABCWX')}@{rng.choice('DEFkq')}.{rng.choice(['mean', 'T', 'dot', 'reshape'])}()",
        lambda rng: f"@{rng.choice(WORDS)}.route and @media screen, deploy@web.example.com:/srv/{rng.choice(WORDS)}",
    ],
    "ip": [
        lambda rng: f"version {rng.randrange(1, 200)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}",
        lambda rng: f"see section {small(rng)} and {small(rng)}",
        lambda rng: f"requires ^{small(rng)}, <{small(rng)}",
        lambda rng: f"192.168.{rng.randrange(256)}.{rng.randrange(256)} and 10.{rng.randrange(256)}.0.1 on 127.0.0.1",
        lambda rng: f"{rng.randrange(1990, 2030)}:: at {rng.randrange(24)}:{rng.randrange(60)}:00, std::{rng.choice(WORDS)}",
        lambda rng: f"OID 1.3.6.1.4.1.{rng.randrange(9999)}, MAC {':'.join(digits(rng, 2) for _ in range(6))}",
    ],
    "card": [
        lambda rng: f"order {digits(rng, 16)} shipped",
        lambda rng: f"at {rng.randrange(1_500_000_000_000, 1_800_000_000_000)} ms, id {digits(rng, rng.randrange(13, 20))}",
        lambda rng: f"0.{digits(rng, 16)} and 3.{digits(rng, 18)}",
        lambda rng: "\n".join(digits(rng, 16) for _ in range(8)),
        lambda rng: " ".join(digits(rng, 4) for _ in range(24)),
        lambda rng: "".join(rng.choices("0123456789abcdef", k=40)),
        lambda rng: f"total {digits(rng, 16)} of the sum",
    ],
    "phone": [
        lambda rng: f"+{rng.randrange(90)}.{digits(rng, 8)} -{rng.randrange(180)}.{digits(rng, 6)}",
        lambda rng: f"+20{rng.randrange(10, 30)}0{rng.randrange(1, 10)}{rng.randrange(10, 29)}\n-{digits(rng, 8)}",
        lambda rng: f"rows {digits(rng, 3)} {digits(rng, 3)} {digits(rng, 4)} {digits(rng, 3)}",
        lambda rng: f"20{digits(rng, 2)}-0{rng.randrange(1, 10)}-1{rng.randrange(10)}, ISBN 0-{digits(rng, 3)}-{digits(rng, 5)}-1",
        lambda rng: f"@@ -{digits(rng, 3)},7 +{digits(rng, 3)},8 @@ x+{digits(rng, 10)}",
    ],
    "key": [
        lambda rng: f"https://example.com/sk-{slug(rng)}",
        lambda rng: f"hf_{slug(rng).replace('-', '_')} npm_{rng.choice(WORDS)}",
        lambda rng: "".join(rng.choices("0123456789abcdef", k=40)),
        lambda rng: f"AKIA{rng.choice(WORDS).upper()} eyJ{rng.choice(WORDS)} SG.{rng.choice(WORDS)}",
    ],
}  # fmt: skip


def spans_of(texts: list[str]) -> Iterator[tuple[int, str, str, str, str]]:
    """(text, kind, what was found, what stands before it, what stands after it)"""
    for begin in range(0, len(texts), 500):
        s = segment(*text_buffers(pa.array(texts[begin : begin + 500], pa.large_string())))
        for d, start, stop, kind in find_pii(s)[1].tolist():
            first, last = int(s.offsets[d]), int(s.offsets[d + 1])
            parts = ((max(first, start - AROUND), start), (start, stop), (stop, min(last, stop + AROUND)))
            before, found, after = (s.text[a:b].tobytes().decode(errors="ignore") for a, b in parts)
            yield begin + d, KINDS[kind], found, before, after


def judge_made(kind: str, cases: int, rng: Rng) -> dict[str, Any]:
    """What the rules find in lines with one kind of data, and in its lookalikes."""
    make, frames = DATA[kind]
    data, lines = [], []
    for _ in range(cases):
        frame = rng.choice(frames)
        given = [make(rng) for _ in range(frame.count("{}"))]
        data.append(given)
        lines.append(frame.format(*given))
    alike = [f"{rng.choice(WORDS)} {rng.choice(LOOKALIKES[kind])(rng)}" for _ in range(cases)]
    found: list[list[tuple[str, str]]] = [[] for _ in range(2 * cases)]
    for text, of_kind, span, *_ in spans_of(lines + alike):
        found[text].append((of_kind, span))
    right = sum(found[i].count((kind, datum)) > 0 for i, given in enumerate(data) for datum in given)
    return {
        "kind": kind,
        "data": sum(map(len, data)),
        "recall": right / sum(map(len, data)),
        "precision": right / max(1, sum(map(len, found))),
        "lookalikes": sum(map(bool, found[cases:])) / cases,
    }


def judge_real(recipe: str) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Spans of the distinct documents of a recipe's sources: how many, and each distinct one where it was first found."""
    texts = dict[str, None]()
    for file in list_sources(curate_settings(load_recipe(recipe)[0]).sources):
        for batch in read_rows(file, Quarantine(file)):
            texts.update(dict.fromkeys(batch.column("text").to_pylist()))
    found = list(spans_of([*texts]))
    first: dict[tuple[str, str], dict[str, str]] = {}
    for _, kind, span, before, after in found:
        first.setdefault((kind, span), {"kind": kind, "span": span, "before": before, "after": after})
    count = {k: {"spans": sum(f[1] == k for f in found), "distinct": sum(of == k for of, _ in first)} for k in KINDS}
    return {"documents": len(texts), "characters": sum(map(len, texts)), **count}, [*first.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--cases", type=int, default=2000)
    parser.add_argument("--recipe", default="mini")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    rng = random.Random(1)
    rows = [judge_made(kind, options.cases, rng) for kind in DATA]
    print(f"{'kind':8}{'data':>8}{'recall':>9}{'precision':>11}{'lookalikes':>12}")
    for row in rows:
        print(f"{row['kind']:8}{row['data']:8,}{row['recall']:9.4f}{row['precision']:11.4f}{row['lookalikes']:12.4f}")
    report: dict[str, Any] = {"made": rows}
    if "FOX1_DATA" in os.environ:
        report["real"], spans = judge_real(options.recipe)
        if options.out:
            options.out.write_text("".join(json.dumps(span, ensure_ascii=False) + "\n" for span in spans))
    print(json.dumps(report))


if __name__ == "__main__":
    main()
