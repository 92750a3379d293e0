"""Commands that make a run or plan one: sample, curate, plan, dump, verify, gc."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..storage.store import open_root, shown
from .options import AsJson, OneProcess, Overrides, RayAddress, RunFolder, Workers, resumable, warn_unfinished


def sample(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="An empty or new folder.")],
    megabytes: Annotated[float, typer.Option(help="Text over all five corpora.")] = 26.0,
) -> None:
    """Write five sample corpora, in their native formats, from text found on this machine."""
    from ..pipeline.sample import write_sample

    summary = write_sample(directory, megabytes=megabytes)
    for corpus, rows in summary.rows.items():
        print(f"{corpus:12} {rows:8,} rows {summary.text_bytes[corpus] / 1e6:8.1f} MB of text")
    print(f"{directory}: {sum(summary.text_bytes.values()) / 1e6:.1f} MB in {summary.seconds:.1f} s")


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
    workers: Workers = None,
    in_process: OneProcess = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD_RUN", parser=open_root, help="A finished run; what duplicates its documents is dropped."
        ),
    ] = None,
    memory: Annotated[
        str, typer.Option(help="Of a task of dedupe, at least 512Mi; results do not depend on it.")
    ] = "1Gi",
) -> None:
    """Run the stages prepare, scan, filter, dedupe, tokenize, mix and stats over a recipe's sources."""
    from ..api import curate as curate_recipe
    from ..recipes.check import undrawn_sources
    from ..recipes.load import load_recipe
    from ..recipes.units import quantity, share
    from .show.documents import StageBars, print_summary

    for line in undrawn_sources(load_recipe(recipe, overrides or [])[0]):
        print(f"warning: {line}", file=sys.stderr)
    with resumable(), StageBars() as bars:
        summary = curate_recipe(
            recipe,
            out,
            changes=overrides or [],
            stages=[s.strip() for s in stages.split(",") if s.strip()],
            limit=share(limit),
            address=address,
            workers=workers,
            in_process=in_process,
            against=against,
            memory=quantity(memory),
            progress=bars,
        )
    print_summary(summary, out)


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
    as_json: AsJson = False,
    overrides: Overrides = None,
) -> None:
    """Tell what a curation and its training will take, from rates measured on a sample of the inputs."""
    import json

    from ..pipeline.capacity.plan import as_json as plan_json
    from ..pipeline.run.artifacts import write_json
    from ..recipes.plan import Machine, plan_recipe
    from ..recipes.units import quantity, share
    from .show.plan import print_plan

    machine = Machine(nodes, cores, gpus, gpu, share(utilisation), quantity(memory))
    part = share(sample_share) if sample_share else None
    made, then = plan_recipe(recipe, overrides or [], machine, part, rates, lambda text: print(text, file=sys.stderr))
    if save:
        write_json(save.absolute(), made.rates.to_json())
    if as_json:
        print(json.dumps(plan_json(made, then), indent=1))
    else:
        print_plan(made, then)


def dump(
    run: RunFolder,
    out: Annotated[
        Path,
        typer.Argument(
            metavar="DIR", parser=open_root, help="Folder of the Parquet files; an unfinished dump is resumed."
        ),
    ],
    phase: Annotated[
        str, typer.Option(help="Only documents of this phase, by number or name; all: all that are kept.")
    ] = "all",
    address: RayAddress = None,
    workers: Workers = None,
    in_process: OneProcess = False,
) -> None:
    """Write the curated documents as Parquet, with where each came from."""
    from ..api import session
    from ..pipeline.curate import planned_groups
    from ..pipeline.engine.tasks import Engine
    from ..pipeline.inspect.dump import STATE, dumped_phase
    from ..pipeline.inspect.dump import dump as dump_run
    from ..pipeline.run.artifacts import RunPaths, remove_partial
    from ..recipes.load import stored_recipe
    from ..recipes.settings import curate_settings
    from ..storage.lease import held
    from .show.documents import StageBars

    paths = RunPaths(run)
    settings = curate_settings(stored_recipe(paths.recipe)[0])
    groups = planned_groups(settings, paths)
    phase = dumped_phase(paths, phase)
    with resumable(), session(address, workers, in_process) as executor, StageBars() as bars:
        engine = Engine(RunPaths(out, STATE), executor, bars)
        with held(out):
            remove_partial(out)
            documents, size = dump_run(paths, groups, phase, settings.tokenizer.chat, engine)
    print(f"{shown(out)}: {documents:,} documents, {size / 1e6:,.1f} MB")


def verify(run: RunFolder) -> None:
    """Read every file of a run again and compare it with the checksums of the manifest."""
    from ..pipeline.run.artifacts import RunPaths
    from ..pipeline.run.verify import verify as verify_run

    warn_unfinished(run)
    files, size, problems = verify_run(RunPaths(run))
    for problem in problems:
        print(f"{shown(run)}/{problem}", file=sys.stderr)
    if problems:
        raise ValueError(
            f"{len(problems)} of {files:,} files of {shown(run)} are not what was written: delete them and run `fox1 curate` again"
        )
    print(f"{shown(run)}: {files:,} files, {size / 1e6:,.1f} MB, all as written")


def gc(
    run: RunFolder,
    intermediate: Annotated[
        bool,
        typer.Option(
            "--intermediate", help="Also what only a changed recipe would use again: shuffles of dedupe, mix."
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete nothing; list the files.")] = False,
) -> None:
    """Delete the files of a finished run that belong to no stage of it any more, e.g. of an earlier recipe."""
    from ..pipeline.run.artifacts import RunPaths
    from ..pipeline.run.garbage import collect

    files, size = collect(RunPaths(run), intermediate, dry_run)
    for name in files if dry_run else ():
        print(name)
    print(f"{shown(run)}: {len(files):,} files, {size / 1e6:,.1f} MB " + ("to delete" if dry_run else "deleted"))
