"""Metrics as JSON lines and, if installed, TensorBoard; a line on the terminal. Nothing here touches the device."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

PEAK_FLOPS = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bf16 FLOP/s by a part of the device's name. An unknown device has no MFU rather than a wrong one."""


def peak_flops(device_name: str) -> float | None:
    return next((peak for name, peak in PEAK_FLOPS.items() if name in device_name), None)


class Metrics:
    """Writes what rank 0 reports."""

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._file = open(root / "metrics.jsonl", "a")
        self._board: Any = None
        try:
            from torch.utils.tensorboard import SummaryWriter

            self._board = SummaryWriter(str(root / "tensorboard"))
        except ImportError:
            pass

    def write(self, kind: str, step: int, values: dict[str, Any]) -> None:
        """Append one record; nested mappings become `a/b` in TensorBoard."""
        self._file.write(json.dumps({"kind": kind, "step": step, "time": time.time(), **values}) + "\n")
        self._file.flush()
        if self._board is None:
            return
        for name, value in values.items():
            parts = value.items() if isinstance(value, dict) else [("", value)]
            for part, number in parts:
                if isinstance(number, int | float):
                    self._board.add_scalar(f"{kind}/{name}{'/' if part else ''}{part}", number, step)

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def close(self) -> None:
        self._file.close()
        if self._board is not None:
            self._board.close()
