"""Starting a training from the command line: in this process, or several under torchrun."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path


def phase_numbers(run: Path, phase: str) -> list[int]:
    """Phases from 0 that `--phase` names.

    Raises:
        ValueError: no such phase, or the run has no training settings.
    """
    try:
        phases = json.loads((run / "training.json").read_text())["phases"]
    except FileNotFoundError:
        raise ValueError(f"{run} has no training.json; `fox1 curate RECIPE --out {run}` writes it") from None
    if phase == "all":
        return list(range(len(phases)))
    if not phase.isdigit() or not 1 <= int(phase) <= len(phases):
        raise ValueError(f"--phase {phase}: give a number from 1 to {len(phases)}, or all")
    return [int(phase) - 1]


def launch(run: Path, out: Path, phase: str, nproc: int, stop_after: int = 0) -> int:
    """Train; the exit status: 0 done, 75 stopped by a signal with the state saved, others failed."""
    numbers = phase_numbers(run, phase)
    if nproc == 1:
        from .train import train

        return train(run, out, numbers, stop_after)
    # Positional: torchrun's own parser would take options that begin like one of its own.
    arguments = [str(run), str(out), "--phases", ",".join(str(n + 1) for n in numbers)]
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={nproc}"),
        *("-m", "fox1.trainer.train", *arguments, f"--stop-after={stop_after}"),
    ]
    return subprocess.run(command).returncode
