"""datatrove's tokenizing step by its name."""

from .tokenizer import DocumentTokenizer

__all__ = ["DocumentTokenizer"]
