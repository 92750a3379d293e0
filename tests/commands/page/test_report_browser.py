"""A report in a real browser: at the widths of a desk and a phone, light and dark, by keyboard, without its script, on paper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fox1.commands.page.report import write_report

TABS = 8


@pytest.fixture(scope="module")
def report(run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("report") / "report.html"
    write_report([run], out)
    return out


@pytest.fixture(scope="module")
def compared(run: Path, hostile_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of the hostile run, whose texts and names would run if they could, and another one."""
    out = tmp_path_factory.mktemp("report") / "both.html"
    write_report([hostile_run, run], out)
    return out


@contextmanager
def opened(browser: Any, file: Path, width: int = 1400, scheme: str = "light", script: bool = True) -> Iterator[Any]:
    """The page; asserts that it asked for nothing, ran nothing of a document and reported no error."""
    wrong: list[str] = []
    context = browser.new_context(
        viewport={"width": width, "height": 900},
        color_scheme=scheme,
        reduced_motion="reduce",
        java_script_enabled=script,
    )
    page = context.new_page()
    page.set_default_timeout(30_000)
    page.on("console", lambda m: m.type in ("error", "warning") and wrong.append(f"{m.type}: {m.text}"))
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: request.url.split("#")[0] != file.as_uri() and wrong.append(request.url))
    page.goto(file.as_uri())
    yield page
    assert not script or page.evaluate(
        "() => window.hacked === undefined && !document.querySelector('main script, main img')"
    )
    context.close()
    assert not wrong, wrong


def shown(page: Any) -> list[str]:
    """The tabs that are seen."""
    found: list[str] = page.evaluate(
        "() => [...document.querySelectorAll('.tab')].filter((t) => t.getClientRects().length).map((t) => t.id)"
    )
    return found


def until(page: Any, tab: str) -> None:
    """Wait for a tab: an address takes effect a moment after it was chosen."""
    page.wait_for_selector(f"#{tab}.shown")
    assert shown(page) == [tab]


@pytest.mark.parametrize(("width", "scheme"), [(390, "dark"), (390, "light"), (1400, "light"), (1400, "dark")])
@pytest.mark.parametrize("which", ["report", "compared"])
def test_no_tab_is_wider_than_the_window(
    browser: Any, which: str, width: int, scheme: str, request: pytest.FixtureRequest
) -> None:
    with opened(browser, request.getfixturevalue(which), width, scheme) as page:
        page.evaluate("() => document.querySelectorAll('details').forEach((d) => { d.open = true; })")
        links = page.locator("#tabs a")
        assert links.count() == TABS + (which == "compared")
        for k in range(links.count()):
            links.nth(k).click()
            until(page, links.nth(k).get_attribute("href")[1:])
            over = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
            assert over <= 0, (shown(page), over)
            if width == 390:
                # Nor is a table, which would have to be moved sideways within the page.
                wide = page.evaluate(
                    "() => [...document.querySelectorAll('.tab.shown *')].filter((e) => e.getClientRects().length && "
                    "e.getBoundingClientRect().right > innerWidth + 1 && !e.closest('svg')).map((e) => e.outerHTML.slice(0, 120))"
                )
                assert not wide, (shown(page), wide[:3])


def test_tabs_and_search_are_used_by_keyboard(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        assert shown(page) == ["overview"]
        page.keyboard.press("3")
        until(page, "rules")
        assert page.locator("#tabs a[aria-current]").inner_text().startswith("Rules")
        page.keyboard.press("/")
        page.keyboard.type("min words")
        assert "found" in page.locator("#found-number").inner_text()
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        page.wait_for_selector("details.reason[open]")
        rule = page.locator("details.reason[open]")
        assert rule.count() == 1 and "min words" in rule.locator("summary").inner_text()
        page.keyboard.press("/")
        page.locator("#find-value").fill("github")
        page.keyboard.press("Enter")
        until(page, "groups")
        assert "github" in page.evaluate("document.activeElement.textContent").lower()
        page.keyboard.press("/")
        page.locator("#find-value").fill("nothing of this name")
        assert page.locator("#found-number").inner_text() == "nothing found" and not page.locator("#found").is_visible()
        page.locator("#find-value").fill("")
        page.keyboard.press("Escape")
        # The Tab key leads from the head to the first thing in the tab, and to the rows of the rules.
        page.locator("#tabs a").nth(2).focus()
        page.keyboard.press("Enter")
        until(page, "rules")
        for _ in range(40):
            page.keyboard.press("Tab")
            if page.evaluate("() => document.activeElement.matches('.reason > summary')"):
                break
        else:
            raise AssertionError("the Tab key does not lead to a rule")
        unnamed = page.evaluate(
            "() => [...document.querySelectorAll('button, input, a, summary')].filter((e) => "
            "!(e.textContent.trim() || e.ariaLabel || e.title || e.labels?.length)).map((e) => e.outerHTML)"
        )
        assert not unnamed


def test_a_table_sorts_by_a_column(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        page.locator("#tabs a").nth(3).click()
        until(page, "groups")
        table = page.locator("#groups table.sortable").nth(3)
        head = table.locator("thead button", has_text="documents")
        column = "(t) => [...t.tBodies[0].rows].map((r) => Number(r.cells[2].textContent.replaceAll(',', '')))"
        head.click()
        falling = table.evaluate(column)
        assert falling == sorted(falling, reverse=True) and table.locator("[aria-sort=descending]").count() == 1
        head.click()
        assert table.evaluate(column) == sorted(falling)


def test_a_link_of_the_overview_leads_to_what_more_is_said(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        page.locator("#overview a.row").first.click()
        until(page, "groups")
        page.go_back()
        until(page, "overview")


def test_without_its_script_all_tabs_stand_one_after_another(browser: Any, report: Path) -> None:
    with opened(browser, report, 390, script=False) as page:
        assert page.locator(".tab:visible").count() == TABS and page.locator(".tab-title:visible").count() == TABS
        assert not page.locator("#find").is_visible() and not page.locator("#theme").is_visible()
        page.locator(".reason > summary").first.click()
        assert page.locator(".reason[open] .inside").first.is_visible()


def test_on_paper_all_is_there(browser: Any, report: Path) -> None:
    with opened(browser, report) as page:
        page.emulate_media(media="print")
        assert len(shown(page)) == TABS and not page.locator("#tabs").is_visible()
        assert page.locator(".reason .inside").first.is_visible()


def test_the_theme_can_be_chosen(browser: Any, report: Path) -> None:
    with opened(browser, report, scheme="dark") as page:
        ground = "() => getComputedStyle(document.body).backgroundColor"
        dark = page.evaluate(ground)
        page.locator("#theme").click()
        light = page.evaluate(ground)
        assert sum(map(int, light[4:-1].split(","))) > sum(map(int, dark[4:-1].split(","))) + 300
