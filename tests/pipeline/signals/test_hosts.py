"""Hosts of URLs, and which lie below which."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from fox1.pipeline.filter.exclude import host_of
from fox1.pipeline.signals.hosts import entries_above, host_key, hosts

URLS = {
    "https://www.Example.ORG./a/b?c#d": "www.example.org",
    "http://user:pw@a.b.example.org:8080/": "a.b.example.org",
    "example.org/path//x": "example.org",
    "//example.org": "example.org",
    "/only/a/path": "",
    "": "",
    "http://[2001:DB8::1]:80/x": "[2001:db8::1]",
    "http://ex%41mple.org": "example.org",
    "http://bücher.de/": "bücher.de",
    "http://a%ff.org/": "a\ufffd.org",
}


def test_a_host_has_one_form() -> None:
    assert hosts(pa.array(list(URLS))).to_pylist() == list(URLS.values())
    assert hosts(pa.array([], pa.string())).to_pylist() == []


def test_a_host_lies_below_those_it_ends_with() -> None:
    keys = np.sort(np.array([host_key(h) for h in ("example.org", "b.org", "[::1]", "de")], np.uint64))
    below = {
        "example.org": True,
        "www.example.org": True,
        "a.www.example.org": True,
        "notexample.org": False,
        "example.org.com": False,
        "org": False,
        "[::1]": True,
        "bücher.de": True,
        "": False,
    }
    found = entries_above(pa.array(list(below)), keys) >= 0
    assert dict(zip(below, found.tolist(), strict=True)) == below
    # The nearest one is named.
    two = np.sort(np.array([host_key("example.org"), host_key("a.example.org")], np.uint64))
    assert two[entries_above(pa.array(["x.a.example.org"]), two)[0]] == host_key("a.example.org")


def test_an_entry_is_a_host_and_nothing_more() -> None:
    assert host_of("*.Example.org") == host_of("example.org.") == "example.org"
    for bad in ("", "https://example.org/x", "example.org/x", "a@b.org", "example.org:80"):
        with pytest.raises(ValueError, match="is no host; write it alone"):
            host_of(bad)
