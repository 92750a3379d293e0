"""Recipes, and changes to them on the command line."""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .cases import Case, damage, refused

VARIABLES = {"FOX1_DATA": "/data", "FOX1_TOKENIZER": "/data/gemma.model"}
WORDS = (
    "", "~", "{}", "[]", "[[]]", "{a: 1}", "-1", "0", "1e999", ".inf", "-.inf", ".nan", "9" * 30, "9" * 5000, "1.5", "true",
    "2024-99-99", "1:2:3", "0b", "0x", "!!int x", "!!timestamp x", "!!binary x", "!!set {a}", "&a [*a]", "*a", "? a", "\t",
    "62B", "1e300B", "1e-300T", "120%", "-5%", "nan%", "all", "web", "pile", "pile/Nosuch", "../../x", "'a\\nb'", '"a\\nb"',
    '"\\e[31m"', '"\\0"', "${FOX1_DATA}", "${A:-${B}}", "${A:-x}", "slimpajama", "[slimpajama]", "{web: {min_words: .nan}}",
    "{min_words: 9999999999999999999999}", "[[[[[[[[1]]]]]]]]", "'" + "x" * 400 + "'", "2001-01-01", "1_000", "<<: 1", "=",
)  # fmt: skip


@functools.cache
def _paths_of_recipe() -> tuple[str, ...]:
    from fox1.recipes.load import load_recipe

    def walk(value: Any, where: str) -> Iterator[str]:
        yield where
        items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        for key, part in items:
            yield from walk(part, f"{where}.{key}" if where else str(key))

    return tuple(p for p in walk(load_recipe("sample", [], VARIABLES)[1], "") if p)


def make_recipe(rng: random.Random) -> Case:
    from fox1.recipes.load import PACKAGE

    lines = (PACKAGE / rng.choice(["sample.yaml", "mini.yaml", "fox1.yaml"])).read_text().splitlines()
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(lines))
        match rng.randrange(4):
            case 0:
                key, colon, _ = lines[at].partition(":")
                lines[at] = f"{key}{colon} {rng.choice(WORDS)}"
            case 1:
                lines[at] = " " * rng.randrange(6) + lines[at].lstrip()
            case 2:
                del lines[at : at + rng.randrange(1, 4)]
                lines.append("x: 1")
            case 3:
                lines.insert(at, rng.choice(lines))
    data = "\n".join(lines).encode()
    return Case("recipe.yaml", data if rng.random() < 0.6 else damage(data, rng, 1))


def load(case: Case, folder: Path) -> str:
    from fox1.recipes.load import load_recipe

    path = folder / case.name
    path.write_bytes(case.data)
    try:
        load_recipe(str(path), [], VARIABLES)
    except Exception as error:
        return refused(error, "")
    return "read"


def make_overrides(rng: random.Random) -> Case:
    lines = []
    for _ in range(rng.randrange(1, 4)):
        key = rng.choice(_paths_of_recipe())
        if rng.random() < 0.2:
            key += rng.choice([".x", ".0", ".", "..", ".-1", ".a.b.c"])
        lines.append(f"{key}={rng.choice(WORDS)}".encode())
    data = b"\0".join(lines)
    return Case("overrides", data if rng.random() < 0.8 else damage(data, rng, 1))


def load_overrides(case: Case, folder: Path) -> str:
    from fox1.recipes.load import load_recipe

    try:
        load_recipe("sample", [o.decode(errors="replace") for o in case.data.split(b"\0")], VARIABLES)
    except Exception as error:
        return refused(error, "")
    return "read"
