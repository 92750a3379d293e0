"""The questions that the page asks, and what of `pipeline.inspect` answers each."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any
from urllib.parse import quote

import numpy as np

from ...api import TRIED, Run
from ...pipeline.curate import CurateSettings
from ...pipeline.engine.engine import Engine
from ...pipeline.engine.tasks import InProcess
from ...pipeline.filter.judge import FilterSettings
from ...pipeline.inspect import blocks, document, lookup
from ...pipeline.inspect.diff import RunDiff, diff
from ...pipeline.inspect.explore.explorer import FORMATS, SHOWN, Explorer
from ...pipeline.inspect.explore.selection import Selection
from ...pipeline.inspect.overview import overview
from ...pipeline.mix.budget import Weight
from ...pipeline.run.paths import RunPaths
from ...recipes.load import stored_mapping
from ...tune.stored import open_tuning
from . import mixture
from .asked import Asked, Download
from .elements import Element, h, tree
from .losses import losses_by_corpus
from .overview import cards, domains_of
from .server import Answer
from .tuning import tuning_cards

STEP = 2_654_435_761
ROWS = 100
"""Documents of a page of the table, at most."""
SQL_ROWS = 1_000
CLUSTER = 200
EXAMPLES = 40
"""Documents that are named for each change between two runs."""
CHANGES = 8
EXPORTS = 50
"""Selections whose files can be fetched, the last ones."""


class Answers:
    """Answers for one run, or for two that are compared."""

    def __init__(self, runs: Sequence[Run], training: Path | None = None, tuning: Path | None = None) -> None:
        """
        Args:
            runs: one, or two.
            training: on the run; its losses are shown beside the mixture.
            tuning: has a view of its own.

        Raises:
            ValueError: a run is not finished, the training has no metrics, or the tuning is damaged.
        """
        self._runs = list(runs)
        found = [_settings(one) for one in self._runs]
        self._filters = [settings.filter if settings else FilterSettings() for settings, _ in found]
        self._settings, self._note = found[0]
        self._training = training
        if training:
            losses_by_corpus(training)
        self._tuning = [tree(card) for card in tuning_cards(open_tuning(tuning))] if tuning else None
        self._explorer = Explorer(runs[0].finished, self._filters[0])
        self._exports: dict[str, tuple[Selection, str]] = {}
        self._what_ifs: dict[tuple[str, ...], Any] = {}
        self._difference: RunDiff | None = None
        # What a plan of the mixture counted is kept for the next one, which is of the same tokens.
        self._planner: Engine | None = None
        self._planned_in: TemporaryDirectory[str] | None = None
        self._lock, self._judging = Lock(), Lock()

    def start(self) -> None:
        """Begin to read what the page shows first."""
        self._explorer.start()

    def close(self) -> None:
        """End what is being read, and remove what was written beside the run."""
        self._explorer.close()
        with self._judging:
            if self._planned_in:
                self._planned_in.cleanup()

    def by_question(self) -> Mapping[str, Answer]:
        """The answers by method and path."""
        return {
            "GET /api/run": self.run,
            "GET /api/facets": lambda asked: self._explorer.facets(),
            "POST /api/counts": self.counts,
            "POST /api/rows": self.rows,
            "POST /api/export": self.export,
            "GET /api/file": self.file,
            "POST /api/sql": self.sql,
            "GET /api/document": self.document,
            "GET /api/row": self.row,
            "GET /api/copies": self.copies,
            "GET /api/beside": self.beside,
            "GET /api/find": self.find,
            "GET /api/sets": lambda asked: blocks.sets_of(self._of(asked).finished),
            "GET /api/block": self.block,
            "POST /api/what-if": self.what_if,
            "GET /api/weights": self.weights,
            "POST /api/what-if-mixture": self.what_if_mixture,
            "GET /api/compare": self.compare,
        }

    def _of(self, asked: Asked) -> Run:
        return self._runs[asked.number("run", 0, len(self._runs) - 1)]

    def run(self, asked: Asked) -> Any:
        """The overview, and the names of what is compared."""
        losses = losses_by_corpus(self._training) if self._training else None
        said = {**overview(self._runs[0].paths), "note": self._note, "losses": losses}
        return {
            **said,
            "cards": [tree(card) for card in cards(said, _choose, _read_it)],
            "tuning": self._tuning,
            "jaccard": self._settings.dedupe.jaccard if self._settings else None,
            "tried": TRIED,
            "other": self._runs[1].paths.root.name if len(self._runs) > 1 else "",
            "columns": [{"name": field.name, "type": str(field.type)} for field in self._runs[0].columns],
        }

    def counts(self, asked: Asked) -> Any:
        """Histograms of a selection."""
        return self._explorer.counts(Selection.from_json(asked.value("selection")), asked.texts("columns"))

    def rows(self, asked: Asked) -> Any:
        """A page of the documents of a selection, in their order, or in one that mixes the files."""
        places = self._explorer.places(Selection.from_json(asked.value("selection")))
        first, number = asked.number("first"), min(asked.number("number", 25), ROWS)
        if asked.text("order", "file") == "mixed":
            # Steps of a prime, around and around: each place once, far from the one before.
            page = places[[n * STEP % len(places) for n in range(first, min(first + number, len(places)))]]
        else:
            page = places[first : first + number]
        return {"documents": len(places), "table": self._explorer.rows(np.sort(page), SHOWN)}

    def export(self, asked: Asked) -> Any:
        """Where the file of a selection can be fetched."""
        selection, kind = Selection.from_json(asked.value("selection")), asked.text("format")
        if kind not in FORMATS:
            raise ValueError(f"there is no format {kind[:20]!r}; choose one of {', '.join(FORMATS)}")
        documents = len(self._explorer.places(selection))
        name = secrets.token_urlsafe(8)
        with self._lock:
            self._exports[name] = selection, kind
            while len(self._exports) > EXPORTS:
                del self._exports[next(iter(self._exports))]
        return {"address": f"/api/file?name={name}", "documents": documents}

    def file(self, asked: Asked) -> Download:
        """The file of a selection."""
        with self._lock:
            found = self._exports.get(asked.text("name"))
        if found is None:
            raise ValueError("this file is no longer offered; export the selection again")
        selection, kind = found
        name = "exclude.txt" if kind == "txt" else f"documents.{kind}"
        return Download(name, FORMATS[kind], self._explorer.write(selection, kind))

    def sql(self, asked: Asked) -> Any:
        """The answer to a query over the table `documents`."""
        found = self._of(asked).sql(asked.text("query"))
        return {"table": found.slice(0, SQL_ROWS), "rows": found.num_rows}

    def document(self, asked: Asked) -> Any:
        """A document with its text."""
        number = asked.number("run", 0, len(self._runs) - 1)
        return document.show(self._runs[number].finished, self._filters[number], asked.text("name"))

    def row(self, asked: Asked) -> Any:
        """The row of a document as it stands in its source file."""
        return document.show_row(self._of(asked).finished, asked.text("name"))

    def copies(self, asked: Asked) -> Any:
        """The dropped documents that stand behind a kept one."""
        run, doc_id = self._runs[0].finished, asked.number("id", most=1 << 63)
        codes = self._explorer.codes
        for done in codes.want(["reason"]):
            done.result()
        targets, own = codes.copies
        first, last = (int(n) for n in np.searchsorted(targets, np.array([doc_id, doc_id + 1], np.uint64)))
        ids = own[first : min(last, first + CLUSTER)].tolist()
        return {"number": last - first, "documents": [{"id": str(one), "name": run.name(one)} for one in ids]}

    def beside(self, asked: Asked) -> Any:
        """Two documents side by side."""
        return document.side_by_side(self._of(asked).finished, asked.text("name"), asked.text("other"))

    def find(self, asked: Asked) -> Any:
        """Documents by URL, native id or content hash, or by name."""
        kind, value, run = asked.text("kind"), asked.text("value"), self._runs[0]
        if kind == "name":
            doc_id = run.finished.doc_id(value)
            return [{"name": run.finished.name(doc_id), "id": str(doc_id)}]
        if kind not in ("url", "id", "hash"):
            raise ValueError("find takes a name, url, id or hash")
        return [{"name": f.name, "id": str(f.doc_id)} for f in lookup.find(run.finished, kind, value)]

    def block(self, asked: Asked) -> Any:
        """A block, token by token."""
        number, length = asked.number("number"), asked.number("length")
        return blocks.show_block(self._of(asked).finished, asked.text("phase"), number, length)

    def what_if(self, asked: Asked) -> Any:
        """What other thresholds would change."""
        changes = tuple(asked.texts("changes"))
        if not changes or len(changes) > CHANGES * 10:
            raise ValueError("there is nothing to try; move a threshold first")
        with self._judging:
            if changes not in self._what_ifs:
                while len(self._what_ifs) >= CHANGES:
                    del self._what_ifs[next(iter(self._what_ifs))]
                self._what_ifs[changes] = self._runs[0].what_if(changes, asked.number("examples", 6, 20))
            return self._what_ifs[changes]

    def weights(self, asked: Asked) -> Any:
        """The weights of the phases, by the keys of the recipe."""
        phases = self._settings.mix.phases if self._settings else ()
        return [{"name": p.name, "weights": list(_weights(f"phases.{p.name}.weights", p.weights))} for p in phases]

    def what_if_mixture(self, asked: Asked) -> Any:
        """What other weights would change, as cards."""
        changes = asked.texts("changes")
        if not changes or len(changes) > CHANGES * 10:
            raise ValueError("there is nothing to try; move a weight first")
        with self._judging:
            if self._planner is None:
                self._planned_in = TemporaryDirectory(prefix="fox1-what-if-")
                self._planner = Engine(RunPaths(Path(self._planned_in.name)), InProcess())
            found = self._runs[0].what_if_mixture(changes, self._planner)
        names = domains_of(overview(self._runs[0].paths))
        return {"cards": [tree(card) for card in mixture.cards(found, names)]}

    def compare(self, asked: Asked) -> Any:
        """What became of the same documents in both runs."""
        if len(self._runs) < 2:
            raise ValueError("there is one run; name the second one, as in `fox1 inspect RUN RUN_B`")
        a, b = (run.paths for run in self._runs)
        with self._judging:
            if self._difference is None:
                self._difference = diff(a, b, (stored_mapping(a.recipe), stored_mapping(b.recipe)), EXAMPLES)
        return {"names": [a.root.name, b.root.name], **self._difference.to_json()}


def _weights(path: str, weights: Sequence[Weight]) -> Iterator[dict[str, Any]]:
    """Weights with their keys, those of a group after it."""
    for number, weight in enumerate(weights):
        key = f"{path}.{number}"
        name = weight.name if not weight.by else f"{weight.name}, by {weight.by}"
        yield {"path": f"{key}.weight", "name": name, "value": weight.weight}
        yield from _weights(f"{key}.within", weight.within)


def _choose(kind: str, name: str, style: str) -> tuple[str, dict[str, Any]]:
    """A button that leads from a group to its documents."""
    return "button", {"type": "button", "class": style, "data-choose": kind, "data-name": name}


def _read_it(phase: Mapping[str, Any]) -> Element:
    return h("a", {"class": "read", "href": f"#/blocks?phase={quote(phase['name'])}"}, "Read it")


def _settings(run: Run) -> tuple[CurateSettings | None, str]:
    """(what a run was curated with, why that cannot be shown)."""
    try:
        return run.settings(), ""
    except (ValueError, OSError) as error:
        return None, f"Thresholds cannot be shown, nor texts read from their sources: {error}"
