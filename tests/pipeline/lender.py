"""A tiny lender written as its owner would: a portfolio folder and CSV files, nothing of ours inside."""

from __future__ import annotations

import csv
from datetime import date
from pathlib import Path

PORTFOLIO = """\
name: harbor
title: Harbor Credit Union
id_type: VARCHAR
calendar: daily
timezone: Europe/Berlin
currency: EUR
sla: {due: "06:00"}
label: {events: [default], horizon_months: 12}
extracts:
  statements:
    delimiter: ";"
    columns: {acct: VARCHAR, closed: DATE, limit_eur: "DECIMAL(18,2)", owed: "DECIMAL(18,2)", late_days: INTEGER}
  receipts:
    columns: {no: VARCHAR, acct: VARCHAR, due: DATE, paid: DATE, amount: "DECIMAL(18,2)"}
    optional: true
models:
  pd_default: {subject: account, floors: {auc: 0.6, ks: 0.1}}
grades: {A: 0.02, B: 0.1, C: 1.0}
gates: {volume_window: 10}
"""

STATEMENTS_SQL = """\
select acct as account_id, closed as statement_date, 'card' as product, date '2020-01-01' as opened_on,
       limit_eur as credit_limit, owed as balance, cast(null as decimal(18,2)) as scheduled_payment,
       cast(null as decimal(9,6)) as apr, late_days as days_past_due,
       case when late_days > 0 then 'delinquent' else 'current' end as status, source
from statements
"""

RECEIPTS_SQL = """\
select no as payment_id, acct as account_id, due as due_date, paid as paid_on, amount as due_amount,
       amount as paid_amount, 'transfer' as method, false as returned, source
from receipts
"""

HEADER = ("acct", "closed", "limit_eur", "owed", "late_days")
Row = tuple[str, str, str, str, str]


def write_portfolio(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "portfolio.yml").write_text(PORTFOLIO, encoding="utf-8")
    (folder / "loan_servicing.sql").write_text(STATEMENTS_SQL, encoding="utf-8")
    (folder / "payments_ledger.sql").write_text(RECEIPTS_SQL, encoding="utf-8")
    return folder


def statement(account: int, day: date, owed: str = "100.00", late: str = "0") -> Row:
    return (f"H{account:03}", day.isoformat(), "1000.00", owed, late)


def write_statements(
    extracts: Path, load_date: date, rows: list[Row], header: tuple[str, ...] = HEADER, delimiter: str = ";"
) -> Path:
    folder = extracts / load_date.isoformat()
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "statements.csv"
    with path.open("w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle, delimiter=delimiter)
        writer.writerow(header)
        writer.writerows(rows)
    return path
