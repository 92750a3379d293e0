"""`fox1 report`: one file of bounded size, with the figures of the ledger and `fox1 stats`, closed sums, safe with hostile text."""

from __future__ import annotations

import copy
import json
import re
import shutil
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from fox1.commands.app import app
from fox1.commands.page.report import write_report
from fox1.commands.page.report.compare import other_thresholds
from fox1.commands.page.report.facts import RunFacts, read_facts
from fox1.commands.page.report.page import render
from fox1.pipeline.stats.outcomes import KEPT, NAMES
from typer.testing import CliRunner

from tests.conftest import run_command

HOSTILE = (
    "</pre></style></script><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>{{ 7 * 7 }}\u202e"
)
VOID = ("meta", "link", "img", "br", "input")


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self._rows: list[list[str]] | None = None
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "table":
            self._rows = self.tables[dict(attrs).get("aria-label") or ""] = []
        if self._rows is not None and tag == "tr":
            self._rows.append([])
        if self._rows is not None and tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()
        if tag == "table":
            self._rows = None

    def handle_data(self, data: str) -> None:
        self.text.append(data)
        if self._rows and self._rows[-1] and "title" not in self.open:
            self._rows[-1][-1] += data


@pytest.fixture(scope="module")
def facts(run: Path) -> RunFacts:
    return read_facts(run)


@pytest.fixture(scope="module")
def page(facts: RunFacts) -> Page:
    return Page(render([facts]))


def number(cell: str) -> int:
    return int(cell.replace(",", "").replace("−", "-"))


def test_the_page_fetches_nothing_and_is_well_formed(run: Path, tmp_path: Path) -> None:
    write_report([run], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert not page.open
    assert not {"link", "img", "iframe", "object"} & set(page.tags) and page.tags.count("script") == 1
    for tag, name, value in page.attributes:
        assert not name.startswith("on") and name != "style", f"{tag} has a {name}"
        if name in ("href", "src", "action"):
            assert value.startswith("#")
    policy = next(v for t, n, v in page.attributes if t == "meta" and n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy and "style-src 'sha256-" in policy and "script-src 'sha256-" in policy
    assert "unsafe" not in policy and not re.search(r"url\(|@import", text)
    ids = [v for _, n, v in page.attributes if n == "id"]
    assert len(ids) == len(set(ids))
    targets = {v[1:] for _, n, v in page.attributes if n == "href"}
    assert targets <= set(ids)
    # Every figure says what it is to who cannot see it.
    images = [(t, n) for t, n, v in page.attributes if (n, v) == ("role", "img")]
    assert len(images) >= 30 and sum(1 for t, n, v in page.attributes if n == "aria-label") >= len(images)


def test_the_head_says_what_was_curated_when_and_the_verdict(page: Page, facts: RunFacts) -> None:
    said = "".join(page.text)
    assert facts.overview["verdict"]["text"] in said
    for finding in facts.overview["findings"]:
        assert finding.replace("_", " ") in said


def sums_close(rows: list[list[str]], column: int) -> int:
    """Assert that in a printed funnel what is deeper adds up to the line above it; how many sums there were."""
    found = [(int(row[0].split("|")[0]), row[column]) for row in rows]
    checked = 0
    for i, (depth, cell) in enumerate(found):
        end = next((k for k in range(i + 1, len(found)) if found[k][0] <= depth), len(found))
        parts = [c for d, c in found[i + 1 : end] if d == depth + 1 and c]
        if cell and parts:
            assert sum(map(number, parts)) == number(cell), (rows[i], parts)
            checked += 1
    return checked


def funnel_rows(text: str, label: str) -> list[list[str]]:
    """The rows of a funnel as printed, with the depth of each before its name."""
    marked = re.sub(r'<span class="depth(\d)">', r"<span>\1|", text)
    return Page(marked).tables[label][1:]


@pytest.mark.parametrize("which", ["run", "reusing"])
def test_the_funnel_closes_as_it_is_printed(which: str, run: Path, facts: RunFacts) -> None:
    shown = facts
    if which == "reusing":
        # Documents of a phase that another one reads, too, and a second epoch: as the ledger of a larger run says it.
        stats = copy.deepcopy(dict(facts.stats))
        first, second = stats["mixture"]["phases"][:2]
        second["lengths"]["web"] = {**second["lengths"].get("web", {}), "30": [7, 700]}
        second["documents"] += 10
        second["tokens"] += 900
        del first
        shown = replace(facts, stats=stats)
    text = render([shown])
    kept = funnel_rows(text, "From rows to kept documents")
    trained = funnel_rows(text, "From used documents to trained tokens")
    assert sums_close(kept, 2) == 2 and sums_close(kept, 5) == 1
    assert sums_close(trained, 2) == 2 and sums_close(trained, 3) == 2
    names = [row[0].split("|")[1] for row in trained]
    assert ("again in a further phase" in names) == (which == "reusing")
    phases = shown.stats["mixture"]["phases"]
    assert number(trained[0][3]) == sum(p["tokens"] for p in phases)
    assert number(kept[0][2]) == sum(c["rows"] for c in facts.corpora)
    used = [row for row in (*kept, *trained) if row[0].endswith("each once and whole")]
    assert len(used) == 2 and used[0][2] == used[1][2] and used[0][5] == used[1][3]


def test_names_and_figures_are_those_of_stats(run: Path, page: Page) -> None:
    """What `fox1 stats` prints of an outcome stands under the same name on the page."""
    printed = run_command("stats", run, "--section", "tokens").stdout
    lines = re.findall(r"^ *(\S.*?)  +([\d,]+)", printed, re.MULTILINE)
    shown = {row[0]: row[2] for row in page.tables["From rows to kept documents"][1:]}
    shown |= {row[0]: row[2] for row in page.tables["From used documents to trained tokens"][1:]}
    both = [(name, n) for name, n in lines if shown.get(name)]
    assert len(both) >= 10 and {"rows", "filtered", KEPT, NAMES["near_duplicate"]} <= {name for name, _ in both}
    for name, n in both:
        assert shown[name] == n, name
    assert set(shown) >= {name for name, _ in lines if name != "documents"}


def test_drop_rates_of_all_groups_are_those_of_the_ledger(page: Page, facts: RunFacts) -> None:
    for title, groups, more in (
        ("Corpora", facts.by_corpus, facts.unreadable),
        ("Domains", facts.by_domain, {}),
        ("Languages", facts.by_language, {}),
        ("Subsets", facts.by_subset, {}),
    ):
        head, *rows = page.tables[title]
        assert {name or "unknown" for name in groups} >= {row[0] for row in rows} and rows
        for row in rows:
            counts = next(c for name, c in groups.items() if (name or "unknown") == row[0])
            whole = sum(counts.values()) + more.get(row[0], 0)
            assert number(row[2]) == whole
            kept = row[head.index(KEPT)]
            assert kept == "·" or abs(float(kept.split()[0]) - 100 * counts.get(KEPT, 0) / whole) < 0.06
    rows = sum(c["rows"] - c["quarantined"] for c in facts.corpora)
    assert sum(sum(c.values()) for c in facts.by_domain.values()) == rows
    assert sum(sum(c.values()) for c in facts.by_language.values()) == rows


def test_what_a_rule_counts_is_marked_in_its_examples(facts: RunFacts) -> None:
    """The excerpt of a document that failed for repeated lines holds the repeated lines, marked."""
    marked = {
        reason: [e["text"][a:b] for e in examples for a, b in e["marks"]]
        for reason, examples in facts.examples.items()
        if any(e.get("marks") for e in examples)
    }
    assert marked, "no example has a mark"
    text = render([facts])
    for reason, parts in marked.items():
        assert all(parts) and f'title="{reason.replace("_", " ")}"' in text
    assert text.count("<mark") >= len(marked)


def test_all_documents_are_in_the_distributions(run: Path, facts: RunFacts) -> None:
    stored = json.loads((run / "stats" / "distributions.json").read_text())
    readable = {c["corpus"]: c["rows"] - c["quarantined"] for c in facts.corpora}
    for kind in ("words", "quality"):
        by_reason: dict[str, int] = {}
        for reasons in stored[kind].values():
            for reason, classes in reasons.items():
                by_reason[reason] = by_reason.get(reason, 0) + sum(classes.values())
        assert by_reason == {r: n for r, n in {**facts.dropped, KEPT: facts.overview["kept"]}.items() if n}
    assert sum(n for of in stored["languages"].values() for n in of.values()) == sum(readable.values())
    assert {c["corpus"]: c["bytes"] for c in facts.corpora} == {
        c: sum(of.values()) for c, of in stored["bytes"].items()
    }
    kept = json.loads((run / "stats" / "languages.json").read_text())["languages"]
    assert {n: of.get(KEPT, 0) for n, of in stored["languages"].items()} == {
        n: of.get("kept", 0) for n, of in kept.items()
    }


def test_a_run_of_an_earlier_version_has_a_report(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "stats" / "distributions.json").unlink()
    examples = json.loads((run / "stats" / "examples.json").read_text())
    for found in examples["reasons"].values():
        for example in found:
            del example["marks"]
    (tmp_path / "run" / "stats" / "examples.json").write_text(json.dumps(examples))
    write_report([tmp_path / "run"], tmp_path / "r.html")
    page = Page((tmp_path / "r.html").read_text())
    assert not page.open and "Languages" in page.tables and "Lengths of kept documents" in "".join(page.text)


def test_hostile_text_is_text(facts: RunFacts) -> None:
    shown = copy.deepcopy(facts)
    for examples in shown.examples.values():
        for e in examples:
            e |= {"text": HOSTILE, "name": HOSTILE, "subset": HOSTILE, "value": HOSTILE, "marks": [[3, 60]]}
            if "stays" in e:
                e |= {"stays": HOSTILE, "stays_text": HOSTILE}
    shown.name = shown.recipe = HOSTILE
    mixture: dict[str, Any] = shown.stats["mixture"]
    mixture["phases"][0]["pools"][0]["pool"] = HOSTILE
    mixture["phases"][0]["cells"][0]["subset"] = HOSTILE
    shown.overview["languages"][0]["name"] = HOSTILE  # type: ignore[index]
    shown.overview["warnings"].append(HOSTILE)
    shown.stats["funnel"]["corpora"][0]["subsets"][HOSTILE] = {"kept": 3, "dropped": {HOSTILE: 5}}
    text = render([shown])
    page = Page(text)
    assert not page.open and page.tags.count("script") == 1 and page.tags.count("style") == 1 and "img" not in page.tags
    assert any("window.hacked = 1" in t and "{{ 7 * 7 }}" in t for t in page.text) and "\u202e" not in text


def test_the_size_does_not_grow_with_the_run(facts: RunFacts) -> None:
    shown = copy.deepcopy(facts)
    long = "x" * 100_000
    for examples in shown.examples.values():
        examples *= 50
        for e in examples:
            e |= {"text": long, "marks": [[0, 1]]}
    corpus = shown.stats["funnel"]["corpora"][0]
    corpus["subsets"] |= {f"subset {i}": {"kept": i, "dropped": {"min_words": 2}} for i in range(20_000)}
    corpus["damaged_files"] = [f"file {i}: cut" for i in range(20_000)]
    shown.stats["tokens"]["subsets"] |= {f"a/{i}": {"tokens": i, "bytes": i} for i in range(20_000)}
    shown.overview["languages"].extend({"name": f"l{i}", "rows": 3, "kept": 2} for i in range(2_000))
    shown.recipe = long * 20
    assert len(render([shown]).encode()) < 3 << 20


def other_run(run: Path, folder: Path, *changed: tuple[str, str]) -> Path:
    shutil.copytree(run, folder)
    recipe = (run / "recipe.yaml").read_text()
    for old, new in changed:
        assert old in recipe
        recipe = recipe.replace(old, new)
    (folder / "recipe.yaml").write_text(recipe)
    return folder


def test_two_runs_are_compared(run: Path, hostile_run: Path, tmp_path: Path) -> None:
    other = other_run(run, tmp_path / "other", ("jaccard: 0.8", "jaccard: 0.7"))
    result = CliRunner().invoke(app, ["report", str(other), str(run)])
    assert result.exit_code == 0, result.output
    assert not (other / "report.html").exists()
    text = (other / f"report-{run.name}.html").read_text()
    page = Page(text)
    said = "".join(page.text)
    assert not page.open and "Losses on held-out documents cannot be compared" in said
    assert page.tables["Keys that differ"][1:] == [["dedupe.jaccard", "0.7", "0.8"]]
    assert "0 documents changed" in said
    ids = [v for _, n, v in page.attributes if n == "id"]
    assert len(ids) == len(set(ids)) and {v[1:] for _, n, v in page.attributes if n == "href"} <= set(ids)

    write_report([run, hostile_run], tmp_path / "both.html")
    page = Page((tmp_path / "both.html").read_text())
    moved = page.tables["From one outcome to another"]
    assert sum(number(c) for row in moved[1:] for c in row[1:] if c != "·") > 0
    head, *rows = page.tables["Outcomes"]
    assert rows[0][0] == KEPT and all(cell[0] in "+−±" for row in rows for cell in row[3:] if cell)
    for column in range(3, len(head)):
        # What one outcome gains the others lose.
        assert abs(sum(float(row[column].replace("−", "-").replace("±", "")) for row in rows if row[column])) < 0.1


@pytest.mark.parametrize(
    ("written", "warnings"),
    [
        ("jaccard: 0.8\n  held_out_jaccard: 80%", 0),  # the default, written
        ("jaccard: 0.8\n  held_out_jaccard: 0.9", 0),  # the lower of both counts
        ("jaccard: 0.8\n  held_out_jaccard: 0.7", 1),
        ("jaccard: 0.9", 1),
        ("jaccard: 0.9\n  held_out_jaccard: 0.7", 2),
    ],
)
def test_other_thresholds_of_two_runs_are_flagged(run: Path, tmp_path: Path, written: str, warnings: int) -> None:
    other = other_run(run, tmp_path / "other", ("jaccard: 0.8", written))
    assert len(other_thresholds([read_facts(run), read_facts(other)])) == warnings


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    result = CliRunner().invoke(app, ["report", str(tmp_path / "run")])
    assert isinstance(result.exception, ValueError) and "is this a finished run?" in str(result.exception)


def test_examples_are_of_every_reason_that_dropped_much(facts: RunFacts) -> None:
    assert {"kept", "near_duplicate", "exact_duplicate", "licence"} <= set(facts.examples)
    assert all(e["text"] for e in facts.examples["kept"])
    assert all("stays" in e and e["stays_text"] for e in facts.examples["near_duplicate"])
    assert not any(e["text"] for e in facts.examples["licence"])


@pytest.mark.parametrize("what", ["Pools", "Languages", "Tokens per byte", "Lengths", "Quality", "Funnel to trained"])
def test_stats_show_the_ledger(run: Path, what: str) -> None:
    result = CliRunner().invoke(app, ["stats", str(run)])
    assert result.exit_code == 0 and what in result.output


def test_the_two_funnels_of_stats_agree(run: Path, facts: RunFacts) -> None:
    """The one by corpus and the one to trained tokens: held-out documents are among the kept."""
    shown = CliRunner().invoke(app, ["stats", str(run)]).output.splitlines()
    corpora = next(line for line in shown if line.startswith("all ")).split()
    funnel = next(line for line in shown if line.startswith("  kept ")).split()
    assert corpora[-2:] == funnel[-2:] == [f"{facts.overview['kept']:,}", f"{facts.overview['kept_tokens']:,}"]


def test_damaged_files_and_times_that_were_not_understood_are_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "stats" / "funnel.json"
    funnel = json.loads(path.read_text())
    corpus = funnel["corpora"][0]
    damaged = [f"{corpus['corpus']}/{i}.gz: the file is empty <b>" for i in range(30)]
    corpus |= {"damaged_files": damaged, "lost_bytes": 25, "stored_bytes": 200, "times_not_understood": 3}
    path.write_text(json.dumps(funnel))
    page = "".join(Page(render([read_facts(tmp_path / "run")])).text)
    said = CliRunner().invoke(app, ["stats", str(tmp_path / "run")], env={"COLUMNS": "200"}).output
    for output in (page, said):
        assert "30 damaged files that lost 12.5 % of the corpus" in output and damaged[0] in output
        assert "3 documents with a time that was not understood" in output
    assert damaged[19] in said and damaged[20] not in said and "and 10 more, listed in stats/funnel.json" in said
