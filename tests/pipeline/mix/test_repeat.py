"""Documents that stand for many copies count several times in a pool: budgets still sum, and no document passes its epochs."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from fox1.pipeline.engine.keys import identity_of
from fox1.pipeline.mix.budget import BlockRule, MixSettings, Phase, Weight
from fox1.pipeline.mix.feasibility import BudgetShort
from fox1.pipeline.mix.select import CLUSTERED, DOC
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.pipeline.dedupe.test_dedupe import decisions, settings_for, write
from tests.pipeline.mix.test_budget import documents, plan, uses

REPEAT = ((2, 2), (10, 3))


def times(cluster: np.ndarray) -> np.ndarray:
    """By the definition of `REPEAT`."""
    return np.where(cluster >= 10, 3, np.where(cluster >= 2, 2, 1))


def clustered(rng: np.random.Generator, count: int) -> np.ndarray:
    docs = documents(rng, [count, count // 3, 0, count // 2, 0, 0])
    out = np.zeros(len(docs), CLUSTERED)
    for name in DOC.names or ():
        out[name] = docs[name]
    out["cluster"] = rng.choice([1, 1, 1, 2, 5, 10, 400], len(docs))
    return out


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 2**32),
    st.integers(20, 80),
    st.floats(0.05, 1.9),
    st.floats(0.05, 0.3),
    st.sampled_from(["any", "long", "quality"]),
)
def test_budgets_sum_and_no_document_is_used_more_often_than_it_may(
    seed: int, count: int, share: float, before: float, prefer: Any
) -> None:
    docs = clustered(np.random.default_rng(seed), count)
    web = np.isin(docs["cell"], (0, 3))
    natural = int((docs["tokens"] * times(docs["cluster"]))[web].sum())
    pools = (Weight(1.0, domain="web", max_epochs=6, repeat=REPEAT),)
    last = Phase("last", max(2, int(before * natural / 3)), (Weight(1.0),), (BlockRule(512),))
    first = Phase("first", int(share * natural * (1 - before)), pools, (BlockRule(512),), prefer)
    try:
        found, mix = plan(MixSettings((first, last)), docs)
    except BudgetShort as error:
        # Six epochs of documents that count up to three times are two passes.
        assert all(n.wanted > 2 * n.available for n in error.needs if n.short and n.phase == "first")
        return
    used = uses(found, mix, docs)
    copies, tokens, _ = used["first"]
    # Else its last document gives one token, which is a BOS alone: nobody has it.
    assume(used["last"][1].sum() == last.tokens)
    free = web & (used["last"][0] == 0)
    counts = times(docs["cluster"])
    available = int((docs["tokens"] * counts)[free].sum())
    assert [n.available for n in found.needs if n.phase == "first"] == [available]
    # A copy of one token would be a BOS alone.
    assert first.tokens - 1 <= tokens.sum() <= first.tokens
    assert not copies[~free].any()
    assert (copies <= 6).all()
    passes = first.tokens / available
    assert (copies[free] <= counts[free] * (int(passes) + 1)).all()
    assert (copies[free] >= counts[free] * int(passes)).all()


def test_documents_of_large_clusters_are_seen_more_often_in_proportion() -> None:
    docs = clustered(np.random.default_rng(4), 4_000)
    web = np.isin(docs["cell"], (0, 3))
    counts = times(docs["cluster"])
    natural = int((docs["tokens"] * counts)[web].sum())
    phase = Phase("p", natural // 2, (Weight(1.0, domain="web", max_epochs=3, repeat=REPEAT),), (BlockRule(512),))
    found, mix = plan(MixSettings((phase,)), docs)
    copies = uses(found, mix, docs)["p"][0]
    for n in (1, 2, 3):
        mean = copies[web & (counts == n)].mean()
        assert mean == pytest.approx(n / 2, rel=0.1)


def test_a_pool_gives_no_more_than_its_epochs_allow() -> None:
    docs = clustered(np.random.default_rng(5), 100)
    docs["cluster"] = 10
    web = np.isin(docs["cell"], (0, 3))
    whole = int(docs["tokens"][web].sum())
    # Three times in a pass, and six epochs at most: two passes, or six times all tokens.
    pool = Weight(1.0, domain="web", max_epochs=6, repeat=REPEAT)
    found, mix = plan(MixSettings((Phase("p", 6 * whole, (pool,), (BlockRule(512),)),)), docs)
    assert set(uses(found, mix, docs)["p"][0][web].tolist()) == {6}
    with pytest.raises(BudgetShort, match="x 2 epochs"):
        plan(MixSettings((Phase("p", 6 * whole + 1, (pool,), (BlockRule(512),)),)), docs)
    with pytest.raises(ValueError, match=r"`repeat` lets a document that represents 10 count 3 times"):
        Weight(1.0, max_epochs=2, repeat=REPEAT)
    with pytest.raises(ValueError, match="sizes from 2"):
        Weight(1.0, max_epochs=2, repeat=((1, 2),))


def test_a_mixture_without_repeats_has_the_keys_that_it_always_had() -> None:
    phase = Phase("p", 10, (Weight(1.0),), (BlockRule(512),))
    assert "repeat" not in json.dumps(identity_of(MixSettings((phase,))))
    repeated = replace(phase, weights=(Weight(1.0, max_epochs=3, repeat=REPEAT),))
    assert "repeat" in json.dumps(identity_of(MixSettings((repeated,))))


def test_a_run_repeats_documents_by_the_copies_that_dedupe_dropped_for_them(
    tmp_path: Path, curate: Callable[..., Any]
) -> None:
    rng = random.Random(6)

    def text() -> str:
        return " ".join("".join(rng.choices("abcdefghij", k=6)) for _ in range(120))

    alone, doubled, many = ([text() for _ in range(n)] for n in (12, 6, 3))
    write(tmp_path, "c", [*alone, *doubled, *doubled, *(many * 11)])
    run = settings_for(tmp_path, "c")
    pool = Weight(1.0, max_epochs=3, repeat=REPEAT)
    once = replace(run, mix=MixSettings((Phase("p", 2000, (Weight(1.0),), (BlockRule(256),)),)))
    curate(once, tmp_path / "run")
    sizes = {d["doc_id"]: d["cluster_size"] for d in decisions(tmp_path / "run") if d["kept"]}
    assert Counter(sizes.values()) == {1: 12, 2: 6, 11: 3}
    mixture = json.loads((tmp_path / "run" / "stats" / "mixture.json").read_text())
    assert "repeat" not in mixture["phases"][0]["pools"][0]
    # All of the pool, each as often as it counts: 12 x 1 + 6 x 2 + 3 x 3 copies.
    files = sorted((tmp_path / "run" / "tokens").rglob("*.arrow"))
    lengths = {
        row["doc_id"]: len(row["input_ids"]) + 2
        for file in files
        for row in pa.ipc.open_stream(file).read_all().to_pylist()
    }
    whole = sum(n * int(times(np.array(sizes[doc]))) for doc, n in lengths.items())
    curate(replace(run, mix=MixSettings((Phase("p", whole, (pool,), (BlockRule(256),)),))), tmp_path / "run")
    mixture = json.loads((tmp_path / "run" / "stats" / "mixture.json").read_text())
    (named,) = mixture["phases"][0]["pools"]
    assert named["repeat"] == {"2": 2, "10": 3} and named["documents"] == 33 and named["tokens"] == whole
    taken: Counter[int] = Counter()
    for file in sorted((tmp_path / "run" / "phases" / "p" / "256").glob("*.arrow")):
        for row in pa.ipc.open_stream(file).read_all().select(["doc_ids", "doc_starts"]).to_pylist():
            taken.update(i for i, start in zip(row["doc_ids"], row["doc_starts"], strict=True) if start == 0)
    assert taken == {doc: int(times(np.array(size))) for doc, size in sizes.items()}
