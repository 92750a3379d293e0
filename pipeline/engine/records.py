"""Completion records of tasks, and the logs of a run's times.

A record is published after a task's outputs: its key, what it published, and its result, so that a task whose key is the
same is not run again. A record carries a hash of what it says, since the next stages plan with its numbers, and the
generation of the lease that it was written under: one that a paused writer left after its successor had begun vouches for
outputs only if they have their hashes.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
import typing
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from ...storage import store
from ...storage.inside import open_own, refuse_links
from ...storage.lease import allow_write
from ...storage.reading import Misshapen, read_bounded
from ..run.artifacts import Artifact, RunPaths, content_key, read_json, write_json

LOG_BYTES = 1 << 30
"""That of ten million tasks is larger; what is read of it stays in memory."""


@cache
def result_type(run: Callable[..., Any]) -> Any:
    """The dataclass that a task's function says it returns.

    Raises:
        TypeError: it says nothing, or something else: its record could not be read.
    """
    found = typing.get_type_hints(run).get("return")
    if not is_dataclass(found):
        raise TypeError(f"{run.__module__}.{run.__qualname__} is no task: annotate the dataclass that it returns")
    return found


def artifacts_in(value: object) -> Iterator[Artifact]:
    """Every artifact that a result holds, in the order of its fields."""
    if isinstance(value, Artifact):
        yield value
    elif is_dataclass(value):
        for field in fields(value):
            yield from artifacts_in(getattr(value, field.name))
    elif isinstance(value, dict):
        for item in value.values():
            yield from artifacts_in(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from artifacts_in(item)


def with_artifacts(value: Any, change: Callable[[Artifact], Artifact]) -> Any:
    """A result with each of its artifacts changed."""
    if isinstance(value, Artifact):
        return change(value)
    if next(artifacts_in(value), None) is None:
        return value
    if is_dataclass(value):
        changed = {f.name: with_artifacts(getattr(value, f.name), change) for f in fields(value)}
        return replace(value, **changed)  # type: ignore[type-var]
    if isinstance(value, dict):
        return {key: with_artifacts(item, change) for key, item in value.items()}
    return type(value)(with_artifacts(item, change) for item in value)


def figures_of(result: object) -> dict[str, Any]:
    """The fields of a result that hold no artifact, as JSON."""
    assert is_dataclass(result)
    values = {f.name: getattr(result, f.name) for f in fields(result)}
    plain = {name: value for name, value in values.items() if not _is_output(value)}
    return dict(msgspec.to_builtins(plain, str_keys=True))


def _is_output(value: object) -> bool:
    return value is None or next(artifacts_in(value), None) is not None


def write_record(paths: RunPaths, step: str, name: str, key: str, result: object) -> None:
    """Publish the completion record of a task."""
    relative = with_artifacts(result, paths.relative)
    record = {
        "stage": step,
        "task": name,
        "key": key,
        "generation": paths.lease.generation if paths.lease else 0,
        "outputs": [a.to_json() for a in artifacts_in(relative)],
        "result": msgspec.to_builtins(relative, str_keys=True),
    }
    write_json(paths.record(step, name), {**record, "hash": content_key(record)})


@dataclass(frozen=True)
class Recorded:
    """What a completion record says."""

    result: Any = None
    """What its task returned; None where that was another key's, or the record is damaged."""
    outputs: tuple[str, ...] = ()
    """What its task published, by its names in the run."""
    outlived: bool = False
    """A holder of the run wrote it after another one had taken over."""


def read_record(paths: RunPaths, step: str, name: str, key: str, type_: Any) -> Recorded:
    """The completion record of a task; where there is none, one that says nothing."""
    path = paths.record(step, name)
    if store.size_at_start(path) is None:
        return Recorded()
    try:
        record = read_json(path)
        if record.pop("hash") != content_key(record):
            return Recorded()
        outputs = tuple(output["path"] for output in record["outputs"])
        if record["key"] != key:
            return Recorded(outputs=outputs)
        result = msgspec.convert(record["result"], type_, str_keys=True)
        result = with_artifacts(result, lambda a: replace(a, path=str(paths.named(a.path))))
        written = record.get("generation", 0)
        outlived = paths.lease is not None and paths.lease.outlived(written, store.written_at_start(path))
        return Recorded(result, outputs, outlived)
    except (ValueError, KeyError, AttributeError, TypeError):
        return Recorded()


def log(path: Path, line: dict[str, Any]) -> None:
    """Append to a log of a run, if the disk allows it: a run is worth more than its log.

    Raises:
        ValueError: it, or its folder, is a symbolic link.
    """
    with contextlib.suppress(OSError):
        refuse_links(path.parent.parent, path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(open_own(_plain(path), os.O_WRONLY | os.O_APPEND | os.O_CREAT), "ab") as file:
            file.write(json.dumps(line).encode() + b"\n")


def _plain(path: Path) -> Path:
    return path.local if isinstance(path, store.Mirrored) else path


def keep_log(path: Path) -> None:
    """Upload a log that grew: it is appended to in the mirror."""
    if isinstance(path, store.Mirrored) and path.local.exists():
        allow_write(path)
        store.upload(path)


def logged(path: Path) -> list[dict[str, Any]]:
    """The entries of a log; none where there is no log.

    Raises:
        ValueError: it is not a file that a run appends to.
    """
    try:
        lines = read_bounded(path, LOG_BYTES).splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return []
    except Misshapen as error:
        raise ValueError(f"{store.shown(path)} is damaged ({error}); delete it") from None
    entries = []
    for line in lines:
        # A full disk may have cut a line in half.
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def task_times(paths: RunPaths) -> list[dict[str, Any]]:
    """What `timings/tasks.jsonl` holds, with the stage of a step as `part`; nothing where there is no log."""
    return [{**entry, "part": entry["stage"].split(".")[0]} for entry in logged(paths.timings("tasks.jsonl"))]


def record_run(
    paths: RunPaths, began: float, cores: int, stages: dict[str, float], reused: int, complete: bool
) -> None:
    """Note in `timings/runs.jsonl` that a command ran all stages of a run (wall seconds by stage), for `fox1 plan`."""
    line = {
        "began": began,
        "seconds": time.time() - began,
        "cores": cores,
        "stages": stages,
        "reused": reused if complete else -1,
    }
    log(paths.timings("runs.jsonl"), line)
    keep_log(paths.timings("runs.jsonl"))
