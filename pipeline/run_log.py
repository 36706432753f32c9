"""What a run said while it went: a file of lines, each with its moment, kept with the run's record.

The ledger has what a run did; its log has what whoever watched it was told, and how it ended.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import NotFound, redacted
from pipeline.governance.texts import shown

Progress = Callable[[str], None]


def path(settings: Settings, run_id: str) -> Path:
    """The log of one run, there or not."""
    return settings.run_logs_dir / f"{run_id}.log"


def kept(settings: Settings, run_id: str, progress: Progress) -> Progress:
    """``progress`` that also adds each line to the run's log. A log that cannot be written is said once, and costs the
    run nothing."""
    file, failed = path(settings, run_id), False

    def say(line: str) -> None:
        nonlocal failed
        progress(line)
        if failed:
            return
        try:
            file.parent.mkdir(exist_ok=True)
            with file.open("a", encoding="utf-8") as log:
                now = datetime.now(UTC).isoformat(timespec="milliseconds")
                log.writelines(f"{now} {part.rstrip()}\n" for part in shown(redacted(line)).splitlines())
        except OSError as error:
            failed = True
            progress(f"▲ the run's log {file} cannot be written: {error.strerror}")

    return say


def read(settings: Settings, run_id: str) -> list[tuple[datetime, str]]:
    """The lines of a run's log, oldest first, each with its moment (UTC).

    Raises NotFound for a run without a log: one from before logs were kept, or whose home could not take it.
    """
    try:
        text = path(settings, run_id).read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise NotFound(f"run {run_id} left no log", "`scoretrace status` tells what it did") from None
    lines = []
    for line in text.splitlines():
        moment, _, said = line.partition(" ")
        try:
            at = datetime.fromisoformat(moment)
        except ValueError:  # a line that a killed process did not finish
            continue
        if at.tzinfo is not None:  # nor one that ends within its moment
            lines.append((at, said))
    return lines
