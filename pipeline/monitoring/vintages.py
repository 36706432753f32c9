"""Vintages: of the accounts opened in a month, how many had their event by each month on book."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import duckdb

from pipeline import lake
from pipeline.calendar import month_end
from pipeline.portfolio import Portfolio
from pipeline.sql import literal, literals


def through(as_of: date) -> date:
    """The last month-end at or before a night: curves are drawn of whole months."""
    return as_of if as_of == month_end(as_of) else as_of.replace(day=1) - timedelta(days=1)


def curves(con: duckdb.DuckDBPyConnection, portfolio: Portfolio, as_of: date) -> list[dict[str, Any]]:
    """Every vintage × months on book up to the last whole month, as known at the night, in that order.

    A vintage is the month of the earliest opening date on an account's statements; months on book 0 is that month.
    Vintages older than the first statement in the lake are left out: their early events were never seen. Each row:
    vintage, months_on_book, accounts, events in that month, events_to_date, rate_to_date.
    """
    until = through(as_of)
    found = con.execute(
        f"""
        WITH known AS (
            SELECT account_id, statement_date, opened_on FROM {lake.ALIAS}.raw.loan_servicing
            WHERE load_date <= {literal(as_of)} AND statement_date <= {literal(as_of)}
        ),
        opened AS (
            SELECT account_id, date_trunc('month', min(opened_on))::DATE AS vintage FROM known
            WHERE opened_on IS NOT NULL GROUP BY account_id
            HAVING min(opened_on) >= (SELECT date_trunc('month', min(statement_date)) FROM known)
                AND min(opened_on) <= {literal(until)}
        ),
        first_events AS (
            SELECT account_id, min(event_date) AS event_date FROM {lake.ALIAS}.raw.account_events
            WHERE load_date <= {literal(as_of)} AND event_date <= {literal(until)}
                AND event_type IN ({literals(list(portfolio.label.events))})
            GROUP BY account_id
        ),
        sizes AS (SELECT vintage, count(*) AS accounts FROM opened GROUP BY vintage),
        months AS (
            SELECT vintage, accounts, unnest(range(0, datediff('month', vintage, {literal(until)}) + 1))
                AS months_on_book
            FROM sizes
        ),
        counted AS (
            SELECT o.vintage, greatest(datediff('month', o.vintage, e.event_date), 0) AS months_on_book,
                count(*) AS events
            FROM opened o JOIN first_events e ON e.account_id = o.account_id GROUP BY ALL
        )
        SELECT m.vintage, m.months_on_book, m.accounts, coalesce(c.events, 0) AS events,
            CAST(sum(coalesce(c.events, 0)) OVER (PARTITION BY m.vintage ORDER BY m.months_on_book) AS BIGINT)
        FROM months m LEFT JOIN counted c ON c.vintage = m.vintage AND c.months_on_book = m.months_on_book
        ORDER BY m.vintage, m.months_on_book
        """
    ).fetchall()
    return [
        {
            "through": until,
            "vintage": vintage,
            "months_on_book": month,
            "accounts": accounts,
            "events": events,
            "events_to_date": to_date,
            "rate_to_date": to_date / accounts,
        }
        for vintage, month, accounts, events, to_date in found
    ]
