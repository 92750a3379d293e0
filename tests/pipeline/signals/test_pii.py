"""Personal data: what is found equals the patterns that define it."""

from __future__ import annotations

import ipaddress
import re
import unicodedata

import pytest
from fox1.pipeline.signals import pii
from fox1.pipeline.signals.domain_names import TOP_LEVEL, TOP_LEVEL_OF_SCRIPTS
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.pipeline.signals.texts import TEXT, alone, is_invisible, segments

ACCOUNTS = set("anoncvs anonymous aur bzr cvs ec2-user forgejo git gitea gitlab gogs hg svn".split())
DOMAINS = {*TOP_LEVEL, *TOP_LEVEL_OF_SCRIPTS}


def lower(text: str) -> str:
    return re.sub("[A-Z]", lambda m: m[0].lower(), text)


def is_letter(char: str) -> bool:
    """Of another script, with spaces between words."""
    return char > "\x7f" and unicodedata.category(char)[0] in "LM" and not alone(char)


def local_start(text: str, at: int) -> int:
    if text[at - 1 : at] == '"':
        quoted = re.search(r'(?<![A-Za-z0-9])"[^"\n]+"\Z', text[:at])
        return quoted.start() if quoted else at
    start = at
    while start and (
        re.match(r"[A-Za-z0-9._%+\-]", text[start - 1])
        or (start < at and re.fullmatch(r"[A-Za-z0-9]'[A-Za-z0-9]", text[max(start - 2, 0) : start + 1]))
        or is_invisible(text[start - 1])
        or is_letter(text[start - 1])
    ):
        start -= 1
    return start


def domain_end(text: str, i: int) -> int:
    best, labels = -1, 0
    while True:
        first, label = i, ""
        while i < len(text):
            char = text[i]
            is_top = labels > 0 and lower(label) in DOMAINS
            if char > "\x7f" and not is_invisible(char):
                if not is_letter(char) and unicodedata.category(char) != "Nd":
                    break
                best = i if is_top and label.isascii() else best
            elif char == "-":
                best = i if is_top and not re.match("-[A-Za-z0-9]", text[i:]) else best
            elif char <= "\x7f" and not char.isalnum():
                break
            label += "" if is_invisible(char) else char
            i += 1
        if not label or len(label.encode()) > 63 or label[-1] == "-" or text[first] == "-":
            return best
        labels += 1
        if labels == 1 and re.fullmatch("[0-9]x", label) and text[first : first + 2] == label:
            return -1
        if labels > 1 and lower(label) in DOMAINS and text[i : i + 1] != "(":
            best = i
        if text[i : i + 1] != ".":
            return best
        i += 1


def emails(text: str) -> list[str]:
    out, free = [], 0
    for m in re.finditer("@", text):
        start, end = local_start(text, m.start()), domain_end(text, m.end())
        local = text[start : m.start()]
        if end < 0 or start < free or not 1 <= len(local.encode()) <= 64 or lower(local) in ACCOUNTS:
            continue
        if not re.match(r":(?:~|(?![0-9]+/)[A-Za-z0-9_.-]*/)", text[end:]):
            out.append(text[start:end])
            free = end
    return out


IPV4 = re.compile(
    r"(?<![A-Za-z0-9._])(?:(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)\.){3}(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
    r"(?![A-Za-z0-9_])(?!\.[A-Za-z0-9])"
)
WORDS = "address addresses addr client dns gateway host hosts inet ip ipaddress ips nameserver peer ping proxy server servers"
BEFORE = re.compile(rf"(?://|@|(?<![A-Za-z])(?i:{'|'.join(WORDS.split())})[^A-Za-z0-9\n\x80-\U0010ffff]{{1,4}})\Z")


VERSIONS = (
    "annex appendix article assemblyversion build chapter chapters chrome clause edition fig figure fileversion firefox kernel oid "
    "opera paragraph productversion release releases rev revision rv sec section sections v ver version versions"
)
AFTER = re.compile(rf"(?<![A-Za-z])(?i:{'|'.join(VERSIONS.split())})[^A-Za-z0-9\n\x80-\U0010ffff]{{1,4}}\Z")


def is_address(text: str, match: re.Match[str]) -> bool:
    a, *rest = numbers = list(map(int, match[0].split(".")))
    large = sum(number >= 100 for number in numbers)
    if BEFORE.search(text[: match.start()]) or re.match("[:/][0-9]", text[match.end() :]):
        return True
    enough = large >= (1 if a >= 20 else 2) or ((a in (8, 9) or a >= 20) and {*rest} == {a})
    return enough and not AFTER.search(text[: match.start()])


def is_public(address: str) -> bool:
    return (
        ipaddress.ip_address(address).is_global
        and int(address.split(".")[0]) < 224
        and address[:7] not in ("198.18.", "198.19.")
    )


def addresses(text: str) -> list[str]:
    out, free = [], 0
    for m in IPV4.finditer(text):
        in_range = text[: m.start()].endswith("-") and not 0 < free == m.start() - 1
        if not in_range and is_public(m[0]) and is_address(text, m):
            out.append(m[0])
            free = m.end()
    return out


def found(text: str) -> dict[str, list[str]]:
    # Documents after it: its bytes are looked at in blocks, those of the last one by themselves.
    s = segments([text, "." * 64])
    counts, spans = pii.find_pii(s)
    alone_counts, alone_spans = pii.find_pii(segments([text]))
    assert counts[:1].tolist() == alone_counts.tolist() and spans.tolist() == alone_spans.tolist()
    out: dict[str, list[str]] = {kind: [] for kind in pii.KINDS}
    for _, start, end, kind in spans.tolist():
        out[pii.KINDS[kind]].append(bytes(s.text[start:end]).decode())
    assert counts[0].tolist() == [len(v) for v in out.values()]
    return out


@settings(max_examples=1000, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [
                "a",
                "joe",
                "git",
                "@",
                "@",
                ".",
                ".",
                "com",
                "png",
                "x-y",
                "-",
                " ",
                "(",
                "é",
                "9",
                "ab.org",
                "'",
                '"',
                ":",
                "/",
            ]
            + ["рф", "漢", "\u00ad", "2x", "COM", "~"]
        ),
        max_size=10,
    )
)
def test_email_equals_its_definition(parts: list[str]) -> None:
    text = "".join(parts)
    assert found(text)["email"] == emails(text)


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
                "version ",
                "-",
                "//",
                ":",
            ]
        ),
        max_size=16,
    )
)
def test_ipv4_equals_its_definition(parts: list[str]) -> None:
    text = "".join(parts)
    assert [a for a in found(text)["ip"] if "." in a] == addresses(text)


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
        ("joe.o'neil@x.org, 'ann@x.org', \"two words\"@x.org, jos\u00e9@x.org, joe@m\u00fcller.de, joe@xn--mller-kva.de",
         "email", ["joe.o'neil@x.org", "ann@x.org", '"two words"@x.org', "jos\u00e9@x.org", "joe@m\u00fcller.de",
                   "joe@xn--mller-kva.de"]),
        ("\u8054\u7cfbjoe@x.org\u6211\u4eec, \u0438\u043c\u044f@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444 a@x.xn--p1ai", "email",
         ["joe@x.org", "\u0438\u043c\u044f@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444", "a@x.xn--p1ai"]),
        ("joe@x.org--he said, joe@x.org- and joe@x.org.Then joe+tag.1@x.org's, joe@163.com joe@x.com:later //u:pw@x.com:80/",
         "email", ["joe@x.org", "joe@x.org", "joe@x.org", "joe+tag.1@x.org", "joe@163.com", "joe@x.com", "pw@x.com"]),
        ("jo\u00ade@exam\u200bple.c\u00adom", "email", ["jo\u00ade@exam\u200bple.c\u00adom"]),
        ("from 52.1.2.103-52.1.2.200, Received: (from 81.2.69.142) 99.99.99.99", "ip",
         ["52.1.2.103", "52.1.2.200", "81.2.69.142", "99.99.99.99"]),
        ("ping 2606:4700::1111: unreachable, [2606:4700::1111]:80 2606:4700::1111/48 x=2600:0:0:0:0:0:0:100", "ip",
         ["2606:4700::1111"] * 3 + ["2600:0:0:0:0:0:0:100"]),
        (f"hf_{'aBcdEfGhij' * 3}kLmN and hf_{'wordsofamodel' * 2}abcdefgh", "key", [f"hf_{'aBcdEfGhij' * 3}kLmN"]),
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
        "icon@2x.zip hero@3x.ai, aur@aur.archlinux.org:x.git, org-12@github.com:a/b.git anonymous@ftp.gnu.org",
        "deploy@web.example.com:/srv/www deploy@web.example.com:~/www",
        "Firefox 115.0.0.1, version: 192.1.2.3, (build 20.100.3.4), Section 25.1.100.2, 5.5.5.5 13.13.13.13",
        'AssemblyVersion("22.0.150.0") rv:109.0.1.2 OID 1.100.200.3',
        "2023:04:15:10:20:30:40:50 2024:1:2:3:4:5:6:7 2001::1 std::2bad::x",
        "+20230415 2023 and +20240229 1200",
        "IBAN DE89 3704 0044 0532 0130 00, FR76 3000 6000 0112 3456 7890 189",
        "sk-telecommunications5g-rollout-in-south-korea-2024 sk-internationalization2024-of-chips",
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


def test_what_is_found_does_not_depend_on_where_blocks_of_bytes_begin() -> None:
    kinds = "joe@example.com, 8.8.8.8; 2a00:1450:4001::200e, 4111 1111 1111 1111 (415) 555-2671 +49 170 1234567. "
    key = "ghp_" + "aB3dE5" * 6
    for pad in range(130):
        text = f"{'x' * pad} {kinds}{key} 7.1 {'9' * (pad % 70)} 415-555-2671"
        assert [found(text)[kind] for kind in pii.KINDS] == [
            ["joe@example.com"],
            ["8.8.8.8", "2a00:1450:4001::200e"],
            ["4111 1111 1111 1111"],
            ["(415) 555-2671", "+49 170 1234567", "415-555-2671"],
            [key],
        ]
