"""The page in a real browser: every view by keyboard alone, on the shared run and on texts and names that are hostile.

Skipped where there is no Chromium (Debian: `apt-get install chromium`) or no Playwright (of the extra `dev`).
"""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import urlsplit

import pytest
from fox1.commands.page import formats
from fox1.commands.page.server import STATIC

from .conftest import FILE, SUBSET, Client

VIEWS = ("overview", "explore", "what-if", "document", "blocks")
WAIT = 30_000


class Watched:
    """A page of the browser that notes what must not happen."""

    def __init__(self, browser: Any, client: Client, width: int = 1400, scheme: str = "light") -> None:
        self.client, self.wrong = client, list[str]()
        viewport = {"width": width, "height": 900}
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme, reduced_motion="reduce")
        self.page = self.context.new_page()
        self.page.set_default_timeout(WAIT)
        self.page.on(
            "console",
            lambda m: m.type in ("error", "warning") and self.wrong.append(f"{m.type}: {m.text} {m.location}"),
        )
        self.page.on("pageerror", lambda error: self.wrong.append(f"error: {error}"))
        self.page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        self.page.on("request", self._request)

    def _request(self, request: Any) -> None:
        if urlsplit(request.url).netloc != f"127.0.0.1:{self.client.server.port}":
            self.wrong.append(f"request: {request.url}")

    def open(self) -> None:
        self.page.goto(self.client.server.address)
        self.ready("overview")

    def ready(self, view: str) -> None:
        self.page.wait_for_selector(f".view.{view}[data-ready]:not([data-busy])")

    def go(self, view: str) -> None:
        """By its key, from the keyboard."""
        number = self.page.locator(f"#tabs [data-view={view}]").get_attribute("aria-keyshortcuts")
        self.page.keyboard.press(number)
        self.ready(view)

    def focus(self, selector: str, most: int = 400) -> Any:
        """Reach an element with the Tab key alone."""
        for _ in range(most):
            self.page.keyboard.press("Tab")
            if self.page.evaluate("s => document.activeElement.matches(s)", selector):
                return self.page.locator(":focus")
        raise AssertionError(f"the Tab key does not lead to {selector}")

    def close(self) -> None:
        """Assert that nothing happened that must not."""
        hacked = self.page.evaluate(
            "() => window.hacked === undefined && !document.querySelector('main script, main img, main svg[onload]')"
        )
        self.context.close()
        assert hacked and not self.wrong, self.wrong


@pytest.mark.parametrize("which", ["page", "hostile_page"])
def test_every_view_is_reached_and_used_by_keyboard(browser: Any, which: str, request: pytest.FixtureRequest) -> None:
    client: Client = request.getfixturevalue(which)
    seen = Watched(browser, client)
    page = seen.page
    seen.open()
    assert page.locator(".findings li").count() and page.locator(".overview .row").count() >= 8
    seen.focus("#tabs a[data-view=explore]")
    page.keyboard.press("Enter")
    seen.ready("explore")

    # A range by arrow keys: all histograms and the table follow.
    documents = page.locator(".status strong").inner_text()
    seen.focus("input[aria-label='words, from']")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    page.wait_for_function("was => document.querySelector('.status strong').textContent !== was", arg=documents)
    seen.ready("explore")
    fewer = page.locator(".status strong").inner_text()
    page.keyboard.press("Escape")
    page.wait_for_function("was => document.querySelector('.status strong').textContent === was", arg=documents)
    assert int(fewer.replace(",", "")) < int(documents.replace(",", ""))

    page.keyboard.press("Home")
    page.locator("#where").focus()
    page.keyboard.type("not kept and words > 30")
    page.keyboard.press("Enter")
    page.wait_for_function("was => document.querySelector('.status strong').textContent !== was", arg=documents)
    seen.ready("explore")
    page.locator(".documents a").first.focus()
    page.keyboard.press("Enter")
    seen.ready("document")
    assert page.locator(".document .head h2").inner_text().strip() and page.locator("pre.text").count()
    seen.focus("main summary")
    page.keyboard.press("Enter")
    page.locator(".source-row summary").focus()
    page.keyboard.press("Enter")
    page.wait_for_selector(".source-row .note:has-text('bytes')")

    seen.go("explore")
    page.locator(".sql summary").first.focus()
    page.keyboard.press("Enter")
    page.locator("#sql").focus()
    page.keyboard.press("Control+Enter")
    page.wait_for_selector(".sql table")
    page.locator(".sql summary").first.focus()

    seen.go("what-if")
    slider = page.locator(".slider", has_text="min words").nth(1).locator("input")
    slider.focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector(".result .tiles")
    assert "--set filters." in page.locator(".command").inner_text()

    # The weights of the phases, planned again.
    page.locator(".choice button", has_text="What the phases read").focus()
    page.keyboard.press("Enter")
    seen.ready("what-if")
    page.locator(".slider", has_text="code").first.locator("input").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector(".result .shares, .result .warning")
    assert "--set phases." in page.locator(".command").inner_text()

    seen.go("blocks")
    before = page.locator(".blocks h2").first.inner_text()
    page.locator(".toolbar button", has_text="Next").focus()
    page.keyboard.press("Enter")
    page.wait_for_function("was => document.querySelector('.blocks h2')?.textContent !== was", arg=before)
    seen.ready("blocks")
    assert page.locator(".t").count() > 100

    if which == "hostile_page":
        seen.go("compare")
        page.locator("button.cell").first.focus()
        page.keyboard.press("Enter")
        page.wait_for_selector(".list a")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "find-value"
    page.keyboard.type("nothing of this name")
    page.keyboard.press("Enter")
    page.wait_for_selector("#toast.shown")
    # The answer to a search for nothing is an error of the server, which the browser notes as such.
    seen.wrong = [line for line in seen.wrong if "status of 400" not in line]
    seen.close()


def test_hostile_documents_are_shown_as_their_text(browser: Any, hostile_page: Client) -> None:
    hostile_page.get("/api/counts", {"selection": {}, "columns": ["subset"]})
    code = hostile_page.get("/api/facets")["categories"]["subset"].index(f"dolma/{SUBSET}")
    selection = {"filters": [{"column": "subset", "values": [code]}]}
    rows = hostile_page.get("/api/rows", {"selection": selection, "number": 100})["table"]["rows"]
    seen = Watched(browser, hostile_page)
    seen.open()
    kinds = {}
    for row in rows:
        kinds.setdefault(row[7], row)
    assert len(kinds) > 1
    for row in [*kinds.values(), *rows[:4]]:
        seen.page.evaluate("id => { location.hash = `#/document/${id}`; }", row[1])
        seen.page.wait_for_function(
            "name => document.querySelector('.document .head h2')?.textContent.includes(name)", arg=row[0]
        )
        assert FILE in seen.page.locator(".document .head h2").inner_text()
        seen.page.hover(".document .head h2")
    # The same names as bars and in the table.
    seen.go("explore")
    bar = seen.page.locator(".category .bar", has_text="<b onmouseover=window.hacked=1>")
    if bar.count():
        bar.first.hover()
        bar.first.click()
        seen.ready("explore")
    seen.close()


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (1400, "light")])
def test_no_view_is_wider_than_the_window(browser: Any, hostile_page: Client, width: int, scheme: str) -> None:
    seen = Watched(browser, hostile_page, width, scheme)
    seen.open()
    for view in (*VIEWS, "compare"):
        seen.go(view)
        if view == "document":
            row = hostile_page.get("/api/rows", {"selection": {"where": "kind = 'near'"}, "number": 1})["table"][
                "rows"
            ][0]
            seen.page.evaluate("id => { location.hash = `#/document/${id}`; }", row[1])
            seen.page.wait_for_selector(".beside .texts")
        over = seen.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert over <= 0, (view, over)
        unnamed = seen.page.evaluate(
            "() => [...document.querySelectorAll('button, input, select, textarea, a')].filter((e) => e.offsetParent && !"
            "(e.textContent.trim() || e.ariaLabel || e.title || e.labels?.length)).map((e) => e.outerHTML)"
        )
        assert not unnamed, (view, unnamed)
    seen.close()


def test_a_browser_without_the_token_sees_nothing(browser: Any, page: Client) -> None:
    context = browser.new_context()
    fresh = context.new_page()
    answer = fresh.goto(f"http://127.0.0.1:{page.server.port}/")
    assert answer.status == 403 and "fox1 inspect" in fresh.content() and "<script" not in fresh.content()
    context.close()


def test_both_pages_write_numbers_alike(browser: Any, page: Client) -> None:
    """What the browser computes is written as what the server writes."""
    values = [0, 1, 7, 999, 1000, 1234, 9_995, 12_345, 999_499, 123_456_789, 4_560_000_000]
    values += [0.5, 0.12345, 1.5, 12.345, 99.999, 1234.6]
    shares = [(part, whole) for part in (0, 1, 3, 999, 1000) for whole in (0, 1000, 2999, 10_000_000)]
    seen = Watched(browser, page)
    seen.open()
    found = seen.page.evaluate(
        """async ([values, shares]) => {
          const d = await import('/dom.js');
          return {
            number: values.map(d.number), short: values.map(d.short),
            percent: shares.map(([a, b]) => d.percent(a, b)), words: ['exact_duplicate'].map(d.words),
          };
        }""",
        [values, shares],
    )
    assert found["number"] == [formats.number(v) for v in values]
    assert found["short"] == [formats.short(v) for v in values]
    assert found["percent"] == [formats.percent(a, b) for a, b in shares]
    assert found["words"] == [formats.words("exact_duplicate")]
    seen.close()


def luminance(colour: str) -> float:
    parts = (int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5))
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_text_stands_out_from_what_it_is_on() -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1."""
    css = (STATIC / "base.css").read_text()
    both = re.findall(r"--([\w]+): light-dark\((#[0-9a-f]{6}), (#[0-9a-f]{6})\)", css)
    for colours in ({name: light for name, light, _ in both}, {name: dark for name, _, dark in both}):
        marks = [f"m{k}" for k in range(6)]
        pairs = [(a, b) for a in ("ink", "soft", "accent") for b in ("card", "paper")]
        for text, ground in [*pairs, *(("ink", ground) for ground in [*marks, "cut", "put", "tint", "ghost"])]:
            light, dark = sorted((luminance(colours[text]), luminance(colours[ground])), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground, colours[text], colours[ground])
