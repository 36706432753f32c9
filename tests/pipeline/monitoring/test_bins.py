"""Rows counted into frozen bins: the same in SQL as in NumPy, whatever the values are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import closing

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.monitoring import panel, stability
from pipeline.monitoring.bins import (
    CATEGORY,
    NUMBER,
    OTHER,
    WHOLE,
    FeatureBins,
    Segment,
    count_bins,
    read_bins,
    restored,
    stored,
)

numbers = st.one_of(
    st.floats(allow_nan=True, allow_infinity=True, allow_subnormal=False),  # SQL reads the smallest of all as 0
    st.integers(-3, 3).map(float),
    st.none(),
)


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect()) as opened:
        yield opened


def frame(con: duckdb.DuckDBPyConnection, name: str, **columns: list[float | str | None]) -> str:
    table = pa.table({k: pa.array(v, pa.string() if k.startswith("by_") else pa.float64()) for k, v in columns.items()})
    con.register(name, table)
    return f"SELECT * FROM {name}"


def numpy_counts(values: list[float | None], bins: FeatureBins) -> list[int]:
    """The same bins counted by NumPy."""
    array = np.array([math.nan if v is None else v for v in values])
    if bins.kind == NUMBER:
        return [int(n) for n in stability.bin_counts(array, bins.points)]
    here = [int((array == p).sum()) for p in bins.points]
    missing = int(np.isnan(array).sum())
    return [*here, len(array) - sum(here) - missing, missing]


@given(
    baseline=st.lists(numbers, min_size=1, max_size=40),
    tonight=st.lists(numbers, min_size=1, max_size=40),
    code=st.booleans(),
)
def test_sql_and_numpy_count_alike_and_give_the_same_psi(
    con: duckdb.DuckDBPyConnection, baseline: list[float | None], tonight: list[float | None], code: bool
) -> None:
    before, after = frame(con, "baseline", f=baseline), frame(con, "tonight", f=tonight)
    (bins,) = read_bins(con, before, ["f"], ["f"] if code else [])
    counted = [count_bins(con, source, [bins]).of("f") for source in (before, after)]
    expected = [numpy_counts(values, bins) for values in (baseline, tonight)]
    assert [list(c) for c in counted] == expected
    assert stability.psi(*counted) == stability.psi(*expected)
    assert sum(counted[1]) == len(tonight)
    assert len(bins.labels) == bins.size == len(counted[0])


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60), st.randoms())
def test_the_order_of_rows_changes_nothing(con: duckdb.DuckDBPyConnection, values: list[float], random: object) -> None:
    shuffled = list(values)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    results = []
    for order in (values, shuffled):
        source = frame(con, "rows", f=order)
        bins = read_bins(con, source, ["f"])
        results.append((bins, count_bins(con, source, bins).matrix.tolist()))
    assert results[0] == results[1]


def test_deciles_of_a_hundred_numbers(con: duckdb.DuckDBPyConnection) -> None:
    source = frame(con, "rows", f=[float(i) for i in range(1, 101)])
    (bins,) = read_bins(con, source, ["f"])
    assert bins.points == tuple(float(10 * i) for i in range(1, 10))
    assert list(count_bins(con, source, [bins]).of("f")) == [10] * 10 + [0]
    assert bins.labels[0] == "up to 10" and bins.labels[-2:] == ("above 90", "missing")


def test_a_constant_feature_is_stable_and_is_seen_to_move(con: duckdb.DuckDBPyConnection) -> None:
    source = frame(con, "rows", f=[3.0] * 50)
    (bins,) = read_bins(con, source, ["f"])
    same = count_bins(con, source, [bins]).of("f")
    moved = count_bins(con, frame(con, "later", f=[3.0] * 10 + [3.5] * 40), [bins]).of("f")
    assert stability.judged_psi(same, same) == stability.Psi(0.0, 0.0, 1.0, 1, False, False)
    assert stability.psi(same, moved) > 1


@pytest.mark.parametrize(
    ("values", "labels"),
    [
        ([0.0] * 20, ("below 0", "0", "above 0")),
        ([700.0] * 20, ("below 700", "700", "above 700")),
        ([0.0] + [1.0] * 19, ("below 1", "from 1")),
        ([0.1, 0.1, 0.1, 0.3, 0.3], ("up to 0.1", "above 0.1")),
    ],
)
def test_a_value_with_a_bin_of_its_own_is_named_by_it(
    con: duckdb.DuckDBPyConnection, values: list[float], labels: tuple[str, ...]
) -> None:
    (bins,) = read_bins(con, frame(con, "rows", f=values), ["f"])
    assert bins.labels == (*labels, "missing")


def test_a_feature_that_is_null_everywhere_has_one_bin_and_is_seen_to_come(con: duckdb.DuckDBPyConnection) -> None:
    source = frame(con, "rows", f=[None] * 20)
    (bins,) = read_bins(con, source, ["f"])
    assert (bins.points, bins.labels) == ((), ("any", "missing"))
    before = count_bins(con, source, [bins]).of("f")
    assert list(before) == [0, 20]
    came = count_bins(con, frame(con, "later", f=[1.0] * 20), [bins]).of("f")
    assert stability.psi(before, came) > 5


def test_infinities_are_in_the_outer_bins_and_nan_is_missing(con: duckdb.DuckDBPyConnection) -> None:
    (bins,) = read_bins(con, frame(con, "rows", f=[float(i) for i in range(100)]), ["f"])
    found = count_bins(con, frame(con, "later", f=[math.inf, -math.inf, math.nan, None]), [bins]).of("f")
    assert (found[0], found[-2], found[-1], found.sum()) == (1, 1, 2, 4)


def test_infinities_of_the_baseline_are_no_edges(con: duckdb.DuckDBPyConnection) -> None:
    (bins,) = read_bins(con, frame(con, "rows", f=[math.inf] * 50 + [-math.inf] * 50 + [1.0, 2.0]), ["f"])
    assert all(math.isfinite(p) for p in bins.points)


def test_a_category_never_seen_is_counted_as_such(con: duckdb.DuckDBPyConnection) -> None:
    (bins,) = read_bins(con, frame(con, "rows", f=[0.0, 1.0, 1.0, 3.0, None]), ["f"], ["f"])
    assert (bins.kind, bins.points, bins.labels) == (CATEGORY, (0.0, 1.0, 3.0), ("0", "1", "3", OTHER, "missing"))
    found = count_bins(con, frame(con, "later", f=[2.0, 1.0, -7.0, None]), [bins]).of("f")
    assert list(found) == [0, 1, 0, 2, 1]


def test_a_code_with_a_thousand_values_is_refused(con: duckdb.DuckDBPyConnection) -> None:
    with pytest.raises(ValueError, match="declared a code"):
        read_bins(con, frame(con, "rows", f=[float(i) for i in range(1000)]), ["f"], ["f"])


@given(
    st.lists(
        st.tuples(numbers, st.sampled_from(["a", "b", None]), st.sampled_from(["x", "y", "z"])), min_size=1, max_size=50
    )
)
def test_each_split_adds_up_to_the_whole(
    con: duckdb.DuckDBPyConnection, rows: list[tuple[float | None, str | None, str]]
) -> None:
    source = frame(con, "rows", f=[r[0] for r in rows], by_p=[r[1] for r in rows], by_s=[r[2] for r in rows])
    bins = read_bins(con, source, ["f"])
    counts = count_bins(con, source, bins, [Segment("p", "by_p"), Segment("s", "by_s", wide=True)])
    for dimension, column in (("p", 1), ("s", 2)):
        parts = {r[column] or "unknown" for r in rows}
        keys = [k for k in counts.keys if k[0] == dimension]
        assert {k[1] for k in keys} == (parts if len(parts) > 1 else set())
        if keys:
            assert sum(counts.of("f", k) for k in keys).tolist() == counts.of("f").tolist()  # type: ignore[union-attr]
        for key in keys:
            mine = [r[0] for r in rows if (r[column] or "unknown") == key[1]]
            assert counts.of("f", key).tolist() == numpy_counts(mine, bins[0])


def test_counts_come_back_as_they_were_stored(con: duckdb.DuckDBPyConnection) -> None:
    source = frame(con, "rows", f=[1.0, 2.0, None, 9.0], g=[0.0, 0.0, 1.0, 2.0], by_p=["a", "b", "b", "a"])
    bins = read_bins(con, source, ["f", "g"], ["g"])
    counts = count_bins(con, source, bins, [Segment("p", "by_p")])
    again = restored(bins, stored(counts, {"model_name": pa.scalar("m")}))
    assert again.keys == counts.keys
    assert (again.matrix == counts.matrix).all()


def test_a_segment_without_rows_counts_nothing(con: duckdb.DuckDBPyConnection) -> None:
    source = frame(con, "rows", f=[1.0])
    bins = read_bins(con, source, ["f"])
    assert count_bins(con, source, bins).of("f", ("product", "card")).tolist() == [0, 0, 0, 0]
    empty = count_bins(con, f"{source} WHERE false", bins, [Segment("p", "'a'")])
    assert (empty.keys, empty.matrix.sum()) == ((WHOLE,), 0)


counts_of_night = st.lists(st.integers(0, 200), min_size=7, max_size=7)


@given(st.lists(st.tuples(counts_of_night, counts_of_night), min_size=1, max_size=4))
def test_the_panel_gives_what_each_statistic_gives_by_itself(rows: list[tuple[list[int], list[int]]]) -> None:
    """Two features side by side (a number of 4 bins, a code of 3) in several segments; both count the same rows."""
    from pipeline.monitoring.bins import BinCounts

    bins = (FeatureBins("f", NUMBER, (0.5, 2.0)), FeatureBins("g", CATEGORY, (1.0,)))
    keys = (WHOLE, *(("p", str(i)) for i in range(len(rows) - 1)))

    def side(which: int) -> BinCounts:
        made = []
        for row in rows:
            left, right = row[which][:4], row[which][4:]
            right = [*right[:2], 0]
            right[2] = max(0, sum(left) - sum(right))
            left = [left[0] + max(0, sum(right) - sum(left)), *left[1:]]
            made.append(left + right)
        return BinCounts(bins, keys, np.array(made, dtype=np.int64))

    baseline, night = side(0), side(1)
    found = panel.compare(baseline, night, alpha=0.05, minimum_rows=1)
    for i, key in enumerate(keys):
        for j, feature in enumerate(("f", "g")):
            e = baseline.of(feature, key if baseline.of(feature, key).sum() >= 1 else WHOLE)
            a = night.of(feature, key)
            if not e.sum() or not a.sum():
                assert math.isnan(found.psi[i, j])
                continue
            judged = stability.judged_psi(e, a)
            assert found.psi[i, j] == pytest.approx(judged.value, rel=1e-9, abs=1e-12)
            assert found.critical[i, j] == pytest.approx(judged.critical, rel=1e-9, abs=1e-12)
            assert found.p_value[i, j] == pytest.approx(judged.p_value, rel=1e-9, abs=1e-12)
            assert (found.bins[i, j], bool(found.floored[i, j])) == (judged.bins, judged.floored)
            assert found.jensen_shannon[i, j] == pytest.approx(stability.jensen_shannon(e, a), abs=1e-9)
            assert found.missing_rate[i, j] == a[-1] / a.sum()
            if e[:-1].sum() and a[:-1].sum():
                without = stability.psi(e[:-1], a[:-1])
                assert found.psi_without_missing[i, j] == pytest.approx(without, rel=1e-9, abs=1e-12)
                if feature == "f":
                    distance = stability.binned_wasserstein(e[:-1], a[:-1], (0.5, 2.0))
                    assert found.wasserstein[i, j] == pytest.approx(distance, abs=1e-9)
                else:
                    assert found.new_category_rate[i, j] == a[-2] / a.sum()


def test_ten_accounts_in_a_segment_drift_by_chance(con: duckdb.DuckDBPyConnection) -> None:
    rng = np.random.default_rng(1)
    baseline = frame(con, "baseline", f=rng.normal(size=5_000).tolist())
    bins = read_bins(con, baseline, ["f"])
    ten = frame(con, "tonight", f=rng.normal(size=10).tolist())
    found = stability.judged_psi(count_bins(con, baseline, bins).of("f"), count_bins(con, ten, bins).of("f"))
    assert found.value > 0.25 and not found.significant
