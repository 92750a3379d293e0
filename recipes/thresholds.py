"""Which threshold counts where: sections of a recipe's filters, and what a narrower one overrides of a wider one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..pipeline.filter.judge import ALL
from ..pipeline.sources.domains import domain_of
from .schema import Recipe


@dataclass(frozen=True)
class Counting:
    """A threshold that counts for some documents."""

    key: str
    value: Any
    """A bound, languages, or None: none counts, because a section lifts it."""
    section: str
    """The one that it is from, the narrowest that names it."""
    overridden: tuple[tuple[str, Any], ...]
    """(section, value) of the wider ones that name it, narrowest first."""

    def __str__(self) -> str:
        value = "none" if self.value is None else _written(self.value)
        wider = ", ".join(f"{_written(value)} of `{section}`" for section, value in self.overridden)
        return f"{value} (from `{self.section}`{f', instead of {wider}' if wider else ''})"


def _written(value: Any) -> str:
    return f"[{', '.join(value)}]" if isinstance(value, list | tuple) else "null" if value is None else str(value)


def sections_of(recipe: Recipe, where: str) -> list[str]:
    """The sections that hold for the documents of one, widest first, itself last."""
    corpus, slash, subset = where.partition("/")
    source = recipe.sources.get(corpus)
    wider = [ALL, *([domain_of(source.format, subset, source.domain)] if slash and source else [])]
    return [s for s in dict.fromkeys([*wider, where]) if s in recipe.filters]


def counting(recipe: Recipe, where: str) -> list[Counting]:
    """The thresholds that count for the documents of a section, in the order in which the recipe names them."""
    named: dict[str, list[tuple[str, Any]]] = {}
    for section in sections_of(recipe, where):
        for key, value in recipe.filters[section].items():
            named.setdefault(key, []).insert(0, (section, value))
    return [Counting(key, by[0][1], by[0][0], tuple(by[1:])) for key, by in named.items()]


def overriding(recipe: Recipe) -> Iterator[str]:
    """A line for every threshold of a section that overrides a wider section's."""
    for where in recipe.filters:
        for threshold in counting(recipe, where):
            if threshold.section == where and threshold.overridden:
                wider, value = threshold.overridden[0]
                own = "null, which lifts" if threshold.value is None else f"{_written(threshold.value)} overrides"
                yield f"filters.{where}.{threshold.key}: {own} {_written(value)} of `{wider}`"


def listing(recipe: Recipe) -> Iterator[str]:
    """Every threshold with the section it comes from, by section."""
    for where in dict.fromkeys([ALL, *recipe.filters]):
        yield "all other documents" if where == ALL else where
        found = counting(recipe, where)
        width = max((len(t.key) for t in found), default=0)
        yield from (f"  {t.key:<{width}}  {t}" for t in found)
        if not found:
            yield "  no threshold"
