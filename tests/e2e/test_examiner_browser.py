"""An examiner on the phone, in a real browser: find the account, open a feature, its rows, prove it, take the pack."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.conftest import SECOND
from tests.e2e.conftest import expect_heading
from tests.e2e.served import served
from tests.lineage.conftest import Story, own_story, story

__all__ = ["own_story", "story"]


@pytest.fixture(scope="module")
def explained(story: Story) -> Iterator[str]:
    """A served portal over the home with two real nights."""
    with served(story.settings.home) as address:
        yield address


def test_a_question_is_answered_proved_and_taken_away(page: Page, explained: str, story: Story, tmp_path: Path) -> None:
    account = str(story.restated)
    page.goto(f"{explained}/scores")
    box = page.get_by_label("Find by id")
    box.fill(account)
    box.press("Enter")
    expect_heading(page, f"Account {account}")
    feature = page.locator("[class*=st-key-openers-strongest] a").first
    name = feature.inner_text()
    feature.click()
    expect(page.get_by_role("heading", name=f"Where {name} came from")).to_be_visible()
    expect(page).to_have_url(f"{explained}/scores?account={account}&feature={name}")
    expect(page.get_by_text("Proved:")).to_be_visible()
    expect(page.get_by_text("equal bit for bit")).to_be_visible()
    page.get_by_role("button", name="Evidence pack").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Download", exact=True).click()
    assert download.value.suggested_filename == f"evidence-account-{account}-{SECOND}.zip"
    pack = tmp_path / "pack"
    with zipfile.ZipFile(download.value.path()) as held:
        held.extractall(pack)
    done = subprocess.run([sys.executable, "verify.py"], cwd=pack, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_same_by_keyboard_alone(page: Page, explained: str, story: Story) -> None:
    """From the address to the rows behind a feature without a pointer, and the focus is seen on its way."""
    account = str(story.restated)
    page.goto(f"{explained}/scores")
    expect_heading(page, re.compile("Scores of"))
    _tab_to(page, "Find by id")
    page.keyboard.type(account)
    page.keyboard.press("Enter")
    expect_heading(page, f"Account {account}")
    _tab_to(page, "Prove it")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid", "the focus is seen"
    page.keyboard.press("Enter")
    expect(page.get_by_text("equal bit for bit")).to_be_visible()
    name = page.locator("[class*=st-key-openers-strongest] a").first.inner_text()
    _tab_to(page, name)
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name=f"Where {name} came from")).to_be_visible()


def _tab_to(page: Page, name: str, most: int = 90) -> None:
    """Press Tab until what has this label or text has the focus."""
    passed = []
    for _ in range(most):
        page.keyboard.press("Tab")
        element = "document.activeElement"
        passed.append(page.evaluate(f"({element}.getAttribute('aria-label') || {element}.innerText || '').trim()"))
        if passed[-1] == name:
            return
    raise AssertionError(f"{most} steps do not reach {name!r}: {passed}")


def test_prove_it_is_a_step_that_back_undoes(page: Page, explained: str, story: Story) -> None:
    page.goto(f"{explained}/scores?account={story.restated}")
    page.get_by_role("button", name="Prove it").click()
    expect(page.get_by_text("Proved:")).to_be_visible()
    expect(page).to_have_url(f"{explained}/scores?account={story.restated}&prove=1")
    page.go_back()
    expect(page.get_by_role("button", name="Prove it")).to_be_visible()


def test_why_a_score_moved_is_one_click_away(page: Page, explained: str, story: Story) -> None:
    page.goto(f"{explained}/scores?account={story.restated}")
    page.get_by_role("link", name="why did it move").click()
    parts = page.get_by_role("table", name="Why the score moved, in parts that add up")
    expect(parts).to_be_visible()
    expect(parts.get_by_role("row", name="restated")).to_contain_text(re.compile(r"\d of raw.loan_servicing"))
    above = page.locator(".st table").first
    expect(above).to_contain_text("restated")


def test_a_box_of_the_graph_opens_its_column(page: Page, explained: str) -> None:
    page.goto(f"{explained}/lineage?column=features.account_features.utilization_3m_avg")
    bars = page.locator("[class*=st-key-graph] .barlayer .point path")
    expect(bars.first).to_be_visible()
    bars.nth(0).click(force=True)
    expect(page).to_have_url(f"{explained}/lineage?column=features.feat_utilization.utilization_3m_avg")
    expect(page.get_by_role("heading", name="features.feat_utilization.utilization_3m_avg")).to_be_visible()
    page.go_back()
    expect(page.get_by_role("heading", name="features.account_features.utilization_3m_avg")).to_be_visible()
