"""What `fox1 plan` would say of a simulated run, from the rates of a smaller one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fox1.pipeline.capacity.estimate import CapacityPlan, CorpusEstimate, TrainingWorkload, make_plan
from fox1.pipeline.capacity.rates import GROWS, WORK, FolderRate, Rates, StageRate
from fox1.pipeline.curate import CurateSettings
from fox1.pipeline.run.schemas import STAGES
from fox1.recipes.schema import Recipe

from .published import BYTES_PER_TOKEN, fates
from .virtual import DISPATCH_SECONDS, NODE_SLOTS


def of_stages(run: Mapping[str, Any]) -> dict[str, tuple[int, float]]:
    """Stage -> (tasks, seconds of a core) of a simulated run."""
    found = dict.fromkeys(STAGES, (0, 0.0))
    for step, facts in run["steps"].items():
        tasks, seconds = found[stage := step.split(".")[0]]
        found[stage] = tasks + facts["tasks"], seconds + facts["seconds"]
    return found


def plan(
    recipe: Recipe, settings: CurateSettings, sample: Mapping[str, Any], fraction: float, slots: int
) -> CapacityPlan:
    """The plan of a fraction of the corpora.

    Args:
        sample: a smaller run, in place of the sample that `fox1 plan` curates.
    """
    stages = {
        name: StageRate(0.0, seconds / sample["units"][WORK[name]], tasks, sample["units"][WORK[name]], 0)
        for name, (tasks, seconds) in of_stages(sample).items()
    }
    prepare = {"all": of_stages(sample)["prepare"][1]}
    folders = {name: FolderRate(unit, 0.0, 0.0) for name, unit in GROWS.items()}
    rates = Rates(
        stages, prepare, 0.0, DISPATCH_SECONDS, {}, folders, {"file": 3.0, "task": 1.0}, sample["fraction"], "simulated"
    )
    corpora = []
    for name, fate in fates(recipe).items():
        e = recipe.expected[name]
        kept = e.text * fraction * fate.kept
        figures = (e.stored * fraction, e.text * fraction, e.documents * fraction, kept, kept / BYTES_PER_TOKEN)
        longest = e.text / e.files
        corpora.append(CorpusEstimate(name, round(e.files * fraction), *figures, {}, "expected", longest))
    training = TrainingWorkload((), 1, "none", 1.0, 1.0)
    nodes = slots // NODE_SLOTS
    return make_plan(settings, corpora, rates, training, nodes, NODE_SLOTS, 1 << 40)
