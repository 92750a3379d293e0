"""`fox1 recipe check`: does all that a recipe names open, and could the bytes of its sources ever meet the budgets?"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..pipeline.curate import CurateSettings
from ..pipeline.mix.budget import Cell, MixSettings, Weight, quotas
from ..pipeline.mix.feasibility import BudgetShort, PoolNeed
from ..pipeline.run.identity import SourceFile, check_collisions
from ..pipeline.sources.domains import SUBSET_DOMAINS
from ..trainer.schedule import PhaseSpan, schedule_over
from .opening import Opening, Say
from .schema import Recipe
from .settings import curate_settings, train_settings
from .thresholds import overriding

EXPANSION = {".gz": 6.0, ".zst": 8.0, ".bz2": 8.0, ".parquet": 8.0, ".feather": 8.0}
"""Text bytes per stored byte, at most: plain files 1."""
LEAST_FOUND = 0.75
"""Share of pairs below which the bands of signatures are too few for a threshold."""
LEAST_BYTES_PER_TOKEN = 1.0
"""No tokenizer makes more tokens than bytes; so a budget above the bytes is hopeless."""


def check_recipe(recipe: Recipe, say: Say, complain: Say, offline: bool = False, private_hosts: bool = False) -> bool:
    """Say what a recipe would read and train on, and what was not checked.

    Args:
        say: is told what was found, line by line.
        complain: is told what is wrong, in one line each.
        offline: leave out what lies on the network.
        private_hosts: lists and redirects may lead to addresses that are not public.

    Returns:
        Whether nothing is wrong.

    Raises:
        BudgetShort: the budgets exceed what the sources can ever give.
    """
    settings = curate_settings(recipe).reaching(private_hosts)
    say(f"{recipe.name}: keys and references are valid")
    opening = Opening(say, complain, offline)
    listed = [(source, opening.source(source, settings)) for source in settings.sources]
    try:
        check_collisions(file for _, files in listed for file in files or ())
    except ValueError as error:
        opening.complain(str(error))
    opening.others(settings)
    # What no look has told holds, for all that is known, whatever is wanted.
    most = {source.corpus: _most_bytes(files) for source, files in listed if not source.held_out}
    for line in (*overriding(recipe), *undrawn_sources(recipe, settings.mix)):
        say(f"  {line}")
    for line in _compared_pairs(settings):
        say(f"  {line}")
    _check_budgets(recipe, settings.mix, most, say)
    for line in (*schedule_lines(recipe), memory_line(recipe)):
        say(f"  {line}")
    say("  not checked:")
    for line in _not_checked(settings, opening.left_out):
        say(f"    {line}")
    return opening.sound


def _compared_pairs(settings: CurateSettings) -> Iterator[str]:
    """For each threshold of near-dedupe, how many of the pairs that just reach it the bands of signatures bring together."""
    shape, dedupe = settings.scan.minhash, settings.dedupe
    thresholds = {dedupe.jaccard: "documents (dedupe.jaccard)"}
    if any(source.held_out for source in settings.sources) and dedupe.of_held_out < dedupe.jaccard:
        thresholds[dedupe.of_held_out] = "a training and a held-out document (dedupe.held_out_jaccard)"
    for similarity, of in thresholds.items():
        found = shape.found(similarity)
        few = found < LEAST_FOUND
        yield (
            f"near-dedupe: {100 * found:.0f} % of pairs of {of} with a similarity of {similarity:g} share one of "
            f"{shape.bands} bands of {shape.rows} rows, and are compared"
            + ("; for more, give signals.minhash fewer rows or more bands" if few else "")
        )


def _most_bytes(files: Sequence[SourceFile] | None) -> float:
    """The most bytes of text that files can hold; infinite where their sizes are not known."""
    if not files or not all(f.size for f in files):
        return float("inf")
    return sum(f.size * EXPANSION.get(Path(f.path).suffix, 1.0) for f in files)


def _check_budgets(recipe: Recipe, mix: MixSettings, most: Mapping[str, float], say: Say) -> None:
    """Raise BudgetShort if the bytes of the sources (by corpus) can never meet the budgets."""
    needs = []
    for phase in mix.phases:
        say(f"  {phase.name}: {phase.tokens:,} tokens, blocks of {', '.join(map(str, phase.block_lengths))}")
        pools = phase.pools
        held_by = [_corpora(recipe, pool) for pool in pools]
        for pool, corpora in zip(pools, held_by, strict=True):
            if pool.if_present and not corpora:
                say(f"    {pool.name}: in no source; its share goes to the other pools")
        if not any(held_by):
            continue
        # No pool can give more tokens than the sources that may hold it have bytes; an estimate far above the truth.
        available = [int(min(sum(most[c] for c in corpora), 1 << 62) / LEAST_BYTES_PER_TOKEN) for corpora in held_by]
        wanted = quotas(phase, available)[0]
        needs += [
            PoolNeed(phase.name, p.name, w, a, p.max_epochs) for p, w, a in zip(pools, wanted, available, strict=True)
        ]
    if any(n.short for n in needs):
        raise BudgetShort(needs, "even if every byte of the sources were a token")
    if needs:
        say("  budgets: the sources are large enough; `fox1 plan` estimates how much survives")


def schedule_lines(recipe: Recipe) -> Iterator[str]:
    """Where the learning rate rises and falls, if every phase gets the tokens of its budget."""
    training = train_settings(recipe)
    spans = [PhaseSpan(p.name, p.tokens // p.batch_tokens * p.batch_tokens, p.batch_tokens) for p in training.phases]
    schedule = schedule_over(spans, training.schedule)
    yield f"learning rate {training.optimizer.learning_rate:.2e}: {schedule.describe()}"
    if schedule.warmup + schedule.decay > schedule.total:
        yield "  warm-up and decay overlap, so the rate never reaches its peak; shorten one of them"


def memory_line(recipe: Recipe) -> str:
    """What a step of the training takes of a GPU, and what it has to compute again on smaller ones."""
    # It imports torch, which a command that only reads a recipe would wait for.
    from ..trainer.memory import CARDS, choose, memory_need

    training, vocabulary = train_settings(recipe), recipe.tokenizer.vocab_size
    one, eight = (memory_need(training, vocabulary, world, "none").total / 1e9 for world in (1, 8))
    chosen = ", ".join(f"{choose(training, vocabulary, 1, memory)} on {name}" for name, memory in CARDS.items())
    return (
        f"memory of a GPU: about {one:.1f} GB, of each of eight {eight:.1f}; activation checkpointing that fits one: {chosen} "
        "(`fox1 train RUN --plan` has a table)"
    )


def _not_checked(settings: CurateSettings, left_out: Sequence[str]) -> Iterator[str]:
    for what in left_out:
        yield f"{what}: on the network, and --offline was given"
    yield "rows after the first ones, and files that were not opened"
    yield "whether enough text survives for the budgets: `fox1 plan`, and `fox1 curate` before it writes a block"
    if not settings.tokenizer.model:
        yield f"whether the text gives a tokenizer of {settings.tokenizer.vocab_size:,} pieces: `fox1 curate --stages prepare`"


def _corpora(recipe: Recipe, pool: Weight) -> list[str]:
    """Sources that could hold documents of a pool, by the table of subsets and the licence policy."""
    barred = {(e.corpus, e.subset) for e in recipe.licence.exclude}
    found = []
    for name, source in recipe.sources.items():
        known = SUBSET_DOMAINS.get(source.format)
        # What a format without a table holds is known once it is read.
        subsets = [pool.subset] if known is None else [s for s in known if (name, s) not in barred]
        cells = [Cell(name, s, source.domain or (pool.domain if known is None else known[s])) for s in subsets]
        if any(pool.matches(cell) for cell in cells):
            found.append(name)
    return found


def undrawn_sources(recipe: Recipe, mix: MixSettings) -> list[str]:
    """A line for each source that no phase can take a document of."""
    pools = [pool for phase in mix.phases for pool in phase.pools]
    drawn = {name for pool in pools for name in _corpora(recipe, pool)}
    return [
        f"no phase draws on {name}: give a phase a weight such as {{corpus: {name}, weight: 1}}"
        for name in recipe.sources
        if name not in drawn
    ]


def absent_pools(recipe: Recipe) -> list[str]:
    """Pools that must be there and that no source can fill, as one-line problems."""
    return [
        f"phases.{phase.name}.weights: no source has the pool {pool.name}; correct it or mark it `if_present: true`"
        for phase in curate_settings(recipe).mix.phases
        for pool in phase.pools
        if not pool.if_present and not _corpora(recipe, pool)
    ]
