"""`fox1 report` and `fox1 stats`: the same figures as the ledger, self-contained, safe with hostile text."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest
from fox1.commands.app import app
from fox1.pipeline.stats.report import render, write_report
from fox1.pipeline.stats.report.facts import differences, read_facts
from typer.testing import CliRunner

HOSTILE = "</pre><script>window.hacked = 1</script><img src=x onerror='window.hacked = 2'>{{ 7 * 7 }}"


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag not in ("meta", "link", "img", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open and self.open[-1] == tag, f"</{tag}> closes {self.open[-3:]}"
        self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_the_page_fetches_nothing_and_is_well_formed(run: Path, tmp_path: Path) -> None:
    write_report([run], tmp_path / "r.html")
    text = (tmp_path / "r.html").read_text()
    page = Page(text)
    assert not page.open
    assert not {"link", "img", "iframe", "object"} & set(page.tags) and page.tags.count("script") == 1
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), f"{tag} has a handler"
        if name in ("href", "src", "action"):
            assert value.startswith("#")
    policy = next(v for t, n, v in page.attributes if t == "meta" and n == "content" and "default-src" in v)
    assert "default-src 'none'" in policy and "script-src 'sha256-" in policy and "unsafe-inline'; script" in policy
    assert not re.search(r"url\(|@import", text)
    ids = [v for _, n, v in page.attributes if n == "id"]
    assert len(ids) == len(set(ids))
    targets = {v[1:] for _, n, v in page.attributes if n == "href"}
    assert targets <= set(ids)
    # Every figure says what it is to who cannot see it.
    images = [(t, n) for t, n, v in page.attributes if (n, v) == ("role", "img")]
    assert len(images) >= 9 and sum(1 for t, n, v in page.attributes if n == "aria-label") >= len(images)


def test_the_figures_are_the_ledger_s(run: Path) -> None:
    facts = read_facts(run)
    mixture = json.loads((run / "stats" / "mixture.json").read_text())
    links = {(k.source, k.target): k.value for k in facts.links}
    assert sum(v for (a, b), v in links.items() if a != "kept") == facts.rows
    assert sum(v for (a, b), v in links.items() if b == "kept") == facts.kept
    assert sum(v for (a, b), v in links.items() if a == "kept") == facts.kept
    assert facts.trained_tokens == sum(p["tokens"] for p in mixture["phases"])
    page = "".join(Page(render([facts])).text)
    for phase in mixture["phases"]:
        for pool in phase["pools"]:
            assert f"{pool['wanted_tokens']:,}" in page
    languages = json.loads((run / "stats" / "languages.json").read_text())["languages"]
    assert (
        sum(of.get("rows", 0) for of in languages.values())
        + sum(c["quarantined"] for c in facts.stats["funnel"]["corpora"])
        == facts.rows
    )
    for number, phase in enumerate(mixture["phases"], 1):
        assert sum(of.get(str(number), 0) for of in languages.values()) == phase["tokens"]
        for kind in ("lengths", "quality"):
            assert sum(n for of in phase[kind].values() for n, _ in of.values()) <= phase["documents"]
    survivors = sum(n for of in mixture["survivors"]["lengths"].values() for n, _ in of.values())
    unused = sum(c["documents"] for c in mixture["unused"])
    used = sum(n for p in mixture["phases"] for of in p["lengths"].values() for n, _ in of.values())
    assert survivors == unused + used


def test_examples_are_of_every_reason_that_dropped_much(run: Path) -> None:
    facts = read_facts(run)
    assert {"kept", "near_duplicate", "exact_duplicate", "licence"} <= set(facts.examples)
    assert all(e["text"] for e in facts.examples["kept"])
    assert all("stays" in e and e["stays_text"] for e in facts.examples["near_duplicate"])
    assert not any(e["text"] for e in facts.examples["licence"])


def test_hostile_text_is_text(run: Path) -> None:
    facts = read_facts(run)
    for examples in facts.examples.values():
        for e in examples:
            e |= {"text": HOSTILE, "name": HOSTILE, "subset": HOSTILE, "value": HOSTILE}
    facts.name = facts.recipe = HOSTILE
    facts.phases[0]["pools"][0]["pool"] = HOSTILE
    facts.phases[0]["cells"][0]["domain"] = HOSTILE
    facts.languages[0] = (HOSTILE, facts.languages[0][1])
    page = Page(render([facts]))
    assert not page.open and page.tags.count("script") == 1 and "img" not in page.tags
    assert any("window.hacked = 1" in t and "{{ 7 * 7 }}" in t for t in page.text)


def test_two_runs_side_by_side(run: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run / "stats", other / "stats")
    recipe = (run / "recipe.yaml").read_text()
    (other / "recipe.yaml").write_text(recipe.replace("jaccard: 0.8", "jaccard: 0.7"))
    runs = [read_facts(run), read_facts(other)]
    found = differences(runs)
    assert found.settings == [("dedupe.jaccard", "0.8", "0.7")]
    near, held_out = found.warnings
    assert "0.8 in" in near and "0.7 in" in near and "held-out" in held_out and "Losses" in held_out
    assert all(a == b for _, a, b in found.figures)
    result = CliRunner().invoke(app, ["report", str(other), str(run)])
    assert result.exit_code == 0, result.output
    assert not (other / "report.html").exists()
    page = Page((other / f"report-{run.name}.html").read_text())
    assert not page.open and "dedupe.jaccard" in "".join(page.text)
    assert "Losses on held-out documents cannot be compared" in "".join(page.text)


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
    shutil.copytree(run / "stats", tmp_path / "stats")
    recipe = (run / "recipe.yaml").read_text()
    (tmp_path / "recipe.yaml").write_text(recipe.replace("jaccard: 0.8", written))
    assert len(differences([read_facts(run), read_facts(tmp_path)]).warnings) == warnings


def test_a_run_that_is_not_finished(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    result = CliRunner().invoke(app, ["report", str(tmp_path / "run")])
    assert isinstance(result.exception, ValueError) and "is this a finished run?" in str(result.exception)


@pytest.mark.parametrize("what", ["Pools", "Languages", "Tokens per byte", "Lengths", "Quality", "Funnel to trained"])
def test_stats_show_the_ledger(run: Path, what: str) -> None:
    result = CliRunner().invoke(app, ["stats", str(run)])
    assert result.exit_code == 0 and what in result.output


def test_the_two_funnels_agree(run: Path) -> None:
    """The one by corpus and the one to trained tokens, and what the report says: held-out documents are among the kept."""
    facts = read_facts(run)
    shown = CliRunner().invoke(app, ["stats", str(run)]).output.splitlines()
    corpora = next(line for line in shown if line.startswith("all ")).split()
    funnel = next(line for line in shown if line.startswith("  kept ")).split()
    assert corpora[-2:] == funnel[-2:] == [f"{facts.kept:,}", f"{facts.survivor_tokens:,}"]
    node = re.search(r">kept <tspan class='count'>([\d,]+)<", render([facts]))
    assert node and node[1] == f"{facts.kept:,}"


def test_damaged_files_and_times_that_were_not_understood_are_named(run: Path, tmp_path: Path) -> None:
    shutil.copytree(run, tmp_path / "run")
    path = tmp_path / "run" / "stats" / "funnel.json"
    funnel = json.loads(path.read_text())
    corpus = funnel["corpora"][0]
    damaged = [f"{corpus['corpus']}/{i}.gz: the file is empty <b>" for i in range(30)]
    corpus |= {"damaged_files": damaged, "lost_bytes": 25, "stored_bytes": 200, "times_not_understood": 3}
    path.write_text(json.dumps(funnel))
    text = render([read_facts(tmp_path / "run")])
    page = "".join(Page(text).text)
    said = CliRunner().invoke(app, ["stats", str(tmp_path / "run")], env={"COLUMNS": "200"}).output
    for output in (page, said):
        assert "30 damaged files that lost 12.5 % of the corpus" in output and damaged[0] in output
        assert "3 documents with a time that was not understood" in output
    assert damaged[19] in said and damaged[20] not in said and "and 10 more, listed in stats/funnel.json" in said
