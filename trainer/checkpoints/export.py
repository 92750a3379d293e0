"""Checkpoints to and from folders that `transformers` and vLLM load as `LlamaForCausalLM`.

Here, queries, keys and values are one matrix, and so are gate and up; there they are separate. RoPE has the half-split
layout on both sides, so no rows move. The tied embedding is written once. Special ids are those of the tokenizer.
`llama_config.py` has the config, `exported_tokenizer.py` the tokenizer.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, replace
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...storage import lease
from ...storage.disk import writing
from ...storage.inside import named
from ...storage.reading import Misshapen, open_regular, read_json, typed
from ...storage.wording import first_line, printable
from ..model.model import Fox1
from ..settings import ModelSettings
from .checkpoint import TrainingProgress, checkpoints, load_weights, read_manifest, refuse_run, verify, write_whole
from .exported_tokenizer import end_ids, imported_template, tokenizer_files
from .llama_config import config_json, model_settings, special_ids
from .reader import contents
from .tokenizer_facts import TokenizerFacts

Shapes = Mapping[str, tuple[int, ...]]
"""Name -> shape of a weight."""
CONFIG_BYTES = 16 << 20
"""Configs of models and their tokenizers are smaller."""
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
TOKENIZER = "tokenizer.model"
FACTS = "tokenizer.json"
"""File beside the checkpoints: what the trainer knows of the run's tokenizer (`TokenizerFacts`)."""


def keep_tokenizer(run: Path, out: Path, facts: TokenizerFacts) -> None:
    """Copy a run's tokenizer beside its checkpoints, so that they can be exported without the run."""
    model = named(run, f"prepare/{TOKENIZER}", own=1)
    if model.exists():
        _keep(out / TOKENIZER, model.read_bytes())
    _keep(out / FACTS, facts.to_json().encode())


def _keep(path: Path, data: bytes) -> None:
    lease.allow_write(path)
    with writing(path):
        path.write_bytes(data)


def newest(checkpoint: Path) -> Path:
    """The folder itself if it is a checkpoint, else the newest checkpoint in it.

    Raises:
        ValueError: the folder has no checkpoint.
    """
    refuse_run(checkpoint)
    if (checkpoint / "manifest.json").exists():
        return checkpoint
    found = checkpoints(checkpoint) if checkpoint.is_dir() else []
    if not found:
        raise ValueError(f"no checkpoint in {checkpoint}; `fox1 train RUN --out {checkpoint}` writes one")
    return found[-1]


def load_checkpoint(checkpoint: Path) -> tuple[Fox1, TokenizerFacts | None]:
    """The model of a checkpoint (or of the newest one in a folder), unsharded, fp32, on the CPU.

    Raises:
        ValueError: there is no checkpoint, it is damaged, or it is larger than this machine's memory.
    """
    folder = newest(checkpoint)
    manifest, tensors = read_manifest(folder), contents(folder).shapes
    try:
        settings = typed(ModelSettings, manifest.settings.get("model"), "model")
        settings.check(manifest.vocab_size)
        stored = {n.removeprefix("model."): s for n, s in tensors.items() if n.startswith("model.")}
        _compare(stored, settings.layers, lambda: settings.shapes(manifest.vocab_size))
    except Misshapen as error:
        raise ValueError(f"{folder}/manifest.json does not describe a model ({error})") from None
    except ValueError as error:
        raise ValueError(f"{folder} cannot be loaded: {error}") from None
    verify(folder, manifest)
    facts = _facts(folder.parent, manifest.vocab_size)
    model = Fox1(settings, manifest.vocab_size)
    load_weights(folder, model)
    return model.eval(), facts


def _compare(stored: Shapes, layers: int, expected: Callable[[], Shapes]) -> None:
    """Refuse weights that are not those of the model, before it is built.

    Args:
        expected: called only if there are as many weights as `layers` need.

    Raises:
        ValueError: naming a weight that is missing, unknown or of another shape; or the memory that is missing.
    """
    if layers > len(stored):
        raise ValueError(f"a model of {layers:,} layers has more than the {len(stored):,} weights that are stored")
    wanted = expected()
    for name in (*wanted, *stored):
        if stored.get(name) != wanted.get(name):
            there, needed = (" x ".join(map(str, s[name])) if name in s else "absent" for s in (stored, wanted))
            raise ValueError(f"the weight {printable(name[:100])} is {there} in the files, and {needed} in the model")
    needs, memory = 4 * sum(map(prod, wanted.values())), os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needs > memory:
        raise ValueError(f"its weights take {needs / 1e9:,.0f} GB in fp32, and this machine has {memory / 1e9:,.0f} GB")


def _facts(root: Path, vocab_size: int) -> TokenizerFacts | None:
    path = named(root, FACTS)
    if not path.exists():
        return None
    try:
        facts = typed(TokenizerFacts, read_json(path, CONFIG_BYTES))
        facts.check(vocab_size)
        return facts
    except ValueError as error:
        raise ValueError(f"{path} is damaged ({error}); run `fox1 train` again to rewrite it") from None


def to_llama(state: dict[str, Tensor], s: ModelSettings) -> dict[str, Tensor]:
    """Weights under the names and in the shapes of `LlamaForCausalLM`; `lm_head` is tied and left out."""
    out = {"model.embed_tokens.weight": state["embedding"], "model.norm.weight": state["norm.weight"]}
    sizes = [n * s.head_dim for n in (s.heads, s.kv_heads, s.kv_heads)]
    for i in range(s.layers):
        here, there = f"blocks.{i}", f"model.layers.{i}"
        q, k, v = state[f"{here}.attention.qkv.weight"].split(sizes)
        gate, up = state[f"{here}.mlp.gate_up.weight"].chunk(2)
        out |= {
            f"{there}.input_layernorm.weight": state[f"{here}.attention_norm.weight"],
            f"{there}.self_attn.q_proj.weight": q,
            f"{there}.self_attn.k_proj.weight": k,
            f"{there}.self_attn.v_proj.weight": v,
            f"{there}.self_attn.o_proj.weight": state[f"{here}.attention.out.weight"],
            f"{there}.post_attention_layernorm.weight": state[f"{here}.mlp_norm.weight"],
            f"{there}.mlp.gate_proj.weight": gate,
            f"{there}.mlp.up_proj.weight": up,
            f"{there}.mlp.down_proj.weight": state[f"{here}.mlp.down.weight"],
        }
    return out


def from_llama(state: dict[str, Tensor], s: ModelSettings) -> dict[str, Tensor]:
    """The inverse of `to_llama`.

    Raises:
        ValueError: a weight is missing, or Fox-1 has no place for one.
    """
    left = dict(state)

    def take(name: str) -> Tensor:
        try:
            return left.pop(name)
        except KeyError:
            raise ValueError(f"the model has no weight {name}; it is not a Llama of {s.layers} layers") from None

    out = {"embedding": take("model.embed_tokens.weight"), "norm.weight": take("model.norm.weight")}
    for i in range(s.layers):
        here, there = f"blocks.{i}", f"model.layers.{i}"
        parts = [take(f"{there}.self_attn.{n}_proj.weight") for n in "qkv"]
        out |= {
            f"{here}.attention_norm.weight": take(f"{there}.input_layernorm.weight"),
            f"{here}.attention.qkv.weight": torch.cat(parts),
            f"{here}.attention.out.weight": take(f"{there}.self_attn.o_proj.weight"),
            f"{here}.mlp_norm.weight": take(f"{there}.post_attention_layernorm.weight"),
            f"{here}.mlp.gate_up.weight": torch.cat([take(f"{there}.mlp.{n}_proj.weight") for n in ("gate", "up")]),
            f"{here}.mlp.down.weight": take(f"{there}.mlp.down_proj.weight"),
        }
    # Some exports write the tied matrix twice.
    head = left.pop("lm_head.weight", out["embedding"])
    if not torch.equal(head, out["embedding"]):
        raise ValueError("lm_head.weight differs from the embedding; only models that tie the two can be imported")
    if left:
        raise ValueError(
            f"the model has a weight that Fox-1 has no place for: {next(iter(left))}; it cannot be imported"
        )
    return out


def _unsaid(line: str) -> None:
    """Print nothing."""


def export(
    checkpoint: Path,
    folder: Path,
    dtype: str = "bf16",
    tokenizer: Path | None = None,
    warn: Callable[[str], None] = _unsaid,
) -> int:
    """Write a checkpoint as a folder for `transformers` and vLLM; the number of parameters.

    Args:
        dtype: a name in `DTYPES`.
        tokenizer: the SentencePiece model, if there is none beside the checkpoints.
        warn: gets a line where something could not be checked.

    Raises:
        ValueError: there is no such checkpoint or dtype, no tokenizer to take ids from, or one that `transformers` would give
            other ids for; nothing is written then.
    """
    from safetensors.torch import save_file

    from ...tokenize.model import load

    root = newest(checkpoint).parent
    model, ids = load_checkpoint(checkpoint)
    source = tokenizer or named(root, TOKENIZER)
    if ids is None:
        raise ValueError(f"{root} has no {FACTS}, which holds the special ids; `fox1 train RUN --out {root}` writes it")
    if not source.exists():
        raise ValueError(f"no tokenizer at {source}; give the run's with --tokenizer RUN/prepare/{TOKENIZER}")
    if dtype not in DTYPES:
        raise ValueError(f"--dtype {dtype}: choose {' or '.join(DTYPES)}")
    if folder.is_dir() and checkpoints(folder):
        raise ValueError(f"{folder} holds checkpoints, with a {FACTS} of their own; export into another folder")
    tokenizer_json = tokenizer_files(source, ids, warn)
    ends = end_ids(load(source), ids)
    folder.mkdir(parents=True, exist_ok=True)
    state = to_llama(model.state_dict(), model.settings)
    weights = {name: value.to(DTYPES[dtype]).contiguous() for name, value in state.items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    values = {
        "config.json": config_json(model.settings, model.vocab_size, ids, dtype, ends),
        "generation_config.json": {**special_ids(ids, ends), "do_sample": False},
        **tokenizer_json,
        **_measured(newest(checkpoint)),
    }
    for name, value in values.items():
        (folder / name).write_text(json.dumps(value, indent=1, ensure_ascii=False) + "\n")
    # safetensors makes the file readable for its owner only.
    shutil.copymode(folder / "config.json", folder / "model.safetensors")
    shutil.copyfile(source, folder / TOKENIZER)
    return sum(p.numel() for p in model.parameters())


MEASURED = "held_out.json"
"""In an exported folder, what the training last measured of the model on what it does not train on."""


def _measured(checkpoint: Path) -> dict[str, dict[str, Any]]:
    """`MEASURED` and what is in it; nothing where the training reported nothing up to the checkpoint."""
    from ..watch.curves import read_metrics

    try:
        lines, step = read_metrics(checkpoint.parent), read_manifest(checkpoint).progress.step
    except ValueError:
        return {}
    own = [line for line in lines if line["kind"] == "held_out" and line["step"] <= step]
    return {MEASURED: own[-1]} if own else {}


def read_exported(folder: Path, dtype: torch.dtype = torch.float32) -> tuple[Fox1, TokenizerFacts]:
    """The model of a folder in the layout of `LlamaForCausalLM`, on the CPU; no weight is held twice.

    Raises:
        ValueError: the folder does not hold such a model, or one whose shapes are not a Fox-1's.
    """
    config = _read_config(folder / "config.json")
    if not config:
        raise ValueError(f"{folder} has no config.json; give the folder of a model for `transformers`")
    try:
        settings, vocab_size = model_settings(config), typed(int, config.get("vocab_size"), "vocab_size")
        settings.check(vocab_size)
    except ValueError as error:
        raise ValueError(f"{folder}/config.json does not describe a model that can be imported: {error}") from None
    state = _read_weights(folder, settings, vocab_size)
    with torch.device("meta"):
        model = Fox1(settings, vocab_size)
    weights = {name: value.to(dtype) for name, value in from_llama(state, settings).items()}
    model.load_state_dict(weights, assign=True)
    ids = _exported_facts(folder, config)
    try:
        ids.check(vocab_size)
    except ValueError as error:
        raise ValueError(f"{folder} has a tokenizer that does not fit its model: {error}") from None
    return model.eval(), ids


def _read_config(path: Path) -> dict[str, Any]:
    """A small JSON object of an exported model; empty where there is none.

    Raises:
        ValueError: it is something else.
    """
    try:
        return typed(dict[str, Any], read_json(path, CONFIG_BYTES))
    except FileNotFoundError:
        return {}
    except Misshapen as error:
        raise ValueError(f"{path} is damaged ({error}); save the model again") from None


def _read_weights(folder: Path, settings: ModelSettings, vocab_size: int) -> dict[str, Tensor]:
    """The weights of an exported model, once their shapes are those of the model that its config describes.

    Raises:
        ValueError: there are none, a file is damaged, or they are not those of the model.
    """
    from safetensors import safe_open
    from safetensors.torch import load_file

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ValueError(f"{folder} has no *.safetensors; save the model in this format")
    shapes: dict[str, tuple[int, ...]] = {}
    for file in files:
        with _reading(file), safe_open(file, "pt") as opened:
            shapes |= {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    try:
        # Some exports write the tied matrix twice.
        stored = {name: shape for name, shape in shapes.items() if name != "lm_head.weight"}
        _compare(stored, settings.layers, lambda: _llama_shapes(settings, vocab_size))
    except ValueError as error:
        raise ValueError(f"{folder} cannot be loaded: {error}") from None
    state: dict[str, Tensor] = {}
    for file in files:
        with _reading(file):
            state |= load_file(file)
    return state


@contextmanager
def _reading(file: Path) -> Iterator[None]:
    """Raise ValueError where a file of weights is none, before or within the block."""
    from safetensors import SafetensorError

    try:
        open_regular(file).close()
        yield
    except (SafetensorError, Misshapen) as error:
        raise ValueError(f"{file} is damaged ({printable(first_line(error))}); save the model again") from None


def _llama_shapes(settings: ModelSettings, vocab_size: int) -> Shapes:
    """Name -> shape of every weight of an exported model."""
    weights = {name: torch.empty(shape, device="meta") for name, shape in settings.shapes(vocab_size).items()}
    return {name: tuple(weight.shape) for name, weight in to_llama(weights, settings).items()}


def _exported_facts(folder: Path, config: dict[str, Any]) -> TokenizerFacts:
    """Special ids of an exported folder, and whether its texts begin with bos."""
    # A released config may have other ids than its tokenizer (Fox-1's has bos 1 and eos 2): the tokenizer is right.
    source, ends = folder / TOKENIZER, _ends(folder, config)
    if source.exists():
        from ...tokenize.model import load, specials

        found = specials(load(source))
        ids = TokenizerFacts(found.pad, found.eos, found.bos)
    else:
        eos, bos = ends[0] if ends else None, config.get("bos_token_id")
        if eos is None or type(bos) is not int:
            raise ValueError(f"{folder}/config.json has no eos_token_id or no bos_token_id; add a {TOKENIZER}")
        pad = config.get("pad_token_id")
        ids = TokenizerFacts(pad if type(pad) is int and pad >= 0 else 0, eos, bos)
    said = _read_config(folder / "tokenizer_config.json")
    return replace(
        ids,
        add_bos=bool(said.get("add_bos_token", True)),
        template=imported_template(folder, said),
        stops=tuple(i for i in ends if i != ids.eos),
    )


def _ends(folder: Path, config: dict[str, Any]) -> list[int]:
    """The ids that end what an exported model writes, as its configs name them: one or several."""
    value = _read_config(folder / "generation_config.json").get("eos_token_id", config.get("eos_token_id"))
    return [i for i in (value if isinstance(value, list) else [value]) if type(i) is int]


def import_model(folder: Path, out: Path) -> int:
    """Write a model for `transformers` as a checkpoint that training, `generate` and `export` read; its parameters.

    Raises:
        ValueError: the model is not a Fox-1, or `out` has checkpoints already.
    """
    if out.is_dir() and checkpoints(out):
        raise ValueError(f"{out} already has checkpoints; choose another folder")
    model, ids = read_exported(folder)
    with lease.held(out, lease.TRAINING):
        write_whole(out, model, TrainingProgress(), {"model": asdict(model.settings)}, model.vocab_size)
        if (folder / TOKENIZER).exists():
            _keep(out / TOKENIZER, (folder / TOKENIZER).read_bytes())
        _keep(out / FACTS, ids.to_json().encode())
    return sum(p.numel() for p in model.parameters())
