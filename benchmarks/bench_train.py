"""Training throughput beside Hugging Face's Trainer and torchtitan's Llama 3, on the same blocks.

    python -m benchmarks.bench_train [--size 1.6b] [--lengths 2048,4096,8192] [--pairs 3]

On a GPU: Fox-1 of 1.6B parameters, 256,000 pieces, bf16 over fp32 master weights; the peers get compile, flash attention where
it is installed, and the best of several micro-batches. On the CPU it runs small: the tiny size, 16,000 pieces, fp32, eager.
Blocks hold one document of full length, so that peers without a document mask do the same work; for fox1, blocks of many
documents and a set of two lengths are measured beside them. Every measurement is a process of its own, the systems in turn;
medians. torchtitan's Trainer wants a GPU and an assets folder: its model, loss, FSDP2 and per-block compile run in a loop here.
The last line is JSON; `ratio` is the smallest over peers and lengths.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from fox1.trainer.model.model import flops_per_token
from fox1.trainer.settings import (
    PhaseTraining,
    ScheduleSettings,
    TrainSettings,
)
from fox1.trainer.watch.metrics import peak_flops

if TYPE_CHECKING:
    from fox1.recipes.training import Size

# Recipes and the pipeline are imported where they are used: workers need the trainer alone, as `gpu_check.py` does.

MANY = 5
"""Documents of a block of `many`."""
WARM = 2 if torch.cuda.is_available() else 1
"""Steps that are not timed: compilation, first allocations."""


def size_of(name: str) -> Size:
    from fox1.recipes.load import load_recipe

    os.environ.setdefault("FOX1_DATA", "/none")
    os.environ.setdefault("FOX1_TOKENIZER", "/none")
    recipe, _ = load_recipe("fox1", [])
    return recipe.training.sizes[name]


# --- what a worker process measures: (tokens per second, peak bytes) --------------------------------------------------


def peak_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    from fox1.pipeline.engine.memory import peak_bytes

    return peak_bytes()


def run_fox1(run: Path, size: Size, batch: int, steps: int, micro: int) -> tuple[float, int]:
    from fox1.trainer.settings import Options
    from fox1.trainer.train import train

    settings = TrainSettings(
        size.model,
        (PhaseTraining("phase1", 0, batch, 1),),
        micro,
        size.optimizer,
        ScheduleSettings(10),
        checkpoint_every=10**9,
        checkpoint_minutes=0,
        log_every=1,  # a report each step: the time of each, and the device is waited for
    )
    (run / "training.json").write_text(json.dumps(asdict(settings)))
    with tempfile.TemporaryDirectory() as out:
        train(run, Path(out) / "ckpt", [0], Options(stop_after=WARM + steps))
        lines = [json.loads(line) for line in open(Path(out) / "ckpt" / "metrics.jsonl")]
    rates = [line["tokens_per_second"] for line in lines if line["kind"] == "train"][WARM:]
    return len(rates) / sum(1 / r for r in rates), peak_memory()


def blocks_of(run: Path, length: int, batch: int) -> Callable[[int], torch.Tensor]:
    """int64 [batch / length, length]: the blocks of a step."""
    from fox1.trainer.data.order import PhaseData

    data, count = PhaseData(run / "phases" / "phase1", 1), batch // length

    def read(step: int) -> torch.Tensor:
        tokens = data.stream(step * count % (data.units - count + 1), count).tokens
        return torch.from_numpy(tokens.astype(np.int64)).view(count, length)

    return read


def run_hf(
    run: Path, size: Size, length: int, batch: int, steps: int, micro: int, vocabulary: int
) -> tuple[float, int]:
    import transformers

    s, cuda = size.model, torch.cuda.is_available()
    config = transformers.LlamaConfig(
        vocab_size=vocabulary, hidden_size=s.hidden, intermediate_size=s.intermediate, num_hidden_layers=s.layers,
        num_attention_heads=s.heads, num_key_value_heads=s.kv_heads, head_dim=s.head_dim, rms_norm_eps=s.norm_eps,
        max_position_embeddings=s.max_positions, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    try:
        import flash_attn  # noqa: F401

        attention = "flash_attention_2"
    except ImportError:
        attention = "sdpa"
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation=attention)
    read, each = blocks_of(run, length, batch), batch // length
    rows = [block for step in range(WARM + steps) for block in read(step)]

    class Rows(torch.utils.data.Dataset[dict[str, torch.Tensor]]):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
            return {"input_ids": rows[index], "labels": rows[index]}

    times: list[float] = []

    class Clock(transformers.TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if cuda:
                torch.cuda.synchronize()
            times.append(time.perf_counter())

    rows_a_micro = micro // length
    with tempfile.TemporaryDirectory() as out:
        arguments = transformers.TrainingArguments(
            out, per_device_train_batch_size=rows_a_micro, gradient_accumulation_steps=each // rows_a_micro,
            max_steps=WARM + steps, bf16=cuda, torch_compile=cuda, optim="adamw_torch_fused", use_cpu=not cuda,
            save_strategy="no", report_to=[], logging_strategy="no", dataloader_num_workers=0, max_grad_norm=1.0,
            disable_tqdm=True,
        )  # fmt: skip
        transformers.Trainer(model, arguments, train_dataset=Rows(), callbacks=[Clock()]).train()
    return steps * batch / (times[-1] - times[WARM - 1]), peak_memory()


def run_torchtitan(
    run: Path, size: Size, length: int, batch: int, steps: int, micro: int, vocabulary: int
) -> tuple[float, int]:
    if not torch.cuda.is_available():
        # Its kernels for mixtures of experts, which this model has none of, want triton.
        from unittest.mock import MagicMock

        sys.modules["torchtitan.models.moe.kernels"] = MagicMock()
    import torch.distributed as dist
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
    from torchtitan.components.loss import cross_entropy_loss
    from torchtitan.models.llama3.model.args import TransformerModelArgs
    from torchtitan.models.llama3.model.model import Transformer

    cuda, s = torch.cuda.is_available(), size.model
    device = torch.device("cuda" if cuda else "cpu")
    dist.init_process_group("nccl" if cuda else "gloo", store=dist.HashStore(), rank=0, world_size=1)
    wanted = s.intermediate / (8 * s.hidden / 3)
    arguments = TransformerModelArgs(
        dim=s.hidden, n_layers=s.layers, n_heads=s.heads, n_kv_heads=s.kv_heads, vocab_size=vocabulary,
        multiple_of=64, ffn_dim_multiplier=wanted, max_seq_len=length,
    )  # fmt: skip
    with torch.no_grad():
        model = Transformer(arguments)
        model.init_weights()
    # Its Llama has two matrices of the vocabulary; Fox-1 has one.
    model.output.weight = model.tok_embeddings.weight
    model.to(device)
    policy = (
        MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32) if cuda else MixedPrecisionPolicy()
    )
    mesh = init_device_mesh(device.type, (1,))
    for layer in model.layers.values():
        if cuda:
            layer.compile(fullgraph=True)
        fully_shard(layer, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    loss_of = torch.compile(cross_entropy_loss) if cuda else cross_entropy_loss
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    read, rows_a_micro = blocks_of(run, length, batch), micro // length
    began = 0.0
    for step in range(WARM + steps):
        if step == WARM:
            if cuda:
                torch.cuda.synchronize()
            began = time.perf_counter()
        for rows in read(step).split(rows_a_micro):
            tokens = rows.to(device)
            targets = torch.cat([tokens[:, 1:], torch.full_like(tokens[:, :1], -100)], 1)
            (loss_of(model(tokens), targets) * rows_a_micro * length / batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if cuda:
        torch.cuda.synchronize()
    seconds = time.perf_counter() - began
    dist.destroy_process_group()
    return steps * batch / seconds, peak_memory()


# --- the measurement --------------------------------------------------------------------------------------------------


def measured(
    root: Path, name: str, kind: str, length: int, micro: int, options: argparse.Namespace
) -> dict[str, float] | None:
    """One worker process; None if it failed, as one that ran out of memory does."""
    command = [sys.executable, __file__, "--worker", name, "--run", str(root / kind), "--size", options.size]
    command += ["--lengths", str(length), "--micro", str(micro), "--batch", str(options.batch)]
    command += ["--steps", str(options.steps), "--vocabulary", str(options.vocabulary)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root)
    if done.returncode:
        print(f"{name} {kind}, micro-batch {micro:,}: {done.stderr.strip().splitlines()[-1][:150]}")
        return None
    found: dict[str, float] = json.loads(done.stdout.strip().splitlines()[-1])
    print(
        f"{name:11} {kind:12} micro-batch {micro:6,} tokens: {found['tokens_per_second']:10,.0f} tokens/s, "
        f"{found['memory'] / 2**30:6.2f} GiB",
        flush=True,
    )
    return found


def best_micro(root: Path, name: str, kind: str, length: int, options: argparse.Namespace) -> int:
    """The fastest micro-batch of a peer, in tokens."""
    rates = {}
    for blocks in (1, 2, 4, 8, 16) if torch.cuda.is_available() else (1, 4):
        micro = blocks * length
        if (
            micro <= options.batch
            and options.batch % micro == 0
            and (one := measured(root, name, kind, length, micro, options))
        ):
            rates[micro] = one["tokens_per_second"]
    if not rates:
        raise SystemExit(f"{name} runs with no micro-batch at {length}")
    return max(rates, key=lambda m: rates[m])


def main() -> None:
    cuda = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--size", default="1.6b" if cuda else "tiny")
    parser.add_argument("--lengths", default="2048,4096,8192" if cuda else "2048,4096")
    parser.add_argument("--vocabulary", type=int, default=256_000 if cuda else 16_000)
    parser.add_argument("--batch", type=int, default=(512 if cuda else 16) * 1024, help="tokens of a step")
    parser.add_argument("--micro", type=int, default=(32 if cuda else 8) * 1024, help="fox1's, in tokens")
    parser.add_argument("--steps", type=int, default=6 if cuda else 2)
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--peers", default="hf,torchtitan")
    parser.add_argument("--worker", default="")
    parser.add_argument("--run", type=Path)
    options = parser.parse_args()
    size, lengths = size_of(options.size), [int(n) for n in options.lengths.split(",")]
    if options.worker:
        peers = {"hf": run_hf, "torchtitan": run_torchtitan}
        common = (options.batch, options.steps, options.micro)
        if options.worker == "fox1":
            rate, memory = run_fox1(options.run, size, *common)
        else:
            rate, memory = peers[options.worker](options.run, size, lengths[0], *common, options.vocabulary)
        print(json.dumps({"tokens_per_second": rate, "memory": memory}))
        return
    from fox1.benchmarks.blocks import write_set
    from fox1.benchmarks.peers import bring

    if not cuda:
        print("no GPU here: the tiny size in fp32, eager; these ratios say nothing about a GPU")
        bring("transformers", "accelerate", "torchtitan")  # A GPU machine is often cut off, and has what it has.
    device = torch.cuda.get_device_name() if cuda else "cpu"
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="fox1-train-") as folder:
        root, tokens = Path(folder), options.batch * (WARM + options.steps + 1)
        sets = {f"{n}": ([n], 1) for n in lengths} | {f"{n} many": ([n], MANY) for n in lengths}
        sets["mixed"] = (lengths[-2:], 1)
        for kind, (its, documents) in sets.items():
            shares = [(k + 1) / documents for k in range(documents)]
            write_set(root / kind / "phases" / "phase1", its, tokens * len(its), shares, options.vocabulary)
        peers = options.peers.split(",") if options.peers else []
        chosen = {(p, n): best_micro(root, p, str(n), n, options) for p in peers for n in lengths}
        for _ in range(options.pairs):
            for kind, (its, documents) in sets.items():
                systems = [("fox1", options.micro)]
                if len(its) == documents == 1:
                    systems += [(p, chosen[p, its[0]]) for p in peers]
                for name, micro in systems:
                    if one := measured(root, name, kind, its[-1], micro, options):
                        found.setdefault(f"{name} {kind}", []).append(one)
    medians = {k: {m: statistics.median(one[m] for one in v) for m in v[0]} for k, v in found.items()}
    ratios = {
        f"ratio_{p}_{n}": round(medians[f"fox1 {n}"]["tokens_per_second"] / medians[f"{p} {n}"]["tokens_per_second"], 2)
        for p in peers
        for n in lengths
    }
    shape, peak = size.model, peak_flops(device)
    for key, value in medians.items():
        kind = key.split(" ", 1)[1]
        length = sets[kind][0][-1]
        if peak:
            square = length / sets[kind][1]
            value["mfu"] = value["tokens_per_second"] * flops_per_token(shape, options.vocabulary, square) / peak
            value["mfu_palm"] = (
                value["tokens_per_second"] * flops_per_token(shape, options.vocabulary, 2 * length) / peak
            )
    print(json.dumps({"ratio": min(ratios.values(), default=None), "device": device, **ratios, "medians": medians}))


if __name__ == "__main__":
    main()
