"""The executor and readers, and the tokenizing step with the encoder of a model."""

import os
from contextlib import suppress
from pathlib import Path

import datatrove.executor
import datatrove.pipeline.readers  # noqa: F401

from ...tokenize.encoder_cache import kept_encoder
from ...tokenize.spans import text_array
from ..pipeline import tokens as tokens
from . import ENCODER

# What fails here fails again, and is reported, where a worker needs it.
with suppress(Exception):
    if model := os.environ.get(ENCODER):
        encoder = kept_encoder(Path(model))
        # Another encoder might start threads, which forks would not have.
        if encoder.encodes_words:
            encoder.encode(text_array(["What does the fox say? été 北京"]))
