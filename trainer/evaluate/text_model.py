"""A model with its tokenizer: text in, text out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from ...tokenize.encode import Encoder
from ...tokenize.model import load
from ..checkpoints.export import DTYPES, FACTS, TOKENIZER, load_checkpoint, newest, read_exported
from ..checkpoints.exported_tokenizer import end_ids
from ..checkpoints.tokenizer_facts import TokenizerFacts
from ..model.model import Fox1
from .generate import Sampling, generate


@dataclass(frozen=True)
class TextModel:
    """A model, its tokenizer, and the ids that its texts begin and end with."""

    model: Fox1
    encoder: Encoder
    ids: TokenizerFacts
    ends: frozenset[int]
    """Ids that end what the model writes: eos, and what ends a turn of its chat template."""

    def complete(self, text: str, max_tokens: int, sampling: Sampling) -> Iterator[str]:
        """The continuation of a text, token by token; a character is held back until all its bytes are there."""
        import pyarrow as pa

        prompt = [*self.ids.opening, *self.encoder.encode(pa.array([text], pa.large_string())).ids.tolist()]
        prompt = prompt or [self.ids.prefix]
        held = b""
        for token in generate(self.model, prompt, max_tokens, self.ends, sampling):
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
    """Open a checkpoint, the newest one in a folder, or an exported model; on the GPU if there is one.

    Args:
        dtype: a name in `DTYPES`; empty: bf16 on a GPU, else fp32.

    Raises:
        ValueError: the folder holds none of these, or has no tokenizer.
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
            raise ValueError(
                f"{root} has no {FACTS}, which holds the special ids; `fox1 train RUN --out {root}` writes it"
            )
        ids = found
    if not tokenizer.exists():
        raise ValueError(f"no tokenizer at {tokenizer}; copy the run's prepare/{TOKENIZER} there")
    encoder = Encoder(tokenizer, fast=False)
    if encoder.vocab_size > model.vocab_size:
        raise ValueError(
            f"{tokenizer} has {encoder.vocab_size:,} pieces, and the model {model.vocab_size:,}; put the model's own there"
        )
    return TextModel(model.to(device, wanted), encoder, ids, frozenset(end_ids(load(tokenizer), ids)))
