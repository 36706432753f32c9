"""The figures of explanations: bars that meet, boxes in layers, lines that say what flows."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app import charts_explain, charts_lineage, charts_runs, column_paths
from app.charts_lineage import Box, Line
from lineage.column_walk import ColumnLineage, Input, Transformation
from lineage.columns import ColumnGraph, TableLineage
from pipeline.ledger import TaskAttempt

VALUE, FILTER = Transformation("DIRECT", "IDENTITY"), Transformation("INDIRECT", "FILTER")


@given(st.floats(-6, 1), st.lists(st.floats(-2, 2).map(lambda v: round(v, 4)), max_size=40))
def test_a_waterfall_meets_end_to_end_whatever_it_is_made_of(base: float, adds: list[float]) -> None:
    steps = charts_explain.steps([(f"f{i}", a) for i, a in enumerate(adds)])
    assert sum(s.adds for s in steps) == pytest.approx(sum(adds), abs=1e-9)
    assert len(steps) <= charts_explain.STRONGEST + 1
    total = base + sum(adds)
    (bars,) = charts_explain.waterfall(base, steps, total).data
    ends = [start + width for start, width in zip(bars.base, bars.x, strict=True)]
    assert list(bars.base[1:-1]) == pytest.approx(ends[:-2]), "each bar begins where the one before it ends"
    assert ends[-2] == pytest.approx(total, abs=1e-9) and ends[-1] == pytest.approx(total)


def test_words_name_each_bar() -> None:
    steps = charts_explain.steps([("a", 0.5), ("b", -0.25), ("c", 0.0)])
    said = charts_explain.waterfall_words(-3.0, steps, -2.75)
    assert said == "Log-odds from the base rate −3.00 to the score −2.75: a +0.50, b −0.25."


def small() -> ColumnGraph:
    """raw.t (v, w) → staging.s.v → features.f (x, y), where w filters."""
    staged = ColumnLineage(
        {"v": (Input("raw.t", "v", (VALUE,)), Input("raw.t", "w", (FILTER,)))}, (), ("raw.t",)
    )  # fmt: skip
    made = ColumnLineage({n: (Input("staging.s", "v", (VALUE,)),) for n in ("x", "y")}, (), ("staging.s",))
    return ColumnGraph(
        "run",
        [
            TableLineage("raw.t", {"v": "INTEGER", "w": "INTEGER"}),
            TableLineage("staging.s", {"v": "INTEGER"}, "s", "0" * 64, staged),
            TableLineage("features.f", {"x": "INTEGER", "y": "INTEGER"}, "f", "1" * 64, made),
        ],
    )


def test_a_hop_more_is_a_layer_more_and_edges_keep_their_kind() -> None:
    graph = small()
    one = column_paths.around(graph, "features.f.x", 1, 1)
    assert [(b.id, b.layer, b.chosen) for b in one.boxes] == [
        ("staging.s.v", 0, False),
        ("features.f.x", 1, True),
    ]
    assert column_paths.further(graph, one, forward=False) and not column_paths.further(graph, one, forward=True)
    two = column_paths.around(graph, "features.f.x", 2, 1)
    assert {(x.source, x.target, x.direct) for x in two.lines} == {
        ("raw.t.v", "staging.s.v", True),
        ("raw.t.w", "staging.s.v", False),
        ("staging.s.v", "features.f.x", True),
    }
    dashes = [shape.line.dash for shape in charts_lineage.graph(two.boxes, two.lines).layout.shapes]
    assert sorted(dashes) == ["dash", "solid", "solid"]


def test_what_a_hop_leaves_out_is_counted() -> None:
    lineage = ColumnLineage({f"x{i}": (Input("raw.t", "v", (VALUE,)),) for i in range(20)}, (), ("raw.t",))
    tables = [
        TableLineage("raw.t", {"v": ""}),
        TableLineage("features.f", dict.fromkeys(lineage.columns, ""), "f", None, lineage),
    ]
    drawing = column_paths.around(ColumnGraph("run", tables), "raw.t.v", 1, 1)
    assert len(drawing.boxes) == 1 + column_paths.MOST and drawing.left_out == {1: 20 - column_paths.MOST}


def test_the_tables_behind_a_column_are_one_box_each_with_the_columns_that_take_part() -> None:
    drawing = column_paths.behind(small(), "features.f.x")
    assert [(b.title, b.note, b.layer) for b in drawing.boxes] == [("t", "v, w", 0), ("s", "v", 1), ("f", "x", 2)]
    said = charts_lineage.graph_words(drawing.boxes, drawing.lines)
    assert said == "Lineage of f: 3 nodes, 2 edges. t feeds s; s feeds f."


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).filter(lambda p: p[0] < p[1]), max_size=25))
def test_what_feeds_stands_left_of_what_it_feeds(pairs: list[tuple[int, int]]) -> None:
    lines = [Line(str(a), str(b), True) for a, b in pairs]
    layer = charts_lineage.layered({n for x in lines for n in (x.source, x.target)}, lines)
    assert all(layer[x.source] < layer[x.target] for x in lines)
    boxes = charts_lineage.ordered((Box(n, depth, n, "") for n, depth in layer.items()), lines)
    assert {b.id for b in boxes} == set(layer)


def test_a_timeline_has_a_bar_an_attempt_and_hatches_what_failed() -> None:
    began = datetime(2026, 3, 15, 4, 0, tzinfo=UTC)

    def attempt(task: str, number: int, status: str, start: int, seconds: int) -> TaskAttempt:
        at = began + timedelta(seconds=start)
        return TaskAttempt(
            "r", task, number, status, at, at + timedelta(seconds=seconds), None, None, None, None, None
        )  # fmt: skip

    attempts = [attempt("land", 1, "failed", 0, 2), attempt("land", 2, "succeeded", 4, 3)]
    (bars,) = charts_runs.timeline(began, attempts).data
    assert list(bars.base) == [0.0, 4.0] and list(bars.x) == [2.0, 3.0]
    assert list(bars.marker.pattern.shape) == ["/", ""]
    assert "land attempt 1 failed in 2.0" in charts_runs.timeline_words(attempts)
