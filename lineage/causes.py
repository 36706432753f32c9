"""From something found to what may have done it: the columns upstream, their loads, and what changed on the path.

Column lineage of the night's own run says which raw columns feed a drifting feature. What that night recorded of them
is then weighed: gates that failed or warned, rows that came, correct others or stay away, values that moved, nulls,
data tests, and definitions of models that changed. The order is a judgement, and each line gives its figures.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

import duckdb
from sqlalchemy import Engine

from lineage.columns import DIRECT, ColumnGraph, run_lineage
from lineage.definitions import undated
from lineage.raw_moves import FEW_ROWS, Loads, moves
from pipeline import archive, lake, ledger
from pipeline.config import Settings
from pipeline.contracts import CONTRACTS
from pipeline.errors import NotFound
from pipeline.monitoring.alert_rules import DRIFT, Finding
from pipeline.monitoring.alert_state import Cause
from pipeline.monitoring.alerts import Explain
from pipeline.monitoring.restatements import corrected_subjects, restated_shares
from pipeline.monitoring.segments import night_rows, segments_of
from pipeline.portfolio import Portfolio
from pipeline.sql import ident, literal

_FEW_CORRECTED = 0.05
"""Corrected rows of fewer of the accounts that drifted did not make them drift."""


@dataclass(frozen=True)
class Weighed:
    """A cause with its weight: the more, the likelier."""

    weight: float
    cause: Cause


def explainer(settings: Settings, engine: Engine, portfolio: Portfolio) -> Callable[[str], Explain]:
    """For a run's id, the function that looks for causes in that run's records. Handed to the night from above."""

    def of_run(run_id: str) -> Explain:
        search = Search(settings, engine, portfolio, run_id)
        return search.causes

    return of_run


class Search:
    """What one run recorded, read when it is first asked for."""

    def __init__(self, settings: Settings, engine: Engine, portfolio: Portfolio, run_id: str) -> None:
        self.settings, self.engine, self.portfolio, self.run_id = settings, engine, portfolio, run_id

    def causes(self, finding: Finding) -> tuple[Cause, ...]:
        """The causes of a finding, likeliest first; none when nothing upstream of a drift stands out."""
        found: list[Weighed] = []
        # What stood on several nights came with the first of them: what it is held against ends before that.
        before = self.portfolio.period_start(finding.since or self._as_of)
        if finding.kind == DRIFT:
            feeds = self._feeding(finding.columns)
            tables = {column.rpartition(".")[0] for column in feeds}
            for table in sorted(tables):
                mine = {c.rpartition(".")[2]: share for c, share in feeds.items() if c.startswith(f"{table}.")}
                found += self._of_table(finding, table.removeprefix("raw."), mine, before)
            found += self._definitions(finding.columns, finding.since or self._as_of)
        else:
            found += [w for name in finding.columns for w in self._of_found(finding, name, before)]
        best: dict[str, Weighed] = {}
        for weighed in sorted(found, key=lambda w: (-w.weight, w.cause.source)):
            best.setdefault(f"{weighed.cause.source} {weighed.cause.reason}", weighed)
        return tuple(w.cause for w in best.values())

    # -- where it comes from

    @cached_property
    def _graph(self) -> ColumnGraph:
        return run_lineage(self.settings, self.engine, self.run_id)

    @cached_property
    def _snapshot(self) -> int | None:
        return ledger.last_snapshot(self.engine, self.run_id)

    @cached_property
    def _as_of(self) -> date:
        return ledger.run(self.engine, self.run_id).as_of

    @cached_property
    def _verdicts(self) -> tuple[ledger.GateVerdict, ...]:
        return ledger.gate_verdicts(self.engine, self.run_id)

    def _feeding(self, columns: Sequence[str]) -> dict[str, float]:
        """Raw column → share of these columns that it feeds by its value. A count or a streak has no such column: it is
        fed by those that decide which rows count."""
        fed: dict[str, int] = {}
        for column in columns:
            raw = [r for r in self._graph.sources(column) if r.table.startswith("raw.")]
            by_value = [r for r in raw if any(t.type == DIRECT for t in r.transformations)]
            for reached in by_value or raw:
                fed[reached.node] = fed.get(reached.node, 0) + 1
        return {node: n / len(columns) for node, n in fed.items()}

    # -- what that night recorded

    def _of_table(self, finding: Finding, table: str, feeds: Mapping[str, float], before: date) -> list[Weighed]:
        """Evidence about a raw table and those of its columns that feed what was found (column → share fed)."""
        share = max(feeds.values(), default=0.0)
        found = [
            Weighed(
                (100 if v.verdict == "fail" else 20) * share, Cause(f"raw.{v.subject}", f"gate {v.gate}: {v.message}")
            )
            for v in self._verdicts
            if v.verdict in ("fail", "warn")
            and (v.subject == table or (v.subject.startswith(f"{table}.") and v.subject.rpartition(".")[2] in feeds))
        ]
        with closing(lake.connect(self.settings, snapshot=self._snapshot)) as con:
            found += [Weighed(w.weight * share, w.cause) for w in self._loads(con, table, before, finding)]
            values = before - timedelta(days=self.portfolio.monitoring.volume_window)
            # A week of nights, or the month before.
            steps = min(before - timedelta(days=7), self.portfolio.period_start(before - timedelta(days=1)))
            found += [
                Weighed(60 * feeds[m.column] * min(m.psi, 2.0), Cause(f"raw.{table}.{m.column}", m.said))
                for m in moves(con, table, feeds, Loads(values, steps, before, self._as_of))
            ]
        return found

    def _of_found(self, finding: Finding, name: str, before: date) -> list[Weighed]:
        """Evidence about a finding of gates, landing, tests or restatements: first what itself says."""
        parts = name.split(".")
        table = parts[1] if parts[0] == "raw" and len(parts) > 1 else ""
        verdicts = [v for v in self._verdicts if v.verdict in ("fail", "warn") and v.subject.partition(".")[0] == table]
        found = [
            Weighed(
                100 - i if v.verdict == "fail" else 50 - i, Cause(f"raw.{v.subject}", f"gate {v.gate}: {v.message}")
            )
            for i, v in enumerate(verdicts)
        ]
        if not verdicts:
            found.append(Weighed(90, Cause(name, finding.message)))
        if table in CONTRACTS:
            with closing(lake.connect(self.settings, snapshot=self._snapshot)) as con:
                found += self._loads(con, table, before, finding)
        return found

    def _loads(self, con: duckdb.DuckDBPyConnection, table: str, before: date, finding: Finding) -> list[Weighed]:
        """The night's load of a table: missing, short or long against the window, correcting what came before it.

        before: where the window ends, a date of which it does not hold the loads any more.
        """
        first, window = self.portfolio.period_start(self._as_of), self.portfolio.monitoring.volume_window
        row = con.execute(
            """WITH days AS (
                SELECT m.load_date, sum(m.rows) AS rows, string_agg(DISTINCT m.load_id, ', ') AS loads
                FROM raw.load_months m JOIN raw.loads l USING (load_id)
                WHERE m.table_name = $table AND l.state IN ('landed', 'accepted')
                AND m.load_date > $since AND m.load_date <= $as_of GROUP BY m.load_date)
            SELECT coalesce(sum(rows) FILTER (load_date >= $first), 0), median(rows) FILTER (load_date < $before),
                count(*) FILTER (load_date < $before),
                string_agg(loads, ', ') FILTER (load_date >= $first) FROM days""",
            {
                "table": table,
                "since": before - timedelta(days=window),
                "as_of": self._as_of,
                "first": first,
                "before": before,
            },
        ).fetchone()
        assert row is not None
        rows, usual, days, loads = row
        found = []
        source = f"raw.{table}" + (f", load {loads}" if loads else "")
        if usual and days >= 3 and max(float(usual), rows) >= FEW_ROWS:
            ratio = max(rows, 0.5) / float(usual)
            if not 0.6 <= ratio <= 1 / 0.6:
                found.append(
                    Weighed(
                        15 * abs(math.log(ratio)),
                        Cause(source, f"{rows:,} rows tonight, usually {float(usual):,.0f} (median of {days} days)"),
                    )
                )
        if self._snapshot is not None:
            shares = restated_shares(con, self.portfolio, self._as_of, self._snapshot, tables=(table,))
            restated, of, most = shares.get(table, (0, 1, 0.0))
            if restated / of > max(0.01, 2 * most):
                said = f"{restated:,} of {of:,} rows correct rows that landed before"
                if finding.segments:
                    corrected, subjects = self._corrected(con, table, finding, self._snapshot)
                    if corrected < _FEW_CORRECTED * subjects:
                        return found
                    said += f", of {corrected:,} of the {subjects:,} {_subject(finding)}s that drifted"
                found.append(Weighed(40, Cause(source, said)))
        return found

    def _corrected(
        self, con: duckdb.DuckDBPyConnection, table: str, finding: Finding, snapshot: int
    ) -> tuple[int, int]:
        """Accounts of the segments that drifted: those of which a row was corrected that night, and all."""
        subject, monitoring = _subject(finding), self.portfolio.monitoring
        first, key = self.portfolio.period_start(self._as_of), ident(f"{subject}_id")
        rows = night_rows(subject, self._as_of, snapshot, (self._as_of - first).days + 1)
        columns = [c[0] for c in con.execute(f"SELECT * FROM ({rows}) LIMIT 0").description or ()]
        splits = {s.name: s.text for s in segments_of(subject, monitoring.segments, columns)}
        inside = " OR ".join(f"{splits[split]} = {literal(value)}" for split, value in finding.segments)
        corrected = corrected_subjects(table, subject, first, self._as_of, snapshot)
        row = con.execute(
            f"SELECT count(*) FILTER ({key} IN (FROM ({corrected}))), count(*) FROM ({rows}) WHERE {inside}"
        ).fetchone()
        assert row is not None
        return row[0], row[1]

    def _definitions(self, columns: Sequence[str], since: date) -> list[Weighed]:
        """Models on the path whose SQL, dates aside, is not that of the night published before ``since``, when what
        was found was not there yet; failed tests there."""
        upstream = {r.table for column in columns for r in self._graph.upstream(column)}
        upstream |= {column.rpartition(".")[0] for column in columns}
        on_path = {t.rpartition(".")[2] for t in upstream}
        results = ledger.dbt_results(self.engine, self.run_id)
        found = [
            Weighed(30, Cause(f"model {r.model}", f"data test on {r.column or r.model}: {r.message or r.status}"))
            for r in results
            if r.resource_type == "test" and r.model in on_path and r.status in ("warn", "fail", "error")
        ]
        earlier = ledger.publications(self.engine, until=since - timedelta(days=1))
        if not earlier:
            return found
        before = _texts(self.settings, ledger.dbt_results(self.engine, earlier[0].run_id))
        changed = sorted(
            m for m, sql in _texts(self.settings, results).items() if before.get(m, sql) != sql and m in on_path
        )
        return found + [
            Weighed(80, Cause(f"model {m}", f"its SQL is not that of the night of {earlier[0].as_of}")) for m in changed
        ]


def _subject(finding: Finding) -> str:
    """Whose features drifted: ``features.account_features.apr`` is an account's."""
    return finding.columns[0].split(".")[1].removesuffix("_features")


def _texts(settings: Settings, results: Iterable[ledger.DbtResult]) -> dict[str, str]:
    """Model → its definition of that night; a model whose SQL is gone from the archive is left out."""
    found = {}
    for r in results:
        if r.resource_type == "model" and r.definition_sha256:
            try:
                found[r.model] = undated(archive.read_text(settings, r.definition_sha256))
            except NotFound:
                continue
    return found
