"""``scoretrace maintain``: what retention ends, told before it is done."""

from __future__ import annotations

from typing import Annotated

import typer

from app.console import JsonFlag, actor, out, print_json, print_table, progress
from pipeline.config import Settings
from pipeline.errors import ConfigError

maintenance = typer.Typer()


@maintenance.command()
def maintain(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Tell what would end, and do nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="End the replay of the nights that retention ends.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """End what retention ends, merge small files, and remove the files that no promised night needs."""
    from pipeline.home import open_home
    from pipeline.maintain import maintain as run
    from pipeline.maintain import plan

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    found = plan(settings, engine, portfolio)
    policy = portfolio.retention
    nights = [p.as_of.isoformat() for p in found.ending]
    told = {
        "nights_days": policy.nights, "month_ends_months": policy.month_ends, "snapshots_kept": found.kept,
        "snapshots_ended": len(found.expire), "nights_that_end": nights,
    }  # fmt: skip
    if not as_json:
        out.print(
            f"retention: each night can be replayed for {policy.nights} days, the last of a month for "
            f"{policy.month_ends} months; of {found.kept + len(found.expire):,} snapshots {found.kept:,} stay"
        )
        if found.ending:
            print_table(
                ("night", "run", "published", "scores stay, replay ends"),
                [(str(p.as_of), p.run_id, f"{p.published_at:%Y-%m-%d %H:%M %Z}", "yes") for p in found.ending],
            )
    if dry_run:
        if as_json:
            print_json({**told, "done": False})
        return
    if found.ending and not yes:
        raise ConfigError(
            f"the replay of {len(nights)} nights would end, {nights[0]} to {nights[-1]}; nothing was done",
            "run `scoretrace maintain --yes`, or raise `retention` in portfolio.yml and run `scoretrace init` again",
        )
    done = run(settings, engine, portfolio, found, actor=actor(), progress=progress)
    if as_json:
        print_json({**told, "done": True, **vars(done)})
    else:
        out.print(
            f"{done.expired:,} snapshots ended; {done.files_before:,} files are {done.files_after:,} now, "
            f"{done.bytes_before / 2**20:,.0f} MiB are {done.bytes_after / 2**20:,.0f}; run {done.run_id}"
        )
