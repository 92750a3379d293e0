"""What a chaos run holds a command to: the bytes it promised, and one clear line where it fails."""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import suppress
from pathlib import Path

RAY_ENDS = (
    "Failed to connect to GCS within",
    "Failed to register worker to Raylet",
    "Failed to get the system config from raylet",
)
"""With these Ray ends a driver that waits for a dead part of it; nothing of ours runs after that."""


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes(run: Path) -> dict[str, str]:
    """SHA-256 of every file of a run that is the same however it was made."""
    from fox1.pipeline.run.schemas import FINAL

    files = (p for part in FINAL for p in sorted((run / part).rglob("*")) if p.is_file())
    return {str(p.relative_to(run)): sha256(p) for p in files}


def promised_of_a_run(run: Path) -> dict[str, str]:
    """What must be equal of a run: name -> hash."""
    files = [run / name for name in ("manifest.json", "recipe.yaml", "training.json")]
    return hashes(run) | {p.name: sha256(p) for p in files if p.exists()}


def promised_of_a_training(out: Path) -> dict[str, str]:
    """What must be equal of a training: name -> hash or loss; a step that was repeated must have had the same."""
    last = max((p.parent for p in out.glob("step-*/manifest.json")), default=out)
    found = {f"{last.name}/{p.name}": sha256(p) for p in sorted(last.glob("__*"))}
    for line in (out / "metrics.jsonl").read_text().splitlines() if (out / "metrics.jsonl").exists() else []:
        with suppress(ValueError):
            entry = json.loads(line)
            if "loss" not in entry:
                continue
            name, loss = f"{entry['kind']} {entry['step']}", str(entry["loss"])
            found[name] = loss if found.get(name, loss) == loss else f"{found[name]} and {loss}"
    return found


def complaint(said: str) -> str:
    """What is wrong with the last words of a command that failed; empty if it said one clear line."""
    lines = [line for line in said.splitlines() if line.strip()]
    if "Traceback (most recent call last)" in said:
        return "traceback: " + (lines[-1] if lines else "")
    if lines and any(text in lines[-1] for text in RAY_ENDS):
        return ""
    if not lines or not lines[-1].startswith("error: "):
        return "no clear line: " + (lines[-1] if lines else "nothing said")
    if re.search(r"\[Errno \d+\] [^:]*$", lines[-1]):
        return "names no file: " + lines[-1]
    return ""
