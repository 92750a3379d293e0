"""The command line: each command is a few lines that call a part. Heavy imports happen inside the commands."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import __version__
from .storage import open_root, shown
from .submit import DEFAULT_ADDRESS

if TYPE_CHECKING:
    from .pipeline.artifacts import RunPaths
    from .pipeline.identity import SourceFile

app = typer.Typer(
    name="fox1",
    help="Curate five public corpora into three curriculum shard sets, and train Fox-1 on them, phase by phase.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
tokenizer_app = typer.Typer(help="Train and look at SentencePiece models.", no_args_is_help=True)
app.add_typer(tokenizer_app, name="tokenizer")
recipe_app = typer.Typer(help="Validate recipes; print their JSON Schema.", no_args_is_help=True)
app.add_typer(recipe_app, name="recipe")
jobs_app = typer.Typer(help="List the jobs of a cluster, show their logs, end them.")
app.add_typer(jobs_app, name="jobs")

Overrides = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key, e.g. phases.phase1.tokens=1B.")
]
RayAddress = Annotated[str | None, typer.Option(metavar="ADDRESS", help="Of a running Ray cluster; default: local.")]
Dashboard = Annotated[str, typer.Option(help="Of the cluster's dashboard.", envvar="FOX1_DASHBOARD")]
RunFolder = Annotated[
    Path, typer.Argument(metavar="RUN", parser=open_root, help="Folder that `fox1 curate` wrote, or its URL.")
]


def _version(show: bool) -> None:
    if show:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


@contextmanager
def _resumable() -> Iterator[None]:
    """Ctrl-C leaves with 130 and says how to go on."""
    try:
        yield
    except KeyboardInterrupt:
        print("interrupted; run the same command again to resume", file=sys.stderr)
        raise typer.Exit(130) from None


@app.command()
def sample(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    megabytes: Annotated[float, typer.Option(help="Text over all five corpora.")] = 26.0,
) -> None:
    """Write five sample corpora, in their native formats, from text found on this machine."""
    from .pipeline.sample import write_sample

    summary = write_sample(directory, megabytes=megabytes)
    for corpus, rows in summary.rows.items():
        print(f"{corpus:12} {rows:8,} rows {summary.text_bytes[corpus] / 1e6:8.1f} MB of text")
    print(f"{directory}: {sum(summary.text_bytes.values()) / 1e6:.1f} MB in {summary.seconds:.1f} s")


@app.command()
def curate(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="A YAML file, or fox1, mini, sample.")],
    out: Annotated[
        Path,
        typer.Option(metavar="RUN", parser=open_root, help="The run's folder or URL; an unfinished run is resumed."),
    ],
    stages: Annotated[str, typer.Option(help="Comma-separated: only up to these, e.g. scan,filter.")] = "",
    overrides: Overrides = None,
    limit: Annotated[str, typer.Option(help="Use a seeded share of whole files, e.g. 0.1%.")] = "100%",
    address: RayAddress = None,
    workers: Annotated[int | None, typer.Option(help="Local worker processes; default: one per core.")] = None,
    in_process: Annotated[bool, typer.Option("--in-process", help="One process, without Ray.")] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD_RUN", parser=open_root, help="A finished run; what duplicates its documents is dropped."
        ),
    ] = None,
    memory: Annotated[str, typer.Option(help="Of a task, at least 512Mi; results do not depend on it.")] = "1Gi",
) -> None:
    """Run the stages prepare, scan, filter, dedupe, tokenize, mix and stats over a recipe's sources."""
    import time
    from contextlib import nullcontext
    from dataclasses import replace

    from .pipeline.artifacts import RunPaths
    from .pipeline.curate import STAGES, run_files
    from .pipeline.curate import curate as run_curate
    from .pipeline.engine import Engine, InProcess, ray_session, record_run
    from .progress import StageBars, print_summary
    from .recipes.load import load_recipe
    from .recipes.settings import curate_settings, training_json
    from .recipes.units import quantity, share

    parsed, resolved = load_recipe(recipe, overrides or [])
    settings = curate_settings(parsed, share(limit))
    if against:
        settings = replace(settings, against=str(against))
    budget = quantity(memory)
    if budget < 512 << 20:
        raise ValueError(f"--memory {memory} is less than the 512Mi that a task needs")
    paths = RunPaths(out)
    chosen = tuple(s.strip() for s in stages.split(",")) if stages else STAGES
    session = nullcontext(InProcess()) if in_process else ray_session(address, workers)
    began = time.time()
    with _resumable(), session as executor, StageBars() as bars:
        engine = Engine(paths, executor, bars, budget)
        cores = executor.cores
        summary = run_curate(settings, engine, chosen, run_files(paths, resolved, training_json(parsed)))
    reused = sum(n for n, _ in summary.reused.values())
    record_run(paths, began, cores, bars.seconds, reused, set(chosen) == set(STAGES))
    print_summary(summary, out)


@app.command()
def stats(
    run: RunFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Print the stored statistics as one JSON object.")] = False,
) -> None:
    """Show what became of every document and token: funnel, overlap of the corpora, mixture by phase."""
    from .pipeline.stats.tables import print_tables, read_stats

    values = read_stats(run)
    if as_json:
        import json

        print(json.dumps(values, indent=1, sort_keys=True))
    else:
        print_tables(values)


@app.command()
def report(
    run: RunFolder,
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN_B]", parser=open_root, help="A second run, to show beside the first.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="The HTML file; default: report.html in the (first) run.")] = None,
) -> None:
    """Write one HTML file that shows a run, or two side by side: funnel, mixture, overlap, examples, timings."""
    from .pipeline.stats.report import write_report

    page = out or run / "report.html"
    write_report([run, other] if other else [run], page)
    print(f"{shown(page)}: {page.stat().st_size / 1e3:,.0f} KB, open it in a browser")


@app.command("filter")
def filter_command(
    run: RunFolder,
    changes: Annotated[
        list[str], typer.Option("--what-if", metavar="KEY=VALUE", help="e.g. filters.web.min_words=80; repeatable.")
    ],
    examples: Annotated[int, typer.Option(help="Documents to show of each kind of change.")] = 5,
) -> None:
    """Show what another filter would change, with examples, from the stored signals; nothing is written."""
    from .pipeline.artifacts import RunPaths
    from .pipeline.curate import planned_groups
    from .pipeline.what_if import what_if
    from .progress import print_what_if
    from .recipes.load import change_filters
    from .recipes.settings import curate_settings

    paths = RunPaths(run)
    now, then = (curate_settings(recipe) for recipe in change_filters(paths.recipe, changes))
    result = what_if(planned_groups(now, paths), paths, now.filter, then.filter, examples)
    print_what_if(result, changes)


@app.command()
def why(
    run: RunFolder,
    document: Annotated[str, typer.Argument(metavar="DOC", help="corpus/file#row, or a document id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show what became of a document: decision, failed rules, blocks it went to, signals."""
    from .pipeline.artifacts import RunPaths
    from .pipeline.provenance import why as why_document
    from .pipeline.runs import Run
    from .progress import print_why

    found = why_document(Run(RunPaths(run)), document)
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(found), indent=1, default=bytes.hex))
    else:
        print_why(found)


@app.command()
def trace(
    run: RunFolder,
    phase: Annotated[str, typer.Argument(metavar="PHASE", help="phase1, phase2, ..., or held_out.")],
    block: Annotated[int, typer.Argument(metavar="BLOCK", help="Number of the block in its split, from 0.")],
    length: Annotated[int, typer.Option(help="Block length of the split, where the set has several.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Print the whole text, not its beginnings.")] = False,
    source: Annotated[bool, typer.Option("--source", help="Read the source files, too, and compare.")] = False,
) -> None:
    """Show the documents of a block, with file and row, and the bytes of their text that it holds."""
    from .pipeline.artifacts import RunPaths
    from .pipeline.provenance import trace as trace_block
    from .pipeline.runs import Run
    from .progress import print_trace

    paths = RunPaths(run)
    opened = Run(paths, lambda: _listed(paths))
    print_trace(trace_block(opened, phase, block, length, source), full)


def _listed(paths: RunPaths) -> list[SourceFile]:
    """The source files of a run, as its recipe names them."""
    from .pipeline.sources.listing import list_sources
    from .recipes.load import stored_recipe
    from .recipes.settings import curate_settings

    settings = curate_settings(stored_recipe(paths.recipe)[0])
    return list_sources(settings.sources, settings.id_salt)


@app.command()
def find(
    run: RunFolder,
    url: Annotated[str, typer.Option(help="Of the page; compared in normal form.")] = "",
    native_id: Annotated[str, typer.Option("--id", help="The id that the source gives the document.")] = "",
    content: Annotated[str, typer.Option("--hash", help="Content hash, as `fox1 why` shows it.")] = "",
    text: Annotated[Path | None, typer.Option(help="A file with the document's text.")] = None,
) -> None:
    """Tell whether a document is in a run and was trained on, itself or as a copy. Exit status 1: it was not."""
    from .pipeline.artifacts import RunPaths
    from .pipeline.lookup import find as find_documents
    from .pipeline.runs import Run
    from .progress import print_found

    by_text = text.read_text() if text else ""
    asked = [(k, v) for k, v in (("url", url), ("id", native_id), ("hash", content), ("text", by_text)) if v]
    if len(asked) != 1:
        raise ValueError("give one of --url, --id, --hash and --text")
    found = find_documents(Run(RunPaths(run)), *asked[0])
    print_found(found)
    if not any(f.trained_on for f in found):
        raise typer.Exit(1)


@app.command()
def dump(
    run: RunFolder,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", parser=open_root, help="Folder of the Parquet files; an unfinished dump is resumed."
        ),
    ],
    phase: Annotated[int, typer.Option(help="Only documents of this phase, from 1; 0: all that are kept.")] = 0,
    address: RayAddress = None,
    workers: Annotated[int | None, typer.Option(help="Local worker processes; default: one per core.")] = None,
    in_process: Annotated[bool, typer.Option("--in-process", help="One process, without Ray.")] = False,
) -> None:
    """Write the curated documents as Parquet, with where each came from."""
    from contextlib import nullcontext

    from .pipeline.artifacts import RunPaths
    from .pipeline.curate import planned_groups
    from .pipeline.dump import dump as dump_run
    from .pipeline.engine import Engine, InProcess, ray_session
    from .progress import StageBars
    from .recipes.load import stored_recipe
    from .recipes.settings import curate_settings

    paths = RunPaths(run)
    settings = curate_settings(stored_recipe(paths.recipe)[0])
    groups = planned_groups(settings, paths)
    session = nullcontext(InProcess()) if in_process else ray_session(address, workers)
    with _resumable(), session as executor, StageBars() as bars:
        engine = Engine(RunPaths(out), executor, bars)
        documents, size = dump_run(paths, groups, phase, settings.tokenizer.chat, engine)
    print(f"{shown(out)}: {documents:,} documents, {size / 1e6:,.1f} MB")


@app.command()
def plan(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE|RUN", help="A recipe, or a finished run to compare with.")],
    nodes: Annotated[int, typer.Option(min=1, help="Machines.")] = 1,
    cores: Annotated[int | None, typer.Option(min=1, help="Of a machine; default: this one's.")] = None,
    sample_share: Annotated[str, typer.Option("--sample", help="Share of the inputs to measure on, e.g. 2%.")] = "",
    rates: Annotated[Path | None, typer.Option(help="Use the rates that --save wrote, instead of measuring.")] = None,
    save: Annotated[Path | None, typer.Option(help="Keep the measured rates as JSON.")] = None,
    gpus: Annotated[int, typer.Option(min=1, help="For the training.")] = 8,
    gpu: Annotated[str, typer.Option(help="H100, H200 or A100.")] = "H200",
    utilisation: Annotated[str, typer.Option(help="Share of the GPU's peak that the training reaches.")] = "40%",
    memory: Annotated[str, typer.Option(help="Of a task.")] = "1Gi",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
    overrides: Overrides = None,
) -> None:
    """Tell what a curation and its training will take, from rates measured on a sample of the inputs."""
    import json

    from .capacity import plan_recipe
    from .pipeline.artifacts import write_json
    from .pipeline.capacity.plan import as_json as plan_json
    from .pipeline.capacity.tables import print_plan
    from .recipes.units import quantity, share

    machine = (nodes, cores, gpus, gpu, share(utilisation), quantity(memory))
    part = share(sample_share) if sample_share else None
    made, then = plan_recipe(recipe, overrides or [], machine, part, rates, lambda text: print(text, file=sys.stderr))
    if save:
        write_json(save.absolute(), made.rates.to_json())
    if as_json:
        print(json.dumps(plan_json(made, then), indent=1))
    else:
        print_plan(made, then)


@app.command()
def verify(run: RunFolder) -> None:
    """Read every file of a run again and compare it with the checksums of the manifest."""
    from .pipeline.artifacts import RunPaths
    from .pipeline.verify import verify as verify_run

    files, size, problems = verify_run(RunPaths(run))
    for problem in problems:
        print(f"{shown(run)}/{problem}", file=sys.stderr)
    if problems:
        raise ValueError(
            f"{len(problems)} of {files:,} files of {shown(run)} are not what was written: delete them and run `fox1 curate` again"
        )
    print(f"{shown(run)}: {files:,} files, {size / 1e6:,.1f} MB, all as written")


@tokenizer_app.command("inspect")
def tokenizer_inspect(
    model: Annotated[str, typer.Argument(metavar="MODEL|RUN", help="A .model file, a URL (hf://...), or a run.")],
    longest: Annotated[int, typer.Option(help="How many of the longest pieces to show.")] = 10,
) -> None:
    """Show a model's special ids and kinds of pieces; of a run's, how it does on the run's text."""
    from .pipeline.artifacts import RunPaths
    from .pipeline.stats.tables import print_tokenizer
    from .pipeline.stats.tokenizer import subset_tokens
    from .tokenize.model import load, pieces

    paths = RunPaths(Path(model).absolute())
    is_run = Path(model).is_dir()
    processor = load(paths.tokenizer if is_run else model)
    print_tokenizer(pieces(processor, longest), subset_tokens(paths) if is_run else [])


@tokenizer_app.command("train")
def tokenizer_train(
    run: RunFolder,
    out: Annotated[Path, typer.Option(metavar="MODEL", help="The .model file to write.")],
    vocab_size: Annotated[str, typer.Option(help="Pieces, e.g. 16000 or 256K.")] = "",
    sample_bytes: Annotated[str, typer.Option(help="Text to train on, e.g. 1Gi.")] = "",
) -> None:
    """Train a BPE model of Gemma's kind on the documents a run kept."""
    from dataclasses import replace

    from .pipeline.artifacts import RunPaths, publish
    from .pipeline.curate import planned_groups
    from .pipeline.stats.tokenizer import train_on_survivors
    from .recipes.load import stored_recipe
    from .recipes.settings import curate_settings
    from .recipes.units import quantity

    paths = RunPaths(run)
    settings = curate_settings(stored_recipe(paths.recipe)[0])
    wanted = settings.tokenizer
    if vocab_size:
        wanted = replace(wanted, vocab_size=quantity(vocab_size))
    if sample_bytes:
        wanted = replace(wanted, sample_bytes=quantity(sample_bytes))
    model = train_on_survivors(planned_groups(settings, paths), paths, wanted, settings.seed)
    with publish(out) as file:
        file.write(model)
    print(f"{out}: {wanted.vocab_size:,} pieces; `fox1 tokenizer inspect {out}` shows them")


@app.command()
def train(
    run: RunFolder,
    out: Annotated[
        Path,
        typer.Option(
            metavar="CKPT", parser=open_root, help="Folder or URL of the checkpoints; an unfinished one resumes."
        ),
    ],
    phase: Annotated[str, typer.Option(metavar="N", help="A phase by number, or all.")] = "all",
    nproc: Annotated[int, typer.Option(min=1, help="Processes on this machine.")] = 1,
    ray: Annotated[
        str, typer.Option(metavar="N|N:M", help="Workers of a Ray cluster instead; N:M: as many as there is room for.")
    ] = "",
    address: RayAddress = None,
    cpus_per_worker: Annotated[int, typer.Option(min=1, help="With --ray.")] = 1,
    max_failures: Annotated[int, typer.Option(min=0, help="With --ray: lost workers that are survived.")] = 3,
    resume: Annotated[
        str, typer.Option(metavar="auto|CKPT", help="Where a new folder begins: auto: anew; else from a checkpoint.")
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
    from .trainer.settings import Options

    options = Options(resume, stop_after, force, profile)
    if ray and nproc > 1:
        raise ValueError("give --nproc for processes on this machine, or --ray for workers of a cluster, not both")
    if ray:
        from .trainer.launch_ray import Workers, launch_on_ray, load_kernels

        load_kernels()
        from ray import cluster_resources

        from .pipeline.engine import ray_session

        with _resumable(), ray_session(address, None):
            gpus = int(bool(cluster_resources().get("GPU")))
            workers = Workers.parse(ray, gpus, cpus_per_worker, max_failures)
            status = launch_on_ray(run, out, phase, workers, options)
    else:
        from .trainer.launch import launch

        status = launch(run, out, phase, nproc, options)
    raise typer.Exit(status)


@app.command()
def curves(
    checkpoints: Annotated[list[Path], typer.Argument(metavar="CKPT...", help="Folders of trainings.")],
    out: Annotated[Path, typer.Option(help="An .svg or .png file.")] = Path("curves.svg"),
) -> None:
    """Draw losses and throughput of trainings over their tokens."""
    from .trainer.curves import draw_curves

    draw_curves(checkpoints, out)
    print(f"{out}: {out.stat().st_size / 1e3:,.0f} KB")


@app.command("export")
def export_command(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="CKPT", parser=open_root, help="A training's folder, or one checkpoint of it.")
    ],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="For transformers and vLLM.")],
    dtype: Annotated[str, typer.Option(help="bf16 or fp32.")] = "bf16",
    tokenizer: Annotated[Path | None, typer.Option(help="The SentencePiece model, if CKPT has none.")] = None,
) -> None:
    """Write a checkpoint as a Llama of `transformers`: safetensors, config, tokenizer, generation config."""
    from .trainer.export import export

    parameters = export(checkpoint, folder, dtype, tokenizer)
    print(f"{folder}: {parameters:,} parameters in {dtype}")


@app.command("import")
def import_command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A Llama of transformers with tied embeddings.")],
    out: Annotated[Path, typer.Argument(metavar="CKPT", parser=open_root, help="New folder of checkpoints.")],
) -> None:
    """Read a model of `transformers` as a checkpoint."""
    from .trainer.export import import_model

    print(f"{shown(out)}: {import_model(folder, out):,} parameters")


@app.command("generate")
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

    from .trainer.generate import Sampling
    from .trainer.sample import open_model

    model = open_model(checkpoint, dtype)
    began, made = time.monotonic(), 0
    for piece in model.complete(text, tokens, Sampling(temperature, top_p, seed)):
        print(piece, end="", flush=True)
        made += 1
    print()
    print(f"{made} tokens, {made / max(time.monotonic() - began, 1e-9):,.1f} a second", file=sys.stderr)


@app.command("eval")
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
    from .trainer.evaluate import as_json, choose, evaluate, measure_generation, print_scores
    from .trainer.sample import open_model

    benchmarks = choose(tasks)
    if data and not data.is_dir():
        raise ValueError(f"--data {data} is no folder")
    model = open_model(checkpoint, dtype)
    scores = evaluate(model, benchmarks, data, limit, sys.stderr.isatty())
    generation = measure_generation(model.model)
    print_scores(scores, generation)
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(as_json(scores, generation), indent=1) + "\n")


@app.command(context_settings={"ignore_unknown_options": True})
def submit(
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="e.g. curate fox1 --out /data/run")],
    address: Dashboard = DEFAULT_ADDRESS,
    name: Annotated[
        str | None, typer.Option(help="Name of the job; given again it follows that job, or goes on after its end.")
    ] = None,
    follow: Annotated[bool, typer.Option(help="Print the job's log until it ends.")] = True,
) -> None:
    """Run a fox1 command as a Ray job: follows its log; the exit status is the job's."""
    from .submit import submit as submit_job

    recipe_yaml = None
    if command and command[0] == "curate":
        recipe_yaml, command = _resolved_for_job(command)
    raise typer.Exit(
        submit_job(command, address=address, name=name, recipe_yaml=recipe_yaml, follow=follow, out=sys.stdout)
    )


@jobs_app.callback(invoke_without_command=True)
def jobs(context: typer.Context, address: Dashboard = DEFAULT_ADDRESS) -> None:
    """List the jobs of a cluster, show their logs, end them."""
    if context.invoked_subcommand is None:
        from .jobs import list_jobs
        from .progress import print_jobs

        print_jobs(list_jobs(address))


@jobs_app.command("logs")
def jobs_logs(
    job: Annotated[str, typer.Argument(metavar="JOB")],
    follow: Annotated[bool, typer.Option(help="Until it ends; then its exit status is this command's.")] = True,
    address: Dashboard = DEFAULT_ADDRESS,
) -> None:
    """Print a job's log."""
    from .jobs import job_log

    raise typer.Exit(job_log(job, address, follow, sys.stdout))


@jobs_app.command("stop")
def jobs_stop(job: Annotated[str, typer.Argument(metavar="JOB")], address: Dashboard = DEFAULT_ADDRESS) -> None:
    """End a job. What it finished is kept: submitted again, the same command goes on."""
    from .jobs import stop_job

    print(f"job {job}: {stop_job(job, address)}")


def _resolved_for_job(command: list[str]) -> tuple[bytes, list[str]]:
    """The recipe of a `curate` command as one YAML, and the command without its `--set`s: the client resolves them."""
    import yaml

    from .recipes.load import load_recipe, require_absolute

    kept, overrides = [], []
    words = iter(command)
    for word in words:
        if word == "--set":
            overrides.append(next(words, ""))
        elif word.startswith("--set="):
            overrides.append(word.removeprefix("--set="))
        else:
            kept.append(word)
    if len(kept) < 2 or kept[1].startswith("-"):
        raise ValueError("write the recipe right after `curate`: fox1 submit -- curate RECIPE --out RUN")
    _, resolved = load_recipe(kept[1], overrides)
    require_absolute(resolved)
    return yaml.safe_dump(resolved, sort_keys=False, allow_unicode=True).encode(), kept


@recipe_app.command("check")
def recipe_check(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE")],
    overrides: Overrides = None,
) -> None:
    """Validate a recipe, list its sources and refuse budgets that their bytes can never meet."""
    from .recipes.check import check_recipe
    from .recipes.load import RecipeError, load_recipe

    try:
        parsed, _ = load_recipe(recipe, overrides or [])
    except RecipeError as error:
        for problem in error.problems:
            print(f"error: {problem}", file=sys.stderr)
        raise typer.Exit(1) from None
    for line in check_recipe(parsed):
        print(line)


@recipe_app.command("schema")
def recipe_schema() -> None:
    """Print the JSON Schema of recipes, for editors."""
    import json

    from .recipes.schema import Recipe

    print(json.dumps(Recipe.model_json_schema(), indent=1))


def main() -> None:
    """Entry point: one line per error, a traceback only with --debug."""
    debug = "--debug" in sys.argv
    try:
        app()
    except (ValueError, OSError) as error:
        if debug:
            raise
        for line in getattr(error, "details", ()):
            print(line, file=sys.stderr)
        print(f"error: {shown(str(error).strip() or type(error).__name__)}", file=sys.stderr)
        sys.exit(1)
