"""Reads checkpoints without running anything that they hold, in time and memory that follow from their size.

torch pickles the metadata of a checkpoint, and its few values other than tensors, and would call whatever a pickle names.
Here a pickle may name the classes of torch's own metadata and nothing else, and use only the opcodes that write them: tuples
in tuples in tuples, for one, take a year to hash as the key of a dictionary. What it says of files and sizes is compared
with the files before any of them is read.
"""

from __future__ import annotations

import io
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any, ClassVar

import torch
import torch.distributed.checkpoint as dcp
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import _StorageInfo
from torch.distributed.checkpoint.metadata import (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
)

from ...storage.inside import named
from ...storage.reading import Misshapen, read_bounded
from ...storage.wording import first_line, printable

METADATA = ".metadata"
NO_METADATA = "its metadata is not that of a checkpoint"
METADATA_BYTES = 32 << 20
"""That of Fox-1 on 64 devices, with its optimizer, takes 5 MiB."""
DATA_FILE = re.compile(r"__[0-9]{1,9}_[0-9]{1,9}\.distcp")
"""Names of the files that hold values."""
RECORD_BYTES = 64 << 10
"""What a tensor may take in its file beyond its own bytes, in the form that torch saves it."""
VALUE_BYTES = 1 << 20
"""What a value may take that is no tensor."""

_BUILT = (
    BytesStorageMetadata,
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    StorageMeta,
    TensorProperties,
    TensorStorageMetadata,
    _StorageInfo,
)
_CLASSES = {c.__name__ for c in _BUILT} | {"_MEM_FORMAT_ENCODING"}
_OTHERS = {
    ("torch", "Size"),
    ("torch.serialization", "_get_layout"),
    ("pathlib", "PosixPath"),
    ("pathlib._local", "PosixPath"),
}
_OPCODES = (
    "PROTO FRAME STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 SHORT_BINUNICODE BINUNICODE EMPTY_DICT "
    "EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS GLOBAL STACK_GLOBAL NEWOBJ REDUCE "
    "BUILD MEMOIZE BINPUT LONG_BINPUT BINGET LONG_BINGET"
).split()
MOST = 64
"""Elements of a tuple (sizes, offsets, the parts of a name or of a path), and containers in containers."""
MOST_HELD = 1 << 12
"""Values that wait to be put into their container: a pickle puts a thousand at a time."""
MOST_NAMED = 1 << 22
"""Values that a pickle refers to again."""


class _Unsound(ValueError):
    """What is wrong with a checkpoint, in words."""


class _Unpickler(pickle._Unpickler):  # the one in C looks at no opcode
    stack: list[Any]
    metastack: list[list[Any]]
    memo: dict[int, Any]
    dispatch: ClassVar[dict[int, Any]] = {
        getattr(pickle, name)[0]: pickle._Unpickler.dispatch[getattr(pickle, name)[0]] for name in _OPCODES
    }

    def find_class(self, module: str, name: str) -> Any:
        ours = module.startswith("torch.distributed.checkpoint.") and name in _CLASSES
        dtype = module == "torch" and isinstance(getattr(torch, name, None), torch.dtype)
        if not ours and not dtype and (module, name) not in _OTHERS:
            what = printable(f"{module}.{name}"[:100])
            raise _Unsound(f"its metadata names {what}, which no checkpoint needs; do not trust this file")
        return super().find_class(module, name)


def _is_plain(value: object, depth: int) -> bool:
    """Whether a value is hashed and compared in no time: a text, a number, or a short tuple of these."""
    if isinstance(value, tuple):
        return depth > 0 and len(value) <= MOST and all(_is_plain(v, depth - 1) for v in value)
    return value is None or isinstance(value, str | int)


def _is_key(value: object) -> bool:
    if isinstance(value, MetadataIndex):
        parts = vars(value)
        return (
            isinstance(parts.get("fqn"), str) and _is_plain(parts.get("offset"), 1) and _is_plain(parts.get("index"), 0)
        )
    return isinstance(value, str)


def _guard(opcode: str, is_sound: Callable[[_Unpickler], bool]) -> None:
    """Let an opcode act only where `is_sound`, which is asked before."""
    code = getattr(pickle, opcode)[0]
    act = _Unpickler.dispatch[code]

    def guarded(self: _Unpickler) -> None:
        if not is_sound(self):
            raise _Unsound(NO_METADATA)
        act(self)

    _Unpickler.dispatch[code] = guarded


def _may_build(u: _Unpickler) -> bool:
    state, instance = u.stack[-1], u.stack[-2]
    return type(instance) in _BUILT and (isinstance(state, dict) or type(instance) is TensorProperties)


def _flat(values: list[Any]) -> bool:
    return all(_is_plain(v, 1) if isinstance(v, tuple) else True for v in values)


_guard("MARK", lambda u: len(u.metastack) < MOST and len(u.stack) < MOST_HELD)
_guard("EMPTY_LIST", lambda u: len(u.stack) < MOST_HELD)
_guard("EMPTY_DICT", lambda u: len(u.stack) < MOST_HELD)
_guard("MEMOIZE", lambda u: len(u.memo) < MOST_NAMED)
_guard("TUPLE", lambda u: len(u.stack) <= MOST and _flat(u.stack))
_guard("TUPLE1", lambda u: _flat(u.stack[-1:]))
_guard("TUPLE2", lambda u: _flat(u.stack[-2:]))
_guard("TUPLE3", lambda u: _flat(u.stack[-3:]))
_guard("SETITEM", lambda u: type(u.stack[-3]) is dict and _is_key(u.stack[-2]))
_guard("SETITEMS", lambda u: type(u.metastack[-1][-1]) is dict and all(map(_is_key, u.stack[::2])))
_guard("APPEND", lambda u: type(u.stack[-2]) is list)
_guard("APPENDS", lambda u: type(u.metastack[-1][-1]) is list)
_guard("REDUCE", lambda u: isinstance(u.stack[-1], tuple) and _is_plain(u.stack[-1], 2))
_guard("NEWOBJ", lambda u: u.stack[-2] in _BUILT and u.stack[-1] == ())
_guard("BUILD", _may_build)


@dataclass(frozen=True)
class Contents:
    """What a checkpoint holds."""

    metadata: Metadata
    """As torch reads it."""
    shapes: dict[str, tuple[int, ...]]
    """Name -> shape of a tensor."""
    file_bytes: dict[str, int]
    """Data file -> where its last value ends."""

    @property
    def names(self) -> set[str]:
        """The names of all values, tensors or not."""
        return set(self.metadata.state_dict_metadata)


def contents(checkpoint: Path) -> Contents:
    """What a checkpoint holds, by its metadata.

    Raises:
        ValueError: the metadata is damaged, names what no checkpoint needs, or contradicts itself.
    """
    try:
        return _contents(_Unpickler(io.BytesIO(read_bounded(checkpoint / METADATA, METADATA_BYTES))).load())
    except (_Unsound, Misshapen, OSError) as error:
        why = printable(first_line(error))
    # Whatever the opcodes above raise when they act on each other's results: none of it means anything to a user.
    except Exception:
        why = f"{METADATA} is damaged, or not that of a checkpoint"
    raise ValueError(f"{checkpoint} cannot be read as a checkpoint ({why})")


def _contents(metadata: Any) -> Contents:
    """Raise an error for anything but the metadata of a checkpoint."""
    if not isinstance(metadata, Metadata) or not isinstance(metadata.storage_meta, StorageMeta | None):
        raise _Unsound(NO_METADATA)
    tensors: dict[str, TensorStorageMetadata] = {}
    room: dict[str, int] = {}
    for name, value in _items(metadata.state_dict_metadata, str):
        if type(value) is TensorStorageMetadata:
            tensors[name] = value
            if not isinstance(getattr(value.properties, "dtype", None), torch.dtype):
                raise _Unsound(f"{name[:100]} is of no type of numbers")
            room[name] = prod(_whole(value.size)) * value.properties.dtype.itemsize + RECORD_BYTES
        elif type(value) is BytesStorageMetadata:
            room[name] = VALUE_BYTES
        else:
            raise _Unsound(f"{name[:100]} is neither a tensor nor a value")
    _check_parts(tensors, len(_items(metadata.storage_data, MetadataIndex)))
    files: dict[str, int] = {}
    for index, place in _items(metadata.storage_data, MetadataIndex):
        if type(place) is not _StorageInfo or not isinstance(place.relative_path, str):
            raise _Unsound("it has no places in its files")
        file, begin, length = place.relative_path, *_whole((place.offset, place.length))
        if not DATA_FILE.fullmatch(file) or getattr(place, "transform_descriptors", None):
            raise _Unsound(f"{file[:100]} is not the name of a data file")
        if index.fqn not in room:
            raise _Unsound(f"it has a place for {index.fqn[:100]}, which is none of its values")
        if length > room[index.fqn]:
            raise _Unsound(f"{index.fqn[:100]} takes more bytes than its size says")
        files[file] = max(files.get(file, 0), begin + length)
    # Needed only where names are not known, and looked at by nobody here.
    metadata.planner_data = None
    if metadata.storage_meta is None:
        metadata.storage_meta = StorageMeta()
    return Contents(metadata, {name: _whole(tensor.size) for name, tensor in tensors.items()}, files)


def _check_parts(tensors: dict[str, TensorStorageMetadata], places: int) -> None:
    """Refuse tensors of more parts than have a place in the files, or with a part outside."""
    if any(type(tensor.chunks) is not list for tensor in tensors.values()):
        raise _Unsound("a tensor has no parts")
    if sum(len(tensor.chunks) for tensor in tensors.values()) > places:
        raise _Unsound("it has more parts than places in its files")
    for name, tensor in tensors.items():
        for part in tensor.chunks:
            if type(part) is not ChunkStorageMetadata:
                raise _Unsound(f"{name[:100]} has a part that is none")
            offsets, sizes = _whole(part.offsets), _whole(part.sizes)
            if not len(offsets) == len(sizes) == len(tensor.size):
                raise _Unsound(f"a part of {name[:100]} has other dimensions than it")
            spans = zip(offsets, sizes, tensor.size, strict=True)
            if any(begin + length > size for begin, length, size in spans):
                raise _Unsound(f"a part of {name[:100]} lies outside it")


def _items(value: Any, key: type) -> list[tuple[Any, Any]]:
    if type(value) is not dict or not all(isinstance(k, key) for k in value):
        raise _Unsound(NO_METADATA)
    return list(value.items())


def _whole(numbers: Any) -> tuple[int, ...]:
    if not isinstance(numbers, tuple) or any(type(n) is not int or n < 0 for n in numbers):
        raise _Unsound("a size or an offset is no whole number")
    return tuple(numbers)


class _RestrictedReader(dcp.FileSystemReader):
    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        held = contents(Path(self.path))
        metadata = held.metadata
        assert metadata.storage_meta is not None
        for name in held.file_bytes:
            named(Path(self.path), name)
        metadata.storage_meta.load_id = self.load_id
        return metadata


class _WeightsOnlyPlanner(DefaultLoadPlanner):
    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        safe = io.BytesIO()
        # Read as weights only, then handed on in a form that is safe for torch to read without restrictions.
        torch.save(torch.load(value, weights_only=True), safe)
        safe.seek(0)
        super().load_bytes(read_item, safe)


def load_state(checkpoint: Path, state: dict[str, Any], no_dist: bool = False) -> None:
    """Load parts of a checkpoint into `state`, in place.

    Args:
        no_dist: load in this process alone.

    Raises:
        ValueError: the checkpoint is damaged or holds more than plain data, or a part is missing or has another shape.
    """
    try:
        dcp.load(
            state, storage_reader=_RestrictedReader(str(checkpoint)), planner=_WeightsOnlyPlanner(), no_dist=no_dist
        )
    except dcp.CheckpointException as error:
        rank, (cause, _) = next(iter(error.failures.items()))
        first = printable(first_line(cause))
        raise ValueError(f"{checkpoint} cannot be loaded (on rank {rank}: {first})") from error
