"""The portal's three jobs in a real browser, with clicks and seconds: ``make bench-journeys``.

An examiner on the phone, a promotion to decide, a number that jumped: each from the page after the sign-in to its
answer, at the speed of the portal; reading and thinking are not in it. The examiner's home is a demonstration
(``--home``, which is only read); the other two are the small homes of the tests.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.sync_api import Browser, Locator, Page, expect

from pipeline.config import Settings
from tests import governed_home, watched_home
from tests.e2e import places
from tests.e2e.conftest import window
from tests.e2e.screenshots import settle
from tests.e2e.served import chromium, served, sign_in


@dataclass
class Journey:
    """Clicks, fields filled and the seconds of each step."""

    page: Page
    out: Path
    name: str
    clicks: int = 0
    fields: int = 0
    step: int = 0

    def click(self, what: Locator) -> None:
        self.clicks += 1
        what.click()

    def fill(self, what: Locator, text: str, key: str = "") -> None:
        self.fields += 1
        what.fill(text)
        if key:
            what.press(key)

    def seen(self, what: Locator, words: str, since: float) -> None:
        """Wait for it, say when it came, and take a picture."""
        expect(what.first).to_be_visible()
        self.step += 1
        print(
            f"  {time.perf_counter() - since:6.1f} s  {self.clicks} clicks, {self.fields} fields: {words}", flush=True
        )
        self.page.screenshot(path=self.out / f"{self.name}-{self.step}.png")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="a demonstration")
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix="scoretrace-journeys-") as name, chromium() as browser:
        folder = Path(name)
        print("an examiner asks why an account has its score")
        password = (asked.home / "demo-users" / "quinn").read_text(encoding="utf-8").strip()
        account = next(p for p in places.of(Settings.at(asked.home)) if p.name == "account").path.rpartition("=")[2]
        _travel(browser, asked.home, folder, asked.out, ("quinn", password), lambda j, t: _examiner(j, t, account))
        print("an approver decides a promotion")
        book = governed_home.build(folder / "governed")
        governed_home.review(book, governed_home.request(book))
        book.engine.dispose()
        _travel(browser, folder / "governed", folder, asked.out, ("avery", governed_home.PASSWORD), _promotion)
        print("somebody asks why a number jumped")
        watched_home.build(folder / "watched")
        _travel(browser, folder / "watched", folder, asked.out, None, _jump)


def _travel(
    browser: Browser, home: Path, folder: Path, out: Path, who: tuple[str, str] | None,
    go: Callable[[Journey, float], None],
) -> None:  # fmt: skip
    with served(home, folder / "server.log") as address:
        page = window(browser)
        page.goto(address)
        settle(page)
        if who:
            sign_in(page, *who)
        go(Journey(page, out, go.__name__.strip("_<>")), time.perf_counter())
        page.context.close()


def _examiner(j: Journey, since: float, account: str) -> None:
    j.name = "examiner"
    j.click(j.page.get_by_role("link", name="Scores", exact=True))
    j.fill(j.page.get_by_label("Find by id"), account, "Enter")
    j.seen(j.page.get_by_text("Why this score"), "the score and what made it", since)
    j.click(j.page.locator("[class*=st-key-openers-strongest] a").first)
    j.seen(j.page.get_by_text("Proved:"), "proved, with the rows of its strongest feature", since)
    j.click(j.page.get_by_role("button", name="Evidence pack"))
    with j.page.expect_download() as pack:
        j.click(j.page.get_by_role("button", name="Download", exact=True))
    j.seen(j.page.locator("h1"), f"the evidence pack, {pack.value.path().stat().st_size:,} bytes", since)


def _promotion(j: Journey, since: float) -> None:
    j.click(j.page.get_by_role("link", name="waits for your signature"))
    j.seen(j.page.get_by_text("Champion against challenger"), "evidence, gates, comparison and findings", since)
    j.fill(j.page.get_by_label("Reason", exact=True), "the evidence is whole and the gain is real")
    j.fill(j.page.get_by_label("Password of avery", exact=True), governed_home.PASSWORD)
    j.click(j.page.get_by_role("button", name="Sign", exact=True))
    j.seen(j.page.get_by_text("1 of 2 signatures"), "signed", since)


def _jump(j: Journey, since: float) -> None:
    j.click(j.page.get_by_role("link", name="Alerts: ✕ 2 open"))
    j.seen(j.page.get_by_role("heading", name="Alerts"), "what stands, with the likeliest cause", since)
    j.click(j.page.locator("[class*=st-key-openers] a").first)
    j.seen(j.page.get_by_text("Likely causes"), "the alert and its causes, likeliest first", since)
    j.click(j.page.get_by_role("link", name=watched_home.DRIFTED))
    j.seen(j.page.get_by_text("Likely source"), "the feature: nights, bins, segments, source", since)


if __name__ == "__main__":
    main()
