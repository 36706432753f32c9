"""The commands that look after a home: is it whole, a copy of it, and the way back."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from app.console import JsonFlag, actor, out, plain, print_json, progress
from pipeline.config import Settings
from pipeline.errors import HomeDamaged

care = typer.Typer()


@care.command()
def doctor(
    as_json: JsonFlag = False,
    accept_clock: Annotated[
        str, typer.Option("--accept-clock", help="The clock stands right and earlier records were ahead: why.")
    ] = "",
) -> None:
    """Check the whole home, change nothing: what is wrong, with which id, and what repairs it. Ends with 1 if so."""
    from pipeline.doctor.examine import examine

    settings = Settings.load()
    if accept_clock:
        from pipeline import clock, ledger

        clock.accept(ledger.open_ledger(settings), actor(), accept_clock)
    found = examine(settings, progress)
    if as_json:
        print_json({"home": str(settings.home), "ok": all(c.ok for c in found), "checks": [asdict(c) for c in found]})
    else:
        for checked in found:
            out.print(plain(f"{'✓' if checked.ok else '✕'} {checked.check:12} {checked.says}"))
            for fault in checked.faults:
                out.print(plain(f"    {fault.about}: {fault.says}"))
                out.print(plain(f"    next: {fault.repair}"))
    if not all(c.ok for c in found):
        raise typer.Exit(1)


@care.command()
def backup(
    to: Annotated[Path, typer.Argument(help="A new folder, best on another disk.")],
    link: Annotated[bool, typer.Option("--link", help="Hard links for the lake's files: quick, same disk.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Copy the whole home, also while a night runs. The copy holds the signing key: keep it as you keep the home."""
    from pipeline import backup as copies
    from pipeline.home import open_home

    settings = Settings.load()
    _, engine = open_home(settings)
    made = copies.back_up(settings, engine, to, link=link, progress=progress)
    if as_json:
        print_json(vars(made))
        return
    out.print(
        plain(
            f"{made.place}: {made.files:,} files, {made.bytes / 1e6:,.1f} MB, lake snapshot {made.snapshot}, "
            f"newest night {made.as_of or 'none'}, manifest {made.manifest_sha256[:12]}"
        )
    )
    if made.elsewhere:
        out.print(
            plain(
                f"▲ not in it: {' and '.join(made.elsewhere)}, which lie in PostgreSQL. Dump them with `pg_dump "
                "--format=custom` in this order and before the copy; then the copy has every file that they name"
            )
        )


@care.command()
def restore(
    source: Annotated[Path, typer.Argument(help="A folder that `scoretrace backup` made.")],
    home: Annotated[Path, typer.Argument(help="A new folder; with --damaged-only, the home to mend.")],
    damaged_only: Annotated[
        bool, typer.Option("--damaged-only", help="Put back only missing or damaged files that are written once.")
    ] = False,
    as_json: JsonFlag = False,
) -> None:
    """Make a home of a backup, every byte checked. Never overwrites one."""
    from pipeline import restore as way_back

    if damaged_only:
        chosen = Settings.load()
        settings = chosen if chosen.home == home.expanduser().resolve() else Settings.at(home)
        mended = way_back.mend(source, settings, progress=progress)
        if as_json:
            print_json({"home": str(settings.home), "put_back": list(mended.put_back), "left": list(mended.left)})
        else:
            count = len(mended.put_back)
            out.print(plain(f"{settings.home}: {count} files put back; `scoretrace doctor` looks at the whole"))
        if mended.left:
            named = "; ".join(mended.left[:3])
            raise HomeDamaged(
                f"{len(mended.left)} files are damaged still, and this backup has no other: {named}",
                "name a backup made after they were written, or `scoretrace restore BACKUP NEW_HOME` and then "
                "`scoretrace backfill` for the nights since",
            )
        return
    made = way_back.restore(source, home, progress=progress)
    if as_json:
        print_json(vars(made))
        return
    out.print(
        plain(f"{made.home}: {made.files:,} files, {made.bytes / 1e6:,.1f} MB, newest night {made.as_of or 'none'}")
    )
    if made.elsewhere:
        out.print(plain(f"▲ load the dump of {' and '.join(made.elsewhere)} with `pg_restore` before it is used"))
