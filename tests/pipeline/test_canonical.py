"""A digest of values: blind to batches and layout, and to nothing else."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal

import pyarrow as pa
import pytest

from pipeline.canonical import TableDigest

TABLE = pa.table(
    {
        "id": pa.array(["a", "bb", "", None], pa.string()),
        "n": pa.array([1, -2, None, 4], pa.int32()),
        "x": pa.array([0.1, None, float("nan"), -0.0]),
        "day": pa.array([date(2024, 2, 29), None, date(1970, 1, 1), date(2024, 3, 1)]),
        "at": pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 4, pa.timestamp("us", "UTC")),
        "money": pa.array([Decimal("1.10"), None, Decimal("-3.00"), Decimal("0.01")], pa.decimal128(18, 2)),
        "flag": pa.array([True, False, None, True]),
    }
)


def digest(table: pa.Table, rows: int = 1_000, about: dict[str, object] | None = None) -> str:
    found = TableDigest(table.schema, about)
    for batch in table.to_batches(max_chunksize=rows):
        found.update(batch)
    return found.hexdigest()


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_batches_change_nothing(rows: int) -> None:
    assert digest(TABLE, rows) == digest(TABLE)


def test_a_slice_is_hashed_as_itself() -> None:
    copy = pa.Table.from_pylist(TABLE.slice(1, 2).to_pylist(), schema=TABLE.schema)
    assert digest(TABLE.slice(1, 2)) == digest(copy)


def test_string_width_changes_nothing() -> None:
    wide = TABLE.set_column(0, "id", TABLE.column("id").cast(pa.large_string()))
    assert digest(wide) == digest(TABLE)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("id", ["ab", "b", "", None]),  # the same letters, split elsewhere
        ("id", ["a", "bb", None, None]),  # null is not the empty text
        ("n", [1, -2, 0, 4]),  # null is not zero
        ("x", [0.1, None, None, -0.0]),  # null is not NaN
        ("x", [0.1, None, float("nan"), 0.0]),  # bits, not numbers
        ("money", [Decimal("1.11"), None, Decimal("-3.00"), Decimal("0.01")]),
        ("flag", [True, False, False, True]),
    ],
)
def test_each_value_counts(column: str, values: list[object]) -> None:
    at = TABLE.schema.get_field_index(column)
    other = TABLE.set_column(at, TABLE.schema.field(at), pa.array(values, TABLE.schema.field(at).type))
    assert digest(other) != digest(TABLE)


def test_order_names_types_and_facts_count() -> None:
    assert digest(TABLE.take(pa.array([1, 0, 2, 3]))) != digest(TABLE)
    assert digest(TABLE.rename_columns(["key", *TABLE.column_names[1:]])) != digest(TABLE)
    assert digest(TABLE.set_column(1, "n", TABLE.column("n").cast(pa.int64()))) != digest(TABLE)
    assert digest(TABLE, about={"horizon_months": 12}) != digest(TABLE)


def test_nested_columns_are_refused() -> None:
    with pytest.raises(TypeError, match="list"):
        digest(pa.table({"tags": [["a"], ["b"]]}))
