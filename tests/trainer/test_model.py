"""The model: exact shapes, and equal to `LlamaForCausalLM` in logits and losses."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from fox1.trainer.attention import Documents, attend
from fox1.trainer.loss import IGNORE, linear_cross_entropy
from fox1.trainer.model import Fox1, flops_per_token
from fox1.trainer.settings import FOX1_VOCABULARY, ModelSettings

TINY = ModelSettings(layers=2, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=16, max_positions=128)


def documents(ends: list[int]) -> Documents:
    positions = torch.cat([torch.arange(b - a) for a, b in zip([0, *ends[:-1]], ends, strict=True)])
    return Documents(positions, tuple(ends), None, max(ends))


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
    torch.testing.assert_close(attend(q, k, v, documents(ends)), expected)


def test_a_document_does_not_see_its_neighbours() -> None:
    model = Fox1(TINY, 50)
    model.initialise(1)
    tokens = torch.randint(0, 50, (24,))
    together = model.logits(tokens, documents([10, 24]))
    alone = torch.cat([model.logits(tokens[:10], documents([10])), model.logits(tokens[10:], documents([14]))])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunked_loss_and_gradients_equal_cross_entropy(chunk: int) -> None:
    torch.manual_seed(1)
    hidden = torch.randn(40, 16, requires_grad=True)
    weight = torch.randn(100, 16, requires_grad=True)
    targets = torch.randint(0, 100, (40,))
    targets[::5] = IGNORE
    expected = F.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORE, reduction="sum")
    expected_grads = torch.autograd.grad(expected / 3, (hidden, weight))
    loss, losses = linear_cross_entropy(hidden, weight, targets, chunk)
    grads = torch.autograd.grad(loss / 3, (hidden, weight))
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(losses.sum(), expected)
    assert (losses[::5] == 0).all()
    for mine, theirs in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(mine, theirs)


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
    for mine, their in zip(torch.autograd.grad(loss, (hidden, weight)), theirs, strict=True):
        torch.testing.assert_close(mine, their, atol=1e-4, rtol=1e-4)


def test_evaluation_makes_no_gradients() -> None:
    hidden, weight = torch.randn(4, 8), torch.nn.Parameter(torch.randn(10, 8))
    with torch.no_grad():
        loss, _ = linear_cross_entropy(hidden, weight, torch.tensor([1, 2, 3, 4]), 2)
    assert loss.grad_fn is None and not loss.requires_grad


def test_logits_and_losses_equal_those_of_llama() -> None:
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
    state = {
        "model.embed_tokens.weight": model.embedding,
        "lm_head.weight": model.embedding,
        "model.norm.weight": model.norm.weight,
    }
    for i, block in enumerate(model.blocks):
        q, k, v = block.attention.qkv.weight.split([64, 32, 32])
        gate, up = block.mlp.gate_up.weight.chunk(2)
        state |= {
            f"model.layers.{i}.{name}.weight": weight
            for name, weight in {
                "self_attn.q_proj": q, "self_attn.k_proj": k, "self_attn.v_proj": v,
                "self_attn.o_proj": block.attention.out.weight, "mlp.gate_proj": gate, "mlp.up_proj": up,
                "mlp.down_proj": block.mlp.down.weight, "input_layernorm": block.attention_norm.weight,
                "post_attention_layernorm": block.mlp_norm.weight,
            }.items()
        }  # fmt: skip
    llama.load_state_dict(state)
    tokens = torch.randint(0, 120, (48,))
    with torch.no_grad():
        expected = llama(tokens[None], labels=tokens[None])
        logits = model.logits(tokens, documents([48]))
        targets = torch.cat([tokens[1:], torch.tensor([IGNORE])])
        loss, _ = model(tokens, documents([48]), targets, 16)
    torch.testing.assert_close(logits, expected.logits[0], rtol=1e-4, atol=1e-5)
    assert loss.item() / 47 == pytest.approx(expected.loss.item(), rel=1e-5)
