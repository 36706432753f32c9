"""Checks of what the home holds: stores, lake files, archive, audit log, models and promotions."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

from pipeline import lake, lake_files, ledger, retention
from pipeline.config import Settings
from pipeline.doctor import archived
from pipeline.doctor.facts import Fault, Found, Home
from pipeline.doctor.machine import sqlite_files
from pipeline.errors import ModelRefused, ScoretraceError
from pipeline.governance import audit, checkpoints
from pipeline.governance import promotion_rules as rules
from pipeline.governance.approvals import Approvals
from pipeline.governance.approved import ApprovalEnded, require_approved
from pipeline.registry import Registry

_RESTORE = "`scoretrace restore BACKUP NEW_HOME` puts the whole home back"
_MEND = "`scoretrace restore BACKUP HOME --damaged-only` puts such files back"


def stores(settings: Settings) -> Found:
    """Every SQLite store is whole, page by page."""
    faults = []
    for what, path in sqlite_files(settings).items():
        if not path.is_file():
            if what != "registry":  # made with the first model
                faults.append(Fault(str(path), f"the {what} is missing", _RESTORE))
        elif not path.stat().st_size:
            faults.append(Fault(str(path), f"the {what} is empty", _RESTORE))
        elif said := integrity(path):
            faults.append(Fault(str(path), f"the {what} is damaged: {said}", _RESTORE))
    return f"{', '.join(sqlite_files(settings))}: every page", faults


def integrity(path: Path) -> str:
    """What SQLite's own check says of a store; empty when it is whole."""
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as store:
            found = [str(row[0]) for row in store.execute("PRAGMA integrity_check(5)")]
    except sqlite3.Error as error:
        return str(error)
    return "" if found == ["ok"] else "; ".join(found).replace("\n", " ")


def catalog(home: Home) -> Found:
    """The lake opens, and holds the snapshot of every night whose replay is promised, and of the newest."""
    with closing(lake.connect(home.settings)) as con:
        newest = lake.current_snapshot(con)
    there = lake_files.snapshots_in(home.settings.lake_catalog)
    nights = ledger.publications(home.engine, superseded=True)
    today = datetime.now(ZoneInfo(home.portfolio.timezone)).date()
    promised = retention.promised(home.portfolio.retention, today, nights)
    faults = [
        Fault(
            f"night {p.as_of}",
            f"was published at snapshot {p.snapshot_id}, which the catalog does not hold",
            "catalog and control store are of different moments: restore both from one backup",
        )
        for p in {p.id: p for p in (*nights[:1], *promised)}.values()
        if p.snapshot_id not in there
    ]
    published = len({p.as_of for p in nights})
    return f"opens at snapshot {newest}; {published} nights published, {len(promised)} can be replayed", faults


def files(home: Home) -> Found:
    """Every Parquet file that the catalog names is there, and is the bytes that were written."""
    named = lake_files.named_in(home.settings.lake_catalog)
    found = lake_files.damaged(home.settings, home.engine, named)
    known = lake_files.recorded(home.engine)
    without = sum(f.path not in known for f in named)
    says = f"{len(named):,} files, {sum(f.bytes for f in named) / 1e6:,.0f} MB, by SHA-256"
    if without:
        says += f" ({without:,} not on record yet: the next run puts them there)"
    return says, [Fault(f"lake/data/{d.file}", d.fault, _MEND) for d in found]


def archive(home: Home) -> Found:
    """Every archived file is what its name says."""
    folder = home.settings.archive_dir / "sha256"
    paths = [p for p in sorted(folder.glob("*/*")) if len(p.name) == 64]
    faults = [
        Fault(str(p.relative_to(home.settings.home)), "is not what its name says: it was changed", _MEND)
        for p in paths
        if lake_files.sha256_of(p) != p.name
    ]
    present = {p.name for p in paths}
    wanted = archived.named(home.engine, Registry(home.settings), home.portfolio)
    faults += [
        Fault(f"archive {digest}", f"{record} names it, and it is missing", _MEND)
        for digest, record in wanted.items()
        if digest not in present
    ]
    return f"{len(paths):,} files by SHA-256; records name {len(wanted):,} of them", faults


def audit_log(home: Home) -> Found:
    """The audit log's chain holds, up to and beyond the newest checkpoint."""
    newest = checkpoints.newest(home.settings)
    against = checkpoints.read(home.settings, newest) if newest else None
    verdict = audit.verify(home.engine, against)
    says = f"{verdict.records:,} records" + (f", checkpoint at {against.seq}" if against else ", no checkpoint yet")
    if verdict.ok:
        return says, []
    return says, [
        Fault(
            f"audit record {verdict.first_bad}",
            verdict.reason,
            "keep this home as it is for whoever examines it, and go on from a backup: " + _RESTORE,
        )
    ]


def models(home: Home) -> Found:
    """Every registered model's bytes are those registered; what is in production is what was signed. That it may not
    score any more by decision or date is told, and is no fault."""
    registry, faults, count, ended = Registry(home.settings), [], 0, []
    for spec in home.portfolio.models:
        for version in registry.versions(spec.name):
            count += 1
            try:
                registry.text(version)
            except ModelRefused as error:
                faults.append(Fault(f"model {version}", error.message, f"{error.next_step}; {_MEND}"))
        newest = ledger.latest_publication(home.engine)
        if newest is not None and not any(spec.name in f.about for f in faults):
            try:
                require_approved(home.settings, home.engine, registry, spec.name, newest.as_of)
            except ApprovalEnded as error:
                ended.append(error.message)
            except ScoretraceError as error:
                faults.append(Fault(f"model {spec.name}", error.message, error.next_step))
    return "; ".join([f"{count} versions against registry and signatures", *ended]), faults


def promotions(home: Home) -> Found:
    """What the records have decided has been carried out."""
    desk = Approvals(home.settings, home.engine, Registry(home.settings), home.portfolio)
    book, now, faults = desk.book(), datetime.now(UTC), []
    for id_, p in book.promotions.items():
        if not p.closed and not rules.against_promoting(book, p, now, desk.disabled()):
            faults.append(
                Fault(f"promotion {id_}", "is complete and has not taken effect", "`scoretrace promotions finish`")
            )
    for model, held in book.in_force.items():
        if not held.alias_moved:
            faults.append(
                Fault(
                    f"model {model}",
                    f"promotion {held.promotion} has not moved its alias",
                    "`scoretrace promotions finish`",
                )
            )
    return f"{len(book.promotions)} promotions", faults
