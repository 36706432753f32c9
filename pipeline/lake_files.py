"""The lake's Parquet files: which ones its catalog names, and whether they still are the bytes that were written.

DuckDB neither writes nor checks checksums: a flipped bit would be read as another number. So each file's SHA-256 goes
into the control store once the run that wrote it is over, and is compared before a night reads the file again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import duckdb
import psycopg
from sqlalchemy import Engine, insert, select

from pipeline import control, lake
from pipeline.config import Settings
from pipeline.errors import HomeDamaged
from pipeline.sql import literal

_OF_ONE_NIGHT = ("scores", "marts")
"""Schemas whose rows are each of one night, and which no later night's result rests on."""
PARTITION = "as_of_date"
_AT_ONCE = 2
_REPAIR = "stop the nights, run `scoretrace doctor`, and put the named files back from `scoretrace backup`"


@dataclass(frozen=True)
class LakeFile:
    """A Parquet file that the catalog names. path: below the lake's data folder. live: in the newest snapshot."""

    path: str
    schema: str
    table: str
    bytes: int
    live: bool

    def __str__(self) -> str:
        return f"{self.path} ({self.schema}.{self.table})"


@dataclass(frozen=True)
class Damage:
    """A file that is not as it was written, and how that shows."""

    file: LakeFile
    fault: str

    def __str__(self) -> str:
        return f"{self.file} {self.fault}"


def named_in(catalog: str) -> tuple[LakeFile, ...]:
    """Every data and delete file of every snapshot in a catalog (``sqlite:PATH`` or ``postgres:CONNINFO``), by path."""
    found = {  # by path: a table that was renamed has several names
        path: LakeFile(path, str(row[0]), str(row[1]), int(row[2]), row[3] is None)
        for row in _rows(catalog, _NAMED)
        if (path := _joined(row[4:]))
    }
    return tuple(found[path] for path in sorted(found))


def snapshots_in(catalog: str) -> frozenset[int]:
    """Ids of the snapshots that a catalog holds."""
    return frozenset(int(row[0]) for row in _rows(catalog, "SELECT snapshot_id FROM ducklake_snapshot"))


def recorded(engine: Engine) -> dict[str, str]:
    """Path → SHA-256 of each file on record."""
    with engine.connect() as connection:
        rows = connection.execute(select(control.lake_files.c.path, control.lake_files.c.sha256)).all()
        return {row.path: row.sha256 for row in rows}


def record_new(settings: Settings, engine: Engine) -> int:
    """Put the SHA-256 of each file on record that is not yet; returns how many. The caller holds the writer lease.

    A file that is missing, cut short or no Parquet is left out: it is damaged, and stays so until it is put back.
    """
    known = recorded(engine)
    unknown = [f for f in named_in(settings.lake_catalog) if f.path not in known]
    new = [f for f in unknown if not _outer_fault(path_of(settings, f), f.bytes)]
    if not new:
        return 0
    now = datetime.now(UTC)
    digests = _digests(settings, new)
    with engine.begin() as connection:
        connection.execute(
            insert(control.lake_files),
            [
                {"path": f.path, "bytes": f.bytes, "sha256": digest, "recorded_at": now}
                for f, digest in zip(new, digests, strict=True)
            ],
        )
    return len(new)


def damaged(
    settings: Settings, engine: Engine, files: Iterable[LakeFile] | None = None, *, deep: bool = True
) -> tuple[Damage, ...]:
    """Which of these files (all that the catalog names, if none are given) are missing, of another length or, when
    ``deep``, of other content than recorded. About 1.5 GB/s on two cores."""
    asked = tuple(named_in(settings.lake_catalog) if files is None else files)
    found, whole = [], []
    for file in asked:
        fault = _outer_fault(path_of(settings, file), file.bytes)
        if fault:
            found.append(Damage(file, fault))
        else:
            whole.append(file)
    if deep:
        known = recorded(engine)
        whole = [f for f in whole if f.path in known]
        for file, digest in zip(whole, _digests(settings, whole), strict=True):
            if digest != known[file.path]:
                found.append(Damage(file, f"has SHA-256 {digest[:12]}…, and was written with {known[file.path][:12]}…"))
    return tuple(found)


def require_whole(settings: Settings, engine: Engine) -> None:
    """Raise HomeDamaged when a live file is missing or cut short, or what a night reads again has other content: raw
    rows, what is carried over from the night before, baselines and training sets."""
    live = [f for f in named_in(settings.lake_catalog) if f.live]
    _refuse(
        settings,
        [
            *damaged(settings, engine, (f for f in live if not _read_again(f)), deep=False),
            *damaged(settings, engine, (f for f in live if _read_again(f))),
        ],
    )


def require_all_whole(settings: Settings, engine: Engine) -> None:
    """Raise HomeDamaged when any file that the catalog names, of any snapshot, is not as it was written."""
    _refuse(settings, damaged(settings, engine))


class SingleNights:
    """Looks at what is of one night each (features, scores) before a later run reads it again; each file once."""

    def __init__(self, settings: Settings, engine: Engine) -> None:
        self._settings, self._engine = settings, engine
        self._looked_at: set[str] = set()

    @cached_property
    def _live(self) -> tuple[LakeFile, ...]:
        return tuple(f for f in named_in(self._settings.lake_catalog) if f.live)

    def require_whole(self, schema: str, table: str, nights: Iterable[date]) -> None:
        """Raise HomeDamaged when a live file of these nights, of a table that is kept in such partitions, is not as it
        was written. Files of the run under way are not on record yet, and are looked at from the outside only."""
        folders = {f"{PARTITION}={night}" for night in nights}
        asked = [
            f
            for f in self._live
            if (f.schema, f.table) == (schema, table)
            and folders & set(Path(f.path).parts)
            and f.path not in self._looked_at
        ]
        _refuse(self._settings, damaged(self._settings, self._engine, asked))
        self._looked_at.update(f.path for f in asked)


def _read_again(file: LakeFile) -> bool:
    every_night = file.schema == "features" and file.table in {f"{s}_features" for s in ("account", "application")}
    return file.schema not in _OF_ONE_NIGHT and not every_night


def _refuse(settings: Settings, found: Sequence[Damage]) -> None:
    if found:
        more = f" and {len(found) - 3} more" if len(found) > 3 else ""
        raise HomeDamaged(
            f"the lake of {settings.home} is damaged: " + "; ".join(str(d) for d in found[:3]) + more, _REPAIR
        )


def path_of(settings: Settings, file: LakeFile) -> Path:
    return settings.lake_data / file.path


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, read in pieces."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def _outer_fault(path: Path, expected: int) -> str:
    """What is wrong with a Parquet file from the outside: not there, too short, without its magic bytes."""
    try:
        with path.open("rb") as handle:
            start, size = handle.read(4), handle.seek(0, 2)
            handle.seek(max(0, size - 4))
            end = handle.read(4)
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    if size != expected:
        return f"has {size:,} bytes, and was written with {expected:,}"
    return "" if start == end == b"PAR1" else "is no Parquet file: its first or last bytes are others"


def _digests(settings: Settings, files: Sequence[LakeFile]) -> list[str]:
    with ThreadPoolExecutor(_AT_ONCE) as pool:  # hashing leaves Python's lock free
        return list(pool.map(lambda f: sha256_of(path_of(settings, f)), files))


def _joined(parts: Sequence[object]) -> str:
    """A file's path from (path, relative) of its schema, its table and itself, as DuckLake keeps them."""
    (schema, schema_relative, table, table_relative, path, relative) = parts
    if not relative:
        return str(path)
    if not table_relative:
        return f"{table}{path}"
    return f"{schema if schema_relative else ''}{table}{path}"


_OF_FILE = """
    SELECT DISTINCT s.schema_name, t.table_name, f.file_size_bytes, f.end_snapshot,
           s.path, s.path_is_relative, t.path, t.path_is_relative, f.path, f.path_is_relative
    FROM {files} f JOIN ducklake_table t ON t.table_id = f.table_id
    JOIN ducklake_schema s ON s.schema_id = t.schema_id"""
_NAMED = " UNION ALL ".join(_OF_FILE.format(files=name) for name in ("ducklake_data_file", "ducklake_delete_file"))


def _rows(catalog: str, query: str) -> Iterator[tuple[Any, ...]]:
    kind, _, place = catalog.partition(":")
    if kind == "sqlite":
        if not Path(place).is_file():
            raise HomeDamaged(
                f"the lake's catalog {place} is gone", "`scoretrace restore BACKUP NEW_HOME` puts the whole home back"
            )
        # Not through Python's SQLite: of two SQLite libraries in one process the one drops the other's file locks.
        with closing(duckdb.connect(":memory:")) as con:
            con.execute(f"LOAD {literal(str(lake.extension_path('sqlite_scanner')))}")
            con.execute(f"ATTACH {literal(place)} AS catalog (TYPE sqlite, READ_ONLY)")
            con.execute("USE catalog")
            yield from con.execute(query).fetchall()
    else:
        with psycopg.connect(place) as connection:
            yield from connection.execute(query.encode()).fetchall()
