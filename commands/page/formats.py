"""Numbers as both pages write them; `static/dom.js` writes those that the browser computes in the same way."""

from __future__ import annotations

from datetime import UTC, datetime

UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K"))
BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "KB"))


def number(value: float) -> str:
    """All digits of an integer; of others as many as say something."""
    if value == int(value):
        return f"{int(value):,}"
    size = abs(value)
    return f"{value:,.0f}" if size >= 1000 else _trim(f"{value:.2f}" if size >= 1 else f"{value:.4f}")


def _trim(text: str) -> str:
    return text.rstrip("0").rstrip(".") if "." in text else text


def _three_digits(value: float) -> str:
    digits = 3 - len(str(int(abs(value))))
    return _trim(f"{value:.{max(digits, 0)}f}")


def short(value: float) -> str:
    """A number in three digits: 12.3K."""
    for size, unit in UNITS:
        if abs(value) >= size:
            return f"{_three_digits(value / size)}{unit}"
    return number(value)


def size(value: float) -> str:
    """A number of bytes in three digits."""
    for least, unit in BYTES:
        if value >= least:
            return f"{_three_digits(value / least)} {unit}"
    return f"{int(value)} bytes"


def percent(part: float, whole: float, digits: int = 1) -> str:
    """A share; a dash where there is nothing to have one of."""
    if not whole:
        return "–"
    share = 100 * part / whole
    least = 0.1 if digits < 2 else 0.01
    if 0 < abs(share) < least:
        return f"<{least} %"
    said = f"{abs(share):.{0 if share >= 99.95 else digits}f} %"
    return said if share >= 0 else f"−{said}"


def points(before: float, after: float) -> str:
    """The difference of two shares, in percentage points."""
    change = 100 * (after - before)
    return f"{'+' if change > 0.005 else '−' if change < -0.005 else '±'}{abs(change):.2f}"


def words(name: str) -> str:
    """`exact_duplicate` as people write it."""
    return name.replace("_", " ")


def moment(seconds: float) -> str:
    """A time in UTC, to the minute."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M UTC")


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, the two largest."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
