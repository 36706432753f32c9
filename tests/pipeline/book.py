"""A tiny book of accounts put straight into the raw tables, with the ledger of its loads kept as landing keeps it."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from datetime import date

import duckdb

from pipeline import lake
from pipeline.config import Settings
from pipeline.contracts import CONTRACTS
from pipeline.sql import ident, literal

ACCOUNTS = 40
MONTHS = 26


@dataclass(frozen=True)
class Book:
    """A home's raw tables, written load by load."""

    settings: Settings

    def add(self, table: str, load_id: str, rows: str) -> None:
        """Accept a load. ``rows`` selects the contract's columns by name, and load_date."""
        contract = CONTRACTS[table]
        with closing(lake.connect(self.settings, read_only=False)) as con:
            con.execute("BEGIN")
            con.execute(
                f"""INSERT INTO {ident("raw", table)} BY NAME
                SELECT *, {literal(load_id)} AS load_id, 'file.csv' AS source_file, 'sha' AS source_sha256,
                       row_number() OVER (ORDER BY {", ".join(contract.key)}) AS source_row FROM ({rows})"""
            )
            con.execute(
                f"""INSERT INTO raw.load_months
                SELECT {literal(load_id)}, {literal(table)}, load_date,
                       CAST(date_trunc('month', {contract.event_date}) AS DATE), count(*)
                FROM {ident("raw", table)} WHERE load_id = {literal(load_id)} GROUP BY ALL"""
            )
            _log(con, load_id, "landed")
            _log(con, load_id, "accepted")
            con.execute("COMMIT")

    def remove(self, table: str, load_id: str) -> None:
        """Take a load back, as a restatement does with the one it replaces."""
        with closing(lake.connect(self.settings, read_only=False)) as con:
            con.execute("BEGIN")
            con.execute(f"DELETE FROM {ident('raw', table)} WHERE load_id = {literal(load_id)}")
            _log(con, load_id, "superseded")
            con.execute("COMMIT")

    def forget_state(self) -> None:
        """Make the next build a full one."""
        with closing(lake.connect(self.settings, read_only=False)) as con:
            con.execute("DELETE FROM ops.model_state")

    def fingerprint(self, table: str, where: str = "true") -> str:
        """Hash of every value of a table, to the bit, whatever the order of its rows."""
        with closing(lake.connect(self.settings)) as con:
            rows = con.execute(f"SELECT * FROM {table} WHERE {where}").fetchall()
        assert rows, f"{table} holds no row where {where}"
        return hashlib.sha256("\n".join(sorted(repr(row) for row in rows)).encode()).hexdigest()

    def query(self, sql: str) -> list[tuple[object, ...]]:
        with closing(lake.connect(self.settings)) as con:
            return con.execute(sql).fetchall()


def _log(con: duckdb.DuckDBPyConnection, load_id: str, state: str) -> None:
    con.execute("INSERT INTO raw.load_log SELECT coalesce(max(seq), 0) + 1, ?, ? FROM raw.load_log", [load_id, state])


def history(book: Book, last: date, *, only_statements: bool = False) -> None:
    """Two years of a book up to ``last``: one bulk load per table whose rows became known on their own days.

    Statement days are spread over the month; one in forty statements is missing, one limit in ten is zero.
    """
    statements = f"""
        SELECT i AS account_id, day AS statement_date, (['card', 'personal_loan', 'auto_loan'])[1 + i % 3] AS product,
               DATE '2021-05-01' + CAST(i * 37 % 700 AS INTEGER) AS opened_on,
               CAST(CASE WHEN i % 10 = 0 THEN 0 ELSE 1000 + i * 100 END AS DECIMAL(18, 2)) AS credit_limit,
               CAST((i * 7919 + m * 104729) % 90000 / 100.0 - 20 AS DECIMAL(18, 2)) AS balance,
               CAST(25 + i AS DECIMAL(18, 2)) AS scheduled_payment, CAST(0.05 + i / 1000.0 AS DECIMAL(9, 6)) AS apr,
               CAST(CASE WHEN (i * 13 + m * 7) % 11 = 0 THEN (i + m) % 4 * 20 ELSE 0 END AS INTEGER) AS days_past_due,
               (['current', 'inactive', 'revolving', 'paid_in_full'])[1 + (i + m) % 4] AS status, day AS load_date
        FROM range(1, {ACCOUNTS + 1}) AS a(i), range({MONTHS}) AS b(m),
             LATERAL (SELECT CAST(date_trunc('month', {literal(last)}) - to_months(CAST(m AS INTEGER))
                                  + to_days(CAST(i * 5 % 28 AS INTEGER)) AS DATE) AS day)
        WHERE day <= {literal(last)} AND (i * 31 + m * 17) % 40 <> 0"""
    book.add("loan_servicing", "statements.history", statements)
    if only_statements:
        return
    book.add(
        "payments_ledger",
        "payments.history",
        f"""SELECT account_id * 1000 + CAST(date_diff('month', DATE '2020-01-01', statement_date) AS BIGINT)
                       AS payment_id, account_id, statement_date AS due_date, paid_on, scheduled_payment AS due_amount,
                   CASE WHEN paid_on IS NULL THEN 0 ELSE scheduled_payment END AS paid_amount, 'autopay' AS method,
                   account_id % 7 = 0 AS returned, coalesce(paid_on, statement_date) AS load_date
            FROM (SELECT *, CASE WHEN (account_id + day(statement_date)) % 9 = 0 THEN NULL
                                 ELSE statement_date + CAST(account_id % 5 * 3 AS INTEGER) END AS paid_on
                  FROM ({statements}))
            WHERE coalesce(paid_on, statement_date) <= {literal(last)}""",
    )
    book.add(
        "bureau_pull",
        "bureau.history",
        f"""SELECT i AS subject_id, 'account' AS subject_type, day AS pulled_on,
                   CAST(CASE WHEN i % 9 > 0 THEN 500 + (i * 17 + m * 29) % 300 END AS INTEGER) AS bureau_score,
                   5 AS open_trades, CAST(m % 3 AS INTEGER) AS delinquent_trades, 1 AS inquiries_6m,
                   i * 100 AS external_balance, i * 300 AS external_limit,
                   0 AS collections, 0 AS public_records, day AS load_date
            FROM range(1, {ACCOUNTS}) AS a(i), range(0, {MONTHS}, 4) AS b(m),
                 LATERAL (SELECT CAST({literal(last)} - to_months(CAST(m AS INTEGER)) AS DATE)
                                 - CAST(i % 20 AS INTEGER) AS day)""",
    )
    book.add(
        "account_events",
        "events.history",
        f"""SELECT i AS account_id, {literal(last)} - CAST(i AS INTEGER) AS event_date,
                   (['default', 'cured', 'prepaid'])[1 + CAST(i / 10 AS INTEGER) % 3] AS event_type, NULL AS amount,
                   {literal(last)} - CAST(i AS INTEGER) AS load_date
            FROM range(10, {ACCOUNTS}, 10) AS a(i)""",
    )
    book.add(
        "applications",
        "applications.history",
        f"""SELECT 9000 + i AS application_id, NULL AS account_id, {literal(last)} - CAST(i AS INTEGER) AS applied_on,
                   'card' AS product, 5000 AS amount, CAST(NULL AS INTEGER) AS term_months, 0.19 AS apr,
                   40000 AS stated_income, 0.3 AS dti, 24 AS employment_months, 'online' AS channel,
                   'purchase' AS purpose, 'CA' AS state,
                   {literal(last)} - CAST(i AS INTEGER) AS load_date
            FROM range(0, 60) AS a(i)""",
    )
