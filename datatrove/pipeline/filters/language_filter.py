"""Language by fox1's model, with the arguments of datatrove's filter."""

from __future__ import annotations

from datatrove.data import Document
from datatrove.pipeline.writers.disk_base import DiskWriter

from ....pipeline.signals.language import UNDETERMINED, identify, load_model
from ...kernels.batch import Texts
from .base_filter import BATCH, BatchedFilter


class LanguageFilter(BatchedFilter):
    """Keeps documents by language, as datatrove's `LanguageFilter`, but by the model of fox1's signals.

    That model comes with the package (97 languages by their ISO 639-1 codes, read from parts of a text) and names one
    language of a document with its confidence. datatrove downloads fastText's models, whose scores differ: what passes a
    threshold there need not pass it here. `languages` are those of which the named one must be; datatrove keeps a document
    if any of them passes the threshold, which below one half can be another.

    Args:
        languages: codes to keep; None: any.
        language_threshold: least confidence of a document that is kept.
        backend: "fox1".
        label_only: only note language and confidence, and drop nothing.

    Raises:
        ValueError: another backend, or scores of other languages, are asked for.
    """

    name = "🌍 Language ID"

    def __init__(
        self,
        languages: list[str] | str | None = None,
        language_threshold: float = 0.65,
        exclusion_writer: DiskWriter | None = None,
        backend: str = "fox1",
        label_only: bool = False,
        keep_top_pairs_threshold: float = -1,
        batch_size: int = BATCH,
    ) -> None:
        super().__init__(exclusion_writer, batch_size)
        if backend != "fox1":
            raise ValueError(f'backend: this filter has "fox1"; for {backend!r} use datatrove.pipeline.filters')
        if keep_top_pairs_threshold != -1:
            raise ValueError("keep_top_pairs_threshold: fox1's model names one language of a document; leave it at -1")
        self.languages = [languages] if isinstance(languages, str) else languages
        self.language_threshold = language_threshold
        self.backend = backend
        self.label_only = label_only
        self.keep_top_pairs_threshold = keep_top_pairs_threshold

    def filter(self, document: Document) -> bool:
        return bool(self._judged([document], [document.text.encode("utf-8", "replace").decode()])[0])

    def filter_batch(self, batch: list[Document]) -> list[bool | tuple[bool, str]]:
        try:
            return self._judged(batch, [document.text for document in batch])
        except UnicodeEncodeError:
            return [self.filter(document) for document in batch]

    def _judged(self, batch: list[Document], strings: list[str]) -> list[bool | tuple[bool, str]]:
        texts = Texts.of(strings)
        columns, confidence = identify(texts.data, texts.offsets)
        names = (*load_model().languages, UNDETERMINED)
        results: list[bool | tuple[bool, str]] = []
        for document, column, score in zip(batch, columns.tolist(), (confidence / 10_000).tolist(), strict=True):
            language = names[column]
            document.metadata["language"], document.metadata["language_score"] = language, score
            asked = self.languages is None or language in self.languages
            results.append(self.label_only or (asked and score > self.language_threshold))
        return results
