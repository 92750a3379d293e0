"""Commands that look at a run: stats, report, filter, why, trace, find."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..storage.store import open_root, shown
from .options import AsJson, Place, RunFolder, warn_unfinished


def stats(
    run: RunFolder,
    as_json: AsJson = False,
) -> None:
    """Show what became of every document and token: funnel, overlap of the corpora, mixture by phase."""
    from ..pipeline.stats.ledger import read_stats
    from .show.stats import print_tables

    warn_unfinished(run)
    values = read_stats(run)
    if as_json:
        import json

        print(json.dumps(values, indent=1, sort_keys=True))
    else:
        print_tables(values)


def report(
    run: RunFolder,
    other: Annotated[
        Path | None, typer.Argument(metavar="[RUN_B]", parser=open_root, help="A second run, to show beside the first.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=open_root, help="The HTML file; default: report.html, for two report-RUN_B.html, in the run."
        ),
    ] = None,
) -> None:
    """Write one HTML file that shows a run, or two side by side: funnel, mixture, overlap, examples, timings."""
    from ..pipeline.stats.report import write_report

    runs = [run, other] if other else [run]
    for each in runs:
        warn_unfinished(each)
    page = out or run / (f"report-{other.name}.html" if other else "report.html")
    write_report(runs, page)
    print(f"{shown(page)}: {page.stat().st_size / 1e3:,.0f} KB, open it in a browser")


def filter_command(
    run: RunFolder,
    changes: Annotated[
        list[str], typer.Option("--what-if", metavar="KEY=VALUE", help="e.g. filters.web.min_words=80; repeatable.")
    ],
    examples: Annotated[int, typer.Option(help="Documents to show of each kind of change.")] = 5,
) -> None:
    """Show what another filter would change, with examples, from the stored signals; nothing is written."""
    from ..pipeline.curate import planned_groups
    from ..pipeline.inspect.what_if import what_if
    from ..pipeline.run.artifacts import RunPaths
    from ..recipes.load import change_filters
    from ..recipes.settings import curate_settings
    from .show.runs import print_what_if

    paths = RunPaths(run)
    now, then = (curate_settings(recipe) for recipe in change_filters(paths.recipe, changes))
    result = what_if(planned_groups(now, paths), paths, now.filter, then.filter, examples)
    print_what_if(result, changes)


def why(
    run: RunFolder,
    document: Annotated[str, typer.Argument(metavar="DOC", help="corpus/file#row, or a document id.")],
    as_json: AsJson = False,
) -> None:
    """Show what became of a document: decision, failed rules, blocks it went to, signals."""
    from ..api import open_run
    from .show.documents import print_why

    found = open_run(run).why(document)
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(found), indent=1, default=bytes.hex))
    else:
        print_why(found)


def trace(
    run: RunFolder,
    phase: Annotated[str, typer.Argument(metavar="PHASE", help="By number or name (1 or phase1), or held_out.")],
    block: Annotated[int, typer.Argument(metavar="BLOCK", help="Number of the block in its split, from 0.")],
    length: Annotated[int, typer.Option(help="Block length of the split, where the set has several.")] = 0,
    full: Annotated[bool, typer.Option("--full", help="Print the whole text, not its beginnings.")] = False,
    source: Annotated[bool, typer.Option("--source", help="Read the source files, too, and compare.")] = False,
) -> None:
    """Show the documents of a block, with file and row, and the bytes of their text that it holds."""
    from ..api import open_run
    from .show.documents import print_trace

    print_trace(open_run(run).trace(phase, block, length, source), full)


def find(
    run: RunFolder,
    url: Annotated[str, typer.Option(help="Of the page; compared in normal form.")] = "",
    native_id: Annotated[str, typer.Option("--id", help="The id that the source gives the document.")] = "",
    content: Annotated[str, typer.Option("--hash", help="Content hash, as `fox1 why` shows it.")] = "",
    text: Annotated[Path | None, typer.Option(help="A file with the document's text.")] = None,
    exclude: Annotated[
        str,
        typer.Option(metavar="LIST", help="An exclude list: what its entries name, and their copies."),
        Place(("",)),
    ] = "",
) -> None:
    """Tell whether a document is in a run and was trained on, itself or as a copy. Exit status 1: it was not."""
    from ..api import open_run
    from .show.documents import print_found, print_listed

    opened = open_run(run)
    by_text = _read_text(text) if text else ""
    asked = [(k, v) for k, v in (("url", url), ("id", native_id), ("hash", content), ("text", by_text)) if v]
    if len(asked) + bool(exclude) != 1:
        raise ValueError("give one of --url, --id, --hash, --text and --exclude")
    if exclude:
        listed = opened.find_listed(exclude)
        print_listed(listed)
        found = [f for of in listed.named.values() for f in of] + listed.copies
    else:
        found = opened.find(**dict(asked))
        print_found(found)
    if not any(f.trained_on for f in found):
        raise typer.Exit(1)


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ValueError(f"--text {path} cannot be read ({error.strerror})") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 (byte {error.start}); convert it first") from None
    if not text:
        raise ValueError(f"{path} is empty: there is no text to look for")
    return text
