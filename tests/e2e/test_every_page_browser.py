"""Each page in a real browser, light and dark: axe finds nothing serious, and the console stays silent."""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, ConsoleMessage, Page, expect

from pipeline.config import Settings
from tests import governed_home, watched_home
from tests.conftest import copy_home
from tests.e2e import places
from tests.e2e.conftest import expect_heading, window
from tests.e2e.places import Place
from tests.e2e.screenshots import settle
from tests.e2e.served import served, sign_in
from tests.governed_home import PASSWORD
from tests.lineage.conftest import Story, own_story, story

__all__ = ["own_story", "story"]

AXE = Path(sys.prefix) / "share" / "axe" / "node_modules" / "axe-core" / "axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
# Of Streamlit's own parts, which no setting of ours reaches: axe's rule, the part's selector, and why it is so.
STREAMLITS_OWN = {
    ("target-size", "[data-testid='stDateInput'] [role='spinbutton']"): "day and month of a date field are 18 px wide; "
    "arrow keys move between them, and the calendar beside them opens with a click",
}
# Streamlit looks for its server below the page's own address before it asks at the root, and so learns where it is.
PROBE = re.compile(r"http://127\.0\.0\.1:\d+/[a-z]+/_stcore/(health|host-config)")


@dataclass
class Seen:
    """What a walk through the pages found, a line each."""

    axe: list[str] = field(default_factory=list)
    console: list[str] = field(default_factory=list)
    pages: int = 0


@pytest.fixture(scope="module")
def homes(tmp_path_factory: pytest.TempPathFactory, story: Story) -> Iterator[list[tuple[str, list[Place], str]]]:
    """Served homes: the address, the pages, and who signs in."""
    folder = tmp_path_factory.mktemp("every-page")
    copy_home(watched_home.shared(tmp_path_factory), folder / "watched")
    home, _ = governed_home.shared(tmp_path_factory)
    shutil.copytree(home, folder / "governed")
    told = ("account-feature", "account-moved", "application", "column", "lineage", "run")
    explained = [p for p in places.of(story.settings) if p.name in told]
    deciding = ("promotion", "promotions", "version", "versions", "model", "models", "audit", "record")
    governed = [p for p in places.of(Settings.at(folder / "governed")) if p.name in deciding]
    with (
        served(folder / "watched") as one,
        served(folder / "governed", folder / "other.log") as other,
        served(story.settings.home, folder / "third.log") as third,
    ):
        yield [
            (third, explained, ""),
            (one, places.of(Settings.at(folder / "watched")), ""),
            (other, [Place("sign-in", "/"), *governed], "avery"),
        ]


@pytest.fixture(scope="module")
def seen(browser: Browser, homes: list[tuple[str, list[Place], str]]) -> Seen:
    """Every page once: all rules in light; then it turns dark as it stands, and what differs are its colours."""
    found = Seen()
    for address, pages, user in homes:
        page, outside = window(browser), bool(user)
        page.on("console", _listener(found))
        page.on("pageerror", lambda error: found.console.append(str(error)))
        for place in pages:
            page.goto(f"{address}{place.path}")
            settle(page)
            if outside and place.name != "sign-in":
                sign_in(page, user, PASSWORD)
                settle(page)
                outside = False
            if place.name == "account-feature" and address == homes[0][0]:
                page.get_by_text("these rows give it again").wait_for()  # a proof, a path and its very rows
            found.axe += [f"{place.name}: {line}" for line in _violations(page, {"type": "tag", "values": RULES})]
            page.emulate_media(color_scheme="dark")
            page.wait_for_function("getComputedStyle(document.querySelector('.stApp')).colorScheme === 'dark'")
            settle(page)
            dark = _violations(page, {"type": "rule", "values": ["color-contrast"]})
            found.axe += [f"{place.name}, dark: {line}" for line in dark]
            page.emulate_media(color_scheme="light")
            found.pages += 1
        page.context.close()
    return found


def _listener(found: Seen) -> Callable[[ConsoleMessage], None]:
    def note(message: ConsoleMessage) -> None:
        where = message.location.get("url", "")
        probing = "404" in message.text and PROBE.fullmatch(where)
        if message.type == "error" and not probing:
            found.console.append(f"{message.text} ({where})")

    return note


def _violations(page: Page, rules: dict[str, Any]) -> list[str]:
    page.evaluate(AXE.read_text(encoding="utf-8"))
    result: dict[str, Any] = page.evaluate(
        "rules => axe.run(document, {runOnly: rules, resultTypes: ['violations']})", rules
    )
    return [
        f"{v['id']} ({v['impact']}): {node['target'][0]} {node['html'][:160]}"
        for v in result["violations"]
        if v["impact"] in ("serious", "critical")
        for node in v["nodes"]
        if not any(v["id"] == rule and page.locator(node["target"][0]).and_(page.locator(part)).count()
                   for rule, part in STREAMLITS_OWN)
    ]  # fmt: skip


def test_a_number_that_jumped_leads_to_its_source(page: Page, homes: list[tuple[str, list[Place], str]]) -> None:
    watched = homes[1][0]
    page.goto(watched)
    page.get_by_role("link", name="Alerts: ✕ 2 open").click()
    page.locator("[class*=st-key-openers-open] a").first.click()
    page.get_by_text("Likely causes").wait_for()
    page.get_by_role("link", name=watched_home.DRIFTED).click()
    expect_heading(page, re.compile("Drift"))
    source = page.locator("ol.causes li").first
    expect(source).to_contain_text("raw.loan_servicing.credit_limit")


def test_axe_finds_nothing_serious(seen: Seen) -> None:
    assert seen.pages >= 25
    assert not seen.axe, "\n".join(seen.axe)


def test_the_console_is_silent(seen: Seen) -> None:
    assert not seen.console, "\n".join(seen.console)
