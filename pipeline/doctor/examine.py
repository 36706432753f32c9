"""All checks in order: first the stores, since what stands on a broken one cannot be looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from pipeline import ledger, portfolio
from pipeline.config import Settings
from pipeline.doctor import machine, records
from pipeline.doctor.facts import Check, Checked, Fault, Found, Home
from pipeline.errors import ScoretraceError
from pipeline.faults import explained

_CHECKS: tuple[tuple[str, Check], ...] = (
    ("clock", machine.time),
    ("writer", machine.writer),
    ("runs", machine.unfinished),
    ("catalog", records.catalog),
    ("lake files", records.files),
    ("archive", records.archive),
    ("audit log", records.audit_log),
    ("models", records.models),
    ("promotions", records.promotions),
)


def examine(settings: Settings, progress: Callable[[str], None] = lambda _: None) -> tuple[Checked, ...]:
    """Look at everything in a home, change nothing; a check that cannot be made is a fault of its own."""
    opened: list[Home] = []

    def look() -> tuple[str, list[Fault]]:
        carried = portfolio.load(settings.portfolio_dir)
        opened.append(Home(settings, carried, ledger.open_ledger(settings)))
        return f"{settings.home}: {carried.title} ({carried.name})", []

    if not settings.home.is_dir():
        repair = "run `scoretrace init --portfolio cascade`, or set SCORETRACE_HOME to an existing home"
        return (Checked("home", str(settings.home), (Fault(str(settings.home), "there is no such folder", repair),)),)
    before: tuple[tuple[str, Callable[[Settings], Found]], ...] = (
        ("modes", machine.modes), ("disk", machine.disk), ("stores", records.stores),
    )  # fmt: skip
    done = [_made(name, partial(check, settings), settings) for name, check in before]
    done.append(_made("home", look, settings))
    for home in opened:
        for name, check in _CHECKS:
            progress(f"looking at {name}")
            done.append(_made(name, partial(check, home), settings))
        home.engine.dispose()
    return tuple(done)


def _made(name: str, check: Callable[[], tuple[str, Sequence[Fault]]], settings: Settings) -> Checked:
    try:
        says, faults = check()
    except Exception as error:  # noqa: BLE001 - a store too broken to look at is what the doctor is asked about
        told = explained(error, settings.home) or error
        step = told.next_step if isinstance(told, ScoretraceError) else "`scoretrace restore BACKUP NEW_HOME`"
        message = told.message if isinstance(told, ScoretraceError) else f"{type(told).__name__}: {told}"
        return Checked(name, "could not be looked at", (Fault(name, message.partition("\n")[0], step),))
    return Checked(name, says, tuple(faults))
