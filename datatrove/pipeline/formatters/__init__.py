"""datatrove's formatters by their names."""

from .pii import PIIFormatter

__all__ = ["PIIFormatter"]
