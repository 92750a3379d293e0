"""The model: exact shapes, and equal to `LlamaForCausalLM` in logits and losses."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from fox1.trainer.checkpoints.export import to_llama
from fox1.trainer.model.attention import Documents, Stream, attend, grouped
from fox1.trainer.model.loss import IGNORE, _gradient, _gradient_in_place, _gradient_of, linear_cross_entropy
from fox1.trainer.model.model import Fox1, flops_per_token
from fox1.trainer.parallel import compile_block
from fox1.trainer.settings import FOX1_VOCABULARY, ModelSettings

TINY = ModelSettings(layers=2, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=16, max_positions=128)


def documents(ends: list[int]) -> Documents:
    positions = torch.cat([torch.arange(b - a) for a, b in zip([0, *ends[:-1]], ends, strict=True)])
    return Documents(positions, tuple(ends), None, max(ends))


def stream(of: Documents) -> Stream:
    """Without the tables of RoPE, which attention itself does not use."""
    nothing = torch.empty(0, device=of.positions.device)
    return Stream(of, nothing, nothing)


def test_fox1_has_exactly_its_parameters() -> None:
    with torch.device("meta"):
        model = Fox1(ModelSettings(), FOX1_VOCABULARY)
    total = sum(p.numel() for p in model.parameters())
    assert total == 1_665_271_808
    assert total - model.embedding.numel() == 1_140_983_808


def test_flops_per_token_are_those_of_the_published_shape() -> None:
    assert flops_per_token(ModelSettings(), FOX1_VOCABULARY, 2048) == pytest.approx(10.8e9, rel=0.002)


def test_attention_equals_a_dense_document_mask() -> None:
    torch.manual_seed(0)
    ends = [5, 6, 20, 32]
    q, k, v = torch.randn(32, 4, 16), torch.randn(32, 2, 16), torch.randn(32, 2, 16)
    document = torch.bucketize(torch.arange(32), torch.tensor(ends), right=True)
    mask = (document[:, None] == document[None, :]) & torch.ones(32, 32, dtype=torch.bool).tril()
    wide_k, wide_v = (x.repeat_interleave(2, dim=1).transpose(0, 1) for x in (k, v))
    expected = F.scaled_dot_product_attention(q.transpose(0, 1), wide_k, wide_v, attn_mask=mask).transpose(0, 1)
    torch.testing.assert_close(attend(q, k, v, stream(documents(ends))), expected)


def probabilities(q_TND: torch.Tensor, k_TKD: torch.Tensor, cumulative: torch.Tensor) -> torch.Tensor:
    """What every token takes of each other by an explicit mask, float64 [N, T, T]."""
    size, scale = len(q_TND), q_TND.shape[-1] ** -0.5
    document = torch.bucketize(torch.arange(size), cumulative[1:].long(), right=True)
    mask = (document[:, None] == document[None, :]) & torch.ones(size, size, dtype=torch.bool).tril()
    scores = torch.einsum("tnd,snd->nts", q_TND.double(), wide(k_TKD, q_TND)) * scale
    return scores.masked_fill(~mask, -torch.inf).softmax(-1)


def wide(x_TKD: torch.Tensor, q_TND: torch.Tensor) -> torch.Tensor:
    return x_TKD.double().repeat_interleave(q_TND.shape[1] // x_TKD.shape[1], 1)


def dense(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cumulative: torch.Tensor) -> torch.Tensor:
    """Attention by an explicit mask."""
    return torch.einsum("nts,snd->tnd", probabilities(q, k, cumulative), wide(v, q)).to(q.dtype)


def dense_backward(
    d_out: torch.Tensor, q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cumulative: torch.Tensor
) -> tuple[torch.Tensor, ...]:
    """Gradients of `dense`, written out: inside a kernel there is no autograd."""
    p, d_out, scale = probabilities(q, k, cumulative), d_out.double(), q.shape[-1] ** -0.5
    d_p = torch.einsum("tnd,snd->nts", d_out, wide(v, q))
    d_scores = p * (d_p - (d_p * p).sum(-1, keepdim=True)) * scale
    d_q = torch.einsum("nts,snd->tnd", d_scores, wide(k, q))
    d_k = torch.einsum("nts,tnd->snd", d_scores, q.double())
    d_v = torch.einsum("nts,tnd->snd", p, d_out)

    def narrow(x: torch.Tensor) -> torch.Tensor:
        return x.unflatten(1, (k.shape[1], -1)).sum(2).to(k.dtype)

    return d_q.to(q.dtype), narrow(d_k), narrow(d_v)


@pytest.fixture
def varlen_on_cpu() -> Iterator[None]:
    """The kernel that GPUs have, by an explicit mask, so that all that leads to it runs here as well."""
    from torch.nn.attention import varlen

    def forward(q, k, v, cu_q, cu_k, max_q, max_k, is_causal, scale, window_size, *_):  # type: ignore[no-untyped-def]
        assert list(window_size) == [-1, 0] and scale is None and int((cu_q[1:] - cu_q[:-1]).max()) <= max_q
        lse = q.new_zeros(q.shape[1], len(q), dtype=torch.float32)
        return dense(q, k, v, cu_q).contiguous(), lse, torch.zeros(2, dtype=torch.uint64)

    def backward(d_out, q, k, v, out, lse, cu_q, *_):  # type: ignore[no-untyped-def]
        return tuple(x.contiguous() for x in dense_backward(d_out, q, k, v, cu_q))

    with _kernels({varlen._varlen_attn: forward, varlen._varlen_attn_backward: backward}):
        yield


@contextmanager
def _kernels(kernels: dict[Any, Callable[..., Any]]) -> Iterator[None]:
    before = {op: dict(op._backend_fns) for op in kernels}
    for op, function in kernels.items():
        op.register_kernel("cpu", function)
    try:
        yield
    finally:
        for op, functions in before.items():
            op._backend_fns.clear()
            op._backend_fns.update(functions)


def cumulative(ends: list[int]) -> Documents:
    """As a GPU gets it: lengths summed up."""
    return replace(documents(ends), ends=(), cumulative=torch.tensor([0, *ends], dtype=torch.int32))


@pytest.mark.parametrize("way", ["segments", "varlen"])
def test_no_token_of_a_document_changes_anything_of_another(way: str, request: pytest.FixtureRequest) -> None:
    """Perturb each document in turn: its own logits move, no other's does, nor does any gradient reach it."""
    if way == "varlen":
        request.getfixturevalue("varlen_on_cpu")
    model = Fox1(TINY, 50)
    model.initialise(1)
    ends = [7, 8, 20, 32]
    where = documents(ends) if way == "segments" else cumulative(ends)
    tokens = torch.randint(0, 50, (32,), generator=torch.Generator().manual_seed(4))
    logits = model.logits(tokens, where)
    for begin, end in zip([0, *ends[:-1]], ends, strict=True):
        changed = tokens.clone()
        changed[begin] = (changed[begin] + 1) % 50
        moved = (model.logits(changed, where) != logits).any(-1)
        assert moved[begin:end].all() and not moved[:begin].any() and not moved[end:].any()
        alone = model.logits(tokens[begin:end], documents([end - begin]))
        torch.testing.assert_close(logits[begin:end], alone)


def test_both_ways_of_attention_give_the_same_losses_and_gradients(varlen_on_cpu: None) -> None:
    model = Fox1(TINY, 50)
    model.initialise(1)
    tokens, targets = torch.randint(0, 50, (2, 32), generator=torch.Generator().manual_seed(5))
    found = []
    for where in (documents([5, 6, 32]), cumulative([5, 6, 32])):
        model.zero_grad()
        loss, _ = model(tokens, where, targets, 8)
        loss.backward()
        found.append([loss.detach(), *(p.grad.clone() for p in model.parameters() if p.grad is not None)])
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-4)


def test_a_block_compiles_once_for_all_documents_and_once_for_evaluation(varlen_on_cpu: None) -> None:
    """As on a GPU, with the passes of torch's own compiler but without the machine code: one graph per block, whatever the
    number of documents and the length of the longest."""
    from torch._dynamo.testing import CompileCounterWithBackend

    torch._dynamo.reset()
    counter = CompileCounterWithBackend("aot_eager")
    model = Fox1(TINY, 50)
    model.initialise(1)
    for block in model.blocks:
        compile_block(block, counter)
    tokens = torch.randint(0, 50, (64,), generator=torch.Generator().manual_seed(6))
    compiled = []
    for ends in ([16, 32, 48, 64], [64], [3, 5, 16, 30, 41, 64], [32, 64], [1, 33, 64], list(range(1, 65))):
        loss, _ = model(tokens, cumulative(ends), tokens, 16)
        loss.backward()
        compiled.append(counter.frame_count)
    assert compiled == [compiled[0]] * 6 and compiled[0] <= TINY.layers
    for ends in ([20, 64], [7, 9, 64]):
        with torch.no_grad():
            model(tokens, cumulative(ends), tokens, 16)
        compiled.append(counter.frame_count)
    loss, _ = model(tokens, cumulative([40, 64]), tokens, 16)
    loss.backward()
    assert counter.frame_count == compiled[-1] == compiled[-2] <= 2 * compiled[0]


@pytest.mark.parametrize("release", ["2.11", "2.12"])
def test_heads_are_repeated_where_varlen_attention_does_not_share_them(release: str) -> None:
    """Signatures as torch 2.11 and 2.12 have them."""
    calls: list[tuple[int, dict[str, Any]]] = []

    def attended(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, cu: torch.Tensor, **options: Any) -> torch.Tensor:
        calls.append((k.shape[1], options))
        return dense(q, k, v, cu)

    def without(
        query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, return_aux=None, scale=None, window_size=(-1, -1)
    ):  # type: ignore[no-untyped-def]
        return attended(query, key, value, cu_seq_q, window_size=window_size)

    def sharing(query, key, value, cu_seq_q, cu_seq_k, max_q, max_k, *, window_size=(-1, -1), enable_gqa=False):  # type: ignore[no-untyped-def]
        return attended(query, key, value, cu_seq_q, window_size=window_size, enable_gqa=enable_gqa)

    torch.manual_seed(2)
    q, k, v = (torch.randn(32, n, 8) for n in (6, 2, 2))
    of = cumulative([5, 6, 32])
    assert of.cumulative is not None
    found = grouped(without if release == "2.11" else sharing)(q, k, v, of.cumulative, 32)
    torch.testing.assert_close(found, dense(q, k, v, of.cumulative))
    expected = (6, {"window_size": (-1, 0)}) if release == "2.11" else (2, {"window_size": (-1, 0), "enable_gqa": True})
    assert calls == [expected]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_varlen_attention_on_a_gpu_equals_a_dense_mask() -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(64, n, 128, dtype=torch.bfloat16, device="cuda") for n in (4, 2, 2))
    of = cumulative([5, 6, 40, 64])
    assert of.cumulative is not None
    where = Documents(of.positions.cuda(), (), of.cumulative.cuda(), 64)
    expected = dense(q.cpu(), k.cpu(), v.cpu(), of.cumulative)
    torch.testing.assert_close(attend(q, k, v, stream(where)).cpu(), expected, atol=2e-2, rtol=2e-2)


@pytest.mark.parametrize("chunk", [1, 7, 64])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_chunked_loss_and_gradients_equal_full_logits_in_float64(chunk: int, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    hidden = torch.randn(40, 16).to(dtype).requires_grad_()
    weight = torch.randn(100, 16).to(dtype).requires_grad_()
    targets = torch.randint(0, 100, (40,))
    targets[::5] = IGNORE
    wide = [x.detach().double().requires_grad_() for x in (hidden, weight)]
    expected = F.cross_entropy(wide[0] @ wide[1].T, targets, ignore_index=IGNORE, reduction="sum")
    expected_grads = torch.autograd.grad(expected / 3, wide)
    loss, losses = linear_cross_entropy(hidden, weight, targets, chunk)
    grads = torch.autograd.grad(loss / 3, (hidden, weight))
    # The loss itself is fp32; logits and gradients have the precision of their operands.
    near = {"rtol": 1e-5, "atol": 1e-5} if dtype is torch.float32 else {"rtol": 2e-2, "atol": 2e-2}
    assert loss.dtype is torch.float32
    torch.testing.assert_close(loss.double(), expected, **near)
    torch.testing.assert_close(losses.sum().double(), expected, **near)
    assert (losses[::5] == 0).all()
    for ours, theirs in zip(grads, expected_grads, strict=True):
        assert ours.dtype is dtype
        torch.testing.assert_close(ours.double(), theirs, **near)


@pytest.mark.slow
def test_chunked_loss_holds_one_chunk_of_logits() -> None:
    """Peak memory of a process that makes loss and gradients, above one that only has the operands."""
    script = """
import sys, torch
import torch.nn.functional as F
from fox1.pipeline.engine.memory import peak_bytes
from fox1.trainer.model.loss import linear_cross_entropy
way, tokens, pieces = sys.argv[1], 4096, 32000
torch.manual_seed(0)
hidden = torch.randn(tokens, 64, requires_grad=True)
weight = torch.randn(pieces, 64, requires_grad=True)
targets = torch.randint(0, pieces, (tokens,))
F.cross_entropy((hidden[:8] @ weight.T), targets[:8]).backward()
before = peak_bytes()
if way == "full":
    F.cross_entropy(hidden @ weight.T, targets).backward()
else:
    (linear_cross_entropy(hidden, weight, targets, int(way))[0] / tokens).backward()
print(peak_bytes() - before)
"""

    def peak(way: str) -> int:
        done = subprocess.run([sys.executable, "-c", script, way], capture_output=True, text=True, check=True)
        return int(done.stdout)

    logits = 4096 * 32000 * 4
    # Full: logits and their gradient at least. Chunks: their part of the logits a few times, and the weight's gradient.
    assert peak("full") > 1.8 * logits
    for way, bound in {"256": logits / 16 * 4, "1024": logits / 4 * 3}.items():
        # What a process has resident is not its doing alone: where it is too much, a second one may need less.
        assert any(peak(way) < bound + 6 * 32000 * 64 * 4 for _ in range(2)), way


def test_logits_from_fp8_operands_are_near_and_gradients_as_for_any_logits() -> None:
    torch.manual_seed(3)
    hidden = torch.randn(64, 32, requires_grad=True)
    weight = torch.randn(128, 32, requires_grad=True)
    targets = torch.randint(0, 128, (64,))
    exact, _ = linear_cross_entropy(hidden, weight, targets, 16)
    expected = torch.autograd.grad(exact, (hidden, weight))
    loss, _ = linear_cross_entropy(hidden, weight, targets, 16, fp8=True)
    assert loss != exact and loss.item() == pytest.approx(exact.item(), rel=0.02)
    for ours, theirs in zip(torch.autograd.grad(loss, (hidden, weight)), expected, strict=True):
        assert (ours - theirs).norm() < 0.1 * theirs.norm()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("z_loss", [0.0, 0.01])
def test_the_gpu_s_pass_over_the_logits_is_the_cpu_s(dtype: torch.dtype, z_loss: float) -> None:
    torch.manual_seed(5)
    logits = (4 * torch.randn(24, 50)).to(dtype)
    targets = torch.randint(0, 50, (24,))
    targets[::4] = IGNORE
    compiled = torch.compile(_gradient, fullgraph=True, backend="eager")
    theirs = compiled(logits.clone(), targets, z_loss)
    ours = _gradient_in_place(logits.clone(), targets, z_loss)
    near = {"atol": 1e-2, "rtol": 1e-2} if dtype is torch.bfloat16 else {"atol": 1e-6, "rtol": 1e-5}
    for a, b in zip(ours, theirs, strict=True):
        assert a.dtype == b.dtype
        torch.testing.assert_close(a, b, **near)


def test_a_gpu_passes_over_the_logits_as_a_cpu_does_where_nothing_is_compiled() -> None:
    assert _gradient_of("cuda", False) is _gradient_of("cpu", True) is _gradient_in_place
    assert _gradient_of("cuda", True) is not _gradient_in_place


@pytest.mark.parametrize("chunk", [3, 64])
def test_z_loss_and_its_gradients_equal_autograd_s(chunk: int) -> None:
    torch.manual_seed(2)
    hidden = torch.randn(40, 16, dtype=torch.float64).float().requires_grad_()
    weight = torch.randn(100, 16, requires_grad=True)
    targets = torch.randint(0, 100, (40,))
    targets[::7] = IGNORE
    logits = hidden @ weight.T
    plain = F.cross_entropy(logits, targets, ignore_index=IGNORE, reduction="sum")
    expected = plain + 0.01 * (logits.logsumexp(-1)[targets != IGNORE] ** 2).sum()
    theirs = torch.autograd.grad(expected, (hidden, weight))
    loss, losses = linear_cross_entropy(hidden, weight, targets, chunk, 0.01)
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(losses.sum(), plain)
    for ours, reference in zip(torch.autograd.grad(loss, (hidden, weight)), theirs, strict=True):
        torch.testing.assert_close(ours, reference, atol=1e-4, rtol=1e-4)


def test_evaluation_makes_no_gradients() -> None:
    hidden, weight = torch.randn(4, 8), torch.nn.Parameter(torch.randn(10, 8))
    with torch.no_grad():
        loss, _ = linear_cross_entropy(hidden, weight, torch.tensor([1, 2, 3, 4]), 2)
    assert loss.grad_fn is None and not loss.requires_grad


def test_logits_losses_and_gradients_equal_those_of_llama() -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    model = Fox1(TINY, 120)
    model.initialise(7)
    config = transformers.LlamaConfig(
        vocab_size=120, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, max_position_embeddings=128, rms_norm_eps=1e-5, tie_word_embeddings=True,
        attention_bias=False, mlp_bias=False,
    )  # fmt: skip
    llama = transformers.LlamaForCausalLM(config).eval()
    state = to_llama(dict(model.state_dict()), TINY)
    state["lm_head.weight"] = state["model.embed_tokens.weight"]
    llama.load_state_dict(state)
    tokens = torch.randint(0, 120, (48,))
    expected = llama(tokens[None], labels=tokens[None])
    logits = model.logits(tokens, documents([48]))
    targets = torch.cat([tokens[1:], torch.tensor([IGNORE])])
    loss, _ = model(tokens, documents([48]), targets, 16)
    torch.testing.assert_close(logits, expected.logits[0], rtol=1e-4, atol=1e-5)
    assert loss.item() / 47 == pytest.approx(expected.loss.item(), rel=1e-5)
    (loss / 47).backward()
    expected.loss.backward()
    ours = to_llama({name: p.grad for name, p in model.named_parameters() if p.grad is not None}, TINY)
    theirs = dict(llama.named_parameters())
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        torch.testing.assert_close(gradient, theirs[name].grad, rtol=1e-3, atol=1e-6, msg=name)
