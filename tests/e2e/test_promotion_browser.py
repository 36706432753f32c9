"""A promotion decided in a real browser: two approvers sign with their passwords, and then the version may score."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from playwright.sync_api import Browser, Page, expect

from pipeline.errors import ModelRefused
from pipeline.governance.approved import require_approved
from tests import governed_home
from tests.e2e import conftest
from tests.e2e.conftest import expect_heading
from tests.e2e.served import served
from tests.governed_home import MODEL, PASSWORD
from tests.pipeline import small_book
from tests.pipeline.small_book import NIGHT, Book


@pytest.fixture(scope="module")
def decided(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Book, str, str]]:
    """A served portal over a home of its own: the home, the promotion's id, the address."""
    home, id_ = governed_home.shared(tmp_path_factory)
    own = tmp_path_factory.mktemp("decided") / "home"
    shutil.copytree(home, own)
    with served(own) as address:
        yield governed_home.reopen(own), id_, address


def signed_in(browser: Browser, user: str, link: str) -> Page:
    return conftest.signed_in(browser, user, PASSWORD, link)


def sign(page: Page, user: str, password: str) -> None:
    page.get_by_label("Reason", exact=True).fill("the evidence is whole and the gain is real")
    page.get_by_label(f"Password of {user}", exact=True).fill(password)
    page.get_by_role("button", name="Sign", exact=True).click()


def test_two_approvers_sign_in_the_browser_and_the_version_may_score(
    browser: Browser,
    decided: tuple[Book, str, str],
) -> None:
    book, id_, address = decided
    desk = governed_home.desk(book)
    requester = signed_in(browser, "dana", f"{address}/promotions?promotion={id_}")
    expect(requester.get_by_text("You may not sign: the policy asks for approver")).to_be_visible()
    expect(requester.get_by_role("button", name="Sign", exact=True)).to_have_count(0)

    avery = signed_in(browser, "avery", address)
    avery.get_by_role("link", name="1 promotion waits for your signature").click()
    expect_heading(avery, "pd_default version 2 replaces 1 ◌ 0 of 2 signatures")
    expect(avery.get_by_text(desk.promotion(id_).manifest_sha256).last).to_be_visible()
    sign(avery, "avery", "wrong horse battery")
    expect(avery.get_by_role("alert").filter(has_text="the name or the password is wrong")).to_be_visible()
    assert desk.promotion(id_).signatures == (), "a wrong password signs nothing"
    sign(avery, "avery", PASSWORD)
    expect_heading(avery, "pd_default version 2 replaces 1 ◌ 1 of 2 signatures")
    expect(avery.get_by_text("avery has signed it already")).to_be_visible()
    with pytest.raises(ModelRefused):
        _let_score(book, 2)

    blake = signed_in(browser, "blake", f"{address}/promotions")
    blake.get_by_role("link", name=id_).first.click()
    sign(blake, "blake", PASSWORD)
    expect_heading(blake, "pd_default version 2 replaces 1 ✓ in force")
    expect(blake.get_by_text("✓ genuine")).to_have_count(2)
    assert blake.title() == f"Promotion {id_} · Scoretrace", "what people typed is text, and runs nowhere"
    _let_score(book, 2)
    assert small_book.night(book, run_id="night-after").model.version == 2

    blake.emulate_media(media="print")
    expect(blake.get_by_label("Signatures").locator("tbody tr")).to_have_count(2)
    expect(blake.locator("[data-testid='stSidebar']")).to_be_hidden()
    expect(blake.get_by_role("button", name="Sign out")).to_be_hidden()


def _let_score(book: Book, version: int) -> None:
    """Raises ModelRefused unless exactly this version may score now."""
    found, _ = require_approved(book.settings, book.engine, book.registry, MODEL, NIGHT, now=datetime.now(UTC))
    if found.version != version:
        raise ModelRefused(f"{found} scores, not version {version}")


def test_a_link_to_a_record_opens_it_and_back_returns(
    browser: Browser,
    decided: tuple[Book, str, str],
) -> None:
    _, id_, address = decided
    page = signed_in(browser, "ana", f"{address}/audit?what=promotion.requested")
    page.locator("[class*=st-key-openers] a").first.click()
    expect_heading(page, re.compile("^Record"))
    page.go_back()
    expect_heading(page, re.compile("^Audit log"))
    expect(page).to_have_url(f"{address}/audit?what=promotion.requested")
    page.go_forward()
    expect_heading(page, re.compile("^Record"))
    page.get_by_role("link", name="the promotion").click()
    expect(page).to_have_url(re.compile(rf"{address}/promotions\?promotion={id_}&record=\d+"))
    page.get_by_role("link", name=re.compile("‹ record")).click()
    expect_heading(page, re.compile("^Record"))


def test_the_pages_lie_in_one_width(
    browser: Browser,
    decided: tuple[Book, str, str],
) -> None:
    """At 1024 nothing runs out of the page sideways."""
    _, id_, address = decided
    page = signed_in(browser, "ana", f"{address}/promotions?promotion={id_}")
    page.set_viewport_size({"width": 1024, "height": 900})
    for name, title in (
        ("", "pd_default version 2"),
        ("Promotions", "Promotions"),
        ("Models", "Models"),
        ("Audit", "Audit log"),
    ):
        if name:
            page.get_by_role("link", name=name, exact=True).click()
        expect(page.locator("h1")).to_contain_text([title])
        rows = page.locator("[class*=st-key-linked] tbody tr").evaluate_all("es => es.map(e => e.offsetHeight)")
        assert set(rows) <= {28}, f"{title}: a row of two lines moves the links below it"
        wide, seen = page.locator("[data-testid=stMain]").evaluate("e => [e.scrollWidth, e.clientWidth]")
        assert wide <= seen, title
