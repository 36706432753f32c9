"""What moved in a raw table: seen by its values, or only by how far each account is from its row before."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import duckdb
import pytest

from lineage.raw_moves import Loads, moves
from pipeline import lake
from pipeline.config import Settings

FIRST, SINCE, LAST = date(2026, 2, 1), date(2026, 3, 1), date(2026, 3, 7)
MONTH = Loads(FIRST, FIRST, SINCE, LAST)
COLUMNS = ("credit_limit", "balance", "days_past_due", "apr")


@pytest.fixture
def con(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """Three months of statements of 700 accounts, a day's a hundred; limits differ a hundredfold, one in ten rises a
    little each month, balances go up and down, and nothing is owed late."""
    settings = Settings.at(tmp_path)
    lake.create(settings, "BIGINT")
    with closing(lake.connect(settings, read_only=False)) as con:
        con.execute(
            """INSERT INTO raw.loan_servicing BY NAME
            SELECT k AS account_id, day AS statement_date, day AS load_date, CAST(day AS VARCHAR) AS load_id,
                row_number() OVER (PARTITION BY day ORDER BY k) AS source_row, 'card' AS product, 'current' AS status,
                DATE '2020-01-01' AS opened_on, 0 AS days_past_due, '' AS source_file, '' AS source_sha256,
                CASE WHEN k % 10 = 0 THEN 1.05 ^ m ELSE 1 END * (500 + 70 * k) AS credit_limit,
                100 + 30 * k + 40 * ((k * 7 + m * 3) % 11) AS balance
            FROM range(700) a(k), range(3) b(m), (SELECT make_date(2026, m + 1, k % 7 + 1) AS day)"""
        )
        yield con


def said(con: duckdb.DuckDBPyConnection, loads: Loads = MONTH) -> dict[str, str]:
    return {m.column: m.said for m in moves(con, "loan_servicing", COLUMNS, loads)}


def test_as_the_months_before_it_nothing_moved(con: duckdb.DuckDBPyConnection) -> None:
    assert said(con) == {}


def test_a_book_that_moves_by_a_fifth_is_seen_in_its_accounts_alone(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("UPDATE raw.loan_servicing SET credit_limit = credit_limit * 0.8 WHERE load_date >= ?", [SINCE])
    found = said(con)
    assert list(found) == ["credit_limit"]
    assert found["credit_limit"].startswith(
        "100% of 700 rows since 2026-03-01 are lower than the same account's row before, "
        "0% from 2026-02-01 to 2026-02-28 (PSI "
    )


def test_values_that_are_others_are_seen_as_such(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("UPDATE raw.loan_servicing SET days_past_due = account_id % 90")
    con.execute("UPDATE raw.loan_servicing SET balance = NULL WHERE load_date >= ? AND account_id % 3 = 0", [SINCE])
    found = said(con)
    assert list(found) == ["balance"], "what always was so is usual"
    assert "its values since 2026-03-01 are not those of the 700 rows before" in found["balance"]
    assert "33.4% null, usually 0.0%" in found["balance"]


def test_a_corrected_row_is_none_of_tonights(con: duckdb.DuckDBPyConnection) -> None:
    """Last month's limits come again tonight, half of what they were: that is told of as a correction."""
    con.execute(
        """INSERT INTO raw.loan_servicing BY NAME
        SELECT * REPLACE (DATE '2026-03-07' AS load_date, 'again' AS load_id, credit_limit / 2 AS credit_limit)
        FROM raw.loan_servicing WHERE month(statement_date) = 2 AND account_id % 7 = 3"""
    )
    assert said(con, Loads(SINCE, SINCE, LAST, LAST)) == {}


def test_a_report_is_held_against_that_of_a_quarter_before(con: duckdb.DuckDBPyConnection) -> None:
    con.execute(
        """INSERT INTO raw.bureau_pull BY NAME
        SELECT k AS subject_id, 'account' AS subject_type, day AS pulled_on, day AS load_date, 'pull' AS load_id,
            k AS source_row, '' AS source_file, '' AS source_sha256,
            400 + (k * 37) % 400 - CASE WHEN day = DATE '2026-03-07' THEN 25 ELSE (k * 7) % 3 END AS bureau_score
        FROM range(400) a(k), (SELECT CASE WHEN k < 200 THEN DATE '2026-03-06' ELSE DATE '2026-03-07' END AS day
                               UNION ALL SELECT DATE '2025-12-06')"""
    )
    (found,) = moves(con, "bureau_pull", ("bureau_score",), Loads(LAST, SINCE, LAST, LAST))
    assert found.said.startswith("100% of 200 rows tonight are lower than the same subject's row before, 0% from ")


def test_too_few_rows_tell_nothing(con: duckdb.DuckDBPyConnection) -> None:
    con.execute("DELETE FROM raw.loan_servicing WHERE load_date >= ? AND account_id >= 29", [SINCE])
    con.execute("UPDATE raw.loan_servicing SET credit_limit = 1 WHERE load_date >= ?", [SINCE])
    assert said(con) == {}
    con.execute("DELETE FROM raw.loan_servicing WHERE load_date < ?", [SINCE])
    assert said(con) == {}, "and a lender's first month is not held against nothing"
