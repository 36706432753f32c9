"""One browser for a module's tests, and a window of its own for each test."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.e2e.served import CHROMIUM, DONE, WAIT, chromium, sign_in


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: `apt-get install chromium`")
    with chromium() as opened:
        yield opened


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    opened = window(browser)
    yield opened
    opened.context.close()


def window(browser: Browser, scheme: str = "light", width: int = 1440) -> Page:
    """A window with a session of its own."""
    context = browser.new_context(viewport={"width": width, "height": 1000}, color_scheme=scheme)  # type: ignore[arg-type]
    page = context.new_page()
    page.set_default_timeout(WAIT)
    expect.set_options(timeout=WAIT)
    return page


def signed_in(browser: Browser, user: str, password: str, link: str) -> Page:
    """A window of their own, at the page that the link names."""
    page = window(browser)
    page.goto(link)
    sign_in(page, user, password)
    return page


def expect_heading(page: Page, text: str | re.Pattern[str]) -> None:
    """Wait until the page has one heading, with this text. While a page changes, Streamlit keeps the old one too:
    a list waits for that to pass, where a single text would fail at the sight of two. Then wait until the page is
    made: what is clicked before that may be lost, or moved away under the pointer."""
    expect(page.locator("h1")).to_have_text([text])
    page.locator(DONE).wait_for(timeout=WAIT)
