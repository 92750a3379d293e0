"""A Fox-1 as a model of lm-eval, the harness that the published scores come from.

A context is read once for all its continuations, and what two contexts share at their beginning (few-shot examples) stays
in the key-value cache from one to the next.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
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


def windows(context: list[int], continuation: list[int], room: int) -> Iterator[tuple[list[int], list[int]]]:
    """A continuation in parts that a model of `room` positions scores, each with what it sees before them, as lm-eval cuts them.

    The model reads all but the last token, so context and part together may be one longer than its positions; the end of a
    context that is too long is kept.

    Args:
        context: at least one token.
    """
    whole = context + continuation
    for begin in range(len(context), len(whole), room):
        end = min(begin + room, len(whole))
        yield whole[max(0, end - room - 1) : begin], whole[begin:end]


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
        items = [
            (context, part, number)
            for number, (_, ids, more) in enumerate(requests)
            for context, part in windows(ids, more, self._room)
        ]
        items.sort(key=lambda item: item[0])
        groups = [(ids, list(group)) for ids, group in groupby(items, key=lambda item: item[0])]
        device = self._model.model.embedding.device
        # While continuations are scored, they lie in the cache behind the context.
        behind = (sum(len(more) for _, more, _ in group) for _, group in groups)
        cache = Cache(self._model.model, self._room + max(behind, default=0))
        cached: list[int] = []
        found: list[tuple[float, bool]] = [(0.0, True)] * len(requests)
        for ids, group in self._track(groups, "scoring"):
            shared = min(_common_prefix(cached, ids), len(ids) - 1)
            cache.length, cached = shared, ids
            scores = score(
                self._model.model, torch.tensor(ids[shared:], device=device), [more for _, more, _ in group], cache
            )
            for (_, _, number), (value, greedy) in zip(group, scores, strict=True):
                found[number] = (found[number][0] + value, found[number][1] and greedy)
        return found

    def loglikelihood_rolling(self, requests: list[Instance], disable_tqdm: bool = False) -> list[float]:
        """Log probability of whole texts, each token given as many before it as the model takes."""
        texts = [self.tok_encode(request.args[0], add_special_tokens=False) for request in requests]
        scored = self._loglikelihood_tokens([(("", ""), [self.prefix_token_id], ids) for ids in texts])
        return [value for value, _ in scored]

    def generate_until(self, requests: list[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy continuations until one of the stop texts."""
        made = []
        for request in self._track(requests, "generating"):
            context, options = request.args
            until = options.get("until", [])
            # One position at least is left to the context.
            most = min(int(options.get("max_gen_toks", 256)), self._room - 1)
            ids = self.tok_encode(context)[-(self._room - most) :] or [self.prefix_token_id]
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
