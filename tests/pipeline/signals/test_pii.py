"""Personal data: what is found equals the patterns that define it."""

from __future__ import annotations

import ipaddress
import re

import pytest
from fox1.pipeline.signals import pii
from fox1.pipeline.signals.domain_names import TOP_LEVEL
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.signals.texts import TEXT, segments

EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+\-])(?!(?i:git|hg|svn)@)[A-Za-z0-9._%+\-]{1,64}@(?:[A-Za-z0-9](?:[A-Za-z0-9\-]{0,61}[A-Za-z0-9])?\.)+"
    rf"(?i:{'|'.join(sorted(TOP_LEVEL))})(?![A-Za-z0-9\-(])",
)
IPV4 = re.compile(
    r"(?<![A-Za-z0-9._\-])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
    r"(?![A-Za-z0-9_])(?!\.[A-Za-z0-9])"
)
WORDS = "address addresses addr client dns gateway host hosts inet ip ipaddress ips nameserver peer ping proxy server servers"
BEFORE = re.compile(rf"(?://|@|(?<![A-Za-z])(?i:{'|'.join(WORDS.split())})[^A-Za-z0-9\n\x80-\U0010ffff]{{1,4}})\Z")


def is_address(text: str, match: re.Match[str]) -> bool:
    a, *rest = numbers = list(map(int, match[0].split(".")))
    large = sum(number >= 100 for number in numbers)
    named = BEFORE.search(text[: match.start()]) or re.match("[:/][0-9]", text[match.end() :])
    return large >= (1 if a >= 20 else 2) or (a > 4 and {*rest} == {a}) or bool(named)


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
    st.lists(
        st.sampled_from(["a", "joe", "git", "@", "@", ".", "com", "png", "x-y", "-", " ", "(", "é", "9", "mail.org"]),
        max_size=14,
    )
)
def test_email_equals_its_pattern(parts: list[str]) -> None:
    text = "".join(parts)
    assert found(text)["email"] == EMAIL.findall(text)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "1",
                "8",
                "25",
                "255",
                "256",
                "192",
                "168",
                "10",
                "0",
                "01",
                ".",
                ".",
                ".",
                " ",
                "a",
                "ip ",
                "server: ",
                "//",
                ":",
            ]
        ),
        max_size=16,
    )
)
def test_ipv4_equals_its_pattern_and_ipaddress(parts: list[str]) -> None:
    text = "".join(parts)
    matches = [m[0] for m in IPV4.finditer(text) if is_address(text, m)]
    public = [a for a in matches if ipaddress.ip_address(a).is_global and int(a.split(".")[0]) < 224]
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
        ("http://4.6.85.28/, 1.2.3.4:80, ping 4.2.2.1, IP address: `13.7.15.9`, 4.2.2.0/24 and 18.7.110.131", "ip",
         ["4.6.85.28", "1.2.3.4", "4.2.2.1", "13.7.15.9", "4.2.2.0", "18.7.110.131"]),
        ("2a00::1 2606:4700::1111 2600:1f18:1:2:3:4:5:6", "ip", ["2a00::1", "2606:4700::1111", "2600:1f18:1:2:3:4:5:6"]),
        ("Joe.Doe+x@Example.CO.UK, (x@mail.museum) <a@163.com>", "email",
         ["Joe.Doe+x@Example.CO.UK", "x@mail.museum", "a@163.com"]),
        ("+1 (212) 555-0123 2024, +1.2125550199, +4915112345678, +33 1 42 68 53 00, +91-98765-43210 or +353 1 234 5678",
         "phone", ["+1 (212) 555-0123", "+1.2125550199", "+4915112345678", "+33 1 42 68 53 00", "+91-98765-43210",
                   "+353 1 234 5678"]),
        (f"sk-{'a1B2' * 12} and sk-proj-{'a1B2' * 12}_{'c3D4' * 4}", "key",
         [f"sk-{'a1B2' * 12}", f"sk-proj-{'a1B2' * 12}_{'c3D4' * 4}"]),
    ],
)  # fmt: skip
def test_personal_data_is_found(text: str, kind: str, spans: list[str]) -> None:
    assert found(text)[kind] == spans


@pytest.mark.parametrize(
    "text",
    [
        "url(img/logo@2x.png), icon@3x.jpg, style@2x.css, y = C@D.mean(), q@k.to(x), W@x.shape",
        "git clone git@github.com:acme/widgets.git or hg@code.example.org",
        "+3.14159265 +1.41421356 +48.85661400 +2.35222190 +2.718281828459 +45.12345678 +6.02214076",
        "@@ -1 +1 @@\n-20230414\n+20230415\n+1234567890\n+1700000000\n+2147483647\n+4294967296\n",
        "As in 2023::\n\n    a block, 2024::1 and 12:30::",
        "^1.0.0.0, V8 4.6.85.28 to 14.1.146.11, see section 8.1.2.2 and 19.4.2.2",
        "https://news.example.org/sk-hynix-2nd-semiconductor-plant-in-korea hf_model_with_many_words_of_2_kinds_x",
    ],
)
def test_what_looks_like_personal_data_is_kept(text: str) -> None:
    assert not any(found(text).values()), found(text)


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
