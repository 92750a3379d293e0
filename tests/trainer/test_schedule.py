"""The learning rate over the tokens of the phases."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from fox1.trainer.schedule import LearningRateSchedule, PhaseSpan, schedule_over
from fox1.trainer.settings import ScheduleSettings

PHASES = (PhaseSpan("phase1", 100_000, 1000), PhaseSpan("phase2", 80_000, 2000), PhaseSpan("phase3", 20_000, 2000))


def rates(schedule: LearningRateSchedule) -> list[tuple[int, float]]:
    """(tokens before the step, share of the peak) of every step."""
    found, at = [], 0
    for number, phase in enumerate(schedule.phases):
        for consumed in range(0, phase.tokens, phase.batch_tokens):
            found.append((at + consumed, schedule.factor(number, consumed)))
        at += phase.tokens
    return found


def test_it_rises_holds_and_falls() -> None:
    found = dict(rates(schedule_over(PHASES, ScheduleSettings(20, 0.2))))
    assert found[0] == pytest.approx(1 / 20) and found[18_000] == pytest.approx(19 / 20)
    assert all(found[at] == 1.0 for at in (19_000, 100_000, 160_000))
    assert found[180_000] == pytest.approx(0.5) and found[198_000] == pytest.approx(0.05)


@pytest.mark.parametrize(
    ("settings", "begin"),
    [
        (ScheduleSettings(0), 180_000),
        (ScheduleSettings(0, decay_from="phase3"), 180_000),
        (ScheduleSettings(0, decay_from="phase2"), 100_000),
        (ScheduleSettings(0, decay_tokens=50_000), 150_000),
        (ScheduleSettings(0, 0.5), 100_000),
        (ScheduleSettings(0, decay_tokens=10**9), 0),
        (ScheduleSettings(0, 0.0), 200_000),
    ],
)
def test_the_decay_begins_where_it_is_said_to_and_with_the_last_phase_where_nothing_is(
    settings: ScheduleSettings, begin: int
) -> None:
    found = rates(schedule_over(PHASES, settings))
    assert all((rate == 1.0) == (at <= begin) for at, rate in found)
    falling = [rate for at, rate in found if at >= begin]
    assert falling == sorted(falling, reverse=True) and all(rate > 0 for rate in falling)


@pytest.mark.parametrize(("shape", "half"), [("linear", 0.5), ("cosine", 0.5), ("sqrt", 1 - math.sqrt(0.5))])
def test_the_decay_has_a_shape_and_an_end(shape: str, half: float) -> None:
    settings = replace(ScheduleSettings(0, decay_tokens=20_000, final_share=0.1), decay_shape=shape)
    found = dict(rates(schedule_over(PHASES, settings)))
    assert found[180_000] == 1.0 and found[190_000] == pytest.approx(0.1 + 0.9 * half)
    assert 0.1 < found[198_000] < 0.25
    ratio = (found[182_000] - 0.1) / 0.9
    assert ratio == pytest.approx({"linear": 0.9, "cosine": (1 + math.cos(0.1 * math.pi)) / 2}.get(shape, 1 - 0.1**0.5))


def test_another_batch_moves_neither_warm_up_nor_decay() -> None:
    settings = ScheduleSettings(warmup_tokens=20_000, decay_tokens=40_000)
    large = tuple(replace(p, batch_tokens=2 * p.batch_tokens) for p in PHASES)
    one, other = schedule_over(PHASES, settings), schedule_over(large, settings)
    assert {at: rate for at, rate in rates(one) if at >= 20_000}.items() >= {
        at: rate for at, rate in rates(other) if at >= 20_000
    }.items()
    assert rates(other)[-1][1] == pytest.approx(0.1)


def test_steps_of_the_warm_up_are_counted_in_the_batches_that_they_fall_in() -> None:
    assert schedule_over(PHASES, ScheduleSettings(110)).warmup == 100_000 + 10 * 2000
    assert schedule_over(PHASES, ScheduleSettings(10**6)).warmup == 200_000


def test_it_says_where_it_rises_and_falls() -> None:
    assert schedule_over(PHASES, ScheduleSettings(20, 0.2)).describe() == (
        "warm-up over 20,000 tokens (20 steps, phase1); linear decay to 0 over the last 40,000 tokens (20 steps, "
        "phase2 to phase3)"
    )
    constant = ScheduleSettings(warmup_tokens=0, decay_share=0.0)
    assert schedule_over(PHASES, constant).describe() == "no warm-up; no decay"
    floor = ScheduleSettings(1, decay_shape="cosine", final_share=0.1)
    assert schedule_over(PHASES, floor).describe() == (
        "warm-up over 1,000 tokens (1 step, phase1); cosine decay to 0.1 of the peak over the last 20,000 tokens "
        "(10 steps, phase3)"
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "give one of warmup_steps and warmup_tokens, not neither"),
        ({"warmup_steps": 1, "warmup_tokens": 1}, "give one of warmup_steps and warmup_tokens, not both"),
        ({"warmup_steps": 1, "decay_share": 0.1, "decay_from": "phase3"}, "give one of decay_share and decay_from"),
    ],
)
def test_what_is_given_twice_or_not_at_all_is_refused(given: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        ScheduleSettings(**given)  # type: ignore[arg-type]


def test_a_decay_from_a_phase_that_there_is_not_is_refused() -> None:
    with pytest.raises(
        ValueError, match="decay_from is phase4, which is no phase; choose one of phase1, phase2, phase3"
    ):
        schedule_over(PHASES, ScheduleSettings(0, decay_from="phase4"))
