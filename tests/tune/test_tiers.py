"""Pools by quality: where they are divided, what they hold, and what a run's phases have of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.mix.assign import claimed_copies
from fox1.pipeline.mix.budget import BlockRule, Cell, MixSettings, Phase, Weight
from fox1.pipeline.mix.plan import Planner
from fox1.pipeline.mix.select import CLUSTERED, DOC
from fox1.pipeline.run.artifacts import publish
from fox1.pipeline.run.paths import RunPaths
from fox1.tune.tiers import count_tiers, divided, find_cuts, whole_pools

BLOCKS = (BlockRule(512),)
PHASES = (
    Phase("p1", 40_000, (Weight(3, domain="web"), Weight(1, domain="code")), BLOCKS),
    Phase("p2", 10_000, (Weight(1, domain="web", top=0.3), Weight(1, domain="code", below=0.5)), BLOCKS, "quality"),
)


def names(asked: dict[str, tuple[float, ...]]) -> list[str]:
    pools = whole_pools(PHASES)
    return [s.name for s in divided(pools, find_cuts(PHASES, pools, asked))]


def test_pools_are_divided_where_the_recipe_is_or_where_it_is_asked() -> None:
    assert names({}) == ["code, best 50 %", "code, last 50 %", "web, best 30 %", "web, last 70 %"]
    assert names({"web": (), "code": (0.1, 0.4)}) == [
        "code, best 10 %",
        "code, 10 to 40 %",
        "code, last 60 %",
        "web",
    ]
    with pytest.raises(ValueError, match="names books, which is no pool of the phases; choose from code, web"):
        names({"books": (0.5,)})
    for shares in ((0.5, 0.3), (0.0,), (1.0,)):
        with pytest.raises(ValueError, match="write shares that rise between 0 and 1"):
            names({"web": shares})


def test_a_group_is_refused() -> None:
    group = Phase("p", 10, (Weight(1, within=(Weight(1, domain="web"),)),), BLOCKS)
    with pytest.raises(ValueError, match="not a group with `within`"):
        whole_pools([group])


@pytest.mark.parametrize("by_cluster", [False, True])
def test_tiers_hold_what_their_documents_say(tmp_path: Path, by_cluster: bool) -> None:
    cells = (Cell("a", "x", "web"), Cell("a", "y", "code"), Cell("b", "x", "web"), Cell("b", "z", "books"))
    rng = np.random.default_rng(1)
    docs = np.zeros(900, CLUSTERED if by_cluster else DOC)
    docs["id"] = rng.choice(1 << 62, 900, replace=False) + 1
    docs["tokens"] = rng.integers(20, 400, 900)
    docs["cell"] = rng.integers(0, 4, 900)
    docs["quality"] = rng.integers(0, 1 << 16, 900)
    paths = RunPaths(tmp_path)
    files = []
    for k, part in enumerate(np.array_split(docs, 2)):
        with publish(paths.mix(f"docs/{k}"), rows=len(part)) as out:
            out.write(part.tobytes())
        files.append(out.artifact)
    web_once = replace(PHASES[0].weights[0], repeat=((2, 1),) if by_cluster else ())
    first = replace(PHASES[0], weights=(web_once, *PHASES[0].weights[1:]))
    engine, mix = Engine(paths, InProcess()), MixSettings((first, PHASES[1]), seed=3)
    pools = divided(whole_pools(PHASES), find_cuts(PHASES, whole_pools(PHASES), {}))
    held = count_tiers(engine, mix, cells, files, pools)

    domain = np.array([c.domain for c in cells])[docs["cell"]]
    web, code = docs[domain == "web"], docs[domain == "code"]
    assert held.there[:2].sum() == code["tokens"].sum() and held.there[2:].sum() == web["tokens"].sum()
    assert held.there[2] / held.there[2:].sum() == pytest.approx(0.3, abs=0.02)
    # By hand: the best web documents are those that phase p2 could claim.
    claims = Planner(engine, mix, cells, files, prefix="again.").plan().claims
    expected = np.zeros((2, 4), np.int64)
    ordered = np.sort(web["quality"])[::-1]
    least = ordered[np.searchsorted(np.cumsum(web["tokens"][np.argsort(web["quality"])[::-1]]), int(held.there[2]))]
    for phase, _, copies in claimed_copies(docs, mix, cells, claims):
        for row, take in zip(copies.row, copies.take, strict=True):
            if domain[row] == "web":
                expected[phase, 2 if docs["quality"][row] >= least else 3] += take
            elif domain[row] == "code":
                expected[phase, 0 if docs["quality"][row] >= np.median(code["quality"]) else 1] += take
    assert held.trained[:, 2:].tolist() == expected[:, 2:].tolist()
    assert held.trained.sum(axis=1) == pytest.approx([40_000, 10_000], abs=3)
    # Phase p2 takes the best of the web, and none of the better half of the code.
    assert held.trained[1, 3] == 0 == held.trained[1, 0] and (held.trained[0] > 0).all()
