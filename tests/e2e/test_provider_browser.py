"""Signing in with OpenID Connect in a real browser, at a real provider on this machine: groups become roles."""

from __future__ import annotations

import json
import re
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from pipeline.config import Settings
from tests import governed_home, watched_home
from tests.conftest import copy_home
from tests.e2e.conftest import expect_heading, window
from tests.e2e.served import free_port, served

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the provider's own libraries warn of each other
    import oidc_provider_mock

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
PEOPLE = {"ana": ["risk-analysts"], "olga": ["operations"], "vera": ["everybody"], "april": ["risk-approvers"]}
GROUPS = {"risk-analysts": "analyst", "risk-approvers": "approver", "everybody": "viewer"}


@pytest.fixture(scope="module")
def provider() -> Iterator[int]:
    """The port of a provider that knows these people and their groups."""
    people = [
        oidc_provider_mock.User(sub=name, claims={"email": f"{name}@lender.example", "groups": groups})
        for name, groups in PEOPLE.items()
    ]
    with oidc_provider_mock.run_server_in_thread(user_claims=people) as server:
        yield server.server_port


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, provider: int) -> Iterator[str]:
    """A served portal over a home with nights and alerts, whose people come from the provider."""
    home = copy_home(watched_home.shared(tmp_path_factory), tmp_path_factory.mktemp("provider") / "home")
    with _served(home, provider) as address:
        yield address


@contextmanager
def _served(home: Path, provider: int) -> Iterator[str]:
    Settings.at(home).oidc_groups_file.write_text(json.dumps(GROUPS), encoding="utf-8")
    port = free_port()
    secrets = _secrets(home.parent / "secrets.toml", port, provider)
    with served(home, port=port, environment={"STREAMLIT_SECRETS_FILES": str(secrets)}) as address:
        yield address.replace("127.0.0.1", "localhost")


def _secrets(path: Path, port: int, provider: int) -> Path:
    client = {
        "client_id": "scoretrace",
        "client_secret": "any",
        "server_metadata_url": f"http://localhost:{provider}/.well-known/openid-configuration",
    }
    ours = {"redirect_uri": f"http://localhost:{port}/oauth2callback", "cookie_secret": "only-for-this-test" + "x" * 32}
    lines = ["[auth]", *_toml({**ours, **client}), "[auth.signing]", *_toml(client)]
    path.write_text("\n".join([*lines, 'client_kwargs = { prompt = "login" }']), encoding="utf-8")
    return path


def _toml(values: dict[str, str]) -> list[str]:
    return [f"{key} = {json.dumps(value)}" for key, value in values.items()]


def enter(page: Page, address: str, name: str, path: str = "/") -> None:
    page.goto(f"{address}{path}")
    expect_heading(page, "Sign in")
    expect(page.get_by_role("link", name="Scores", exact=True)).to_have_count(0)
    page.get_by_role("button", name="Continue to your identity provider").click()
    at_the_provider(page, name)


def at_the_provider(page: Page, name: str) -> None:
    page.locator("input[name=sub]").fill(name)
    page.locator("input[name=sub]").press("Enter")
    page.get_by_role("button", name="Sign out").wait_for()


def test_a_group_gives_a_role_and_the_way_out_leads_back(page: Page, address: str) -> None:
    enter(page, address, "ana")
    expect_heading(page, re.compile("14 Mar 2026"))
    expect(page.get_by_text("ana@lender.example")).to_be_visible()
    expect(page.get_by_text("analyst", exact=True)).to_be_visible()
    page.get_by_role("link", name="Audit").click()
    expect_heading(page, re.compile("^Audit log"))
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


def test_a_signature_takes_a_login_of_its_own(
    browser: Browser, provider: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home, id_ = governed_home.shared(tmp_path_factory)
    own = Path(shutil.copytree(home, tmp_path_factory.mktemp("signing") / "home"))
    with _served(own, provider) as address:
        page = window(browser)
        enter(page, address, "april")
        page.goto(f"{address}/promotions?promotion={id_}")
        expect_heading(page, "pd_default version 2 replaces 1 ◌ 0 of 2 signatures")
        expect(page.get_by_role("button", name="Sign", exact=True)).to_have_count(0)
        page.get_by_role("button", name="Sign in again at your identity provider").click()
        at_the_provider(page, "april")
        page.goto(f"{address}/promotions?promotion={id_}")
        page.get_by_label("Reason", exact=True).fill("the evidence is whole and the gain is real")
        page.get_by_role("button", name="Sign", exact=True).click()
        expect_heading(page, "pd_default version 2 replaces 1 ◌ 1 of 2 signatures")
        expect(page.get_by_text("april@lender.example has signed it already")).to_be_visible()
        page.context.close()
