"""`fox1 report`: one HTML file about a run, or two runs compared, of the pieces of which the page of `fox1 inspect` is made, too.

facts.py       the stored statistics, the recipe and the times
page.py        its tabs, in the frame of ../frame.py
funnel.py rules.py groups.py shapes.py mixture.py duplicates.py sources.py      the tabs
compare.py     two runs: deltas, and what became of the same documents
examples.py    documents with what their reason counts; anchors.py: where a name is shown

Nothing in the page is fetched, and a policy in its head allows its own script and style sheet by their hashes and nothing else:
texts are escaped, and could not run if they were not. It is readable without the script, one tab after another. Its size does not
grow with the run: tables end after some hundred rows, and examples are few and short.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ....pipeline.run.artifacts import publish
from ....storage.reading import as_written
from ....storage.store import shown
from ....tune.stored import open_tuning
from ..tuning import tuning_cards
from .facts import read_facts
from .page import render


def write_report(runs: Sequence[Path], out: Path, tuning: Path | None = None) -> None:
    """Write the report of one run, or of two compared.

    Args:
        tuning: is shown beside it.

    Raises:
        ValueError: a run is not finished, or the tuning is damaged.
    """
    facts = [read_facts(run, key) for run, key in zip(runs, ("", "b-"), strict=False)]
    if len(facts) == 2 and facts[0].name == facts[1].name:
        for label, run in zip("AB", facts, strict=True):
            run.name = f"{run.name} ({label})"
    tuned = tuning_cards(open_tuning(tuning)) if tuning else ()
    names = " or ".join(shown(run) for run in runs)
    with as_written(f"stats/ of {names}", "curate the run again", ValueError):
        page = render(facts, tuned)
    with publish(out) as file:
        file.write(page.encode())
