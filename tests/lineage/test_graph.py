"""The column graph, on a project of five tables small enough to be checked by eye."""

from __future__ import annotations

import pytest

from lineage.columns import Transformation, column_lineage
from lineage.graph import ColumnGraph, Step, TableLineage
from pipeline.errors import NotFound

RAW = {
    "raw.bill": {"account_id": "BIGINT", "owed": "DECIMAL(18,2)", "late": "INTEGER", "load_date": "DATE"},
    "raw.event": {"account_id": "BIGINT", "kind": "VARCHAR"},
}
MODELS = {
    "staging.stg_bill": """SELECT account_id, owed, late FROM raw.bill
                           WHERE load_date <= DATE '2026-03-12'""",
    "intermediate.int_event": "SELECT account_id, count(*) AS events FROM raw.event WHERE kind = 'cured' GROUP BY 1",
    "features.feat_late": """SELECT b.account_id, max(b.owed) AS owed_max,
                                    sum(CASE WHEN b.late > 30 THEN 1 END) AS late_30, max(e.events) AS events
                             FROM staging.stg_bill b
                             LEFT JOIN intermediate.int_event e ON b.account_id = e.account_id
                             GROUP BY b.account_id""",
    "marts.report": "SELECT account_id, owed_max * 2 AS reserve FROM features.feat_late WHERE late_30 > 0",
}


def graph(run_id: str = "one", **changed: str) -> ColumnGraph:
    schema = {name: dict(columns) for name, columns in RAW.items()}
    tables = [TableLineage(name, columns) for name, columns in RAW.items()]
    for table, sql in (MODELS | {f"features.{name}": sql for name, sql in changed.items()}).items():
        lineage = column_lineage(sql, schema)
        schema[table] = dict.fromkeys(lineage.columns, "")
        tables.append(TableLineage(table, schema[table], table.partition(".")[2], str(hash(sql)), lineage))
    return ColumnGraph(run_id, tables)


def found(reached: tuple[object, ...]) -> dict[str, str]:
    return {r.node: " ".join(w.subtype for w in r.transformations) for r in reached}  # type: ignore[attr-defined]


def test_upstream_of_a_value_and_with_what_decides_over_its_rows() -> None:
    assert found(graph().upstream("marts.report.reserve")) == {
        "features.feat_late.owed_max": "TRANSFORMATION",
        "staging.stg_bill.owed": "AGGREGATION",
        "staging.stg_bill.account_id": "GROUP_BY JOIN",
        "intermediate.int_event.account_id": "JOIN",
        "raw.bill.owed": "AGGREGATION",
        "raw.bill.account_id": "GROUP_BY JOIN",
        "raw.event.account_id": "JOIN",
    }
    rows = found(graph().upstream("marts.report.reserve", rows=True))
    assert rows["features.feat_late.late_30"] == "FILTER"
    assert rows["raw.bill.late"] == "FILTER"
    assert rows["raw.bill.load_date"] == "FILTER"
    assert rows["raw.event.kind"] == "FILTER"


def test_the_nearest_comes_first_and_a_value_is_told_from_what_decides() -> None:
    reached = graph().upstream("marts.report.reserve")
    assert [r.distance for r in reached] == sorted(r.distance for r in reached)
    assert {r.node for r in reached if r.direct} == {
        "features.feat_late.owed_max",
        "staging.stg_bill.owed",
        "raw.bill.owed",
    }


def test_sources_of_a_count_are_the_rows_counted_and_what_decides_over_them() -> None:
    assert found(graph().sources("features.feat_late.events")) == {
        "raw.event.*": "AGGREGATION",
        "raw.event.account_id": "GROUP_BY JOIN",
        "raw.event.kind": "FILTER",
        "raw.bill.account_id": "GROUP_BY JOIN",
    }


def test_downstream_names_columns_models_and_marts() -> None:
    impact = graph().downstream("raw.bill.owed")
    assert [r.node for r in impact.columns] == [
        "staging.stg_bill.owed",
        "features.feat_late.owed_max",
        "marts.report.reserve",
    ]
    assert impact.models == ("stg_bill", "feat_late", "report")
    assert impact.marts == ("marts.report",)
    assert graph().downstream("raw.bill.load_date").columns == ()
    assert "marts.report" in graph().downstream("raw.bill.load_date", rows=True).marts
    assert found(graph().downstream("raw.bill.load_date", rows=True).columns)["marts.report.reserve"] == "FILTER"


def test_the_shortest_path_and_none() -> None:
    steps = graph().path("raw.bill.owed", "marts.report.reserve")
    assert [step.source for step in steps] == ["raw.bill.owed", "staging.stg_bill.owed", "features.feat_late.owed_max"]
    assert steps[1].transformations == (Transformation("DIRECT", "AGGREGATION"),)
    assert graph().path("raw.bill.load_date", "marts.report.reserve") == ()
    assert graph().path("raw.bill.load_date", "marts.report.reserve", rows=True)[-1].target == "marts.report.reserve"


def test_search_finds_the_column_of_that_name_first() -> None:
    assert graph().search("late")[0] == "raw.bill.late"
    assert graph().search("feat_late late") == (
        "features.feat_late.late_30",
        "features.feat_late.events",
        "features.feat_late.owed_max",
        "features.feat_late.account_id",
    )
    assert graph().search("nothing like it") == ()
    assert graph().search("  ") == ()
    assert len(graph().search("a", limit=3)) == 3


@pytest.mark.parametrize("node", ["raw.bill.nope", "raw.nope.owed", ""])
def test_an_unknown_column_is_said_so(node: str) -> None:
    for ask in (graph().upstream, graph().downstream, graph().sources):
        with pytest.raises(NotFound, match="no column"):
            ask(node)
    with pytest.raises(NotFound, match="no column"):
        graph().path("raw.bill.owed", node)


def test_a_changed_definition_shows_as_a_difference() -> None:
    before, after = (
        graph(),
        graph(
            "two",
            feat_late="""SELECT b.account_id, min(b.late) AS owed_max, sum(b.late) AS late_30, 1 AS added
                         FROM staging.stg_bill b GROUP BY b.account_id""",
        ),
    )
    found = after.difference(before)
    assert found.columns_added == ("features.feat_late.added",)
    assert found.columns_removed == ("features.feat_late.events",)
    assert found.models_changed == ("features.feat_late",)
    summed, chosen = Transformation("DIRECT", "AGGREGATION"), Transformation("INDIRECT", "CONDITIONAL")
    edge = ("staging.stg_bill.late", "features.feat_late.late_30")
    assert (Step(*edge, (chosen,)), Step(*edge, (summed,))) in found.changed
    assert "features.feat_late.owed_max" in {step.target for step in found.edges_added}
    assert ("staging.stg_bill.owed", "features.feat_late.owed_max") in {
        (step.source, step.target) for step in found.edges_removed
    }
    assert not found.empty
    assert before.difference(before).empty


def test_a_night_that_differs_in_its_date_alone_has_the_same_graph() -> None:
    later = graph("two")
    later.tables["staging.stg_bill"] = TableLineage(
        "staging.stg_bill",
        later.tables["staging.stg_bill"].columns,
        "stg_bill",
        "another hash",
        column_lineage(MODELS["staging.stg_bill"].replace("-12", "-13"), RAW),
    )
    difference = later.difference(graph())
    assert difference.empty
    assert difference.models_changed == ("staging.stg_bill",)
