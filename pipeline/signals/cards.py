"""Payment card numbers: the digits of the networks, in one run or as printed, and what may stand around them.

Kernels over bytes, as in matchers.py. A number is a card by its first digits and its length (ISO/IEC 7812), its check digit
(Luhn) and its groups; what follows it, a date, a security code, another card, says nothing against it. A column of numbers
of its length does, and a word before a single run that says what else is numbered.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np

from .leaf import leaf
from .matchers import GAP, digit, named_before

MAX_DIGITS = 19
NEIGHBOURS = 2
"""Numbers on each side of one that tell a column of numbers from a list of cards."""


@leaf
def match_card(
    text: np.ndarray,
    i: int,
    begin: int,
    end: int,
    free: int,
    alnum: np.ndarray,
    card_words: np.ndarray,
    other_words: np.ndarray,
) -> int:
    """End of the card number that begins at i, or -1.

    Args:
        free: byte after the span before; what ends there is no part of a row of numbers.
        card_words: words that name cards, as `is_named` takes them.
        other_words: words that name other long numbers.
    """
    if i > begin:
        before = text[i - 1]
        if alnum[before] or before == 46 or before == 95 or (before == 45 and not free == i - 1 > begin):
            return -1
    stop = _card_end(text, i, end)
    if stop < 0 or not _may_end(text, stop, end, alnum):
        return -1
    if _digits(text, i, end) != stop - i:
        return stop if not _in_row(text, i, stop, begin, end, free) else -1
    cards, others = _beside(text, i, stop, begin, end, alnum)
    if others >= 2 and others > 1 + cards:
        return -1
    # 2221 to 2720 are half as many numbers as Visa's, and the beginning of few cards: something else must speak for one.
    if cards or named_before(text, i, begin, alnum, card_words, 2):
        return stop
    if text[i] == 50 or named_before(text, i, begin, alnum, other_words, 2):
        return -1
    return stop


@leaf
def _digits(text: np.ndarray, at: int, end: int) -> int:
    """Digits that stand at a place; 20 for more than any card has."""
    stop = at
    while stop - at <= MAX_DIGITS and digit(text, stop, end):
        stop += 1
    return stop - at


@leaf
def _group(text: np.ndarray, at: int, gap: int, end: int) -> int:
    """Digits after the separator at a place; 0 if it is another."""
    return _digits(text, at + 1, end) if at < end and text[at] == gap else 0


@leaf
def _card_end(text: np.ndarray, i: int, end: int) -> int:
    """End of the card number in the digits or groups at i, whatever stands around it, or -1."""
    first = _digits(text, i, end)
    stop = i + first
    if 13 <= first <= MAX_DIGITS:
        return stop if _is_card(text, i, stop) else -1
    if (first != 4 and first != 6) or stop >= end or (text[stop] != 32 and text[stop] != 45):
        return -1
    gap = text[stop]
    second = _group(text, stop, gap, end)
    stop += 1 + second
    if first == 4 and second == 4:
        if _group(text, i + 9, gap, end) != 4 or _group(text, i + 14, gap, end) != 4:
            return -1
        # Three more digits are a security code rather than the end of a number of nineteen.
        if _is_card(text, i, i + 19):
            return i + 19
        return i + 23 if _group(text, i + 19, gap, end) == 3 and _is_card(text, i, i + 23) else -1
    if first == 4 and second == 6:
        third = _group(text, stop, gap, end)
        stop += 1 + third
        return stop if (third == 5 or third == 4) and _is_card(text, i, stop) else -1
    return stop if first == 6 and second == 13 and _is_card(text, i, stop) else -1


@leaf
def _is_card(text: np.ndarray, i: int, stop: int) -> bool:
    """Whether digits, the first four of them in one group, have the beginning, length and check digit of a card."""
    n = total = 0
    for at in range(stop - 1, i - 1, -1):
        if 48 <= text[at] <= 57:
            value = np.int64(text[at]) - 48
            if n & 1:
                value += value if value < 5 else value - 9
            total += value
            n += 1
    lead = np.int64(0)
    for at in range(i, i + 4):
        lead = lead * 10 + np.int64(text[at]) - 48
    return bool(total % 10 == 0 and _is_issued(lead, n))


@leaf
def _is_issued(lead: int, n: int) -> bool:
    """Whether a network issues numbers of n digits that begin with these four."""
    two, three = lead // 100, lead // 10
    if two // 10 == 4:  # Visa
        return n == 13 or n == 16 or n == 19
    if two == 34 or two == 37 or three == 122:  # American Express, UATP of AirPlus
        return n == 15
    if 300 <= three <= 305 or lead == 3095:  # Diners Club
        return n == 14 or n == 16
    if two == 36 or two == 38 or two == 39:
        return n == 14
    if two == 62:  # UnionPay
        return n >= 16
    # Maestro, by the ranges that are its alone
    if (
        lead == 5018
        or lead == 5020
        or lead == 5038
        or lead == 5893
        or lead == 6304
        or lead == 6759
        or 6761 <= lead <= 6763
    ):
        return n >= 16
    if lead == 6011 or 644 <= three <= 649 or two == 65 or 3528 <= lead <= 3589:  # Discover, JCB
        return n == 16 or n == 19
    # Mastercard, Dankort, Mir
    return n == 16 and (51 <= two <= 55 or 2221 <= lead <= 2720 or lead == 5019 or 2200 <= lead <= 2204)


@leaf
def _may_end(text: np.ndarray, stop: int, end: int, alnum: np.ndarray) -> bool:
    """Whether a card number may end where it does: not inside a word, a decimal number, a file name or a longer key."""
    if stop >= end:
        return True
    after = text[stop]
    if alnum[after] or after == 95:
        return False
    if stop + 1 >= end or not alnum[text[stop + 1]]:
        return True
    if after == 45:
        few = _digits(text, stop + 1, end)
        at = stop + 1 + few
        if 1 <= few <= 4 and not (at < end and (alnum[text[at]] or text[at] == 95)):
            return True
        return _card_end(text, stop + 1, end) > 0
    return bool(after != 46)


@leaf
def _in_row(text: np.ndarray, i: int, stop: int, begin: int, end: int, free: int) -> bool:
    """Whether groups of four go on at either side: a row of numbers, unless the next make a card, or one is a date or amount."""
    gap = text[i + 4]
    at = stop
    groups = 0
    while groups < 2 and _group(text, at, gap, end) == 4:
        groups += 1
        at += 5
    if groups == 2 and _card_end(text, stop + 1, end) < 0:
        return True
    # An account (IBAN) begins with a country in two letters and two digits.
    country = i - 5 >= begin and 65 <= text[i - 5] <= 90 and 65 <= text[i - 4] <= 90
    if country and text[i - 1] == gap and _digits(text, i - 3, i) == 2:
        return True
    at = i
    groups = 0
    while groups < 2 and at - 5 >= begin and at - 1 != free and text[at - 1] == gap and _digits(text, at - 5, end) == 4:
        if at - 5 > begin and digit(text, at - 6, end):
            break
        groups += 1
        at -= 5
    return groups == 2


@leaf
def _beside(text: np.ndarray, i: int, stop: int, begin: int, end: int, alnum: np.ndarray) -> tuple[int, int]:
    """Of the numbers of the same length beside one, two at most on each side: how many are cards, and how many are not."""
    n = stop - i
    cards = others = 0
    at = stop
    for _ in range(NEIGHBOURS):
        first = at
        while first < min(end, at + GAP) and not alnum[text[first]]:
            first += 1
        if first == at or _digits(text, first, end) != n:
            break
        at = first + n
        if at < end and (alnum[text[at]] or text[at] == 95):
            break
        card = _is_card(text, first, at)
        cards += card
        others += not card
    at = i
    for _ in range(NEIGHBOURS):
        last = at
        while last > max(begin, at - GAP) and not alnum[text[last - 1]]:
            last -= 1
        first = last - n
        if last == at or first < begin or _digits(text, first, end) != n or (first > begin and alnum[text[first - 1]]):
            break
        at = first
        card = _is_card(text, first, last)
        cards += card
        others += not card
    return cards, others
