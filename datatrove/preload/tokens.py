"""The executor and readers, and the tokenizing step."""

import datatrove.executor
import datatrove.pipeline.readers  # noqa: F401

from ..pipeline import tokens as tokens
