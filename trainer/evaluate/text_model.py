"""A model with its tokenizer: text in, text out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ...tokenize.encode import Encoder
from ..checkpoints.export import DTYPES, TOKENIZER, TokenizerFacts, load_checkpoint, newest, read_exported
from ..model.model import Fox1
from .generate import Sampling, generate


@dataclass(frozen=True)
class TextModel:
    """A model, its tokenizer, and how texts begin and end for it."""

    model: Fox1
    encoder: Encoder
    ids: TokenizerFacts

    def complete(self, text: str, most: int, sampling: Sampling) -> Iterator[str]:
        """What follows a text, piece by piece; a character whose bytes are not all there yet waits for them."""
        import pyarrow as pa

        prompt = [*self.ids.opening, *self.encoder.encode(pa.array([text], pa.large_string())).ids.tolist()]
        prompt = prompt or [self.ids.prefix]
        held = b""
        for token in generate(self.model, prompt, most, self.ids.eos, sampling):
            held += self.encoder.decode([token])
            try:
                shown = held.decode()
            except UnicodeDecodeError as error:
                if error.end < len(held) or len(held) > 8:
                    shown = held.decode(errors="replace")
                else:
                    yield ""
                    continue
            held = b""
            yield shown


def open_model(folder: Path, dtype: str = "") -> TextModel:
    """A checkpoint, the newest of a training, or an exported folder; on the GPU where there is one.

    Args:
        dtype: of `DTYPES`; default: bf16 on a GPU, else fp32.

    Raises:
        ValueError: it is neither, or has no tokenizer.
    """
    if dtype and dtype not in DTYPES:
        raise ValueError(f"--dtype {dtype}: choose {' or '.join(DTYPES)}")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    wanted = DTYPES[dtype or ("bf16" if device == "cuda" else "fp32")]
    if (folder / "config.json").exists():
        model, ids = read_exported(folder, wanted)
        tokenizer = folder / TOKENIZER
    else:
        root = newest(folder).parent
        model, found = load_checkpoint(folder)
        tokenizer = root / TOKENIZER
        if found is None:
            raise ValueError(f"{root} does not tell its special ids; train again, or `fox1 export` it with --tokenizer")
        ids = found
    if not tokenizer.exists():
        raise ValueError(f"{folder} has no {TOKENIZER}; copy the run's prepare/tokenizer.model there")
    model = model.to(device, wanted)
    return TextModel(model, Encoder(tokenizer, fast=False), ids)
