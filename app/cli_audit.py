"""The commands of the audit log: verify, search, export, checkpoint, rotate-key."""

from __future__ import annotations

from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.console import JsonFlag, actor, out, plain, print_json, print_table
from pipeline.config import Settings
from pipeline.governance.access import require

if TYPE_CHECKING:
    from pipeline.governance.verification import Verified

audit = typer.Typer(no_args_is_help=True, help="The append-only record of who did what: verify it, search it, keep it.")

_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"]
Actor = Annotated[str | None, typer.Option("--actor", help="Who did it.")]
Action = Annotated[
    str | None, typer.Option("--action", help="Start of the action: promotion, or run.failed; !user: all but those.")
]
About = Annotated[str | None, typer.Option("--about", help="What it is about: model:pd_default/3, run:ID, key:ID.")]
Since = Annotated[datetime | None, typer.Option("--since", formats=_FORMATS, help="Not before, in UTC.")]
Until = Annotated[
    datetime | None, typer.Option("--until", formats=_FORMATS, help="Not after, in UTC; a date means to its end.")
]


@audit.command()
def verify(
    against: Annotated[
        Path | None, typer.Option(help="A checkpoint kept elsewhere; by default the newest in the home.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Check every record, its link to the one before, the checkpoint, and the rows that records cover.

    Ends with 1 and names the first bad record, the first row that no record covers, or a checkpoint that is none.
    """
    from pipeline import ledger
    from pipeline.governance import verification

    require(actor(), "audit.verify")
    settings = Settings.load()
    found = verification.verify(settings, ledger.open_ledger(settings), against)
    if as_json:
        print_json(
            vars(found.verdict)
            | {
                "ok": found.ok,
                "against": vars(found.kept) | {"file": found.file} if found.kept else None,
                "checkpoint_fault": found.checkpoint_fault or None,
                "uncovered": vars(found.gap) if found.gap else None,
            }
        )
    else:
        _print_verified(found, kept_elsewhere=against is not None)
    if not found.ok:
        raise typer.Exit(1)


def _print_verified(found: Verified, *, kept_elsewhere: bool) -> None:
    verdict, kept = found.verdict, found.kept
    if verdict.ok:
        out.print(f"[green]✓ {verdict.records:,} records, none changed, missing or moved[/green]; head {verdict.head}")
    else:
        out.print(plain(f"✕ record {verdict.first_bad}: {verdict.reason}"))
        out.print(f"{verdict.records:,} records before it are sound; compare the log with a backup from there on")
    if found.gap:
        out.print(plain(f"✕ {found.gap.what}: {found.gap.why}"))
        out.print(
            "compare that table with a backup; of a home from before rows were covered, `scoretrace init` says more"
        )
    elif verdict.ok:
        out.print("[green]✓ every row that records cover is there and unchanged, and there is no other[/green]")
    if found.checkpoint_fault:
        out.print(plain(f"✕ checkpoint: {found.checkpoint_fault}; the log was checked without it"))
        out.print(plain(f"next: {found.next_step}"))
    elif kept is None:
        out.print("▲ no checkpoint to compare with: a tail that was cut off would leave no trace")
    elif verdict.ok:
        signed = ", ".join(found.signers)
        out.print(
            plain(f"as the checkpoint {found.file} had it at record {kept.seq} ({kept.at}), signed by key {signed}")
        )
        if not kept_elsewhere:
            out.print("▲ that checkpoint lies beside the log; one kept elsewhere (--against) proves more")


@audit.command()
def search(
    who: Actor = None,
    action: Action = None,
    about: About = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, help="Records to print, the newest.")] = 50,
    as_json: JsonFlag = False,
) -> None:
    """Print records, newest first: by whom, what, about what, when."""
    from pipeline import ledger
    from pipeline.governance import audit as log

    require(actor(), "audit.read")
    engine = ledger.open_ledger(Settings.load())
    found = log.records(
        engine, actor=who, action=action, subject=about, since=_start(since), until=_end(until), limit=limit,
        order="-record",
    )  # fmt: skip
    if as_json:
        print_json([vars(record) | {"detail": record.facts} for record in found])
        return
    print_table(
        ("record", "at (UTC)", "actor", "action", "about", "detail"),
        [(str(r.seq), r.at[:19], r.actor, r.action, r.subject, _short(r.detail)) for r in found],
    )


@audit.command()
def export(
    out_file: Annotated[Path, typer.Option("--out", help="A new file.")],
    form: Annotated[str, typer.Option("--format", help="jsonl, to verify from, or csv.")] = "jsonl",
    who: Actor = None,
    action: Action = None,
    about: About = None,
    since: Since = None,
    until: Until = None,
    as_json: JsonFlag = False,
) -> None:
    """Write records to a file, and beside it where the log ended then and the file's SHA-256."""
    from pipeline import ledger
    from pipeline.governance.export import export as write

    engine = ledger.open_ledger(Settings.load())
    facts = write(
        engine, out_file, by=actor(), form=form, actor=who, action=action, subject=about, since=_start(since),
        until=_end(until),
    )  # fmt: skip
    if as_json:
        print_json(facts)
    else:
        out.print(plain(f"{out_file}: {facts['records']:,} records; the log ends at {facts['seq']}, {facts['sha256']}"))


@audit.command()
def checkpoint(
    out_file: Annotated[Path, typer.Option("--out", help="A new file; keep it where this machine cannot write.")],
    as_json: JsonFlag = False,
) -> None:
    """Sign where the log ends now. Kept elsewhere, it shows later that nothing before it was changed or cut off."""
    from pipeline import ledger
    from pipeline.governance import checkpoints

    settings = Settings.load()
    taken = checkpoints.write(settings, ledger.open_ledger(settings), out_file, actor=actor())
    if as_json:
        print_json(vars(taken))
        return
    (key_id,) = checkpoints.signers(out_file)
    out.print(plain(f"{out_file}: record {taken.seq}, {taken.sha256}, signed by key {key_id}"))
    out.print(plain(f"next: keep it elsewhere; scoretrace audit verify --against {out_file}"))


@audit.command()
def rotate_key() -> None:
    """Replace the signing key. What older keys signed can still be verified."""
    from pipeline import ledger
    from pipeline.governance import checkpoints

    settings = Settings.load()
    old, new = checkpoints.rotate_key(settings, ledger.open_ledger(settings), actor=actor())
    out.print(f"key {new} signs from now on; signatures of {old} can still be verified")


def _start(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _end(moment: datetime | None) -> datetime | None:
    """The last microsecond of the day or second that was named."""
    if moment is None:
        return None
    last = time.max if moment.time() == time.min else moment.time().replace(microsecond=999_999)
    return datetime.combine(moment.date(), last, tzinfo=UTC)


def _short(detail: Any, most: int = 90) -> str:
    text = str(detail)
    return text if len(text) <= most else f"{text[:most]}…"
