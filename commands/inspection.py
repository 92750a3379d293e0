"""Commands that look at a run: stats, report, inspect, diff, filter, why, trace, find."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..storage.reading import as_written
from ..storage.store import open_root, shown
from ..storage.wording import say
from .complete import phase_names
from .options import ASK_FOR, AsJson, HoldsPlace, Moves, RunFolder, Trust, warn_unfinished

TuningShown = Annotated[
    Path | None,
    typer.Option(metavar="TUNE", parser=open_root, help="A tuning of the run's weights, to show what it found."),
]


def stats(
    run: RunFolder,
    section: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="Print one section only: funnel, reasons, prepared, rules, overlap, dedupe, tokens, phases, pools, mixture, "
            "languages, lengths, quality or rates.",
        ),
    ] = "",
    as_json: AsJson = False,
) -> None:
    """Show what became of every document and token, as tables.

    Among them are the funnel, the overlap of the corpora, and the mixture of each phase.
    """
    from ..pipeline.engine.records import asked_of
    from ..pipeline.run.paths import RunPaths
    from ..pipeline.stats.stored import read_stats
    from .show.stats import SECTIONS, print_tables

    if section not in ("", *SECTIONS):
        raise ValueError(f"--section {section}: there is none of that name; the sections are {', '.join(SECTIONS)}")
    warn_unfinished(run)
    values = read_stats(run)
    if asked := asked_of(RunPaths(run)):
        values["asked"] = asked
    if as_json:
        import json

        print(json.dumps(values, indent=1, sort_keys=True))
    else:
        with as_written(f"{shown(run)}/stats", ASK_FOR, ValueError):
            print_tables(values, section)


def report(
    run: RunFolder,
    other: Annotated[
        Path | None, typer.Argument(metavar="RUN_B", parser=open_root, help="A second run, to compare the first with.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            parser=open_root,
            metavar="FILE",
            help="HTML file to write (default: report.html in RUN; for two runs report-RUN_B.html).",
        ),
    ] = None,
    tuning: TuningShown = None,
) -> None:
    """Write one HTML file about a run, or about two compared.

    It has the findings, the funnel to trained tokens, what each rule drops with examples, drop rates by corpus, domain and
    language, the mixture, and what the corpora share. It needs no network.
    """
    from .page.report import write_report

    runs = [run, other] if other else [run]
    for each in runs:
        warn_unfinished(each)
    page = out or run / (f"report-{other.name}.html" if other else "report.html")
    write_report(runs, page, tuning)
    say(f"{shown(page)}: {page.stat().st_size / 1e3:,.0f} KB, open it in a browser")


def inspect(
    run: RunFolder,
    other: Annotated[
        Path | None, typer.Argument(metavar="RUN_B", parser=open_root, help="A second run, to compare the first with.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, metavar="N", help="Port to serve at (default: any free).")] = 0,
    training: Annotated[
        Path | None,
        typer.Option(
            metavar="CKPT", parser=open_root, help="A training on RUN, to show its losses beside the mixture."
        ),
    ] = None,
    tuning: TuningShown = None,
    opens: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser.")] = True,
    trust: Trust = False,
    data: Moves = None,
) -> None:
    """Look at a run in the browser, or compare two.

    The page shows an overview, every document by its signals with its text, what other thresholds would change, and packed
    blocks. It is served to this machine alone, until Ctrl-C.
    """
    from ..api import open_run
    from .page.serve import serve

    runs = [run, *([other] if other else [])]
    for each in runs:
        warn_unfinished(each)
    serve([open_run(each, trust, data or []) for each in runs], port, opens, training, tuning)


def diff(
    run: RunFolder,
    other: Annotated[Path, typer.Argument(metavar="RUN_B", parser=open_root, help="The run to compare it with.")],
    examples: Annotated[
        int, typer.Option(min=0, metavar="N", help="Number of example documents for each kind of change.")
    ] = 3,
    as_json: AsJson = False,
) -> None:
    """Show what is different between two runs.

    These are the keys of their recipes, what they kept and dropped, and the documents whose outcome changed.
    """
    from ..pipeline.inspect.diff import diff as compare
    from ..pipeline.run.paths import RunPaths
    from ..recipes.load import stored_mapping
    from .show.diff import print_diff

    a, b = RunPaths(run), RunPaths(other)
    for each in (run, other):
        warn_unfinished(each)
    found = compare(a, b, (stored_mapping(a.recipe), stored_mapping(b.recipe)), examples)
    if as_json:
        import json

        print(json.dumps(found.to_json(), indent=1))
    else:
        print_diff(found, shown(run), shown(other))


def filter_command(
    run: RunFolder,
    overrides: Annotated[
        list[str],
        typer.Option(
            "--what-if",
            metavar="KEY=VALUE",
            help="What to change, e.g. filters.web.min_words=80, exclude.lists=[FILE], dedupe.jaccard=0.9 or "
            "phases.phase1.weights.0.weight=60; repeatable.",
        ),
    ],
    examples: Annotated[
        int, typer.Option(metavar="N", help="Number of example documents for each kind of change.")
    ] = 5,
    trust: Trust = False,
    data: Moves = None,
) -> None:
    """Show what other thresholds, lists or weights would change.

    The stored signals are filtered again, and documents deduplicated again if a change is of dedupe; if it is of the phases, the
    mixture is planned again over the stored tokens. Examples are shown; nothing is written to the run.
    """
    from ..api import open_run
    from ..recipes.load import changes_mixture
    from .show.mixture import print_mixture_what_if
    from .show.runs import print_what_if

    opened = open_run(run, trust, data or [])
    if changes_mixture(overrides):
        found = opened.what_if_mixture(overrides)
        print_mixture_what_if(found, overrides)
        if found.short:
            raise typer.Exit(1)
    else:
        print_what_if(opened.what_if(overrides, examples), overrides)


def why(
    run: RunFolder,
    document: Annotated[str, typer.Argument(metavar="DOC", help="The document as corpus/file#row, or its id.")],
    text: Annotated[
        bool, typer.Option("--text", help="Also print the document's text and what the edits changed in it.")
    ] = False,
    as_json: AsJson = False,
    trust: Trust = False,
    data: Moves = None,
) -> None:
    """Show why a document was kept or dropped, and where it went.

    This is its decision, the rules it fails, the blocks it is in, and its signals.
    """
    from ..api import open_run
    from .show.documents import print_why

    found = open_run(run, trust, data or []).why(document, text)
    if as_json:
        import json
        from dataclasses import asdict

        print(json.dumps(asdict(found), indent=1))
    else:
        print_why(found)


def trace(
    run: RunFolder,
    phase: Annotated[
        str,
        typer.Argument(
            metavar="PHASE", help="Phase by number or name (1 or phase1), or held_out.", autocompletion=phase_names
        ),
    ],
    block: Annotated[int, typer.Argument(metavar="BLOCK", help="Number of the block within its split, from 0.")],
    length: Annotated[
        int,
        typer.Option(
            metavar="L", help="Block length of the split; needed where the phase has several.", show_default=False
        ),
    ] = 0,
    full: Annotated[bool, typer.Option("--full", help="Print each text in full, not only its beginning.")] = False,
    source: Annotated[
        bool, typer.Option("--source", help="Also read the source files and compare them with the block.")
    ] = False,
    trust: Trust = False,
    data: Moves = None,
) -> None:
    """Show the documents that a block was made of.

    Each comes with its file and row, and with the bytes of its text that the block holds.
    """
    from ..api import open_run
    from .show.documents import print_trace

    print_trace(open_run(run, trust, data or []).trace(phase, block, length, source), full)


def find(
    run: RunFolder,
    url: Annotated[str, typer.Option(metavar="URL", help="URL of the page; compared after normalisation.")] = "",
    native_id: Annotated[
        str, typer.Option("--id", metavar="ID", help="The id that the source gives the document.")
    ] = "",
    content: Annotated[
        str, typer.Option("--hash", metavar="HASH", help="Content hash of the document, as `fox1 why` shows it.")
    ] = "",
    text: Annotated[Path | None, typer.Option(metavar="FILE", help="File with the document's text.")] = None,
    exclude: Annotated[
        str,
        typer.Option(metavar="LIST", help="An exclude list; finds the documents that it names, and their copies."),
        HoldsPlace(("",)),
    ] = "",
) -> None:
    """Show whether a document is in a run, and was trained on.

    A copy of it counts, too. The exit status is 0 if one of them was trained on, 1 if none was, and 2 after an error.
    """
    from ..api import open_run
    from .show.documents import print_found, print_listed

    opened = open_run(run)
    by_text = _read_text(text) if text else ""
    asked = [(k, v) for k, v in (("url", url), ("id", native_id), ("hash", content), ("text", by_text)) if v]
    if len(asked) + bool(exclude) != 1:
        raise ValueError("give exactly one of --url, --id, --hash, --text and --exclude")
    if exclude:
        listed = opened.find_listed(exclude)
        print_listed(listed)
        found = [f for documents in listed.named.values() for f in documents] + listed.copies
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
        raise ValueError(f"--text {path} is not UTF-8 (byte {error.start}); convert it first") from None
    if not text:
        raise ValueError(f"--text {path} is empty; there is no text to look for")
    return text
