"""A night runs while its readers go on reading: they see the old night whole, then the new one whole."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from playwright.sync_api import Page, expect

from pipeline.config import Settings
from tests.conftest import FIRST, SECOND, Cascade
from tests.e2e.conftest import expect_heading
from tests.e2e.served import served

OLD_OR_NEW = rf"({FIRST.day}|{SECOND.day}) Mar 2026"
# Page → its title; those of one night name it.
PAGES = {"Tonight": f"^{OLD_OR_NEW}", "Scores": f"Scores of {OLD_OR_NEW}", "Lineage": f"Lineage of {OLD_OR_NEW}",
         "Runs": "Runs", "Alerts": "Alerts", "Models": "Models", "Promotions": "Promotions",
         "Drift": "Drift", "Outcomes": "Outcomes", "Audit": "Audit log"}  # fmt: skip


def test_pages_are_read_while_a_night_runs(page: Page, cascade: Cascade, tmp_path: Path) -> None:
    settings: Settings = cascade.copy(tmp_path / "home")
    with served(settings.home) as address:
        page.goto(address)
        expect_heading(page, re.compile(f"{FIRST.day} Mar 2026"))
        command = [sys.executable, "-m", "app.cli", "nightly", "--as-of", str(SECOND)]
        night = subprocess.Popen(command, env={**os.environ, "SCORETRACE_HOME": str(settings.home)})
        try:
            read = set()
            while night.poll() is None:
                for name in PAGES:
                    was_running = night.poll() is None
                    page.locator("[data-testid=stSidebar]").get_by_role("link", name=name, exact=True).click()
                    expect(page).to_have_url(re.compile(name.lower() if name != "Tonight" else r"/(tonight)?$"))
                    expect_heading(page, re.compile(PAGES[name]))
                    expect(page.locator(".alarm.stop")).to_have_count(0)
                    if was_running:
                        read.add(name)
            assert night.wait(60) == 0
            assert read == set(PAGES), "the night was over before its readers had read every page"
        finally:
            if night.poll() is None:
                night.terminate()
                night.wait(60)
        page.goto(address)
        expect_heading(page, re.compile(f"{SECOND.day} Mar 2026"))
