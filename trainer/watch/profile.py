"""A trace of a few steps (`--profile`), to be opened in Perfetto or chrome://tracing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile, schedule

WARM = 3
"""Steps before the trace, so that it does not show compilation and first allocations."""


class Profiler:
    """Traces `steps` steps of this process after the first few; with 0, does nothing.

    Args:
        say: prints where the trace was written.
    """

    def __init__(self, folder: Path, steps: int, say: Callable[[str], None]) -> None:
        self._path, self._say = folder / f"trace-rank{dist.get_rank()}.json.gz", say
        self._profile: profile | None = None
        if not steps:
            return
        folder.mkdir(parents=True, exist_ok=True)
        activities = [ProfilerActivity.CPU]
        if torch.cuda.is_available():
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(
            activities=activities,
            schedule=schedule(wait=0, warmup=WARM, active=steps, repeat=1),
            on_trace_ready=self._write,
        )
        self._profile.start()

    def step(self) -> None:
        """Call after every training step."""
        if self._profile:
            self._profile.step()

    def _write(self, made: profile) -> None:
        made.export_chrome_trace(str(self._path))
        self._say(f"trace written to {self._path}; open it in ui.perfetto.dev or chrome://tracing")

    def close(self) -> None:
        """Write a trace that has fewer steps than asked for."""
        if self._profile:
            self._profile.stop()
