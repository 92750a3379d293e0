"""The run's tokenizer: a copy of the one the recipe names, or one trained on a sample.

Training is one task over a seeded, bounded sample, so its result depends on nothing but data and settings.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from ...tokenize.encode import encoder_of
from ...tokenize.model import TokenizerSettings, check_specials, load, read_model, train
from ..engine.tasks import TaskResult
from ..filter.judge import Exclusion
from ..run.artifacts import RunPaths, publish
from ..run.identity import SourceFile
from .text_sample import sample_text

MEASURED_BYTES = 1 << 20
PIECE_BYTES = "piece_bytes.npy"
"""uint16 [vocabulary]: UTF-8 bytes that each piece stands for."""


def prepare_tokenizer(
    files: Sequence[SourceFile],
    excluded: Sequence[Exclusion],
    settings: TokenizerSettings,
    seed: int,
    paths: RunPaths,
) -> TaskResult:
    """Put the run's tokenizer into ``prepare/``."""
    if settings.model:
        model = read_model(settings.model)
    else:
        model = train(sample_text(files, excluded, settings.sample_bytes, seed), settings)
    with publish(paths.tokenizer) as out:
        out.write(model)
    check_specials(load(paths.tokenizer), settings.specials)
    encoder = encoder_of(paths.tokenizer, out.artifact.hash, settings.reserved)
    special = encoder.specials
    # So that a trainer can tell bits per byte without SentencePiece.
    with publish(paths.prepare(PIECE_BYTES), rows=encoder.vocab_size) as sizes:
        np.save(sizes, encoder.piece_bytes.astype(np.uint16))
    # A small sample is enough to tell, before all text is encoded, whether the budgets can be met.
    texts = list(sample_text(files, excluded, MEASURED_BYTES, seed + 1))
    return TaskResult(
        (out.artifact, sizes.artifact),
        {
            "tokenizers_trained": int(not settings.model),
            "measured_tokens": int(encoder.encode(pa.array(texts, pa.large_string())).offsets[-1]),
            "measured_bytes": sum(len(t.encode()) for t in texts),
        },
        {"vocab_size": encoder.vocab_size, "pad": special.pad, "eos": special.eos, "bos": special.bos},
    )
