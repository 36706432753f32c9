"""Every page as a picture, light and dark, 1440 and 1024 wide: ``make screenshots``.

Taken of the demonstration (made here, or a home that ``--home`` names, which is only read) and of the two small homes
of the tests that have what a quiet demonstration lacks: alerts over a drift, and a promotion to be decided.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from playwright.sync_api import Page

from pipeline.config import Settings
from tests import governed_home, watched_home
from tests.e2e import places
from tests.e2e.conftest import window
from tests.e2e.places import Place
from tests.e2e.served import DONE, chromium, served, sign_in

SCHEMES, WIDTHS = ("light", "dark"), (1440, 1024)
TALLEST = 3400  # pixels of a picture; a page that is longer ends there
READER = "quinn"
# What the small homes have and a quiet demonstration lacks.
_LACKING = {
    "watch-": ["tonight", "drift", "drift-feature", "outcomes", "alerts", "alert", "scores", "run"],
    "decide-": ["tonight", "models", "model", "version", "versions", "promotions", "promotion"],
}
Enter = Callable[[Page], None]


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="folder of the pictures")
    parser.add_argument("--home", type=Path, help="a demonstration that is there; else one is made")
    parser.add_argument("--accounts", type=int, default=4000)
    parser.add_argument("--only", default="", help="names that begin so, apart by commas")
    asked = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="scoretrace-pictures-") as folder:
        for name, home, enter in _homes(Path(folder), asked.home, asked.accounts):
            every = [*places.of(Settings.at(home)), Place("not-found", "/runs?run=none")]
            if enter:
                every.insert(0, Place("sign-in", "/"))
            found = [p for p in every if p.name in _LACKING.get(name, [p.name])]
            found = [
                Place(f"{name}{p.name}", p.path)
                for p in found
                if f"{name}{p.name}".startswith(tuple(asked.only.split(",")))
            ]
            with served(home, Path(folder) / f"{name}server.log") as address:
                for picture in take(address, found, asked.out, enter):
                    print(picture, flush=True)


def _homes(folder: Path, there: Path | None, accounts: int) -> Iterator[tuple[str, Path, Enter | None]]:
    """Homes to look at, each with a word before its pages' names and the way in."""
    demo = there or folder / "demo"
    if there is None:
        command = [sys.executable, "-m", "app.cli", "demo", "--accounts", str(accounts), "--no-serve"]
        subprocess.run(command, check=True, env=_at(demo))
    if (demo / "demo-users" / READER).is_file():
        password = (demo / "demo-users" / READER).read_text(encoding="utf-8").strip()
        yield "", demo, lambda page: sign_in(page, READER, password)
    else:
        yield "", demo, None
    watched_home.build(folder / "watched")
    yield "watch-", folder / "watched", None
    book = governed_home.build(folder / "governed")
    governed_home.review(book, governed_home.request(book))
    book.engine.dispose()
    yield "decide-", folder / "governed", lambda page: sign_in(page, "avery", governed_home.PASSWORD)


def take(address: str, found: Iterable[Place], out: Path, enter: Enter | None) -> Iterator[str]:
    """Pictures of these pages in each scheme and width; yields the name of each, with what is wrong with its width.

    enter: signs in, once a window, before the first page that is not the sign-in's own.
    """
    out.mkdir(parents=True, exist_ok=True)
    with chromium() as browser:
        for scheme in SCHEMES:
            for width in WIDTHS:
                page, outside = window(browser, scheme, width), enter is not None
                for place in found:
                    page.goto(f"{address}{place.path}")
                    settle(page)
                    if enter and outside and place.name != "sign-in":
                        enter(page)
                        settle(page)
                        outside = False
                    path = out / f"{place.name}-{scheme}-{width}.png"
                    yield f"{path} {_picture(page, path, width)}"
                page.context.close()


def settle(page: Page) -> None:
    """Wait until the page has said something, its script is done, and its charts are drawn."""
    page.locator("h1, .alarm").first.wait_for()
    page.locator(DONE).wait_for()
    page.wait_for_function(
        "() => [...document.querySelectorAll('.stPlotlyChart')].every(c => c.querySelector('.main-svg'))"
        " && !document.querySelector('[data-testid=stSkeleton]')"
    )
    page.wait_for_timeout(400)


def _picture(page: Page, path: Path, width: int) -> str:
    """The whole page, however far it scrolls."""
    inner = page.locator("[data-testid=stMain]")
    height = int(inner.evaluate("e => e.scrollHeight"))
    page.set_viewport_size({"width": width, "height": min(max(1000, height + 20), TALLEST)})
    page.wait_for_timeout(500)
    page.screenshot(path=path)
    wide, seen = inner.evaluate("e => [e.scrollWidth, e.clientWidth]")
    page.set_viewport_size({"width": width, "height": 1000})
    return f"{height} high" + (f", runs out by {wide - seen}" if wide > seen else "")


def _at(home: Path) -> dict[str, str]:
    return {**os.environ, "SCORETRACE_HOME": str(home)}


if __name__ == "__main__":
    main()
