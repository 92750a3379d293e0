"""What of the trainer only a GPU can show: is it right there, how fast is it, and what does it hold in memory?

    python -m benchmarks.gpu_check make FOLDER [--small] [--run RUN]     here: sets of random tokens, at most 60 MB
    python benchmarks/gpu_check.py run FOLDER [--seconds 600]    on a machine with a GPU, torch, numpy and pyarrow

The second needs no installed fox1 and nothing of the first machine but this checkout and the folder. Its parts are processes of
their own with a share of the time, ours first: one that fails is told, and the others go on.

- check: what `fox1 doctor --gpu` compares with a dense model in fp32, at every length
- llama: logits against `LlamaForCausalLM` of transformers with the same weights, where that is importable
- resume: a training that is stopped and goes on ends in the weights of one that was not
- train: tokens per second, both MFUs and peak memory (beside what was estimated) by block length, a new graph after the first step
  counted
- trace: of a few steps, beside the folder
- generate: speed and memory with the weights in bf16, beside the published figures of Fox-1
- variant: the same of the shortest blocks with another setting: Muon, fp8, activation checkpointing, nothing compiled
- trainer_hf: transformers' Trainer on the same blocks, where it is importable

Without a GPU it runs in fp32 on the CPU, for which `make --small` makes sets: so that it is known to run. There it also counts
what a GPU would be asked for (`gpu_counts.py`), which of these parts a machine with a GPU leaves out:

- steps: copies, casts and waits of a few steps, evaluations and checkpoints, by tensors of a GPU that have no values
- memory: bytes at the peak of a step of the 1.6B model with 32,768 tokens at once, beside the estimate, by activation checkpointing
- blocks: thread blocks of attention that are launched, and those that have work; `make --run RUN` adds those of a curated run

The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SPEC = "gpu_check.json"
WARM = 2
"""Steps that are not timed: compilation, first allocations."""
TIMED = 6
VARIANTS = (
    "optimizer.name=muon",
    "fp8_linears=true",
    "activation_checkpointing=selective",
    "attention=fa2",
    "compile=false",
)
LAYERS = 4
"""Of the models that are compared or resumed."""
LOGITS_ERROR = 5e-2
"""Largest error of a logit in bf16, over their standard deviation."""

FULL: dict[str, Any] = {
    "size": "1.6b",
    "lengths": [2048, 4096, 8192],
    "vocabulary": 256_000,
    "batch": 1 << 18,
    "micro": 1 << 15,
}
SMALL: dict[str, Any] = {
    "size": "tiny",
    "lengths": [128, 256, 512],
    "vocabulary": 2_000,
    "batch": 1 << 12,
    "micro": 1 << 11,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("make", "run"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--small", action="store_true", help="sets for a CPU, with make")
    parser.add_argument("--run", type=Path, help="curated run whose packings are counted, with make")
    parser.add_argument("--seconds", type=float, default=600.0, help="all parts together, with run")
    parser.add_argument("--part", default="", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.what == "make":
        make(options.folder, SMALL if options.small else FULL, options.run)
    elif options.part:
        spec = json.loads((options.folder / SPEC).read_text())
        name, _, argument = options.part.partition(":")
        print(json.dumps(PARTS[name](options.folder, spec, argument)))
    else:
        run(options.folder, options.seconds)


# --- here ---------------------------------------------------------------------------------------------------------------


def make(folder: Path, spec: dict[str, Any], curated: Path | None = None) -> None:
    """Write the sets and the settings of their trainings, and how many thread blocks attention takes on those of a curated run."""
    from fox1.benchmarks.blocks import write_set
    from fox1.recipes.load import load_recipe
    from fox1.trainer.settings import PhaseTraining, ScheduleSettings, TrainSettings

    for name in ("FOX1_DATA", "FOX1_TOKENIZER"):
        os.environ.setdefault(name, "/none")
    size = load_recipe("fox1", [])[0].training.sizes[spec["size"]]
    lengths, tokens = spec["lengths"], spec["batch"] * (WARM + TIMED + 1)
    sets = {str(n): [n] for n in lengths} | {"mixed": lengths[-2:]}
    # Three documents a block and one that fills it, as packing leaves them, cost attention what real blocks do.
    shares = [0.11, 0.37, 0.52, 1.0]
    for name, its in sets.items():
        write_set(folder / name / "phases" / "phase1", its, tokens, shares, spec["vocabulary"])
        settings = TrainSettings(
            model=size.model,
            phases=(PhaseTraining("phase1", 0, spec["batch"], 1),),
            micro_batch_tokens=spec["micro"],
            optimizer=size.optimizer,
            schedule=ScheduleSettings(warmup_steps=4),
            checkpoint_every=10**9,
        )
        (folder / name / "training.json").write_text(json.dumps(asdict(settings)))
    packings = []
    if curated:
        from fox1.benchmarks.gpu_counts import thread_blocks

        packings = list(thread_blocks(curated, FULL["micro"]))
    (folder / SPEC).write_text(json.dumps({**spec, "sets": list(sets), "packings": packings}))
    held = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    print(f"{folder}: {held / 1e6:.0f} MB, sets {', '.join(sets)}")


# --- there --------------------------------------------------------------------------------------------------------------


def run(folder: Path, seconds: float) -> None:
    """Run all parts, and print what each found."""
    spec = json.loads((folder / SPEC).read_text())
    began = time.monotonic()
    parts = ["check", "resume", *(f"train:{name}" for name in spec["sets"]), "generate", "llama"]
    parts += ["trace", *(f"trainer_hf:{n}" for n in spec["lengths"][:1]), *(f"variant:{change}" for change in VARIANTS)]
    found: dict[str, Any] = {"environment": environment()}
    if found["environment"]["device"] == "cpu":
        parts = ["steps", "blocks", *parts, *(f"memory:{choice}" for choice in ("none", "selective", "full"))]
    print(json.dumps(found["environment"]), flush=True)
    with tempfile.TemporaryDirectory(prefix="fox1-gpu-check-") as place:
        # The repository's root is the package.
        (Path(place) / "fox1").symlink_to(ROOT)
        given = {**os.environ, "PYTHONPATH": place, "PYTHONDONTWRITEBYTECODE": "1"}
        for part in parts:
            left = seconds - (time.monotonic() - began)
            found[part] = _apart(part, folder, left, given) if left > 5 else {"error": "not run: no time was left"}
            print(f"{part}: {json.dumps(found[part])}", flush=True)
            if part == "blocks" and "error" not in found[part]:
                print("\n".join(_table_of_blocks(found[part])), flush=True)
    wrong = [part for part, values in found.items() if "error" in values or values.get("right") is False]
    print(json.dumps({**found, "wrong": wrong, "seconds": round(time.monotonic() - began, 1)}))


def _table_of_blocks(found: dict[str, Any]) -> list[str]:
    """Lines: thread blocks of attention by micro-batch and head, of the sets and of a curated run."""
    rows = [(f"set {name}", found[name]) for name in found if name not in ("curated", "seconds")]
    rows += [(f"curated {row['phase']}", row) for row in found["curated"]]
    lines = [f"  {'blocks of':24} {'segments':>8} {'launched':>8} {'with work':>9} {'share':>6} {'if padded':>9}"]
    for name, row in rows:
        figures = (
            f"{row['segments']:8} {row['launched']:8} {row['busy']:9} {row['share']:6.1%} {row['share_if_padded']:9.1%}"
        )
        lines.append(f"  {name + ' ' + '+'.join(map(str, row['lengths'])):24} {figures}")
    return lines


def _apart(part: str, folder: Path, seconds: float, environment: dict[str, str]) -> dict[str, Any]:
    """What a part says in a process of its own, with the seconds that it took."""
    command = [sys.executable, str(Path(__file__).resolve()), "run", str(folder.resolve()), "--part", part]
    began = time.monotonic()
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=seconds)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {seconds:.0f} s"}
    if done.returncode:
        return {"error": " | ".join(done.stderr.strip().splitlines()[-3:])[-600:]}
    said: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return {**said, "seconds": round(time.monotonic() - began, 1)}


def environment() -> dict[str, Any]:
    """The device and the versions."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "cuda": torch.version.cuda,
        "memory_gib": round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1) if cuda else None,
        "python": sys.version.split()[0],
    }


def _device() -> Any:
    import torch

    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _settings(folder: Path, name: str) -> Any:
    from fox1.trainer.train import read_settings

    return read_settings(folder / name)


def check(folder: Path, spec: dict[str, Any], _: str) -> dict[str, Any]:
    """What `fox1 doctor --gpu` compares, over a block of each length."""
    import torch.distributed as dist
    from fox1.trainer.checks.device import check_device
    from fox1.trainer.parallel import start_processes

    device = start_processes()
    settings = _settings(folder, spec["sets"][0])
    found = [(n, f) for n in spec["lengths"] for f in check_device(settings, spec["vocabulary"], n, device)]
    dist.destroy_process_group()
    return {"right": all(f.right for _n, f in found), **{f"{f.name} {n}": f.found for n, f in found}}


def _with_few_layers(settings: Any) -> Any:
    return replace(settings, model=replace(settings.model, layers=min(LAYERS, settings.model.layers)))


def check_llama(folder: Path, spec: dict[str, Any], _: str) -> dict[str, Any]:
    """Logits of one document against `LlamaForCausalLM` with the exported weights."""
    import torch

    try:
        import transformers
    except ImportError:
        return {"not_run": "transformers is not importable"}
    from fox1.trainer.checkpoints.export import TokenizerFacts, to_llama
    from fox1.trainer.checkpoints.llama_config import config_json
    from fox1.trainer.checks.device import dtype_of
    from fox1.trainer.evaluate.generate import Cache, next_logits
    from fox1.trainer.model.model import Fox1

    device = _device()
    s = _with_few_layers(_settings(folder, spec["sets"][0])).model
    kind = dtype_of(device)
    model = Fox1(s, spec["vocabulary"])
    model.initialise(1)
    config = transformers.LlamaConfig(**config_json(s, spec["vocabulary"], TokenizerFacts(0, 1, 2), "fp32"))
    theirs = transformers.LlamaForCausalLM(config)
    theirs.load_state_dict(to_llama(model.state_dict(), s), strict=False)
    model, theirs = model.to(device, kind).eval(), theirs.to(device, kind).eval()
    tokens = torch.randint(4, spec["vocabulary"], (spec["lengths"][0],), device=device)
    with torch.no_grad():
        wanted = theirs(tokens[None]).logits[0, -1].float()
    ours = next_logits(model, tokens, Cache(model, len(tokens)))
    error = float((ours - wanted).abs().max() / wanted.std())
    return {"right": error < LOGITS_ERROR, "largest_error": error, "dtype": str(kind)}


def check_resume(folder: Path, spec: dict[str, Any], _: str) -> dict[str, Any]:
    """Train three steps at once, and two and one with a checkpoint between: are the weights the same?"""
    from fox1.trainer.settings import Options
    from fox1.trainer.train import train

    name = str(spec["lengths"][0])
    few = _with_few_layers(_settings(folder, name))
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        shutil.copytree(folder / name, root / "run")
        (root / "run" / "training.json").write_text(json.dumps(asdict(replace(few, checkpoint_every=1))))
        train(root / "run", root / "whole", [0], Options(stop_after=3))
        for steps in (2, 3):
            train(root / "run", root / "parts", [0], Options(stop_after=steps))
        first, second = (_losses(root / out) for out in ("whole", "parts"))
    return {"right": first[-1] == second[-1], "loss": first[-1], "after_resume": second[-1]}


def _losses(out: Path) -> list[float]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if line["kind"] == "train"]


def measure_training(folder: Path, spec: dict[str, Any], name: str, changes: tuple[str, ...] = ()) -> dict[str, Any]:
    """A few steps of the trainer on a set."""
    import torch
    from fox1.trainer.memory import memory_need
    from fox1.trainer.overrides import override
    from fox1.trainer.settings import Options
    from fox1.trainer.train import train

    options = Options(stop_after=WARM + TIMED, log_every=1, set=changes)
    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "checkpoints")
        train(folder / name, out, [0], options)
        lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    steps = [line for line in lines if line["kind"] == "train"]
    timed = steps[WARM:]
    found: dict[str, Any] = {
        "tokens_per_second": round(len(timed) / sum(1 / line["tokens_per_second"] for line in timed)),
        "data_wait": max(line["data_wait"] for line in timed),
        "losses": [round(line["loss"], 4) for line in steps],
    }
    for key in ("mfu", "mfu_palm", "memory_bytes"):
        if key in timed[-1]:
            found[key] = timed[-1][key]
    if "memory_bytes" in found:
        settings = override(_settings(folder, name), options)
        choice = settings.activation_checkpointing.replace("auto", "none")
        found["memory_estimated"] = memory_need(settings, spec["vocabulary"], 1, choice).total
    found["graphs"] = int(torch._dynamo.utils.counters["stats"].get("unique_graphs", 0))
    return found


def measure_variant(folder: Path, spec: dict[str, Any], change: str) -> dict[str, Any]:
    """A few steps of the trainer on the shortest blocks with another setting."""
    return measure_training(folder, spec, spec["sets"][0], (change,))


def trace(folder: Path, spec: dict[str, Any], _: str) -> dict[str, Any]:
    """A trace of two steps, kept beside the sets."""
    from fox1.trainer.settings import Options
    from fox1.trainer.train import train

    with tempfile.TemporaryDirectory() as place:
        out = Path(place, "checkpoints")
        train(folder / spec["sets"][0], out, [0], Options(stop_after=6, profile=2))
        (made,) = (out / "profile").iterdir()
        kept = folder / made.name
        shutil.copyfile(made, kept)
    return {"trace": kept.name, "bytes": kept.stat().st_size}


def measure_generation(folder: Path, spec: dict[str, Any], _: str) -> dict[str, Any]:
    """Greedy text with a cache, weights in bf16."""
    import torch
    from fox1.trainer.evaluate.evaluate import PUBLISHED_MEMORY_MIB, PUBLISHED_TOKENS_PER_SECOND
    from fox1.trainer.evaluate.generate import generate
    from fox1.trainer.model.model import Fox1

    device = _device()
    model = Fox1(_settings(folder, spec["sets"][0]).model, spec["vocabulary"])
    model.initialise(1)
    model = model.to(device, torch.bfloat16)

    def text(tokens: int) -> int:
        return sum(1 for _ in generate(model, list(range(5, 69)), tokens))

    text(4)
    began, made = time.perf_counter(), text(256 if device.type == "cuda" else 16)
    found: dict[str, Any] = {"tokens_per_second": round(made / (time.perf_counter() - began), 1)}
    if device.type == "cuda":
        found["memory_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    published = {"memory_mib": PUBLISHED_MEMORY_MIB, "tokens_per_second": PUBLISHED_TOKENS_PER_SECOND}
    return {**found, "published_on_an_h100": published}


def measure_hf(folder: Path, spec: dict[str, Any], length: str) -> dict[str, Any]:
    """transformers' Trainer on the same blocks."""
    try:
        import accelerate  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        return {"not_run": f"{error.name} is not importable"}
    from fox1.benchmarks.bench_train import run_hf

    settings = _settings(folder, length)
    rate, memory = run_hf(
        folder / length, settings, int(length), spec["batch"], TIMED, spec["micro"], spec["vocabulary"]
    )
    return {"tokens_per_second": round(rate), "memory_bytes": memory}


def steps_of_a_gpu(folder: Path, spec: dict[str, Any], _: str) -> dict[str, Any]:
    """What a few steps ask a GPU for, and whether that is what they should."""
    from fox1.benchmarks.gpu_counts import count_steps

    name = "mixed"
    settings = _with_few_layers(_settings(folder, name))
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(folder / name, place, dirs_exist_ok=True)
        # Something to evaluate on: these blocks again.
        shutil.copytree(folder / name / "phases" / "phase1", Path(place, "held_out"))
        few = replace(settings, evaluate_every=1, evaluate_blocks=8, checkpoint_every=10**9)
        return count_steps(Path(place), few)


def memory_of_a_gpu(folder: Path, spec: dict[str, Any], choice: str) -> dict[str, Any]:
    """Bytes at the peak of a step of the 1.6B model, counted and estimated."""
    from fox1.benchmarks.blocks import write_set
    from fox1.benchmarks.gpu_counts import count_memory
    from fox1.trainer.settings import ModelSettings, PhaseTraining

    micro, vocabulary = FULL["micro"], FULL["vocabulary"]
    phase = PhaseTraining("phase1", 0, 2 * micro, 1)
    settings = replace(_settings(folder, spec["sets"][0]), model=ModelSettings(), phases=(phase,))
    with tempfile.TemporaryDirectory() as place:
        write_set(Path(place, "phases", "phase1"), [2048], 4 * micro, [0.11, 0.37, 0.52, 1.0], vocabulary)
        return count_memory(Path(place), replace(settings, micro_batch_tokens=micro), vocabulary, choice)


def blocks_of_attention(folder: Path, spec: dict[str, Any], _: str) -> dict[str, Any]:
    """Thread blocks of attention over the sets, and over what a curated run has packed."""
    from fox1.benchmarks.gpu_counts import thread_blocks

    own = {name: next(iter(thread_blocks(folder / name, spec["micro"]))) for name in spec["sets"]}
    return {**own, "curated": spec.get("packings", [])}


PARTS: dict[str, Callable[[Path, dict[str, Any], str], dict[str, Any]]] = {
    "check": check,
    "llama": check_llama,
    "resume": check_resume,
    "train": measure_training,
    "trace": trace,
    "generate": measure_generation,
    "trainer_hf": measure_hf,
    "variant": measure_variant,
    "steps": steps_of_a_gpu,
    "memory": memory_of_a_gpu,
    "blocks": blocks_of_attention,
}


if __name__ == "__main__":
    main()
