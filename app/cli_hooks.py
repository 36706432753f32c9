"""The commands of ``scoretrace hooks``: who is told of promotions and alerts, and whether they were."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer
from sqlalchemy import Engine

from app.console import JsonFlag, out, plain, print_json, print_table
from pipeline.config import Settings

if TYPE_CHECKING:
    from pipeline.governance.webhook_receivers import Receivers
    from pipeline.portfolio import Portfolio

hooks = typer.Typer(no_args_is_help=True, help="Tell other systems of promotions and alerts: signed webhooks.")


@hooks.command("list")
def list_hooks(as_json: JsonFlag = False) -> None:
    """Every receiver, what waits for it, and how the last attempt ended."""
    from pipeline.governance import webhooks

    settings, engine, _, receivers = _home()
    found = webhooks.queues(engine, receivers, datetime.now(UTC))
    pairs = list(zip(receivers.receivers, found, strict=True))
    if as_json:
        print_json([asdict(q) | {"place": r.place, "events": list(r.events)} for r, q in pairs])
        return
    if not pairs:
        out.print(plain(f"no receivers: {settings.hooks_file} names none"))
        return
    print_table(
        ("receiver", "address", "events", "waiting", "last attempt", "next attempt"),
        [
            (
                r.name,
                r.place,
                ", ".join(r.events),
                f"{'▲ ' if q.failed else ''}{q.waiting:,}",
                "–"
                if q.last is None
                else f"{q.last.at:%Y-%m-%d %H:%M:%S} UTC record {q.last.seq}: "
                + ("✓ delivered" if q.last.delivered else f"✕ {q.last.error} ({q.failed} in a row)"),
                "–" if not q.waiting else f"{q.next_at:%Y-%m-%d %H:%M:%S} UTC" if q.next_at else "now",
            )
            for r, q in pairs
        ],
    )


@hooks.command()
def deliver(
    due: Annotated[bool, typer.Option("--due", help="Only receivers whose wait after a failure is over.")] = False,
    patience: Annotated[int, typer.Option(min=0, help="Seconds to go on trying what fails.")] = 0,
    as_json: JsonFlag = False,
) -> None:
    """Deliver what waits, oldest first; ends with 1 when a receiver did not take it. It stays, and is tried again."""
    from pipeline.governance import webhooks

    settings, engine, portfolio, receivers = _home()
    found = webhooks.deliver(
        settings, engine, portfolio, receivers, only_due=due, patience=timedelta(seconds=patience)
    )  # fmt: skip
    if as_json:
        print_json([asdict(f) for f in found])
    else:
        for f in found:
            ended = f"✕ {f.error}" if f.error else "✓ nothing waits"
            out.print(plain(f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC {f.receiver}: {f.count:,} delivered; {ended}"))
        if not found and not due:
            out.print(plain(f"no receivers: {settings.hooks_file} names none"))
    if any(f.error for f in found):
        raise typer.Exit(1)


def _home() -> tuple[Settings, Engine, Portfolio, Receivers]:
    from pipeline import ledger
    from pipeline.governance import webhook_receivers
    from pipeline.home import open_home

    settings = Settings.load()
    portfolio, _ = open_home(settings)
    return settings, ledger.open_ledger(settings), portfolio, webhook_receivers.read(settings)
