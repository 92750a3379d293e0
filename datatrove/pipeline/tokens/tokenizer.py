"""datatrove's tokenizing step with fox1's encoder of SentencePiece models; the files are datatrove's."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.data import Document, DocumentsPipeline
from datatrove.pipeline.tokens import tokenizer as theirs
from datatrove.utils.batching import batched

from ....tokenize.encode import Encoder
from ....tokenize.encoder_cache import kept_encoder
from ....tokenize.spans import text_array
from ...preload import share


class DocumentTokenizer(theirs.DocumentTokenizer):
    """datatrove's `DocumentTokenizer` with its arguments; `tokenizer_name_or_path` may name a SentencePiece `.model`.

    Such a model is encoded by fox1, without a Python object for each token; any other tokenizer as by datatrove. Tokens, ends
    of documents, losses and shuffles are written as there. No document's text becomes a control piece, and without
    `eos_token` nothing is added to a document.

    Raises:
        ValueError: when it runs: there is no such model, or it has no piece `eos_token`.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        share("tokens", str(self._model or ""))

    @property
    def _model(self) -> Path | None:
        path = Path(self.tokenizer_name_or_path or "")
        return path if path.suffix == ".model" else None

    @cached_property
    def encoder(self) -> Encoder:
        assert self._model
        return kept_encoder(self._model)

    @cached_property
    def token_size(self) -> int:
        """Bytes of a token: 2 up to 65,536 pieces, else 4."""
        return (4 if self.encoder.vocab_size > 1 << 16 else 2) if self._model else super().token_size

    @cached_property
    def _eos(self) -> int | None:
        if not self.eos_token or not self._model:
            return None
        found = self.encoder.id_of(self.eos_token)
        if found is None:
            raise ValueError(f"eos_token: {self._model} has no piece {self.eos_token!r}")
        return found

    def write_unshuffled(self, data: DocumentsPipeline, filename: str) -> theirs.TokenizedFile:
        if not self._model:
            return super().write_unshuffled(data, filename)
        shuffles = self.shuffle_documents or self.shuffle_chunk_size
        written = theirs.TokenizedFile(
            self.local_working_dir if shuffles and self.local_working_dir else self.output_folder,
            filename,
            save_index=self.save_index or shuffles,
            save_loss_metadata=self.save_loss_metadata,
            upload_block_size=self.upload_block_size,
            tokenizer_name_or_path=self.tokenizer_name_or_path,
            save_final_metadata=self.save_final_metadata,
            token_size=self.token_size,
        )
        for batch in batched(data, self.batch_size):
            with self.track_time(unit="batch"):
                self._write(batch, written)
        written.close()
        return written

    def _write(self, batch: list[Document], written: theirs.TokenizedFile) -> None:
        encoded = self.encoder.encode(text_array(document.text for document in batch))
        lengths = np.diff(encoded.offsets)
        ids, losses = encoded.ids, None
        if self._eos is not None:
            ids = np.insert(ids, encoded.offsets[1:], self._eos)
            lengths = lengths + 1
        if self.save_loss_metadata:
            losses = np.ones(len(ids), np.bool_)
            ends = np.cumsum(lengths)
            kept = np.ones(len(ids), np.bool_)
            for k, document in enumerate(batch):
                if ranges := document.metadata.get("no_loss_ranges", None):
                    own = slice(int(ends[k] - lengths[k]), int(ends[k]))
                    text_ids = encoded.ids[encoded.offsets[k] : encoded.offsets[k + 1]]
                    kept[own], losses[own] = self._losses(document, text_ids, int(lengths[k]), ranges)
                    lengths[k] = int(np.count_nonzero(kept[own]))
            ids, losses = ids[kept], losses[kept]
        written.write_bytes(ids.astype(np.dtype(f"<u{self.token_size}")).tobytes(), np.cumsum(lengths).tolist())
        if losses is not None:
            written.write_loss_bytes(losses.tobytes())
        for length in lengths.tolist():
            self.stat_update("tokens", value=length)

    def _losses(self, document: Document, ids: np.ndarray, length: int, ranges: Any) -> tuple[np.ndarray, np.ndarray]:
        """(bool [length]: which tokens of a document are kept, and which count as a loss), as datatrove's `get_loss_values`.

        Args:
            ids: of its text.
            length: of all its tokens.
            ranges: (begin, end) in characters of what has no loss; what is without it to the end is dropped.
        """
        text = document.text.encode()
        bounds = np.array(self.encoder.byte_bounds(text, ids.tolist()))
        kept, losses = np.ones(length, np.bool_), np.ones(length, np.bool_)
        size = length
        for begin, end in ranges:
            first, last = (self._token_at(document.text, bounds, at) for at in (begin, end))
            losses[:size][first:last] = False
            if last is None or last >= length:
                kept[:size][first:] = False
                size = int(np.count_nonzero(kept))
        return kept, losses

    @staticmethod
    def _token_at(text: str, bounds: np.ndarray, character: int) -> int | None:
        """The token that holds a character of the text; None beyond its end."""
        if not 0 <= character < len(text):
            return None
        return int(np.searchsorted(bounds, len(text[:character].encode()), "right")) - 1
