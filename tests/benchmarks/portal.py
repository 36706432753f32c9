"""How fast the portal is in a real browser: ``make bench-portal``.

Measures the first page of a fresh server, then every page of a session that goes round them again and again, then
twenty sessions at once while a night runs. Ends with 1 when a limit is passed or a page shows an error.

``--home`` is copied first, and the copy is served: a night runs in it. Without it a demonstration is made.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from playwright.async_api import Browser, Locator, Page, async_playwright
from playwright.async_api import Error as BrowserError

from pipeline import ledger
from pipeline.config import Settings
from tests.e2e.served import CHROMIUM, DONE, QUIET, served

FIRST_LIMIT, WARM_LIMIT = 4.0, 0.5  # seconds; the warm one at the 95th percentile
WAIT = 60_000  # milliseconds
PAGES = {
    "Tonight": r"\d+ \w+ \d{4}", "Drift": "Drift", "Outcomes": "Outcomes", "Alerts": "Alerts",
    "Scores": "Scores of", "Lineage": "Lineage of", "Runs": "Runs", "Models": "Models",
    "Promotions": "Promotions", "Audit": "Audit log",
}  # fmt: skip


SIDE = "[data-testid=stSidebar]"
OPENER = "[class*=st-key-openers] a"
INSIDE = {  # page → what is opened from it, one after the other, where there is any: its name, its link, its title
    "Alerts": [
        ("an alert", OPENER, "[a-z]+/"),
        ("a feature's drift", "[class*=st-key-actions-members] a", "Drift"),
    ],
    "Scores": [("a score", OPENER, "Account")],
    "Runs": [("a run", OPENER, "Run ")],
    "Models": [("a model", OPENER, r"pd_\w+$"), ("a version", OPENER, r"pd_\w+ version")],
    "Promotions": [("a promotion", OPENER, "pd_")],
}


@dataclass
class Round:
    """Seconds of each page's visits, and what went wrong."""

    seconds: dict[str, list[float]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    async def visit(self, name: str, page: Page, go: Callable[[], Awaitable[object]], title: str) -> None:
        """Go somewhere and time until its title stands, its script is done and what was before it is gone."""
        started = time.perf_counter()
        try:
            await go()
            await page.wait_for_function(
                "([title, done]) => { const h = document.querySelectorAll('h1, .alarm.none, .alarm.stop');"
                " const told = h.length && (new RegExp('^' + title).test(h[0].innerText)"
                "   || h[0].classList.contains('alarm'));"
                " return told && document.querySelector(done) && !document.querySelector('[data-stale=true]'); }",
                arg=[title, DONE],
                polling=20,
                timeout=WAIT,
            )
            self.seconds.setdefault(name, []).append(time.perf_counter() - started)
            alarms = await page.locator(".alarm.stop").all_inner_texts()
            self.errors += [f"{name}: {re.sub(chr(10), ' ', a)[:200]}" for a in alarms]
        except BrowserError as error:
            self.errors.append(f"{name}: {str(error).splitlines()[0][:200]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--home", type=Path, help="a home without users; it is copied, and the copy is served")
    parser.add_argument("--accounts", type=int, default=4000, help="of the demonstration that is made without --home")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--sessions", type=int, default=20)
    asked = parser.parse_args()
    with TemporaryDirectory(prefix="scoretrace-portal-", dir=asked.home.parent if asked.home else None) as folder:
        home = Path(folder) / "home"
        if asked.home:
            subprocess.run(["cp", "-r", "--reflink=auto", str(asked.home), str(home)], check=True)
        else:
            _scoretrace(home, "demo", "--accounts", str(asked.accounts), "--no-serve").wait()
        return asyncio.run(_measure(home, asked.rounds, asked.sessions))


async def _measure(home: Path, rounds: int, sessions: int) -> int:
    engine = ledger.open_ledger(Settings.at(home))
    last = ledger.latest_publication(engine)
    assert last is not None, "the home has no published night"
    print(f"{last.accounts:,} accounts, {len(ledger.published_dates(engine))} nights", flush=True)
    engine.dispose()
    with served(home) as address:
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
            first, warm = Round(), Round()
            page = await _window(browser)
            await first.visit("first page", page, lambda: page.goto(address), PAGES["Tonight"])
            await _enter(page, home)
            await _round(page, Round())  # each page once: what it reads is then in the server's memory
            for _ in range(rounds):
                await _round(page, warm)
            good = _table("one session, warm", warm, WARM_LIMIT)
            print(f"first page of a fresh server   {first.seconds['first page'][0]:.2f} s (limit {FIRST_LIMIT:g} s)")
            good &= first.seconds["first page"][0] <= FIRST_LIMIT
            night = _scoretrace(home, "nightly", "--as-of", str(last.as_of))
            crowd = Round()
            started, turns = time.perf_counter(), 0
            over = asyncio.create_task(_seconds_of(night, started))
            pages = [await _window(browser) for _ in range(sessions)]
            await asyncio.gather(*(_open(p, address, home, crowd) for p in pages))
            while turns < 1 or (night.poll() is None and turns < 5):
                await asyncio.gather(*(_round(p, crowd) for p in pages))
                turns += 1
            running = night.poll() is None
            took = time.perf_counter() - started
            lasted, ended = await over
            told = "outlasted them" if running else f"ran for {lasted:.0f} s of them"
            _table(f"{sessions} sessions at once, {turns} rounds in {took:.0f} s; the night {told} and ended with "
                   f"{ended}", crowd, None)  # fmt: skip
            await browser.close()
    for error in [*first.errors, *warm.errors, *crowd.errors]:
        print("  error:", error)
    return 0 if good and ended == 0 and not (first.errors or warm.errors or crowd.errors) else 1


async def _seconds_of(night: subprocess.Popen[bytes], started: float) -> tuple[float, int]:
    """Seconds until the night was over, and what it ended with."""
    code = await asyncio.to_thread(night.wait)
    return time.perf_counter() - started, code


async def _window(browser: Browser) -> Page:
    context = await browser.new_context(viewport={"width": 1440, "height": 1000})
    page = await context.new_page()
    page.set_default_timeout(WAIT)
    return page


async def _open(page: Page, address: str, home: Path, seen: Round) -> None:
    await seen.visit("first page", page, lambda: page.goto(address), f"({PAGES['Tonight']}|Sign in)")
    await _enter(page, home)


async def _enter(page: Page, home: Path) -> None:
    """Sign in where the home has the demonstration's users."""
    kept = home / "demo-users" / "quinn"
    if kept.is_file() and await page.get_by_label("User name").count():
        await page.get_by_label("User name").fill("quinn")
        await page.get_by_label("Password", exact=True).fill(kept.read_text(encoding="utf-8").strip())
        await page.keyboard.press("Enter")
        await page.get_by_role("button", name="Sign out").wait_for()


async def _round(page: Page, seen: Round) -> None:
    """Every page by its link in the side navigation, and what its first links open.

    The pointer is on the link before the clock runs: from the click on, as whoever clicks waits.
    """
    for name, title in PAGES.items():
        await _click(page, seen, name, page.locator(SIDE).get_by_role("link", name=name, exact=True), title)
        for within, opener, opened in INSIDE.get(name, ()):
            link = page.locator(opener).first
            if seen.errors or not await link.count():
                break
            await _click(page, seen, within, link, opened)


async def _click(page: Page, seen: Round, name: str, link: Locator, title: str) -> None:
    await link.hover()
    await seen.visit(name, page, lambda: link.dispatch_event("click"), title)


def _table(title: str, seen: Round, limit: float | None) -> bool:
    """Print median and 95th percentile of each page; whether all of them together keep the limit."""
    print(f"\n{title}\n{'page':14} {'visits':>6} {'median':>8} {'p95':>8}")
    for name, seconds in [*seen.seconds.items(), ("all pages", [s for v in seen.seconds.values() for s in v])]:
        print(f"{name:14} {len(seconds):6} {statistics.median(seconds):6.2f} s {_p95(seconds):6.2f} s")
    together = _p95([s for v in seen.seconds.values() for s in v])
    print(f"errors {len(seen.errors)}" + (f"; limit {limit:g} s at the 95th percentile" if limit else ""), flush=True)
    return limit is None or together <= limit


def _p95(seconds: list[float]) -> float:
    return sorted(seconds)[max(0, -(-len(seconds) * 95 // 100) - 1)]


def _scoretrace(home: Path, *arguments: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "app.cli", *arguments]
    return subprocess.Popen(command, env={**os.environ, "SCORETRACE_HOME": str(home)}, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    raise SystemExit(main())
