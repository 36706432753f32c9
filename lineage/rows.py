"""Which rows of the base tables are behind an output row of a query, or behind each of its columns."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import duckdb

from lineage.kept import Kept
from lineage.rowtrace.catalog import BaseTable, gather
from lineage.rowtrace.dates import with_dates, without_dates
from lineage.rowtrace.demand import key_constant
from lineage.rowtrace.expressions import FRAME_TIE, TIE
from lineage.rowtrace.parsing import Refusal
from lineage.rowtrace.plans import Plan, kept_plan, known_outputs, make_plan, resolved_query
from lineage.rowtrace.resolve import outputs
from pipeline.errors import NotFound, ScoretraceError
from pipeline.sql import ident, literal

WHOLE_TABLES = 1_000_000
"""Most rows that a superset may take when the key reaches none of a table's columns."""

_CONSTANT = re.compile(key_constant(0).replace("0", r"(\d+)"))
_TIES = {
    TIE: "LIMIT between rows that are equal in its ORDER BY",
    FRAME_TIE: "a window frame counted in rows over an ORDER BY that has equals",
}


class Refused(ScoretraceError):
    """A query whose rows cannot be told exactly.

    construct: what stands in the way, by name.
    superset: per base table the row ids among which all contributing rows are, or None where there is none to be had.
    """

    def __init__(self, construct: str, superset: dict[str, list[int]] | None = None) -> None:
        step = (
            "the superset holds every row that can be behind it, and others"
            if superset is not None
            else "trace the query in parts, or write it without this construct"
        )
        super().__init__(f"the rows behind this result cannot be told exactly: {construct}", step)
        self.construct = construct
        self.superset = superset


def contributing_rows(
    sql: str,
    key: Mapping[str, object],
    con: duckdb.DuckDBPyConnection,
    *,
    feature: str | None = None,
    kept: Kept | None = None,
) -> dict[str, list[int]]:
    """The base rows behind the output rows of ``sql`` whose columns equal ``key``, as sorted row ids per base table.

    sql: one SELECT, set operation or VALUES in DuckDB's SQL over tables and views of ``con``; views are traced down to
        their tables.
    key: output column → value; a value of None finds NULL. Several rows with the key give the union of their rows, and
        an empty key the rows of the whole result.
    feature: one output column. The result is then the rows behind that column's value alone.
    kept: where what is worked out of the text is kept for the next process; planning takes longer than asking.
    Returns every base table of the query, named as it is first written there (or in the view that reads it), without
    quotes; a table that has no row behind the result has an empty list, and so has every table where no output row
    has the key. A table read several times has the union.

    *Behind* is meant as in the lineage of Cui, Widom and Wiener (TODS 2000) and why-provenance: the rows that together
    witness the output row, operator by operator:

    - selection, projection: the row itself. Join: the rows that were joined, on each side that is not null-extended.
    - GROUP BY, aggregates: all rows of the group that pass WHERE. DISTINCT and UNION: all rows that gave the same
      output row. DISTINCT ON: all rows of the group that one was chosen from.
    - window functions: the rows of the frame; of the whole partition for row_number, rank, dense_rank, percent_rank,
      cume_dist and ntile, whose value depends on all of it; from the current row to the one looked at for lag and lead.
      So a row that ``row_number() … = 1`` chose has the rows it was chosen from behind it.
    - EXISTS, SEMI JOIN, IN, ANY: the rows that match. Scalar subquery and ALL: all rows of its result.
    - NOT EXISTS, NOT IN, ANTI JOIN, the null side of an outer join: nothing. An absence has no rows.
    - ORDER BY … LIMIT: the row itself; with OFFSET also the rows before it.

    What is not used by the output (a column of a CTE that nothing reads) has no rows behind it.

    With ``feature``, less is behind the value: aggregates count the rows that their own FILTER lets through, or the
    CASE in their argument (``sum(CASE WHEN c THEN x ELSE 0 END)``: the rows where ``c``); if none passes, all rows of
    the group, since "none" is said of all of them. CASE and COALESCE count their conditions and the branch taken. A
    left join that neither the column nor a condition reads is left out. WHERE and inner joins are behind every column.

    Promised, and held by tests, for a key that tells the output row from others: the query over only the returned rows
    gives the same row (with ``feature``: the same value), and deleting rows that were not returned leaves it as it is.
    Two exceptions to the second: an OFFSET, and an absence (anti join, NOT EXISTS, NOT IN, null-extended join) of
    something that is itself chosen by HAVING, a rank, a LIMIT or another absence, since deleting a row can make such a
    thing appear. *Changing* a row that was not returned leaves the output row as it is unless the row thereby comes
    to meet a condition, join, group, partition or frame that it did not meet (or, under LIMIT, comes before it).

    Raises Refused, naming the construct, for what cannot be exact: EXCEPT, INTERSECT, recursive CTEs, volatile and
    user-defined functions, macros, sampling, PIVOT, positional joins, files and table functions, COLUMNS(…), and a
    LIMIT or a frame counted in rows (lag and lead too) that cuts between equals. NotFound for a key or feature that is
    no output column.

    The key is pushed down as a filter through joins, groups, windows and CTEs by what must equal it, so the work
    follows the size of the account and not of the tables wherever the key is a grouping, partition or join column.
    """
    try:
        return _traced(sql, key, con, None if feature is None else (feature,), kept)[0]
    except Refusal as refusal:
        raise _refused(refusal.construct, sql, key, con) from refusal


def contributing_rows_by_column(
    sql: str,
    key: Mapping[str, object],
    con: duckdb.DuckDBPyConnection,
    columns: Iterable[str],
    *,
    kept: Kept | None = None,
) -> dict[str, dict[str, list[int]]]:
    """For each of ``columns`` what ``contributing_rows`` gives for it as ``feature``, in one query over the tables.

    Raises what the first of the columns that has an error raises alone. Where an error comes up, the columns are asked
    one by one, so that what stands in the way of one column is not said of another.
    """
    wanted = tuple(dict.fromkeys(columns))
    if not wanted:
        return {}
    try:
        return dict(zip(wanted, _traced(sql, key, con, wanted, kept), strict=True))
    except Refusal:
        return {column: contributing_rows(sql, key, con, feature=column) for column in wanted}


def narrowed_to_key(
    sql: str,
    key: Mapping[str, object],
    con: duckdb.DuckDBPyConnection,
    columns: Iterable[str] | None = None,
    *,
    kept: Kept | None = None,
) -> tuple[tuple[str, frozenset[str]], ...]:
    """Per place where the tables are read: the base table, and its columns that must equal a value of the key there.

    The rows of a table with such a column equal to the key's value are then all that the question can reach: asked over
    them alone, with their row ids kept in a column called rowid, it has the same answer. Arguments and errors as
    ``contributing_rows_by_column``, a refusal without its superset; without columns, for the whole output row.
    """
    try:
        plan, _, _ = _planned(sql, key, con, None if columns is None else tuple(dict.fromkeys(columns)), kept)
    except Refusal as refusal:
        raise Refused(refusal.construct) from refusal
    return tuple((plan.tables[table], frozenset(names)) for table, names in plan.reads)


def _planned(
    sql: str,
    key: Mapping[str, object],
    con: duckdb.DuckDBPyConnection,
    features: tuple[str, ...] | None,
    kept: Kept | None,
) -> tuple[Plan, dict[str, object], dict[str, str]]:
    """The plan, the key by the query's own names, and the dates that the plan leaves open. Raises Refusal."""
    undated, dates = without_dates(sql)
    facts = gather(con, undated, kept)
    if facts.refused:
        raise Refusal(facts.refused[0][1])
    known = known_outputs(undated, facts, kept)
    key = {_output(name, known, sql, con): value for name, value in key.items()}
    asked = tuple(_output(f, known, sql, con) for f in features) if features is not None else None
    return kept_plan(undated, tuple(key), tuple(v is None for v in key.values()), asked, facts, kept), key, dates


def _traced(
    sql: str,
    key: Mapping[str, object],
    con: duckdb.DuckDBPyConnection,
    features: tuple[str, ...] | None,
    kept: Kept | None,
) -> list[dict[str, list[int]]]:
    """The rows behind each feature, or behind the whole output row. Raises Refusal for what is not exact."""
    plan, key, dates = _planned(sql, key, con, features, kept)
    values = _values(plan, sql, key, con)
    try:
        found = con.execute(_filled(with_dates(plan.sql, dates), values)).fetchall()
    except duckdb.Error as error:
        _require_query(sql, con)
        line = str(error).splitlines()[0]
        raise Refusal(f"a combination that DuckDB cannot annotate ({line})") from error
    lists: list[dict[str, list[int]]] = [{name: [] for name in plan.tables} for _ in range(plan.lists)]
    for number, table, ids in found:
        if table < 0:
            raise Refusal(_TIES[table])
        lists[number][plan.tables[table]] = ids
    return [{table: list(ids) for table, ids in lists[number].items()} for number in plan.numbers]


def _output(name: str, known: list[str], sql: str, con: duckdb.DuckDBPyConnection) -> str:
    """The resolved query's name of an output column; one without an alias is called as DuckDB calls it."""
    if name.lower() in known:
        return name.lower()
    called = [str(row[0]) for row in con.execute(f"DESCRIBE {sql.strip().rstrip(';')}").fetchall()]
    if name.lower() in [c.lower() for c in called] and len(called) == len(known):
        return known[[c.lower() for c in called].index(name.lower())]
    raise NotFound(
        f"the query has no output column {name!r}",
        f"it has {', '.join(called[:20])}{', …' if len(called) > 20 else ''}",
    )


def _values(plan: Plan, sql: str, key: Mapping[str, object], con: duckdb.DuckDBPyConnection) -> list[str]:
    """The key's values as SQL, of the output columns' own types."""
    if any(kind is None for kind in plan.types):
        described = con.execute(f"DESCRIBE {sql.strip().rstrip(';')}").fetchall()
        kinds = {name: str(row[1]) for name, row in zip(plan.outputs, described, strict=False)}
        plan.types = [kind or kinds.get(name) for kind, name in zip(plan.types, key, strict=True)]
    values = [sql_value(v, kind) for v, kind in zip(key.values(), plan.types, strict=True)]
    for name, value in zip(key, values, strict=True):
        try:
            con.execute(f"SELECT {value}")
        except duckdb.Error as error:
            raise NotFound(
                f"no row can have {name} = {key[name]!r}: {str(error).splitlines()[0]}",
                "give the key's value as the column's own type",
            ) from error
    return values


def sql_value(value: object, kind: str | None) -> str:
    """One key value as a SQL literal of the column's type."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        text = literal(value)
    elif isinstance(value, int):
        text = literal(value)
        if kind == "INTEGER":
            return text
    elif isinstance(value, float):
        text = literal(repr(value))
        return f"CAST({text} AS {kind if kind in ('FLOAT', 'DOUBLE') else 'DOUBLE'})"
    elif isinstance(value, datetime | time | timedelta | UUID):
        text = literal(str(value))
    elif isinstance(value, Decimal | date | str):
        text = literal(value)
    elif isinstance(value, bytes):
        text = f"from_hex({literal(value.hex())})"
    else:
        raise TypeError(f"a key value cannot be of type {type(value).__name__}")
    return f"CAST({text} AS {'BIGINT' if kind == 'INTEGER' else kind})" if kind else text


def _filled(sql: str, values: list[str]) -> str:
    """The plan's SQL with the key's values in their places, in one pass: a value is never looked into."""
    return re.sub(_CONSTANT, lambda found: values[int(found[1])], sql)


def _require_query(sql: str, con: duckdb.DuckDBPyConnection) -> None:
    """Raise Refused without a superset when the query itself does not run."""
    try:
        con.execute(f"EXPLAIN {sql}")
    except duckdb.Error as error:
        raise Refused(f"a query that DuckDB cannot run ({str(error).splitlines()[0]})") from error


def _refused(construct: str, sql: str, key: Mapping[str, object], con: duckdb.DuckDBPyConnection) -> Refused:
    """The error for a construct. Superset: the rows that the key reaches, or whole tables while they are small."""
    try:
        facts = gather(con, sql)
    except Refusal:
        return Refused(construct)
    if any("macro" in why for _, why in facts.refused):
        return Refused(construct)
    wanted: list[tuple[str, BaseTable, str]]
    try:
        known = outputs(resolved_query(sql, facts).root)
        with suppress(NotFound):
            key = {_output(name, known, sql, con): value for name, value in key.items()}
        plan = make_plan(sql, tuple(key), tuple(v is None for v in key.values()), None, facts, loose=True)
        resolved = resolved_query(sql, facts)
        values = _values(plan, sql, key, con)
        tables = list(resolved.tables.values())
        wanted = []
        assert plan.built is not None
        for leaf in plan.built.leaves:
            filters = [
                f"{ident(c)} IS NULL" if values[k] == "NULL" else f"{ident(c)} = {values[k]}"
                for c, k in sorted(leaf.known)
            ]
            wanted.append((plan.tables[leaf.table], tables[leaf.table], " AND ".join(filters)))
    except (Refusal, duckdb.Error):
        if "table function" in construct or "no table or view" in construct:
            return Refused(construct)
        wanted = [(t.name, t, "") for t in facts.tables]
    superset: dict[str, set[int]] = {}
    for name, table, condition in wanted:
        where = f" WHERE {condition}" if condition else ""
        place = ident(table.database, table.schema, table.name)
        if not where and _count(con, place) > WHOLE_TABLES:
            return Refused(construct)
        ids = con.execute(f"SELECT rowid FROM {place}{where}").fetchall()
        superset.setdefault(name, set()).update(i for (i,) in ids)
    return Refused(construct, {name: sorted(ids) for name, ids in superset.items()} if wanted else None)


def _count(con: duckdb.DuckDBPyConnection, place: str) -> int:
    row = con.execute(f"SELECT count(*) FROM {place}").fetchone()
    return int(row[0]) if row else 0
