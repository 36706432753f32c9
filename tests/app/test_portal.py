"""The two addresses that the portal answers beside Streamlit's."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from starlette.applications import Starlette
from starlette.routing import Route
from starlette.testclient import TestClient

from app import acting, portal
from app.password_sessions import SESSIONS
from pipeline.governance.access import Actor

BEN = Actor("ben", frozenset({"viewer"}), "password", datetime.now(UTC))


@pytest.fixture
def browser() -> TestClient:
    """Without Streamlit's own server, which is one to a process."""
    routes = [Route("/remembered/{ticket}", portal.remember), Route("/tonight", portal.first_page)]
    return TestClient(Starlette(routes=routes), base_url="https://portal.lender.example", follow_redirects=False)


def ask(browser: TestClient, ticket: str, **headers: str) -> str:
    """What the answer would have the browser keep; the picture is the same whatever was asked."""
    answer = browser.get(f"/remembered/{ticket}", headers={k.replace("_", "-"): v for k, v in headers.items()})
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/gif"
    assert answer.headers["cache-control"] == "no-store" and answer.content == portal._POINT
    return answer.headers.get("set-cookie", "")


def begun() -> tuple[str, str]:
    now = datetime.now(UTC)
    key = SESSIONS.begin(BEN, now)
    return key, SESSIONS.ticket(key, now)


def test_a_ticket_brings_the_cookie_once(browser: TestClient) -> None:
    key, ticket = begun()
    told = ask(browser, ticket, sec_fetch_site="same-origin")
    assert told.startswith(f"{acting.cookie_name()}={key};")
    assert {part.strip() for part in told.split(";")[1:]} == {"HttpOnly", "SameSite=strict", "Secure", "Path=/"}
    assert ask(browser, ticket, sec_fetch_site="same-origin") == ""


@pytest.mark.parametrize(
    "headers",
    [{}, {"sec_fetch_site": "cross-site"}, {"sec_fetch_site": "same-site"}, {"sec_fetch_site": "none"},
     {"referer": "https://elsewhere.example/"}],
)  # fmt: skip
def test_no_other_site_signs_its_visitors_in(browser: TestClient, headers: dict[str, str]) -> None:
    _, ticket = begun()
    assert ask(browser, ticket, **headers) == ""
    assert ask(browser, ticket, sec_fetch_site="same-origin"), "the ticket is not used up by it"


def test_a_browser_that_does_not_say_its_site_says_its_page(browser: TestClient) -> None:
    """Browsers leave Sec-Fetch-Site out over plain HTTP."""
    _, ticket = begun()
    assert ask(browser, ticket, referer="https://portal.lender.example/scores")


@pytest.mark.parametrize("query", ["", "?as_of=2026-03-13", "?next=//elsewhere.example"])
def test_tonight_leads_to_the_first_page_of_this_host(browser: TestClient, query: str) -> None:
    answer = browser.get(f"/tonight{query}")
    assert answer.is_redirect and answer.headers["location"] == f"/{query}"
