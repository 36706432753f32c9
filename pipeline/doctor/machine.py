"""Checks of what surrounds the records: modes, room, the clock, who writes, what was left unfinished."""

from __future__ import annotations

import os
import shutil
import stat
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import select

from pipeline import clock, control, lease
from pipeline.config import Settings
from pipeline.doctor.facts import Fault, Found, Home
from pipeline.errors import ConfigError
from pipeline.governance import keys, webhook_receivers
from pipeline.runs import RUNNING
from pipeline.writing import LEAST_FREE_BYTES

_AGAIN = {
    "nightly": "scoretrace nightly --as-of {as_of}",
    "monitor": "scoretrace monitor --as-of {as_of}",
    "retrain": "scoretrace retrain --model MODEL --as-of {as_of}",
}


def modes(settings: Settings) -> Found:
    """The home can be written by its owner, and be read by its group at most; secrets are their owner's alone."""
    faults = []
    if settings.home.is_dir() and settings.home.stat().st_mode & stat.S_IRWXO:
        faults.append(
            Fault(
                str(settings.home),
                "every user of the machine can look into it, and it holds personal data",
                f"`chmod o-rwx {settings.home}`",
            )
        )
    for folder in (settings.home, settings.lake_data, settings.archive_dir, settings.registry_dir):
        if not folder.is_dir():
            faults.append(
                Fault(str(folder), "the folder is missing", "`scoretrace init` makes it, or restore a backup")
            )
        elif not _writable(folder):
            faults.append(
                Fault(str(folder), "cannot be written", f"mount it for writing, or run as its owner: `ls -ld {folder}`")
            )
        elif folder.stat().st_mode & stat.S_IWOTH:
            faults.append(Fault(str(folder), "can be written by everybody", f"`chmod o-w {folder}`"))
    try:
        key = keys.signing_key(settings.keys_dir).key_id
    except ConfigError as error:
        faults.append(Fault("keys/signing.pem", error.message, error.next_step))
        key = "none"
    try:
        for receiver in webhook_receivers.read(settings).receivers:
            webhook_receivers.secret_of(receiver)
    except ConfigError as error:
        faults.append(Fault("hooks.json", error.message, error.next_step))
    return f"the home can be written by its owner; signing key {key}", faults


def disk(settings: Settings) -> Found:
    """There is room for a night."""
    usage = shutil.disk_usage(settings.home)
    says = f"{usage.free / 1e9:,.1f} GB free of {usage.total / 1e9:,.1f} GB"
    if usage.free < LEAST_FREE_BYTES:
        where = settings.home
        return says, [Fault(str(where), f"only {usage.free / 1e6:.1f} MB free", f"make room: `df -h {where}`")]
    return says, []


def time(home: Home) -> Found:
    """The clock stands after the last record."""
    now = datetime.now(UTC)
    found = clock.ahead(home.engine, now)
    if found is None:
        return f"{now:%Y-%m-%d %H:%M} UTC, after the last record", []
    seq, at = found
    return f"{now:%Y-%m-%d %H:%M} UTC", [
        Fault(
            f"audit record {seq}",
            f"was written at {at:%Y-%m-%d %H:%M:%S} UTC, after what the clock says now: it was set back",
            'set the clock right: `timedatectl`; if it stands right now: `scoretrace doctor --accept-clock "why"`',
        )
    ]


def writer(home: Home) -> Found:
    """Who writes the lake, and whether that process lives."""
    found = lease.standing(home.settings, home.engine)
    if found is None:
        return "nobody writes the lake", []
    since = f"since {found.since:%Y-%m-%d %H:%M:%S} UTC"
    if found.held:
        return f"written by {found.holder}, {since}", []
    return "nobody writes the lake", [
        Fault(
            found.holder,
            f"took the writer lease {since} and died with it",
            "nothing to clear by hand: run its command again, which takes the lease over",
        )
    ]


def unfinished(home: Home) -> Found:
    """Runs that are marked running while nobody writes the lake: their processes died."""
    found = lease.standing(home.settings, home.engine)
    if found is not None and found.held:
        return "a run is under way", []
    runs = control.runs.c
    with home.engine.connect() as connection:
        rows = connection.execute(select(runs.run_id, runs.kind, runs.as_of).where(runs.status == RUNNING)).all()
    return "no run was left unfinished", [
        Fault(
            f"run {row.run_id}",
            "its process ended without a word",
            f"`{_AGAIN.get(row.kind, 'scoretrace ' + row.kind).format(as_of=row.as_of)}`, with the options it had: "
            "what was half done is done over",
        )
        for row in rows
    ]


def _writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK) and not _mounted_read_only(folder)


def _mounted_read_only(folder: Path) -> bool:
    return bool(os.statvfs(folder).f_flag & os.ST_RDONLY)


def sqlite_files(settings: Settings) -> dict[str, Path]:
    """The home's SQLite stores by what they are; a store in PostgreSQL is not among them."""
    found = {"registry": settings.registry_dir / "mlflow.sqlite"}
    if settings.control_url.startswith("sqlite:///"):
        found["control store"] = Path(settings.control_url.removeprefix("sqlite:///"))
    if settings.lake_catalog.startswith("sqlite:"):
        found["catalog"] = Path(settings.lake_catalog.removeprefix("sqlite:"))
    return found
