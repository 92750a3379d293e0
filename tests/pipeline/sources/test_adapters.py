"""Metadata of a row, in the forms that corpora have it in."""

from __future__ import annotations

import warnings

import msgspec
import pytest
from fox1.pipeline.sources.adapter import as_meta


class Meta(msgspec.Struct):
    name: str = ""


@pytest.mark.parametrize(
    ("value", "name"),
    [
        (Meta("a"), "a"),
        ('{"name": "a"}', "a"),
        ("{'name': 'a'}", "a"),
        (r"{'name': 'a\d'}", "a\\d"),
        ("{'name': 1 is 1}", ""),
        ("__import__('os')", ""),
        (None, ""),
    ],
)
def test_metadata_is_an_object_or_its_json_or_its_repr(value: Meta | str | None, name: str) -> None:
    with warnings.catch_warnings():
        # Python would warn of the escape, on the terminal of whoever runs fox1.
        warnings.simplefilter("error")
        assert as_meta(value, Meta).name == name
