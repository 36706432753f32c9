"""Whoever gets around the triggers is found, and the first bad record is named."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from pipeline import control
from pipeline.config import Settings
from pipeline.governance import audit, chain

RECORDS = 12
TEXTS = ("at", "actor", "action", "subject", "detail", "prev_sha256", "sha256")
SEQ = st.integers(1, RECORDS)


def fill(engine: Engine) -> None:
    with engine.begin() as connection:
        for n in range(RECORDS):
            actor = ("ada", "bob")[n % 2]
            audit.append(connection, actor=actor, action="run.started", subject=f"run:{n}", detail={"n": n})


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of a control store with a log, its triggers dropped: as its owner could have it."""
    settings = Settings.at(tmp_path_factory.mktemp("log"))
    engine = control.create(settings)
    fill(engine)
    engine.dispose()
    path = settings.home / "control.sqlite"
    with closing(sqlite3.connect(path)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute("PRAGMA journal_mode=DELETE")
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tampered")


def verdict_after(
    pristine: Path, folder: Path, *statements: tuple[str, tuple[Any, ...]], against: chain.Checkpoint | None = None
) -> chain.Verdict:
    """Edit a copy of the file behind the product's back, then verify it."""
    path = folder / "control.sqlite"
    for leftover in folder.iterdir():
        leftover.unlink()
    shutil.copy(pristine, path)
    with closing(sqlite3.connect(path)) as db, db:
        for statement, values in statements:
            db.execute(statement, values)
    engine = control.open_store(Settings.at(folder))
    try:
        return audit.verify(engine, against)
    finally:
        engine.dispose()


def test_the_untouched_copy_is_sound(pristine: Path, folder: Path) -> None:
    assert verdict_after(pristine, folder).records == RECORDS


@given(seq=SEQ, field=st.sampled_from(TEXTS), value=st.text(max_size=20) | st.integers(0, 9) | st.binary(max_size=8))
def test_any_change_of_any_field_names_the_record(
    pristine: Path, folder: Path, seq: int, field: str, value: object
) -> None:
    if isinstance(value, str):
        value = value.encode("utf-8", "replace").decode()
    found = verdict_after(pristine, folder, (f"UPDATE audit_log SET {field} = ? WHERE seq = ?", (value, seq)))
    assert (found.ok, found.first_bad, found.records) == (False, seq, seq - 1), found
    assert f"record {seq}" in found.reason


@given(seq=SEQ, field=st.sampled_from(TEXTS), position=st.integers(0, 200), bit=st.integers(0, 6))
def test_one_bit_of_a_field_is_enough(
    pristine: Path, folder: Path, seq: int, field: str, position: int, bit: int
) -> None:
    with closing(sqlite3.connect(pristine)) as db:
        (value,) = db.execute(f"SELECT {field} FROM audit_log WHERE seq = ?", (seq,)).fetchone()
    at = position % len(value)
    changed = value[:at] + chr(ord(value[at]) ^ 1 << bit) + value[at + 1 :]
    found = verdict_after(pristine, folder, (f"UPDATE audit_log SET {field} = ? WHERE seq = ?", (changed, seq)))
    assert (found.ok, found.first_bad) == (False, seq)


@given(first=SEQ, second=SEQ)
def test_two_records_that_changed_places(pristine: Path, folder: Path, first: int, second: int) -> None:
    if first == second:
        return
    low, high = sorted((first, second))
    found = verdict_after(
        pristine,
        folder,
        ("UPDATE audit_log SET seq = 1000 WHERE seq = ?", (low,)),
        ("UPDATE audit_log SET seq = ? WHERE seq = ?", (low, high)),
        ("UPDATE audit_log SET seq = ? WHERE seq = 1000", (high,)),
    )
    assert (found.ok, found.first_bad) == (False, low)


@given(seq=st.integers(1, RECORDS - 1))
def test_a_record_that_is_gone(pristine: Path, folder: Path, seq: int) -> None:
    found = verdict_after(pristine, folder, ("DELETE FROM audit_log WHERE seq = ?", (seq,)))
    assert (found.ok, found.first_bad) == (False, seq)
    assert f"record {seq} is missing" in found.reason


@given(seq=SEQ, number=st.integers(-5, RECORDS + 5))
def test_a_record_with_another_number(pristine: Path, folder: Path, seq: int, number: int) -> None:
    if 1 <= number <= RECORDS:
        return
    found = verdict_after(pristine, folder, ("UPDATE audit_log SET seq = ? WHERE seq = ?", (number, seq)))
    assert (found.ok, found.first_bad) == (False, number if number < 1 else seq)


@given(seq=st.integers(1, RECORDS - 1))
def test_a_replaced_record_with_a_hash_of_its_own_breaks_at_the_next(pristine: Path, folder: Path, seq: int) -> None:
    with closing(sqlite3.connect(pristine)) as db:
        row = db.execute(f"SELECT {', '.join(chain.FIELDS[:-1])} FROM audit_log WHERE seq = ?", (seq,)).fetchone()
    forged = chain.sealed(**dict(zip(chain.FIELDS, row, strict=False)) | {"actor": "eve"})
    found = verdict_after(
        pristine,
        folder,
        ("UPDATE audit_log SET actor = ?, sha256 = ? WHERE seq = ?", (forged.actor, forged.sha256, seq)),
    )
    assert (found.ok, found.first_bad) == (False, seq + 1)
    assert "one of the two was replaced" in found.reason


def test_bytes_that_are_no_text_are_a_bad_record_and_no_crash(pristine: Path, folder: Path) -> None:
    found = verdict_after(pristine, folder, ("UPDATE audit_log SET actor = CAST(x'ff' AS TEXT) WHERE seq = 7", ()))
    assert (found.ok, found.first_bad, found.records) == (False, 7, 6)
    assert "record 7 cannot be read" in found.reason


@pytest.fixture(scope="module")
def log(pristine: Path) -> list[chain.Record]:
    with closing(sqlite3.connect(pristine)) as db:
        rows = db.execute(f"SELECT {', '.join(chain.FIELDS)} FROM audit_log ORDER BY seq").fetchall()
    return [chain.Record(*row) for row in rows]


def point(record: chain.Record) -> chain.Checkpoint:
    return chain.Checkpoint(record.seq, record.sha256, "2026-03-14T06:00:00.000000+00:00")


@given(cut=st.integers(0, RECORDS - 1), kept=SEQ)
def test_a_tail_that_was_cut_off_is_found_against_a_checkpoint_only(
    pristine: Path, folder: Path, log: list[chain.Record], cut: int, kept: int
) -> None:
    statement = ("DELETE FROM audit_log WHERE seq > ?", (cut,))
    assert verdict_after(pristine, folder, statement).ok, "a shorter chain is still a chain"
    found = verdict_after(pristine, folder, statement, against=point(log[kept - 1]))
    if kept <= cut:
        assert (found.ok, found.records) == (True, cut)
    else:
        assert (found.ok, found.first_bad, found.records) == (False, cut + 1, cut)
        assert f"the log ends at {cut}" in found.reason


def test_a_log_written_anew_is_found_against_a_checkpoint_only(
    pristine: Path, folder: Path, log: list[chain.Record]
) -> None:
    """The whole chain from record 5 on, recomputed with another actor: perfect in itself."""
    forged, previous = [], log[3].sha256
    for record in log[4:]:
        fields = {k: v for k, v in vars(record).items() if k != "sha256"}
        anew = chain.sealed(**fields | {"actor": "eve", "prev_sha256": previous})
        forged.append(anew)
        previous = anew.sha256
    statements = [
        (
            "UPDATE audit_log SET actor = ?, prev_sha256 = ?, sha256 = ? WHERE seq = ?",
            (r.actor, r.prev_sha256, r.sha256, r.seq),
        )
        for r in forged
    ]
    assert verdict_after(pristine, folder, *statements).ok
    assert verdict_after(pristine, folder, *statements, against=point(log[3])).ok
    found = verdict_after(pristine, folder, *statements, against=point(log[8]))
    assert (found.ok, found.first_bad) == (False, 9)
    assert "written anew" in found.reason


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE audit_log SET actor = 'eve' WHERE seq = 5", 5),
        ("UPDATE audit_log SET detail = '{\"n\": 4}' WHERE seq = 5", 5),
        ("DELETE FROM audit_log WHERE seq = 8", 8),
        ("UPDATE audit_log SET seq = 99 WHERE seq = 12", 12),
        ("INSERT INTO audit_log SELECT 0, at, actor, action, subject, detail, prev_sha256, sha256 FROM audit_log "
         "WHERE seq = 1", 0),
    ],
)  # fmt: skip
def test_the_owner_of_a_postgresql_database_is_found_too(
    postgres_engine: Engine, statement: str, first_bad: int
) -> None:
    fill(postgres_engine)
    assert audit.verify(postgres_engine).ok
    with postgres_engine.begin() as connection:
        connection.execute(text("ALTER TABLE audit_log DISABLE TRIGGER ALL"))
        connection.execute(text(statement))
    found = audit.verify(postgres_engine)
    assert (found.ok, found.first_bad) == (False, first_bad), found
