"""Personal data: what is found equals the patterns that define it."""

from __future__ import annotations

import ipaddress
import re

import pytest
from fox1.pipeline.signals import pii
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.signals.texts import TEXT, segments

EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+\-])[A-Za-z0-9._%+\-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.)+"
    r"[A-Za-z]{2,24}(?![A-Za-z0-9\-])"
)
IPV4 = re.compile(
    r"(?<![A-Za-z0-9._\-])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
    r"(?![A-Za-z0-9_])(?!\.[A-Za-z0-9])"
)


def found(text: str) -> dict[str, list[str]]:
    s = segments([text])
    counts, spans = pii.find_pii(s)
    out: dict[str, list[str]] = {kind: [] for kind in pii.KINDS}
    for _, start, end, kind in spans.tolist():
        out[pii.KINDS[kind]].append(bytes(s.text[start:end]).decode())
    assert counts[0].tolist() == [len(v) for v in out.values()]
    return out


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.sampled_from(["a", "joe", "@", "@", ".", "com", "x-y", "-", " ", "é", "9", "mail.org"]), max_size=14)
)
def test_email_equals_its_pattern(parts: list[str]) -> None:
    text = "".join(parts)
    assert found(text)["email"] == EMAIL.findall(text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(["1", "8", "25", "255", "256", "192", "168", "10", "0", "01", ".", ".", ".", " ", "a"]),
        max_size=16,
    )
)
def test_ipv4_equals_its_pattern_and_ipaddress(parts: list[str]) -> None:
    text = "".join(parts)
    public = [a for a in IPV4.findall(text) if ipaddress.ip_address(a).is_global and int(a.split(".")[0]) < 224]
    assert [a for a in found(text)["ip"] if "." in a] == [a for a in public if not a.startswith(("198.18.", "198.19."))]


@pytest.mark.parametrize(
    ("text", "kind", "spans"),
    [
        ("2a00:1450:4009:80b::200e, 2001:db8::1, fe80::1, std::vector, 12:30:45", "ip", ["2a00:1450:4009:80b::200e"]),
        ("pay 4111 1111 1111 1111 or 4111-1111-1111-1112 or 378282246310005.", "card", ["4111 1111 1111 1111", "378282246310005"]),
        ("call (212) 555-0123 or 212-555-0199 or +44 20 7946 0958.", "phone",
         ["(212) 555-0123", "212-555-0199", "+44 20 7946 0958"]),
        ("rows 212 555 0123 and 1-2-3 and 2024-10-11 12", "phone", []),
        ("key AKIAIOSFODNN7EXAMPLE here", "key", ["AKIAIOSFODNN7EXAMPLE"]),
        (f"ghp_{'a1B2' * 9} and ghp_short", "key", [f"ghp_{'a1B2' * 9}"]),
        ("-----BEGIN RSA PRIVATE KEY-----\nMIIC\n-----END RSA PRIVATE KEY-----\n", "key",
         ["-----BEGIN RSA PRIVATE KEY-----\nMIIC\n-----END RSA PRIVATE KEY-----"]),
        ("192.168.0.1 10.1.1.1 127.0.0.1 203.0.113.5 8.8.8.8", "ip", ["8.8.8.8"]),
        ("in brackets (8.8.8.8) and +9.9.9.9", "ip", ["8.8.8.8", "9.9.9.9"]),
    ],
)  # fmt: skip
def test_personal_data_is_found(text: str, kind: str, spans: list[str]) -> None:
    assert found(text)[kind] == spans


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=60) | TEXT)
def test_spans_are_disjoint_and_whole_characters(text: str) -> None:
    s = segments([text, text])
    _, spans = pii.find_pii(s)
    last = 0
    for d, start, end, _ in spans.tolist():
        assert s.offsets[d] <= start < end <= s.offsets[d + 1] and start >= last
        bytes(s.text[start:end]).decode()
        last = end
