"""Budgets as plans: any weights over any pools give ledgers that sum, documents in one phase, epochs below their caps."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fox1.pipeline.engine.engine import Engine
from fox1.pipeline.engine.tasks import InProcess
from fox1.pipeline.mix.assign import claimed_copies
from fox1.pipeline.mix.budget import BlockRule, Cell, MixSettings, Phase, Weight, quotas
from fox1.pipeline.mix.feasibility import BudgetShort, PoolNeed, estimated_needs, nearest_feasible
from fox1.pipeline.mix.plan import MixPlan, Planner
from fox1.pipeline.mix.select import DOC
from fox1.pipeline.run.artifacts import publish
from fox1.pipeline.run.paths import RunPaths
from hypothesis import given, settings
from hypothesis import strategies as st

CELLS = tuple(
    Cell(corpus, subset, domain)
    for corpus, subset, domain in [
        ("a", "web", "web"),
        ("a", "git", "code"),
        ("b", "crawl", "web"),
        ("b", "news", "web"),
        ("b", "arxiv", "science"),
        ("c", "wiki", "encyclopedia"),
    ]
)
BLOCKS = (BlockRule(1024, min_tokens=300, domains=("web",), fill=0.1), BlockRule(512))


def documents(rng: np.random.Generator, counts: Sequence[int]) -> np.ndarray:
    n = sum(counts)
    docs = np.zeros(n, DOC)
    docs["id"] = rng.choice(1 << 62, n, replace=False) + 1
    docs["tokens"] = np.maximum(3, rng.lognormal(5, 1.2, n)).astype(np.uint32)
    docs["cell"] = np.repeat(np.arange(len(counts)), counts)
    docs["quality"] = rng.integers(0, 1 << 16, n)
    return docs


def plan(mix: MixSettings, docs: np.ndarray) -> tuple[MixPlan, MixSettings]:
    natural = [int(docs["tokens"][docs["cell"] == c].sum()) for c in range(len(CELLS))]
    mix = mix.expanded(CELLS, natural)
    with tempfile.TemporaryDirectory() as folder:
        paths = RunPaths(Path(folder))
        files = []
        for k, part in enumerate(np.array_split(docs, 3)):
            with publish(paths.mix(f"docs/{k}"), rows=len(part)) as out:
                out.write(part.tobytes())
            files.append(out.artifact)
        return Planner(Engine(paths, InProcess()), mix, CELLS, files).plan(), mix


def uses(found: MixPlan, mix: MixSettings, docs: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Phase -> (copies of every document, tokens taken of it, its pool)."""
    out = {}
    for phase, pool, copies in claimed_copies(docs, mix, CELLS, found.claims):
        n = len(docs)
        tokens = np.bincount(copies.row, weights=copies.take, minlength=n).astype(np.int64)
        out[mix.phases[phase].name] = (np.bincount(copies.row, minlength=n), tokens, pool)
    return out


weights = st.floats(0.05, 100)


@st.composite
def pools(draw: st.DrawFn) -> tuple[Weight, ...]:
    epochs, top, floor = st.floats(1, 4), st.sampled_from([1.0, 1.0, 0.7]), st.sampled_from([0.0, 0.0, 0.3])

    def leaf(**of: str) -> Weight:
        return Weight(
            draw(weights), if_present=True, max_epochs=draw(epochs), top=draw(top), min_quality=draw(floor), **of
        )

    web = draw(
        st.sampled_from(
            [
                lambda: leaf(domain="web"),
                lambda: Weight(
                    draw(weights), domain="web", within=(leaf(domain="web", corpus="a"), leaf(domain="web", corpus="b"))
                ),
                lambda: Weight(
                    draw(weights), domain="web", by="subset", temperature=draw(st.floats(0.5, 5)), if_present=True
                ),
            ]
        )
    )()
    return (web, leaf(domain="code"), leaf(corpus="b", subset="arxiv"), leaf())


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.lists(st.integers(0, 60), min_size=6, max_size=6).filter(lambda c: sum(c) > 20),
    st.lists(pools(), min_size=2, max_size=2),
    st.tuples(st.floats(0.02, 0.4), st.floats(0.02, 0.4)),
    st.tuples(st.sampled_from(["any", "long", "quality"]), st.sampled_from(["any", "long", "quality"])),
    st.booleans(),
)
def test_any_plan_sums_is_disjoint_and_keeps_its_caps(seed, counts, of, sizes, prefer, reuse) -> None:  # type: ignore[no-untyped-def]
    docs = documents(np.random.default_rng(seed), counts)
    whole = int(docs["tokens"].sum())
    if reuse:
        of[0] = tuple(
            Weight(w.weight, w.domain, w.corpus, w.subset, True, w.max_epochs, w.top, w.min_quality, ("p2",))
            for w in of[0]
        )
    mix = MixSettings(
        tuple(
            Phase(name, max(1, int(whole * size)), w, BLOCKS, p)
            for name, size, w, p in zip(("p1", "p2"), sizes, of, prefer, strict=True)
        ),
        seed=seed % 1000,
    )
    try:
        found, mix = plan(mix, docs)
    except BudgetShort as error:
        assert any(n.short for n in error.needs) and error.details
        return
    except ValueError as error:
        assert "holds a document" in str(error)
        return
    taken = uses(found, mix, docs)
    for number, phase in enumerate(mix.phases):
        needs = [n for n in found.needs if n.phase == phase.name]
        copies, tokens, pool = taken[phase.name]
        assert sum(n.wanted for n in needs) == phase.tokens
        sets = [s for s in found.tally.sets if s.phase == number]
        assert [sum(s.copies for s in sets), sum(s.tokens for s in sets)] == [copies.sum(), tokens.sum()]
        for classes in (found.tally.lengths, found.tally.quality):
            assert sum(c.documents for c in classes if c.phase == number) == (copies > 0).sum()
        for k, (need, of_pool) in enumerate(zip(needs, phase.pools, strict=True)):
            mine = pool == k
            # A last copy of BOS alone is left out: one token.
            assert 0 <= need.wanted - tokens[mine].sum() <= 1
            assert copies[mine].max(initial=0) <= np.ceil(of_pool.max_epochs)
            assert tokens[mine].sum() <= of_pool.max_epochs * docs["tokens"][mine].sum()
            if of_pool.min_quality:
                assert (docs["quality"][mine & (copies > 0)] >= int(of_pool.min_quality * 65_535)).all()
    nobody = (taken["p1"][0] == 0) & (taken["p2"][0] == 0)
    unused = found.tally.unused
    assert sum(c.documents for c in unused) == nobody.sum()
    assert sum(c.tokens for c in unused) == docs["tokens"][nobody].sum()
    both = (taken["p1"][0] > 0) & (taken["p2"][0] > 0)
    assert reuse or not both.any()


def test_a_pool_may_take_again_what_an_earlier_claim_took_only_where_it_says_so() -> None:
    docs = documents(np.random.default_rng(1), [80, 0, 0, 0, 0, 80])
    whole = int(docs["tokens"].sum())
    late = Phase("late", whole // 2, (Weight(1, domain="web"), Weight(1, domain="encyclopedia")), BLOCKS)
    early = Phase(
        "early", whole // 2, (Weight(1, domain="web"), Weight(1, domain="encyclopedia", reuse=("late",))), BLOCKS
    )
    found, mix = plan(MixSettings((early, late)), docs)
    taken = uses(found, mix, docs)
    both = (taken["early"][0] > 0) & (taken["late"][0] > 0)
    assert both[docs["cell"] == 5].any() and not both[docs["cell"] == 0].any()


@pytest.mark.parametrize(
    ("late", "says"),
    [
        (
            Weight(1, domain="web"),
            r"early: the pool `web` is empty, since late claimed 24,\d{3} of its tokens; let it take them again "
            r"\(`reuse: \[late\]`\), lower the `tokens` of late, or mark it `if_present: true`",
        ),
        (
            Weight(1, domain="web", if_present=True),
            r"holds a document that is left; of `web`, late claimed 24,\d{3} of its",
        ),
    ],
)
def test_a_pool_that_earlier_claims_emptied_names_them_and_what_helps(late: Weight, says: str) -> None:
    docs = documents(np.random.default_rng(1), [80, 0, 0, 0, 0, 0])
    whole = int(docs["tokens"].sum())
    phases = [Phase("early", 100, (late,), BLOCKS), Phase("late", whole, (Weight(1, domain="web"),), BLOCKS)]
    with pytest.raises(ValueError, match=says) as told:
        plan(MixSettings(tuple(phases)), docs)
    assert f"{whole:,}" in str(told.value)


def test_a_pool_that_is_short_after_earlier_claims_names_them() -> None:
    docs = documents(np.random.default_rng(1), [80, 0, 0, 0, 0, 0])
    whole = int(docs["tokens"].sum())
    web = (Weight(1, domain="web"),)
    phases = [Phase(n, whole * k // 10, web, BLOCKS) for n, k in (("p1", 5), ("p2", 4), ("p3", 3))]
    with pytest.raises(BudgetShort) as told:
        plan(MixSettings(tuple(phases)), docs)
    need = next(n for n in told.value.needs if n.short)
    # Exactly what those phases took, whole documents at their ends.
    assert list(need.claimed) == ["p3", "p2"] and sum(need.claimed.values()) + need.available == whole
    assert need.phase == "p1" and 0 <= need.claimed["p3"] - whole * 3 // 10 < 10_000
    assert "(p3 claimed " in str(told.value) and "let it take them again (`reuse: [p3, p2]`)" in str(told.value)
    with pytest.raises(BudgetShort, match=r"\(p2 claimed 60 of its tokens\).*reuse: \[p2\]"):
        raise BudgetShort(
            estimated_needs(
                MixSettings((Phase("p1", 60, web, BLOCKS), Phase("p2", 60, web, BLOCKS))), CELLS[:1], [100], 1.0
            ),
            "now",
        )


def moved(before: dict, after: dict, ids: np.ndarray, ids_after: np.ndarray) -> int:  # type: ignore[type-arg]
    """Documents of the first plan that are in another phase of the second."""
    place = {int(i): k for k, i in enumerate(ids_after)}
    rows = np.array([place[int(i)] for i in ids])
    return sum(int(((before[p][0] > 0) != (after[p][0][rows] > 0)).sum()) for p in before)


def test_one_more_document_or_corpus_moves_few_others() -> None:
    rng = np.random.default_rng(7)
    docs = documents(rng, [4000, 1000, 0, 0, 500, 500])
    whole = int(docs["tokens"].sum())
    by_domain = tuple(Weight(w, domain=d) for d, w in (("web", 70), ("code", 15), ("science", 7), ("encyclopedia", 8)))
    mix = MixSettings(
        tuple(Phase(f"p{k}", int(whole * share), by_domain, BLOCKS) for k, share in enumerate((0.3, 0.3, 0.05), 1))
    )
    before = uses(*plan(mix, docs), docs)
    more = np.concatenate([docs, documents(rng, [1])])
    # A threshold moves past the few documents that the new one's tokens amount to, once for each phase.
    assert moved(before, uses(*plan(mix, more), more), docs["id"], more["id"]) <= 12
    corpus = documents(rng, [0, 0, 1000])
    more = np.concatenate([docs, corpus])
    changed = moved(before, uses(*plan(mix, more), more), docs["id"], more["id"])
    # The pool of the web has a fifth more documents, so that about that share of its places goes to them, none else.
    assert 0 < changed < 0.25 * 4000 * 3
    assert changed < 2 * sum(int((v[0][docs["cell"] == 0] > 0).sum()) for v in before.values()) * 0.25


def test_nested_quotas_sum_at_every_level() -> None:
    inner = (Weight(1, domain="web", corpus="a"), Weight(2, domain="web", corpus="b"))
    phase = Phase("p", 1001, (Weight(3, domain="web", within=inner), Weight(1, domain="code")), BLOCKS)
    wanted, given = quotas(phase, [10, 10, 10])
    assert not given and sum(wanted) == 1001
    assert wanted[0] + wanted[1] == 751 and wanted == [250, 501, 250]
    gone = Phase("p", 1001, (Weight(3, within=(Weight(1, "x", if_present=True),)), Weight(1)), BLOCKS)
    assert quotas(gone, [0, 5]) == ([0, 1001], ["x"])


def test_temperature_flattens_natural_sizes() -> None:
    def shares(temperature: float) -> list[float]:
        group = Weight(1, domain="web", by="subset", temperature=temperature)
        phase = (
            MixSettings((Phase("p", 1_000_000, (group,), BLOCKS),)).expanded(CELLS, [900, 5, 90, 10, 5, 5]).phases[0]
        )
        assert [p.name for p in phase.pools] == ["web in a/web", "web in b/crawl", "web in b/news"]
        return [w / 1_000_000 for w in quotas(phase, [9, 9, 9])[0]]

    assert shares(1) == [0.9, 0.09, 0.01]
    assert shares(2) == pytest.approx([30 / 42.649, 9.487 / 42.649, 3.162 / 42.649], abs=1e-4)
    assert shares(1e9) == pytest.approx([1 / 3] * 3, abs=1e-5)


def test_the_nearest_feasible_weights_give_what_there_is_and_spread_the_rest() -> None:
    needs = [PoolNeed("p", "a", 600, 100, 2), PoolNeed("p", "b", 300, 5000, 1), PoolNeed("p", "c", 100, 150, 1)]
    # a gives 200; of the other 800, b and c would take 600 and 200, but c has 150.
    assert nearest_feasible(needs) == [200, 650, 150]
    assert nearest_feasible([PoolNeed("p", "a", 600, 100, 2)]) is None
    shown = BudgetShort(needs, "now").details
    assert shown[0].split()[:4] == ["phase", "pool", "wanted", "available"]
    assert shown[1].split() == ["p", "a", "600", "100", "6.00", "2", "60.00", "%", "20.00", "%"]
    assert (
        "no weights are feasible; all its pools together hold 200 of 600" in BudgetShort(needs[:1], "now").details[-1]
    )
    assert str(BudgetShort(needs, "now")).endswith("nearest feasible weights of the table above")
    assert str(BudgetShort(needs[:1], "now")).endswith("or raise `max_epochs`")


def test_the_estimate_knows_what_earlier_claims_leave() -> None:
    web = (Weight(1, domain="web"),)
    mix = MixSettings((Phase("p1", 60, web, BLOCKS), Phase("p2", 60, web, BLOCKS)))
    needs = {n.phase: n for n in estimated_needs(mix, CELLS[:1], [100], 1.0)}
    assert needs["p2"].available == 100 and needs["p1"].available == 40 and needs["p1"].short
    again = (Weight(1, domain="web", reuse=("p2",)),)
    mix = MixSettings((Phase("p1", 60, again, BLOCKS), Phase("p2", 60, web, BLOCKS)))
    assert not any(n.short for n in estimated_needs(mix, CELLS[:1], [100], 1.0))


@pytest.mark.parametrize("lower", [{"below": 0.3}, {}])
def test_a_domain_may_be_two_pools_of_a_phase_by_quality(lower: dict[str, float]) -> None:
    docs = documents(np.random.default_rng(4), [200, 150, 0, 40, 0, 0])
    web = np.array([c.domain == "web" for c in CELLS])[docs["cell"]]
    whole = int(docs["tokens"][web].sum())
    of = (Weight(3, domain="web", top=0.3), Weight(1, domain="web", **lower), Weight(1, domain="code"))
    phase = Phase("p", whole // 4, of, BLOCKS)
    found, mix = plan(MixSettings((phase,)), docs)
    _, tokens, pool = uses(found, mix, docs)["p"]
    best, rest = docs["quality"][pool == 0], docs["quality"][pool == 1]
    assert best.min() > rest.max() and len(best) + len(rest) == web.sum()
    assert abs(docs["tokens"][pool == 0].sum() / whole - 0.3) < 0.05
    assert [tokens[pool == k].sum() for k in range(3)] == pytest.approx([n.wanted for n in found.needs], abs=1)
    assert [n.pool for n in found.needs][1] == ("web below the best 30 %" if lower else "web")
    # The estimate, which knows no qualities, has the same shares.
    sizes = np.bincount(docs["cell"], docs["tokens"], len(CELLS)).astype(int).tolist()
    estimated = estimated_needs(mix, CELLS, sizes, 1.0)
    assert [n.available for n in estimated[:2]] == pytest.approx([0.3 * whole, 0.7 * whole], abs=2)


def test_a_weight_that_can_hold_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match=r"`below: 40%` leaves nothing of `top: 30%`; lower `below`"):
        Weight(1, domain="web", top=0.3, below=0.4)
