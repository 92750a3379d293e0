"""Steps before the scan: what each kind of step leaves of documents, what it dropped, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from datatrove.data import Document
from fox1.pipeline.engine.keys import identity_of
from fox1.pipeline.extract import steps as steps_module
from fox1.pipeline.extract.calls import NO_TEXT
from fox1.pipeline.extract.settings import StepSettings, with_version
from fox1.pipeline.extract.steps import Steps, Treated, load_steps

OURS = Path(__file__).with_name("made_steps.py")


def step(name: str, target: str = "", sources: tuple[str, ...] = (), **arguments: Any) -> StepSettings:
    """A step of this folder by its class, or of an installed package by its dotted path."""
    return StepSettings(name, target if "." in target else f"{OURS}:{target}", json.dumps(arguments), sources)


def documents(*texts: str) -> list[Treated]:
    return [
        Treated(n, Document(text, f"id {n}", metadata={"url": f"https://e.org/{n}"})) for n, text in enumerate(texts)
    ]


def treat(texts: Sequence[str], *settings: StepSettings) -> tuple[list[Treated], dict[str, Any]]:
    """Documents after the steps, and what was counted."""
    made, given = Steps(settings, "web/a.jsonl"), documents(*texts)
    made.treat(given)
    return given, made.counts


def test_an_extractor_makes_the_text_and_drops_what_has_none() -> None:
    given, counts = treat(["<p>One <b>page</b></p>", "<nav>Home</nav>", "plain"], step("bare", "Bare"))
    assert [(d.document.text, d.dropped_by, d.why) for d in given] == [
        ("One page", "", ""),
        ("<nav>Home</nav>", "bare", NO_TEXT),
        ("plain", "", ""),
    ]
    counted = counts["bare"]
    assert (counted.given, counted.changed, counted.failed, counted.dropped) == (3, 1, 0, {NO_TEXT: 1})
    assert treat(["<nav>Home</nav>"], step("bare", "Bare", keep_navigation=True))[0][0].document.text == "Home"


def test_a_filter_gives_its_reason_and_its_changes_to_what_it_keeps_alone() -> None:
    given, counts = treat(
        ["a advertised text", "b advertised advertised text", "c text"],
        step("fewer", "Fewer"),
        step("louder", "Louder"),
    )
    assert [(d.document.text, d.dropped_by, d.why) for d in given] == [
        ("A TEXT", "", ""),
        # As the step was given it.
        ("b advertised advertised text", "fewer", "2 times"),
        ("C TEXT", "", ""),
    ]
    assert counts["fewer"].given == 3 and counts["louder"].given == 2
    assert counts["fewer"].dropped == {"2 times": 1} and counts["fewer"].changed == 1


def test_any_step_may_hand_on_copies_in_any_order() -> None:
    given, _ = treat(["one", "odd two", "three"], step("copied", "Copied"))
    assert [(d.document.text, d.dropped_by, d.why) for d in given] == [
        ("copy of one", "", ""),
        ("odd two", "copied", "is odd"),
        ("copy of three", "", ""),
    ]
    assert given[0].document.metadata == {"of": "a copy"}


def test_a_document_on_which_a_step_fails_takes_no_other_with_it() -> None:
    given, counts = treat(["one", "hush", "three"], step("louder", "Louder"), step("fewer", "Fewer"))
    assert [d.failed for d in given] == ["", "before_scan.louder failed: RuntimeError: hush", ""]
    assert [d.document.text for d in given] == ["ONE", "hush", "THREE"]
    assert counts["louder"].failed == 1 and counts["fewer"].given == 2
    (given, _) = treat(["a", "b", "c", "d"], step("wrong", "Wrong"))
    assert [d.failed for d in given] == [
        "before_scan.wrong left a NoneType, not a text",
        "before_scan.wrong left a text with a NUL character",
        "before_scan.wrong left a text with half a surrogate pair",
        "",
    ]


def test_a_step_that_fails_on_every_document_stops_the_task() -> None:
    few = ["hush"] * (steps_module.FAILS_ON_ALL - 1)
    assert all(d.failed for d in treat(few, step("louder", "Louder"))[0])
    with pytest.raises(
        ValueError,
        match=r"before_scan\.louder failed on each of the first 64 documents of web/a\.jsonl: .*RuntimeError: hush",
    ):
        treat([*few, "hush"], step("louder", "Louder"))
    assert not treat(["fine", *few, "hush"], step("louder", "Louder"))[0][0].failed
    # That of a disk or a network is no document's fault, and the task is tried again.
    with pytest.raises(OSError, match=r"before_scan\.unread failed on web/a\.jsonl"):
        treat(["one"], step("unread", "Unread"))


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("Twice", "handed on more than one document for row 0"),
        ("Others", "handed on a document that it was not given for row 0"),
    ],
)
def test_a_row_stays_one_document(target: str, says: str) -> None:
    with pytest.raises(ValueError, match=rf"before_scan\.x {says} of web/a\.jsonl: a row is one document"):
        treat(["one", "two"], step("x", target))


def test_a_row_without_text_is_given_to_no_step() -> None:
    given, counts = treat(["", "one"], step("numbered", "Numbered"), step("louder", "Louder"))
    assert [(d.document.text, d.dropped_by, d.why) for d in given] == [("", "numbered", NO_TEXT), ("1. ONE", "", "")]
    assert counts["numbered"].given == 2 and counts["louder"].given == 1


def test_every_file_has_steps_of_its_own_that_remember_from_batch_to_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steps_module, "BATCH", 2)
    for _ in range(2):
        given, _ = treat(["a", "b", "c"], step("numbered", "Numbered"))
        assert [d.document.text for d in given] == ["1. a", "2. b", "3. c"]


def test_filters_of_datatrove_that_remember_nothing_are_made_once() -> None:
    regex = step("regex", "datatrove.pipeline.filters.RegexFilter", regex_exp="advertised")
    made = [load_steps([regex])[0] for _ in range(2)]
    assert made[0]._judge.args[0] is made[1]._judge.args[0]  # type: ignore[attr-defined]
    given, _ = treat(["advertised", "a text"], regex)
    assert [d.dropped_by for d in given] == ["regex", ""]
    drawn = step("drawn", "datatrove.pipeline.filters.SamplerFilter", rate=0.5, seed=3)
    assert [d.dropped_by for d in treat("abcdefgh", drawn)[0]] == [d.dropped_by for d in treat("abcdefgh", drawn)[0]]


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (step("x", "NoSuch"), "cannot import .*NoSuch"),
        (step("x", "function"), r"it is no class of a datatrove step; a function `\(text, row\)` belongs in `plugins`"),
        (step("x", "Fewer", mots=2), "it has no argument `mots`; did you mean `most`?"),
        (step("x", "Louder", volume=2), "it has no argument `volume`; it takes none"),
        (step("x", "Fewer", exclusion_writer="x"), "leave out the argument `exclusion_writer`: `fox1 dump --reason`"),
        (step("x", "datatrove.pipeline.filters.SamplerFilter"), "give it a `seed`"),
        (
            step("x", "datatrove.pipeline.filters.GopherQualityFilter", min_words=3),
            "no argument `min_words`; did you mean",
        ),
        (step("x", "fox1.datatrove.pipeline.filters.URLFilter", soft_word=3), "no argument `soft_word`; did you mean"),
        (
            step("x", "fox1.datatrove.pipeline.filters.GopherQualityFilter", batch_size=3),
            "leave out the argument `batch_size`",
        ),
        (step("x", "datatrove.pipeline.readers.JsonlReader"), "it reads files"),
        (step("x", "datatrove.pipeline.writers.JsonlWriter"), "it writes files of its own; `fox1 dump`"),
        (step("x", "datatrove.pipeline.tokens.DocumentTokenizer"), "it makes tokens"),
        (step("x", "datatrove.pipeline.dedup.MinhashDedupSignature"), "it compares all documents"),
    ],
)
def test_what_cannot_be_a_step_is_refused_by_name(settings: StepSettings, says: str) -> None:
    with pytest.raises(ValueError, match=rf"before_scan\.x: .* cannot be used \(.*{says}.*\); correct"):
        load_steps([settings])


def test_a_key_follows_the_code_and_the_arguments_of_a_step(tmp_path: Path) -> None:
    code = tmp_path / OURS.name
    code.write_text(OURS.read_text())
    here = [with_version(StepSettings("bare", f"{path}:Bare")) for path in (OURS, code)]
    assert identity_of(here[0]) == identity_of(here[1])
    code.write_text(OURS.read_text() + "\n")
    assert identity_of(with_version(StepSettings("bare", f"{code}:Bare"))) != identity_of(here[0])
    other = with_version(StepSettings("bare", f"{OURS}:Bare", '{"keep_navigation": true}'))
    assert identity_of(other) != identity_of(here[0])
    with pytest.raises(ValueError, match=r"before_scan\.bare: cannot import datatrove\.pipeline\.nothing\.Bare"):
        with_version(StepSettings("bare", "datatrove.pipeline.nothing.Bare"))


def test_mojibake_is_mended_by_the_formatter_for_it() -> None:
    pytest.importorskip("ftfy")
    ftfy = step("ftfy", "datatrove.pipeline.formatters.FTFYFormatter")
    given, counts = treat(["The Mona Lisa doesnÃƒÂ¢Ã¢â€šÂ¬Ã¢â€žÂ¢t have eyebrows.", "plain"], ftfy)
    assert [d.document.text for d in given] == ["The Mona Lisa doesn’t have eyebrows.", "plain"]
    assert counts["ftfy"].changed == 1


def test_a_page_s_text_depends_on_no_other_page() -> None:
    pytest.importorskip("trafilatura")
    shared = (
        "On every page of this site the same long paragraph tells the readers who has written the pages and why so. "
        * 2
    )
    story = "<p>The story of {0} is told here at some length for all readers.</p>"
    page = f"<html><body><article><h1>{{0}}</h1><p>{{1}}</p>{story}</article></body></html>"
    pages = [page.format(name, shared) for name in ("ferries", "rivers", "harbours", "lanterns", "bridges", "markets")]
    pages.append(pages[0].replace("</article>", f"<p>{shared}</p>" * 4 + "</article>"))
    trafilatura = step("trafilatura", "datatrove.pipeline.extractors.Trafilatura")
    alone = [treat([p], trafilatura)[0][0].document.text for p in pages]
    assert [d.document.text for d in treat(pages, trafilatura)[0]] == alone
    assert all(text.count("On every page") == 2 for text in alone[:-1])
    # What the page itself repeats is cut as in the script.
    assert alone[-1].count("On every page") < 10
    for arguments in ({"timeout": 3}, {"favor_precision": True, "no_such_option": 1}):
        with pytest.raises(ValueError, match=r"leave out the argument `timeout`|has no argument `no_such_option`"):
            load_steps([step("x", "datatrove.pipeline.extractors.Trafilatura", **arguments)])
