"""Bins of a feature, and rows counted into them: every feature and every split of the book in one scan.

A feature is counted as the model reads it: as a double, NaN as NULL. Numbers have right-closed bins between the
baseline's deciles, the outer ones infinite; a code has one bin a category and one for categories never seen. Last
comes a bin for missing values.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.sql import double, ident

NUMBER, CATEGORY = "number", "category"
MISSING, OTHER = "missing", "other"
WHOLE = ("", "")
"""The key of the whole book among the segments."""
DECILES = tuple(i / 10 for i in range(1, 10))
MOST_CATEGORIES = 60

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class FeatureBins:
    """The bins of one feature. Numbers: ``points`` are the inner edges; categories: the values."""

    feature: str
    kind: str
    points: tuple[float, ...]

    @property
    def size(self) -> int:
        """How many bins: the last is missing values, and before it, for a category, values never seen."""
        return len(self.points) + 2

    @property
    def labels(self) -> tuple[str, ...]:
        if self.kind == CATEGORY:
            return (*(f"{p:g}" for p in self.points), OTHER, MISSING)
        if not self.points:
            return ("any", MISSING)
        # An edge just below a value leaves it to the bin above: the value is what is shown of both.
        below = [_just_below(p) for p in self.points]
        ends = [f"{p if value is None else value:.6g}" for p, value in zip(self.points, below, strict=True)]
        between = [high if low == high else f"{low} to {high}" for low, high in pairwise(ends)]
        first = "up to" if below[0] is None else "below"
        last = "above" if below[-1] is None else "from"
        return (f"{first} {ends[0]}", *between, f"{last} {ends[-1]}", MISSING)

    @property
    def uppers(self) -> tuple[float, ...]:
        """Right-closed ends of the intervals that are counted, the last infinite."""
        if self.kind == NUMBER:
            return (*self.points, math.inf)
        # Between two categories lies whatever is neither.
        return (*(end for p in self.points for end in (math.nextafter(p, -math.inf), p)), math.inf)

    def folded(self, intervals: Counts) -> Counts:
        """Counts of the intervals (… × intervals) as counts of the bins without the one for missing values."""
        if self.kind == NUMBER:
            return intervals
        return np.concatenate([intervals[..., 1::2], intervals[..., ::2].sum(axis=-1, keepdims=True)], axis=-1)


@dataclass(frozen=True)
class Segment:
    """One way to split the book: SQL over the source's columns, giving text; wide splits have many values."""

    name: str
    sql: str
    wide: bool = False

    @property
    def text(self) -> str:
        """SQL of the segment's name; NULL is ``unknown``."""
        return f"coalesce(CAST({self.sql} AS VARCHAR), 'unknown')"


@dataclass(frozen=True, eq=False)
class BinCounts:
    """Rows by segment and bin: ``matrix`` is keys × all bins of all features, side by side as ``bins`` gives them."""

    bins: tuple[FeatureBins, ...]
    keys: tuple[tuple[str, str], ...]
    matrix: Counts = field(repr=False)

    @property
    def starts(self) -> NDArray[np.intp]:
        """Column at which each feature's bins start."""
        return np.concatenate([[0], np.cumsum([b.size for b in self.bins])[:-1]]).astype(np.intp)

    def of(self, feature: str, key: tuple[str, str] = WHOLE) -> Counts:
        """The counts of one feature in one segment, all 0 for a segment without rows. Raises KeyError."""
        start, size = self._place(feature)
        if key not in self.keys:
            return np.zeros(size, dtype=np.int64)
        return self.matrix[self.keys.index(key), start : start + size]

    def _place(self, feature: str) -> tuple[int, int]:
        for start, bins in zip(self.starts, self.bins, strict=True):
            if bins.feature == feature:
                return int(start), bins.size
        raise KeyError(feature)


def read_bins(
    con: duckdb.DuckDBPyConnection, source: str, features: Sequence[str], codes: Sequence[str] = ()
) -> tuple[FeatureBins, ...]:
    """The bins of a baseline: one query over ``source`` (a SELECT) for all features. codes: those with categories.

    Deciles are values of the baseline itself, over its finite numbers. Equal ones collapse; one at the maximum would
    leave the bin above it empty and is left out. Where none is left the maximum gets a bin of its own, so that
    a feature that never moved is seen to move.
    """
    if not features:
        return ()
    numbers = [name for name in features if name not in codes]
    picked = [
        f"quantile_disc({_finite(name)}, [{', '.join(map(str, DECILES))}]), min({_finite(name)}), max({_finite(name)})"
        for name in numbers
    ]
    picked += [f"list_sort(list(DISTINCT {_value(name)}))" for name in codes if name in features]
    row = con.execute(f"SELECT {', '.join(picked)} FROM ({source})").fetchone()
    assert row is not None
    found: dict[str, FeatureBins] = {}
    for i, name in enumerate(numbers):
        deciles, low, high = row[3 * i : 3 * i + 3]
        found[name] = FeatureBins(name, NUMBER, number_edges(deciles or (), low, high))
    for values, name in zip(row[3 * len(numbers) :], (n for n in codes if n in features), strict=True):
        categories = tuple(v for v in values or () if v is not None and math.isfinite(v))
        if len(categories) > MOST_CATEGORIES:
            raise ValueError(f"{name} is declared a code and has {len(categories)} values")
        found[name] = FeatureBins(name, CATEGORY, categories)
    return tuple(found[name] for name in features)


def number_edges(deciles: Sequence[float], low: float | None, high: float | None) -> tuple[float, ...]:
    """Inner edges from the deciles, the minimum and the maximum of a baseline; none where it has no number."""
    if low is None or high is None:
        return ()
    edges = sorted({d for d in deciles if d < high})
    if edges:
        return tuple(edges)
    below = math.nextafter(high, -math.inf)
    return (below, high) if low == high else (below,)


def _just_below(edge: float) -> float | None:
    """The value that an edge is the nearest number below, as ``number_edges`` makes one; None of any other edge."""
    above = math.nextafter(edge, math.inf)
    return abs(above) if above == 0 else above if len(repr(above)) + 4 < len(repr(edge)) else None


def count_bins(
    con: duckdb.DuckDBPyConnection, source: str, bins: Sequence[FeatureBins], segments: Sequence[Segment] = ()
) -> BinCounts:
    """Count the rows of ``source`` (a SELECT with a column for each feature) into the bins, by segment, in one scan.

    A split that has one value only is left out: it says what the whole says. NULL is the segment ``unknown``.
    """
    narrow = [s for s in segments if not s.wide]
    sets = [[s.name for s in narrow], *([s.name] for s in segments if s.wide)]
    names = [s.name for s in segments]
    columns = ", ".join(f"{s.text} AS {ident('by ' + s.name)}" for s in segments)
    values = ", ".join(f"{_value(b.feature)} AS {ident(b.feature)}" for b in bins)
    histograms = [
        f"histogram({ident(b.feature)}, [{', '.join(map(double, b.uppers))}]) AS {ident(b.feature)}" for b in bins
    ]
    by = [ident("by " + name) for name in names]
    groups = ", ".join("(" + ", ".join(ident("by " + n) for n in chosen) + ")" for chosen in sets)
    found = con.execute(
        f"SELECT {', '.join([*by, 'count(*) AS rows', *histograms])} "
        f"FROM (SELECT {', '.join(filter(None, [columns, values]))} FROM ({source})) GROUP BY GROUPING SETS ({groups})"
    ).to_arrow_table()
    rows = found.column("rows").to_numpy()
    matrix = np.zeros((found.num_rows, sum(b.size for b in bins)), dtype=np.int64)
    start = 0
    for i, b in enumerate(bins):
        matrix[:, start : start + b.size - 1] = b.folded(_intervals(found.column(len(by) + 1 + i), len(b.uppers)))
        matrix[:, start + b.size - 1] = rows - matrix[:, start : start + b.size - 1].sum(axis=1)
        start += b.size
    labels = [found.column(i).to_pylist() for i in range(len(by))]
    return _rolled_up(tuple(bins), narrow, segments, labels, matrix)


def _rolled_up(
    bins: tuple[FeatureBins, ...],
    narrow: Sequence[Segment],
    segments: Sequence[Segment],
    labels: Sequence[Sequence[str | None]],
    matrix: Counts,
) -> BinCounts:
    """Combinations of the narrow splits added up to each split by itself and to the whole."""
    of = {s.name: labels[i] for i, s in enumerate(segments)}
    wide = [s.name for s in segments if s.wide]
    # A row of a wide split has that split's label and no other; every other row is a combination.
    together = np.array([all(of[w][i] is None for w in wide) for i in range(len(matrix))], dtype=bool)
    keys: list[tuple[str, str]] = [WHOLE]
    summed = [matrix[together].sum(axis=0)]
    for segment in segments:
        members: dict[str, list[int]] = {}
        for i, label in enumerate(of[segment.name]):
            if label is not None:
                members.setdefault(label, []).append(i)
        if len(members) < 2:
            continue
        for label in sorted(members):
            keys.append((segment.name, label))
            summed.append(matrix[members[label]].sum(axis=0))
    return BinCounts(bins, tuple(keys), np.array(summed, dtype=np.int64))


def _intervals(column: pa.ChunkedArray, size: int) -> Counts:
    """Groups × intervals from a column of maps; a group without a number has no map and counts 0."""
    maps = column.combine_chunks()
    filled = np.zeros((len(maps), size), dtype=np.int64)
    there = np.flatnonzero(maps.is_valid().to_numpy(zero_copy_only=False))
    counted = maps.drop_null().items.to_numpy(zero_copy_only=False).astype(np.int64)
    filled[there] = counted.reshape(len(there), size)
    return filled


def _value(feature: str) -> str:
    return f"nullif(CAST({ident(feature)} AS DOUBLE), 'nan'::DOUBLE)"


def _finite(feature: str) -> str:
    value = f"CAST({ident(feature)} AS DOUBLE)"
    return f"CASE WHEN isfinite({value}) THEN {value} END"


def stored(counts: BinCounts, more: Mapping[str, pa.Scalar]) -> pa.Table:
    """The counts as rows (dimension, segment, feature, bin, rows) without zeros; ``more`` stands in every row."""
    key, column = np.nonzero(counts.matrix)
    sizes = np.array([b.size for b in counts.bins])
    feature = np.repeat(np.arange(len(sizes)), sizes)[column]
    names = pa.array([b.feature for b in counts.bins])
    columns = {
        "dimension": pa.array([k[0] for k in counts.keys]).take(pa.array(key)),
        "segment": pa.array([k[1] for k in counts.keys]).take(pa.array(key)),
        "feature": names.take(pa.array(feature)),
        "bin": pa.array((column - counts.starts[feature]).astype(np.int16)),
        "rows": pa.array(counts.matrix[key, column]),
    }
    return pa.table({**{k: pa.repeat(v, len(key)) for k, v in more.items()}, **columns})


def restored(bins: Sequence[FeatureBins], rows: pa.Table) -> BinCounts:
    """``stored`` turned back. Rows of features without bins here are left out."""
    found = BinCounts(tuple(bins), (), np.zeros((0, 0), dtype=np.int64))
    starts = dict(zip((b.feature for b in bins), found.starts, strict=False)) if bins else {}
    keys: dict[tuple[str, str], int] = {}
    width = sum(b.size for b in bins)
    dimension, segment, feature = (rows.column(n).to_pylist() for n in ("dimension", "segment", "feature"))
    place, number = rows.column("bin").to_numpy(), rows.column("rows").to_numpy()
    at = [keys.setdefault(k, len(keys)) for k in zip(dimension, segment, strict=True)]
    matrix = np.zeros((len(keys), width), dtype=np.int64)
    known = [i for i, name in enumerate(feature) if name in starts]
    if known:
        column = np.array([starts[feature[i]] for i in known]) + place[known]
        np.add.at(matrix, (np.array(at)[known], column), number[known])
    return BinCounts(tuple(bins), tuple(keys), matrix)
