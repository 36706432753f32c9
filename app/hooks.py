"""Webhooks delivered after a command, by a process of their own: a dead or slow receiver costs the command nothing."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime

from pipeline.config import Settings
from pipeline.errors import ScoretraceError


def deliver_soon(settings: Settings) -> bool:
    """Start a delivery in the background when something is due; returns whether it did.

    Raises ScoretraceError when the receivers cannot be read. The process outlives this one and writes what it did
    below ``logs`` in the home. Should it be killed, the next command or ``scoretrace hooks deliver`` goes on.
    """
    if not settings.hooks_file.is_file() or not (settings.portfolio_dir / "portfolio.yml").is_file():
        return False
    from pipeline import ledger
    from pipeline.governance import webhook_receivers, webhooks

    engine = ledger.open_ledger(settings)
    try:
        if not webhooks.due(engine, webhook_receivers.read(settings), datetime.now(UTC)):
            return False
    finally:
        engine.dispose()
    folder = settings.home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "hooks.log").open("ab") as log:
        subprocess.Popen(
            [sys.executable, "-P", "-m", "app.cli", "hooks", "deliver", "--due", "--patience", "120"],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    return True


def after_command(arguments: list[str]) -> str:
    """What ``main`` does last, whatever the command did; returns what is wrong with the hooks, empty when nothing.

    Never raises: the command has done its work, and its exit code is its own.
    """
    if arguments[:1] == ["hooks"]:
        return ""
    try:
        deliver_soon(Settings.load())
    except ScoretraceError as error:
        return error.message
    except Exception as error:  # noqa: BLE001 - told in one line, and the deliveries stay where they are
        return f"{type(error).__name__}: {error}"
    return ""
