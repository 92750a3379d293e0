"""What a session of Ray is told; tasks on Ray are tested where they run (`test_engine.py`, `tests/pipeline/test_curate.py`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from fox1.pipeline.engine.on_ray import _job


def test_workers_import_nothing_from_the_current_folder_that_the_driver_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p] + [str(tmp_path / "scripts")])
    for own in ("", None):
        job = _job()
        # As Ray does when it connects.
        job._py_driver_sys_path.extend([str(tmp_path / "scripts")])
        job._py_driver_sys_path.extend([os.path.abspath(os.path.curdir)])
        told = list(job._get_proto_job_config().py_driver_sys_path)
        assert told == [str(tmp_path / "scripts"), *([str(tmp_path)] if own is None else [])]
        sys.path.append("")
