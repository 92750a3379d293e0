"""The planning of the full recipe at two small fractions: nothing that the driver does grows faster than the corpora."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from fox1.benchmarks import simulate
from fox1.benchmarks.simulation import results, virtual

FRACTIONS = (0.001, 0.002)


def test_what_the_driver_does_grows_no_faster_than_the_corpora(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # One round of dedupe, and no record that a resumption would need.
    monkeypatch.setattr(results, "LIVE", ())
    monkeypatch.setattr(virtual, "LOOSE_IN_STORE", 0)
    # `simulate` sets it.
    monkeypatch.setenv("FOX1_SCRATCH", "")
    runs = []
    for fraction in FRACTIONS:
        folder = tmp_path / str(fraction)
        folder.mkdir()
        runs.append(simulate.simulate(fraction, (512,), folder, resume=False))
    few, many = runs
    for name in ("tasks", "pickled_bytes", "artifacts"):
        slope = math.log(many[name] / few[name]) / math.log(FRACTIONS[1] / FRACTIONS[0])
        assert slope <= 1.05, f"{name} grows as n^{slope:.2f}"
    assert many["arguments_bytes"] < 100_000
    assert abs(simulate.plan_errors(runs, 512)["tasks"]) < 0.25


def test_a_lost_task_that_publishes_parts_only_reads_what_these_are_made_of() -> None:
    assert virtual.Bundle(100.0).after(99.0).seconds == 100.0
    assert virtual.Bundle(100.0, parts=10, reading=0.2).after(55.0).seconds == pytest.approx(60.0)
    clock = virtual.Clock(virtual.NODE_SLOTS)
    bundles = [virtual.Bundle(2 * virtual.LOST_EVERY, parts=5, reading=0.25)]
    clock.add(virtual.Batch(("scan",), frozenset(), 0), bundles)
    clock.run()
    # Lost twice, each time with what it did after its last part.
    assert clock.now < 3 * virtual.LOST_EVERY and 0 < clock.redone < virtual.LOST_EVERY
