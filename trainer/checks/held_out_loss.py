"""The held-out loss: nats per token and bits per byte, by corpus and domain, beside the unigram entropy."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

from ...storage.inside import refuse_links
from ...storage.reading import read_bounded
from ...storage.wording import first_line, printable
from ...tokenize.shards import SetInfo
from ..data.order import PhaseData, open_set
from ..data.source_losses import CORPUS, DOMAIN, means, sums_by_source
from ..model.model import Fox1
from ..parallel import give_up_gathered
from ..settings import TrainSettings

ITEMS = "held_out/items"
"""The set of benchmark items."""


class Stopped(Exception):
    """An evaluation was asked to stop before its end."""


@dataclass(frozen=True)
class HeldOutLoss:
    """The held-out set of a run, and how much of it an evaluation reads."""

    data: PhaseData
    blocks: int
    piece_bytes: torch.Tensor | None
    """int64 [vocabulary]: UTF-8 bytes that each piece stands for; None where the run has no such file."""
    tokens: int = 0
    """Tokens of a micro-batch in training: here they are as many, so that nothing compiles for another number; 0: one block."""
    items: PhaseData | None = None
    """Benchmark items, of which the right options are measured, all of them."""

    def measure(self, model: Fox1, device: torch.device, stops: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """Losses of the model over blocks spread evenly over the set, and over benchmark items; the same on every rank.

        Args:
            stops: whether to stop; asked before each block, on every rank alike.

        Raises:
            Stopped: it said so; on every rank.
        """
        values = self._documents(self._sums(self.data, self.blocks, model, device, stops), self.data.info)
        if self.items is None or self.piece_bytes is None:
            return values
        found = self._sums(self.items, self.items.units, model, device, stops)
        by_item = means(found.bits.numpy(), self.items.info, CORPUS)
        macro = sum(by_item.values()) / max(1, len(by_item))
        return values | {"bits_per_byte_items": macro, "bits_per_byte_by_item": by_item}

    @torch.no_grad()
    def _sums(
        self, data: PhaseData, blocks: int, model: Fox1, device: torch.device, stops: Callable[[], bool]
    ) -> _Sums:
        info = data.info
        world, rank = dist.get_world_size(), dist.get_rank()
        units = min(data.units, blocks)
        total = torch.zeros(2, dtype=torch.float64)
        seen = torch.zeros(model.vocab_size, dtype=torch.int64)
        by_source = torch.zeros(2, len(info.sources), dtype=torch.float64)
        text_bytes = torch.zeros(len(info.sources), dtype=torch.float64)
        # Evenly over the set, which is in file order, corpus after corpus.
        places = np.arange(units) * data.units // units
        per_batch = max(1, self.tokens // data.unit_tokens)
        batches = -(-units // per_batch)
        # Every rank makes the same number of forward passes, which gather parameters together.
        for i in range(-(-batches // world)):
            if stops():
                give_up_gathered(model)
                raise Stopped
            index = i * world + rank
            chosen = places[min(index, batches - 1) * per_batch :][:per_batch]
            batch = data.micro_batch_of(chosen, self.tokens, device)
            _, losses = model(batch.tokens, batch.documents, batch.targets)
            if index >= batches:
                continue
            valid = batch.targets >= 0
            targets = batch.targets[valid].cpu()
            total += torch.tensor([float(losses.double().sum()), batch.valid], dtype=torch.float64)
            seen += torch.bincount(targets, minlength=len(seen))
            by_source += sums_by_source(losses, batch, len(info.sources)).cpu()
            if self.piece_bytes is not None:
                text_bytes.index_add_(0, batch.sources[valid].cpu(), self.piece_bytes[targets].double())
        give_up_gathered(model)
        for sums in (total, seen, by_source, text_bytes):
            dist.all_reduce(sums)
        return _Sums(total, seen, by_source, text_bytes)

    def _documents(self, found: _Sums, info: SetInfo) -> dict[str, Any]:
        """What is reported of documents."""
        total, seen, by_source = found.total, found.seen, found.by_source
        share = seen[seen > 0].double() / seen.sum()
        values: dict[str, Any] = {
            "loss": float(total[0] / total[1]),
            "unigram_entropy": float(-(share * share.log()).sum()),
            "targets": int(total[1]),
            "loss_by_corpus": means(by_source.numpy(), info, CORPUS),
            "loss_by_domain": means(by_source.numpy(), info, DOMAIN),
        }
        if float(found.text_bytes.sum()):
            bits = found.bits.numpy()
            values["bits_per_byte"] = float(bits[0].sum() / bits[1].sum())
            values["bits_per_byte_by_corpus"] = means(bits, info, CORPUS)
            values["bits_per_byte_by_domain"] = means(bits, info, DOMAIN)
            values |= _macro(bits, info)
        return values


@dataclass(frozen=True)
class _Sums:
    """What was summed over blocks of a set."""

    total: torch.Tensor
    """float64 [2]: losses in nats, and targets."""
    seen: torch.Tensor
    """int64 [vocabulary]: how often each piece was a target."""
    by_source: torch.Tensor
    """float64 [2, sources]: the same as `total`."""
    text_bytes: torch.Tensor
    """float64 [sources]: UTF-8 bytes of the targets; zero where nobody knows the pieces' bytes."""

    @property
    def bits(self) -> torch.Tensor:
        """float64 [2, sources]: bits, and bytes of text. Bits that a model needs for a byte of text are comparable between models
        of different tokenizers."""
        return torch.stack([self.by_source[0] / math.log(2), self.text_bytes])


def _macro(bits: np.ndarray, info: SetInfo) -> dict[str, Any]:
    """Mean bits per byte of the domains, since else the largest one would decide: of what a recipe set apart, if it did, and of
    each of its halves; of the whole set otherwise.

    Args:
        bits: float64 [2, sources]: bits, and bytes.
    """

    def mean_of(codes: Sequence[int]) -> float:
        own = np.zeros_like(bits)
        own[:, list(codes)] = bits[:, list(codes)]
        return float(np.mean(list(means(own, info, DOMAIN).values()) or [math.nan]))

    if not info.carved:
        return {"bits_per_byte_macro": mean_of(range(bits.shape[1]))}
    halves = {half: mean_of(codes) for half, codes in info.carved}
    every = [code for _, codes in info.carved for code in codes]
    return {"bits_per_byte_macro": mean_of(every), "bits_per_byte_by_half": halves}


def open_held_out(run: Path, settings: TrainSettings) -> HeldOutLoss | None:
    """The held-out set of a run; None where it has none."""
    if not (run / "held_out" / "fox1.json").exists():
        return None
    data = open_set(run, "held_out", settings.seed)
    if not data.units:
        return None
    sizes = run / "prepare" / "piece_bytes.npy"
    refuse_links(run, sizes, own=1)
    known = _piece_bytes(sizes, data.info.vocab_size) if sizes.exists() else None
    items = open_set(run, ITEMS, settings.seed) if (run / ITEMS / "fox1.json").exists() else None
    return HeldOutLoss(data, settings.evaluate_blocks, known, settings.micro_batch_tokens, items)


def _piece_bytes(path: Path, vocab_size: int) -> torch.Tensor:
    """Bytes that each piece stands for, int64 [V].

    Raises:
        ValueError: the file is damaged, or of another vocabulary.
    """
    try:
        found = np.load(io.BytesIO(read_bounded(path, 8 * vocab_size + 1024)), allow_pickle=False)
        if found.shape == (vocab_size,) and found.dtype.kind in "iu":
            return torch.from_numpy(found.astype(np.int64))
        why = f"it has not one number for each of {vocab_size:,} pieces"
    except (ValueError, EOFError, MemoryError) as error:
        why = printable(first_line(error))
    raise ValueError(f"{path} is damaged ({why}); run `fox1 curate` again to rebuild it")
