"""The mix stage: plans each phase, then packs, shuffles and writes its shard sets (`steps.py`).

What else lists, plans or packs the tokens of a run, without curating one, takes a part of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ...tokenize.model import TokenizerSettings
from ..carve.encode import CarvedShard
from ..engine.engine import Engine
from ..prepare.tokenizer import PreparedTokenizer
from ..run.artifacts import Artifact
from ..run.identity import Group
from ..tokens.shards import GroupTokens
from . import select
from .budget import Cell, MixSettings
from .feasibility import PoolNeed
from .items import BenchmarkItems
from .plan import MixPlan, Planner
from .steps import Mixed, MixSteps, TokenGroup, Vocabulary


def mix(
    engine: Engine,
    groups: Sequence[Group],
    tokens: Mapping[str, GroupTokens],
    settings: MixSettings,
    tokenizer: TokenizerSettings,
    prepared: PreparedTokenizer,
    decisions: Mapping[str, Artifact] | None = None,
    carved: Sequence[CarvedShard] = (),
    items: BenchmarkItems | None = None,
) -> Mixed:
    """Plan, pack and write every phase, the held-out set and the index.

    Args:
        tokens: by name of the group.
        prepared: the tokenizer that the tokens are of.
        decisions: by `SourceFile.table`; of documents that came as token ids there are none.
        carved: what is set apart to measure on, beside held-out files.
        items: benchmark items to measure on.

    Raises:
        ValueError: a budget cannot be met, or a set would be empty.
    """
    decided = decisions or {}
    kinds = {g.corpus: (g.format, g.domain) for g in groups}
    found = sorted({(g.corpus, shard.subset) for g in groups for shard in tokens[g.name].shards})
    code = {name: i for i, name in enumerate(found)}
    cells = tuple(Cell.of(corpus, subset, *kinds[corpus]) for corpus, subset in found)
    token_groups = tuple(
        TokenGroup(
            g.name,
            tuple(select.CellShard(s.shard, code[g.corpus, s.subset]) for s in shards),
            g.held_out,
            tuple(decided[f.table] for f in g.files if f.table in decided),
        )
        for g in groups
        if (shards := tokens[g.name].shards)
    )
    vocabulary = Vocabulary(prepared.vocab_size, prepared.pad, prepared.eos, prepared.bos, tokenizer.bos, tokenizer.eos)
    measured = tuple((Cell.of(c.corpus, c.subset, *kinds[c.corpus]), c) for c in carved)
    return MixSteps(engine, settings, vocabulary, cells, token_groups, measured, items).run()


@dataclass(frozen=True)
class Listed:
    """The documents that are trained on."""

    files: tuple[Artifact, ...]
    """Arrays of `type_of` the settings."""
    cells: tuple[select.CellCount, ...]
    """Documents of every cell and their tokens, BOS and EOS included."""


def list_training(
    engine: Engine,
    settings: MixSettings,
    vocabulary: Vocabulary,
    cells: tuple[Cell, ...],
    groups: tuple[TokenGroup, ...],
) -> Listed:
    """The facts of all documents of the groups that are trained on.

    Args:
        settings: by which they are looked at.
    """
    _, files, counts = MixSteps(engine, settings, vocabulary, cells, groups).list_documents()
    return Listed(tuple(files), tuple(counts))


def plan_phases(
    engine: Engine,
    settings: MixSettings,
    vocabulary: Vocabulary,
    cells: tuple[Cell, ...],
    groups: tuple[TokenGroup, ...],
) -> tuple[MixSettings, MixPlan]:
    """(the settings with a pool for each that a group has, what every phase takes of which pool); nothing is packed.

    Raises:
        BudgetShort: some pool cannot give what its phase wants.
        ValueError: a pool that must be there is empty.
    """
    steps = MixSteps(engine, settings, vocabulary, cells, groups)
    _, documents, counts = steps.list_documents()
    expanded = settings.expanded(cells, [count.tokens for count in counts])
    return expanded, Planner(engine, expanded, cells, documents).plan()


def pack_phases(
    engine: Engine,
    settings: MixSettings,
    vocabulary: Vocabulary,
    cells: tuple[Cell, ...],
    groups: tuple[TokenGroup, ...],
) -> tuple[PoolNeed, ...]:
    """Plan, pack and write phases alone, without a held-out set and an index; what every pool gives. A phase's tokens are the most
    that it takes: one with a single pool is content with less.

    Raises:
        BudgetShort: of several pools of a phase, one cannot give its part; nothing was written.
        ValueError: a set would be empty.
    """
    steps = MixSteps(engine, settings, vocabulary, cells, groups)
    training, documents, _ = steps.list_documents()
    plan = Planner(engine, settings, cells, documents, at_most=True).plan()
    steps.write(steps.pack(training, documents, plan))
    return plan.needs
