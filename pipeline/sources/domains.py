"""Domains: the one table that says which a corpus's subset belongs to, and names that a recipe gives its own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Annotated, Any

DOMAINS = (
    "web",
    "code",
    "math",
    "science",
    "books",
    "encyclopedia",
    "q&a",
    "legal",
    "dialogue",
    "instruction",
    "other",
)
_OWN = r"[A-Za-z][A-Za-z0-9_-]{0,63}"


def is_domain(name: str) -> bool:
    """Whether a text is a domain of the table, or can name one of a recipe's own."""
    return name in DOMAINS or (bool(re.fullmatch(_OWN, name)) and name != "all")


@dataclass(frozen=True)
class OneDomain:
    """The name of a domain in a recipe, whose schema suggests those of the table; the recipe checks that a source has it.

    Args:
        optional: it may be empty.
    """

    optional: bool = False

    def __get_pydantic_json_schema__(self, schema: Any, handler: Any) -> Any:
        known = {"type": "string", "enum": ["", *DOMAINS] if self.optional else list(DOMAINS)}
        return {"anyOf": [known, {"type": "string", "pattern": f"^{_OWN}$"}]}


Domain = Annotated[str, OneDomain()]

CHAT = "chat"
"""The source format of conversations."""

SUBSET_DOMAINS: dict[str, dict[str, str]] = {
    "redpajama": {
        "arxiv": "science",
        "book": "books",
        "c4": "web",
        "common_crawl": "web",
        "github": "code",
        "stackexchange": "q&a",
        "wikipedia": "encyclopedia",
    },
    "slimpajama": {
        "RedPajamaArXiv": "science",
        "RedPajamaBook": "books",
        "RedPajamaC4": "web",
        "RedPajamaCommonCrawl": "web",
        "RedPajamaGithub": "code",
        "RedPajamaStackExchange": "q&a",
        "RedPajamaWikipedia": "encyclopedia",
    },
    "dolma": {
        "algebraic-stack": "math",
        "arxiv": "science",
        "books": "books",
        "c4": "web",
        "cc_en_head": "web",
        "cc_en_middle": "web",
        "cc_en_tail": "web",
        "cc_news": "web",
        "falcon-refinedweb": "web",
        "megawika": "encyclopedia",
        "open-web-math": "math",
        "pes2o": "science",
        "reddit": "dialogue",
        "stack-code": "code",
        "stackexchange": "q&a",
        "starcoder": "code",
        "tulu_flan": "instruction",
        "wiki": "encyclopedia",
    },
    "pile": {
        "ArXiv": "science",
        "BookCorpus2": "books",
        "Books3": "books",
        "DM Mathematics": "math",
        "Enron Emails": "dialogue",
        "EuroParl": "legal",
        "FreeLaw": "legal",
        "Github": "code",
        "Gutenberg (PG-19)": "books",
        "HackerNews": "dialogue",
        "NIH ExPorter": "science",
        "OpenSubtitles": "dialogue",
        "OpenWebText2": "web",
        "PhilPapers": "science",
        "Pile-CC": "web",
        "PubMed Abstracts": "science",
        "PubMed Central": "science",
        "StackExchange": "q&a",
        "USPTO Backgrounds": "legal",
        "Ubuntu IRC": "dialogue",
        "Wikipedia (en)": "encyclopedia",
        "YoutubeSubtitles": "dialogue",
    },
    "refinedweb": {"train": "web"},
}
"""Source format -> subset as written in its rows -> domain."""


def domain_of(format: str, subset: str, given: str = "") -> str:
    """The domain of a subset; one that the table lacks is "other", or "instruction" if it holds conversations.

    Args:
        given: what its source says of all its documents.
    """
    return given or SUBSET_DOMAINS.get(format, {}).get(subset, "instruction" if format == CHAT else "other")
