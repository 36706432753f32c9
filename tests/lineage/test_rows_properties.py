"""What is promised of the rows behind a result, on small random tables and every construct.

Sufficient: the query over only the returned rows gives the same output row. Irrelevant: rows that were not returned can
be deleted, in any choice, and the output row stays. The same for the value of one feature. And rows that were not
returned can be changed in what no condition reads, while a change to the returned ones shows.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lineage.rows import Refused, contributing_rows, contributing_rows_by_column

Row = tuple[Any, ...]

# Two tables of an account's rows and one of accounts; ids repeat, are missing and are NULL, and so are the values.
TABLES = {
    "a": "id INT, v INT, g VARCHAR, w INT",
    "s": "r INT, id INT, m INT, bal INT, w INT",
    "e": "id INT, m INT, k INT",
}
VIEWS = """
    CREATE VIEW va AS SELECT id, v * 2 AS w FROM a WHERE v > 1;
    CREATE VIEW vb(id, w, n) AS WITH c AS (SELECT * FROM va)
        SELECT c.id, max(c.w), count(s.r) FROM c LEFT JOIN s ON s.id = c.id GROUP BY c.id;
"""

# Rows that are equal in a LIMIT's or a ROWS frame's order are refused, which is right: those draws say nothing.
QUERIES = [
    "select id, v, g from a where v > 2",
    "select a.id, s.m, s.bal from a join s on a.id = s.id",
    "select a.id, s.m, s.bal from a left join s on a.id = s.id and s.bal > 2",
    "select a.id, s.bal, s.m from a right join s on a.id = s.id",
    "select id, v, bal from a full join s using (id)",
    (
        "select coalesce(a.id, s.id) as id, sum(bal) t, max(v) x, count(*) n from a full join s on a.id = s.id "
        "group by all"
    ),
    "select id, a.v, s.bal, e.k from a full join s using (id) full join e using (id)",
    "select a.id, s.bal, e.k from a left join s using (id) left join e on e.id = s.id and e.m = s.m",
    (
        "select id, sum(bal) s, count(*) n, count(*) filter (where m = 2) f, sum(case when m > 1 then bal else 0 "
        "end) c, max(case when bal > 2 then m end) x from s group by id"
    ),
    "select g, count(*) n, sum(v) t from a group by 1 having count(*) > 1",
    "select a.g, sum(s.bal) t, count(distinct s.m) d, max(a.v) x from a join s on a.id = s.id group by a.g",
    (
        "select a.g, sum(a.v) t, count(s.bal) c, sum(case when s.m = 1 then s.bal end) z from a left join s on "
        "a.id = s.id group by a.g"
    ),
    "select distinct g from a",
    "select distinct a.g, s.m from a join s using (id)",
    "select id from a union select id from s",
    "select id, m from s union all select id, m from e",
    "select id, m from s union all by name select m, id, k from e",
    "select distinct on (id) id, m, bal from s order by id, m desc, bal, r",
    "select id, m, bal, row_number() over (partition by id order by m, bal, r) n from s",
    "select id, m, r, lag(bal) over (partition by id order by m, r) n from s",
    "select id, m, r, lead(bal, 2) over (partition by id order by m, r) n from s",
    (
        "select id, m, r, sum(bal) over (partition by id order by m) n, first_value(bal) over (partition by id "
        "order by m, r) f from s"
    ),
    (
        "select id, m, r, sum(bal) over (partition by id order by m, r rows between 1 preceding and 1 following) "
        "n from s"
    ),
    "select id, m, r, sum(bal) over (order by m, r rows between 2 preceding and current row) n from s",
    "select r, rank() over (order by bal) n from s",
    "select r, avg(bal) filter (where m = 1) over (partition by id) n from s",
    (
        "select id, m, bal from (select *, row_number() over (partition by id order by m desc, r) rn from s) "
        "where rn = 1"
    ),
    "select id, m, bal from s qualify row_number() over (partition by id, m order by r desc) = 1",
    "select id from (select *, row_number() over (partition by r order by m) rn from s) where rn = 1",
    (
        "select id, m from (select *, row_number() over (partition by m order by r) rn from s where bal is not "
        "null) where rn <= 2"
    ),
    "select id, v from a where exists (select 1 from s where s.id = a.id and s.bal > 2)",
    "select id, v from a where not exists (select 1 from s where s.id = a.id and s.bal > 2)",
    "select id, v from a where id in (select id from s where m = 2)",
    "select id, v from a where id not in (select id from s where m = 2 and id is not null)",
    "select id, v, id in (select id from s where m = 2) f from a",
    "select id, v from a where v > 3 or id in (select id from s where m = 2)",
    "select id, (select sum(bal) from s where s.id = a.id) t from a",
    "select id, (select max(bal) from s) t, v from a",
    "select id from a where v > (select avg(bal) from s where s.id = a.id)",
    "select a.id, v from a semi join s on a.id = s.id and s.m = 1",
    "select id, v from a anti join s using (id)",
    (
        "with x as (select id, sum(bal) t from s group by id), y as (select a.id, a.v, x.t from a left join x on "
        "a.id = x.id) select y.id, y.v, z.t from y join y z on y.id = z.id"
    ),
    (
        "with x as materialized (select id, m, max(bal) b from s group by id, m), m1 as (select id, b from x "
        "where m = 1), m2 as (select id, b from x where m = 2) select a.id, m1.b b1, m2.b b2, case when a.v > 3 "
        "then m1.b else m2.b end c, coalesce(m1.b, m2.b) d from a left join m1 on a.id = m1.id left join m2 on "
        "a.id = m2.id"
    ),
    "select id, m from s order by m, r limit 3",
    "select id, r from s order by r desc limit 4",
    "select sum(bal) t, count(*) n from s",
    "select count(*) filter (where bal > 3) c, sum(case when m = 1 then bal else 0 end) d from s",
    "select a.id, b.id as other from a join a b on a.g = b.g and a.id <> b.id",
    "select a.id, l.t from a, lateral (select sum(bal) t from s where s.id = a.id) l",
    "select id, u.x from a, (values (1),(2)) u(x) where a.v > u.x",
    "select id, unnest([v, 7]) q from a",
    "select g, m, count(*) n from a join s using (id) group by rollup (g, m)",
    "select g, sum(v) t, rank() over (order by sum(v) desc, g) k from a group by g",
    "select id, t from (select id, sum(bal) t from s group by id) where t > 3",
    "select id, m, bal, k from s join e using (id, m)",
    "select va.id, va.w from va",
    "select va.id, s.bal from va left join s on va.id = s.id",
    "select id, w, n from vb",
    "select id, v from a where v = any (select bal from s)",
    "select id, v from a where v >= all (select bal from s where s.id = a.id and bal is not null)",
    "select s.id, s.m, e.k from s asof left join e on s.id = e.id and s.m >= e.m",
    (
        "with t as (select id, case when max(m) = 2 then 0 else 1 end anchor from s group by id) select t.id, "
        "case when t.anchor = 0 then s1.bal else s2.bal end b from t left join (select id, sum(bal) bal from s "
        "where m = 1 group by id) s1 on t.id = s1.id left join (select id, sum(bal) bal from s where m = 2 group "
        "by id) s2 on t.id = s2.id"
    ),
    "select id, (select count(*) from s where s.id = a.id and s.m in (select m from e where e.id = a.id)) c from a",
    "select g, (select max(bal) from s where s.m = length(a.g)) c, count(*) n from a group by g",
    "select g, sum((select max(bal) from s where s.id = a.id)) c from a group by g",
    "select id, m, sum(bal) t, sum(sum(bal)) over (partition by id order by m) run from s group by id, m",
]

# Columns named w are read as values alone, never by a condition.
VALUE_QUERIES = [
    "select id, sum(w) t from s group by id",
    "select id, sum(w) filter (where m = 1) t from s group by id",
    "select a.id, s.w t from a join s using (id) where s.m = 2",
    "select id, m, r, sum(w) over (partition by id order by m, r) t from s",
    "select id, (select max(w) from s where s.id = a.id) t from a",
    "with x as (select id, sum(w) t from s group by id) select a.id, x.t, a.w from a left join x on a.id = x.id",
    "select id, sum(w) t from (select id, w from s union all select id, w from a) group by id",
    "select id, w as t from (select *, row_number() over (partition by id order by m desc, r) n from s) where n = 1",
]

ids = st.sampled_from([1, 2, 3, None])
small = st.sampled_from([1, 2, 3])
value = st.sampled_from([1, 2, 3, 4, 5, None])
books = st.fixed_dictionaries(
    {
        "a": st.lists(st.tuples(ids, value, st.sampled_from(["x", "y", "zz", None]), small), min_size=1, max_size=5),
        "s": st.lists(st.tuples(ids, small, value, small), min_size=2, max_size=8).map(
            lambda rows: [(i, *r) for i, r in enumerate(rows)]
        ),
        "e": st.lists(st.tuples(ids, small, value), max_size=4),
    }
)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute("SET threads = 1; CREATE SCHEMA part")
        for schema in ("main", "part"):
            load(con, schema, {table: [] for table in TABLES})
            con.execute(VIEWS)
        yield con


def load(con: duckdb.DuckDBPyConnection, schema: str, book: dict[str, list[Row]]) -> None:
    """Make the tables of one schema anew and use it."""

    def text(value: Any) -> str:
        return "NULL" if value is None else repr(value)

    statements = [f"USE {schema}"]
    for table, rows in book.items():
        statements.append(f"CREATE OR REPLACE TABLE {table} ({TABLES[table]})")
        if rows:
            values = ", ".join(f"({', '.join(map(text, row))})" for row in rows)
            statements.append(f"INSERT INTO {table} VALUES {values}")
    con.execute("; ".join(statements))


def output(con: duckdb.DuckDBPyConnection, sql: str, key: dict[str, Any], columns: list[str]) -> Counter[str]:
    """The output rows with the key, each with how often it comes; floats and lists by their text."""
    chosen = ", ".join(f'"{c}"' for c in columns)
    same = " AND ".join(f'"{c}" IS NOT DISTINCT FROM ?' for c in key)
    return Counter(map(repr, con.execute(f"SELECT {chosen} FROM ({sql}) WHERE {same}", list(key.values())).fetchall()))


def kept(book: dict[str, list[Row]], rows: dict[str, list[int]], also: random.Random | None) -> dict[str, list[Row]]:
    """The returned rows, and with ``also`` any choice of the others. A row's id here is its place."""
    return {
        table: [
            row
            for place, row in enumerate(all_rows)
            if place in rows.get(table, []) or (also is not None and also.random() < 0.5)
        ]
        for table, all_rows in book.items()
    }


@pytest.mark.parametrize("sql", QUERIES)
@settings(max_examples=5, suppress_health_check=list(HealthCheck))
@given(book=books, choice=st.randoms(use_true_random=False))
def test_the_returned_rows_suffice_and_the_others_do_not_matter(
    con: duckdb.DuckDBPyConnection, sql: str, book: dict[str, list[Row]], choice: random.Random
) -> None:
    load(con, "main", book)
    result = con.execute(sql)
    columns = [d[0] for d in result.description or []]
    rows = result.fetchall()
    if not rows:
        return
    row = choice.choice(rows)
    key = dict(zip(columns, row, strict=True))
    for feature in (None, choice.choice(columns)):
        if feature is not None:
            key = {c: key[c] for c in columns if c != feature or len(columns) == 1}
        shown = columns if feature is None else [feature]
        con.execute("USE main")
        before = output(con, sql, key, shown)
        try:
            behind = contributing_rows(sql, key, con, feature=feature)
        except Refused as refusal:
            assert "equal" in refusal.construct
            return
        for also in (None, choice, choice):
            load(con, "part", kept(book, behind, also))
            after = output(con, sql, key, shown)
            # Deleting can make other rows come to have the same key: they are not the row that was traced.
            assert before.keys() <= after.keys() if feature else before <= after


@pytest.mark.parametrize("sql", QUERIES + VALUE_QUERIES)
@settings(max_examples=4, suppress_health_check=list(HealthCheck))
@given(book=books, choice=st.randoms(use_true_random=False))
def test_many_columns_at_once_have_the_rows_of_each_alone(
    con: duckdb.DuckDBPyConnection, sql: str, book: dict[str, list[Row]], choice: random.Random
) -> None:
    load(con, "main", book)
    result = con.execute(sql)
    columns = [d[0] for d in result.description or []]
    rows = result.fetchall()
    if not rows:
        return
    row = dict(zip(columns, choice.choice(rows), strict=True))
    key = {c: row[c] for c in choice.sample(columns, choice.randint(0, len(columns)))}
    refused = None
    alone = {}
    for column in columns:
        try:
            alone[column] = contributing_rows(sql, key, con, feature=column)
        except Refused as refusal:
            refused = refused or str(refusal)
    try:
        assert contributing_rows_by_column(sql, key, con, columns) == alone
        assert refused is None
    except Refused as refusal:
        assert str(refusal) == refused


@pytest.mark.parametrize("sql", VALUE_QUERIES)
@settings(max_examples=6, suppress_health_check=list(HealthCheck))
@given(book=books, choice=st.randoms(use_true_random=False))
def test_changing_other_rows_changes_nothing_and_changing_these_shows(
    con: duckdb.DuckDBPyConnection, sql: str, book: dict[str, list[Row]], choice: random.Random
) -> None:
    load(con, "main", book)
    rows = con.execute(f"SELECT * EXCLUDE (t), t FROM ({sql}) WHERE t IS NOT NULL").fetchall()
    columns = [d[0] for d in con.description or []]
    if not rows:
        return
    key = dict(zip(columns, choice.choice(rows), strict=True))
    value = key.pop("t")
    behind = contributing_rows(sql, key, con, feature="t")

    def changed(*, theirs: bool) -> dict[str, list[Row]]:
        return {
            table: [
                (*row[:-1], row[-1] + 1000) if table != "e" and (place in behind.get(table, [])) == theirs else row
                for place, row in enumerate(all_rows)
            ]
            for table, all_rows in book.items()
        }

    found = repr((value,))
    key.pop("w", None)
    load(con, "part", changed(theirs=False))
    assert found in output(con, sql, key, ["t"])
    before = output(con, sql, key, ["t"])
    load(con, "part", changed(theirs=True))
    assert output(con, sql, key, ["t"]) != before
