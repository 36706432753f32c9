"""The lake as several processes open it: nobody reads another's scratch, and every file is on record."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import Engine

from pipeline import home, lake, lake_files
from pipeline.config import Settings
from pipeline.errors import ConfigError, HomeDamaged, redacted
from pipeline.sql import literal
from pipeline.writing import writer
from tests.pipeline.lender import write_portfolio

SPILLED = "SELECT i, hash(i) AS a, hash(i + 1) AS b FROM range(6000000) r(i)"


@pytest.fixture
def opened(tmp_path: Path) -> Iterator[tuple[Settings, Engine]]:
    settings = Settings.at(tmp_path / "home")
    home.init(settings, write_portfolio(tmp_path / "portfolio"))
    _, engine = home.open_home(settings)
    yield settings, engine
    engine.dispose()


def test_an_init_that_was_killed_before_its_catalog_had_a_word_goes_on(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    catalog = Path(settings.lake_catalog.removeprefix("sqlite:"))
    catalog.parent.mkdir(parents=True)
    catalog.touch()
    home.init(settings, write_portfolio(tmp_path / "portfolio"))
    with closing(lake.connect(settings)) as con:
        assert con.execute("SELECT count(*) FROM raw.loads").fetchone() == (0,)
    catalog.write_bytes(b"")  # of a home that is there it is a loss
    with pytest.raises(HomeDamaged, match="is empty"):
        home.init(settings, tmp_path / "portfolio")


def test_what_one_spills_another_neither_reads_nor_removes(opened: tuple[Settings, Engine]) -> None:
    settings = replace(opened[0], memory_limit="80MB", threads=1)

    @contextmanager
    def spilling() -> Iterator[duckdb.DuckDBPyConnection]:
        with closing(lake.connect(settings)) as con:
            con.execute(f"CREATE TEMP TABLE spilled AS {SPILLED}")
            yield con

    def digest(con: duckdb.DuckDBPyConnection) -> tuple[int, ...]:
        row = con.execute("SELECT count(*), bit_xor(a), bit_xor(b), sum(i) FROM spilled").fetchone()
        assert row is not None
        return row

    with closing(duckdb.connect()) as bare:
        expected = bare.execute(f"SELECT count(*), bit_xor(a), bit_xor(b), sum(i) FROM ({SPILLED})").fetchone()
    with spilling() as one:
        with spilling() as other:
            folders = list(settings.work_dir.glob("spill-*"))
            assert len(folders) == 2 and all(any(f.iterdir()) for f in folders), "both have spilled"
            assert digest(one) == digest(other) == expected
        assert digest(one) == expected, "the other has closed"
    assert not list(settings.work_dir.glob("spill-*"))


def test_the_next_writer_removes_what_a_killed_process_has_spilled(opened: tuple[Settings, Engine]) -> None:
    settings, engine = opened
    mine = lake.scratch(settings)
    gone = mine.with_name(mine.name.replace(f"-{os.getpid()}-", "-4194999-"))  # above the largest id that Linux gives
    for folder in (mine, gone):
        folder.mkdir()
        (folder / "duckdb_temp_storage_DEFAULT-0.tmp").write_bytes(b"blocks")
    with writer(settings, engine, "test"):
        assert mine.is_dir() and not gone.exists()


def test_what_a_failed_run_wrote_is_on_record_too(opened: tuple[Settings, Engine]) -> None:
    settings, engine = opened
    with pytest.raises(ZeroDivisionError), writer(settings, engine, "test") as con:
        con.execute("CREATE TABLE lake.intermediate.made AS SELECT i FROM range(1000) r(i)")
        raise ZeroDivisionError
    (file,) = lake_files.named_in(settings.lake_catalog)
    path = lake_files.path_of(settings, file)
    assert lake_files.recorded(engine)[file.path] == lake_files.sha256_of(path)
    body = bytearray(path.read_bytes())
    body[len(body) // 3] ^= 1
    path.write_bytes(body)
    with pytest.raises(HomeDamaged, match="SHA-256"), writer(settings, engine, "test"):
        pass


def test_statistics_of_feature_columns_leave_the_catalog_and_no_row_the_answers(
    opened: tuple[Settings, Engine],
) -> None:
    settings, engine = opened
    with writer(settings, engine, "test") as con:
        con.execute("CREATE TABLE lake.features.made (account_id BIGINT, as_of_date DATE, made_avg DOUBLE)")
        con.execute("ALTER TABLE lake.features.made SET PARTITIONED BY (as_of_date)")
        for day in range(3):
            con.execute(
                "INSERT INTO lake.features.made "
                f"SELECT i, DATE '2026-03-0{day + 1}', i / 7 + {1000 * day} FROM range(5000) r(i)"
            )
        con.execute("CREATE TABLE lake.raw.landed AS SELECT i AS amount FROM range(5000) r(i)")
    with closing(lake.connect(settings)) as con:
        kept = con.execute(
            "SELECT DISTINCT column_name FROM __ducklake_metadata_lake.ducklake_file_column_stats "
            "JOIN __ducklake_metadata_lake.ducklake_column USING (table_id, column_id) ORDER BY 1"
        ).fetchall()
        assert kept == [("account_id",), ("amount",), ("as_of_date",)], "what files are chosen by, and other schemas'"
        count = "SELECT count(*) FROM features.made WHERE "
        assert con.execute(f"{count} made_avg >= 1000").fetchone() == (10_000,)
        assert con.execute(f"{count} as_of_date = DATE '2026-03-02' AND made_avg < 1001").fetchone() == (7,)
        assert con.execute("SELECT min(made_avg), max(made_avg) FROM features.made").fetchone() == (0, 4999 / 7 + 2000)
    with writer(settings, engine, "test") as con:  # files without these records are merged like any other
        con.execute("CALL ducklake_merge_adjacent_files('lake')")
        assert con.execute(f"{count} made_avg >= 1000").fetchone() == (10_000,)


def test_a_file_that_was_cut_short_before_it_was_on_record_never_is(opened: tuple[Settings, Engine]) -> None:
    settings, engine = opened
    with closing(lake.connect(settings, read_only=False)) as con:  # a process that is killed before it could record
        con.execute("CREATE TABLE lake.intermediate.made AS SELECT i FROM range(1000) r(i)")
    (file,) = lake_files.named_in(settings.lake_catalog)
    path = lake_files.path_of(settings, file)
    whole = path.read_bytes()
    path.write_bytes(whole[:-7])
    with pytest.raises(HomeDamaged), writer(settings, engine, "test"):
        pass
    assert lake_files.recorded(engine) == {}
    path.write_bytes(whole)
    with writer(settings, engine, "test"):
        assert lake_files.recorded(engine) == {file.path: lake_files.sha256_of(path)}


@pytest.mark.parametrize(
    "said",
    [
        'Unable to connect to Postgres at "host=db port=9 password=canary user=u": refused',
        "postgres:host=db password='can\\'ary' user=u",
        "ducklake:postgres:user=u PASSWORD = canary'",
        "postgres:user=u password=x&can;ary host=db",
        "postgres:user=u sslpassword=canary host=db",
        "(psycopg.OperationalError) postgresql+psycopg://u:canary@db:5432/scoretrace refused",
        "https://u:canary@host.example/hook answered 500",
    ],
)
def test_a_message_is_kept_without_the_password_in_it(said: str) -> None:
    for text in (redacted(said), ConfigError(said).message, str(ConfigError(said, "next"))):
        assert "ary" not in text and "…" in text
        assert "u" in text, "the rest of it stays"


def test_what_is_no_secret_stays() -> None:
    said = "file:///data/a.csv, row 3: 12:30:00 at https://host.example/x?a=b@c; the password was wrong"
    assert redacted(said) == said


def test_a_moment_is_written_with_its_zone_or_not_at_all() -> None:
    with closing(duckdb.connect()) as con:
        for moment in (
            datetime(2026, 3, 14, 5, 11, tzinfo=UTC),
            datetime(2026, 3, 14, 5, tzinfo=timezone(timedelta(hours=-7))),
        ):
            assert con.execute(f"SELECT {literal(moment)} = ?", [moment]).fetchone() == (True,)
    with pytest.raises(TypeError, match="without a zone"):
        literal(datetime(2026, 3, 14))
