"""A trace of a few steps, by flag: opens in Perfetto or chrome://tracing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
import torch.distributed as dist
from torch.profiler import ProfilerActivity, profile, schedule

WARM = 3
"""Steps before the trace: compilation and the first allocations would fill it."""


class Profiler:
    """Traces `steps` steps of this process after the first few; with 0, does nothing.

    Args:
        say: told where the trace lies.
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
        """A training step has ended."""
        if self._profile:
            self._profile.step()

    def _write(self, made: profile) -> None:
        made.export_chrome_trace(str(self._path))
        self._say(f"{self._path}: open it in ui.perfetto.dev or chrome://tracing")

    def close(self) -> None:
        """End a trace that is not full."""
        if self._profile:
            self._profile.stop()
