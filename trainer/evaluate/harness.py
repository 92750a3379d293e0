"""A Fox-1 as a model of lm-eval, the harness that the published scores come from.

A context is read once for all its continuations, and what two contexts share at their beginning (few-shot examples) stays
in the key-value cache from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any

import pyarrow as pa
import torch
from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM

from .generate import Cache, generate, score
from .text_model import TextModel

Track = Callable[[Sequence[Any], str], Iterable[Any]]
"""Passes items on, one by one, and shows how far what is named has come."""


def untracked(items: Sequence[Any], what: str) -> Iterable[Any]:
    """A `Track` that shows nothing."""
    return items


def _common_prefix(a: list[int], b: list[int]) -> int:
    """Length of the common beginning of two lists of ids."""
    count = 0
    for x, y in zip(a, b, strict=False):
        if x != y:
            break
        count += 1
    return count


class HarnessModel(TemplateLM):
    """A model and its tokenizer as lm-eval sees them; texts begin with bos if they did in training."""

    def __init__(self, model: TextModel, track: Track = untracked) -> None:
        super().__init__()
        self._model, self._track = model, track
        self._room = model.model.settings.max_positions

    @property
    def eot_token_id(self) -> int:
        return self._model.ids.eos

    @property
    def prefix_token_id(self) -> int:
        return self._model.ids.prefix

    def tok_encode(self, string: str, add_special_tokens: bool | None = None, **kwargs: Any) -> list[int]:
        ids = self._model.encoder.encode(pa.array([string], pa.large_string())).ids.tolist()
        return ids if add_special_tokens is False else [*self._model.ids.opening, *ids]

    def loglikelihood(self, requests: list[Instance], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """(log probability, whether greedy) of each continuation; see `TemplateLM`. Only our own bar is shown."""
        return super().loglikelihood(requests, disable_tqdm=True)

    def _loglikelihood_tokens(
        self, requests: list[tuple[tuple[str, str], list[int], list[int]]], **kwargs: Any
    ) -> list[tuple[float, bool]]:
        # Of a context that is too long the end is kept, as lm-eval's own models do.
        items = [
            (ids[max(0, len(ids) + len(more) - self._room) :], more, number)
            for number, (_, ids, more) in enumerate(requests)
        ]
        items.sort(key=lambda item: item[0])
        device = self._model.model.embedding.device
        # While continuations are scored, they lie in the cache behind the context.
        cache = Cache(self._model.model, self._room + max((len(m) for _, m, _ in items), default=0) * 64)
        cached: list[int] = []
        found: list[tuple[float, bool]] = [(0.0, False)] * len(items)
        groups = [(ids, list(group)) for ids, group in groupby(items, key=lambda item: item[0])]
        for ids, group in self._track(groups, "scoring"):
            shared = min(_common_prefix(cached, ids), len(ids) - 1)
            cache.length, cached = shared, ids
            scores = score(
                self._model.model, torch.tensor(ids[shared:], device=device), [more for _, more, _ in group], cache
            )
            for (_, _, number), value in zip(group, scores, strict=True):
                found[number] = value
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log probability of whole texts, in windows of the model's positions that do not overlap."""
        found = []
        for request in requests:
            ids = self.tok_encode(request.args[0])[1:]
            windows = [ids[i : i + self._room - 1] for i in range(0, len(ids), self._room - 1)]
            heads = [self.prefix_token_id, *(w[-1] for w in windows[:-1])]
            scored = self._loglikelihood_tokens([(("", ""), [h], w) for h, w in zip(heads, windows, strict=True)])
            found.append(sum(value for value, _ in scored))
        return found

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations until one of the stop texts."""
        made = []
        for request in self._track(requests, "generating"):
            context, options = request.args
            until = options.get("until", [])
            most = int(options.get("max_gen_toks", 256))
            ids = self.tok_encode(context)[-(self._room - most) :]
            text, pieces = "", []
            for token in generate(self._model.model, ids, most, self._model.ends):
                pieces.append(token)
                text = self._model.encoder.decode(pieces).decode(errors="replace")
                if any(stop in text for stop in until):
                    break
            for stop in until:
                text = text.split(stop)[0]
            made.append(text)
        return made
