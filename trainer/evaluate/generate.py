"""Generates text and scores continuations, with a key-value cache."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.model import Block, Fox1, rope_tables, rotate


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen."""

    temperature: float = 0.0
    """0: always the likeliest token."""
    top_p: float = 1.0
    """Sample only among the likeliest tokens that together have this probability."""
    seed: int = 0


class Cache:
    """Keys and values of every layer, with room for `size` tokens."""

    def __init__(self, model: Fox1, size: int) -> None:
        s, like = model.settings, model.embedding
        shape = (s.layers, s.kv_heads, size, s.head_dim)
        self.keys = torch.zeros(shape, dtype=like.dtype, device=like.device)
        self.values = torch.zeros_like(self.keys)
        self.length = 0


def _block(
    block: Block, layer: int, x_TC: Tensor, cos: Tensor, sin: Tensor, cache: Cache, mask: Tensor | None
) -> Tensor:
    """One block over new tokens, which see the cached ones, and each other as `mask` says (None: causally)."""
    a = block.attention
    q, k, v = a.qkv(block.attention_norm(x_TC)).split(a.sizes, dim=-1)
    q_TND = rotate(q.unflatten(-1, (a.heads, a.head_dim)), cos, sin)
    k_TKD = rotate(k.unflatten(-1, (a.kv_heads, a.head_dim)), cos, sin)
    begin, end = cache.length, cache.length + len(x_TC)
    cache.keys[layer, :, begin:end] = k_TKD.transpose(0, 1)
    cache.values[layer, :, begin:end] = v.unflatten(-1, (a.kv_heads, a.head_dim)).transpose(0, 1)
    keys, values = cache.keys[layer, :, :end], cache.values[layer, :, :end]
    # Without cached tokens the kernel makes the causal mask itself; a single token sees everything.
    causal = mask is None and begin == 0
    if mask is None and begin and len(x_TC) > 1:
        mask = torch.ones(len(x_TC), end, dtype=torch.bool, device=x_TC.device).tril(begin)
    out_NTD = F.scaled_dot_product_attention(
        q_TND.transpose(0, 1)[None], keys[None], values[None], attn_mask=mask, is_causal=causal, enable_gqa=True
    )[0]
    x_TC = x_TC + a.out(out_NTD.transpose(0, 1).flatten(-2))
    return x_TC + block.mlp(block.mlp_norm(x_TC))


def _hidden(
    model: Fox1, tokens: Tensor, cache: Cache, positions: Tensor | None = None, mask: Tensor | None = None
) -> Tensor:
    """Hidden states [T, C] of new tokens (int64 [T]) before the final norm; the tokens are added to the cache."""
    if positions is None:
        positions = torch.arange(cache.length, cache.length + len(tokens), device=tokens.device)
    cos, sin = rope_tables(positions, model.settings.head_dim, model.settings.rope_theta)
    x_TC = F.embedding(tokens, model.embedding)
    for layer, block in enumerate(model.blocks):
        assert isinstance(block, Block)
        x_TC = _block(block, layer, x_TC, cos, sin, cache, mask)
    cache.length += len(tokens)
    return x_TC


@torch.no_grad()
def next_logits(model: Fox1, tokens: Tensor, cache: Cache) -> Tensor:
    """Logits [V] after the cached tokens and `tokens` (int64 [T]), which are added to the cache."""
    x_TC = _hidden(model, tokens, cache)
    return F.linear(model.norm(x_TC[-1:]), model.embedding)[0].float()


@torch.no_grad()
def score(model: Fox1, context: Tensor, continuations: list[list[int]], cache: Cache) -> list[tuple[float, bool]]:
    """(log probability, whether greedy decoding gives it) of each continuation of one context.

    The context is read once, and all its continuations in one pass: each sees the context and itself.

    Args:
        context: int64 [T], T >= 1: tokens after the cached ones; they stay in the cache, the continuations do not.
        continuations: lists of ids, none empty.
    """
    log_first = next_logits(model, context, cache).log_softmax(-1)
    rests = [c[:-1] for c in continuations]
    sizes = [len(r) for r in rests]
    total, held = sum(sizes), cache.length
    log_rest = log_first.new_empty(0, len(log_first))
    if total:
        device = context.device
        owner = torch.repeat_interleave(torch.arange(len(rests)), torch.tensor(sizes)).to(device)
        places = torch.cat([torch.arange(n) for n in sizes]).to(device)
        among = (owner[:, None] == owner[None, :]) & (places[:, None] >= places[None, :])
        mask = torch.cat([torch.ones(total, held, dtype=torch.bool, device=device), among], dim=1)
        tokens = torch.tensor([i for r in rests for i in r], device=device)
        x_TC = _hidden(model, tokens, cache, held + places, mask)
        cache.length = held
        log_rest = F.linear(model.norm(x_TC), model.embedding).float().log_softmax(-1)
    found, begin = [], 0
    for c, size in zip(continuations, sizes, strict=True):
        logs = torch.cat([log_first[None], log_rest[begin : begin + size]])
        wanted = torch.tensor(c, device=logs.device)
        each = logs.gather(1, wanted[:, None])
        found.append((float(each.sum()), bool((logs.argmax(-1) == wanted).all())))
        begin += size
    return found


def generate(
    model: Fox1, prompt: list[int], max_tokens: int, ends: Collection[int] = (), sampling: Sampling | None = None
) -> Iterator[int]:
    """Ids that follow a prompt, one by one: at most `max_tokens`, and up to one of `ends`, which is left out.

    Raises:
        ValueError: the prompt is empty, or leaves no position of the model free.
    """
    sampling = sampling or Sampling()
    device, room = model.embedding.device, model.settings.max_positions
    if not prompt or len(prompt) >= room:
        raise ValueError(f"the prompt has {len(prompt)} tokens; the model takes 1 to {room - 1}")
    max_tokens = min(max_tokens, room - len(prompt))
    cache = Cache(model, len(prompt) + max_tokens)
    generator = torch.Generator(device=device).manual_seed(sampling.seed)
    tokens = torch.tensor(prompt, device=device)
    for _ in range(max_tokens):
        logits = next_logits(model, tokens, cache)
        token = _choose(logits, sampling, generator)
        if token in ends:
            return
        yield token
        tokens = torch.tensor([token], device=device)


def _choose(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    if sampling.temperature <= 0:
        return int(logits.argmax())
    probabilities = torch.softmax(logits / sampling.temperature, dim=-1)
    if sampling.top_p < 1:
        ordered, places = probabilities.sort(descending=True)
        # A token is left out once the likelier ones before it have the share.
        ordered[ordered.cumsum(0) - ordered >= sampling.top_p] = 0.0
        return int(places[torch.multinomial(ordered, 1, generator=generator)])
    return int(torch.multinomial(probabilities, 1, generator=generator))
