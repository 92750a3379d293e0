"""Parts of a URL: its host, and the form in which all spellings of one address agree. Kernels over bytes.

URLs are read as browsers read them (WHATWG URL, section 4): spaces around them, tabs, line ends and invisible characters are
nothing, a backslash before the query is a slash, and of `user@host:port` the host begins after the last `@`. An address
without a scheme begins with its host, unless it begins with a slash: two stand before a host, one before a path alone.
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

import numpy as np
from numba import njit

from .unicode import INVISIBLE, class_of, decode

_COLON, _SLASH, _QUERY, _FRAGMENT, _AT, _PERCENT, _DOT = 58, 47, 63, 35, 64, 37, 46


def _alone(names: str) -> tuple[np.ndarray, ...]:
    return tuple(np.frombuffer(name.encode(), np.uint8) for name in names.split())


_SLASHES_OPTIONAL = _alone("http https")
_TRACKING = _alone("utm_ fbclid= gclid=")


@njit(cache=True, nogil=True)
def clean(text: np.ndarray, begin: int, end: int, out: np.ndarray, classes: np.ndarray) -> int:
    """Copy a URL without what stands for nothing in it, and with slashes for backslashes; returns the bytes written."""
    while begin < end and text[begin] <= 32:
        begin += 1
    while end > begin and text[end - 1] <= 32:
        end -= 1
    n = 0
    path = True
    i = begin
    while i < end:
        b = text[i]
        after = i + 1
        if b >= 128:
            cp, after = decode(text, i)
            if class_of(classes, cp) & INVISIBLE:
                i = after
                continue
        if b == 9 or b == 10 or b == 13:
            i = after
            continue
        path = path and b != _QUERY and b != _FRAGMENT
        if path and b == 92:
            out[n] = _SLASH
            n += 1
        else:
            for k in range(i, after):
                out[n] = text[k]
                n += 1
        i = after
    return n


@njit(cache=True, nogil=True, inline="always")
def is_letter(b: int) -> bool:
    return 97 <= b | 32 <= 122


@njit(cache=True, nogil=True)
def begins_with(url: np.ndarray, i: int, end: int, word: np.ndarray) -> bool:
    """Whether some bytes begin with a word in lower case, whatever their case."""
    if end - i < len(word):
        return False
    for k in range(len(word)):
        b = url[i + k]
        if (b + 32 if 65 <= b <= 90 else b) != word[k]:
            return False
    return True


@njit(cache=True, nogil=True)
def find_host(url: np.ndarray, size: int) -> tuple[int, int, int]:
    """Where the host of a clean URL begins, where it ends, and where its port does. An IPv6 address is in its brackets."""
    first = 0
    i = 0
    while i < size and (is_letter(url[i]) or 48 <= url[i] <= 57 or url[i] == 43 or url[i] == 45 or url[i] == _DOT):
        i += 1
    after = i + 1 if i and i < size and url[i] == _COLON else i
    rest = after
    while rest < size and url[rest] == _SLASH:
        rest += 1
    if after > i and is_letter(url[0]):
        optional = False
        for name in _SLASHES_OPTIONAL:
            optional = optional or (i == len(name) and begins_with(url, 0, i, name))
        if optional:
            first = rest
        elif rest - after >= 2:
            first = after + 2
    elif i == 0 and rest:
        if rest == 1:
            return 0, 0, 0
        first = rest
    stop = first
    for_host = first
    while stop < size and url[stop] != _SLASH and url[stop] != _QUERY and url[stop] != _FRAGMENT and url[stop] > 32:
        if url[stop] == _AT:
            for_host = stop + 1
        stop += 1
    host_end = for_host
    if host_end < stop and url[host_end] == 91:
        while host_end < stop and url[host_end] != 93:
            host_end += 1
        host_end = min(host_end + 1, stop)
    while host_end < stop and url[host_end] != _COLON:
        host_end += 1
    return for_host, host_end, stop


@njit(cache=True, nogil=True, inline="always")
def _hex(b: int) -> int:
    """The value of a hexadecimal digit, -1 for another byte."""
    if 48 <= b <= 57:
        return b - 48
    return (b | 32) - 87 if 97 <= b | 32 <= 102 else -1


@njit(cache=True, nogil=True)
def unescaped(url: np.ndarray, i: int, end: int) -> tuple[int, int]:
    """(byte at a place, place after it): that of an escape such as `%20`, or as it stands."""
    b = int(url[i])
    if b == _PERCENT and i + 2 < end:
        high, low = _hex(int(url[i + 1])), _hex(int(url[i + 2]))
        if high >= 0 and low >= 0:
            return high * 16 + low, i + 3
    return b, i + 1


@njit(cache=True, nogil=True)
def write_host(url: np.ndarray, first: int, stop: int, out: np.ndarray) -> int:
    """Write a host in lower case, its letters and digits unescaped, without dots at its end; returns the bytes written."""
    n = 0
    i = first
    while i < stop:
        b, after = unescaped(url, i, stop)
        if after == i + 3 and not (is_letter(b) or 48 <= b <= 57 or b == 45 or b == _DOT or b == 95 or b >= 128):
            b, after = int(url[i]), i + 1
        out[n] = b + 32 if 65 <= b <= 90 else b
        n += 1
        i = after
    while n and out[n - 1] == _DOT:
        n -= 1
    return n


@njit(cache=True, nogil=True)
def normalise(url: np.ndarray, size: int, out: np.ndarray) -> int:
    """Write a clean URL so that all spellings of one address agree; returns the bytes written.

    Without scheme, user, `www.`, default port, fragment, parameters of trackers and a last slash; the host in lower
    case, hexadecimal digits of escapes in upper case.
    """
    first, host_end, stop = find_host(url, size)
    n = write_host(url, first, host_end, out)
    if n > 4 and out[0] == 119 and out[1] == 119 and out[2] == 119 and out[3] == _DOT:  # www.
        for i in range(4, n):
            out[i - 4] = out[i]
        n -= 4
    port = stop - host_end
    http = port == 3 and url[host_end + 1] == 56 and url[host_end + 2] == 48  # :80
    https = port == 4 and url[host_end + 1] == 52 and url[host_end + 2] == 52 and url[host_end + 3] == 51  # :443
    if port > 1 and not http and not https:
        for i in range(host_end, stop):
            out[n] = url[i]
            n += 1
    i = stop
    while i < size and url[i] != _QUERY and url[i] != _FRAGMENT:
        out[n] = url[i]
        n += 1
        i += 1
    while n and out[n - 1] == _SLASH:
        n -= 1
    if i < size and url[i] == _QUERY:
        joint = np.uint8(_QUERY)
        i += 1
        while i < size and url[i] != _FRAGMENT:
            after = i
            while after < size and url[after] != 38 and url[after] != _FRAGMENT:
                after += 1
            if after > i and not _is_tracking(url, i, after):
                out[n] = joint
                n += 1
                joint = np.uint8(38)
                for k in range(i, after):
                    out[n] = url[k]
                    n += 1
            i = after + 1 if after < size and url[after] == 38 else after
    for k in range(n - 2):
        if out[k] == _PERCENT:
            for m in (k + 1, k + 2):
                if 97 <= out[m] <= 102:
                    out[m] -= np.uint8(32)
    return n


@njit(cache=True, nogil=True)
def _is_tracking(url: np.ndarray, begin: int, end: int) -> bool:
    for name in _TRACKING:  # noqa: SIM110
        if begins_with(url, begin, end, name):
            return True
    return False
