"""What completion records say of tasks, and the logs of a run's times.

A record is published after a task's outputs: its key, what it published, and its result, so that a task whose key is the
same is not run again. A record carries a hash of what it says, since the next stages plan with its numbers, and the
generation of the lease that it was written under: one that a paused writer left after its successor had begun vouches for
outputs only if they have their hashes. Where records lie: `run/records.py`.
"""

from __future__ import annotations

import contextlib
import json
import operator
import os
import shlex
import time
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from ... import __version__
from ...storage import store
from ...storage.inside import open_own, refuse_links
from ...storage.reading import Misshapen, read_bounded
from ..run.artifacts import Artifact, as_json, hash_of, publish
from ..run.paths import RunPaths
from ..run.records import Record, StepRecords

LOG_BYTES = 1 << 30
"""That of ten million tasks is larger; what is read of it stays in memory."""
PART_LINES = 4096
"""Lines of a log in a store that are uploaded before a step ends."""


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


@cache
def _fields(kind: Any) -> tuple[str, ...]:
    """Names of the fields of a dataclass that may hold artifacts; of another type, none."""
    if not is_dataclass(kind):
        return ()
    hints = typing.get_type_hints(kind)
    return tuple(f.name for f in fields(kind) if _may_hold(hints[f.name]))


@cache
def _getters(kind: Any) -> tuple[Callable[[Any], Any], ...]:
    return tuple(operator.attrgetter(name) for name in _fields(kind))


_PLAIN = frozenset({str, int, float, bool, type(None)})


def _may_hold(hint: Any) -> bool:
    """Whether a value of a type may be an artifact, or hold one."""
    if hint in _PLAIN:
        return False
    if inner := typing.get_args(hint):
        return any(_may_hold(each) for each in inner if each is not ...)
    if hint is Artifact or not is_dataclass(hint):
        # Of what says nothing of what it holds, all is looked at.
        return True
    holder: Any = hint
    return bool(_fields(holder))


def artifacts_in(value: object) -> Iterator[Artifact]:
    """Every artifact that a result holds, in the order of its fields."""
    found = list[Artifact]()
    _gather(value, found)
    return iter(found)


def _gather(value: Any, found: list[Artifact]) -> None:
    kind: Any = type(value)
    if kind is Artifact:
        found.append(value)
    elif kind in _PLAIN:
        return
    elif kind is tuple or kind is list or isinstance(value, tuple | list):
        for item in value:
            _gather(item, found)
    elif kind is dict:
        for item in value.values():
            _gather(item, found)
    else:
        for get in _getters(kind):
            _gather(get(value), found)


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


def write_record(paths: RunPaths, step: str, name: str, key: str, result: object) -> int:
    """Publish the completion record of a task; when it was written, in nanoseconds by the clock of the disk (0: in a store)."""
    relative = with_artifacts(result, paths.relative)
    said = {
        "stage": step,
        "task": name,
        "key": key,
        "generation": paths.lease.generation if paths.lease else 0,
        "outputs": [a.to_json() for a in artifacts_in(relative)],
        "result": msgspec.to_builtins(relative, str_keys=True),
    }
    text = as_json(said)
    # The hash is of the rest, as `content_key` has it: what may be of megabytes becomes JSON once.
    with publish(paths.record(step, name)) as out:
        out.write(f'{text[:-1]},"hash":"{hash_of(f"[{text}]")}"}}\n'.encode())
    return out.artifact.modified


def record_of(paths: RunPaths, name: str, key: str, written: int, result: object) -> Record:
    """The completion record of a task whose outputs are in place.

    Args:
        written: when its worker published it; see `Record`.
    """
    relative = with_artifacts(result, paths.relative)
    generation = paths.lease.generation if paths.lease else 0
    outputs = tuple(a.path for a in artifacts_in(relative))
    return Record(name, key, generation, written, outputs, msgspec.Raw(msgspec.json.encode(relative)))


@cache
def decoder_of(kind: Any) -> msgspec.json.Decoder[Any]:
    """What reads results of a kind from JSON."""
    return msgspec.json.Decoder(kind)


def result_of(records: StepRecords, record: Record, type_: Any) -> tuple[Any, list[Artifact]]:
    """What the task of a record returned, and the artifacts in it; (None, []) where that is no such result, or names a file
    outside the run."""
    found = list[Artifact]()
    try:
        result = decoder_of(type_).decode(record.result)
        _gather(result, found)
        for artifact in found:
            # It has just been made, and nobody else has it: replacing it in all that holds it takes five times as long.
            object.__setattr__(artifact, "path", records.place(artifact.path))
        return result, found
    except ValueError:
        return None, []


_pending: dict[Path, list[bytes]] = {}
"""Lines of logs in a store that have yet to be uploaded."""


def log(path: Path, line: dict[str, Any]) -> None:
    """Append to a log of a run, if the disk allows it: a run is worth more than its log.

    What grows cannot be appended to in a store: there, a log is a folder of parts, see `keep_log`.

    Raises:
        ValueError: it, or its folder, is a symbolic link.
    """
    data = json.dumps(line).encode() + b"\n"
    if isinstance(path, store.Mirrored):
        waiting = _pending.setdefault(path, [])
        waiting.append(data)
        if len(waiting) >= PART_LINES:
            keep_log(path)
        return
    with contextlib.suppress(OSError):
        refuse_links(path.parent.parent, path)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            descriptor = open_own(path, flags)
        except FileNotFoundError:
            # The first line of a run.
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = open_own(path, flags)
        with os.fdopen(descriptor, "ab") as file:
            file.write(data)


def keep_log(path: Path) -> None:
    """Upload what was added to a log in a store since the last time, as a part of its own."""
    if lines := _pending.pop(path, []):
        with contextlib.suppress(OSError), publish(path.with_suffix("") / f"{time.time_ns():020d}{path.suffix}") as out:
            out.write(b"".join(lines))


def logged(path: Path) -> list[dict[str, Any]]:
    """The entries of a log; none where there is no log.

    Raises:
        ValueError: it is not a file that a run appends to.
    """
    parts = [path]
    if isinstance(path, store.Mirrored):
        parts += sorted(part for part, _ in store.files_below(path.with_suffix("")))
    entries = []
    for part in parts:
        try:
            lines = read_bounded(part, LOG_BYTES).splitlines()
        except (FileNotFoundError, NotADirectoryError):
            continue
        except Misshapen as error:
            raise ValueError(f"{store.shown(part)} is damaged ({error}); delete it") from None
        for line in lines:
            # A full disk may have cut a line in half.
            with contextlib.suppress(ValueError):
                entries.append(json.loads(line))
    return entries


def task_times(paths: RunPaths) -> list[dict[str, Any]]:
    """What `timings/tasks.jsonl` holds, with the stage of a step as `part`; nothing where there is no log."""
    return [{**entry, "part": entry["stage"].split(".")[0]} for entry in logged(paths.timings("tasks.jsonl"))]


def record_run(
    paths: RunPaths,
    began: float,
    cores: int,
    stages: dict[str, float],
    reused: int,
    complete: bool,
    asked: Mapping[str, Any] | None = None,
) -> None:
    """Note in `timings/runs.jsonl` that a command ran all stages of a run (wall seconds by stage), for `fox1 plan`.

    Args:
        asked: what the command was called with, for `asked_of`.
    """
    line = {
        "began": began,
        "seconds": time.time() - began,
        "cores": cores,
        "stages": stages,
        "reused": reused if complete else -1,
        "version": __version__,
        **({"asked": dict(asked)} if asked else {}),
    }
    log(paths.timings("runs.jsonl"), line)
    keep_log(paths.timings("runs.jsonl"))


def asked_of(paths: RunPaths) -> dict[str, Any]:
    """What the last command that finished on a run was called with: `recipe`, `set`, `limit`, `from`, `against`; empty where
    the run does not say."""
    said: object = next((r["asked"] for r in reversed(logged(paths.timings("runs.jsonl"))) if "asked" in r), {})
    return said if isinstance(said, dict) else {}


def curated(paths: RunPaths) -> dict[str, Any]:
    """When the last command on a run began (`began`, seconds since 1970), how long it took (`seconds`), on how many `cores`, and
    the `version` of fox1, as far as the run says so."""
    line: dict[str, Any] = next(reversed(logged(paths.timings("runs.jsonl"))), {})
    return {name: line[name] for name in ("began", "seconds", "cores", "version") if name in line}


def command_of(asked: Mapping[str, Any]) -> str:
    """The command line that made a run, without its place. `asked`: of `asked_of`."""
    said = ["fox1", "curate", str(asked.get("recipe", ""))]
    said += [word for change in asked.get("set", ()) for word in ("--set", str(change))]
    if (limit := asked.get("limit", 1)) != 1:
        said += ["--limit", f"{100 * limit:g}%"]
    said += [word for name in ("from", "against") if asked.get(name) for word in (f"--{name}", str(asked[name]))]
    return shlex.join(said)
