"""A copy of a whole home, consistent while a night runs, with the SHA-256 of each file in it.

What refers comes before what is referred to: first checkpoints and keys, then the control store (what is published),
then the catalog (which by then holds every snapshot published), then the files that this copy of the catalog names,
then registry and archive. The copy is as if the machine had stopped at that moment: a night that was running is
unfinished in it. What lies in PostgreSQL is not copied here, and has to be dumped before.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from pipeline import lake_files, ledger
from pipeline.config import Settings
from pipeline.errors import ConfigError, HomeDamaged
from pipeline.governance import audit
from pipeline.whole_folder import made_whole

MANIFEST = "backup.json"
FORMAT = 1
_TRIES = 5
_NOT_COPIED = ("work", "lake", "writer.lock", "control.sqlite", "logs")
_SQLITE_EXTRAS = ("-wal", "-shm", "-journal")


@dataclass(frozen=True)
class Backup:
    """What was copied. elsewhere: what lies in PostgreSQL and is not in the copy. manifest_sha256 names its bytes."""

    place: Path
    files: int
    bytes: int
    snapshot: int | None
    as_of: str | None
    elsewhere: tuple[str, ...]
    manifest_sha256: str


def back_up(
    settings: Settings,
    engine: Engine,
    place: Path,
    *,
    link: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Backup:
    """Copy the home into an empty or new folder, which is there whole, on the disk, or not at all.

    link: hard links for the lake's files, which are never changed: quick, on the same disk, and lost with that disk.
    Raises ConfigError when the folder is not empty or lies in the home, HomeDamaged when a file of the lake is not as
    it was written.
    """
    place = place.expanduser().resolve()
    if place == settings.home or settings.home in place.parents:
        raise ConfigError(f"{place} lies in the home itself", "choose a folder outside of it, best on another disk")
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise ConfigError(f"{place} is there already and not empty", "choose a new folder; nothing is ever overwritten")
    with made_whole(place) as partial:
        for number in range(1, _TRIES + 1):
            if copied := _copy(settings, engine, partial, link, progress):
                break
            progress(f"files or approvals moved while they were copied; once more ({number} of {_TRIES})")
            for taken in partial.iterdir():
                shutil.rmtree(taken) if taken.is_dir() else taken.unlink()
        else:
            raise ConfigError(
                f"the home kept changing under {_TRIES} copies: {settings.home}",
                "run it again when neither `scoretrace maintain` nor a promotion is under way",
            )
        manifest = json.dumps(copied, indent=1, sort_keys=True).encode()
        (partial / MANIFEST).write_bytes(manifest)
    return Backup(
        place, len(copied["files"]), sum(f["bytes"] for f in copied["files"].values()), copied["snapshot"],
        copied["as_of"], tuple(copied["elsewhere"]), hashlib.sha256(manifest).hexdigest(),
    )  # fmt: skip


def databases_elsewhere(settings: Settings) -> tuple[str, ...]:
    """Which of the home's stores lie in PostgreSQL, in the order in which they must be dumped."""
    found = []
    if not settings.control_url.startswith("sqlite:"):
        found.append("control store")
    if not settings.lake_catalog.startswith("sqlite:"):
        found.append("lake catalog")
    return tuple(found)


def _copy(
    settings: Settings, engine: Engine, to: Path, link: bool, progress: Callable[[str], None]
) -> dict[str, Any] | None:
    """One try; None when what was copied first did not fit what was copied last."""
    decided = _decisions(engine)
    files: dict[str, dict[str, Any]] = {}

    def take(path: Path) -> None:
        relative = path.relative_to(settings.home).as_posix()
        if path.name == "mlflow.sqlite":
            (to / relative).parent.mkdir(parents=True, exist_ok=True)
            copy_store(path, to / relative)
            return
        with suppress(FileNotFoundError):  # a passing file: a checkpoint or a metric under its partial name
            files[relative] = {"sha256": _copied(path, to / relative, link=False)}

    others = list(_others(settings.home))
    for path in (p for p in others if _names_records(settings.home, p)):
        take(path)
    progress("control store and catalog")
    if settings.control_url.startswith("sqlite:"):
        copy_store(Path(settings.control_url.removeprefix("sqlite:///")), to / "control.sqlite")
    publication = ledger.latest_publication(engine)
    known = lake_files.recorded(engine)
    catalog = settings.lake_catalog
    if catalog.startswith("sqlite:"):
        (to / "lake").mkdir()
        copy_store(Path(catalog.removeprefix("sqlite:")), to / "lake" / "catalog.sqlite")
        catalog = f"sqlite:{to / 'lake' / 'catalog.sqlite'}"
    named = lake_files.named_in(catalog)
    progress(f"{len(named):,} files of the lake")
    for file in named:
        path = lake_files.path_of(settings, file)
        try:
            digest = _copied(path, to / "lake" / "data" / file.path, link)
        except FileNotFoundError:
            if any(f.path == file.path for f in lake_files.named_in(settings.lake_catalog)):
                raise HomeDamaged(f"{path} is missing", "`scoretrace doctor` names every such file") from None
            return None  # taken out by `maintain` since
        if known.get(file.path, digest) != digest:
            raise HomeDamaged(f"{path} is not as it was written", "`scoretrace doctor` names every such file")
        files[f"lake/data/{file.path}"] = {"sha256": digest}
    progress("registry, archive and the rest")
    for path in _others(settings.home):
        if not _names_records(settings.home, path):
            take(path)
    if _decisions(engine) != decided:
        return None
    for store in (path for path in sorted(to.rglob("*.sqlite"))):
        files[store.relative_to(to).as_posix()] = {"sha256": lake_files.sha256_of(store)}
    for relative, facts in files.items():
        status = (to / relative).stat()
        facts |= {"bytes": status.st_size, "mode": status.st_mode & 0o777}
    folders = {parent.as_posix() for relative in files for parent in Path(relative).parents if parent != Path()}
    modes = {f: (settings.home / f).stat().st_mode & 0o777 for f in sorted(folders) if (settings.home / f).is_dir()}
    snapshots = lake_files.snapshots_in(catalog)
    return {
        "format": FORMAT,
        "made_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "snapshot": max(snapshots, default=None),
        "as_of": publication.as_of.isoformat() if publication else None,
        "published_snapshot": publication.snapshot_id if publication else None,
        "content_sha256": publication.content_sha256 if publication else None,
        "elsewhere": list(databases_elsewhere(settings)),
        "files": files,
        "folders": modes,
        "mode": settings.home.stat().st_mode & 0o777,
    }


def copy_store(source: Path, target: Path) -> None:
    """A SQLite store as of one moment, through SQLite's own online backup: writers go on. Its mode stays."""
    with (
        closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True, timeout=30)) as read,
        closing(sqlite3.connect(target)) as written,
    ):
        read.backup(written)  # in one step: one moment, whoever writes meanwhile
        written.execute("PRAGMA journal_mode=DELETE")  # one file, whole in itself
    target.chmod(source.stat().st_mode & 0o777)


def _copied(source: Path, target: Path, link: bool) -> str:
    """Copy (or link) a file and return the SHA-256 of what was read; its mode and times stay."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        try:
            os.link(source, target)
        except OSError as error:
            if error.errno not in (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.EOPNOTSUPP):
                raise
            raise ConfigError(
                f"{target.parent} cannot hold links to {source}: it is on another disk, or of a kind without them",
                "leave --link away: a copy on another disk is the better backup",
            ) from error
        return lake_files.sha256_of(target)
    digest = hashlib.sha256()
    with source.open("rb") as read, target.open("xb") as written:
        while piece := read.read(1 << 20):
            digest.update(piece)
            written.write(piece)
    shutil.copystat(source, target)
    return digest.hexdigest()


def _others(home: Path) -> Iterator[Path]:
    """Every file of the home but scratch, the lake, the control store and what SQLite keeps beside a store."""
    for entry in sorted(home.iterdir()):
        if entry.name in _NOT_COPIED or entry.name.endswith(_SQLITE_EXTRAS):
            continue
        if entry.is_file():
            yield entry
        else:
            yield from (p for p in sorted(entry.rglob("*")) if p.is_file() and not p.name.endswith(_SQLITE_EXTRAS))


def _names_records(home: Path, path: Path) -> bool:
    """Whether a file speaks of the audit log: a checkpoint that is newer than the copied log would say that its tail
    was cut off."""
    return path.relative_to(home).parts[0] in ("checkpoints", "keys")


def _decisions(engine: Engine) -> int:
    """How many records move models, promotions or keys: none may come between the copies of the files that have
    them and of the control store."""
    return sum(audit.count(engine, action=kind) for kind in ("promotion.", "model.", "key."))
