"""The portal as people meet it: served by a process of its own, seen by a real browser that waits until a page is done.

For the browser tests, the pictures and the benchmark alike.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

from pipeline.config import REPOSITORY

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--no-first-run")  # fmt: skip
WAIT = 30_000  # milliseconds; the machine may be busy
DONE = "[data-testid='stApp'][data-test-script-state='notRunning']"


def free_port() -> int:
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@contextmanager
def served(
    home: Path, log: Path | None = None, port: int | None = None, environment: Mapping[str, str] | None = None
) -> Iterator[str]:
    """Serve a home; yields the address. Its log goes beside the home unless one is named.

    Raises RuntimeError with the log when the portal does not come up within a minute.
    """
    port, log = port or free_port(), log or home.parent / "server.log"
    with log.open("w") as told:
        server = subprocess.Popen(
            [sys.executable, "-m", "app.portal_process", "--server.port", str(port)],
            cwd=REPOSITORY, env={**os.environ, "SCORETRACE_HOME": str(home), **(environment or {})},
            stdout=told, stderr=told,
        )  # fmt: skip
        try:
            _until_up(f"http://127.0.0.1:{port}/_stcore/health", server, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait(20)


def _until_up(url: str, server: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and server.poll() is None:
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError(f"the portal did not come up:\n{log.read_text()}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Debian's Chromium."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield opened
        opened.close()


def sign_in(page: Page, user: str, password: str) -> None:
    """Fill in the form that is shown, and wait for the page that was asked for."""
    page.get_by_label("User name").fill(user)
    page.get_by_label("Password", exact=True).fill(password)
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Sign out").wait_for()
    page.locator(DONE).wait_for()
