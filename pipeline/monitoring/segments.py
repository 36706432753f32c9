"""How a book is split for monitoring, and the rows of a night that are counted: features, score, and splits."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import date

from pipeline import lake
from pipeline.contracts import PRODUCTS
from pipeline.monitoring.bins import Segment
from pipeline.monitoring.policy import ARRIVAL
from pipeline.sql import ident, literal

SCORE = "score"
"""The model's log-odds, monitored beside its features."""


PRODUCT_CODE = {"account": "product_code_last", "application": "application_product_code"}
"""The feature that holds a subject's product, as its place in ``contracts.PRODUCTS``."""


def segments_of(subject: str, chosen: Sequence[str], columns: Collection[str]) -> tuple[Segment, ...]:
    """The chosen splits that this subject's feature table (its ``columns``) can make, in the chosen order.

    product, by its code. state, where the applicant lives. vintage, the year an account was opened. grade, of the
    night's own score. arrival: ``new`` where the night brought something, ``standing`` elsewhere: a fault in
    tonight's extracts shows there first, undiluted by the rest of the book.
    """
    code = PRODUCT_CODE[subject]
    products = " ".join(f"WHEN {i} THEN {literal(name)}" for i, name in enumerate(PRODUCTS))
    splits = {
        "product": (f"CASE {ident(code)} {products} END", code, False),
        "state": ('"segment state"', "", True),
        "grade": ('"segment grade"', "", False),
    }
    if subject == "account":
        opened = "year(as_of_date - to_months(CAST(tenure_months_last AS INTEGER)))"
        splits["vintage"] = (opened, "tenure_months_last", False)
        fresh = "CASE WHEN statement_age_days_last < \"segment days\" THEN 'new' ELSE 'standing' END"
        splits[ARRIVAL] = (fresh, "statement_age_days_last", False)
    return tuple(
        Segment(name, splits[name][0], splits[name][2])
        for name in chosen
        if name in splits and (not splits[name][1] or splits[name][1] in columns)
    )


def night_rows(subject: str, as_of: date, snapshot: int | None, days: int) -> str:
    """SELECT of the scored subjects of a night as it was published: features, score, and what the splits need.

    snapshot: the publication's; None over a connection whose current database is the lake at that snapshot. days: how
    many days the night covers.
    """
    key = ident(f"{subject}_id")
    return f"""
        SELECT f.*, s.log_odds AS {ident(SCORE)}, s.grade AS "segment grade", {int(days)} AS "segment days",
               a.state AS "segment state"
        FROM (SELECT * FROM {_table("scores", f"{subject}_scores", snapshot)}
              WHERE as_of_date = {literal(as_of)}) s
        JOIN (SELECT * FROM {_table("features", f"{subject}_features", snapshot)}
              WHERE as_of_date = {literal(as_of)}) f USING ({key})
        LEFT JOIN ({states(subject, as_of, snapshot)}) a USING ({key})"""


def states(subject: str, as_of: date, snapshot: int | None) -> str:
    """SELECT of the state that each subject's newest application names, as known at a date. snapshot: as
    ``night_rows``'s."""
    key = ident(f"{subject}_id")
    return f"""SELECT {key}, max_by(state, (load_date, load_id, source_row)) AS state
        FROM {_table("raw", "applications", snapshot)}
        WHERE load_date <= {literal(as_of)} AND {key} IS NOT NULL GROUP BY {key}"""


def _table(schema: str, name: str, snapshot: int | None) -> str:
    if snapshot is None:
        return ident(schema, name)
    return f"{ident(lake.ALIAS, schema, name)} AT (VERSION => {int(snapshot)})"
