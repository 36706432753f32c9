"""A backup made a home again: every byte is checked against the manifest before anything stands in its place."""

from __future__ import annotations

import hashlib
import json
import shutil
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline import lake_files, ledger
from pipeline.backup import FORMAT, MANIFEST
from pipeline.config import Settings
from pipeline.errors import ConfigError, HomeDamaged, NotFound
from pipeline.lease import writer_lease
from pipeline.whole_folder import made_whole

_WRITE_ONCE = ("lake/data/", "archive/", "registry/artifacts/")


@dataclass(frozen=True)
class Restored:
    """What was put in place: files and bytes, the newest night in it, and what must come from a PostgreSQL dump."""

    home: Path
    files: int
    bytes: int
    as_of: str | None
    elsewhere: tuple[str, ...]


def restore(source: Path, home: Path, *, progress: Callable[[str], None] = lambda _: None) -> Restored:
    """Make a new home of a backup. Raises NotFound when it is no whole backup, HomeDamaged when a byte of it is
    another, ConfigError when the home is there already; then nothing is put in place."""
    manifest = read_manifest(source)
    home = home.expanduser().resolve()
    Settings.at(home)  # a path that a home may have
    if home.exists() and (not home.is_dir() or any(home.iterdir())):
        raise ConfigError(
            f"{home} is there already and not empty",
            "restore into a new folder, look at it with `SCORETRACE_HOME=THERE scoretrace doctor`, then change the two",
        )
    files: Mapping[str, Any] = manifest["files"]
    progress(f"{len(files):,} files, each against its SHA-256")
    with made_whole(home) as partial:
        for relative, facts in files.items():
            _put(source / relative, partial / relative, facts)
        for folder, mode in manifest["folders"].items():
            (partial / folder).chmod(int(mode))
        _open_again(partial)
        partial.chmod(int(manifest.get("mode", 0o700)))
    return Restored(
        home, len(files), sum(f["bytes"] for f in files.values()), manifest["as_of"], tuple(manifest["elsewhere"])
    )  # fmt: skip


@dataclass(frozen=True)
class Mended:
    """put_back: paths of files, below the home. left: files that are damaged still, each as a sentence: in the lake, or
    in the backup too."""

    put_back: tuple[str, ...]
    left: tuple[str, ...]


def mend(source: Path, settings: Settings, *, progress: Callable[[str], None] = lambda _: None) -> Mended:
    """Put back those write-once files of a home that are missing or damaged, and look at the lake's again.

    Only files of the lake that the home's catalog still names, archived files and model files; nothing that is as
    the backup has it is touched. Raises as ``restore`` does, and LeaseHeld while a night runs.
    """
    manifest = read_manifest(source)
    if not (settings.portfolio_dir / "portfolio.yml").is_file():
        raise ConfigError(f"{settings.home} is not a Scoretrace home", "`scoretrace restore BACKUP NEW_HOME` makes one")
    engine = ledger.open_ledger(settings)
    try:
        with writer_lease(settings, engine, "restore --damaged-only"):
            put_back, unusable = _put_back(source, manifest, settings, progress)
        return Mended(put_back, (*unusable, *map(str, lake_files.damaged(settings, engine))))
    finally:
        engine.dispose()


def _put_back(
    source: Path, manifest: Mapping[str, Any], settings: Settings, progress: Callable[[str], None]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Put back what can be; returns the paths of these, and a sentence for each that is no good in the backup either:
    one bad file of a backup is no reason to leave the others damaged."""
    named = {f"lake/data/{f.path}" for f in lake_files.named_in(settings.lake_catalog)}
    mended, unusable = [], []
    for relative, facts in manifest["files"].items():
        if not relative.startswith(_WRITE_ONCE) or (relative.startswith("lake/data/") and relative not in named):
            continue
        target = settings.home / relative
        if target.is_file() and lake_files.sha256_of(target) == facts["sha256"]:
            continue
        partial = target.with_name(f".{target.name}.partial")  # the lease's holder alone writes here
        partial.unlink(missing_ok=True)  # of one that was killed
        try:
            _put(source / relative, partial, facts)
        except HomeDamaged as error:
            if not relative.startswith("lake/data/"):  # those of the lake are looked at when all is done
                unusable.append(error.message)
            continue
        partial.replace(target)
        progress(f"put back {relative}")
        mended.append(relative)
    return tuple(mended), tuple(unusable)


def read_manifest(source: Path) -> dict[str, Any]:
    """A backup's manifest. Raises NotFound when there is none, or none of this kind."""
    try:
        manifest = json.loads((source / MANIFEST).read_bytes())
        known = (
            manifest["format"] == FORMAT
            and isinstance(manifest["files"], dict)
            and isinstance(manifest["folders"], dict)
        )
    except (OSError, ValueError, KeyError, TypeError):
        known = False
    if not known:
        raise NotFound(
            f"{source} is no whole backup: it has no {MANIFEST} of a known kind", "name a folder of `scoretrace backup`"
        )
    if outside := [
        p for p in (*manifest["files"], *manifest["folders"]) if Path(p).is_absolute() or ".." in Path(p).parts
    ]:
        raise HomeDamaged(f"{source / MANIFEST} names files outside of the backup: {outside[0]}", "take another backup")
    return dict(manifest)


def _put(source: Path, target: Path, facts: Mapping[str, Any]) -> None:
    """Copy one file and compare what was read with the manifest. Raises HomeDamaged."""
    target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    try:
        with source.open("rb") as read, target.open("xb") as written:
            while piece := read.read(1 << 20):
                digest.update(piece)
                written.write(piece)
    except FileNotFoundError as error:
        raise HomeDamaged(f"the backup lacks {source}", "take another backup") from error
    if digest.hexdigest() != facts["sha256"]:
        target.unlink()
        raise HomeDamaged(
            f"{source} is damaged: it has SHA-256 {digest.hexdigest()}, and was copied with {facts['sha256']}",
            "take another backup",
        )
    shutil.copystat(source, target)
    target.chmod(int(facts["mode"]))


def _open_again(home: Path) -> None:
    """What a copy must not take over: the lease of a night that ran while it was made. Stores go back to WAL."""
    for folder in ("work", "lake/data"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    for relative in ("control.sqlite", "lake/catalog.sqlite", "registry/mlflow.sqlite"):
        if (home / relative).is_file():
            with closing(sqlite3.connect(home / relative)) as store:
                store.execute("PRAGMA journal_mode=WAL")
                if relative == "control.sqlite":
                    store.execute("DELETE FROM lease")
                    store.commit()
