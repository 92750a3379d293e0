"""Attention within documents: one interface, and an implementation per device.

On CUDA, `varlen_attn` (FlashAttention over cumulative lengths). On the CPU, causal SDPA per document: no mask is built,
and no work is done across documents. Tests compare both with a dense mask.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.varlen import varlen_attn

from ...storage.wording import first_line


@dataclass(frozen=True)
class Documents:
    """Where the documents of a flat stream begin and end. Padding is a document of its own, with ignored targets."""

    positions: Tensor
    """int64 [T]: each token's place in its document segment."""
    ends: tuple[int, ...]
    """For the CPU: the exclusive end of every segment; empty on CUDA."""
    cumulative: Tensor | None
    """For CUDA: int32 [segments + 1], 0 and the ends; None on the CPU."""
    longest: int
    """An upper bound of the segments' lengths: on CUDA, blocks of threads are launched for as many tokens of each."""


class Stream:
    """What every block gets of a flat stream besides its tokens.

    No dataclass: FSDP would look into it and cast what is fp32, as it does with a block's other inputs.

    Args:
        cos: fp32 [T, D / 2]; see `rope_tables`.
        sin: fp32 [T, D / 2].
    """

    def __init__(self, documents: Documents, cos: Tensor, sin: Tensor) -> None:
        self.cos, self.sin = cos, sin
        self.ends, self.cumulative = documents.ends, documents.cumulative
        self.bound = torch.empty(documents.longest, 0, dtype=torch.int8, device=cos.device)
        """int8 [longest, 0], of which only the shape counts: to a compiled block a size may vary from its first call on, while
        an integer is a constant."""
        if self.cumulative is not None:
            for varies in (self.cumulative, self.bound):
                torch._dynamo.mark_dynamic(varies, 0)


def attend(q_TND: Tensor, k_TKD: Tensor, v_TKD: Tensor, stream: Stream) -> Tensor:
    """Causal attention of every token over its own document, [T, N, D]."""
    if stream.cumulative is not None:
        return _varlen(q_TND, k_TKD, v_TKD, stream.cumulative, stream.bound.shape[0])
    return _per_document(q_TND, k_TKD, v_TKD, stream.ends)


def grouped(varlen: Callable[..., Any]) -> Callable[[Tensor, Tensor, Tensor, Tensor, int], Tensor]:
    """Causal attention within documents by a `varlen_attn`, with fewer heads of keys and values than of queries.

    Until torch 2.12 it took no such heads: there, each is repeated for the queries that share it.
    """
    shares_heads = "enable_gqa" in inspect.signature(varlen).parameters

    def attend(q_TND: Tensor, k_TKD: Tensor, v_TKD: Tensor, cumulative: Tensor, longest: int) -> Tensor:
        lengths = (cumulative, cumulative, longest, longest)
        out: Tensor
        if shares_heads:
            out = varlen(q_TND, k_TKD, v_TKD, *lengths, window_size=(-1, 0), enable_gqa=True)
        else:
            k_TND, v_TND = (x.repeat_interleave(q_TND.shape[1] // x.shape[1], dim=1) for x in (k_TKD, v_TKD))
            out = varlen(q_TND, k_TND, v_TND, *lengths, window_size=(-1, 0))
        return out

    return attend


_varlen = grouped(varlen_attn)
FA3 = "flash_attn_interface"
"""The module that FlashAttention 3 is installed as."""


def choose_attention(wanted: str, device: torch.device) -> str:
    """Have `varlen_attn` use a FlashAttention, from here on; its name.

    Args:
        wanted: fa2, fa3, or auto: 3 on a Hopper GPU where it is installed, else 2.

    Raises:
        ValueError: 3 is wanted and cannot be used.
    """
    if device.type != "cuda":
        return "sdpa"
    lacks = _lacks_fa3(device)
    if wanted == "fa3" and lacks:
        raise ValueError(f"training.attention is fa3, but {lacks}; set it to auto")
    if wanted == "fa2" or lacks:
        if getattr(torch.nn.attention, "current_flash_attention_impl", lambda: None)():
            torch.nn.attention.restore_flash_attention_impl()
        return "fa2"
    try:
        torch.nn.attention.activate_flash_attention_impl("FA3")
    except (ImportError, RuntimeError, ValueError) as error:
        if wanted == "auto":
            return "fa2"
        raise ValueError(
            f"training.attention is fa3, which cannot be used ({first_line(error)}); set it to auto"
        ) from error
    return "fa3"


def _lacks_fa3(device: torch.device) -> str:
    """Why FlashAttention 3 cannot be used; empty where it can."""
    if torch.cuda.get_device_capability(device)[0] != 9:
        return f"{torch.cuda.get_device_name(device)} is no Hopper GPU"
    if not hasattr(torch.nn.attention, "activate_flash_attention_impl"):
        return f"torch {torch.__version__} cannot be given another FlashAttention"
    if find_spec(FA3) is None:
        return f"the module {FA3} is not installed (pip install flash-attn-3)"
    return ""


def _per_document(q_TND: Tensor, k_TKD: Tensor, v_TKD: Tensor, ends: tuple[int, ...]) -> Tensor:
    q_NTD, k_KTD, v_KTD = (x.transpose(0, 1).unsqueeze(0) for x in (q_TND, k_TKD, v_TKD))
    parts = []
    begin = 0
    for end in ends:
        span = slice(begin, end)
        parts.append(
            F.scaled_dot_product_attention(
                q_NTD[:, :, span], k_KTD[:, :, span], v_KTD[:, :, span], is_causal=True, enable_gqa=True
            )
        )
        begin = end
    return torch.cat(parts, dim=2).squeeze(0).transpose(0, 1)
