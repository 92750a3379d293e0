"""Which threshold counts where: sections of a recipe's filters, and what a narrower one overrides of a wider one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ..pipeline.filter.judge import ALL
from ..pipeline.sources.domains import domain_of
from .schema import Recipe
from .sections import Place

NAMED = 3
"""Thresholds of a language that are named where it overrides more of them."""


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


def _domain(recipe: Recipe, place: Place) -> str:
    """The domain of the documents of a place; `all` where it is of any."""
    corpus, slash, subset = place.where.partition("/")
    source = recipe.sources.get(corpus)
    return domain_of(source.format, subset, source.domain) if slash and source else place.where


def _places(recipe: Recipe) -> dict[str, Place]:
    """All sections, and after each domain's those of its documents in languages that have a section of their own."""
    named = {section: recipe.place(section) for section in recipe.filters}
    languages = [section for section, place in named.items() if place == Place(ALL, section)]
    found = {ALL: Place(ALL)}
    for section, place in named.items():
        found[section] = place
        if place == Place(section) and section != ALL and "/" not in section:
            found |= {f"{section}/{language}": Place(section, language) for language in languages}
    return found


def counting(recipe: Recipe, section: str, place: Place | None = None) -> list[Counting]:
    """The thresholds that count for the documents of a section, in the order in which the recipe names them.

    Args:
        place: its documents, if that is known.
    """
    place = place or recipe.place(section)
    domain, language = _domain(recipe, place), place.language
    wider = [ALL, domain, *([language, f"{domain}/{language}"] if language else []), section]
    named: dict[str, list[tuple[str, Any]]] = {}
    for one in dict.fromkeys(s for s in wider if s in recipe.filters):
        for key, value in recipe.filters[one].items():
            named.setdefault(key, []).insert(0, (one, value))
    return [Counting(key, by[0][1], by[0][0], tuple(by[1:])) for key, by in named.items()]


def overriding(recipe: Recipe) -> Iterator[str]:
    """A line for every threshold of a section that overrides a wider section's; one for all those of a language that do."""
    told: dict[tuple[str, str], list[str]] = {}
    for where, place in _places(recipe).items():
        language = place.language
        for threshold in counting(recipe, where, place):
            # Of a domain's documents in a language, the language's section overrides the domain's.
            if threshold.section not in (where, language) or not threshold.overridden:
                continue
            wider, value = threshold.overridden[0]
            if language:
                keys = told.setdefault((threshold.section, wider), [])
                keys += [threshold.key] if threshold.key not in keys else []
                continue
            own = "null, which lifts" if threshold.value is None else f"{_written(threshold.value)} overrides"
            yield f"filters.{where}.{threshold.key}: {own} {_written(value)} of `{wider}`"
    for (section, wider), keys in told.items():
        more = f" and {len(keys) - NAMED} more" if len(keys) > NAMED else ""
        verb = "overrides" if len(keys) == 1 else "override"
        yield f"filters.{section}: {', '.join(keys[:NAMED])}{more} {verb} `{wider}`; `fox1 recipe show` has the values"


def listing(recipe: Recipe) -> Iterator[str]:
    """Every threshold with the section it comes from, by section."""
    places = _places(recipe)
    for where, place in places.items():
        yield "all other documents" if where == ALL else where
        found = counting(recipe, where, place)
        width = max((len(t.key) for t in found), default=0)
        yield from (f"  {t.key:<{width}}  {t}" for t in found)
        if not found:
            yield "  no threshold"
        if "/" in place.where:
            around = (ALL, _domain(recipe, place))
            closer = [s for s in recipe.filters if places[s].language and places[s].where in around]
            if closer:
                yield f"  (for documents in their languages, {', '.join(closer)} set what {where} itself does not)"
