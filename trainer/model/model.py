"""The Fox-1 model: a pre-norm decoder with grouped-query attention, SwiGLU, RoPE and tied embeddings.

It runs on flat token streams: a micro-batch is one sequence of T tokens, one document after the other; attention and
positions restart with each. Shapes: T tokens, C hidden, N heads, K key-value heads, D head dimension, F intermediate,
V vocabulary.

Everything outside the blocks (tied embedding, final norm) belongs to the root module, hence to one FSDP group and one
checkpoint key: the tied matrix is used at both ends of the network, so it is gathered only once.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..settings import ModelSettings
from .attention import Documents, Stream, attend
from .loss import linear_cross_entropy


class RMSNorm(nn.Module):
    """Root-mean-square norm, computed in fp32 (Zhang & Sennrich 2019)."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x_TC: Tensor) -> Tensor:
        wide = x_TC.float()
        scaled = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + self.eps)
        return scaled.type_as(x_TC) * self.weight


def rope_tables(positions: Tensor, dim: int, theta: float) -> tuple[Tensor, Tensor]:
    """(cos, sin), each fp32 [T, D / 2], for every token's position in its document."""
    exponent = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32) / dim
    angle = positions.float()[:, None] * (theta**-exponent)[None, :]
    return angle.cos(), angle.sin()


def rotate(x_TND: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary embedding in the half-split layout of `LlamaForCausalLM` (not the interleaved one)."""
    first, second = x_TND.float().chunk(2, dim=-1)
    cos, sin = cos[:, None, :], sin[:, None, :]
    return torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1).type_as(x_TND)


class Attention(nn.Module):
    """Causal grouped-query attention within documents. One fused projection for queries, keys and values."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.head_dim = s.heads, s.kv_heads, s.head_dim
        self.sizes = (s.heads * s.head_dim, s.kv_heads * s.head_dim, s.kv_heads * s.head_dim)
        """Rows of the fused projection for queries, keys and values."""
        self.qkv = nn.Linear(s.hidden, sum(self.sizes), bias=False)
        self.out = nn.Linear(s.heads * s.head_dim, s.hidden, bias=False)

    def forward(self, x_TC: Tensor, stream: Stream) -> Tensor:
        q, k, v = self.qkv(x_TC).split(self.sizes, dim=-1)
        q_TND = rotate(q.unflatten(-1, (self.heads, self.head_dim)), stream.cos, stream.sin)
        k_TKD = rotate(k.unflatten(-1, (self.kv_heads, self.head_dim)), stream.cos, stream.sin)
        v_TKD = v.unflatten(-1, (self.kv_heads, self.head_dim))
        return self.out(attend(q_TND, k_TKD, v_TKD, stream).flatten(-2))


class MLP(nn.Module):
    """SwiGLU (Shazeer 2020), gate and up fused into one matrix."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.gate_up = nn.Linear(s.hidden, 2 * s.intermediate, bias=False)
        self.down = nn.Linear(s.intermediate, s.hidden, bias=False)

    def forward(self, x_TC: Tensor) -> Tensor:
        gate, up = self.gate_up(x_TC).chunk(2, dim=-1)
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm attention and MLP, each added to the residual stream."""

    def __init__(self, s: ModelSettings) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(s.hidden, s.norm_eps)
        self.attention = Attention(s)
        self.mlp_norm = RMSNorm(s.hidden, s.norm_eps)
        self.mlp = MLP(s)

    def forward(self, x_TC: Tensor, stream: Stream) -> Tensor:
        x_TC = x_TC + self.attention(self.attention_norm(x_TC), stream)
        return x_TC + self.mlp(self.mlp_norm(x_TC))


class Fox1(nn.Module):
    """The whole model; `forward` returns the loss, so that the tied matrix is used inside the root module only."""

    def __init__(self, settings: ModelSettings, vocab_size: int) -> None:
        super().__init__()
        self.settings = settings
        self.vocab_size = vocab_size
        self.compiles_loss = True
        """On a GPU."""
        self.kernel = "sdpa"
        """Of attention."""
        self.embedding = nn.Parameter(torch.empty(vocab_size, settings.hidden))
        self.blocks = nn.ModuleList(Block(settings) for _ in range(settings.layers))
        self.norm = RMSNorm(settings.hidden, settings.norm_eps)

    @torch.no_grad()
    def initialise(self, seed: int) -> None:
        """Every matrix from N(0, init_std), norms at one; drawn on the CPU, so that all devices start from the same."""
        generator = torch.Generator().manual_seed(seed)
        for parameter in self.parameters():
            if parameter.ndim == 1:
                parameter.fill_(1.0)
            else:
                drawn = torch.empty(parameter.shape).normal_(0.0, self.settings.init_std, generator=generator)
                parameter.copy_(drawn)

    def hidden(self, tokens: Tensor, documents: Documents) -> Tensor:
        """Final hidden states [T, C] of a flat stream (int64 [T])."""
        x_TC = F.embedding(tokens, self.embedding)
        tables = rope_tables(documents.positions, self.settings.head_dim, self.settings.rope_theta)
        stream = Stream(documents, *tables)
        for block in self.blocks:
            x_TC = block(x_TC, stream)
        return self.norm(x_TC)

    def forward(
        self,
        tokens: Tensor,
        documents: Documents,
        targets: Tensor,
        chunk: int = 0,
        z_loss: float = 0.0,
        fp8_head: bool = False,
    ) -> tuple[Tensor, Tensor]:
        """(summed loss, loss of every token [T], detached); targets of -100 are ignored."""
        hidden = self.hidden(tokens, documents)
        return linear_cross_entropy(hidden, self.embedding, targets, chunk, z_loss, fp8_head, self.compiles_loss)

    def logits(self, tokens: Tensor, documents: Documents) -> Tensor:
        """Logits [T, V], for tests and generation; training never holds them all."""
        return F.linear(self.hidden(tokens, documents), self.embedding)


def flops_per_token(settings: ModelSettings, vocab_size: int, mean_square_length: float) -> float:
    """Forward and backward FLOPs of one token: 6 per weight of a matrix product, and those of causal attention.

    Args:
        mean_square_length: sum of squared document lengths, divided by the number of tokens; for full blocks, their length.
    """

    s = settings
    attention = s.hidden * (2 * s.heads + 2 * s.kv_heads) * s.head_dim
    matrices = s.layers * (attention + 3 * s.hidden * s.intermediate) + vocab_size * s.hidden
    return 6.0 * matrices + 6.0 * s.layers * s.heads * s.head_dim * mean_square_length
