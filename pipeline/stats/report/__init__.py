"""`fox1 report`: one self-contained HTML file about a run, or two runs side by side.

facts.py      the stored statistics as what the page shows: numbers, rows, links
charts.py     figures as SVG
page.html.j2  the page; page.css, page.js

Nothing in the page is fetched, and a policy in its head forbids any script but its own: text of documents is escaped, and
could not run if it were not.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from pathlib import Path

import jinja2
from markupsafe import Markup

from ....storage.reading import as_written
from ....storage.store import shown
from ....storage.wording import printable
from ...run.artifacts import publish
from . import charts
from .facts import RunFacts, differences, read_facts

HERE = Path(__file__).parent


def write_report(runs: Sequence[Path], out: Path) -> None:
    """Write the report of one run, or of two side by side.

    Raises:
        ValueError: a run is not finished.
    """
    facts = [read_facts(run) for run in runs]
    if len(facts) == 2 and facts[0].name == facts[1].name:
        for label, run in zip("AB", facts, strict=True):
            run.name = f"{run.name} ({label})"
    names = " or ".join(shown(run) for run in runs)
    with as_written(f"stats/ of {names}", "curate the run again", ValueError, jinja2.TemplateError):
        page = render(facts)
    with publish(out) as file:
        file.write(page.encode())


def render(runs: Sequence[RunFacts]) -> str:
    """The page of some runs."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    environment.filters |= {"n": number, "pc": per_cent, "size": charts.short}
    script = (HERE / "page.js").read_text()
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("page.html.j2").render(
        runs=runs,
        charts=charts,
        differences=differences(runs) if len(runs) == 2 else None,
        style=(HERE / "page.css").read_text(),
        script=script,
        script_hash=f"sha256-{digest}",
    )


def _shown(value: object) -> object:
    """What stands for a value on the page: texts as a terminal shows them."""
    return printable(value, "\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value


def number(value: float) -> str:
    """With thousands apart."""
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:,.2f}"


def per_cent(part: float, whole: float = 1.0, digits: int = 1) -> str:
    return f"{100 * part / whole:.{digits}f} %" if whole else "-"
