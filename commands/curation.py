"""Commands that make a run or plan one: sample, curate, plan, dump, verify, gc."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ..storage.store import open_root, shown
from ..storage.wording import say
from .complete import phase_names, recipe_names
from .options import (
    AsJson,
    HoldsPlace,
    HoldsRecipe,
    LocalRay,
    Moves,
    OneProcess,
    Overrides,
    PrivateHosts,
    RayAddress,
    RecipeName,
    RunFolder,
    Trust,
    Workers,
    resumable,
    say_which,
    warn_unfinished,
)

if TYPE_CHECKING:
    from ..pipeline.engine.engine import Engine
    from ..pipeline.run.paths import RunPaths
    from ..pipeline.run.spread import Spread


def sample(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Folder to write to; it must be empty or new.")],
    megabytes: Annotated[float, typer.Option(metavar="MB", help="Megabytes of text, over all five corpora.")] = 26.0,
) -> None:
    """Write five sample corpora from text found on this machine.

    Each is in its native format.
    """
    from ..pipeline.sample import write_sample

    summary = write_sample(directory, megabytes=megabytes)
    for corpus, rows in summary.rows.items():
        say(f"{corpus:12} {rows:8,} rows {summary.text_bytes[corpus] / 1e6:8.1f} MB of text")
    say(f"{directory}: {sum(summary.text_bytes.values()) / 1e6:.1f} MB in {summary.seconds:.1f} s")


def curate(
    recipe: RecipeName,
    out: Annotated[
        Path,
        typer.Option(metavar="RUN", parser=open_root, help="Folder or URL of the run; an unfinished run is resumed."),
    ],
    stages: Annotated[
        str,
        typer.Option(
            metavar="STAGE,...", help="Stages to run, after those that they need, e.g. scan,filter (default: all)."
        ),
    ] = "",
    overrides: Overrides = None,
    limit: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of the source files to use, chosen by the seed, e.g. 0.1%.")
    ] = "100%",
    address: RayAddress = None,
    workers: Workers = None,
    in_process: OneProcess = False,
    ray: LocalRay = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="OLD_RUN",
            parser=open_root,
            help="A finished run; documents that duplicate one of that run are dropped.",
        ),
    ] = None,
    from_run: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="OLD_RUN",
            parser=open_root,
            help="A run of which RUN is a variant: its scan, tokens and all else that still holds are reused, by hard links or "
            "copies. OLD_RUN is not changed.",
        ),
    ] = None,
    memory: Annotated[
        str,
        typer.Option(
            metavar="SIZE", help="Memory one task of dedupe may use, at least 512Mi; results do not depend on it."
        ),
    ] = "1Gi",
    private_hosts: PrivateHosts = False,
    data: Moves = None,
) -> None:
    """Curate the corpora of a recipe into the shard sets of its phases.

    The stages are prepare, scan, filter, dedupe, tokenize, mix and stats. The same command resumes an interrupted run.
    """
    from ..pipeline.engine.fork_server import Server, runs_here

    # It loads while this process imports, reads the recipe and plans.
    server = Server() if runs_here(address, in_process, ray) else None
    with contextlib.closing(server) if server else contextlib.nullcontext():
        from .quick_imports import leave_out_pandas

        leave_out_pandas()
        from ..api import curate_resolved
        from ..recipes.check import undrawn_sources
        from ..recipes.resolve import resolve
        from ..recipes.units import quantity, share
        from .show.bars import StageBars
        from .show.runs import print_summary

        say_which(recipe)
        resolved = resolve(recipe, overrides or [], share(limit), data or [])
        for line in undrawn_sources(resolved.recipe, resolved.settings.mix):
            say(f"warning: {line}", sys.stderr)
        with resumable(), StageBars() as bars:
            summary = curate_resolved(
                resolved,
                out,
                stages=[s.strip() for s in stages.split(",") if s.strip()],
                address=address,
                workers=workers,
                in_process=in_process,
                ray=ray,
                against=against,
                from_run=from_run,
                memory=quantity(memory),
                allow_private_hosts=private_hosts,
                progress=bars,
                server=server,
            )
        print_summary(summary, out, shown(from_run) if from_run else "")


def plan(
    recipe: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|RUN",
            help="A recipe, or a finished run, which is compared with its plan.",
            autocompletion=recipe_names,
        ),
        HoldsRecipe(),
        HoldsPlace(),
    ],
    nodes: Annotated[int, typer.Option(min=1, metavar="N", help="Number of machines.")] = 1,
    cores: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="Cores per machine (default: this machine's).")
    ] = None,
    sample_share: Annotated[
        str, typer.Option("--sample", metavar="SHARE", help="Share of the inputs to measure on, e.g. 5% (default: 2%).")
    ] = "",
    rates: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Use the rates that --save wrote to this file, instead of measuring."),
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the measured rates to this file, as JSON.")
    ] = None,
    gpus: Annotated[int, typer.Option(min=1, metavar="N", help="Number of GPUs for training.")] = 8,
    gpu: Annotated[str, typer.Option(metavar="NAME", help="Model of the GPUs: H100, H200 or A100.")] = "H200",
    utilisation: Annotated[
        str, typer.Option(metavar="SHARE", help="Share of the GPUs' peak FLOP/s that training reaches.")
    ] = "40%",
    memory: Annotated[str, typer.Option(metavar="SIZE", help="Memory one task may use, e.g. 1Gi.")] = "1Gi",
    as_json: AsJson = False,
    overrides: Overrides = None,
    private_hosts: PrivateHosts = False,
    trust: Trust = False,
    data: Moves = None,
) -> None:
    """Estimate time, disk and GPU-days of a run.

    The rates are measured on a sample of its inputs.
    """
    import functools
    import json

    from ..pipeline.capacity.estimate import as_json as plan_json
    from ..pipeline.run.artifacts import write_json
    from ..recipes.plan import Machine, plan_recipe
    from ..recipes.units import quantity, share
    from .show.plan import print_plan

    say_which(recipe)
    machine = Machine(nodes, cores, gpus, gpu, share(utilisation), quantity(memory))
    part = share(sample_share) if sample_share else None
    warn = functools.partial(say, out=sys.stderr)
    made, then = plan_recipe(recipe, overrides or [], machine, part, rates, private_hosts, trust, warn, data or [])
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
            metavar="DIR", parser=open_root, help="Folder or URL for the files; an unfinished dump is resumed."
        ),
    ],
    phase: Annotated[
        str,
        typer.Option(
            metavar="PHASE",
            help="Phase whose documents to write, by number or name; all: every kept document.",
            autocompletion=phase_names,
        ),
    ] = "all",
    dropped: Annotated[
        bool,
        typer.Option("--dropped", help="Write the documents that were dropped, with the reasons, not the kept ones."),
    ] = False,
    reason: Annotated[
        str, typer.Option(metavar="RULE", help="Write the documents that were dropped for this reason.")
    ] = "",
    where: Annotated[
        str,
        typer.Option(
            metavar="SQL", help="Write only documents that meet a condition, e.g. \"language = 'de' and words > 900\"."
        ),
    ] = "",
    tokens: Annotated[
        str,
        typer.Option(
            metavar="FORMAT",
            help="Write token ids instead of text, in files of datatrove (which nanotron reads, too) or megatron: the packed "
            "blocks of the phase (or held_out), or for all the kept documents.",
        ),
    ] = "",
    address: RayAddress = None,
    workers: Workers = None,
    in_process: OneProcess = False,
    ray: LocalRay = False,
    trust: Trust = False,
    data: Moves = None,
) -> None:
    """Write documents, or token ids for other trainers.

    Each row names the source file and row that its document comes from.
    """
    from ..pipeline.curate import planned_groups
    from ..pipeline.inspect.dump import Selected, dumped_phase
    from ..pipeline.inspect.dump import dump as dump_run
    from ..pipeline.run.paths import RunPaths
    from ..recipes.load import stored_settings

    paths = RunPaths(run)
    if tokens:
        if dropped or reason or where:
            raise ValueError(
                "--tokens writes kept documents, or a phase's blocks as they are; leave out the other choices"
            )
        from ..pipeline.inspect.dump_tokens import dump_tokens, tokens_phase
        from ..tokenize.token_files import format_named

        format, phase = format_named(tokens), tokens_phase(paths, phase)
        with _dumping(out, address, workers, in_process, ray) as engine:
            made = dump_tokens(paths, phase, format, engine)
        what = "documents" if phase == "all" else "blocks"
        say(f"{shown(out)}: {made.documents:,} {what}, {made.tokens:,} tokens, {made.bytes / 1e6:,.1f} MB")
        for note in made.notes:
            say(f"  {note}")
        return
    settings = stored_settings(paths.recipe, trust, data or [])
    groups = planned_groups(settings, paths)
    phase = dumped_phase(paths, phase)
    selected = Selected.of_run(paths, groups, dropped, reason, where)
    with _dumping(out, address, workers, in_process, ray) as engine:
        documents, size = dump_run(paths, groups, phase, settings.tokenizer.chat, engine, selected)
    say(f"{shown(out)}: {documents:,} documents, {size / 1e6:,.1f} MB")


@contextlib.contextmanager
def _dumping(out: Path, address: str | None, workers: int | None, here: bool, ray: bool) -> Iterator[Engine]:
    """The engine of a dump's folder."""
    from ..api import session
    from ..pipeline.engine.engine import Engine
    from ..pipeline.inspect.dump import STATE
    from ..pipeline.run.paths import RunPaths, remove_partial
    from ..storage.lease import DUMP, held
    from .show.bars import StageBars

    with (
        resumable(),
        held(out, DUMP) as lease,
        session(address, workers, here, ray) as executor,
        StageBars() as bars,
    ):
        remove_partial(out)
        yield Engine(RunPaths(out, STATE, lease), executor, bars)


SPREAD_BYTES = 4 << 30
"""A run with fewer bytes is verified in this process, unless workers are asked for."""


@contextlib.contextmanager
def _spread(run: RunPaths, what: str, address: str | None, workers: int | None, here: bool) -> Iterator[Spread]:
    """What spreads work over the files of a run: tasks of a session, or calls in this process."""
    from ..api import session
    from ..pipeline.engine.engine import Engine
    from ..pipeline.run.spread import in_turn
    from .show.bars import StageBars

    if here:
        yield in_turn
        return
    with session(address, workers, False) as executor, StageBars() as bars:
        yield partial(Engine(run, executor, bars).spread, what)


def verify(run: RunFolder, address: RayAddress = None, workers: Workers = None, in_process: OneProcess = False) -> None:
    """Compare every file of a run with its checksum in the manifest.

    The exit status is 0 if all match, 1 if some do not, and 2 after an error.
    """
    from ..pipeline.run.checksums import artifact_bytes, not_covered
    from ..pipeline.run.checksums import verify as verify_run
    from ..pipeline.run.paths import RunPaths

    warn_unfinished(run)
    # The hashes of a small run take less time than workers to start.
    small = artifact_bytes(RunPaths(run)) < SPREAD_BYTES and not (address or workers)
    with _spread(RunPaths(run), "verify", address, workers, in_process or small) as spread:
        files, size, problems = verify_run(RunPaths(run), spread)
    for name in not_covered(RunPaths(run)):
        say(f"{shown(run)}/{name} is not covered: an earlier version wrote no checksum of it", sys.stderr)
    for problem in problems:
        say(f"{shown(run)}/{problem}", sys.stderr)
    if problems:
        say(
            f"error: {len(problems)} of {files:,} files in {shown(run)} do not match their checksums; delete them and run "
            "`fox1 curate` again",
            sys.stderr,
        )
        raise typer.Exit(1)
    say(f"{shown(run)}: {files:,} files, {size / 1e6:,.1f} MB, all match their checksums")


def gc(
    run: RunFolder,
    intermediate: Annotated[
        bool,
        typer.Option(
            "--intermediate",
            help="Also delete what only a changed recipe would use again: the shuffle files of dedupe and mix.",
        ),
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="List the files without deleting them.")] = False,
    address: RayAddress = None,
    workers: Workers = None,
    in_process: OneProcess = False,
) -> None:
    """Delete files that a finished run no longer uses.

    They are leftovers of an earlier recipe, for example.
    """
    from ..pipeline.run.garbage import collect
    from ..pipeline.run.paths import RunPaths

    # What deletes waits for the disk or the store; a cluster has more that wait.
    with _spread(RunPaths(run), "gc", address, workers, in_process or not (address or workers)) as spread:
        files, size = collect(RunPaths(run), intermediate, dry_run, spread)
    for name in files if dry_run else ():
        say(name)
    say(f"{shown(run)}: {len(files):,} files, {size / 1e6:,.1f} MB " + ("to delete" if dry_run else "deleted"))
