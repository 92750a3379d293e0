"""What a `config.json` may ask for: nothing that Fox-1 does not have."""

from __future__ import annotations

from typing import Any

import pytest
from fox1.trainer.checkpoints.llama_config import config_json, model_settings
from fox1.trainer.checkpoints.tokenizer_facts import TokenizerFacts
from fox1.trainer.settings import ModelSettings

SHAPE = ModelSettings(layers=2, hidden=64, intermediate=96, heads=4, kv_heads=2, head_dim=16, max_positions=96)
WRITTEN = config_json(SHAPE, 300, TokenizerFacts(0, 1, 2), "fp32")


def test_what_is_written_is_read() -> None:
    assert model_settings(WRITTEN) == SHAPE
    older = {k: v for k, v in WRITTEN.items() if k not in ("rope_parameters", "mlp_bias", "head_dim", "architectures")}
    assert model_settings({**older, "rope_scaling": None, "use_cache": True, "pretraining_tp": 1}) == SHAPE


def test_what_transformers_writes_is_read() -> None:
    transformers = pytest.importorskip("transformers")
    config = transformers.LlamaConfig(
        vocab_size=300, hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=96, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )  # fmt: skip
    assert model_settings(config.to_dict()) == SHAPE


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("rope_scaling", {"type": "dynamic", "factor": 2.0}),
        ("rope_scaling", {"rope_type": "yarn", "factor": 4.0}),
        ("rope_scaling", {"factor": 4.0}),
        ("rope_parameters", {"rope_type": "llama3", "rope_theta": 10_000.0, "factor": 8.0}),
        ("rope_parameters", {"rope_type": "default", "rope_theta": 10_000.0, "partial_rotary_factor": 0.5}),
        ("partial_rotary_factor", 0.25),
        ("hidden_act", "gelu_new"),
        ("hidden_act", "relu"),
        ("attention_bias", True),
        ("mlp_bias", True),
        ("mlp_bias", 1),
        ("tie_word_embeddings", False),
        ("model_type", "mistral"),
        ("architectures", ["LlamaForSequenceClassification"]),
        ("sliding_window", 4096),
        ("logit_scale", 0.0625),
        ("num_local_experts", 8),
        ("quantization_config", {"quant_method": "gptq", "bits": 4}),
        ("layer_types", ["sliding_attention", "full_attention"]),
    ],
)
def test_what_fox1_does_not_have_is_refused_by_key_and_value(key: str, value: Any) -> None:
    with pytest.raises(ValueError) as refused:
        model_settings({**WRITTEN, key: value})
    said = str(refused.value)
    shown = list(value.values()) if isinstance(value, dict) else [value]
    assert key in said and any(repr(v) in said for v in [value, *shown]), said


def test_two_bases_of_rope_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match=r"rope_theta is 500000.0, and rope_parameters.rope_theta 10000.0"):
        model_settings({**WRITTEN, "rope_theta": 500_000.0})
    alone = {k: v for k, v in WRITTEN.items() if k != "rope_parameters"}
    assert model_settings({**alone, "rope_theta": 500_000.0}).rope_theta == 500_000.0


def test_a_config_without_tied_embeddings_means_untied_ones() -> None:
    with pytest.raises(ValueError, match="tie_word_embeddings is False, and Fox-1 has True only"):
        model_settings({k: v for k, v in WRITTEN.items() if k != "tie_word_embeddings"})
