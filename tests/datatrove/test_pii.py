"""Addresses are replaced where datatrove's formatter replaces them, by the same replacements."""

from __future__ import annotations

from typing import Any

from datatrove.data import Document
from datatrove.pipeline.formatters import PIIFormatter as Theirs
from fox1.datatrove.pipeline.formatters import PIIFormatter
from hypothesis import given, settings
from hypothesis import strategies as st

PARTS = [
    *"a b.c jo @ @@ . .. - _ [ ] : é 北 8.8.8.8 1.2.3.4.5.6.7.8.9 256.1.1.1 10.0.0.1 93.184.216.34 012.1.1.1 1.2.3".split(),
    "jo@example.net", "a.b+c@x-y.co.uk", "é.jo@example.net", "x@[1.2.3.4]", "x@[a:b]", "x@8.8.8.8", "a@b", "@b.c", "(jo@x.y)",
    " ", " ", "\n", "=", "/", "'", "-jo@x.de-", "x.@y.z", "..x@y.z", "\U0001f600",
]  # fmt: skip
STRINGS = st.lists(st.lists(st.sampled_from(PARTS), max_size=25).map("".join) | st.just("\ud800 jo@x.de"), max_size=6)


def formatted(step: Any, strings: list[str]) -> tuple[list[str], dict[str, Any]]:
    documents = [Document(text, str(k)) for k, text in enumerate(strings)]
    return [d.text for d in step.run(iter(documents))], step.stats.stats.to_dict()


@given(strings=STRINGS, emails=st.booleans(), ips=st.booleans(), public=st.booleans())
@settings(max_examples=300, deadline=None)
def test_a_formatter_replaces_what_datatroves_replaces(
    strings: list[str], emails: bool, ips: bool, public: bool
) -> None:
    arguments = {
        "remove_emails": emails,
        "remove_ips": ips,
        "only_remove_public_ips": public,
        "email_replacement": ("one@example.com", "8.8.4.4@example.org", "three"),
    }
    assert formatted(PIIFormatter(**arguments, batch_size=2), strings) == formatted(Theirs(**arguments), strings)


def test_replacements_take_turns_over_documents() -> None:
    strings = ["jo@here.net and bo@here.net", "none", "é co@here.net at 93.184.216.34"]
    found, stats = formatted(PIIFormatter(email_replacement=("A", "B"), ip_replacement="IP"), strings)
    assert found == ["A and B", "none", "é A at IP"] and stats == {"total": 3}
