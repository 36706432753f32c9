"""Rows that the audit log answers for: each stands, with its SHA-256, in the record that was committed with it.

The chain guards the audit log; a table beside it is guarded by being named there. A row that no record names, one
whose hash is another, and one that a record names and that is gone were written past the application.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from types import MappingProxyType
from typing import Any

from sqlalchemy import Connection, Engine, Select, Table, inspect, or_, select
from sqlalchemy.exc import DBAPIError

from pipeline.control import audit_log, comparisons, publications, training_runs, user_events
from pipeline.governance import audit, canonical_json

COVERED: Mapping[str, Table] = {t.name: t for t in (user_events, training_runs, comparisons, publications)}
"""Every table of facts beside the log. Promotions, alerts, inventory and exports are records of the log itself."""
COVERS = "covers"
"""The key of a record's detail: table, then id, then SHA-256."""
BEGUN = "coverage.begun"
_MOST = 1_000  # rows that one record names: it stays under the largest detail
_UNREADABLE = (ValueError, TypeError, DBAPIError)  # what a column's type makes of a value that is none of its own


@dataclass(frozen=True)
class Gap:
    """A row that does not stand as the log has it. what: the row, such as ``user event 17``."""

    table: str
    id: int
    why: str

    @property
    def what(self) -> str:
        return f"{self.table.replace('_', ' ').removesuffix('s')} {self.id}"


def of(connection: Connection, table: Table, ids: Iterable[int]) -> dict[str, dict[str, dict[str, str]]]:
    """What the detail of a record says of rows that its transaction has just written."""
    query = select(table).where(table.c.id.in_(list(ids))).order_by(table.c.id)
    rows = connection.execute(query).mappings()
    return {COVERS: {table.name: {str(row["id"]): digest(table, dict(row)) for row in rows}}}


def digest(table: Table, row: Mapping[str, Any]) -> str:
    """SHA-256 of a row's canonical JSON: the table's name, and each column, times as ISO text in UTC."""
    values = {name: _plain(row[name]) for name in table.c.keys()}  # noqa: SIM118 - a collection of columns
    return hashlib.sha256(canonical_json.encode({"table": table.name, "row": values})).hexdigest()


def begin(engine: Engine, *, actor: str) -> Mapping[str, int]:
    """Take the rows on record that were there before the log answered for them: once in a home's life.

    Returns how many of which table; empty when it was done before. What somebody slips in later stays uncovered.
    """
    with engine.begin() as connection:
        audit.hold_off_others(connection)
        if audit.records(connection, action=BEGUN, limit=1):
            return {}
        stated, taken = _stated(connection, _naming()), dict[str, int]()
        for name, table in COVERED.items():
            present: Sequence[Any] = connection.execute(select(table.c.id).order_by(table.c.id)).scalars().all()
            ids = [int(row) for row in present if row not in stated[name]]
            for start in range(0, len(ids), _MOST):
                detail = of(connection, table, ids[start : start + _MOST])
                audit.append(connection, actor=actor, action=BEGUN, subject=f"table:{name}", detail=detail)
            taken |= {name: len(ids)} if ids else {}
        audit.append(connection, actor=actor, action=BEGUN, subject="control:store", detail={"rows": taken})
    return taken


def verify(engine: Engine) -> Gap | None:
    """The first row, table by table, that the log does not answer for, or None. It trusts the log: verify that first.

    Looked at once more with all writers held off before it is said: rows may be added meanwhile.
    """
    with engine.connect() as connection:
        if _first_gap(connection) is None:
            return None
    with engine.begin() as connection:
        audit.hold_off_others(connection)
        return _first_gap(connection)


def of_user(connection: Connection, name: str) -> Gap | None:
    """The first event of one user that the log does not answer for, or None. Hold writers off to be sure of it."""
    rows = select(user_events).where(user_events.c.user_name == name).order_by(user_events.c.id)
    own = _stated(connection, _naming().where(audit_log.c.subject == f"user:{name}"))
    before = _stated(connection, _naming().where(audit_log.c.action == BEGUN))
    return _gap(connection, user_events, rows, own[user_events.name], before[user_events.name])


def _first_gap(connection: Connection) -> Gap | None:
    stated, there = _stated(connection, _naming()), set(inspect(connection).get_table_names())
    for name, table in COVERED.items():
        if name not in there:
            continue
        if found := _gap(connection, table, select(table).order_by(table.c.id), stated[name]):
            return found
    return None


def _naming() -> Select[Any]:
    """The records that name rows, oldest first. A quotation mark inside a text is escaped: no text can look like it."""
    named = or_(audit_log.c.action == BEGUN, audit_log.c.detail.contains(f'"{COVERS}":', autoescape=True))
    return select(audit_log.c.seq, audit_log.c.detail).where(named).order_by(audit_log.c.seq)


def _stated(connection: Connection, query: Select[Any]) -> dict[str, dict[int, tuple[int, str]]]:
    """Table → id → (record, SHA-256). The first record that names a row is the one that was written with it."""
    found: dict[str, dict[int, tuple[int, str]]] = {name: {} for name in COVERED}
    rows: Sequence[Any] = connection.execute(query).all()
    for seq, detail in rows:
        for name, named in _rows_named(detail).items():
            for id_, sha256 in named.items() if name in found and isinstance(named, dict) else ():
                if id_.isdecimal():
                    found[name].setdefault(int(id_), (seq, str(sha256)))
    return found


def _rows_named(detail: str) -> Mapping[str, Any]:
    try:
        named = json.loads(detail)[COVERS]
    except (ValueError, TypeError, KeyError):  # damage of a record is the chain's to name
        return {}
    return named if isinstance(named, dict) else {}


def _gap(
    connection: Connection,
    table: Table,
    rows: Select[Any],
    stated: Mapping[int, tuple[int, str]],
    before: Mapping[int, tuple[int, str]] = MappingProxyType({}),
) -> Gap | None:
    """The first of these rows and of those that are stated. before: more records that may name the rows."""
    found = _digests(connection, table, rows)
    for id_ in sorted(found.keys() | stated.keys()):
        seq, sha256 = stated.get(id_) or before.get(id_) or (0, "")
        if not seq:
            return Gap(table.name, id_, "no record of the audit log covers it: it was written past Scoretrace")
        if id_ not in found:
            return Gap(table.name, id_, f"record {seq} of the audit log covers it, and it is gone")
        if found[id_] != sha256:
            return Gap(table.name, id_, f"it is not what record {seq} of the audit log covers: it has been changed")
    return None


def _digests(connection: Connection, table: Table, rows: Select[Any]) -> dict[int, str]:
    """Id → SHA-256 of each row; empty for one that cannot even be read, which is no row's hash."""
    try:
        return {row["id"]: digest(table, dict(row)) for row in connection.execute(rows).mappings()}
    except _UNREADABLE:
        pass
    found = dict[int, str]()
    ids: Sequence[int] = connection.scalars(rows.with_only_columns(table.c.id)).all()
    for id_ in ids:
        try:
            found[id_] = digest(table, dict(connection.execute(rows.where(table.c.id == id_)).mappings().one()))
        except _UNREADABLE:
            found[id_] = ""
    return found


def _plain(value: Any) -> Any:
    """A column's value as JSON says it. A figure that is no number (of a metric) is its name."""
    if isinstance(value, datetime):
        # SQLite keeps no zone, and the store is written in UTC.
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
