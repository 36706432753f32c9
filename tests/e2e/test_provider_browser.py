"""Signing in with OpenID Connect in a real browser, at a real provider on this machine: groups become roles."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests import watched_home
from tests.e2e.conftest import expect_heading, window
from tests.e2e.served import free_port, served

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the provider's own libraries warn of each other
    import oidc_provider_mock

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PEOPLE = {"ana": ["risk-analysts"], "olga": ["operations"], "vera": ["everybody"]}
GROUPS = {"risk-analysts": "analyst", "everybody": "viewer"}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A served portal whose people come from the provider."""
    folder = tmp_path_factory.mktemp("provider")
    settings = watched_home.build(folder / "home")
    settings.oidc_groups_file.write_text(json.dumps(GROUPS), encoding="utf-8")
    people = [
        oidc_provider_mock.User(sub=name, claims={"email": f"{name}@lender.example", "groups": groups})
        for name, groups in PEOPLE.items()
    ]
    with oidc_provider_mock.run_server_in_thread(user_claims=people) as provider:
        port = free_port()
        secrets = _secrets(folder / "secrets.toml", port, provider.server_port)
        with served(folder / "home", port=port, environment={"STREAMLIT_SECRETS_FILES": str(secrets)}) as address:
            yield address.replace("127.0.0.1", "localhost")


def _secrets(path: Path, port: int, provider: int) -> Path:
    auth = {
        "redirect_uri": f"http://localhost:{port}/oauth2callback",
        "cookie_secret": "only-for-this-test-" + "x" * 32,
        "client_id": "scoretrace",
        "client_secret": "any",
        "server_metadata_url": f"http://localhost:{provider}/.well-known/openid-configuration",
    }
    path.write_text("[auth]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in auth.items()), encoding="utf-8")
    return path


def enter(page: Page, address: str, name: str, path: str = "/") -> None:
    page.goto(f"{address}{path}")
    expect_heading(page, "Sign in")
    expect(page.get_by_role("link", name="Scores")).to_have_count(0)
    page.get_by_role("button", name="Continue to your identity provider").click()
    page.locator("input[name=sub]").fill(name)
    page.locator("input[name=sub]").press("Enter")
    page.get_by_role("button", name="Sign out").wait_for()


def test_a_group_gives_a_role_and_the_way_out_leads_back(page: Page, address: str) -> None:
    enter(page, address, "ana")
    expect_heading(page, re.compile("14 Mar 2026"))
    expect(page.get_by_text("ana@lender.example")).to_be_visible()
    expect(page.get_by_text("analyst", exact=True)).to_be_visible()
    page.get_by_role("link", name="Audit").click()
    expect_heading(page, "Audit log")
    page.get_by_role("button", name="Sign out").click()
    page.get_by_role("button", name="End session").click()  # the provider asks before it ends its own
    page.wait_for_url(f"{address}/**")
    expect_heading(page, "Sign in")


def test_a_role_that_may_not_is_told_who_may(browser: Browser, address: str) -> None:
    page = window(browser)
    enter(page, address, "vera")
    page.get_by_role("link", name="Audit").click()
    told = page.get_by_role("alert").filter(has_text="not allowed")
    expect(told).to_contain_text("vera@lender.example (viewer) may not search the audit log")
    expect(told).to_contain_text("ask somebody who is analyst or approver or admin")
    page.context.close()


def test_a_group_without_a_role_sees_nothing(browser: Browser, address: str) -> None:
    page = window(browser)
    enter(page, address, "olga")
    expect(page.get_by_role("alert").filter(has_text="not allowed")).to_contain_text("olga@lender.example (no role)")
    expect(page.locator(".st table")).to_have_count(0)
    page.context.close()
