"""`fox1 recipe check`: sources that exist, and the first, hopeful, feasibility check, before any text is read."""

from __future__ import annotations

from ..pipeline.sources.domains import SUBSET_DOMAINS
from ..pipeline.sources.listing import list_sources
from .schema import Recipe
from .settings import sources_of

EXPANSION = {".gz": 6.0, ".zst": 8.0, ".parquet": 8.0}
"""Text bytes per stored byte, at most: plain files 1."""
LEAST_BYTES_PER_TOKEN = 1.0
"""No tokenizer makes more tokens than bytes; so a budget above the bytes is hopeless."""


def check_recipe(recipe: Recipe) -> list[str]:
    """Lines that say what the recipe would read and train on.

    Raises:
        ValueError: a source is missing, or the budgets exceed what the sources can ever give.
    """
    files = list_sources(sources_of(recipe), recipe.id_salt)
    lines = [f"{recipe.name}: valid"]
    could = 0.0
    unknown = False
    for corpus in sorted({f.corpus for f in files}):
        mine = [f for f in files if f.corpus == corpus and not f.held_out]
        held = sum(1 for f in files if f.corpus == corpus and f.held_out)
        size = sum(f.size for f in mine)
        unknown |= any(f.size == 0 for f in mine)
        could += sum(f.size * next((e for s, e in EXPANSION.items() if f.path.endswith(s)), 1.0) for f in mine)
        lines.append(f"  {corpus}: {len(mine)} files, {size / 1e6:,.1f} MB" + (f", {held} held out" if held else ""))
    wanted = 0
    for name, phase in recipe.phases.items():
        tokens = recipe.phase_tokens(name)
        # A pool that may be repeated needs less text; the least any pool of the phase could need.
        wanted += int(tokens / max(w.max_epochs for w in phase.weights))
        lines.append(f"  {name}: {tokens:,} tokens, blocks of {', '.join(str(r.length) for r in phase.blocks)}")
        for weight in phase.weights:
            if weight.if_present and not _present(recipe, weight.domain, weight.corpus, weight.subset):
                lines.append(
                    f"    {weight.domain or weight.corpus}: no source has it; its share goes to the other pools"
                )
    if not unknown and wanted * LEAST_BYTES_PER_TOKEN > could:
        raise ValueError(
            f"budget short by far: the phases want at least {wanted:,} distinct tokens, the sources hold at most "
            f"{could:,.0f} bytes of text; lower `scale` or add sources"
        )
    return lines


def _present(recipe: Recipe, domain: str, corpus: str, subset: str) -> bool:
    """Whether some source could hold documents of a pool, by the table of subsets and the licence policy."""
    barred = {(e.corpus, e.subset) for e in recipe.licence.exclude}
    for name, source in recipe.sources.items():
        if source.format in ("huggingface", "datatrove") and corpus in ("", name):
            return True
        for known, its_domain in SUBSET_DOMAINS.get(source.format, {}).items():
            matches = domain in ("", its_domain) and corpus in ("", name) and subset in ("", known)
            if matches and (name, known) not in barred:
                return True
    return False


def absent_pools(recipe: Recipe) -> list[str]:
    """Weights that must be there and that no source can fill, as one-line problems."""
    problems = []
    for name, phase in recipe.phases.items():
        for i, weight in enumerate(phase.weights):
            if not weight.if_present and not _present(recipe, weight.domain, weight.corpus, weight.subset):
                pool = "/".join(p for p in (weight.domain, weight.corpus, weight.subset) if p) or "everything"
                problems.append(
                    f"phases.{name}.weights.{i}: no source has the pool {pool}; correct it or mark it `if_present: true`"
                )
    return problems
