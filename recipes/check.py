"""`fox1 recipe check`: do the sources exist, and could their bytes ever meet the budgets? No text is read."""

from __future__ import annotations

from pathlib import Path

from ..pipeline.mix.budget import Cell, MixSettings, Weight, quotas
from ..pipeline.mix.feasibility import BudgetShort, PoolNeed
from ..pipeline.signals.plugins import load_plugins
from ..pipeline.sources.domains import SUBSET_DOMAINS
from ..pipeline.sources.listing import list_sources
from .schema import Recipe
from .settings import curate_settings

EXPANSION = {".gz": 6.0, ".zst": 8.0, ".parquet": 8.0}
"""Text bytes per stored byte, at most: plain files 1."""
LEAST_BYTES_PER_TOKEN = 1.0
"""No tokenizer makes more tokens than bytes; so a budget above the bytes is hopeless."""


def check_recipe(recipe: Recipe, private_hosts: bool = False) -> list[str]:
    """Lines that say what the recipe would read and train on.

    Args:
        private_hosts: lists and redirects may lead to addresses that are not public.

    Raises:
        ValueError: a source is missing, the budgets exceed what the sources can ever give, or a plug-in does not load.
    """
    settings = curate_settings(recipe)
    lines = [f"{recipe.name}: valid"]
    files = list_sources(settings.sources, settings.id_salt, private_hosts, lambda text: lines.append(f"  {text}"))
    most: dict[str, float] = {}
    for corpus in sorted({f.corpus for f in files}):
        training = [f for f in files if f.corpus == corpus and not f.held_out]
        held = sum(1 for f in files if f.corpus == corpus and f.held_out)
        size = sum(f.size for f in training)
        # Where a store lists no sizes, no budget can be refused.
        known = all(f.size for f in training)
        most[corpus] = (
            sum(f.size * EXPANSION.get(Path(f.path).suffix, 1.0) for f in training) if known else float("inf")
        )
        lines.append(
            f"  {corpus}: {len(training)} files, {size / 1e6:,.1f} MB" + (f", {held} held out" if held else "")
        )
    lines += [f"  {line}" for line in undrawn_sources(recipe, settings.mix)]
    needs = []
    for phase in settings.mix.phases:
        lines.append(f"  {phase.name}: {phase.tokens:,} tokens, blocks of {', '.join(map(str, phase.block_lengths))}")
        pools = phase.pools
        held_by = [_corpora(recipe, pool) for pool in pools]
        for pool, corpora in zip(pools, held_by, strict=True):
            if pool.if_present and not corpora:
                lines.append(f"    {pool.name}: in no source; its share goes to the other pools")
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
        lines.append("  budgets: the sources are large enough; `fox1 plan` estimates how much survives")
    for plugin in load_plugins(settings.scan.plugins):
        lines.append(f"  plug-in {plugin.settings.name}: {plugin.settings.target}, loaded")
    return lines


def _corpora(recipe: Recipe, pool: Weight) -> list[str]:
    """Sources that could hold documents of a pool, by the table of subsets and the licence policy."""
    barred = {(e.corpus, e.subset) for e in recipe.licence.exclude}
    found = []
    for name, source in recipe.sources.items():
        known = SUBSET_DOMAINS.get(source.format)
        # What a format without a table holds is known once it is read.
        subsets = [pool.subset] if known is None else [s for s in known if (name, s) not in barred]
        cells = [Cell(name, s, pool.domain if known is None else known[s]) for s in subsets]
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
