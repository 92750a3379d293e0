"""Payment cards: what is found equals the definition in plain Python, whatever numbers stand around them."""

from __future__ import annotations

import random
import re

import pytest
from fox1.pipeline.signals import pii
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.signals.texts import segments

NETWORKS: dict[str, tuple[int, ...]] = {
    "4": (13, 16, 19), "3[47]": (15,), "122": (15,), "30[0-5]|3095": (14, 16), "3[689]": (14,), "62": (16, 17, 18, 19),
    "5018|5020|5038|5893|6304|6759|676[1-3]": (16, 17, 18, 19), "6011|64[4-9]|65|352[89]|35[3-8]": (16, 19),
    "5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720|5019|220[0-4]": (16,),
}  # fmt: skip
LAYOUT = re.compile(
    r"(\d{13,19})(?!\d)|\d{4}([ -])\d{4}\2\d{4}\2\d{4}(?!\d)|\d{4}([ -])\d{6}\3\d{4,5}(?!\d)|\d{6}([ -])\d{13}(?!\d)"
)
LONGER = re.compile(r"\d{4}([ -])\d{4}\1\d{4}\1\d{4}\1\d{3}(?!\d)")
CARD_WORDS = "amex|cards?|cc|credit|debit|diners|discover|jcb|maestro|mastercards?|mc|pan|unionpay|visa"
OTHER_WORDS = (
    "barcode|ean|guid|gtin|ids?|imei|invoices?|isbn|orders?|parcel|po|ref|reference|seed|serial|sku|ticket|timestamp|tracking"
    "|transaction|ts|uid|upc"
)
GAP = r"[^A-Za-z0-9\n]{1,4}"


def luhn(digits: str) -> bool:
    return sum(sum(divmod(2 * int(c), 10)) if k & 1 else int(c) for k, c in enumerate(reversed(digits))) % 10 == 0


def is_card(digits: str) -> bool:
    return luhn(digits) and any(re.match(lead, digits) and len(digits) in lengths for lead, lengths in NETWORKS.items())


def card_end(text: str, i: int) -> int:
    """End of a card whatever stands around it, or -1."""
    for layout in (LAYOUT, LONGER):
        if (m := layout.match(text, i)) and is_card(re.sub(r"\D", "", m[0])):
            return m.end()
    return -1


def says(before: str, words: str) -> bool:
    return re.search(rf"(?<![A-Za-z])(?i:{words}){GAP}(?:[A-Za-z]{{1,12}}{GAP})?\Z", before) is not None


def neighbours(text: str, start: int, stop: int) -> list[str]:
    n = stop - start
    near = rf"[^A-Za-z0-9]{{1,4}}(\d{{{n}}})"
    found: list[str] = []
    at = stop
    for _ in range(2):
        if not (m := re.compile(near + r"(?![A-Za-z0-9_])").match(text, at)):
            break
        found.append(m[1])
        at = m.end()
    at = start
    for _ in range(2):
        if not (m := re.search(rf"(?<![A-Za-z0-9])(\d{{{n}}})[^A-Za-z0-9]{{1,4}}\Z", text[:at])):
            break
        found.append(m[1])
        at = m.start()
    return found


def cards(text: str) -> list[str]:
    """The cards of a text of ASCII without phone numbers and addresses."""
    out: list[str] = []
    free = 0
    for m in re.finditer(r"\d+", text):
        i = m.start()
        stop = card_end(text, i)
        before, after = text[:i], text[max(stop, 0) :]
        if (
            i < free
            or stop < 0
            or re.search(r"[A-Za-z._]\Z", before)
            or re.match(r"[A-Za-z_]|\.[A-Za-z0-9]|-[A-Za-z]", after)
        ):
            continue
        if before.endswith("-") and not (0 < free == i - 1):
            continue
        if (
            re.match(r"-\d", after)
            and not re.match(r"-\d{1,4}(?![A-Za-z0-9_])", after)
            and card_end(text, stop + 1) < 0
        ):
            continue
        if m.end() == stop:
            beside = [is_card(n) for n in neighbours(text, i, stop)]
            if beside.count(False) >= 2 and beside.count(False) > 1 + beside.count(True):
                continue
            named = any(beside) or says(before, CARD_WORDS)
            if not named and (text[i] == "2" or says(before, OTHER_WORDS)):
                continue
        elif len(m[0]) == 4:
            gap = text[i + 4]
            if re.search(rf"[A-Z]{{2}}\d{{2}}{gap}\Z", before):
                continue
            if re.match(rf"(?:{gap}\d{{4}}(?!\d)){{2}}", after) and card_end(text, stop + 1) < 0:
                continue
            if re.search(rf"(?<!\d)(?:\d{{4}}{gap}){{2}}\Z", before[free:]):
                continue
        out.append(text[i:stop])
        free = stop
    return out


def found(text: str) -> list[str]:
    s = segments([text])
    return [bytes(s.text[a:b]).decode() for _, a, b, kind in pii.find_pii(s)[1].tolist() if pii.KINDS[kind] == "card"]


def complete(start: str, n: int) -> str:
    """A number of n digits with a valid check digit."""
    body = start + "7" * (n - 1 - len(start))
    return next(body + str(d) for d in range(10) if luhn(body + str(d)))


VISA, MASTERCARD, SECOND = complete("4539", 16), complete("5412", 16), complete("2301", 16)
AMEX, DINERS, LONG = complete("3714", 15), complete("3617", 14), complete("6222", 19)


def grouped(digits: str, sizes: list[int], gap: str) -> str:
    ends = [sum(sizes[: k + 1]) for k in range(len(sizes))]
    return gap.join(digits[e - s : e] for e, s in zip(ends, sizes, strict=True))


PRINTED = [
    VISA, MASTERCARD, SECOND, AMEX, DINERS, LONG, complete("4929", 13), complete("4000", 19),
    *(grouped(c, [4] * 4, gap) for c in (VISA, MASTERCARD, SECOND) for gap in " -"),
    *(grouped(AMEX, [4, 6, 5], gap) for gap in " -"), grouped(DINERS, [4, 6, 4], " "),
    grouped(LONG, [4, 4, 4, 4, 3], " "), grouped(LONG, [6, 13], " "),
]  # fmt: skip
NOT = [VISA[:-1] + str((int(VISA[-1]) + 1) % 10), "1234567890123456", grouped("4539123412341234", [4] * 4, " ")]


@settings(max_examples=600, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [*PRINTED, *NOT, *" ---,/\n;", "  ", ", ", "1225", "12/25", "123", "1", "a", ".", "_", "20240229101112"]
            + ["card ", "FR76 ", "visa no. ", "order number: ", "order_id=", "7 "]
        ),
        max_size=12,
    )
)
def test_cards_equal_their_definition(parts: list[str]) -> None:
    text = "".join(parts)
    assert found(text) == cards(text)


@settings(max_examples=400, deadline=None)
@given(st.text("0123456789", min_size=12, max_size=20), st.integers(0, 2720))
def test_a_run_of_digits_is_a_card_by_network_length_and_check_digit(digits: str, lead: int) -> None:
    for number in (digits, f"{lead:04}{digits[4:]}", f"3{digits[1:]}", f"6{digits[1:]}"):
        whole = number[:-1]
        for last in "0123456789":
            assert found(f"card {whole}{last}") == (
                [whole + last] if 13 <= len(number) <= 19 and is_card(whole + last) else []
            )


@pytest.mark.parametrize("card", [c for c in PRINTED if c[0] != "2" or len(c) > 16])
@pytest.mark.parametrize(
    "around",
    [
        "{}", "{} 12/25 123", "{} 04/27", "{} 1225 123", "{} 0427", "{} 123", "{}-1", "{}-123", "{}, 12-2025", "{}/12/25", "{}.",
        "{};{}", "{} {}", "{} {} {}", "{},{}", "{}/{}", "{}\n{}\n{}\n{}", "{} 1", "1. {}", "12/25 {}", "123 {}", "({})",
        "{}\t100.00", "id 17: {}", "2024-02-29 10:11:12 {} 99",
    ],
)  # fmt: skip
def test_a_card_is_found_beside_other_numbers(card: str, around: str) -> None:
    times = around.count("{}")
    if around == "{} 123" and len(card) == 19 and card.count(" ") == 3:
        assert found(around.format(card))[0].startswith(card)
    else:
        assert found(around.format(*[card] * times)) == [card] * times


def test_cards_of_several_networks_in_a_list() -> None:
    for gap in (" ", ", ", ",", "/", "\n", " | ", ";"):
        assert found(gap.join(PRINTED[:2] + PRINTED[3:6])) == PRINTED[:2] + PRINTED[3:6]
    assert found(f"{VISA}-{MASTERCARD}") == [VISA, MASTERCARD]
    assert found(f"{VISA} {SECOND}, card no. {SECOND}") == [VISA, SECOND, SECOND]


@pytest.mark.parametrize(
    "text",
    [
        f"order {VISA}", f"Order number: {VISA}", f"order_id={MASTERCARD}&x=1", f"ISBN {complete('4978', 13)}", SECOND,
        f"0.{VISA}", f"{VISA}.5", f"{VISA}.jpg", f"a{VISA}", f"{VISA}f", f"x_{VISA}", f"{VISA}_1", f"1-{VISA}", f"{VISA}-20240229",
        f"{VISA}-4a5b", f"{VISA}-abcd-1", f"{VISA}0000", "2024 2025 2026 " + grouped(VISA, [4] * 4, " ") + " 2027 2028 2029",
        grouped(VISA, [4] * 4, " ") + " 2027 2028", grouped(VISA, [8, 8], " "), grouped(VISA, [4, 4, 4, 4], "."),
        f"{NOT[0]} {VISA} {NOT[0]}", f"{VISA}\n{NOT[0]}\n{NOT[1]}", "4539 7777-7777 7777",
        f"FR76 {grouped(VISA, [4] * 4, ' ')} 189",
    ],
)  # fmt: skip
def test_other_numbers_are_no_cards(text: str) -> None:
    assert found(text) == []


def test_columns_of_numbers_hold_hardly_a_card() -> None:
    rng = random.Random(4)
    numbers = [str(rng.randrange(4 * 10**15, 7 * 10**15)) for _ in range(4000)]
    alone = sum(len(found(n)) for n in numbers[:1000])
    for gap in ("\n", " ", ", "):
        assert len(found(gap.join(numbers))) < 0.5 * 4 * alone * 0.2
    fours = [str(rng.randrange(1000, 10000)) for _ in range(16000)]
    assert found(" ".join(fours)) == []
