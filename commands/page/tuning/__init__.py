"""What `fox1 tune` found, of `fox1 tune show --html`, and beside a run in the pages of `fox1 report` and `fox1 inspect`.

facts.py   the stored JSON as what is shown
plots.py   weights, intervals, responses as SVG
cards.py   tabs of cards
"""

from __future__ import annotations

from pathlib import Path

from ....pipeline.run.artifacts import publish
from ....storage.reading import as_written
from ....storage.store import shown
from ....tune.stored import StoredTuning, open_tuning
from ..elements import Element
from ..frame import Tab, page
from .cards import tabs
from .facts import facts_of


def write_page(folder: Path, out: Path) -> None:
    """Write the page of a tuning, as far as it has come.

    Raises:
        ValueError: there is none, or a file of it is damaged.
    """
    found = tuning_tabs(open_tuning(folder))
    with publish(out) as file:
        file.write(page("fox1 tune", shown(folder), found).encode())


def tuning_tabs(tuning: StoredTuning) -> list[Tab]:
    """The tabs of a tuning.

    Raises:
        ValueError: a file of it is damaged.
    """
    with as_written(f"the files of {shown(tuning.folder)}", "run `fox1 tune` again", ValueError):
        return tabs(facts_of(tuning))


def tuning_cards(tuning: StoredTuning) -> list[Element]:
    """The same without the tabs, for a page that has its own.

    Raises:
        ValueError: a file of it is damaged.
    """
    return [card for tab in tuning_tabs(tuning) for card in tab.cards]
