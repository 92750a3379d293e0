"""Block lists of domains, URLs and words, as datatrove reads them."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document
from datatrove.io import safely_create_file
from datatrove.pipeline.filters import url_filter as theirs
from datatrove.utils._import_utils import ASSETS_PATH
from huggingface_hub import cached_assets_path

from ...kernels.words_of_urls import BANNED, SUBWORD, UrlWords, contains, hash_of, hashes, listed, url_words
from .base_filter import BATCH, BatchedFilter, first_broken

_ARCHIVE = "url_filterblacklistsv0_3_0.tar.gz"
_HOSTS = 1 << 16
"""Hosts whose verdict is kept: documents of one site often follow each other."""


class URLFilter(BatchedFilter, theirs.URLFilter):
    """datatrove's `URLFilter` with its arguments, and `batch_size`: URLs judged at once.

    Lists are held as sorted 64-bit hashes, those of datatrove's package as one array for a process.
    """

    reasons = ("domain", "subdomain", "url", "hard_blacklisted", "soft_blacklisted", "blacklisted_subword")

    def __init__(self, *arguments: Any, batch_size: int = BATCH, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.batch_size = batch_size
        self._words: UrlWords | None = None
        self._domains: list[np.ndarray] = []
        self._urls: list[np.ndarray] = []
        self._hosts: dict[str, int] = {}

    def download_data(self) -> None:
        """Read the lists, those of datatrove's package once it has been unpacked."""
        if self._words is not None:
            return
        self._domains, self._urls = [hashes(self.block_listed_domains)], [hashes(self.block_listed_url)]
        banned, subwords, soft = self.banned_words, self.banned_subwords, self.soft_banned_words
        if self.use_integrated_lists:
            folder = cached_assets_path(library_name="datatrove", namespace="filters", subfolder="url_filter")

            def unpack() -> None:
                with tarfile.open(os.path.join(ASSETS_PATH, _ARCHIVE), "r:gz") as archive:
                    archive.extractall(folder)

            safely_create_file(os.path.join(folder, _ARCHIVE), unpack)
            for tables, name in ((self._domains, "domains"), (self._urls, "urls")):
                path = Path(folder, name)
                tables.append(listed(path, path.stat().st_size))
            banned = theirs.get_list(ASSETS_PATH, "banned_words.txt", banned)
            subwords = theirs.get_list(ASSETS_PATH, "banned_subwords.txt", subwords)
            soft = theirs.get_list(ASSETS_PATH, "soft_banned_words.txt", soft)
        self._words = UrlWords.of(banned, soft, subwords)

    def filter(self, document: Document) -> bool | tuple[bool, str]:
        return self.filter_batch([document])[0]

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        self.download_data()
        assert self._words is not None
        urls = [document.metadata.get("url") for document in batch]
        assert all(urls), "Document does not have url in its metadata"
        flags, soft = url_words(urls, self._words)
        hosts = np.array([self._host(url) for url in urls])
        found = first_broken(
            [
                hosts == 1,
                hosts == 2,
                np.array([any(contains(table, hash_of(url)) for table in self._urls) for url in urls]),
                (flags & BANNED) != 0,
                soft >= self.soft_word_threshold,
                (flags & SUBWORD) != 0,
            ]
        )
        return [(False, self.reasons[k - 1]) if k else True for k in found.tolist()]

    def _host(self, url: str) -> int:
        """1 if the registered domain of a URL is listed, 2 if its host is, else 0."""
        # All that tldextract reads: up to what ends the host.
        slashes = url.find("//")
        ends = [at for mark in "/?#" if (at := url.find(mark, slashes + 2 if slashes >= 0 else 0)) >= 0]
        host = url[: min(ends, default=len(url))]
        known = self._hosts.get(host)
        if known is None:
            parts = self.tldextractor(host)
            names = (parts.registered_domain, parts.fqdn)
            listed_ = [any(contains(table, hash_of(name)) for table in self._domains) for name in names]
            if len(self._hosts) == _HOSTS:
                self._hosts.clear()
            known = self._hosts[host] = 1 if listed_[0] else 2 if listed_[1] else 0
        return known
