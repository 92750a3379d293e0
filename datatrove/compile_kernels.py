"""Compile the kernels of these steps into this machine's cache, so that no worker of an executor does: a minute, once.

python -m fox1.datatrove.compile_kernels
"""

from __future__ import annotations

from collections.abc import Iterator
from tempfile import TemporaryDirectory
from typing import Any

from . import installed as installed

TEXTS = ["Here is one line, with the words it has.\nAnd {k} more.\n" * 9, "é [1] jo@example.net", "e\u0301", ""]


def main() -> None:
    """Compile, or load, all of them."""
    quality_filters()
    with TemporaryDirectory() as folder:
        signatures(folder)
        _decide(folder)
    _others()


def _documents() -> Iterator[Any]:
    from datatrove.data import Document

    return (Document(text, str(k)) for k, text in enumerate(TEXTS))


def quality_filters() -> None:
    """The kernels of the four quality filters."""
    from .pipeline import filters
    from .utils.word_tokenizers import WhiteSpaceWords

    for name in ("GopherRepetitionFilter", "GopherQualityFilter", "C4QualityFilter", "FineWebQualityFilter"):
        list(getattr(filters, name)(language=WhiteSpaceWords()).run(_documents()))


def signatures(folder: str) -> None:
    """Write signatures of two tasks, with the kernels of that step."""
    from .pipeline.dedup import MinhashDedupSignature

    for rank in range(2):
        MinhashDedupSignature(folder).run(_documents(), rank, 2)


def _decide(folder: str) -> None:
    from .pipeline.dedup import MinhashDedupDecide

    MinhashDedupDecide(folder, folder).run()


def _others() -> None:
    import numpy as np

    from .kernels.words_of_urls import UrlWords, hash_of, listed_hashes, url_words
    from .pipeline.filters import LanguageFilter
    from .pipeline.formatters import PIIFormatter

    list(LanguageFilter().run(_documents()))
    PIIFormatter().format_batch(TEXTS)
    listed_hashes(np.frombuffer(b"a.org\n", np.uint8))
    hash_of("a.org")
    url_words(["http://a.org/b"], UrlWords.of(["b"], ["c"], ["d"]))


if __name__ == "__main__":
    main()
