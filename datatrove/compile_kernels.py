"""Compile the kernels of these steps into this machine's cache, so that no worker of an executor does: a minute, once.

python -m fox1.datatrove.compile_kernels
"""

from __future__ import annotations

from tempfile import TemporaryDirectory

from . import installed as installed


def main() -> None:
    """Compile, or load, all of them."""
    import numpy as np
    from datatrove.data import Document

    from .kernels.words_of_urls import UrlWords, hash_of, listed_hashes, url_words
    from .pipeline import filters
    from .pipeline.dedup import MinhashDedupDecide, MinhashDedupSignature
    from .pipeline.formatters import PIIFormatter
    from .utils.word_tokenizers import WhiteSpaceWords

    texts = ["Here is one line, with the words it has.\nAnd {k} more.\n" * 9, "é [1] jo@example.net", ""]
    for name in ("GopherRepetitionFilter", "GopherQualityFilter", "C4QualityFilter", "FineWebQualityFilter"):
        step = getattr(filters, name)(language=WhiteSpaceWords())
        list(step.run(Document(text, str(k)) for k, text in enumerate(texts)))
    list(filters.LanguageFilter().run(Document(text, str(k)) for k, text in enumerate(texts)))
    PIIFormatter().format_batch(texts)
    listed_hashes(np.frombuffer(b"a.org\n", np.uint8))
    hash_of("a.org")
    url_words(["http://a.org/b"], UrlWords.of(["b"], ["c"], ["d"]))
    with TemporaryDirectory() as folder:
        MinhashDedupSignature(folder).run(Document(text, str(k)) for k, text in enumerate([*texts, *texts]))
        MinhashDedupDecide(folder, folder).run()


if __name__ == "__main__":
    main()
