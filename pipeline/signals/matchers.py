"""Matchers of personal data and secrets: each looks at one place of the text and gives where its span ends.

The rules are those of pii.py, written as kernels over bytes. -1 means that nothing is there.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np
from numba import njit

from .hashing import mix64
from .leaf import leaf
from .word_hashes import WORD_SEED, WORD_STEP

GAP, LONGEST = 4, 16
"""Most bytes between a word and what it names, and most letters of the word."""
MIXED = 8
"""Changes between upper and lower case in a key without digits; random letters have as many in 16."""


@njit(cache=True, nogil=True, inline="always")
def digit(text: np.ndarray, i: int, end: int) -> bool:
    return i < end and 48 <= text[i] <= 57


@leaf
def is_named(text: np.ndarray, first: int, end: int, names: np.ndarray) -> bool:
    """Whether ASCII letters are one of some names, whatever their case; the names by `word_hash`, ascending."""
    h = WORD_SEED
    for k in range(first, end):
        h = (h ^ np.uint64(text[k] | 32)) * WORD_STEP
    return is_among(mix64(h), names)


@njit(cache=True, nogil=True, inline="always")
def is_among(h: np.uint64, names: np.ndarray) -> bool:
    """Whether a hash is one of some, ascending."""
    at = np.searchsorted(names, h)
    return bool(at < len(names) and names[at] == h)


@leaf
def named_before(text: np.ndarray, start: int, begin: int, alnum: np.ndarray, names: np.ndarray, words: int) -> bool:
    """Whether one of so many words before a place, on its line and parted from it by one to four other bytes each, is named."""
    at = start
    for _ in range(words):
        last = at
        while last > max(begin, at - GAP) and not alnum[text[last - 1]] and text[last - 1] != 10:
            last -= 1
        first = last
        while first > max(begin, last - LONGEST) and text[first - 1] > 57 and alnum[text[first - 1]]:
            first -= 1
        if first == last or last == at:
            return False
        if is_named(text, first, last, names):
            return True
        at = first
    return False


@leaf
def match_ipv4(
    text: np.ndarray,
    i: int,
    begin: int,
    end: int,
    free: int,
    alnum: np.ndarray,
    hosts: np.ndarray,
    versions: np.ndarray,
) -> int:
    """End of the public IPv4 address that begins at i, or -1.

    Args:
        free: byte after the span before; a hyphen there is that of a range.
        hosts: words before an address, as `is_named` takes them.
        versions: words before other numbers with dots.
    """
    start = i
    if i > begin:
        before = text[i - 1]
        if alnum[before] or before == 46 or before == 95 or (before == 45 and not free == i - 1 > begin):
            return -1
    a = b = c = large = 0
    same = True
    for part in range(4):
        first = i
        value = 0
        while digit(text, i, end) and i - first < 4:
            value = value * 10 + np.int64(text[i]) - 48
            i += 1
        size = i - first
        if size == 0 or size > 3 or value > 255 or (size > 1 and text[first] == 48):
            return -1
        if part == 0:
            a = value
        elif part == 1:
            b = value
        elif part == 2:
            c = value
        large += value >= 100
        same &= value == a
        if part < 3:
            if i >= end or text[i] != 46:
                return -1
            i += 1
    if i < end and (alnum[text[i]] or text[i] == 95):
        return -1
    if i + 1 < end and text[i] == 46 and alnum[text[i + 1]]:
        return -1
    if a == 0 or a == 10 or a == 127 or a >= 224:
        return -1
    if (a == 100 and 64 <= b <= 127) or (a == 169 and b == 254) or (a == 172 and 16 <= b <= 31):
        return -1
    if (a == 192 and b == 168) or (a == 192 and b == 0 and (c == 0 or c == 2)) or (a == 198 and 18 <= b <= 19):
        return -1
    if (a == 198 and b == 51 and c == 100) or (a == 203 and b == 0 and c == 113):
        return -1
    if _is_host(text, start, i, begin, end, alnum, hosts):
        return i
    # Versions and sections are numbered from below; 8.8.8.8 and 9.9.9.9 are none.
    if large < (1 if a >= 20 else 2) and not (same and (a == 8 or a == 9 or a >= 20)):
        return -1
    return -1 if named_before(text, start, begin, alnum, versions, 1) else i


@leaf
def _is_host(
    text: np.ndarray, start: int, stop: int, begin: int, end: int, alnum: np.ndarray, hosts: np.ndarray
) -> bool:
    """Whether four numbers stand where an address does: in a URL, before a port or prefix length, after such a word."""
    if stop + 1 < end and (text[stop] == 58 or text[stop] == 47) and 48 <= text[stop + 1] <= 57:
        return True
    if start > begin and (text[start - 1] == 64 or (start > begin + 1 and text[start - 1] == 47 == text[start - 2])):
        return True
    return named_before(text, start, begin, alnum, hosts, 1)


@leaf
def match_ipv6(
    text: np.ndarray, colon: int, begin: int, end: int, alnum: np.ndarray, hex_: np.ndarray
) -> tuple[int, int]:
    """(start, end) of the public IPv6 address whose first colon is at `colon`, or (-1, -1).

    Global unicast is 2000::/3: the first group has four hex digits and begins with 2 or 3.
    """
    start = colon - 4
    if start < begin or (text[start] != 50 and text[start] != 51):
        return -1, -1
    for k in range(start, colon):
        if not hex_[text[k]]:
            return -1, -1
    if start > begin and (
        alnum[text[start - 1]] or text[start - 1] == 58 or text[start - 1] == 46 or text[start - 1] == 95
    ):
        return -1, -1
    second = np.int64(0)
    groups = 1
    # A letter, or a later group of three digits: 2023:04:15:10:20:30:40:50 is none.
    wide = text[start + 1] > 57 or text[start + 2] > 57 or text[start + 3] > 57
    doubled = False
    i = colon
    while i < end and text[i] == 58:
        if i + 1 < end and text[i + 1] == 58:
            if doubled:
                return -1, -1
            doubled = True
            i += 2
            if not (i < end and hex_[text[i]]):
                break
        elif i + 1 < end and hex_[text[i + 1]]:
            i += 1
        else:
            break
        first = i
        value = np.int64(0)
        while i < end and hex_[text[i]]:
            b = np.int64(text[i])
            value = value * 16 + (b - 48 if b <= 57 else (b | 32) - 87)
            wide |= b > 57
            i += 1
            if i - first > 4:
                return -1, -1
        wide |= i - first > 2
        groups += 1
        if groups == 2 and not doubled:
            second = value
    # 2023:: ends a line of reStructuredText, 2023::1 may number something.
    letter = text[start + 1] > 57 or text[start + 2] > 57 or text[start + 3] > 57
    if groups < 2 or not wide or (groups == 2 and not letter):
        return -1, -1
    if groups > 8 or (doubled and groups > 7) or (not doubled and groups != 8):
        return -1, -1
    if i < end and (alnum[text[i]] or text[i] == 95 or (text[i] == 58 and i + 1 < end and text[i + 1] == 58)):
        return -1, -1
    lead = np.int64(0)
    for k in range(start, colon):
        b = np.int64(text[k])
        lead = lead * 16 + (b - 48 if b <= 57 else (b | 32) - 87)
    # 2001::/23 is for protocols, 2001:db8::/32 and 3fff::/20 for documentation, 2002::/16 names an IPv4 address.
    if (
        (lead == 0x2001 and (second < 0x200 or second == 0xDB8))
        or lead == 0x2002
        or (lead == 0x3FFF and second < 0x1000)
    ):
        return -1, -1
    return start, i


@njit(cache=True, nogil=True)
def match_phone(text: np.ndarray, i: int, begin: int, end: int, alnum: np.ndarray, plans: np.ndarray) -> int:
    """End of the phone number that begins at i, or -1.

    Args:
        plans: int64 [1000, 2] by the first three digits after a +: digits of the country code (0: there is none), and the
            least digits after it.
    """
    if i > begin and (
        alnum[text[i - 1]] or text[i - 1] == 46 or text[i - 1] == 95 or text[i - 1] == 45 or text[i - 1] == 43
        or text[i - 1] == 36 or text[i - 1] == 47
    ):  # fmt: skip
        return -1
    if text[i] == 43:
        # +CC then groups of digits, each parted by one of space . - and perhaps in parentheses.
        at = i + 1
        n = groups = 0
        if not digit(text, at, end) or text[at] == 48:
            return -1
        # Of North America and of Russia all numbers have eleven digits.
        most = 11 if text[at] == 49 or text[at] == 55 else 15
        digits = np.zeros(15, np.int64)
        head = size = 0  # digits of the first group, and of the last
        dotted = False  # before the last group
        last = at
        while True:
            opened = at < end and text[at] == 40
            if opened:
                at += 1
            first = at
            while digit(text, at, end):
                at += 1
            if at == first or n + at - first > most:
                break
            if opened and not (at < end and text[at] == 41):
                break
            size = at - first
            dotted = text[first - 1] == 46
            for k in range(size):
                digits[n + k] = np.int64(text[first + k]) - 48
            n += size
            if groups == 0:
                head = n
            at += opened
            groups += 1
            last = at
            if at < end and (text[at] == 32 or text[at] == 46 or text[at] == 45):
                at += 1
        if not 8 <= n <= 15 or groups > 7:
            return -1
        plan = plans[digits[0] * 100 + digits[1] * 10 + digits[2]]
        if plan[0] == 0 or head < plan[0] or n - plan[0] < plan[1]:
            return -1
        if digits[0] == 1 and (digits[1] < 2 or digits[4] < 2):
            return -1
        if groups == 2 and dotted and size < 9:  # a decimal fraction
            return -1
        if head == 8 and _is_date(digits):
            return -1
    else:
        at = i
        if text[at] == 49 and at + 1 < end and (text[at + 1] == 45 or text[at + 1] == 46 or text[at + 1] == 32):
            at += 2
        opened = at < end and text[at] == 40
        if opened:
            at += 1
        if not (digit(text, at, end) and digit(text, at + 1, end) and digit(text, at + 2, end)) or text[at] < 50:
            return -1
        at += 3
        if opened:
            if not (at < end and text[at] == 41):
                return -1
            at += 1
            if at < end and (text[at] == 32 or text[at] == 45):
                at += 1
            separator = np.uint8(0)
        else:
            if not (at < end and (text[at] == 45 or text[at] == 46 or text[at] == 32)):
                return -1
            separator = text[at]
            at += 1
        if not (digit(text, at, end) and digit(text, at + 1, end) and digit(text, at + 2, end)) or text[at] < 50:
            return -1
        at += 3
        if not (at < end and (text[at] == 45 or text[at] == 46 or text[at] == 32)):
            return -1
        # Three groups with spaces alone are a row of a table as often as a phone number.
        if not opened and (text[at] != separator or separator == 32):
            return -1
        at += 1
        for k in range(4):
            if not digit(text, at + k, end):
                return -1
        last = at + 4
    if last < end and (alnum[text[last]] or text[last] == 95):
        return -1
    if last + 1 < end and (text[last] == 45 or text[last] == 46) and alnum[text[last + 1]]:
        return -1
    return last


@leaf
def _is_date(digits: np.ndarray) -> bool:
    """Whether eight digits are a day of 1900 to 2099."""
    month, day = digits[4] * 10 + digits[5], digits[6] * 10 + digits[7]
    century = digits[0] * 10 + digits[1]
    return bool((century == 19 or century == 20) and 1 <= month <= 12 and 1 <= day <= 31)


@njit(cache=True, nogil=True, inline="always")
def _token(alnum: np.ndarray, b: np.uint8) -> bool:
    return alnum[b] or b == 95 or b == 45 or b == 46


@leaf
def match_key(
    text: np.ndarray, word: int, begin: int, end: int, alnum: np.ndarray, prefixes: np.ndarray, sizes: np.ndarray
) -> tuple[int, int, int]:
    """(start, end) of the key whose token holds the byte `word`, or (-1, -1); and the byte after that token.

    Whatever word of a token it is asked about, the answer is the same: a caller asks once for each token.
    """
    start = word
    while start > begin and _token(alnum, text[start - 1]):
        start -= 1
    while start < word and not alnum[text[start]]:
        start += 1
    last = word
    while last < end and _token(alnum, text[last]):
        last += 1
    after = last
    while last > word and text[last - 1] == 46:
        last -= 1
    size = last - start
    if size > 16 and text[start] == 101 and text[start + 1] == 121 and text[start + 2] == 74:  # eyJ: {" in base64
        dots = 0
        for k in range(start, last):
            dots += text[k] == 46
        if dots == 2 and size >= 40:
            return start, last, after
        return -1, -1, after
    for p in range(len(sizes)):
        n = sizes[p, 0]
        if sizes[p, 1] <= size <= sizes[p, 2]:
            k = 0
            while k < n and text[start + k] == prefixes[p, k]:
                k += 1
            if k == n and _is_random(text, start + n, last, sizes[p, 3], sizes[p, 4], alnum):
                return start, last, after
    return -1, -1, after


@njit(cache=True, nogil=True, inline="always")
def _is_random(text: np.ndarray, first: int, end: int, least: int, changes: int, alnum: np.ndarray) -> bool:
    """Whether a token has a run of at least so many letters and digits which go over into each other so often, and a digit, or
    a run whose letters change their case often: words of a URL are shorter, or have their digits together."""
    digits = enough = mixed = False
    run = turns = cases = 0
    for k in range(first, end):
        b = text[k]
        is_digit = 48 <= b <= 57
        digits |= is_digit
        if alnum[b]:
            before = text[k - 1] if run else b
            turns += is_digit != (48 <= before <= 57)
            cases += (b ^ before) & 32 != 0 and b > 57 and before > 57
            run += 1
        else:
            run = turns = cases = 0
        enough |= run >= least and turns >= changes
        mixed |= run >= least and cases >= MIXED
    return (digits and enough) or mixed


@leaf
def pem_begin(text: np.ndarray, at: int, begin: int) -> int:
    """Where the `-----BEGIN ` before a `PRIVATE KEY-----` stands; `at` itself if there is none on the line."""
    head = b"-----BEGIN "
    for start in range(at - len(head), max(begin, at - 40) - 1, -1):
        k = 0
        while k < len(head) and text[start + k] == head[k]:
            k += 1
        if k == len(head):
            return start
    return at


@leaf
def match_pem(text: np.ndarray, i: int, end: int) -> int:
    """End of the PEM private key whose `PRIVATE KEY-----` begins at i: after its END line, or -1."""
    head = b"PRIVATE KEY-----"
    for k in range(len(head)):
        if i + k >= end or text[i + k] != head[k]:
            return -1
    at = i + len(head)
    stop = min(end, at + 8192)
    while at + len(head) <= stop:
        if text[at] == 80 and text[at + 1] == 82:
            k = 0
            while k < len(head) and text[at + k] == head[k]:
                k += 1
            if k == len(head):
                return at + len(head)
        at += 1
    return -1
