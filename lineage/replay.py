"""Replay: the archived SQL and the recorded model over the raw rows as they were, compared bit by bit with what stands.

``replay`` does it for one subject, ``replay_night`` for the whole book, a part at a time; the second also names what
came out otherwise, so that a value changed by hand in the lake is found with its column.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from sqlalchemy import Engine

from lineage import rescore, sandbox, sources, subject_sandbox
from lineage.recording import Recording, recording
from lineage.rescore import SCORE_COLUMNS, Difference
from lineage.subjects import lake_of, resolved
from pipeline import booster as native
from pipeline import lake
from pipeline.config import Settings
from pipeline.governance import guard
from pipeline.governance.access import Actor
from pipeline.portfolio import Portfolio
from pipeline.score import BATCH_ROWS, grades, score_points
from pipeline.sql import ident, literal

AT_ONCE = 250_000
"""Accounts: some 17 million statements and payments, under 2 GB while their versions are ranked."""
EXAMPLES = 20


@dataclass(frozen=True)
class SubjectReplay:
    """One subject computed again. rows: raw rows it took. ``differences`` is empty when all is as stored."""

    recorded: Recording
    subject_id: int | str
    features: int
    rows: int
    differences: tuple[Difference, ...]
    seconds: float

    @property
    def equal(self) -> bool:
        return not self.differences

    def as_dict(self) -> dict[str, Any]:
        return {
            "subject": str(self.subject_id),
            "subject_type": self.recorded.subject,
            "as_of": self.recorded.as_of.isoformat(),
            "run": self.recorded.run.run_id,
            "equal": self.equal,
            "features": self.features,
            "rows": self.rows,
            "differences": [vars(d) for d in self.differences],
            "seconds": round(self.seconds, 4),
        }


@dataclass(frozen=True)
class NightReplay:
    """A night computed again, for one kind of subject.

    equal, different: subjects whose features and score are all as stored, or not. missing: stored and not computed
    again; extra: computed again and not stored. columns: how many subjects differ in each. examples: the first few,
    each (subject id, what differs).
    """

    recorded: Recording
    equal: int
    different: int
    missing: int
    extra: int
    columns: dict[str, int]
    examples: tuple[tuple[str, str], ...]
    features_compared: bool
    seconds: dict[str, float]

    @property
    def all_equal(self) -> bool:
        return not (self.different or self.missing or self.extra)

    def as_dict(self) -> dict[str, Any]:
        return {
            "subject_type": self.recorded.subject,
            "as_of": self.recorded.as_of.isoformat(),
            "run": self.recorded.run.run_id,
            "model": {"name": self.recorded.scored.name, "version": self.recorded.scored.version},
            "equal": self.equal,
            "different": self.different,
            "missing": self.missing,
            "extra": self.extra,
            "columns": self.columns,
            "examples": [{"subject": s, "what": w} for s, w in self.examples],
            "features_compared": self.features_compared,
            "seconds": {k: round(v, 3) for k, v in self.seconds.items()},
        }


def replay(
    settings: Settings,
    engine: Engine,
    portfolio: Portfolio,
    subject: str,
    as_of: date,
    *,
    actor: Actor,
    kind: str | None = None,
    run_id: str | None = None,
    con: duckdb.DuckDBPyConnection | None = None,
) -> SubjectReplay:
    """Compute one subject's features and score again from its raw rows. Arguments and errors as ``trace.trace``.

    The rows are those that name the subject. Only if the values do not come out so are the rows asked of lineage, which
    also finds rows of others: what differs then does not differ for want of rows.
    """
    guard.require(engine, actor, "trace.read", f"subject:{subject}")
    with resolved(settings, engine, portfolio, subject, as_of, kind, run_id, con) as (recorded, id_, at):
        started = time.perf_counter()
        rows = sources.own_rows(at, recorded, id_)
        found = _compared(recorded, portfolio, id_, rows, at)
        if found:
            rows = sources.fetch(at, sources.rows_behind(at, recorded, id_))
            found = _compared(recorded, portfolio, id_, rows, at)
        return SubjectReplay(recorded, id_, len(recorded.features), len(rows), found, time.perf_counter() - started)


def _compared(
    recorded: Recording,
    portfolio: Portfolio,
    id_: int | str,
    rows: sources.SourceRows,
    con: duckdb.DuckDBPyConnection,
) -> tuple[Difference, ...]:
    """What of a subject's stored features and score the archived SQL and model do not give over these rows."""
    with ThreadPoolExecutor(max_workers=1) as pool, con.cursor() as beside:
        looked_up = pool.submit(rescore.stored, beside, recorded, id_)  # while the SQL runs
        with subject_sandbox.of_rows(recorded.models, rows.everything(), portfolio.id_type) as box:
            computed = rescore.rows_of(box, recorded.target.relation, f"{recorded.key} = ?", id_)
        stored, score = looked_up.result()
    again = next(iter(computed), {})
    booster = rescore.recorded_booster(recorded.settings, recorded.scored)
    score_again = rescore.score_again(booster, recorded.portfolio(), again) if again else {}
    found = rescore.differences(stored, again, recorded.features) if stored is not None else ()
    return found + rescore.differences(score or {}, score_again, SCORE_COLUMNS)


def replay_night(
    settings: Settings,
    engine: Engine,
    as_of: date,
    subject: str,
    *,
    actor: Actor,
    run_id: str | None = None,
    at_once: int = AT_ONCE,
) -> NightReplay:
    """Compute every subject of a published night again, from the raw rows at the night's snapshot.

    at_once: about how many accounts to build at a time. The archived SQL makes all history in one statement; of a
    whole large book that does not fit in memory.
    """
    guard.require(engine, actor, "trace.read", f"night:{as_of}")
    recorded = recording(settings, engine, as_of, subject, run_id=run_id)
    booster = rescore.recorded_booster(settings, recorded.scored)
    snapshot = recorded.publication.snapshot_id
    with closing(lake_of(settings, recorded.publication)) as con:
        spans = _spans(con, recorded, at_once)
    then = recorded.portfolio()
    counts, columns = Counter[str](), Counter[str]()
    examples: list[tuple[str, str]] = []
    seconds = {"features": 0.0, "scores": 0.0}
    kept = False
    for span in spans:
        started = time.perf_counter()
        with sandbox.of_snapshot(settings, snapshot, recorded.models, span) as box:
            built = time.perf_counter()
            kept = _kept(box, recorded)
            for batch in _side_by_side(box, recorded, native.features(booster), kept, span):
                verdict = _Verdict.of(batch, recorded, booster, then, settings.threads)
                counts.update(verdict.counts())
                columns.update(verdict.columns())
                examples += verdict.examples(EXAMPLES - len(examples))
            seconds["features"] += built - started
            seconds["scores"] += time.perf_counter() - built
    return NightReplay(
        recorded, counts["equal"], counts["different"], counts["missing"], counts["extra"],
        dict(columns.most_common()), tuple(examples), kept, seconds,
    )  # fmt: skip


def _spans(con: duckdb.DuckDBPyConnection, recorded: Recording, at_once: int) -> tuple[sandbox.Span, ...]:
    """Parts of the scored book of about ``at_once`` accounts that make the whole, also of ids that were not scored."""
    if recorded.subject != "account":
        return (sandbox.EVERYBODY,)
    scored = f"FROM {ident(lake.ALIAS, 'scores', 'account_scores')} WHERE as_of_date = {literal(recorded.as_of)}"
    row = con.execute(f"SELECT count(*) {scored}").fetchone()
    parts = -(-row[0] // at_once) if row else 0
    if parts < 2:
        return (sandbox.EVERYBODY,)
    shares = [n / parts for n in range(1, parts)]
    found = con.execute(f"SELECT quantile_disc({ident(recorded.key)}, {shares}) {scored}").fetchone()
    bounds = [None, *dict.fromkeys(found[0] if found else []), None]
    return tuple(sandbox.Span(low, high) for low, high in pairwise(bounds))


def _kept(con: duckdb.DuckDBPyConnection, recorded: Recording) -> bool:
    """Whether the night's feature partition is still in the lake; retention may have dropped it."""
    row = con.execute(
        f"SELECT 1 FROM {_stored(recorded)} WHERE as_of_date = {literal(recorded.as_of)} LIMIT 1"
    ).fetchone()
    return row is not None


def _stored(recorded: Recording) -> str:
    return ident(sandbox.RECORDED, "features", recorded.target.name)


def _side_by_side(
    con: duckdb.DuckDBPyConnection, recorded: Recording, wanted: tuple[str, ...], kept: bool, span: sandbox.Span
) -> Iterator[pa.RecordBatch]:
    """Every subject once: its id, whether it was stored and computed, the columns that differ, the model's inputs as
    computed again, and the score as stored."""
    key = ident(recorded.key)
    of_night = f"as_of_date = {literal(recorded.as_of)} AND {span.holds(key)}"
    differing = "CAST([] AS VARCHAR[])"
    join = ""
    if kept:
        # IS DISTINCT FROM takes 0.0 for -0.0; the sign is compared as well.
        checks = []
        for name, column in recorded.target.columns.items():
            if name not in recorded.features:
                continue
            c = ident(name)
            test = f"a.{c} IS DISTINCT FROM f.{c}"
            if str(column.get("data_type", "")).lower() in ("double", "float", "real"):
                test = f"({test} OR (a.{c} = 0 AND signbit(a.{c}) <> signbit(f.{c})))"
            checks.append(f"CASE WHEN {test} THEN {literal(name)} END")
        differing = (
            f"CASE WHEN f.{key} IS NULL THEN [] WHEN a.{key} IS NULL THEN [] "
            f"ELSE list_filter([{', '.join(checks)}], lambda x: x IS NOT NULL) END"
        )
        join = f"FULL JOIN {_numbered(_stored(recorded), key, of_night)} f ON f.{key} = a.{key} AND f._nth = a._nth"
    ids = f"coalesce(a.{key}, {f'f.{key}, ' if kept else ''}s.{key})"
    on = f"coalesce(a.{key}, f.{key})" if kept else f"a.{key}"
    nth = "coalesce(a._nth, f._nth)" if kept else "a._nth"
    inputs = ", ".join(f"CAST(a.{ident(name)} AS DOUBLE)" for name in wanted)
    scores = ident(sandbox.RECORDED, "scores", f"{recorded.subject}_scores")
    reader = con.execute(
        f"""SELECT CAST({ids} AS VARCHAR), a.{key} IS NOT NULL, s.{key} IS NOT NULL, {differing},
                s.pd, s.log_odds, s.score_points, s.grade, {inputs}
            FROM (SELECT *, 1 AS _nth FROM {recorded.target.relation}) a {join}
            FULL JOIN {_numbered(scores, key, of_night)} s ON s.{key} = {on} AND s._nth = {nth}"""
    ).to_arrow_reader(BATCH_ROWS)
    yield from reader


def _numbered(table: str, key: str, of_night: str) -> str:
    """A stored partition with its rows of one subject numbered: nothing is computed that a second one could be."""
    return f"(SELECT *, row_number() OVER (PARTITION BY {key}) AS _nth FROM {table} WHERE {of_night})"


@dataclass(frozen=True, eq=False)
class _Verdict:
    """What one batch of subjects came to."""

    ids: pa.Array
    computed: NDArray[np.bool_]
    stored: NDArray[np.bool_]
    differing: list[list[str]]

    @classmethod
    def of(cls, batch: pa.RecordBatch, recorded: Recording, booster: Any, then: Portfolio, threads: int) -> _Verdict:
        computed = batch.column(1).to_numpy(zero_copy_only=False).astype(bool)
        stored = batch.column(2).to_numpy(zero_copy_only=False).astype(bool)
        some = len(batch.column(3).flatten()) > 0
        differing: list[list[str]] = batch.column(3).to_pylist() if some else [[] for _ in computed]
        matrix = np.column_stack([batch.column(i).to_numpy(zero_copy_only=False) for i in range(8, batch.num_columns)])
        raw = native.log_odds(booster, np.ascontiguousarray(matrix, dtype=np.float64), threads)
        pd = native.probability(raw)
        names = np.array([g.name for g in then.grades])
        again = {
            "pd": _bits(pd),
            "log_odds": _bits(raw),
            "score_points": score_points(raw, then.points),
            "grade": names[grades(pd, then.grades)],
        }
        both = computed & stored
        for position, name in enumerate(SCORE_COLUMNS, start=4):
            column = batch.column(position)
            was = column.to_numpy(zero_copy_only=False)
            was = _bits(was) if name in ("pd", "log_odds") else was
            for i in np.flatnonzero(both & (was != again[name])):
                differing[i] = [*differing[i], name]
        return cls(batch.column(0), computed, stored, differing)

    def _kind(self, i: int) -> str:
        if not self.computed[i]:
            return "missing"
        if not self.stored[i]:
            return "extra"
        return "different" if self.differing[i] else "equal"

    def counts(self) -> Counter[str]:
        odd = np.array([bool(d) for d in self.differing], dtype=bool)
        both = self.computed & self.stored
        return Counter(
            equal=int((both & ~odd).sum()),
            different=int((both & odd).sum()),
            missing=int((~self.computed).sum()),
            extra=int((self.computed & ~self.stored).sum()),
        )

    def columns(self) -> Counter[str]:
        return Counter(name for names in self.differing for name in names)

    def examples(self, most: int) -> list[tuple[str, str]]:
        odd = [i for i in range(len(self.differing)) if self._kind(i) != "equal"][: max(most, 0)]
        return [(self.ids[i].as_py(), ", ".join(self.differing[i]) or self._kind(i)) for i in odd]


def _bits(values: NDArray[np.float64]) -> NDArray[np.int64]:
    return np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
