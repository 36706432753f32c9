"""How much hangs on a model: amount and number of subjects, from the marts of the published night."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from decimal import Decimal

import duckdb
from sqlalchemy import Engine

from pipeline import lake, ledger
from pipeline.config import Settings
from pipeline.portfolio import ModelSpec, Portfolio
from pipeline.sql import ident, literal

# The mart that says how much, by subject: its amount and its count.
_MARTS = {
    "account": ("provisions", "sum(exposure_at_default)", "sum(accounts)"),
    "application": ("underwriting_queue", "sum(requested_amount)", "count(*)"),
}
_WHAT = {"account": "exposure at default", "application": "amount applied for that night"}


@dataclass(frozen=True)
class Exposure:
    """amount: in the portfolio's currency, what it is in ``what``; None where the night has no such mart."""

    as_of: date
    subjects: int
    amount: Decimal | None
    currency: str
    what: str


def exposures(settings: Settings, engine: Engine, portfolio: Portfolio) -> Mapping[str, Exposure]:
    """Model → exposure on the newest published night; empty before the first night."""
    published = ledger.latest_publication(engine)
    if published is None:
        return {}
    with closing(lake.connect(settings, snapshot=published.snapshot_id)) as con:
        return {
            model.name: _exposure(con, portfolio, spec, published.as_of, model.rows)
            for spec in portfolio.models
            for model in published.models
            if model.name == spec.name
        }


def _exposure(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, spec: ModelSpec, as_of: date, scored: int
) -> Exposure:
    mart, amount, count = _MARTS[spec.subject]
    there = con.execute(
        "SELECT count(*) FROM information_schema.tables WHERE table_catalog = ? AND table_schema = 'marts' "
        "AND table_name = ?", [lake.ALIAS, mart],
    ).fetchone()  # fmt: skip
    row = None
    if there and there[0]:
        table = ident(lake.ALIAS, "marts", mart)
        row = con.execute(f"SELECT {count}, {amount} FROM {table} WHERE as_of_date = {literal(as_of)}").fetchone()
    known = row is not None and row[1] is not None
    return Exposure(
        as_of=as_of,
        subjects=int(row[0]) if row is not None and known else scored,
        amount=Decimal(row[1]) if row is not None and known else None,
        currency=portfolio.currency,
        what=_WHAT[spec.subject] if known else f"{spec.subject}s scored; the night has no {mart}",
    )
