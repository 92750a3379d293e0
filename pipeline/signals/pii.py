"""Spans of personal data and secrets: e-mail, public IP addresses, phone and payment card numbers, keys and tokens.

Rules, over ASCII but for e-mail, left to right, a span never inside an earlier one:

  email  a local part of 1 to 64 bytes of [A-Za-z0-9._%+-], apostrophes inside and letters of other scripts, that begins where
         no such character stands before, or one in quotes; @, labels of a domain, the last a top-level domain (IANA's list)
         before no parenthesis. Not the account of a service (git, hg, anonymous ...), a path on a host (user@host:a/b), or a
         picture for dense screens (@2x.). Scripts without spaces have no letters here; invisible characters are passed over
  ip     IPv4 in four decimals without leading zeros, or IPv6 in full or with ::; only global unicast addresses: what
         is private, loopback, link-local, multicast, reserved or for documentation (RFC 6890, 5737, 3849) is nobody's.
         Versions and section numbers look like IPv4: a port, a prefix length, a URL or a word such as `address` says that
         they are none. Else one of the numbers must be 100 or more (two where the first is below 20), or all of them 8, 9 or
         one number from 20, and no word such as `version` stand before. Of IPv6, two groups at least, with a letter or a later
         group of three digits, and the first with a letter if there are no more
  card   13 to 19 digits in the lengths and prefixes of the payment networks, in one run or in the groups they are
         printed in (4-4-4-4, and 3 after them; 4-6-5, 4-6-4, 6-13; at spaces or hyphens), with a valid check digit (Luhn,
         ISO/IEC 7812-1), whatever numbers stand beside it; but of a row of more groups of four only what makes cards, and
         of a column of numbers of one length none where two neighbours or more, and most, are no cards. One run after a word
         such as `order` or `id` is none; one that begins with 2 is one only after a word such as `card` or beside a card
  phone  international: + and 8 to 15 digits in groups, of a country code and as many as its numbers have (ITU-T E.164),
         but no decimal fraction of fewer than 9 digits and no date of eight; North American: three, three and four digits
         with separators, area and exchange from 2 up
  key    a token that begins with a prefix its issuer documents (AWS, GitHub, GitLab, Slack, Google, Stripe, OpenAI,
         Hugging Face, npm, SendGrid) and goes on at random (digits among the letters, or letters that
         change their case), a JSON web token, a PEM private key
"""

# mypy: disable-error-code="assignment"
# Numba infers the types of kernels; mypy knows numpy scalars and Python numbers as different things.

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from numba import njit

from ...tokenize.vectors import LANES, byte_class, trailing_zeros
from .cards import match_card
from .domain_names import TOP_LEVEL, TOP_LEVEL_OF_SCRIPTS
from .emails import match_email
from .matchers import match_ipv4, match_ipv6, match_key, match_pem, match_phone, pem_begin
from .segment import Segments
from .unicode import tables
from .word_hashes import word_hash

KINDS = ("email", "ip", "card", "phone", "key")
_EMAIL, _IP, _CARD, _PHONE, _KEY = range(len(KINDS))

_LOCAL = np.zeros(256, np.bool_)
_LOCAL[[*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._%+-"]] = True
_ALNUM = np.zeros(256, np.bool_)
_ALNUM[[*b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"]] = True
_HEX = np.zeros(256, np.bool_)
_HEX[[*b"0123456789abcdefABCDEF"]] = True
# What may begin something: @ for e-mail, digits and + ( for numbers, : for IPv6.
_TRIGGER = np.zeros(256, np.uint8)
_TRIGGER[64], _TRIGGER[58] = 1, 2
_TRIGGER[48:58] = 3
_TRIGGER[43] = _TRIGGER[40] = 3
_INNER = _ALNUM.copy()
_INNER[[46, 95]] = True
at_or_colon_bytes, opening_bytes, digit_bytes = (
    byte_class((58, 58), (64, 64)),
    byte_class((40, 40), (43, 43)),
    byte_class((48, 57)),
)
inner_bytes = byte_class((46, 46), (48, 57), (65, 90), (95, 95), (97, 122))
"""Classes of many bytes at once: the same, and what no number begins after (a letter, digit, point or underscore)."""

_PREFIXES: tuple[tuple[bytes, int, int, int, int], ...] = (
    (b"AKIA", 20, 20, 16, 0),
    (b"ASIA", 20, 20, 16, 0),
    (b"ghp_", 40, 40, 36, 0),
    (b"gho_", 40, 40, 36, 0),
    (b"ghs_", 40, 40, 36, 0),
    (b"ghu_", 40, 40, 36, 0),
    (b"ghr_", 40, 80, 36, 0),
    (b"github_pat_", 50, 110, 16, 0),
    (b"glpat-", 26, 60, 0, 0),
    (b"xoxb-", 24, 120, 0, 0),
    (b"xoxp-", 24, 120, 0, 0),
    (b"xoxa-", 24, 120, 0, 0),
    (b"AIza", 39, 39, 0, 0),
    (b"sk_live_", 28, 120, 16, 0),
    (b"rk_live_", 28, 120, 16, 0),
    (b"sk-", 35, 220, 16, 3),
    (b"hf_", 37, 40, 30, 0),
    (b"npm_", 40, 40, 36, 0),
    (b"SG.", 69, 69, 16, 0),
)
"""(prefix, least and largest length of the whole token, least run of letters and digits after the prefix, and how often digits
and letters must follow each other in it) of tokens over [A-Za-z0-9_.-]. Run 0: the issuer may use `-` and `_` anywhere."""
MAX_SPANS = 1 << 18
"""Most spans of one document. The last of these reaches to its end: a document that is a list of addresses keeps none."""
MIN_TOKEN = 12
"""Every key holds a run of at least this many letters, digits and underscores: only such words are looked at."""


def _prefix_tables() -> tuple[np.ndarray, np.ndarray]:
    text = np.zeros((len(_PREFIXES), 12), np.uint8)
    sizes = np.zeros((len(_PREFIXES), 5), np.int64)
    for i, (prefix, *numbers) in enumerate(_PREFIXES):
        text[i, : len(prefix)] = list(prefix)
        sizes[i] = len(prefix), *numbers
    return text, sizes


_PREFIX_TEXT, _PREFIX_SIZES = _prefix_tables()


def _names(words: Iterable[str]) -> np.ndarray:
    """Hashes of the bytes of words in lower case."""
    return np.array(sorted(word_hash(word.encode().decode("latin-1")) for word in words), np.uint64)


_TOP_LEVEL = _names(
    {*TOP_LEVEL, *TOP_LEVEL_OF_SCRIPTS, *(f"xn--{name.encode('punycode').decode()}" for name in TOP_LEVEL_OF_SCRIPTS)}
)
_ACCOUNTS = _names("anoncvs anonymous aur bzr cvs ec2-user forgejo git gitea gitlab gogs hg svn".split())
_VERSIONS = _names(
    "annex appendix article assemblyversion build chapter chapters chrome clause edition fig figure fileversion firefox kernel oid "
    "opera paragraph productversion release releases rev revision rv sec section sections v ver version versions".split()
)
_HOSTS = _names(
    "address addresses addr client dns gateway host hosts inet ip ipaddress ips nameserver peer ping proxy server servers".split()
)
_CARD_WORDS = _names(
    "amex card cards cc credit debit diners discover jcb maestro mastercard mastercards mc pan unionpay visa".split()
)
_OTHER_WORDS = _names(
    "barcode ean guid gtin id ids imei invoice invoices isbn order orders parcel po ref reference seed serial sku ticket "
    "timestamp tracking transaction ts uid upc".split()
)

_TWO_DIGIT_CODES = {
    20: 8, 27: 9, 30: 10, 31: 9, 32: 8, 33: 9, 34: 9, 36: 8, 39: 8, 40: 9, 41: 9, 43: 7, 44: 9, 45: 8, 46: 7, 47: 8, 48: 9,
    49: 7, 51: 8, 52: 10, 53: 7, 54: 10, 55: 10, 56: 9, 57: 8, 58: 10, 60: 8, 61: 9, 62: 8, 63: 8, 64: 8, 65: 8, 66: 8,
    81: 9, 82: 8, 84: 9, 86: 9, 90: 10, 91: 10, 92: 9, 93: 9, 94: 9, 95: 7, 98: 10,
}  # fmt: skip
"""Country codes of two digits, with the least digits of a national number."""
_THREE_DIGIT_CODES = (
    *(211, 212, 213, 216, 218), *range(220, 259), *range(260, 270), *(290, 291, 297, 298, 299), *range(350, 360),
    *range(370, 380), *(380, 381, 382, 383, 385, 386, 387, 389, 420, 421, 423), *range(500, 510), *range(590, 600), 670,
    *range(672, 684), *range(685, 693), *(800, 808, 850, 852, 853, 855, 856, 870, 878, 880, 881, 882, 883, 886, 888),
    *range(960, 969), *range(970, 978), *(979, 992, 993, 994, 995, 996, 998),
)  # fmt: skip


def _plans() -> np.ndarray:
    """int64 [1000, 2] by the first three digits of a number: digits of its country code, least digits after it."""
    plans = np.zeros((1000, 2), np.int64)
    plans[100:200] = plans[700:800] = 1, 10
    for code, least in _TWO_DIGIT_CODES.items():
        plans[code * 10 : code * 10 + 10] = 2, least
    plans[list(_THREE_DIGIT_CODES)] = 3, 5
    return plans


_PLANS = _plans()


def find_pii(s: Segments) -> tuple[np.ndarray, np.ndarray]:
    """Personal data in every document.

    Returns:
        int64 [n, len(KINDS)] counts, and int64 [spans, 4] of (document, start, end, kind), bytes in `s.text`, in order.
    """
    return _find(
        s.text, s.offsets, s.word_offsets, s.word_start, s.word_end,
        _TRIGGER, _LOCAL, _ALNUM, _HEX, _PREFIX_TEXT, _PREFIX_SIZES, _TOP_LEVEL, _ACCOUNTS, _HOSTS, _PLANS,
        _CARD_WORDS, _OTHER_WORDS, _VERSIONS, tables()[0],
    )  # fmt: skip


@njit(cache=True, nogil=True, inline="always")
def _triggers(text: np.ndarray, i: int, begin: int) -> np.uint64:
    """Which of `LANES` bytes from i on may begin something: of digits the first of a run that no letter, digit, point or
    underscore is before, and + and ( before a digit; of the last byte both are unknown.

    Args:
        begin: where the document begins.
    """
    digits = digit_bytes(text, i)
    inner = inner_bytes(text, i) << np.uint64(1)
    if i > begin:
        inner |= np.uint64(_INNER[text[i - 1]])
    followed = digits >> np.uint64(1) | np.uint64(1 << (LANES - 1))
    return at_or_colon_bytes(text, i) | (opening_bytes(text, i) & followed) | (digits & ~inner)


@njit(cache=True, nogil=True, inline="always")
def _next_trigger(
    text: np.ndarray, i: int, begin: int, end: int, block: int, found: np.uint64, trigger: np.ndarray
) -> tuple[int, int, np.uint64]:
    """(the first byte from i that may begin something, or end; and the block that was looked at).

    Args:
        block: where a block of `LANES` bytes begins, and `found` which of them may begin something.
    """
    while i < end:
        if i - block >= LANES:
            if i + LANES > len(text):
                while i < end and trigger[text[np.uint64(i)]] == 0:
                    i += 1
                break
            block, found = i, _triggers(text, i, begin)
        left = found >> np.uint64(i - block)
        if left:
            i += trailing_zeros(left)
            break
        i = block + LANES
    return min(i, end), block, found


@njit(cache=True, nogil=True, inline="always")
def _may_go_on(text: np.ndarray, i: int, stop: int, end: int) -> bool:
    """Whether the run of digits from i to stop may be the beginning of something, or all of it: most runs are not, and
    three calls for each would cost more than all else here. A card is of 13 digits and more or begins, as addresses and
    phone numbers do, with a group of up to six and a separator before a digit or a parenthesis."""
    if stop - i > 6:
        return stop - i >= 13
    if stop + 1 >= end or not (text[stop] == 32 or text[stop] == 45 or text[stop] == 46):
        return False
    after = text[stop + 1]
    return 48 <= after <= 57 or after == 40


@njit(cache=True, nogil=True)
def _find(
    text: np.ndarray,
    offsets: np.ndarray,
    word_offsets: np.ndarray,
    word_start: np.ndarray,
    word_end: np.ndarray,
    trigger: np.ndarray,
    local: np.ndarray,
    alnum: np.ndarray,
    hex_: np.ndarray,
    prefixes: np.ndarray,
    sizes: np.ndarray,
    top_level: np.ndarray,
    accounts: np.ndarray,
    hosts: np.ndarray,
    plans: np.ndarray,
    card_words: np.ndarray,
    other_words: np.ndarray,
    versions: np.ndarray,
    classes: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    n = len(offsets) - 1
    counts = np.zeros((n, 5), np.int64)
    spans = np.empty((256, 4), np.int64)
    total = 0
    for d in range(n):
        begin, end = offsets[d], offsets[d + 1]
        w, last_w = word_offsets[d], word_offsets[d + 1]
        free = begin  # byte after the last span
        judged = begin  # byte after the last token that was looked at for a key
        in_document = 0
        i = begin
        block, found = begin - LANES, np.uint64(0)
        while i < end or w < last_w:
            # The next candidate: a trigger byte, or a long word that begins before it.
            i, block, found = _next_trigger(text, i, begin, end, block, found, trigger)
            while (
                w < last_w
                and word_end[w] - word_start[w] < MIN_TOKEN
                and not (
                    word_end[w] - word_start[w] == 7 and text[word_start[w]] == 80 and text[word_start[w] + 1] == 82
                )
            ):
                w += 1
            start = stop = -1
            kind = 0
            if w < last_w and (i >= end or word_start[w] <= i):
                at = word_start[w]
                w += 1
                if at < free:
                    continue
                kind = _KEY
                if text[at] == 80 and word_end[w - 1] - at == 7:
                    if at >= begin + 11 and text[at - 1] <= 90:
                        stop = match_pem(text, at, end)
                        if stop > 0:
                            start = pem_begin(text, at, begin)
                elif at >= judged:
                    start, stop, judged = match_key(text, at, begin, end, alnum, prefixes, sizes)
                    if start < free:
                        stop = -1
            elif i < end:
                if i < free:
                    i += 1
                    continue
                at = i
                what = trigger[text[i]]
                i += 1
                if what == 1:
                    kind = _EMAIL
                    start, stop = match_email(text, at, begin, end, local, alnum, top_level, accounts, classes)
                    if start < free:
                        stop = -1
                elif what == 2:
                    if at - 4 < begin or (text[at - 4] != 50 and text[at - 4] != 51):
                        continue  # as the matcher would say of most colons
                    kind = _IP
                    start, stop = match_ipv6(text, at, begin, end, alnum, hex_)
                    if start < free:
                        stop = -1
                else:
                    start = at
                    if 48 <= text[at] <= 57:
                        # No number begins inside a run of digits.
                        while i < end and 48 <= text[i] <= 57:
                            i += 1
                        if not _may_go_on(text, at, i, end):
                            continue
                        kind = _IP
                        stop = match_ipv4(text, at, begin, end, free, alnum, hosts, versions)
                        if stop < 0:
                            kind = _CARD
                            stop = match_card(text, at, begin, end, free, alnum, card_words, other_words)
                    if stop < 0:
                        kind = _PHONE
                        stop = match_phone(text, at, begin, end, alnum, plans)
            if stop > 0:
                in_document += 1
                if in_document == MAX_SPANS:
                    stop, w = end, last_w
                if total == len(spans):
                    more = np.empty((2 * total, 4), np.int64)
                    more[:total] = spans
                    spans = more
                spans[total, 0], spans[total, 1], spans[total, 2], spans[total, 3] = d, start, stop, kind
                total += 1
                counts[d, kind] += 1
                free = stop
                i = max(i, stop)
    return counts, spans[:total].copy()
