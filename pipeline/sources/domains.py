"""The one table that says which domain a corpus's subset belongs to."""

from __future__ import annotations

from typing import Annotated

from ...storage.fields import OneOf

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
Domain = Annotated[str, OneOf(DOMAINS)]

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


def domain_of(format: str, subset: str) -> str:
    """The domain of a subset; one that the table lacks is "other", or "instruction" if it holds conversations."""
    return SUBSET_DOMAINS.get(format, {}).get(subset, "instruction" if format == CHAT else "other")
