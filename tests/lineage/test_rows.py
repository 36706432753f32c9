"""Rows behind a result, known by hand for every construct; what is refused, and how; how far the key reaches."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest

from lineage.rows import Refused, contributing_rows, contributing_rows_by_column, narrowed_to_key
from pipeline import archive, lake, ledger
from pipeline.config import Settings
from pipeline.errors import NotFound
from tests.conftest import FIRST


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute(
            """
            -- rowid 0..4
            CREATE TABLE account AS SELECT * FROM (VALUES
                (1, 10, 'x'), (2, 20, 'y'), (3, 30, 'x'), (4, NULL, 'z'), (NULL, 5, 'n')) t(id, v, g);
            -- rowid 0..4
            CREATE TABLE pay AS SELECT * FROM (VALUES
                (1, 1, 5.0), (1, 2, 7.0), (2, 1, 1.0), (9, 1, 9.0), (1, 3, NULL)) t(id, n, amt);
            CREATE VIEW big AS SELECT id, v * 2 AS w FROM account WHERE v > 5;
            CREATE VIEW joined AS SELECT big.id, pay.amt FROM big JOIN pay USING (id);
            CREATE VIEW summed(i, total) AS WITH j AS (SELECT * FROM joined) SELECT id, sum(amt) FROM j GROUP BY id;
            CREATE SCHEMA raw;
            CREATE TABLE raw."Odd Name" AS SELECT * FROM (VALUES (1, 5), (2, 6), (1, 7)) t("Id", "the value");
            CREATE TABLE typed AS SELECT DATE '2026-01-01' AS day, TIMESTAMP '2026-01-01 10:00:00' AS at,
                1.50::DECIMAL(9, 2) AS money, 0.1::DOUBLE AS rate, TRUE AS flag, 'o''x' AS text,
                '00000000-0000-0000-0000-000000000001'::UUID AS uid;
            CREATE MACRO plus_one(a) AS a + 1;
            CREATE MACRO one_row(a) AS TABLE SELECT a;
            """
        )
        con.create_function("from_python", lambda n: n, ["BIGINT"], "BIGINT")
        yield con


KNOWN = {
    # selection, keys
    "SELECT * FROM account WHERE v > 5 | id=2": "account 1",
    "SELECT * FROM account WHERE v > 5 | id=77": "account",
    "SELECT * FROM account | id=None": "account 4",
    "SELECT id, v FROM account | id=4 v=None": "account 3",
    "FROM pay SELECT id, amt WHERE n = 1 | id=9": "pay 3",
    "SELECT id + 1 AS next FROM account | next=3": "account 1",
    'SELECT "Id", sum("the value") AS s FROM raw."Odd Name" GROUP BY "Id" | Id=1': "raw.Odd Name 0 2",
    'SELECT o."Id" FROM memory.raw."Odd Name" AS o | id=2': "memory.raw.Odd Name 1",
    "SELECT count(*) FROM account | count_star()=5": "account 0 1 2 3 4",
    "VALUES (1, 2), (3, 4) | col0=1": "",
    "SELECT account.id, x FROM account, (VALUES (1), (2)) t(x) | id=3 x=1": "account 2",
    "SELECT id, unnest([1, 2]) AS x FROM account | id=3 x=2": "account 2",
    "SELECT a.id FROM range(3) r(i) JOIN account a ON a.id = r.i | id=2": "account 1",
    "SELECT id, {'n': n, 'l': [n, 2]} AS s FROM pay | id=2": "pay 2",
    # joins
    "SELECT a.id, amt FROM account a JOIN pay p ON a.id = p.id | id=1": "account 0; pay 0 1 4",
    "SELECT id, amt FROM account LEFT JOIN pay USING (id) | id=3": "account 2; pay",
    "SELECT id, amt FROM account RIGHT JOIN pay USING (id) | id=9": "account; pay 3",
    "SELECT id, v, amt FROM account FULL JOIN pay USING (id) | id=9": "account; pay 3",
    "SELECT id, v, amt FROM account FULL JOIN pay USING (id) | id=4": "account 3; pay",
    "SELECT a.id, p.n FROM account a CROSS JOIN pay p | id=1 n=2": "account 0; pay 1",
    "SELECT a.id, p.n FROM account a, pay p WHERE p.id = a.id | id=2": "account 1; pay 2",
    "SELECT a.id, b.id AS other FROM account a JOIN account b ON a.g = b.g | id=1": "account 0 2",
    "SELECT id FROM account SEMI JOIN pay USING (id) | id=1": "account 0; pay 0 1 4",
    "SELECT id FROM account ANTI JOIN pay USING (id) | id=3": "account 2; pay",
    "SELECT id, v FROM account NATURAL JOIN pay | id=2": "account 1; pay 2",
    "SELECT a.id, b.n FROM account a ASOF JOIN pay b ON a.id = b.id AND a.v / 4 >= b.n | id=1": "account 0; pay 1",
    "SELECT a.id, l.t FROM account a, LATERAL (SELECT sum(amt) t FROM pay p WHERE p.id = a.id) l | id=1": (
        "account 0; pay 0 1 4"
    ),
    # subqueries
    "SELECT id FROM account a WHERE EXISTS (SELECT 1 FROM pay p WHERE p.id = a.id AND n > 1) | id=1": (
        "account 0; pay 1 4"
    ),
    "SELECT id FROM account a WHERE NOT EXISTS (SELECT 1 FROM pay p WHERE p.id = a.id AND n > 1) | id=2": (
        "account 1; pay"
    ),
    "SELECT id FROM account WHERE id IN (SELECT id FROM pay WHERE n > 1) | id=1": "account 0; pay 1 4",
    "SELECT id FROM account WHERE id NOT IN (SELECT id FROM pay WHERE n > 1) | id=2": "account 1; pay",
    "SELECT id FROM account WHERE (id, v) IN (SELECT id, n * 10 FROM pay) | id=1": "account 0; pay 0",
    "SELECT id, id IN (SELECT id FROM pay) AS paid FROM account | id=2": "account 1; pay 2",
    "SELECT id, id IN (SELECT id FROM pay) AS paid FROM account | id=3": "account 2; pay",
    "SELECT id, NOT EXISTS (SELECT 1 FROM pay p WHERE p.id = a.id) AS none FROM account a | id=2": "account 1; pay 2",
    "SELECT id, (SELECT max(amt) FROM pay p WHERE p.id = a.id) AS m FROM account a | id=1": "account 0; pay 0 1 4",
    "SELECT id, (SELECT max(n) FROM pay) AS m FROM account | id=1": "account 0; pay 0 1 2 3 4",
    "SELECT id FROM account WHERE id = ANY (SELECT id FROM pay WHERE n = 1) | id=2": "account 1; pay 2",
    "SELECT id FROM account a WHERE v > ALL (SELECT amt FROM pay p WHERE p.id = a.id AND amt > 0) | id=1": (
        "account 0; pay 0 1"
    ),
    # CTEs, derived tables, views
    "WITH c AS (SELECT id, v FROM account), d AS MATERIALIZED (WITH e AS (SELECT * FROM c) SELECT * FROM e) "
    "SELECT d.id, c.v FROM d JOIN c USING (id) | id=1": "account 0",
    "WITH s AS (SELECT id, sum(amt) AS t FROM pay GROUP BY 1), j AS (SELECT a.id, s.t FROM account a "
    "LEFT JOIN s ON a.id = s.id) SELECT j.id, k.t FROM j JOIN j AS k USING (id) | id=1": "account 0; pay 0 1 4",
    "WITH pay AS (SELECT * FROM pay WHERE n = 1) SELECT id FROM pay | id=1": "pay 0",
    "SELECT * FROM (SELECT id, v FROM (SELECT * FROM account WHERE v > 15)) t | id=3": "account 2",
    "SELECT id, w FROM big | id=2": "account 1",
    "SELECT i, total FROM summed | i=1": "account 0; pay 0 1 4",
    # groups
    "SELECT id, sum(amt) AS s FROM pay GROUP BY id | id=1": "pay 0 1 4",
    "SELECT id % 2 AS odd, count(*) AS n FROM pay GROUP BY id % 2 | odd=0": "pay 2",
    "SELECT g, id, count(*) AS n FROM account GROUP BY ALL | g=x id=3": "account 2",
    "SELECT g AS label, count(*) AS n FROM account GROUP BY label | label=x": "account 0 2",
    "SELECT g, count(*) AS n FROM account GROUP BY 1 HAVING count(*) > 1 | g=x": "account 0 2",
    "SELECT g, count(*) AS n FROM account GROUP BY 1 HAVING count(*) > 1 | g=y": "account",
    "SELECT id, count(*) FILTER (WHERE n = 2) AS c FROM pay GROUP BY id | id=1": "pay 0 1 4",
    "SELECT sum(v) AS s FROM account WHERE g = 'x' | s=40": "account 0 2",
    "SELECT g, sum(v) AS s FROM account GROUP BY g HAVING sum(v) > (SELECT avg(amt) FROM pay) | g=x": (
        "account 0 2; pay 0 1 2 3 4"
    ),
    "SELECT g, id, count(*) AS n FROM account GROUP BY GROUPING SETS ((g), (id), ()) | g=x": "account 0 2",
    # distinct, set operations
    "SELECT DISTINCT g FROM account | g=x": "account 0 2",
    "SELECT DISTINCT ON (g) g, id FROM account ORDER BY g, id DESC | g=x": "account 0 2",
    "SELECT id FROM account UNION SELECT id FROM pay | id=1": "account 0; pay 0 1 4",
    "SELECT id FROM account UNION ALL SELECT id FROM pay | id=2": "account 1; pay 2",
    "SELECT id FROM account UNION ALL BY NAME SELECT n, id FROM pay | id=2 n=1": "account; pay 2",
    # windows
    "SELECT id, n, row_number() OVER (PARTITION BY id ORDER BY n) AS r FROM pay | id=1 r=1": "pay 0 1 4",
    "SELECT id, amt FROM pay QUALIFY row_number() OVER (PARTITION BY id ORDER BY n DESC) = 1 | id=1": "pay 0 1 4",
    "SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY id, n ORDER BY amt) r FROM pay) WHERE r = 1 | id=2": (
        "pay 2"
    ),
    "SELECT id, n, lag(amt) OVER (PARTITION BY id ORDER BY n) AS l FROM pay | id=1 n=3": "pay 1 4",
    "SELECT id, n, lead(amt, 2) OVER (PARTITION BY id ORDER BY n) AS l FROM pay | id=1 n=1": "pay 0 1 4",
    "SELECT id, n, lead(amt) OVER (PARTITION BY id ORDER BY n) AS l FROM pay | id=1 n=3": "pay 4",
    "SELECT id, n, sum(amt) OVER (PARTITION BY id ORDER BY n) AS s FROM pay | id=1 n=2": "pay 0 1",
    "SELECT id, n, sum(amt) OVER w AS s FROM pay WINDOW w AS (PARTITION BY id) | id=1 n=2": "pay 0 1 4",
    "SELECT id, n, sum(amt) OVER (PARTITION BY id ORDER BY n ROWS 1 PRECEDING) AS s FROM pay | id=1 n=3": "pay 1 4",
    "SELECT id, n, first_value(amt) OVER (PARTITION BY id ORDER BY n) AS f FROM pay | id=1 n=2": "pay 0 1",
    "SELECT id, n, last_value(amt) OVER (PARTITION BY id ORDER BY n) AS f FROM pay | id=1 n=2": "pay 0 1",
    "SELECT id, n, sum(amt) OVER (ORDER BY n, id) AS s FROM pay | id=2 n=1": "pay 0 2",
    "SELECT id, n, sum(amt) OVER (ORDER BY n, id ROWS 1 PRECEDING) AS s FROM pay | id=1 n=2": "pay 1 3",
    "SELECT id, ntile(2) OVER (ORDER BY id) AS half FROM account | id=1": "account 0 1 2 3 4",
    "SELECT g, rank() OVER (ORDER BY sum(v) DESC) AS r FROM account GROUP BY g | g=y": "account 0 1 2 3 4",
    "SELECT id, n, sum(sum(amt)) OVER (PARTITION BY id ORDER BY n) AS s FROM pay GROUP BY id, n | id=1 n=2": "pay 0 1",
    # order and limit
    "SELECT id, v FROM account ORDER BY v LIMIT 2 | id=1": "account 0",
    "SELECT id, v FROM account ORDER BY v LIMIT 2 | id=2": "account",
    "SELECT g FROM account ORDER BY g LIMIT 1 | g=n": "account 4",
    "SELECT id FROM account ORDER BY id NULLS FIRST LIMIT 2 OFFSET 1 | id=1": "account 0 4",
    "SELECT id, sum(amt) AS s FROM pay GROUP BY id ORDER BY s DESC LIMIT 1 | id=1": "pay 0 1 4",
    "SELECT id FROM account LIMIT 20 | id=1": "account 0",
    "SELECT a.id, p.amt FROM account a LEFT JOIN LATERAL (SELECT amt FROM pay p WHERE p.id = a.id ORDER BY n LIMIT 1)"
    " p ON TRUE | id=1": "account 0; pay 0",
}

FEATURES = {
    "SELECT id, count(*) FILTER (WHERE n = 2) AS c, sum(amt) AS s FROM pay GROUP BY id | id=1 | c": "pay 1",
    "SELECT id, count(*) FILTER (WHERE n = 2) AS c, sum(amt) AS s FROM pay GROUP BY id | id=1 | s": "pay 0 1 4",
    "SELECT id, count(*) FILTER (WHERE n = 2) AS c, sum(amt) AS s FROM pay GROUP BY id | id=1 | id": "pay 0 1 4",
    # None passes: that is said of the whole group.
    "SELECT id, count(*) FILTER (WHERE n = 2) AS c FROM pay GROUP BY id | id=2 | c": "pay 2",
    "SELECT id, sum(CASE WHEN n < 3 THEN amt ELSE 0 END) AS c FROM pay GROUP BY id | id=1 | c": "pay 0 1",
    "SELECT id, max(CASE WHEN n = 2 THEN amt END) AS c FROM pay GROUP BY id | id=1 | c": "pay 1",
    "SELECT id, max(CASE WHEN n = 2 THEN amt ELSE 0 END) AS c FROM pay GROUP BY id | id=1 | c": "pay 0 1 4",
    "SELECT id, count_if(n > 1) AS c FROM pay GROUP BY id | id=1 | c": "pay 1 4",
    "SELECT id, sum(if(n > 1, 1, 0)) AS c FROM pay GROUP BY id | id=1 | c": "pay 1 4",
    "SELECT id, count(DISTINCT CASE WHEN n > 1 THEN amt END) AS c FROM pay GROUP BY id | id=1 | c": "pay 1 4",
    "SELECT id, sum(amt) FILTER (WHERE n = 1) + count(*) FILTER (WHERE n = 2) AS c FROM pay GROUP BY id | id=1 | c": (
        "pay 0 1"
    ),
    "SELECT a.id, a.v, p.amt FROM account a LEFT JOIN pay p USING (id) | id=1 | v": "account 0; pay",
    "SELECT a.id, a.v, p.amt FROM account a LEFT JOIN pay p USING (id) | id=1 | amt": "account 0; pay 0 1 4",
    "SELECT a.id, a.v, p.amt FROM account a JOIN pay p USING (id) | id=1 | v": "account 0; pay 0 1 4",
    # A left join that multiplies rows is behind a sum, though the sum does not read it; one on a key is not.
    "SELECT a.id, sum(a.v) AS s FROM account a LEFT JOIN pay p USING (id) GROUP BY a.id | id=1 | s": (
        "account 0; pay 0 1 4"
    ),
    "SELECT a.id, max(a.v) AS s FROM account a LEFT JOIN pay p USING (id) GROUP BY a.id | id=1 | s": "account 0; pay",
    "WITH t AS (SELECT id, sum(amt) s FROM pay GROUP BY id) SELECT a.id, sum(a.v) AS s FROM account a LEFT JOIN t "
    "ON a.id = t.id GROUP BY a.id | id=1 | s": "account 0; pay",
    "WITH t AS (SELECT id, max(CASE WHEN n = 1 THEN amt END) f, max(CASE WHEN n = 2 THEN amt END) g FROM pay "
    "GROUP BY id) SELECT a.id, t.f, t.g FROM account a LEFT JOIN t ON a.id = t.id | id=1 | g": "account 0; pay 1",
    "WITH m AS (SELECT id, n, sum(amt) s FROM pay GROUP BY id, n), m1 AS (SELECT * FROM m WHERE n = 1), "
    "m2 AS (SELECT * FROM m WHERE n = 2) SELECT a.id, CASE WHEN a.v > 5 THEN m1.s ELSE m2.s END AS c "
    "FROM account a LEFT JOIN m1 ON a.id = m1.id LEFT JOIN m2 ON a.id = m2.id | id=1 | c": "account 0; pay 0",
    "SELECT a.id, coalesce(p.amt, q.amt) AS c FROM account a LEFT JOIN pay p ON p.id = a.id AND p.n = 3 "
    "LEFT JOIN pay q ON q.id = a.id AND q.n = 2 | id=1 | c": "account 0; pay 1 4",
    "SELECT coalesce(a.id, p.id) AS id, a.v, p.amt FROM account a FULL JOIN pay p ON a.id = p.id | id=2 | v": (
        "account 1; pay"
    ),
    "SELECT id, n, amt, sum(amt) OVER (PARTITION BY id) AS s FROM pay | id=1 n=2 | amt": "pay 1",
    "SELECT id, n, sum(amt) FILTER (WHERE n = 1) OVER (PARTITION BY id) AS s FROM pay | id=1 n=2 | s": "pay 0 1",
}

REFUSED = {
    "SELECT id FROM account EXCEPT SELECT id FROM pay | id=3": ("EXCEPT", "account 2; pay"),
    "SELECT id FROM account INTERSECT SELECT id FROM pay | id=1": ("INTERSECT", "account 0; pay 0 1 4"),
    "WITH RECURSIVE r AS (SELECT id FROM account UNION ALL SELECT id + 1 FROM r WHERE id < 5) SELECT * FROM r | id=3": (
        "recursive CTE r",
        "account 0 1 2 3 4",
    ),
    "SELECT id, random() AS r FROM account | id=3": ("volatile function random", "account 2"),
    "SELECT from_python(id) AS i, id FROM account | id=1": ("user-defined function from_python", "account 0"),
    "SELECT plus_one(id) AS i, id FROM account | id=1": ("user-defined macro plus_one", None),
    "SELECT * FROM one_row(1) | a=1": ("user-defined macro one_row", None),
    "SELECT * FROM account USING SAMPLE 10% | id=3": ("sampling", "account 2"),
    "SELECT * FROM account TABLESAMPLE 10% | id=3": ("sampling", "account 2"),
    "SELECT x FROM account PIVOT (sum(v) FOR g IN ('x', 'y')) | x=1": ("PIVOT", "account 0 1 2 3 4"),
    "SELECT * FROM account POSITIONAL JOIN pay | id=3": ("positional join", "account 0 1 2 3 4; pay 0 1 2 3 4"),
    "SELECT * FROM read_csv('nowhere.csv') | id=1": ("table function read_csv", None),
    "SELECT COLUMNS('id|v') FROM account | id=1": ("COLUMNS", "account 0 1 2 3 4"),
    "SELECT id FROM account LIMIT 10% | id=1": ("LIMIT that is not a whole number", "account 0"),
    "SELECT id, g FROM account ORDER BY g LIMIT 2 | id=1": ("LIMIT between rows that are equal", "account 0"),
    "SELECT id FROM account LIMIT 2 | id=1": ("LIMIT between rows that are equal", "account 0"),
    "SELECT id, lag(amt) OVER (ORDER BY n) AS l FROM pay | id=2": ("frame counted in rows", "pay 0 1 2 3 4"),
    "SELECT id FROM account WHERE id = $1 | id=1": ("parameter $1", None),
    "SELECT 1 AS a; SELECT 2 AS a | a=1": ("2 statements", None),
    "INSERT INTO account VALUES (1, 2, 'x') | id=1": ("not a query", None),
    "SELEC 1 | a=1": ("cannot be parsed", None),
    "SELECT * FROM nowhere | id=1": ("source nowhere", None),
    "SELECT nothing FROM account | id=1": ("cannot be resolved", "account 0 1 2 3 4"),
}


def key_of(text: str) -> dict[str, object]:
    def value(word: str) -> object:
        return None if word == "None" else int(word) if word.lstrip("-").isdigit() else word

    return {name: value(word) for name, word in (part.rsplit("=", 1) for part in text.split())}


def rows_of(text: str) -> dict[str, list[int]]:
    """``account 0 2; pay`` as a result."""
    found = {}
    for part in filter(None, text.split("; ")):
        name, ids = re.fullmatch(r"(.*?)((?: \d+)*)", part).groups()  # type: ignore[union-attr]
        found[name] = [int(i) for i in ids.split()]
    return found


@pytest.mark.parametrize("case", KNOWN)
def test_rows_known_by_hand(con: duckdb.DuckDBPyConnection, case: str) -> None:
    sql, key = case.rsplit(" | ", 1)
    assert contributing_rows(sql, key_of(key), con) == rows_of(KNOWN[case])


@pytest.mark.parametrize("case", FEATURES)
def test_rows_of_one_feature_known_by_hand(con: duckdb.DuckDBPyConnection, case: str) -> None:
    sql, key, feature = case.rsplit(" | ", 2)
    assert contributing_rows(sql, key_of(key), con, feature=feature) == rows_of(FEATURES[case])


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_not_exact_is_refused_by_name(con: duckdb.DuckDBPyConnection, case: str) -> None:
    sql, key = case.rsplit(" | ", 1)
    construct, superset = REFUSED[case]
    with pytest.raises(Refused) as refusal:
        contributing_rows(sql, key_of(key), con)
    assert construct in refusal.value.construct
    assert construct in str(refusal.value)
    assert refusal.value.superset == (None if superset is None else rows_of(superset))


@pytest.mark.parametrize("case", [*KNOWN, *FEATURES])
def test_many_columns_at_once_have_the_rows_of_each_alone(con: duckdb.DuckDBPyConnection, case: str) -> None:
    sql, key = case.split(" | ")[:2]
    columns = [d[0] for d in con.execute(sql).description or []]
    together = contributing_rows_by_column(sql, key_of(key), con, columns)
    assert together == {c: contributing_rows(sql, key_of(key), con, feature=c) for c in columns}


class Counted:
    """A connection that counts the statements it runs."""

    def __init__(self, con: duckdb.DuckDBPyConnection) -> None:
        self.con = con
        self.statements = 0

    def execute(self, *args: Any) -> duckdb.DuckDBPyConnection:
        self.statements += 1
        return self.con.execute(*args)


def test_many_columns_are_one_query(con: duckdb.DuckDBPyConnection) -> None:
    columns = ", ".join(f"sum(CASE WHEN n = {i} THEN amt END) AS f{i}" for i in range(50))
    sql = f"WITH p AS (SELECT id, {columns} FROM pay GROUP BY id) SELECT a.*, p.* FROM account a LEFT JOIN p USING (id)"
    counted: Any = Counted(con)
    contributing_rows(sql, {"id": 1}, counted, feature="f1")
    alone = counted.statements
    found = contributing_rows_by_column(sql, {"id": 1}, counted, [f"F{i}" for i in range(50)])
    assert counted.statements == 2 * alone
    assert list(found) == [f"F{i}" for i in range(50)]
    assert [found[f"F{i}"]["pay"] for i in range(4)] == [[0, 1, 4], [0], [1], [4]]


def test_what_stands_in_the_way_of_one_column_is_not_said_of_another(con: duckdb.DuckDBPyConnection) -> None:
    sql = "SELECT id, amt, lag(amt) OVER (ORDER BY n) AS l FROM pay"
    assert contributing_rows_by_column(sql, {"id": 2}, con, ["amt", "id"]) == {"amt": {"pay": [2]}, "id": {"pay": [2]}}
    with pytest.raises(Refused, match="frame counted in rows"):
        contributing_rows_by_column(sql, {"id": 2}, con, ["amt", "l"])
    with pytest.raises(NotFound, match="no output column 'v'"):
        contributing_rows_by_column(sql, {"id": 2}, con, ["amt", "v"])
    assert contributing_rows_by_column(sql, {"id": 2}, con, []) == {}


def test_an_empty_key_gives_the_rows_of_the_whole_result(con: duckdb.DuckDBPyConnection) -> None:
    assert contributing_rows("SELECT id FROM pay WHERE n = 1", {}, con) == {"pay": [0, 2, 3]}


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("day", date(2026, 1, 1)),
        ("day", "2026-01-01"),
        ("at", datetime(2026, 1, 1, 10)),
        ("money", Decimal("1.50")),
        ("rate", 0.1),
        ("flag", True),
        ("text", "o'x"),
        ("text", "__key_0__"),
        ("uid", "00000000-0000-0000-0000-000000000001"),
    ],
)
def test_a_key_of_any_type_is_found(con: duckdb.DuckDBPyConnection, column: str, value: object) -> None:
    expected: list[int] = [] if value == "__key_0__" else [0]
    assert contributing_rows("SELECT * FROM typed", {column: value, "flag": True}, con) == {"typed": expected}


def test_an_unknown_column_or_a_value_of_another_type_is_said(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(NotFound, match="no output column 'nothing'"):
        contributing_rows("SELECT id FROM account", {"nothing": 1}, con)
    with pytest.raises(NotFound, match="no output column 'v'"):
        contributing_rows("SELECT id FROM account", {"id": 1}, con, feature="v")
    with pytest.raises(NotFound, match="no row can have id = 'abc'"):
        contributing_rows("SELECT id FROM account", {"id": "abc"}, con)


def test_a_changed_view_is_not_read_from_memory() -> None:
    with duckdb.connect() as con:
        con.execute("CREATE TABLE t AS SELECT range AS id FROM range(3); CREATE VIEW v AS SELECT id FROM t")
        assert contributing_rows("SELECT id FROM v", {"id": 1}, con) == {"t": [1]}
        con.execute("CREATE OR REPLACE VIEW v AS SELECT id + 1 AS id FROM t")
        assert contributing_rows("SELECT id FROM v", {"id": 1}, con) == {"t": [0]}


def test_temporary_tables_and_schemas_in_use_come_first() -> None:
    with duckdb.connect() as con:
        con.execute(
            "CREATE TABLE t AS SELECT 1 AS id; CREATE SCHEMA s; CREATE TABLE s.t AS SELECT range AS id FROM range(5)"
        )
        con.execute("USE s")
        assert contributing_rows("SELECT id FROM t", {"id": 4}, con) == {"t": [4]}
        assert contributing_rows("SELECT a.id FROM t a JOIN main.t b USING (id)", {"id": 1}, con) == {
            "t": [1],
            "main.t": [0],
        }
        con.execute("CREATE TEMP TABLE t AS SELECT 9 AS id")
        assert contributing_rows("SELECT id FROM t", {"id": 9}, con) == {"t": [0]}


def test_equality_is_not_followed_across_types() -> None:
    """'05' = 5 and '5' = 5, but '05' is not '5': a key must not wander through the number to the other text."""
    with duckdb.connect() as con:
        con.execute(
            "CREATE TABLE a AS SELECT '05' AS k; CREATE TABLE n AS SELECT 5 AS k; CREATE TABLE b AS SELECT '5' AS k"
        )
        sql = "SELECT a.k FROM a JOIN n ON a.k = n.k JOIN b ON b.k = n.k"
        assert contributing_rows(sql, {"k": "05"}, con) == {"a": [0], "n": [0], "b": [0]}


def scanned(con: duckdb.DuckDBPyConnection, sql: str, key: dict[str, object]) -> float:
    """Seconds of a warm trace, the best of three."""
    best = 9e9
    for _ in range(4):
        started = time.perf_counter()
        contributing_rows(sql, key, con)
        best = min(best, time.perf_counter() - started)
    return best


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT account, sum(amount) AS s FROM big GROUP BY account",
        "WITH s AS MATERIALIZED (SELECT account, sum(amount) AS s FROM big GROUP BY account) "
        "SELECT x.account, x.s, y.s AS again FROM s x LEFT JOIN s y ON x.account = y.account",
        "SELECT account, id FROM (SELECT *, row_number() OVER (PARTITION BY id ORDER BY loaded) r FROM big) "
        "WHERE r = 1",
        "SELECT account, count(*) AS n FROM (SELECT * FROM big UNION ALL SELECT * FROM big) GROUP BY account",
    ],
)
def test_the_work_follows_the_account_and_not_the_table(big: duckdb.DuckDBPyConnection, sql: str) -> None:
    """A million rows, thirty an account. Reading them all takes far longer than the bound, even on a busy machine."""
    assert contributing_rows(sql, {"account": 777}, big) == {"big": list(range(23310, 23340))}
    started = time.perf_counter()
    big.execute("SELECT account, list(rowid) FROM big GROUP BY account").fetchall()
    everything = time.perf_counter() - started
    assert scanned(big, sql, {"account": 777}) < max(everything / 3, 0.03)


@pytest.fixture(scope="module")
def big() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as con:
        con.execute(
            "CREATE TABLE big AS SELECT i::BIGINT AS id, i // 30 AS account, i % 7 AS amount, i % 3 AS loaded "
            "FROM range(1000000) t(i); ALTER TABLE big ALTER id SET NOT NULL"
        )
        yield con


def test_a_rank_over_everything_is_not_quadratic(big: duckdb.DuckDBPyConnection) -> None:
    sums = "SELECT account, sum(amount) AS s FROM big WHERE id < 60000 GROUP BY account"
    sql = f"SELECT account, rank() OVER (ORDER BY s) AS r FROM ({sums})"
    found = contributing_rows(sql, {"account": 777}, big)
    assert found == {"big": list(range(60000))}


def model_as_one_query(settings: Settings, model: str) -> str:
    """A model with all it refers to as CTEs, from what the published night ran."""
    engine = ledger.open_ledger(settings)
    publication = ledger.publication_for(engine, FIRST)
    assert publication is not None
    texts = {
        r.model: archive.read_text(settings, r.definition_sha256)
        for r in ledger.dbt_results(engine, publication.run_id)
        if r.definition_sha256 is not None
    }
    ordered: list[str] = []

    def visit(name: str) -> None:
        for other in texts:
            if other != name and other not in ordered and re.search(rf'"lake"\."\w+"\."{other}"', texts[name]):
                visit(other)
        if name not in ordered:
            ordered.append(name)

    visit(model)
    local = {n: re.sub(r'"lake"\."(?!raw)\w+"\."(\w+)"', r'"\1"', texts[n]) for n in ordered}
    return "WITH " + ",\n".join(f'"{n}" AS ({local[n]}\n)' for n in ordered) + f'\nSELECT * FROM "{model}"'


def only(con: duckdb.DuckDBPyConnection, rows: dict[str, list[int]]) -> duckdb.DuckDBPyConnection:
    """A database that holds nothing but the rows given, under the lake's names."""
    alone = duckdb.connect()
    alone.execute("ATTACH ':memory:' AS lake; CREATE SCHEMA lake.raw")
    for name, ids in rows.items():
        table = con.execute(
            f"SELECT * FROM {name} WHERE rowid IN ({', '.join(map(str, ids)) or '-1'})"
        ).to_arrow_table()
        alone.register("arrived", table)
        alone.execute(f"CREATE TABLE {name} AS SELECT * FROM arrived")
        alone.unregister("arrived")
    return alone


PER_FEATURE = {
    "dpd_30_rollup": {"lake.raw.loan_servicing"},
    "utilization_3m_avg": {"lake.raw.loan_servicing"},
    "bureau_score_delta": {"lake.raw.loan_servicing", "lake.raw.bureau_pull"},
    "payment_missed_count_3m": {"lake.raw.loan_servicing", "lake.raw.payments_ledger"},
    "apr_change_12m": {"lake.raw.loan_servicing"},
    "balance_last_1": {"lake.raw.loan_servicing"},
}


def test_an_account_is_traced_through_every_model_of_the_night(published: Settings) -> None:
    """Staging to account_features as one query: the rows returned give the same features, bit for bit, and alone."""
    sql = model_as_one_query(published, "account_features")
    with closing(lake.connect(published)) as con:
        accounts = con.execute(
            "SELECT account_id FROM lake.features.account_features WHERE as_of_date = ? "
            "ORDER BY hash(account_id) LIMIT 2",
            [FIRST],
        ).fetchall()
        for (account,) in accounts:
            rows = contributing_rows(sql, {"account_id": account}, con)
            stored = con.execute(
                "SELECT * FROM lake.features.account_features WHERE account_id = ? AND as_of_date = ?", [account, FIRST]
            ).fetchall()
            with closing(only(con, rows)) as alone:
                assert alone.execute(sql).fetchall() == stored
            for name, ids in rows.items():
                others = con.execute(
                    f"SELECT count(*) FROM {name} WHERE rowid IN ({', '.join(map(str, ids)) or '-1'}) AND "
                    f"{'subject_id' if 'bureau' in name else 'account_id'} <> ?",
                    [account],
                ).fetchone()
                assert others == (0,)
        account = accounts[0][0]
        whole = contributing_rows(sql, {"account_id": account}, con)
        for feature, tables in PER_FEATURE.items():
            rows = contributing_rows(sql, {"account_id": account}, con, feature=feature)
            assert {name for name, ids in rows.items() if ids} <= tables
            assert all(set(ids) <= set(whole[name]) for name, ids in rows.items())
            stored = con.execute(
                f"SELECT {feature} FROM lake.features.account_features WHERE account_id = ? AND as_of_date = ?",
                [account, FIRST],
            ).fetchall()
            with closing(only(con, rows)) as alone:
                assert alone.execute(f"SELECT {feature} FROM ({sql})").fetchall() == stored


def test_every_feature_of_an_account_is_traced_at_once(published: Settings) -> None:
    """All features in one query: the rows are those of each alone, and they alone give the feature's value."""
    sql = model_as_one_query(published, "account_features")
    with closing(lake.connect(published)) as con:
        stored = con.execute(
            "SELECT * FROM lake.features.account_features WHERE as_of_date = ? ORDER BY hash(account_id) LIMIT 1",
            [FIRST],
        ).fetchall()[0]
        values = dict(zip([d[0] for d in con.description or []], stored, strict=True))
        key = {"account_id": values["account_id"]}
        features = [name for name in values if name not in ("account_id", "as_of_date")]
        found = contributing_rows_by_column(sql, key, con, features)
        assert list(found) == features and len(features) > 100
        for feature in [*PER_FEATURE, *features[5::20]]:
            assert found[feature] == contributing_rows(sql, key, con, feature=feature)
            with closing(only(con, found[feature])) as alone:
                assert alone.execute(f"SELECT {feature} FROM ({sql})").fetchall() == [(values[feature],)]


def test_an_application_is_traced_through_every_model_of_the_night(published: Settings) -> None:
    sql = model_as_one_query(published, "application_features")
    with closing(lake.connect(published)) as con:
        stored = con.execute(
            "SELECT * FROM lake.features.application_features WHERE as_of_date = ? ORDER BY application_id LIMIT 1",
            [FIRST],
        ).fetchall()
        rows = contributing_rows(sql, {"application_id": stored[0][0]}, con)
        with closing(only(con, rows)) as alone:
            assert alone.execute(sql).fetchall() == stored


def test_rows_of_the_lake_by_their_quoted_names(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        for name in ("ducklake", "sqlite_scanner"):
            con.execute(f"LOAD '{lake.extension_path(name)}'")
        con.execute(f"ATTACH 'ducklake:sqlite:{tmp_path}/c.sqlite' AS lake (DATA_PATH '{tmp_path}/data/')")
        con.execute("CREATE SCHEMA lake.raw; CREATE TABLE lake.raw.loan_servicing (account_id BIGINT, balance INTEGER)")
        for account in (1, 2, 1):
            con.execute("INSERT INTO lake.raw.loan_servicing VALUES (?, 5)", [account])
        con.execute(
            "CREATE VIEW lake.raw.latest AS SELECT account_id, sum(balance) AS b FROM loan_servicing GROUP BY 1"
        )
        sql = 'SELECT account_id, max(balance) AS m FROM "lake"."raw"."loan_servicing" GROUP BY account_id'
        assert contributing_rows(sql, {"account_id": 1}, con) == {"lake.raw.loan_servicing": [0, 2]}
        con.execute("USE lake.raw")
        assert list(contributing_rows("SELECT * FROM latest", {"account_id": 1}, con).values()) == [[0, 2]]
        con.execute("BEGIN; INSERT INTO loan_servicing VALUES (1, 7)")
        fresh = contributing_rows(sql, {"account_id": 1}, con)["lake.raw.loan_servicing"]
        assert fresh[:2] == [0, 2] and len(fresh) == 3
        con.execute("ROLLBACK")


def test_where_a_key_narrows_the_tables() -> None:
    with closing(duckdb.connect()) as con:
        con.execute(
            "CREATE TABLE pay (id INTEGER, account INTEGER, amount INTEGER); CREATE TABLE acc (account INTEGER)"
        )
        ranked = "SELECT account, amount, row_number() OVER (PARTITION BY {} ORDER BY amount) AS n FROM pay"
        total = "SELECT account, sum(amount) AS paid FROM ({}) WHERE n = 1 GROUP BY account"
        own = total.format(ranked.format("id, account"))
        assert narrowed_to_key(own, {"account": 1}, con, ["paid"]) == (("pay", frozenset({"account"})),)
        anybody = narrowed_to_key(total.format(ranked.format("id")), {"account": 1}, con, ["paid"])
        assert ("pay", frozenset()) in anybody, "a payment's versions may be another account's"
        joined = "SELECT acc.account, amount FROM acc JOIN pay ON pay.account = acc.account"
        assert set(narrowed_to_key(joined, {"account": 1}, con)) == {
            ("acc", frozenset({"account"})), ("pay", frozenset({"account"})),
        }  # fmt: skip
        with pytest.raises(Refused, match="EXCEPT"):
            narrowed_to_key("SELECT account FROM acc EXCEPT SELECT account FROM pay", {"account": 1}, con)
