"""Why the mean score moved: mean contributions to the log-odds on a fixed sample, by night and segment.

The sample is the first subjects in the order of a hash of their id: the same ones every night while they are scored.
Contributions and base add up to a row's log-odds, so the difference of two nights' means splits by feature without a
remainder: exact for the sample, and an estimate of the book.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING

import duckdb
import numpy as np
import pyarrow as pa

from pipeline import booster as native
from pipeline import lake
from pipeline.errors import NotFound
from pipeline.ledger import Publication
from pipeline.monitoring.baselines import replace
from pipeline.monitoring.bins import WHOLE
from pipeline.monitoring.segments import night_rows, segments_of
from pipeline.portfolio import ModelSpec, Portfolio
from pipeline.sql import ident, literal

if TYPE_CHECKING:
    from lightgbm import Booster

BASE = "(base)"
"""The model's own constant among the contributions."""
SEED = "score drift"


@dataclass(frozen=True)
class Moved:
    """The change of the mean log-odds between two nights, of one segment's sample.

    by_feature: feature → part, largest first; they add up to ``change`` (to the last bits of a float sum). rows: the
    sample's size on each night. versions: of the model on each night; where they differ, a part is what a feature said
    in another model, and not its values alone. book: the mean log-odds of every score of each night, which the sample
    stands for; None of a segment.
    """

    model: str
    dimension: str
    segment: str
    start: date
    end: date
    before: float
    after: float
    rows: tuple[int, int]
    by_feature: dict[str, float]
    versions: tuple[int, int]
    book: tuple[float, float] | None = None

    @property
    def change(self) -> float:
        return self.after - self.before

    @property
    def mostly_noise(self) -> bool:
        """Whether the sample is further from the book's own change than that change is large."""
        return self.book is not None and abs(self.change - (self.book[1] - self.book[0])) > abs(
            self.book[1] - self.book[0]
        )


def write_night(
    con: duckdb.DuckDBPyConnection,
    portfolio: Portfolio,
    spec: ModelSpec,
    publication: Publication,
    version: int,
    booster: Booster,
    threads: int = 0,
) -> int:
    """Compute the sample's contributions of a published night and replace the night's rows; returns the sample size."""
    features = native.features(booster)
    columns = [
        c[0]
        for c in con.execute(
            f"SELECT * FROM {ident(lake.ALIAS, 'features', f'{spec.subject}_features')} "
            f"AT (VERSION => {int(publication.snapshot_id)}) LIMIT 0"
        ).description
        or ()
    ]
    days = (publication.as_of - portfolio.period_start(publication.as_of)).days + 1
    segments = [s for s in segments_of(spec.subject, portfolio.monitoring.segments, columns) if not s.wide]
    rows = night_rows(spec.subject, publication.as_of, publication.snapshot_id, days)
    by = [s.text for s in segments]
    values = [f"CAST({ident(name)} AS DOUBLE)" for name in features]
    key = ident(f"{spec.subject}_id")
    sample = con.execute(
        f"""SELECT {", ".join([*by, *values])} FROM ({rows})
        WHERE {key} IN (SELECT {key} FROM {ident(lake.ALIAS, "scores", f"{spec.subject}_scores")}
            AT (VERSION => {int(publication.snapshot_id)}) WHERE as_of_date = {literal(publication.as_of)}
            ORDER BY md5_number_lower({literal(SEED + "|")} || {key}::VARCHAR), {key}
            LIMIT {int(portfolio.monitoring.sample)})
        ORDER BY {key}"""
    ).to_arrow_table()
    matrix = np.empty((sample.num_rows, len(features)))
    for i in range(len(features)):
        matrix[:, i] = sample.column(len(by) + i).to_numpy()
    parts = native.contributions(booster, matrix, threads)
    found: list[dict[str, object]] = []

    def add(key: tuple[str, str], chosen: np.ndarray) -> None:
        means = parts[chosen].mean(axis=0)
        for name, mean in zip((*features, BASE), means, strict=True):
            if mean or name == BASE:
                found.append(
                    {"dimension": key[0], "segment": key[1], "feature": name, "mean": float(mean), "n": len(chosen)}
                )

    if len(parts):
        add(WHOLE, np.arange(len(parts)))
    for i, segment in enumerate(segments):
        labels = np.array(sample.column(i).to_pylist(), dtype=object)
        for label in sorted(set(labels)):
            add((segment.name, str(label)), np.flatnonzero(labels == label))
    schema = pa.schema(
        [("dimension", pa.string()), ("segment", pa.string()), ("feature", pa.string()), ("mean", pa.float64()),
         ("n", pa.int64())]
    )  # fmt: skip
    listed = pa.Table.from_pylist(found, schema=schema)
    night = {
        "as_of_date": pa.scalar(publication.as_of, pa.date32()),
        "model_name": pa.scalar(spec.name, pa.string()),
        "model_version": pa.scalar(version, pa.int32()),
    }
    table = pa.table(
        {
            **{k: pa.repeat(v, listed.num_rows) for k, v in night.items()},
            **{name: listed.column(name) for name in listed.column_names},
        }
    )
    # Another version's rows of this night are no longer what was published: the night has one version.
    where = f"as_of_date = {literal(publication.as_of)} AND model_name = {literal(spec.name)}"
    replace(con, [("contributions", table, "dimension, segment, feature")], where)
    return int(sample.num_rows)


def between(
    con: duckdb.DuckDBPyConnection, spec: ModelSpec, start: date, end: date, *, dimension: str = "", segment: str = ""
) -> Moved:
    """The change of the sample's mean log-odds between two nights, by feature. Raises NotFound: a night not stored."""
    nights: list[dict[str, float]] = []
    rows: list[int] = []
    versions: list[int] = []
    model = spec.name
    for day in (start, end):
        found = con.execute(
            f"SELECT feature, mean, n, model_version FROM {ident(lake.ALIAS, 'drift', 'contributions')} "
            "WHERE as_of_date = ? AND model_name = ? AND dimension = ? AND segment = ? ORDER BY feature",
            [day, model, dimension, segment],
        ).fetchall()
        if not found:
            raise NotFound(
                f"there are no contributions of {model} for {day}" + (f", {dimension} {segment}" if dimension else ""),
                f"`scoretrace monitor --as-of {day}` computes them for a published night",
            )
        nights.append({name: mean for name, mean, *_ in found})
        rows.append(int(found[0][2]))
        versions.append(int(found[0][3]))
    before, after = nights
    parts = {name: after.get(name, 0.0) - before.get(name, 0.0) for name in sorted(before.keys() | after.keys())}
    return Moved(
        model, dimension, segment, start, end, sum(before.values()), sum(after.values()), (rows[0], rows[1]),
        dict(sorted(parts.items(), key=lambda item: (-abs(item[1]), item[0]))), (versions[0], versions[1]),
        None if dimension else _of_the_book(con, spec, start, end),
    )  # fmt: skip


def _of_the_book(con: duckdb.DuckDBPyConnection, spec: ModelSpec, start: date, end: date) -> tuple[float, float] | None:
    """The mean log-odds of all scores of two nights; None where the lake has none of one of them."""
    found = dict(
        con.execute(
            f"SELECT as_of_date, avg(log_odds) FROM {ident(lake.ALIAS, 'scores', f'{spec.subject}_scores')} "
            "WHERE model_name = ? AND as_of_date IN (?, ?) GROUP BY 1",
            [spec.name, start, end],
        ).fetchall()
    )
    return (float(found[start]), float(found[end])) if found.keys() == {start, end} else None
