"""Commands about models: train, curves, export, import, generate, eval."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..storage.store import open_root, shown
from ..storage.wording import say
from .complete import phase_names
from .options import ComputeType, HoldsPlace, ModelFolder, RayAddress, RunFolder, resumable, warn_unfinished


def train(
    run: RunFolder,
    out: Annotated[
        Path,
        typer.Option(
            metavar="CKPT",
            parser=open_root,
            help="Folder or URL of the checkpoints; an unfinished training is resumed.",
        ),
    ],
    phase: Annotated[
        str,
        typer.Option(metavar="PHASE", help="Phase to train, by number or name, or all.", autocompletion=phase_names),
    ] = "all",
    nproc: Annotated[int, typer.Option(min=1, metavar="N", help="Number of processes on this machine.")] = 1,
    ray: Annotated[
        str,
        typer.Option(
            metavar="N|N:M",
            help="Train on N workers of a Ray cluster, or on N to M, as many as it has room for.",
        ),
    ] = "",
    address: RayAddress = None,
    cpus_per_worker: Annotated[int, typer.Option(min=1, metavar="N", help="With --ray: CPUs per worker.")] = 1,
    max_failures: Annotated[
        int, typer.Option(min=0, metavar="N", help="With --ray: number of lost workers to survive.")
    ] = 3,
    resume: Annotated[
        str,
        typer.Option(
            metavar="auto|CKPT",
            help="Where a training in a new folder starts: at the beginning (auto), or at the checkpoint CKPT.",
        ),
        HoldsPlace(("auto",)),
    ] = "auto",
    stop_after: Annotated[
        int, typer.Option(metavar="STEP", help="Save and stop after this step; 0: train to the end.")
    ] = 0,
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Continue although the run now holds other data than the checkpoint was trained on."
        ),
    ] = False,
    profile: Annotated[
        int,
        typer.Option(min=0, metavar="STEPS", help="Number of steps to profile, with traces written to CKPT/profile."),
    ] = 0,
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Override a setting of the training for this call, e.g. optimizer.learning_rate=1e-4; repeatable.",
        ),
    ] = None,
    log_every: Annotated[
        int | None,
        typer.Option(min=1, metavar="STEPS", help="Number of steps between reports (default: the recipe's)."),
    ] = None,
    checkpoint_minutes: Annotated[
        float | None,
        typer.Option(
            min=0,
            metavar="MINUTES",
            help="Save a checkpoint after this time, however few steps there were; 0: by steps only (default: the recipe's).",
        ),
    ] = None,
    name: Annotated[
        str,
        typer.Option(
            metavar="NAME", help="Name of the training in metrics, TensorBoard and W&B (default: its folder's)."
        ),
    ] = "",
    plan: Annotated[
        bool,
        typer.Option("--plan", help="Print steps, learning rate and the memory of a GPU, and train nothing."),
    ] = False,
) -> None:
    """Train Fox-1 on a run's shard sets, phase by phase.

    The training resumes from the newest checkpoint in CKPT.

    The exit status is 75 if a signal stopped the training after it saved its state.
    """
    from ..trainer.settings import Options

    if (out / "recipe.yaml").exists():
        raise ValueError(f"--out {shown(out)} is a run of `fox1 curate`; give the checkpoints a folder of their own")
    warn_unfinished(run)
    options = Options(resume, stop_after, force, profile, tuple(changes or ()), log_every, checkpoint_minutes, name)
    if ray and nproc > 1:
        raise ValueError(
            "--nproc and --ray exclude each other: give --nproc for processes on this machine, or --ray for workers of a cluster"
        )
    if plan:
        from ..trainer.launch_ray import Workers
        from ..trainer.plan import training_plan

        for line in training_plan(run, options, Workers.parse(ray, 0).most if ray else nproc):
            say(line)
        status = 0
    elif ray:
        from ..trainer.launch_ray import Workers, launch_on_ray, load_kernels

        load_kernels()
        from ray import cluster_resources

        from ..pipeline.engine.on_ray import ray_session

        with resumable(), ray_session(address, None):
            gpus = int(bool(cluster_resources().get("GPU")))
            workers = Workers.parse(ray, gpus, cpus_per_worker, max_failures)
            status = launch_on_ray(run, out, phase, workers, options)
    else:
        from ..trainer.launch import launch

        with resumable():
            status = launch(run, out, phase, nproc, options)
    raise typer.Exit(status)


def curves(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CKPT", parser=open_root, help="Folders or URLs of trainings.")
    ],
    out: Annotated[Path, typer.Option(parser=open_root, metavar="FILE", help="The .svg or .png file to write.")] = Path(
        "curves.svg"
    ),
) -> None:
    """Draw the losses and the throughput of trainings.

    The horizontal axis is the number of tokens seen.
    """
    from ..trainer.watch.curves import draw_curves

    draw_curves(checkpoints, out)
    say(f"{shown(out)}: {out.stat().st_size / 1e3:,.0f} KB")


def export_command(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="CKPT", parser=open_root, help="Folder of a training (its newest checkpoint), or of one checkpoint."
        ),
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write, which transformers and vLLM load.")],
    dtype: Annotated[str, typer.Option(metavar="TYPE", help="Type of the weights: bf16 or fp32.")] = "bf16",
    tokenizer: Annotated[
        Path | None, typer.Option(metavar="MODEL", help="The SentencePiece model, needed where CKPT has none.")
    ] = None,
) -> None:
    """Write a checkpoint as a Llama model of transformers.

    The folder holds safetensors, config, tokenizer and generation config.
    """
    from ..trainer.checkpoints.export import export

    parameters = export(checkpoint, folder, dtype, tokenizer, lambda line: say(line, sys.stderr))
    say(f"{folder}: {parameters:,} parameters in {dtype}")


def import_command(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder of a Llama model of transformers with tied embeddings.")
    ],
    out: Annotated[
        Path, typer.Argument(metavar="CKPT", parser=open_root, help="New folder or URL for the checkpoint.")
    ],
) -> None:
    """Turn a model of transformers into a checkpoint to train from."""
    from ..trainer.checkpoints.export import import_model

    say(f"{shown(out)}: {import_model(folder, out):,} parameters")


def generate_command(
    checkpoint: ModelFolder,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Prompt.")],
    tokens: Annotated[int, typer.Option(min=1, metavar="N", help="Maximum number of new tokens.")] = 128,
    temperature: Annotated[
        float, typer.Option(min=0, metavar="T", help="Sampling temperature; 0: always take the likeliest token.")
    ] = 0.0,
    top_p: Annotated[
        float, typer.Option(metavar="P", help="Sample among the likeliest tokens whose probabilities add up to P.")
    ] = 1.0,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of the sampling.")] = 0,
    dtype: ComputeType = "",
) -> None:
    """Generate text from a prompt, and show both."""
    import time

    from ..storage.wording import printable
    from ..trainer.evaluate.generate import Sampling
    from ..trainer.evaluate.text_model import open_model

    model = open_model(checkpoint, dtype)
    print(printable(text, "\n\t"), end="", flush=True)
    began, made = time.monotonic(), 0
    for piece in model.complete(text, tokens, Sampling(temperature, top_p, seed)):
        print(printable(piece, "\n\t"), end="", flush=True)
        made += 1
    print()
    say(f"{made} tokens, {made / max(time.monotonic() - began, 1e-9):,.1f} per second", sys.stderr)


def eval_command(
    checkpoint: ModelFolder,
    tasks: Annotated[
        str,
        typer.Option(
            metavar="TASK,...", help="Tasks to run: arc, hellaswag, truthfulqa, mmlu, winogrande, gsm8k (default: all)."
        ),
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            envvar="FOX1_EVAL",
            help="Folder of the benchmarks' published files (default: they are downloaded).",
        ),
    ] = None,
    limit: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of items per task, for a quick trial; 0: all.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write the scores to this file, as JSON.")
    ] = None,
    dtype: ComputeType = "",
) -> None:
    """Score a model on six benchmarks, beside the released Fox-1.

    lm-eval runs them, with as many examples in the prompt as the published scores were made with.
    """
    import json
    import os

    # lm-eval's bar for each of MMLU's 57 subjects says nothing; ours do. tqdm reads this when it is first imported.
    os.environ.setdefault("TQDM_DISABLE", "1")
    from ..trainer.evaluate.evaluate import as_json, choose, evaluate, measure_generation
    from ..trainer.evaluate.text_model import open_model
    from .show.scores import print_scores, track_items

    benchmarks = choose(tasks)
    if data and not data.is_dir():
        raise ValueError(f"--data {data} is not a folder")
    model = open_model(checkpoint, dtype)
    scores = evaluate(model, benchmarks, data, limit, track_items)
    generation = measure_generation(model.model)
    print_scores(scores, generation)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(as_json(scores, generation), indent=1) + "\n")
