"""Documents that are set apart to measure on: of every domain, so many documents and tokens of those that survive.

A survivor stands for its whole cluster: copies of it were dropped for it, so none of them is trained on either. Documents that hold
a benchmark's item were dropped before, if the recipe drops them.
"""

from __future__ import annotations

LARGEST_SHARE = 10
"""A tenth of a domain's tokens at most is set apart."""


def tokens_set_apart(documents: int, tokens: int, there: int, tokens_there: int) -> int:
    """Tokens of a domain that are set apart.

    Args:
        documents: wanted, of mean length.
        tokens: wanted, if that is more.
        there: documents of the domain.
        tokens_there: their tokens.
    """
    mean = -(-tokens_there // max(1, there))
    return max(2, min(max(tokens, documents * mean), tokens_there // LARGEST_SHARE))
