"""The run's tokenizer: a copy of the one the recipe names, or one trained on a sample.

Training is one task over a seeded, bounded sample, so its result depends on nothing but data and settings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from ...tokenize.encode import encoder_of
from ...tokenize.model import TokenizerSettings, read_model, train
from ..run.artifacts import Artifact, publish
from ..run.identity import SourceFile
from ..run.paths import RunPaths
from ..sources.listing import NamedFile
from .text_sample import SubsetName, sample_text

MEASURED_BYTES = 1 << 20
PIECE_BYTES = "piece_bytes.npy"
"""uint16 [vocabulary]: UTF-8 bytes that each piece stands for."""
CONVERTED = "encoder.json"
"""The model in the form that gigatoken loads; see `Encoder.converted`."""


@dataclass(frozen=True)
class PreparedTokenizer:
    """The run's tokenizer, and what it makes of a sample of the text."""

    model: Artifact
    piece_bytes: Artifact
    """`PIECE_BYTES`."""
    converted: Artifact | None
    """`CONVERTED`; None where gigatoken does not encode the text."""
    tokenizers_trained: int
    measured_tokens: int
    measured_bytes: int
    """Of the text that makes `measured_tokens`."""
    vocab_size: int
    pad: int
    eos: int
    bos: int


def seeds_of(named: NamedFile | None, seed: int) -> list[int]:
    """Of the samples that a tokenizer is trained on, unless it is named, and measured on."""
    return [seed + 1] if named else [seed, seed + 1]


def prepare_tokenizer(
    files: Sequence[SourceFile],
    barred: Sequence[SubsetName],
    named: NamedFile | None,
    settings: TokenizerSettings,
    seed: int,
    paths: RunPaths,
) -> PreparedTokenizer:
    """Put the run's tokenizer into ``prepare/``.

    Args:
        files: of the training data, those that the samples of `seeds_of` read.
        barred: subsets that the licence policy excludes.
        named: the `.model` file of the recipe; None: train one.
    """
    if named:
        model = read_model(named.url)
    else:
        model = train(sample_text(files, barred, settings.sample_bytes, seeds_of(named, seed)[0]), settings)
    with publish(paths.tokenizer) as out:
        out.write(model)
    encoder = encoder_of(out.artifact.file, out.artifact.hash, settings.reserved)
    encoder.check_specials(settings.specials)
    converted = None
    if encoder.converted:
        with publish(paths.prepare(CONVERTED)) as form:
            form.write(encoder.converted)
        converted = form.artifact
    special = encoder.specials
    # With these the trainer computes bits per byte without SentencePiece.
    with publish(paths.prepare(PIECE_BYTES), rows=encoder.vocab_size) as sizes:
        np.save(sizes, encoder.piece_bytes.astype(np.uint16))
    # A small sample suffices to estimate, before all text is encoded, whether the budgets can be met.
    texts = list(sample_text(files, barred, MEASURED_BYTES, seeds_of(named, seed)[-1]))
    return PreparedTokenizer(
        model=out.artifact,
        piece_bytes=sizes.artifact,
        converted=converted,
        tokenizers_trained=int(named is None),
        measured_tokens=int(encoder.encode(pa.array(texts, pa.large_string())).offsets[-1]),
        measured_bytes=sum(len(t.encode()) for t in texts),
        vocab_size=encoder.vocab_size,
        pad=special.pad,
        eos=special.eos,
        bos=special.bos,
    )
