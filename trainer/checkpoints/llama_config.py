"""`config.json` of a `LlamaForCausalLM`: written for a Fox-1, and read if it describes one.

A config may ask for things that Fox-1 does not have (scaled RoPE, another activation, biases). Taken without them, its weights
would be another model, so every key is known and has a value that Fox-1 has, or is known to change nothing, or is
refused.
"""

from __future__ import annotations

from typing import Any

from ...storage.reading import typed
from ...storage.wording import printable
from ..settings import ModelSettings
from .tokenizer_facts import TokenizerFacts

_READ = frozenset(
    "vocab_size hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim "
    "max_position_embeddings rms_norm_eps initializer_range rope_theta rope_parameters rope_scaling pad_token_id "
    "bos_token_id eos_token_id".split()
)
"""Keys that are read."""
_FIXED: dict[str, tuple[Any, ...]] = {
    "model_type": ("llama",),
    "architectures": (["LlamaForCausalLM"], ["LlamaModel"], None),
    "hidden_act": ("silu", "swish"),
    "tie_word_embeddings": (True,),
    "attention_bias": (False, None),
    "mlp_bias": (False, None),
    "partial_rotary_factor": (1.0, None),
    "rope_interleaved": (False, None),
}
"""Key -> the values of it that Fox-1 has; the first is what a config without the key means, unless `_ABSENT` says other."""
_ABSENT: dict[str, Any] = {"tie_word_embeddings": False, "model_type": None}
"""What a config without the key means, where that is not what Fox-1 has."""
_NEUTRAL = frozenset(
    "transformers_version torch_dtype dtype use_cache pretraining_tp attention_dropout _name_or_path name_or_path "
    "_attn_implementation attn_implementation _attn_implementation_autoset return_dict output_attentions "
    "output_hidden_states auto_map tokenizer_class chunk_size_feed_forward id2label label2id problem_type "
    "sep_token_id task_specific_params custom_pipelines transformers.js_config unsloth_version unsloth_fixed "
    "is_llama_config "
    # Of generation, which older versions kept here.
    "max_length min_length do_sample early_stopping num_beams num_beam_groups diversity_penalty temperature top_k top_p "
    "typical_p repetition_penalty length_penalty no_repeat_ngram_size encoder_no_repeat_ngram_size num_return_sequences "
    "remove_invalid_values max_new_tokens".split()
)
"""Keys that say nothing of what the model computes."""


def config_json(
    s: ModelSettings, vocab_size: int, ids: TokenizerFacts, dtype: str, ends: list[int] | None = None
) -> dict[str, Any]:
    """`config.json` of the exported model.

    Args:
        ends: the ids that end what it writes; None: eos.
    """
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": s.hidden,
        "intermediate_size": s.intermediate,
        "num_hidden_layers": s.layers,
        "num_attention_heads": s.heads,
        "num_key_value_heads": s.kv_heads,
        "head_dim": s.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": s.max_positions,
        "rms_norm_eps": s.norm_eps,
        "initializer_range": s.init_std,
        "rope_theta": s.rope_theta,
        "rope_parameters": {"rope_type": "default", "rope_theta": s.rope_theta},
        "tie_word_embeddings": True,
        "attention_bias": False,
        "mlp_bias": False,
        "torch_dtype": {"bf16": "bfloat16", "fp32": "float32"}[dtype],
        **special_ids(ids, ends),
    }


def special_ids(ids: TokenizerFacts, ends: list[int] | None = None) -> dict[str, Any]:
    """The special ids as `config.json` and `generation_config.json` hold them: several that end a text as a list."""
    return {
        "pad_token_id": ids.pad,
        "bos_token_id": ids.bos,
        "eos_token_id": ends if ends and len(ends) > 1 else ids.eos,
    }


def model_settings(config: dict[str, Any]) -> ModelSettings:
    """The shape of the model that a `config.json` describes.

    Raises:
        ValueError: naming the first key, and its value, that describes something that Fox-1 does not have.
    """
    for key, values in _FIXED.items():
        value = config.get(key, _ABSENT.get(key, values[0]))
        if value not in values or (isinstance(values[0], bool) and value is not None and type(value) is not bool):
            raise ValueError(f"{key} is {_shown(value)}, and Fox-1 has {_shown(values[0])} only")
    rope = _rope(config)
    for key, value in config.items():
        if key not in _READ and key not in _FIXED and key not in _NEUTRAL and value not in (None, False, "", [], {}):
            raise ValueError(
                f"{key} is {_shown(value)}, which Fox-1 does not know; remove the key if the model computes the same without it"
            )

    def number(name: str) -> int:
        return typed(int, config.get(name), name)

    heads = number("num_attention_heads")
    return ModelSettings(
        number("num_hidden_layers"),
        number("hidden_size"),
        number("intermediate_size"),
        heads,
        number("num_key_value_heads") if config.get("num_key_value_heads") is not None else heads,
        number("head_dim") if config.get("head_dim") else number("hidden_size") // max(heads, 1),
        number("max_position_embeddings"),
        typed(float, rope.get("rope_theta") or config.get("rope_theta", 10_000.0), "rope_theta"),
        typed(float, config.get("rms_norm_eps"), "rms_norm_eps"),
        typed(float, config.get("initializer_range", 0.02), "initializer_range"),
    )


def _rope(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of RoPE, under either of their names.

    Raises:
        ValueError: it is scaled or partial, or has two bases.
    """
    found: dict[str, Any] = {}
    for name in ("rope_scaling", "rope_parameters"):
        rope = typed(dict[str, Any], config.get(name) or {}, name)
        kind = rope.get("rope_type", rope.get("type", "default"))
        if kind not in ("default", None):
            raise ValueError(f"{name}.rope_type is {_shown(kind)}, and Fox-1's RoPE is not scaled")
        if rope.get("partial_rotary_factor", 1.0) != 1.0:
            raise ValueError(
                f"{name}.partial_rotary_factor is {_shown(rope['partial_rotary_factor'])}, and Fox-1 rotates all of a head"
            )
        known = {"rope_type", "type", "rope_theta", "partial_rotary_factor"}
        if other := next((k for k, v in rope.items() if k not in known and v is not None), None):
            raise ValueError(f"{name}.{other} is {_shown(rope[other])}, and Fox-1's RoPE is not scaled")
        found |= rope
    # Versions of transformers differ in which of the two they take.
    base, other = found.get("rope_theta"), config.get("rope_theta")
    if None not in (base, other) and base != other:
        raise ValueError(
            f"rope_theta is {_shown(other)}, and rope_parameters.rope_theta {_shown(base)}; they must be equal"
        )
    return found


def _shown(value: Any) -> str:
    return printable(repr(value)[:100])
