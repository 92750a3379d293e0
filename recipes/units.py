"""Human units in recipes and on the command line: `1.05T` tokens, `2Mi` tokens a batch, `0.5%`."""

from __future__ import annotations

from typing import Annotated, Any

from ..storage.fields import PERCENTAGE, Written, quantity, share

__all__ = ["RowsOrShare", "quantity", "rows_or_share", "share"]


def rows_or_share(value: Any) -> float:
    """A number of rows, or a share such as `0.1%`."""
    if isinstance(value, str) and "%" in value:
        # A share stays below 1, which is a number of rows.
        return min(share(value), 0.999999999)
    if (isinstance(value, float) and value < 1) or (isinstance(value, str) and value.strip().startswith((".", "0."))):
        return share(value)
    return float(quantity(value))


RowsOrShare = Annotated[float, Written(rows_or_share, (PERCENTAGE, {"type": "string"}))]
