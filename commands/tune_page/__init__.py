"""`fox1 tune show --html`: what a tuning found, as one HTML file.

facts.py      the stored JSON as what the page shows
charts.py     figures as SVG
page.html.j2  the page; page.css, and the style sheet of `fox1 inspect`, whose colours it has

Nothing in the page is fetched, and a policy in its head forbids every script.
"""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

from ...pipeline.run.artifacts import publish
from ...storage.reading import as_written
from ...storage.store import shown
from ...storage.wording import printable
from ...tune.stored import StoredTuning
from . import charts
from .facts import facts_of

HERE = Path(__file__).parent
SHARED = HERE.parent / "page" / "static" / "base.css"


def write_page(tuning: StoredTuning, out: Path) -> None:
    """Write the page of a tuning, as far as it has come.

    Raises:
        ValueError: a file of it is damaged.
    """
    with as_written(f"the files of {shown(tuning.folder)}", "run `fox1 tune` again", ValueError, jinja2.TemplateError):
        page = render(tuning)
    with publish(out) as file:
        file.write(page.encode())


def render(tuning: StoredTuning) -> str:
    """The page."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
        finalize=_shown,
    )
    environment.filters |= {"pc": per_cent, "bits": bits, "signed": signed}
    style = SHARED.read_text() + (HERE / "page.css").read_text()
    return environment.get_template("page.html.j2").render(
        facts=facts_of(tuning), charts=charts, style=Markup(style), name=shown(tuning.folder)
    )


def _shown(value: object) -> object:
    """What stands for a value on the page: texts as a terminal shows them."""
    return printable(value, "\n\t") if isinstance(value, str) and not isinstance(value, Markup) else value


def per_cent(share: float) -> str:
    return f"{100 * share:.2f}"


def bits(value: float) -> str:
    return f"{value:.4f}"


def signed(value: float) -> str:
    return f"{value:+.4f}"
