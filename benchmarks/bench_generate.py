"""Memory and speed of generating with the exported model of 1.6B parameters in bf16, beside transformers.

    python -m benchmarks.bench_generate [--tokens 32] [--pairs 3]

The weights are random, which costs as much as trained ones. Each system loads the same folder in a process of its own and
generates one text greedily with a key-value cache. Memory is that of the device on a GPU; on the CPU what the process
holds above one that has loaded nothing. Published of the released model: 3,703 MiB and more than 200 tokens/s on one H100.
The last line is JSON; `ratio` is fox1's tokens per second over transformers'.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from fox1.trainer.checkpoints.export import TokenizerFacts, read_exported, to_llama
from fox1.trainer.checkpoints.llama_config import config_json
from fox1.trainer.evaluate.evaluate import PUBLISHED_MEMORY_MIB, PUBLISHED_TOKENS_PER_SECOND
from fox1.trainer.evaluate.generate import generate
from fox1.trainer.model.model import Fox1
from fox1.trainer.settings import FOX1_VOCABULARY, ModelSettings

PROMPT = 64


def write_model(folder: Path) -> None:
    """A random model of the released shape, exported in bf16."""
    from safetensors.torch import save_file

    settings = ModelSettings()
    model = Fox1(settings, FOX1_VOCABULARY)
    model.initialise(1)
    state = {
        name: value.to(torch.bfloat16).contiguous() for name, value in to_llama(model.state_dict(), settings).items()
    }
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    config = config_json(settings, FOX1_VOCABULARY, TokenizerFacts(0, 1, 2), "bf16")
    (folder / "config.json").write_text(json.dumps(config))


def resident() -> int:
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) * 1024


def run_fox1(folder: Path, device: str) -> Callable[[int], int]:
    model, _ = read_exported(folder, torch.bfloat16)
    model = model.to(device)

    def make(tokens: int) -> int:
        return sum(1 for _ in generate(model, list(range(5, 5 + PROMPT)), tokens))

    return make


def run_transformers(folder: Path, device: str) -> Callable[[int], int]:
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).to(device).eval()
    prompt = torch.arange(5, 5 + PROMPT, device=device)[None]

    def make(tokens: int) -> int:
        with torch.no_grad():
            made = model.generate(prompt, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False)
        return int(made.shape[1]) - PROMPT

    return make


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--tokens", type=int, default=256 if torch.cuda.is_available() else 16)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--worker", default="")
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    if options.worker:
        before = resident()
        make = {"fox1": run_fox1, "transformers": run_transformers}[options.worker](options.folder, device)
        make(2)
        began = time.perf_counter()
        made = make(options.tokens)
        seconds = time.perf_counter() - began
        memory = torch.cuda.max_memory_allocated() if device == "cuda" else resident() - before
        print(json.dumps({"tokens_per_second": made / seconds, "memory_mib": memory / 2**20}))
        return
    found: dict[str, list[dict[str, float]]] = {}
    with tempfile.TemporaryDirectory(prefix="fox1-generate-") as folder:
        write_model(Path(folder))
        for _ in range(options.pairs):
            for name in ("fox1", "transformers"):
                command = [
                    sys.executable,
                    __file__,
                    "--worker",
                    name,
                    "--folder",
                    folder,
                    "--tokens",
                    str(options.tokens),
                ]
                done = subprocess.run(command, capture_output=True, text=True, check=True)
                one = json.loads(done.stdout.strip().splitlines()[-1])
                found.setdefault(name, []).append(one)
                print(f"{name:13} {one['tokens_per_second']:8.2f} tokens/s, {one['memory_mib']:7,.0f} MiB", flush=True)
    medians = {n: {k: round(statistics.median(o[k] for o in v), 2) for k in v[0]} for n, v in found.items()}
    ratio = medians["fox1"]["tokens_per_second"] / medians["transformers"]["tokens_per_second"]
    name = torch.cuda.get_device_name() if device == "cuda" else "cpu"
    published = {"memory_mib": PUBLISHED_MEMORY_MIB, "tokens_per_second": PUBLISHED_TOKENS_PER_SECOND}
    print(json.dumps({"ratio": round(ratio, 2), "device": name, **medians, "published_on_an_h100": published}))


if __name__ == "__main__":
    main()
