"""Token files of other trainers, by the bytes that their loaders read. All numbers are little-endian.

datatrove, which nanotron reads as well:

    NAME.ds            ids back to back: uint16 for up to 65,536 pieces, else uint32
    NAME.ds.index      uint64: where each document ends, in tokens
    NAME.ds.loss       bool: whether a position is trained on
    NAME.ds.metadata   text: name of the tokenizer | bytes of an id; number of tokens; the same as a person reads it

Megatron (`IndexedDataset`):

    NAME.bin           ids back to back: uint16 for fewer than 65,500 pieces, else int32
    NAME.idx           header, code of the type, numbers of sequences and of document ends; then int32: tokens of each sequence,
                       int64: its first byte, int64: 0, and how many sequences there are up to the end of each document
"""

from __future__ import annotations

import struct
from typing import Literal, get_args

import numpy as np

from ..storage.reading import Misshapen

TokenFormat = Literal["datatrove", "megatron"]
DATATROVE: TokenFormat = "datatrove"
MEGATRON: TokenFormat = "megatron"

DS = ".ds"
INDEX, LOSS, METADATA = f"{DS}.index", f"{DS}.loss", f"{DS}.metadata"
BIN, IDX = ".bin", ".idx"
_HEADER = b"MMIDIDX\0\0" + struct.pack("<Q", 1)
"""Of an `.idx`: what it is, and the version."""
_CODES = {"<i4": 4, "<u2": 8}
"""How an `.idx` names the types that are written here."""
_PREFIXES = ("", "k", "M", "G", "T", "P")


def format_named(name: str) -> TokenFormat:
    """The format of a name.

    Raises:
        ValueError: there is none.
    """
    if name not in (formats := get_args(TokenFormat)):
        raise ValueError(f"--tokens {name}: choose {' or '.join(formats)}")
    return next(format for format in formats if format == name)


def id_type(format: TokenFormat, vocab_size: int) -> np.dtype:
    """The type of an id in the files of a format."""
    if format == DATATROVE:
        return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    return np.dtype("<u2" if vocab_size < 65_500 else "<i4")


def datatrove_index(lengths: np.ndarray) -> bytes:
    """The contents of `.ds.index`, of documents with so many tokens each (int64 [n])."""
    return np.cumsum(lengths).astype("<u8").tobytes()


def datatrove_metadata(tokenizer: str, type_: np.dtype, tokens: int) -> bytes:
    """The contents of `.ds.metadata`."""
    return f"{tokenizer}|{type_.itemsize}\n{tokens}\n{_short(tokens)}".encode()


def parse_metadata(data: bytes) -> tuple[str, int]:
    """(name of the tokenizer, bytes of an id) from `.ds.metadata`.

    Raises:
        Misshapen: it is none.
    """
    first = data.split(b"\n", 1)[0].decode(errors="replace").strip()
    name, bar, size = first.rpartition("|")
    if not bar or size not in ("2", "4"):
        raise Misshapen("its first line is not the name of a tokenizer, a bar, and 2 or 4 bytes of an id")
    return name, int(size)


def megatron_index(lengths: np.ndarray, sequences: np.ndarray, type_: np.dtype) -> bytes:
    """The contents of `.idx`.

    Args:
        lengths: int64 [sequences]: tokens of each sequence.
        sequences: int64 [documents]: how many sequences each document has.
        type_: of the ids.
    """
    begins = (np.cumsum(lengths) - lengths) * type_.itemsize
    ends = np.r_[0, np.cumsum(sequences)]
    counts = struct.pack("<BQQ", _CODES[type_.str], len(lengths), len(ends))
    return b"".join(
        [_HEADER, counts, *(a.astype(t).tobytes() for a, t in ((lengths, "<i4"), (begins, "<i8"), (ends, "<i8")))]
    )


def _short(tokens: int) -> str:
    """A number of tokens with three digits and a prefix, such as 16.8 MT."""
    value, power = float(tokens), 0
    while value >= 999.5 and power < len(_PREFIXES) - 1:
        value, power = value / 1000, power + 1
    return f"{value:.3g} {_PREFIXES[power]}T"
