"""datatrove's token files as a source: documents as token ids, batch by batch, in bounded memory.

    NAME.ds            ids back to back, little-endian, two or four bytes each
    NAME.ds.index      uint64: where each document ends
    NAME.ds.metadata   which tokenizer made them, and how long an id is
    NAME.ds.loss       if it is there, all of it must be true: what is trained on in part is not read

A document's row is its place in the file. There is no text, URL or id of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np

from ...storage.reading import Misshapen
from ...storage.wording import printable
from ...tokenize.token_files import DS, INDEX, LOSS, METADATA, parse_metadata
from ..run.identity import MAX_ROWS, SourceFile
from .adapter import first_folder
from .formats import open_source
from .listing import check_unchanged

INDEX_ENDS = 1 << 16
"""Ends of documents that are read at once."""
BATCH_IDS = 1 << 20
"""Ids of a batch, unless one document has more."""
LONGEST = 1 << 25
"""Ids of a document: no text of a hundred megabytes has so many, and a damaged index may ask for any number."""
METADATA_BYTES = 1 << 16


@dataclass(frozen=True)
class TokenBatch:
    """Consecutive documents of a token file."""

    row: int
    """Of the first one."""
    ids: np.ndarray
    """uint16 or uint32, back to back."""
    offsets: np.ndarray
    """int64 [n + 1]."""


def subset_of(file: SourceFile) -> str:
    """The subset of all documents of a token file: its first folder in the corpus."""
    return first_folder(file.path)


def id_size(file: SourceFile, names: Sequence[str], model_hash: str) -> int:
    """Bytes of an id of a token file whose tokenizer is the recipe's.

    Args:
        names: what the file may call the tokenizer.
        model_hash: of what its model holds, which a dump of fox1 adds to the name; empty: not known yet, and any will do.

    Raises:
        ValueError: it is another one, for all that its name says, or its `.metadata` is missing or none.
    """
    try:
        with open_source(file.url + _rest(METADATA)) as source:
            name, size = parse_metadata(source.read(METADATA_BYTES))
    except FileNotFoundError:
        raise ValueError(
            f"{file.name} has no {_rest(METADATA)} beside it, which says what tokenizer made it; write it with "
            "`save_final_metadata=True`"
        ) from None
    except Misshapen as error:
        raise ValueError(f"{file.name}{_rest(METADATA)} cannot be read: {error}") from None
    _, hashed, said = name.rpartition("@")
    if name not in names and not (hashed and model_hash in ("", said)):
        raise ValueError(
            f"{file.name} was made with the tokenizer {printable(name[:200])}, and the recipe's is {', '.join(names)}; if that "
            "is the same model, say `tokenizer:` with this name in the source"
        )
    return size


def read_tokens(file: SourceFile, size: int) -> Iterator[TokenBatch]:
    """All documents of a token file, in their order.

    Args:
        size: bytes of an id.

    Raises:
        ValueError: index and ids do not belong together, there is no index, or not all positions are trained on.
    """
    check_unchanged(file)
    with ExitStack() as stack:
        ids = stack.enter_context(open_source(file.url))
        try:
            index = stack.enter_context(open_source(file.url + _rest(INDEX)))
        except FileNotFoundError:
            raise ValueError(
                f"{file.name} has no {_rest(INDEX)} beside it, which says where documents end; write it with "
                "`save_index=True`"
            ) from None
        loss = _optional(stack, file.url + _rest(LOSS))
        row = end = 0
        while data := index.read(8 * INDEX_ENDS):
            if len(data) % 8:
                raise _damaged(file, f"its {_rest(INDEX)} ends within a number")
            ends = np.frombuffer(data, "<u8").astype(np.int64)
            lengths = np.diff(ends, prepend=end)
            if (lengths < 0).any() or (lengths > LONGEST).any():
                at = row + int(np.argmax((lengths < 0) | (lengths > LONGEST)))
                raise _damaged(file, f"document {at:,} has {int(lengths[at - row]):,} ids by its {_rest(INDEX)}")
            if row + len(ends) > MAX_ROWS:
                raise ValueError(f"{file.name} has more than {MAX_ROWS:,} documents; split the file")
            for first, last in _batches(lengths):
                offsets = np.r_[0, np.cumsum(lengths[first:last])]
                yield TokenBatch(row + first, _read(file, ids, loss, int(offsets[-1]), size), offsets)
            row, end = row + len(ends), int(ends[-1])
        if ids.read(1):
            raise _damaged(file, f"it holds more ids than the {end:,} that its {_rest(INDEX)} tells of")
    check_unchanged(file)


def _rest(suffix: str) -> str:
    """What follows the name of a `.ds`."""
    return suffix.removeprefix(DS)


def _optional(stack: ExitStack, url: str) -> IO[bytes] | None:
    try:
        return stack.enter_context(open_source(url))
    except FileNotFoundError:
        return None


def _batches(lengths: np.ndarray) -> Iterator[tuple[int, int]]:
    """(first, end) of documents that are read together."""
    ends = np.cumsum(lengths)
    first = 0
    while first < len(ends):
        before = ends[first - 1] if first else 0
        last = max(first + 1, int(np.searchsorted(ends, before + BATCH_IDS, "right")))
        yield first, last
        first = last


def _read(file: SourceFile, ids: IO[bytes], loss: IO[bytes] | None, count: int, size: int) -> np.ndarray:
    """The next ids, all of which are trained on."""
    data = ids.read(count * size)
    if len(data) < count * size:
        raise _damaged(file, f"it ends before the ids that its {_rest(INDEX)} tells of")
    if loss and not np.frombuffer(said := loss.read(count), np.bool_).all():
        raise ValueError(
            f"{file.name}: not all of it is trained on, by its {_rest(LOSS)}, which a source of tokens cannot keep; leave out "
            "such documents"
        )
    if loss and len(said) < count:
        raise _damaged(file, f"its {_rest(LOSS)} is shorter")
    return np.frombuffer(data, f"<u{size}")


def _damaged(file: SourceFile, why: str) -> ValueError:
    return ValueError(f"{file.name} is damaged: {why}; write it again, or exclude it with `files`")
