"""The portal in a real browser: links, the Back button, the night in the address, both colour schemes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Cookie, Page, expect

from app.auditing import record
from pipeline import control
from pipeline.governance import identity, users
from pipeline.governance.access import Actor
from tests import published_home
from tests.conftest import copy_home
from tests.e2e.conftest import expect_heading, signed_in, window
from tests.e2e.served import DONE, WAIT, served, sign_in
from tests.published_home import FIRST_ID

PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A served portal over a home with a history."""
    home = copy_home(published_home.shared(tmp_path_factory), tmp_path_factory.mktemp("served") / "home")
    with served(home) as address:
        yield address


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A served portal over a home with two users, ben and cleo."""
    home = tmp_path_factory.mktemp("guarded") / "home"
    engine = control.create(published_home.build(home, nights=3))
    now = datetime.now(UTC)
    root = Actor("root", frozenset({"admin"}), "home", now)
    for name, role in (("ben", "analyst"), ("cleo", "viewer")):
        users.add(engine, root, name, [role], identity.hash_password(name, PASSWORD), now, record)
    engine.dispose()
    with served(home) as address:
        yield address


def test_a_score_is_two_clicks_from_tonight_and_back_returns(page: Page, address: str) -> None:
    page.goto(address)
    expect_heading(page, re.compile("14 Mar 2026"))
    page.get_by_role("link", name="Scores", exact=True).click()
    expect_heading(page, "Scores of 14 Mar 2026")
    link = page.locator("[class*=st-key-openers] a").first
    subject = link.inner_text()
    link.click()
    expect_heading(page, f"Account {subject}")
    expect(page).to_have_url(f"{address}/scores?account={subject}")
    page.go_back()
    expect_heading(page, "Scores of 14 Mar 2026")
    expect(page).to_have_url(f"{address}/scores")
    page.go_forward()
    expect_heading(page, f"Account {subject}")
    for _ in range(3):  # what is wrong about it is a race
        page.get_by_role("link", name="the run", exact=True).click()
        expect_heading(page, re.compile("^Run "))
        page.go_back()
        expect_heading(page, f"Account {subject}")
        expect(page).to_have_url(f"{address}/scores?account={subject}")


def test_the_night_goes_along_in_the_address(page: Page, address: str) -> None:
    page.goto(address)
    page.locator("[class*=st-key-nights] a:visible", has_text="‹").click()
    expect_heading(page, re.compile("13 Mar 2026"))
    expect(page).to_have_url(f"{address}/?as_of=2026-03-13")
    page.get_by_role("link", name="Scores", exact=True).click()
    expect(page).to_have_url(f"{address}/scores?as_of=2026-03-13")
    expect_heading(page, "Scores of 13 Mar 2026")
    page.go_back()
    expect_heading(page, re.compile("13 Mar 2026"))
    page.go_back()
    expect_heading(page, re.compile("14 Mar 2026"))


def test_a_filter_is_one_step_in_the_history(page: Page, address: str) -> None:
    page.goto(f"{address}/scores")
    page.get_by_role("button", name="Applications").or_(page.get_by_role("radio", name="Applications")).click()
    expect(page.get_by_label("Applications", exact=True).locator("tbody tr").first).to_be_visible()
    expect(page).to_have_url(f"{address}/scores?of=application")
    page.go_back()
    expect(page.get_by_label("Accounts", exact=True).locator("tbody tr").first).to_be_visible()


def test_the_way_back_to_a_list_is_to_the_list_as_it_was(page: Page, address: str) -> None:
    page.goto(f"{address}/scores?as_of=2026-03-13&by=id&page=2")
    page.locator("[class*=st-key-openers] a").first.click()
    expect_heading(page, re.compile("Account"))
    page.get_by_role("link", name="‹ the scores as listed").click()
    expect_heading(page, "Scores of 13 Mar 2026")
    expect(page).to_have_url(f"{address}/scores?by=id&page=2&as_of=2026-03-13")
    page.goto(f"{address}/scores?account={FIRST_ID}")
    page.get_by_role("link", name="‹ all scores").click()
    expect(page).to_have_url(f"{address}/scores")


@pytest.mark.parametrize(
    ("figure", "heading"),
    [("Accounts scored: the scores", "Scores of 14 Mar 2026"), ("Gates passed: every gate", re.compile("Run "))],
)
def test_a_figure_opens_what_it_was_counted_from(
    page: Page, address: str, figure: str, heading: str | re.Pattern[str]
) -> None:
    page.goto(address)
    expect_heading(page, re.compile("14 Mar 2026"))
    link = page.get_by_role("link", name=figure)
    box = link.locator("xpath=ancestor::*[contains(@class, 'st-key-fact-')][1]").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)  # where the figure stands
    expect_heading(page, heading)


_ON_ONE_LINE = """([over, under]) => {
    const middle = box => box.y + box.height / 2
    return Math.abs(middle(over.getBoundingClientRect()) - middle(under.getBoundingClientRect())) < 4
}"""


def test_a_link_lies_on_the_row_that_it_opens(page: Page, address: str) -> None:
    page.goto(f"{address}/scores?by=id")
    expect(page.locator("[class*=st-key-openers] a")).to_have_count(50)
    for row in (0, 24, 49):
        link = page.locator("[class*=st-key-openers] a").nth(row)
        cell = page.locator("[class*=st-key-linked] tbody th").nth(row)
        expect(link).to_have_text(str(FIRST_ID + row))
        expect(cell).to_have_text(str(FIRST_ID + row))
        # Both in one look, again until it holds: between two looks the page may still be settling.
        page.wait_for_function(_ON_ONE_LINE, arg=[link.element_handle(), cell.element_handle()], timeout=WAIT)


_LIES_ON = """([link, head]) => {
    const [over, under] = [link, head].map(element => element.getBoundingClientRect())
    return ['x', 'y', 'width', 'height'].every(side => Math.abs(over[side] - under[side]) < 1)
}"""


def test_a_head_orders_the_table_by_a_link_that_lies_on_it(page: Page, address: str) -> None:
    page.goto(f"{address}/scores?page=2")
    for name, turned in (("sort by change, descending", "ascending"), ("sort by change, ascending", "descending")):
        link = page.get_by_role("link", name=name)
        head = page.locator("[class*=st-key-linked] thead th", has_text="change")
        page.wait_for_function(_LIES_ON, arg=[link.element_handle(), head.element_handle()], timeout=WAIT)
        link.click()
        expect(page.get_by_role("link", name=f"sort by change, {turned}")).to_have_count(1)
    expect(page).to_have_url(f"{address}/scores?by=change")
    head = page.locator("[class*=st-key-linked] thead th", has_text="change")
    expect(head).to_have_attribute("aria-sort", "ascending")
    page.go_back()
    expect(page).to_have_url(f"{address}/scores?by=-change")
    expect(head).to_have_attribute("aria-sort", "descending")


def test_a_link_asks_for_a_sign_in_and_then_shows_what_it_names(page: Page, guarded: str) -> None:
    link = f"{guarded}/scores?account={FIRST_ID}"
    page.goto(link)
    expect_heading(page, "Sign in")
    expect(page.get_by_role("link", name="Scores", exact=True)).to_have_count(0)
    page.get_by_label("User name").fill("ben")
    page.get_by_label("Password", exact=True).fill("not the password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="the name or the password is wrong")).to_be_visible()
    page.locator(DONE).wait_for()
    expect(page.get_by_label("Password", exact=True)).to_have_count(1)
    expect(page.get_by_label("Password", exact=True)).to_have_value("")
    page.get_by_label("Password", exact=True).fill(PASSWORD)
    page.keyboard.press("Enter")
    expect_heading(page, f"Account {FIRST_ID}")
    expect(page).to_have_url(link)
    page.get_by_role("link", name="Tonight").click()
    expect_heading(page, re.compile("14 Mar 2026"))
    page.get_by_role("button", name="Sign out").click()
    expect_heading(page, "Sign in")
    expect(page.locator(".st table")).to_have_count(0)


def cookie_of(page: Page) -> Cookie:
    """The session's cookie, as soon as the browser has it."""
    deadline = time.monotonic() + WAIT / 1000
    while not (found := [c for c in page.context.cookies() if c["name"].startswith("scoretrace_session_")]):
        assert time.monotonic() < deadline, "no cookie came"
        page.wait_for_timeout(50)
    return found[0]


def test_a_session_holds_in_every_tab_until_the_sign_out(browser: Browser, guarded: str) -> None:
    link = f"{guarded}/scores?account={FIRST_ID}"
    first = signed_in(browser, "ben", PASSWORD, link)
    cookie = cookie_of(first)
    assert cookie["httpOnly"] and cookie["sameSite"] == "Strict" and cookie["expires"] == -1
    first.reload()
    expect_heading(first, f"Account {FIRST_ID}")
    second = first.context.new_page()
    second.goto(f"{guarded}/drift")
    expect(second.get_by_role("button", name="Sign out")).to_be_visible()
    second.locator(DONE).wait_for()
    second.get_by_role("button", name="Sign out").click()
    expect_heading(second, "Sign in")
    first.get_by_role("link", name="Runs").click()
    expect_heading(first, "Sign in")
    first.reload()
    expect_heading(first, "Sign in")
    first.context.close()


def test_a_browser_is_one_persons_at_a_time(browser: Browser, guarded: str) -> None:
    first = window(browser)
    first.goto(guarded)
    second = first.context.new_page()
    second.goto(guarded)
    for tab, name in ((first, "ben"), (second, "cleo")):
        sign_in(tab, name, PASSWORD)
        tab.wait_for_timeout(1000)  # the cookie follows the page
    first.get_by_role("link", name="Runs", exact=True).click()
    expect_heading(first, "Sign in")
    expect(first.get_by_text("it was ended in another tab")).to_be_visible()
    second.get_by_role("link", name="Runs", exact=True).click()
    expect_heading(second, re.compile("Runs"))
    second.get_by_role("button", name="Sign out").click()
    expect_heading(second, "Sign in")
    first.reload()
    expect_heading(first, "Sign in")
    first.context.close()


def test_a_file_is_for_who_is_signed_in(browser: Browser, guarded: str, tmp_path: Path) -> None:
    page = signed_in(browser, "ben", PASSWORD, f"{guarded}/runs")
    cookie_of(page)
    with page.expect_download() as taken:
        page.get_by_role("button", name="Download as CSV").click()
    taken.value.save_as(tmp_path / "runs.csv")
    assert "run_id" in (tmp_path / "runs.csv").read_text(encoding="utf-8")
    assert page.request.get(taken.value.url).headers["cache-control"] == "no-store"
    stranger = window(browser)
    assert stranger.request.get(taken.value.url).status == 403
    assert stranger.request.get(f"{guarded}/_stcore/metrics").status == 403
    assert stranger.request.get(guarded).headers["x-frame-options"] == "SAMEORIGIN"
    page.get_by_role("button", name="Sign out").click()
    expect_heading(page, "Sign in")
    assert page.request.get(taken.value.url).status == 403
    page.context.close()
    stranger.context.close()


def test_another_browser_or_a_made_up_cookie_gets_in_nowhere(browser: Browser, guarded: str) -> None:
    first = signed_in(browser, "ben", PASSWORD, guarded)
    cookie = cookie_of(first)
    for value in ("", "x" * 43, cookie["value"][:-1]):
        other = window(browser)
        other.context.add_cookies([{"name": cookie["name"], "value": value, "url": guarded}])
        other.goto(guarded)
        expect_heading(other, "Sign in")
        other.context.close()
    first.context.close()


def test_the_first_page_answers_to_its_name(page: Page, address: str) -> None:
    page.goto(f"{address}/tonight?as_of=2026-03-13")
    expect_heading(page, re.compile("13 Mar 2026"))
    expect(page).to_have_url(f"{address}/?as_of=2026-03-13")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_sign_in_is_readable_in_both_schemes(browser: Browser, guarded: str, scheme: str) -> None:
    context = browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(guarded)
    button = page.get_by_role("button", name="Sign in")
    button.wait_for(timeout=WAIT)
    page.locator(DONE).wait_for(timeout=WAIT)
    unread = _unreadable(
        page, lambda: [button.evaluate("e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor]")]
    )
    context.close()
    assert not unread


def test_a_bad_link_says_not_found(page: Page, address: str) -> None:
    page.goto(f"{address}/scores?account=999999999")
    expect(page.get_by_role("alert").filter(has_text="not found")).to_be_visible()
    expect(page.locator("h1")).to_have_count(0)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("path", ["/", "/scores", f"/scores?account={FIRST_ID}"])
def test_status_words_and_quiet_text_are_readable_in_both_schemes(
    browser: Browser, address: str, scheme: str, path: str
) -> None:
    """Every coloured or quiet text has a contrast of 4.5:1 at least (WCAG 2.2, 1.4.3)."""
    context = browser.new_context(viewport={"width": 1024, "height": 900}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto(f"{address}{path}")
    page.locator("h1").first.wait_for(timeout=WAIT)
    page.locator(DONE).wait_for(timeout=WAIT)
    texts = page.locator(".st .status, .st .quiet, .st small, .st dt, .st h1, .st td")
    assert texts.count()
    unread = _unreadable(
        page,
        lambda: texts.evaluate_all(
            "found => { const ground = getComputedStyle(document.querySelector('.stApp')).backgroundColor;"
            " return [...new Set(found.map(e => getComputedStyle(e).color))].map(text => [text, ground]) }"
        ),
    )
    context.close()
    assert not unread


def _unreadable(page: Page, seen: Callable[[], list[list[str]]]) -> list[str]:
    """Pairs of text and ground that still have too little contrast once colours have had time to settle: the page's
    own style sheet may come a moment after the part that it colours, and Streamlit fades from colour to colour."""
    until = time.monotonic() + WAIT / 1000
    while unread := [f"{text} on {ground}" for text, ground in seen() if _contrast(_rgb(text), _rgb(ground)) < 4.5]:
        if time.monotonic() > until:
            break
        page.wait_for_timeout(100)
    return unread


def _rgb(css: str) -> tuple[float, ...]:
    return tuple(float(part) for part in css[css.index("(") + 1 : css.index(")")].split(",")[:3])


def _contrast(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    """Contrast ratio of two sRGB colours after WCAG 2.2."""

    def luminance(rgb: tuple[float, ...]) -> float:
        parts = [v / 255 for v in rgb]
        linear = [v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in parts]
        return sum(weight * v for weight, v in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    light, dark = sorted((luminance(one), luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)
