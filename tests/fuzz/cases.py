"""A case, its damage, and what no case may cause."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

CONTROL = re.compile("[\x00-\x1f\x7f-\x9f]")
"""What can steer a terminal."""


class Fault(AssertionError):
    """What no input may cause."""


@dataclass(frozen=True)
class Case:
    """One input: a file by its name, and its bytes."""

    name: str
    data: bytes


@dataclass(frozen=True)
class Target:
    make: Callable[[random.Random], Case]
    judge: Callable[[Case, Path], str]
    """(case, an empty folder) -> what came of it, in a word. Raises `Fault`."""


def refused(error: BaseException, *names: str) -> str:
    """The outcome of an error that a user may see: one line of ours, with one of these names."""
    said = str(error)
    if not isinstance(error, ValueError) or isinstance(error, pa.ArrowException | UnicodeError | json.JSONDecodeError):
        raise Fault(f"{type(error).__name__} escapes: {said[:300]}") from error
    if len(said.splitlines()) != 1:
        raise Fault(f"an error of {len(said.splitlines())} lines: {said[:300]!r}") from error
    if not any(name in said for name in names):
        raise Fault(f"an error that names none of {names}: {said[:300]}") from error
    if CONTROL.search(said):
        raise Fault(f"an error that can steer a terminal: {said[:300]!r}") from error
    return "refused"


SPICE = (
    b"\0", b"\xff", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\x80", b"\x1b[31m", b"\x9b", b"\n", b"\r\n", b"\\u0000",
    b"\\ud800", b"\\ud83d\\ude00", b'"', b"'", b"{", b"}", b"[" * 40, b"{}," * 40, b"]", b",", b":", b"null", b"true",
    b"-1", b"1e999", b"-1e999", b"NaN", b"9" * 30, b"9" * 5000, b"0x" + b"f" * 5000, b"18446744073709551616",
    b"4294967295", b"-2147483649", b"../../x", b"/etc/passwd", b"</script>", b"{{ 7 * 7 }}", b"{% raw %}", b"<eos>",
    b"<start_of_turn>", b"\x1c", b"\x1e", b"&a [*a]", b"!!python/object", b"${FOX1_DATA}", b"${", b"---\n", b"? ", b"\t",
    b"'{0}'", b"\x80\x04.", b"\xff\xff\xff\xff", b"\x00\x00\x00\x80", b"\xff\xff\xff\x7f", b"ARROW1", b"PAR1",
)  # fmt: skip


def damage(data: bytes, rng: random.Random, times: int = 0) -> bytes:
    """`data` with a few bits, bytes or spans of it changed."""
    out = bytearray(data)
    for _ in range(times or 1 + min(rng.randrange(8), rng.randrange(8))):
        at = rng.randrange(len(out) + 1)
        end = min(len(out), at + 1 + rng.randrange(1 << rng.randrange(1, 9)))
        match rng.randrange(8):
            case 0 | 1 if at < len(out):
                out[at] ^= 1 << rng.randrange(8)
            case 2 if at < len(out):
                out[at] = rng.randrange(256)
            case 3 | 4:
                out[at:at] = rng.choice(SPICE)
            case 5:
                out[at : at + rng.randrange(2) * 8] = rng.choice(SPICE)
            case 6:
                del out[at:end]
            case 7:
                match rng.randrange(3):
                    case 0:
                        out[at:at] = out[at:end]
                    case 1:
                        to = rng.randrange(len(out) + 1)
                        out[to : to + end - at] = out[at:end]
                    case 2:
                        del out[at:]
    return bytes(out)


LITERALS = (
    "<eos>", "<bos>", "<pad>", "<unk>", "<s>", "</s>", "<start_of_turn>", "<end_of_turn>", "<0x0A>", "<mask>",
    "<|im_start|>", "\u2581", "\x1b[2J\x1b]0;x\x07", "\x9b31m", "\x1c", "\x1d", "\x1e", "\x1f", "\u2028", "\x85", "\ufeff",
    "{{ 7 * 7 }}", "{% raw %}", "</script><script>x()</script>", "<!--", "]]>", "a", " ", "\n", "\r\n", "\t", "word ",
    "joe@example.com ", "10.0.0.1 ", "4111 1111 1111 1111 ", "(212) 555-0123 ", "javascript\n", "lorem ipsum {", "{", "}",
    "e\u0301", "\u0378", "\U000e0001", "\U0010ffff", "\ufdd0", "\u202e", "\U0001f468\u200d\U0001f469", "\u0fb2\u0f71\u0f80",
    "\u1112\u1161\u11ab", "\ud55c", "\u65e5\u672c", "\u0e44\u0e17\u0e22", "\u0627\u0644", "http://x.y/z?a=b#c ", "1e5 ", "\x7f",
)  # fmt: skip
PLANES = tuple((p << 16, (p << 16) + 0xFFFF) for p in range(17))


def text_of(rng: random.Random, most: int = 40) -> str:
    """Text of literals that mean something to some part, and of letters of all planes; no NUL, no surrogates."""
    parts = []
    for _ in range(rng.randrange(most)):
        match rng.randrange(6):
            case 0:
                parts.append(rng.choice(LITERALS) * rng.randrange(1, 2 + rng.randrange(60)))
            case 1:
                letters = [rng.randint(*rng.choice(PLANES)) for _ in range(rng.randrange(1, 12))]
                parts.append("".join(chr(c) for c in letters if c and not 0xD800 <= c < 0xE000))
            case 2:
                parts.append(chr(rng.randrange(1, 256)) * rng.randrange(1, 300))
            case _:
                parts.append(rng.choice(LITERALS))
    return "".join(parts)
