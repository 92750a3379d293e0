"""Commands about models: train, curves, export, import, generate, eval."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..storage.store import open_root, shown
from .options import Place, RayAddress, RunFolder, resumable, warn_unfinished


def train(
    run: RunFolder,
    out: Annotated[
        Path,
        typer.Option(
            metavar="CKPT", parser=open_root, help="Folder or URL of the checkpoints; an unfinished one resumes."
        ),
    ],
    phase: Annotated[str, typer.Option(metavar="PHASE", help="A phase by number or name, or all.")] = "all",
    nproc: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    ray: Annotated[
        str, typer.Option(metavar="N|N:M", help="Workers of a Ray cluster instead; N:M: as many as there is room for.")
    ] = "",
    address: RayAddress = None,
    cpus_per_worker: Annotated[int, typer.Option(min=1, help="With --ray.")] = 1,
    max_failures: Annotated[int, typer.Option(min=0, help="With --ray: lost workers that are survived.")] = 3,
    resume: Annotated[
        str,
        typer.Option(metavar="auto|CKPT", help="Where a new folder begins: auto: anew; else from a checkpoint."),
        Place(("auto",)),
    ] = "auto",
    stop_after: Annotated[int, typer.Option(help="Leave after this step (0: at the end).")] = 0,
    force: Annotated[
        bool, typer.Option("--force", help="Go on although the data is not what a checkpoint was trained on.")
    ] = False,
    profile: Annotated[int, typer.Option(min=0, metavar="STEPS", help="Trace so many steps into CKPT/profile.")] = 0,
) -> None:
    """Train Fox-1 on a run's shard sets, phase by phase; goes on from the newest checkpoint of CKPT.

    Exit status 75: stopped by a signal, with the state saved.
    """
    from ..trainer.settings import Options

    if (out / "recipe.yaml").exists():
        raise ValueError(f"--out {shown(out)} is a run of `fox1 curate`: give checkpoints a folder of their own")
    warn_unfinished(run)
    options = Options(resume, stop_after, force, profile)
    if ray and nproc > 1:
        raise ValueError("give --nproc for processes on this machine, or --ray for workers of a cluster, not both")
    if ray:
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

        status = launch(run, out, phase, nproc, options)
    raise typer.Exit(status)


def curves(
    checkpoints: Annotated[
        list[Path], typer.Argument(metavar="CKPT...", parser=open_root, help="Folders of trainings.")
    ],
    out: Annotated[Path, typer.Option(parser=open_root, help="An .svg or .png file.")] = Path("curves.svg"),
) -> None:
    """Draw losses and throughput of trainings over their tokens."""
    from ..trainer.watch.curves import draw_curves

    draw_curves(checkpoints, out)
    print(f"{shown(out)}: {out.stat().st_size / 1e3:,.0f} KB")


def export_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", parser=open_root, help="A training's folder, or one checkpoint of it.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="For transformers and vLLM.")],
    dtype: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    tokenizer: Annotated[Path | None, typer.Option(help="The SentencePiece model, if CKPT has none.")] = None,
) -> None:
    """Write a checkpoint as a Llama of `transformers`: safetensors, config, tokenizer, generation config."""
    from ..trainer.checkpoints.export import export

    parameters = export(checkpoint, folder, dtype, tokenizer)
    print(f"{folder}: {parameters:,} parameters in {dtype}")


def import_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A Llama of transformers with tied embeddings.")],
    out: Annotated[Path, typer.Argument(metavar="CKPT", parser=open_root, help="New folder of checkpoints.")],
) -> None:
    """Read a model of `transformers` as a checkpoint."""
    from ..trainer.checkpoints.export import import_model

    print(f"{shown(out)}: {import_model(folder, out):,} parameters")


def generate_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", parser=open_root, help="A training's folder, or an exported one.")
    ],
    text: Annotated[str, typer.Argument(help="What the model goes on from.")],
    tokens: Annotated[int, typer.Option(min=1, help="At most.")] = 128,
    temperature: Annotated[float, typer.Option(min=0, help="0: always the likeliest token.")] = 0.0,
    top_p: Annotated[float, typer.Option(help="Sample among the likeliest tokens of this probability.")] = 1.0,
    seed: Annotated[int, typer.Option()] = 0,
    dtype: Annotated[str, typer.Option(help="bf16 or fp32; default: bf16 on a GPU, else fp32.")] = "",
) -> None:
    """Let a model go on from a text."""
    import time

    from ..storage.wording import printable
    from ..trainer.evaluate.generate import Sampling
    from ..trainer.evaluate.text_model import open_model

    model = open_model(checkpoint, dtype)
    began, made = time.monotonic(), 0
    for piece in model.complete(text, tokens, Sampling(temperature, top_p, seed)):
        print(printable(piece, "\n\t"), end="", flush=True)
        made += 1
    print()
    print(f"{made} tokens, {made / max(time.monotonic() - began, 1e-9):,.1f} a second", file=sys.stderr)


def eval_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", parser=open_root, help="A training's folder, or an exported one.")
    ],
    tasks: Annotated[
        str, typer.Option(help="Comma-separated: arc, hellaswag, truthfulqa, mmlu, winogrande, gsm8k; default: all.")
    ] = "",
    data: Annotated[
        Path | None,
        typer.Option(metavar="DIR", envvar="FOX1_EVAL", help="The benchmarks' published files; default: fetched."),
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Items of each task, to see that it runs; 0: all.")] = 0,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the scores as JSON, too.")] = None,
    dtype: Annotated[str, typer.Option(help="bf16 or fp32; default: bf16 on a GPU, else fp32.")] = "",
) -> None:
    """Score a model on six benchmarks, by lm-eval with the published numbers of examples, beside the released Fox-1."""
    import json
    import os

    # lm-eval's bar for each of MMLU's 57 subjects tells nothing; ours do. tqdm reads this when it is first imported.
    os.environ.setdefault("TQDM_DISABLE", "1")
    from ..trainer.evaluate.evaluate import as_json, choose, evaluate, measure_generation
    from ..trainer.evaluate.text_model import open_model
    from .show.scores import print_scores, track_items

    benchmarks = choose(tasks)
    if data and not data.is_dir():
        raise ValueError(f"--data {data} is no folder")
    model = open_model(checkpoint, dtype)
    scores = evaluate(model, benchmarks, data, limit, track_items)
    generation = measure_generation(model.model)
    print_scores(scores, generation)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(as_json(scores, generation), indent=1) + "\n")
