"""What both pages say of a run at first sight, of `pipeline.inspect.overview`: the verdict, figures, findings, what is kept, what
trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ...pipeline.engine.records import command_of
from ...storage.wording import counted
from .charts import Part, by_outcome, colour, legend, measure, shares, table, tile, tiles
from .elements import Element, Node, h
from .formats import moment, number, percent, short, size, words

Pick = Callable[[str, str, str], tuple[str, dict[str, Any]]]
"""(kind of group, name in it, class) -> tag and attributes of what leads from a group to its documents, or to more on it."""
SHOWN = 12
"""Languages that are shown at once."""


def hero(run: Mapping[str, Any]) -> Element:
    """Who the run is, the verdict, and its figures."""
    unfinished = "The last curation of this run did not finish: later stages are missing or out of date."
    return h(
        "section",
        {"class": "card span hero"},
        h("h2", {}, run["name"], h("small", {"class": "place"}, run["place"])),
        h(
            "p",
            {"class": "asked"},
            h("code", {}, command_of(run["asked"])) if run["asked"].get("recipe") else None,
            _when(run),
        ),
        verdict(run["verdict"]),
        None if run["finished"] else h("p", {"class": "warning"}, unfinished),
        h("p", {"class": "warning"}, run["note"]) if run.get("note") else None,
        tiles(
            tile("documents read", number(run["rows"]), size(run["bytes"])),
            tile("kept", number(run["kept"]), percent(run["kept"], run["rows"])),
            tile(
                "tokens kept", short(run["kept_tokens"]), f"{short(_mean(run['kept_tokens'], run['kept']))} a document"
            ),
            tile("documents that train", number(run["used"]), f"{number(run['unused'])} not needed"),
            tile("tokens trained on", short(run["trained_tokens"]), counted(len(run["phases"]), "phase")),
            tile("held out", number(run["held_out"]), "documents"),
        ),
    )


def _mean(whole: int, parts: int) -> int:
    return round(whole / max(parts, 1))


def _when(run: Mapping[str, Any]) -> str:
    curated = run["curated"]
    when = f" · curated {moment(curated['began'])}" if "began" in curated else ""
    return f"{when} · fox1 {curated['version']}" if "version" in curated else when


def cards(
    run: Mapping[str, Any], pick: Pick, more: Callable[[Mapping[str, Any]], Node] = lambda phase: None
) -> list[Element]:
    """All of it. `more`: what stands beside a phase."""
    lead = " Choose one for more of it."
    return [
        hero(run),
        *findings(run),
        corpora(run, pick, lead),
        phases(run, more),
        languages(run, pick),
        domains(run, pick),
    ]


def verdict(said: Mapping[str, str]) -> Element:
    """The verdict, with a sign for each level that needs no colour."""
    sign = {"ready": "✓", "look": "!", "short": "✕"}[said["level"]]
    return h(
        "p",
        {"class": f"verdict {said['level']}"},
        h("span", {"class": "sign", "aria-hidden": "true"}, sign),
        said["text"],
    )


def findings(run: Mapping[str, Any]) -> list[Element]:
    """Findings, and beside them warnings."""
    calm = h("p", {"class": "lead"}, "Nothing that whoever answers for this run would ask about.")
    warned = h("ul", {"class": "findings warn"}, [h("li", {}, text) for text in run["warnings"]])
    return [
        h(
            "section",
            {"class": "card"},
            h("h2", {}, "Findings"),
            h("ul", {"class": "findings"}, [h("li", {}, words(text)) for text in run["findings"]]),
        ),
        h("section", {"class": "card"}, h("h2", {}, "Warnings"), warned if run["warnings"] else calm),
    ]


def corpora(run: Mapping[str, Any], pick: Pick, lead: str = "") -> Element:
    """A bar for each corpus, divided by what became of its documents."""
    most = max((c["rows"] for c in run["corpora"]), default=1)
    every = {name: 1 for c in run["corpora"] for name in c["outcomes"]}
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, "From documents to what is kept"),
        h("p", {"class": "lead"}, f"Each bar is a corpus, divided by what became of its documents.{lead}"),
        h("div", {"class": "rows"}, [_corpus(c, most, pick) for c in run["corpora"]]),
        legend([(part.name, part.colour) for part in by_outcome(every)]),
    )


def _corpus(corpus: Mapping[str, Any], most: int, pick: Pick) -> Element:
    tag, attributes = pick("corpus", corpus["name"], "row")
    about = f"{counted(corpus['rows'], 'document')}, {size(corpus['bytes'])}"
    return h(
        tag,
        attributes,
        h("span", {"class": "name"}, corpus["name"], h("small", {}, about)),
        shares(by_outcome(corpus["outcomes"]), corpus["rows"], corpus["name"]),
        h("span", {"class": "figure"}, percent(corpus["kept"], corpus["rows"]), h("small", {}, "kept")),
        h("span", {"class": "size"}, measure(corpus["rows"], most)),
    )


def phases(run: Mapping[str, Any], more: Callable[[Mapping[str, Any]], Node] = lambda phase: None) -> Element:
    """A bar for each phase, divided by domain. `more`: what stands beside a phase."""
    names = domains_of(run)
    return h(
        "section",
        {"class": "card span"},
        h("h2", {}, "What trains"),
        h("p", {"class": "lead"}, "Tokens of each phase by domain, and how much of what was wanted is reached."),
        h("div", {"class": "rows"}, [phase_row(p, names, "domains", more(p)) for p in run["phases"]]),
        legend([(name, colour(names, name)) for name in names]),
        _losses(run),
        [pools(p) for p in run["phases"]],
    )


def _losses(run: Mapping[str, Any]) -> Element | None:
    """Losses by corpus beside the shares of its tokens, where a training was named."""
    losses = run.get("losses")
    if not losses:
        return None
    rows: list[list[Node]] = [
        [
            f"{p['name']}, {corpus}",
            percent(p["corpora"].get(corpus, 0), p["tokens"]),
            *(f"{n:.3f}" for n in (first, last, last - first)),
        ]
        for p in run["phases"]
        for corpus, (first, last) in losses["phases"].get(p["name"], {}).items()
    ]
    heads: list[Node] = ["phase and corpus", "share of tokens", "loss at its begin", "at its end", "change"]
    none = h("p", {"class": "note"}, "The training has not reported any losses yet.")
    return h(
        "details",
        {"open": True},
        h("summary", {}, f"Loss by corpus in {losses['training']}"),
        table(heads, rows, "Loss by corpus") if rows else none,
        table(["held out", "first measured", "last", "change"], _measures(losses), "Held-out bits per byte"),
    )


def _measures(losses: Mapping[str, Any]) -> list[list[Node]]:
    """What the training was measured on, and how much better it became."""
    each = losses["measured"].items()
    return [[name, *(f"{n:.3f}" for n in (first, last, last - first))] for name, (first, last) in each]


def domains_of(run: Mapping[str, Any]) -> list[str]:
    """The domains in the order that decides their colours."""
    return [*dict.fromkeys([*(d["name"] for d in run["domains"]), *(d for p in run["phases"] for d in p["domains"])])]


def phase_row(phase: Mapping[str, Any], names: Sequence[str], by: str, more: Node = None) -> Element:
    """A phase as a bar, divided by `domains` or `corpora`."""
    parts = [Part(name, n, colour(names, name)) for name, n in sorted(phase[by].items(), key=lambda e: -e[1])]
    return h(
        "div",
        {"class": "row plain"},
        h("span", {"class": "name"}, phase["name"], h("small", {}, counted(phase["documents"], "document"))),
        shares(parts, phase["tokens"], phase["name"]),
        h("span", {"class": "figure"}, short(phase["tokens"]), h("small", {}, f"of {short(phase['wanted'])} wanted")),
        more,
    )


def pools(phase: Mapping[str, Any]) -> Element:
    """Pools of a phase: wanted against reached."""
    heads = ["pool", "wanted", "reached", "share of phase", "documents", "available", "times read"]
    rows = [
        [
            pool["pool"],
            short(pool["wanted_tokens"]),
            short(pool["tokens"]),
            percent(pool["tokens"], phase["tokens"]),
            number(pool["documents"]),
            short(pool["available_tokens"]),
            f"{pool['epochs']:.2f}",
        ]
        for pool in phase["pools"]
    ]
    name = f"Pools of {phase['name']}"
    return h("details", {}, h("summary", {}, f"{name}: wanted against reached"), table(heads, rows, name))


def languages(run: Mapping[str, Any], pick: Pick) -> Element:
    """Documents by language, and the share that is kept."""
    most = max((one["rows"] for one in run["languages"]), default=1)

    def bar(one: Mapping[str, Any]) -> Element:
        tag, attributes = pick("language", one["name"], "bar")
        title = f"{number(one['kept'])} of {number(one['rows'])} are kept"
        return h(
            tag,
            {**attributes, "title": title},
            h("span", {"class": "label"}, one["name"] or "unknown"),
            measure(one["rows"], most, one["kept"]),
            h(
                "span",
                {"class": "count"},
                percent(one["kept"], one["rows"], 0),
                h("small", {}, f" of {short(one['rows'])}"),
            ),
        )

    rest = run["languages"][SHOWN:]
    return h(
        "section",
        {"class": "card"},
        h("h2", {}, "Languages"),
        h("p", {"class": "lead"}, "Documents read, and the share that is kept."),
        h("div", {"class": "bars"}, [bar(one) for one in run["languages"][:SHOWN]]),
        h("details", {}, h("summary", {}, f"{len(rest)} more"), h("div", {"class": "bars"}, [bar(one) for one in rest]))
        if rest
        else None,
    )


def domains(run: Mapping[str, Any], pick: Pick) -> Element:
    """Kept tokens by domain."""
    most = max((d["tokens"] for d in run["domains"]), default=1)

    def bar(one: Mapping[str, Any]) -> Element:
        tag, attributes = pick("domain", one["name"], "bar")
        return h(
            tag,
            {**attributes, "title": counted(one["documents"], "document")},
            h("span", {"class": "label"}, one["name"]),
            measure(one["tokens"], most),
            h("span", {"class": "count"}, short(one["tokens"])),
        )

    return h(
        "section",
        {"class": "card"},
        h("h2", {}, "Domains"),
        h("p", {"class": "lead"}, "Tokens of the documents that are kept for training."),
        h("div", {"class": "bars"}, [bar(one) for one in run["domains"]]),
    )
