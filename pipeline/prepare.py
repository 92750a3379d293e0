"""Prepare: what has to exist before the first read. Here, the tokenizer: loaded, or trained on a bounded sample.

The sample is seeded and bounded: per corpus an equal share of `tokenizer.sample_bytes`, from at most `FILES` files
chosen by hash, in file and row order. Training is one task, so its result depends on nothing but data and settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import xxhash

from ..tokenize.encode import Encoder
from ..tokenize.model import TokenizerSettings, train
from .artifacts import RunPaths, publish
from .engine import TaskResult
from .filter import Exclusion
from .identity import SourceFile, file_hash
from .sources.formats import open_source
from .sources.quarantine import Quarantine
from .sources.rows import read_rows

VERSION = 1
FILES = 64
MEASURED_BYTES = 1 << 20
DOCUMENT_CHARS = 100_000
"""A longer document gives its beginning: one book must not be a corpus's whole share."""


def prepare_tokenizer(
    files: Sequence[SourceFile],
    excluded: Sequence[Exclusion],
    settings: TokenizerSettings,
    seed: int,
    paths: RunPaths,
) -> TaskResult:
    """Put the run's tokenizer into ``prepare/``: a copy of the one the recipe names, or a new one."""
    if settings.model:
        try:
            with open_source(settings.model) as file:
                model = file.read()
        except OSError as error:
            raise ValueError(f"cannot read the tokenizer model {settings.model}: {error}") from None
    else:
        model = train(sample_text(files, excluded, settings.sample_bytes, seed), settings)
    with publish(paths.tokenizer) as out:
        out.write(model)
    encoder = Encoder(paths.tokenizer, settings.reserved)
    special = encoder.specials
    # A small sample is enough to tell, before all text is encoded, whether the budgets can be met.
    texts = list(sample_text(files, excluded, MEASURED_BYTES, seed + 1))
    return TaskResult(
        (out.artifact,),
        {
            "tokenizers_trained": int(not settings.model),
            "measured_tokens": int(encoder.encode(texts).offsets[-1]) if texts else 0,
            "measured_bytes": sum(len(t.encode()) for t in texts),
        },
        {"vocab_size": encoder.vocab_size, "pad": special.pad, "eos": special.eos, "bos": special.bos},
    )


def sample_text(
    files: Sequence[SourceFile], excluded: Sequence[Exclusion], sample_bytes: int, seed: int
) -> Iterator[str]:
    """Documents of the sample. Held-out files and subsets the licence policy excludes are never in it."""
    barred = {(e.corpus, e.subset) for e in excluded}
    corpora = sorted({f.corpus for f in files if not f.held_out})
    for corpus in corpora:
        mine = [f for f in files if f.corpus == corpus and not f.held_out]
        mine = sorted(mine, key=lambda f: file_hash(f.corpus, f.path, seed + 2))[:FILES]
        budget = sample_bytes // len(corpora)
        for left, file in zip(range(len(mine), 0, -1), mine, strict=True):
            used = 0
            for text in _rows_of(file, barred, seed):
                yield text
                used += len(text)
                if used >= budget // left:
                    break
            budget -= used


def _rows_of(file: SourceFile, barred: set[tuple[str, str]], seed: int) -> Iterator[str]:
    """Every other row of a file, chosen by hash: neighbours in these corpora are often alike."""
    for batch in read_rows(file, Quarantine(file)):
        for row, text, subset in zip(*(batch.column(c).to_pylist() for c in ("row", "text", "subset")), strict=True):
            if (file.corpus, subset) not in barred and xxhash.xxh3_64_intdigest(row.to_bytes(8, "little"), seed) & 1:
                yield text[:DOCUMENT_CHARS]
