"""Sections of filters: which documents the name of one stands for, and which sections are wider.

From wide to narrow, and where several set the same threshold the narrowest counts:

    all                 every document
    web                 those of a domain
    de                  those in a language
    web/de              those of a domain in a language
    pile/FreeLaw        those of a subset, in any language

A language is narrower than a domain: its thresholds are what a rule has to be for its words, and a rule of the domain for
any language gives way to it. Of a subset the recipe has said what it is.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

from ..pipeline.filter.judge import ALL
from .languages import known_languages, meant


class Place(NamedTuple):
    """The documents of a section."""

    where: str
    """`all`, a domain, or corpus/subset."""
    language: str = ""
    """Only those in this language; empty: in any."""


def place_of(section: str, corpora: Collection[str], domains: Collection[str]) -> Place:
    """What the name of a section stands for.

    Raises:
        ValueError: it stands for nothing, or for two things.
    """
    first, slash, rest = section.partition("/")
    if section == ALL:
        return Place(ALL)
    of_domain = first in domains and rest in known_languages() if slash else False
    if of_domain and first in corpora:
        raise ValueError(
            f"filters has the section {section!r}, and {first!r} is both a source and a domain: rename the source"
        )
    if of_domain:
        return Place(first, rest)
    if slash and first in domains and first not in corpora:
        raise ValueError(f"filters has the section {section!r}: no language {rest!r}{meant(rest)}")
    if slash:
        return Place(section)
    if section in domains and section in known_languages():
        raise ValueError(f"filters has the section {section!r}, which is a domain and a language: rename the domain")
    if section in domains:
        return Place(section)
    if section in known_languages():
        return Place(ALL, section)
    raise ValueError(
        f"filters has the section {section!r}; choose {ALL}, a domain ({', '.join(domains)}), a language such as de, "
        f"domain/language or corpus/subset{meant(section, similar=False)}"
    )
