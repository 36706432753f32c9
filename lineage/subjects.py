"""Who a question is about: an account or an application of a published night, and why one may have no score."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, nullcontext
from datetime import date

import duckdb
from sqlalchemy import Engine

from lineage.recording import SUBJECTS, Recording, published, recording
from pipeline import lake
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.ledger import Publication
from pipeline.portfolio import Portfolio
from pipeline.sql import ident


def subject_id(portfolio: Portfolio, text: str) -> int | str:
    """An id as the portfolio types it. Raises NotFound for a text that cannot be one."""
    if portfolio.id_type != "BIGINT":
        return text
    if text.isascii() and text.isdigit() and int(text) < 2**63:
        return int(text)
    raise NotFound(f"{text!r} is not an id of {portfolio.name}", "its ids are whole numbers")


@contextmanager
def resolved(
    settings: Settings,
    engine: Engine,
    portfolio: Portfolio,
    subject: str,
    as_of: date,
    kind: str | None = None,
    run_id: str | None = None,
    con: duckdb.DuckDBPyConnection | None = None,
) -> Iterator[tuple[Recording, int | str, duckdb.DuckDBPyConnection]]:
    """The recording that scored a subject, its id, and the lake as that run published it, open.

    con: an open lake at that publication's snapshot, used and left open; else one is opened, which takes half a second.
    Raises NotFound for a night, a subject or a snapshot that is not there, saying which.
    """
    id_ = subject_id(portfolio, subject)
    publication = published(engine, as_of, run_id)
    opened = nullcontext(con) if con is not None else closing(lake_of(settings, publication))
    with opened as at:
        found = kind_of(at, publication, id_, kind)
        yield recording(settings, engine, as_of, found, run_id=run_id), id_, at


def lake_of(settings: Settings, publication: Publication) -> duckdb.DuckDBPyConnection:
    """The lake as a run published it. Raises NotFound, in plain words, when that snapshot was expired."""
    try:
        return lake.connect(settings, snapshot=publication.snapshot_id)
    except NotFound as error:
        raise NotFound(
            f"the night of {publication.as_of} (run {publication.run_id}) cannot be computed again: its snapshot "
            f"{publication.snapshot_id} has been expired from the lake, and with it the rows as they were",
            "restore the lake folder from a backup that has it; what the run recorded is still in the control store",
        ) from error


def kind_of(con: duckdb.DuckDBPyConnection, publication: Publication, id_: int | str, kind: str | None = None) -> str:
    """``account`` or ``application``: whichever has a score of that id on that night.

    con: the lake at the publication's snapshot. kind: ask for this one only. Raises NotFound, saying what is known of
    an id without a score, and when both kinds have one.
    """
    if kind is not None and kind not in SUBJECTS:
        raise NotFound(f"there is no subject of kind {kind!r}", f"use {' or '.join(SUBJECTS)}")
    wanted = [kind] if kind else [m.subject for m in publication.models]
    found = [k for k in wanted if _scored(con, k, id_, publication.as_of)]
    if len(found) == 1:
        return found[0]
    if found:
        raise NotFound(
            f"{id_} is an account and an application on {publication.as_of}", "say which with --subject account"
        )
    others = [k for k in SUBJECTS if k not in wanted and _scored(con, k, id_, publication.as_of)]
    why = f"it is an {others[0]}" if others else _absence(con, id_, publication.as_of)
    raise NotFound(
        f"{' or '.join(wanted)} {id_} has no score on {publication.as_of}: {why}",
        f"`scoretrace scores --as-of {publication.as_of}` lists what was scored",
    )


def _scored(con: duckdb.DuckDBPyConnection, kind: str, id_: int | str, as_of: date) -> bool:
    return bool(
        con.execute(
            f"SELECT 1 FROM {ident('scores', f'{kind}_scores')} WHERE {kind}_id = ? AND as_of_date = ? LIMIT 1",
            [id_, as_of],
        ).fetchone()
    )


def _absence(con: duckdb.DuckDBPyConnection, id_: int | str, as_of: date) -> str:
    """What the raw rows known on that night say of an id that was not scored."""

    def one(sql: str) -> tuple[object, ...]:
        row = con.execute(sql, {"id": id_, "day": as_of}).fetchone()
        return row or ()

    known = "load_date <= $day"
    statements, last, behind = one(
        f"""SELECT count(*), max(statement_date), arg_max(days_past_due, statement_date) FROM raw.loan_servicing
            WHERE account_id = $id AND {known} AND statement_date <= $day"""
    ) or (0, None, None)
    ended, kind = one(
        f"""SELECT min(event_date), arg_min(event_type, event_date) FROM raw.account_events
            WHERE account_id = $id AND {known} AND event_date <= $day AND event_type <> 'cured'"""
    ) or (None, None)
    (applications,) = one(f"SELECT count(*) FROM raw.applications WHERE application_id = $id AND {known}") or (0,)
    scores = one("SELECT max(as_of_date) FROM scores.account_scores WHERE account_id = $id AND as_of_date < $day")
    if ended is not None:
        return f"the account had ended on {ended} ({kind})"
    if statements:
        before = f"; it was last scored on {scores[0]}" if scores and scores[0] else ""
        return f"its last statement then known is of {last}, {behind} days past due{before}"
    if applications:
        return "an application is scored in the period in which it was first known"
    return "no statement and no application of that id was known by then"
