"""How files that fox1 wrote are read again, by whoever may have changed them since: a regular file of bounded size, JSON,
and of the shape that is expected. Whatever else it is becomes one line.
"""

from __future__ import annotations

import json
import os
import stat
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import IO, Annotated, Any, TypeVar, get_args, get_origin

from .wording import first_line, printable

T = TypeVar("T")

JSON_BYTES = 256 << 20
"""A manifest of a million files is smaller; what is larger is no file of ours."""


_OF_THE_SHAPE: tuple[type[Exception], ...] = (
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    NotImplementedError,
)
"""What code raises where a value is not there, or is another than it takes."""


class Misshapen(ValueError):
    """A file is not what its reader takes; the message says why, and names no file."""


def open_regular(path: Path) -> IO[bytes]:
    """Open a file to read. A FIFO would wait for a writer, and a device never end.

    Raises:
        Misshapen: it is a folder, FIFO, socket or device.
        OSError: it is missing or cannot be read.
    """
    return os.fdopen(open_descriptor(path, os.O_RDONLY), "rb")


def open_descriptor(path: Path, flags: int) -> int:
    """The descriptor of a file, opened with these flags; see `open_regular`."""
    descriptor = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o666)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise Misshapen("it is not a regular file")
    return descriptor


def read_bounded(path: Path, limit: int) -> bytes:
    """The bytes of a file.

    Raises:
        Misshapen: it is not a regular file, or larger than `limit`.
        OSError: it is missing or cannot be read.
    """
    # A store is asked before anything is fetched from it.
    if path.stat().st_size <= limit:
        with open_regular(path) as file:
            data = file.read(limit + 1)
        if len(data) <= limit:
            return data
    raise Misshapen(f"it is larger than {limit >> 20 or limit} {'MiB' if limit >> 20 else 'bytes'}")


def parse_json(data: bytes) -> Any:
    """Parse JSON.

    Raises:
        Misshapen: it is none.
    """
    try:
        return json.loads(data)
    except RecursionError:
        raise Misshapen("it is nested too deeply") from None
    except ValueError as error:  # UnicodeDecodeError and JSONDecodeError among them
        raise Misshapen(printable(first_line(error))) from None


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Parse a JSON file.

    Raises:
        Misshapen: it is not JSON, not a regular file, or larger than `limit`.
        OSError: it is missing or cannot be read.
    """
    return parse_json(read_bounded(path, limit))


def typed(kind: type[T], value: Any, where: str = "") -> T:
    """A value of JSON as the type that it must have: a dataclass from an object, tuples from lists, numbers, texts.

    Args:
        where: what `value` is called in messages.

    Raises:
        Misshapen: it is something else, has keys that the dataclass does not know, or lacks some.
    """
    found: T = _typed(kind, value, where)
    return found


def _typed(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin is Annotated:
        return _typed(arguments[0], value, where)
    if origin is typing.Literal:
        return value if value in arguments and type(value) in map(type, arguments) else _refuse(kind, value, where)
    if origin in (typing.Union, UnionType):
        if value is None and type(None) in arguments:
            return None
        return _typed(next(a for a in arguments if a is not type(None)), value, where)
    if is_dataclass(kind):
        return _object(kind, value, where)
    if origin in (tuple, list):
        if not isinstance(value, list):
            _refuse(kind, value, where)
        kinds = arguments[:1] * len(value) if origin is list or arguments[1:] == (...,) else arguments
        if len(kinds) != len(value):
            _refuse(kind, value, where)
        return origin(_typed(k, v, f"{where}[{i}]") for i, (k, v) in enumerate(zip(kinds, value, strict=True)))
    if origin is dict:
        if not isinstance(value, dict):
            _refuse(kind, value, where)
        return {key: _typed(arguments[1], item, _below(where, key)) for key, item in value.items()}
    if kind is float and type(value) is int and abs(value) < 1 << 53:
        return float(value)
    return value if type(value) is kind else _refuse(kind, value, where)


def _object(kind: Any, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        _refuse(kind, value, where)
    types = _types(kind)
    if unknown := next((key for key in value if key not in types), None):
        raise Misshapen(f"{_said(_below(where, unknown))} is unknown to this version of fox1")
    for field in fields(kind):
        if field.name not in value and field.default is MISSING and field.default_factory is MISSING:
            raise Misshapen(f"{_said(_below(where, field.name))} is missing")
    return kind(**{key: _typed(types[key], item, _below(where, key)) for key, item in value.items()})


@cache
def _types(kind: Any) -> dict[str, Any]:
    hints = typing.get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def _below(where: str, key: str) -> str:
    return f"{where}.{key}" if where else key


def _said(text: str) -> str:
    return printable(text[:100])


def _refuse(kind: Any, value: Any, where: str) -> typing.NoReturn:
    what = "an object" if isinstance(value, dict) else repr(value)
    if isinstance(value, list):
        what = f"a list of {len(value)}"
    raise Misshapen(f"{_said(where) or 'it'} is {_said(what)}; it must be {_wanted(kind)}")


def _wanted(kind: Any) -> str:
    """What values of JSON a type takes, in words."""
    if get_origin(kind) is typing.Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is tuple and get_args(kind)[1:] != (...,):
        return f"a list of {len(get_args(kind))}"
    if get_origin(kind) in (tuple, list):
        return "a list"
    return {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}.get(kind, "an object")


@contextmanager
def as_written(what: str, remedy: str, *more: type[Exception]) -> Iterator[None]:
    """Within the block, a value that is not there, or of another type than the code takes, is the fault of a file.

    For statistics, whose shape is that of the code that shows them.

    Args:
        more: further errors that nothing but such a value raises within the block.

    Raises:
        ValueError: one line that names `what` and the remedy.
    """
    try:
        yield
    except (*_OF_THE_SHAPE, *more) as error:
        said = printable(first_line(error)[:100])
        raise ValueError(f"{what} is not of the shape that this version of fox1 writes ({said}); {remedy}") from error
