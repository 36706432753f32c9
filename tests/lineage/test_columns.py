"""Column lineage: known by hand for each construct, true when values change, complete over a whole night."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import duckdb
import pytest

from lineage.columns import (
    ROWS,
    ColumnGraph,
    ColumnLineage,
    Input,
    LineageRefused,
    Transformation,
    cached_column_lineage,
    column_lineage,
    compose,
    run_lineage,
)
from pipeline import lake, ledger
from pipeline.config import Settings
from pipeline.contracts import CONTRACTS
from pipeline.errors import NotFound
from tests.conftest import FIRST

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = {
    "t": {"a": "INTEGER", "b": "INTEGER", "c": "INTEGER", "d": "INTEGER"},
    "u": {"a": "INTEGER", "e": "INTEGER", "l": "INTEGER[]"},
}
FEATURES = {
    "account_features": (
        "dpd_30_rollup",
        "utilization_3m_avg",
        "bureau_score_delta",
        "balance_trend_6m",
        "payment_days_late_avg_6m",
        "status_code_last_1",
        "cure_count_24m",
        "apr_change_12m",
    ),
    "application_features": ("total_debt_to_income_at_application", "bureau_thin_file_at_application"),
}


def written(inputs: tuple[Input, ...]) -> str:
    """``t.a IDENTITY, t.b FILTER WINDOW``; a masking way ends in ``(masked)``."""
    return ", ".join(
        f"{i.table}.{i.column} "
        + " ".join(w.subtype + ("(masked)" if w.masking else "") for w in sorted(i.transformations))
        for i in inputs
    )


def shown(lineage: ColumnLineage) -> list[str]:
    """A lineage as the golden file has it, one line per column, then the rows and what is lost."""
    lines = [f"{name} <- {written(inputs)}".rstrip() for name, inputs in lineage.columns.items()]
    if lineage.dataset:
        lines.append(f"(rows) <- {written(lineage.dataset)}")
    return [*lines, *(f"{lost.output} lost {lost.expression}: {lost.reason}" for lost in lineage.untraceable)]


def statements() -> Iterator[tuple[str, str]]:
    """Title and SQL of each golden statement."""
    lines = (GOLDEN / "statements.sql").read_text(encoding="utf-8").splitlines()
    for title, sql in zip(lines[::2], lines[1::2], strict=True):
        assert title.startswith("-- "), f"every statement has a title, {title} is none"
        yield title[3:], sql


@pytest.mark.parametrize(("title", "sql"), [pytest.param(t, s, id=t) for t, s in statements()])
def test_each_construct_has_the_lineage_known_by_hand(title: str, sql: str) -> None:
    expected = (GOLDEN / "statements.txt").read_text(encoding="utf-8").split("\n\n")
    known = {block.splitlines()[0]: block.splitlines()[1:] for block in expected}
    assert shown(column_lineage(sql, SCHEMA)) == [line.strip() for line in known[title]]


ROWS_OF = {
    "t": [(1, 1, 1, 1), (1, 2, 0, 2), (2, 3, 2, 1), (2, 2, 1, 3), (3, None, 1, 1), (4, 5, 3, 2)],
    "u": [(1, 3, [1, 2]), (1, -1, [3]), (2, 2, []), (5, 4, [4, 4])],
}


def answer(sql: str, changed: tuple[str, str] | None = None) -> dict[str, list[str]]:
    """Each output column's values, sorted; ``changed`` names a table and a column whose values are all replaced."""
    with closing(duckdb.connect()) as con:
        for table, columns in SCHEMA.items():
            con.execute(f"CREATE TABLE {table} ({', '.join(f'{c} {kind}' for c, kind in columns.items())})")
            con.executemany(f"INSERT INTO {table} VALUES ({', '.join('?' * len(columns))})", ROWS_OF[table])
            if changed and changed[0] == table:
                other = "[9, 8, 7]" if columns[changed[1]].endswith("[]") else f"7 - coalesce({changed[1]}, 9)"
                con.execute(f"UPDATE {table} SET {changed[1]} = {other}")
        if sql.startswith("CREATE VIEW"):
            con.execute(sql)
            sql = "FROM made"
        found = con.execute(sql)
        rows = found.fetchall()
        width = len(found.description)
    return {str(i): sorted(repr(row[i]) for row in rows) for i in range(width)}


@pytest.mark.parametrize(("title", "sql"), [pytest.param(t, s, id=t) for t, s in statements()])
def test_a_column_outside_the_lineage_may_hold_anything(title: str, sql: str) -> None:
    lineage = column_lineage(sql, SCHEMA)
    before = answer(sql)
    assert len(before) == len(lineage.columns)
    decides = {(i.table, i.column) for i in lineage.dataset}
    for table, columns in SCHEMA.items():
        for column in columns:
            after = answer(sql, (table, column))
            for position, (name, inputs) in enumerate(lineage.columns.items()):
                if (table, column) not in decides | {(i.table, i.column) for i in inputs}:
                    assert after[str(position)] == before[str(position)], f"{name} changed with {table}.{column}"


@pytest.mark.parametrize(
    ("sql", "lost"),
    [
        ("SELECT * FROM nowhere JOIN t ON nowhere.a = t.a", ["* lost *: its columns are not known"]),
        ("SELECT t.nope, a FROM t", ["nope lost t.nope: t has no column nope"]),
        ("SELECT a, z FROM t JOIN u USING (a)", ["z lost z: it cannot be placed among t, u"]),
        ("SELECT z FROM nowhere, elsewhere", ["z lost z: it cannot be placed among elsewhere, nowhere"]),
        ("SELECT a FROM read_csv('x.csv')", ["a lost"]),
        ("SELECT i FROM range(10) AS r(i)", ["i lost r.i: it comes from the table function"]),
        ("SELECT columns('a.*') FROM t", ["_col_0 lost COLUMNS('a.*')"]),
        ("SELECT m FROM (SELECT sum(nope.x) AS m FROM t) AS s", ["m lost nope.x: nope is not among the tables"]),
        ("SELECT a FROM t WHERE nope.x = 1", ["* lost nope.x: nope is not among the tables"]),
        (
            "WITH RECURSIVE r AS (SELECT a FROM t UNION ALL SELECT a + 1 FROM r WHERE a < 9) SELECT a FROM r",
            ["* lost SELECT t.a AS a FROM t AS t UNION ALL"],
        ),
    ],
)
def test_what_cannot_be_resolved_is_listed_with_its_reason(sql: str, lost: list[str]) -> None:
    found = [line for line in shown(column_lineage(sql, SCHEMA)) if " lost " in line]
    assert len(found) == len(lost)
    for line, beginning in zip(found, lost, strict=True):
        assert line.startswith(beginning)


def test_a_column_built_on_a_lost_one_says_so_and_keeps_the_rest() -> None:
    lineage = column_lineage("SELECT x + b AS s, b FROM (SELECT nope.x AS x, b FROM t) AS inner_t", SCHEMA)
    assert {lost.output for lost in lineage.untraceable} == {"s"}
    assert [i.column for i in lineage.columns["s"]] == ["b"]


@pytest.mark.parametrize("sql", ["SELEC a", "INSERT INTO t SELECT a FROM u", "SELECT (", "", "DROP TABLE t"])
def test_what_is_no_query_is_refused(sql: str) -> None:
    with pytest.raises(LineageRefused):
        column_lineage(sql, SCHEMA)


def test_names_without_a_schema_resolve_where_there_is_one_table() -> None:
    lineage = column_lineage("SELECT a, count(*) AS n FROM lake.raw.x WHERE b = 1 GROUP BY a", {})
    assert shown(lineage) == [
        "a <- raw.x.a IDENTITY",
        "n <- raw.x.* AGGREGATION(masked), raw.x.a GROUP_BY, raw.x.b FILTER",
        "(rows) <- raw.x.a GROUP_BY, raw.x.b FILTER",
    ]
    assert lineage.tables == ("raw.x",)


def test_two_steps_compose_to_the_stronger_or_to_what_decided() -> None:
    identity, summed = Transformation("DIRECT", "IDENTITY"), Transformation("DIRECT", "AGGREGATION", True)
    where, chosen = Transformation("INDIRECT", "FILTER"), Transformation("INDIRECT", "CONDITIONAL")
    assert compose(identity, summed) == compose(summed, identity) == summed
    assert compose(where, summed) == compose(summed, where) == where
    assert compose(where, chosen) == compose(chosen, where) == where


# -- a whole night


@pytest.fixture(scope="module")
def night(cascade: object) -> ColumnGraph:
    settings: Settings = cascade.settings  # type: ignore[attr-defined]
    engine = ledger.open_ledger(settings)
    publication = ledger.publication_for(engine, FIRST)
    assert publication is not None
    return run_lineage(settings, engine, publication.run_id)


@pytest.mark.parametrize(
    ("table", "feature"), [pytest.param(t, f, id=f) for t, features in FEATURES.items() for f in features]
)
def test_ten_features_come_from_the_raw_columns_known_by_hand(night: ColumnGraph, table: str, feature: str) -> None:
    found = [
        f"{r.node} {' '.join(w.subtype for w in r.transformations)}"
        for r in night.sources(f"features.{table}.{feature}")
    ]
    assert found == (GOLDEN / "features" / f"{feature}.txt").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("table", list(FEATURES))
def test_what_decides_over_the_rows_of_the_features(night: ColumnGraph, table: str) -> None:
    found = [
        f"{r.node} {' '.join(w.subtype for w in r.transformations)}"
        for r in night.sources(f"features.{table}.{ROWS}", rows=True)
    ]
    assert found == (GOLDEN / "features" / f"{table}.rows.txt").read_text(encoding="utf-8").splitlines()


def test_nothing_of_a_night_is_untraceable(night: ColumnGraph) -> None:
    assert night.untraceable == ()
    assert night.notes == ()
    raw = {f"raw.{name}" for name in CONTRACTS}
    for table in ("features.account_features", "features.application_features"):
        for column in night.tables[table].columns:
            if column == "as_of_date":
                continue  # the night's own date, a constant of its SQL
            beginnings = {r.table for r in night.sources(f"{table}.{column}")}
            assert beginnings and beginnings <= raw, f"{table}.{column} begins at {beginnings or 'nothing'}"


def test_every_column_of_every_model_is_in_the_graph(night: ColumnGraph, published: Settings) -> None:
    with closing(lake.connect(published)) as con:
        stored = con.execute(
            """SELECT schema_name || '.' || table_name || '.' || column_name FROM duckdb_columns()
               WHERE database_name = ? AND schema_name IN ('staging', 'intermediate', 'features', 'marts')""",
            [lake.ALIAS],
        ).fetchall()
    assert {node for (node,) in stored} <= set(night.columns)


def test_a_raw_column_reaches_scores_and_marts(night: ColumnGraph) -> None:
    impact = night.downstream("raw.bureau_pull.bureau_score")
    nodes = {r.node for r in impact.columns}
    assert {"features.account_features.bureau_score_delta", "scores.account_scores.pd"} <= nodes
    assert {"stg_bureau__pulls", "int_account_bureau", "feat_bureau", "account_features"} <= set(impact.models)
    assert "marts.score_publication" in impact.marts
    assert any(model.startswith("pd_default version ") for model in impact.models)


def test_protected_attributes_reach_no_feature_and_no_score(night: ColumnGraph) -> None:
    for column in ("age_band", "sex", "marital_status"):
        reached = night.downstream(f"raw.applicant_protected.{column}", rows=True).columns
        assert not [r.node for r in reached if r.table.startswith(("features.", "scores."))]


def test_a_definition_is_read_once(own_home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(own_home.archive_dir / "lineage", ignore_errors=True)
    sql = "SELECT a, b FROM raw.x WHERE load_date <= date '2026-03-12'"
    schema = {"raw.x": {"a": "INTEGER", "b": "INTEGER", "load_date": "DATE"}}
    first = cached_column_lineage(own_home, sql, schema)
    kept = list((own_home.archive_dir / "lineage").rglob("*.json"))
    assert len(kept) == 1
    assert cached_column_lineage(own_home, sql.replace("03-12", "03-13"), schema) == first
    assert list((own_home.archive_dir / "lineage").rglob("*.json")) == kept, "another date is the same definition"
    monkeypatch.setattr("lineage.columns.column_lineage", None)
    assert cached_column_lineage(own_home, sql, schema) == first
    monkeypatch.undo()
    cached_column_lineage(own_home, sql, {"raw.x": {**schema["raw.x"], "c": "INTEGER"}})
    assert len(list((own_home.archive_dir / "lineage").rglob("*.json"))) == 2, "other columns are read anew"


def test_a_run_whose_archive_or_snapshot_is_gone_says_so(own_home: Settings) -> None:
    engine = ledger.open_ledger(own_home)
    publication = ledger.publication_for(engine, FIRST)
    assert publication is not None
    results = {r.model: r for r in ledger.dbt_results(engine, publication.run_id) if r.resource_type == "model"}
    sha256 = results["feat_bureau"].definition_sha256
    assert sha256 is not None
    (own_home.archive_dir / "sha256" / sha256[:2] / sha256).unlink()
    snapshot = ledger.run(engine, publication.run_id).snapshot_after
    with closing(lake.connect(own_home, read_only=False)) as con:
        con.execute("CREATE TABLE ops.later (x INTEGER)")
        con.execute(f"CALL ducklake_expire_snapshots('{lake.ALIAS}', versions => [{snapshot}])")
    graph = run_lineage(own_home, engine, publication.run_id)
    assert any(f"snapshot {snapshot} is gone" in note for note in graph.notes)
    lost = {f"{table}.{u.output}" for table, u in graph.untraceable}
    assert {f"features.feat_bureau.{column}" for column in graph.tables["features.feat_bureau"].columns} <= lost
    assert graph.sources("features.account_features.dpd_30_rollup"), "the rest is still traced"
    assert not graph.sources("features.feat_bureau.bureau_score_delta")


def test_a_run_that_built_nothing_is_said_plainly(published: Settings) -> None:
    engine = ledger.open_ledger(published)
    with pytest.raises(NotFound, match="no run 20990101-nightly"):
        run_lineage(published, engine, "20990101-nightly-0000")


def test_a_kept_lineage_is_plain_json(own_home: Settings) -> None:
    cached_column_lineage(own_home, "SELECT count(*) AS n FROM raw.x", {})
    kept = sorted((own_home.archive_dir / "lineage").rglob("*.json"), key=lambda p: p.stat().st_mtime)[-1]
    assert json.loads(kept.read_text())["columns"] == {"n": [["raw.x", "*", [["DIRECT", "AGGREGATION", True]]]]}
