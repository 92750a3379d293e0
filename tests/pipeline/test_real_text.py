"""Kernels against their references on real documents: runs where FOX1_TEST_DATA names a folder with some.

A part of the documents, chosen by hash, in every run; all of them with FOX1_ALL_DOCUMENTS=1 (about an hour).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np
import pytest
import xxhash
from fox1.pipeline.signals import language, minhash, pii
from fox1.pipeline.signals.counts import TEXT_COUNTS, text_counts
from fox1.pipeline.signals.segment import segment
from fox1.pipeline.sources.listing import list_sources
from fox1.pipeline.sources.quarantine import Quarantine
from fox1.pipeline.sources.rows import read_rows
from fox1.tokenize.spans import text_buffers

from tests.conftest import REAL, needs_real_text
from tests.pipeline.signals.test_minhash import shingles
from tests.pipeline.signals.test_pii import IPV4, addresses, emails
from tests.pipeline.signals.test_signals import reference

DATA = REAL / "corpora"
ALL = bool(os.environ.get("FOX1_ALL_DOCUMENTS"))
ONE_IN = 1 if ALL else 160

pytestmark = [pytest.mark.slow, needs_real_text]


@pytest.fixture(scope="module")
def batches() -> list[tuple[str, list[str]]]:
    return list(_documents())


def _documents() -> Iterator[tuple[str, list[str]]]:
    """Distinct documents, by file."""
    from fox1.recipes.load import load_recipe
    from fox1.recipes.settings import sources_of

    recipe, _ = load_recipe("mini", [], {"FOX1_DATA": str(DATA)})
    seen: set[int] = set()
    for file in list_sources(sources_of(recipe)):
        texts = []
        for batch in read_rows(file, Quarantine(file)):
            for text in batch.column("text").to_pylist():
                key = xxhash.xxh3_64_intdigest(text.encode())
                if key % ONE_IN == 0 and key not in seen and (ALL or len(text) < 50_000):
                    seen.add(key)
                    texts.append(text)
        yield file.name, texts


def test_counts_equal_the_reference_on_real_documents(batches: list[tuple[str, list[str]]]) -> None:
    import pyarrow as pa

    documents = 0
    for name, texts in batches:
        english = np.full(len(texts), language.load_model().languages.index("en"))
        found = text_counts(segment(*text_buffers(pa.array(texts, pa.large_string()))), english)
        for i, text in enumerate(texts):
            got = dict(zip(TEXT_COUNTS, found[i].tolist(), strict=True))
            expected = reference(text)
            assert {k: got[k] for k in expected} == expected, (name, text[:100])
            documents += 1
    print(f"{documents:,} documents")
    assert documents > 75


def test_shingles_equal_the_reference_on_real_documents(batches: list[tuple[str, list[str]]]) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    for name, texts in batches:
        text = pc.utf8_normalize(pa.array(texts, pa.large_string()), form="NFC")
        signed = minhash.sign(segment(*text_buffers(text)), minhash.MinHashSettings())
        expected = np.array([len(shingles(t)) for t in texts])
        assert (signed.n_shingles == expected).all(), name


def test_addresses_equal_their_patterns_on_real_documents(batches: list[tuple[str, list[str]]]) -> None:
    """Where nothing else was found before them, e-mail and IPv4 addresses are those of the patterns."""

    import pyarrow as pa

    for name, texts in batches:
        s = segment(*text_buffers(pa.array(texts, pa.large_string())))
        _, spans = pii.find_pii(s)
        mails: list[list[str]] = [[] for _ in texts]
        numbers: list[list[str]] = [[] for _ in texts]
        others: set[int] = set()
        for d, start, end, kind in spans.tolist():
            value = bytes(s.text[start:end]).decode()
            if kind == 0:
                mails[d].append(value)
            elif kind == 1 and "." in value:
                numbers[d].append(value)
            else:
                others.add(d)
        for d, text in enumerate(texts):
            if d in others:
                continue
            expected = emails(text)
            assert mails[d] == expected, (name, d)
            # An address within an e-mail is none.
            if not any(IPV4.search(mail) for mail in expected):
                assert numbers[d] == addresses(text), (name, d)


def test_ids_equal_sentencepiece_on_real_documents(batches: list[tuple[str, list[str]]]) -> None:
    """With the largest model there is; and the ids give the text back, but for U+2581, which a model cannot represent."""
    import pyarrow as pa
    from fox1.tokenize.encode import Encoder

    models = REAL / "tokenizer"
    if not (models / "gemma_shaped_256k.model").exists():
        pytest.skip("no model of 256,000 pieces here")
    reserved = ("<start_of_turn>", "<end_of_turn>")
    fast, slow = (Encoder(models / "gemma_shaped_256k.model", reserved, fast=f) for f in (True, False))
    assert fast.is_fast
    documents = 0
    for name, texts in batches:
        array = pa.array(texts, pa.large_string())
        found, expected = fast.encode(array), slow.encode(array)
        assert (found.ids == expected.ids).all() and (found.offsets == expected.offsets).all(), name
        for i, text in enumerate(texts):
            ids = found.ids[found.offsets[i] : found.offsets[i + 1]].tolist()
            assert slow._processor.decode(ids) == text.replace("\u2581", " "), (name, text[:100])
            documents += 1
    print(f"{documents:,} documents")
    assert documents > 75
