"""Settings that no training makes sense with are refused, from a recipe and from `training.json` alike."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pytest
from fox1.recipes.load import RecipeError, load_recipe
from fox1.trainer.settings import (
    ModelSettings,
    OptimizerSettings,
    PhaseTraining,
    ScheduleSettings,
    TrainSettings,
)

GOOD = TrainSettings(
    ModelSettings(), (PhaseTraining("phase1", 64, 16, 1),), 16, OptimizerSettings(1e-3), ScheduleSettings(1, 0.1)
)
WRONG: list[tuple[str, Any, str]] = [
    ("optimizer.learning_rate", 0.0, "above 0 and at most 1"),
    ("optimizer.learning_rate", 30.0, "above 0 and at most 1"),
    ("optimizer.learning_rate", float("nan"), "above 0 and at most 1"),
    ("optimizer.clip_norm", 0.0, "above 0"),
    ("optimizer.clip_norm", -1.0, "above 0"),
    ("optimizer.clip_norm", float("inf"), "above 0"),
    ("optimizer.weight_decay", -0.1, "at least 0 and at most 10"),
    ("optimizer.eps", 0.0, "above 0 and at most 1"),
    ("optimizer.eps", -1e-8, "above 0 and at most 1"),
    ("optimizer.betas", [1.5, 0.95], "at least 0 and below 1"),
    ("optimizer.betas", [0.9, 1.0], "at least 0 and below 1"),
    ("optimizer.betas", [-0.1, 0.95], "at least 0 and below 1"),
    ("optimizer.momentum", 1.0, "at least 0 and below 1"),
    ("schedule.warmup_steps", -1, "at least 0"),
    ("schedule.decay_share", 1.5, "at least 0 and at most 1"),
    ("schedule.final_share", -0.5, "at least 0 and at most 1"),
    ("micro_batch_tokens", 0, "at least 1"),
    ("seed", -1, "at least 0"),
    ("checkpoint_every", 0, "at least 1"),
    ("keep_last", 1, "at least 2"),
    ("keep_every", -1, "at least 0"),
    ("evaluate_every", -1, "at least 0"),
    ("evaluate_blocks", 0, "at least 1"),
    ("z_loss", -1e-4, "at least 0 and at most 1"),
    ("replicas", 0, "at least 1"),
    ("skip_sigma", -6.0, "at least 0"),
    ("skip_sigma", float("inf"), "at least 0"),
    ("skip_window", 4, "at least 8"),
    ("max_skipped", 0, "at least 1"),
]


@pytest.mark.parametrize(("key", "value", "says"), WRONG)
def test_a_senseless_value_of_training_json_is_refused_by_name_with_the_range(key: str, value: Any, says: str) -> None:
    settings = asdict(GOOD)
    settings["phases"] = [asdict(p) for p in GOOD.phases]
    settings["optimizer"]["betas"], settings["chat"] = [0.9, 0.95], []
    assert TrainSettings.from_json(settings) == GOOD
    part, _, name = key.rpartition(".")
    (settings[part] if part else settings)[name] = value
    with pytest.raises(ValueError, match=rf"^training.json: {key}(\[\d\])? is .*; it must be {says}"):
        TrainSettings.from_json(settings)


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, value, _ in WRONG])
def test_a_recipe_with_it_is_refused_by_name(key: str, value: Any) -> None:
    of_size = key.partition(".")[0] in ("optimizer", "schedule", "micro_batch_tokens")
    where = f"training.sizes.sample.{key}" if of_size else f"training.{key}"
    text = {"nan": ".nan", "inf": ".inf"}.get(str(value), str(value))
    with pytest.raises(RecipeError, match=where.replace(".", r"\.")):
        load_recipe("sample", [f"{where}={text}"], {"FOX1_DATA": "/data"})
