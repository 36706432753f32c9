"""Why a score moved between two nights: the change in log-odds, split exactly, step by step and then by feature.

From the first night's state to the second's one thing is changed at a time, and the score is computed after each:

    time         the first night's SQL and rows, asked on the second date: windows roll on, ages grow
    restated     rows of which a newer version is known, or one took another's place
    went         rows that are no longer there
    came         rows that are new
    definition   the second night's SQL
    model        the second night's model

Each part is the difference of two scores, so the parts add up to the change whatever the order; the order above is
fixed and said, for where two causes meet the earlier one is given what they do together. Within a part the change is
split by feature through Shapley contributions, which add up to it again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Engine

from lineage import rescore, sources, subject_sandbox
from lineage.recording import RecordedModel, Recording
from lineage.rolling_on import rolled_on
from lineage.sources import ROWID, RowIds, SourceRows
from lineage.subjects import resolved
from pipeline import booster as native
from pipeline.config import Settings
from pipeline.contracts import CONTRACTS
from pipeline.errors import NotFound
from pipeline.governance import guard
from pipeline.governance.access import Actor
from pipeline.portfolio import Portfolio

PARTS = ("time", "restated", "went", "came", "definition", "model")
BASE = "(base)"


@dataclass(frozen=True)
class State:
    """The score at one step: log-odds, and what each feature adds to it (with ``(base)`` they sum to it)."""

    log_odds: float
    contributions: Mapping[str, float] = field(repr=False)
    features: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class Part:
    """One step of the way. by_feature: how it changed each feature's contribution; rows: what came, went or changed.
    told_alone: False where there is no score after it alone, and what it did is in the step that follows."""

    name: str
    change: float
    by_feature: Mapping[str, float] = field(repr=False)
    rows: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict, repr=False)
    told_alone: bool = True


@dataclass(frozen=True)
class Why:
    """The change of one subject's score between two nights, in parts that add up."""

    first: Recording
    second: Recording
    subject_id: int | str
    before: State
    after: State
    parts: tuple[Part, ...]
    notes: tuple[str, ...]

    @property
    def change(self) -> float:
        return self.after.log_odds - self.before.log_odds

    @property
    def by_feature(self) -> dict[str, dict[str, float]]:
        """Feature → part → change of its contribution; the largest total first, features that did not move left out."""
        moved: dict[str, dict[str, float]] = {}
        for part in self.parts:
            for name, change in part.by_feature.items():
                if change:
                    moved.setdefault(name, {})[part.name] = change
        return dict(sorted(moved.items(), key=lambda item: (-abs(sum(item[1].values())), item[0])))

    def as_dict(self) -> dict[str, Any]:
        return {
            "subject": str(self.subject_id),
            "subject_type": self.first.subject,
            "from": _side(self.first, self.before),
            "to": _side(self.second, self.after),
            "change": self.change,
            "unit": "log-odds",
            "parts": [
                {
                    "part": p.name,
                    "change": p.change,
                    "rows": {f"raw.{t}": list(rows) for t, rows in p.rows.items()},
                }
                for p in self.parts
            ],
            "features": [
                {
                    "name": name,
                    "from": self.before.features.get(name),
                    "to": self.after.features.get(name),
                    "change": sum(parts.values()),
                    "parts": parts,
                }
                for name, parts in self.by_feature.items()
            ],
            "notes": list(self.notes),
        }


def why(
    settings: Settings,
    engine: Engine,
    portfolio: Portfolio,
    subject: str,
    start: date,
    end: date,
    *,
    actor: Actor,
    kind: str | None = None,
) -> Why:
    """Split the change of a subject's score between two published nights.

    Raises NotFound when the subject has no score on one of them, or a night cannot be computed again.
    """
    guard.require(engine, actor, "trace.read", f"subject:{subject}")
    if start >= end:
        raise NotFound(f"{start} is not before {end}", "give the earlier night first")
    with (
        resolved(settings, engine, portfolio, subject, start, kind) as (first, id_, then),
        resolved(settings, engine, portfolio, subject, end, first.subject) as (second, _, now),
    ):
        rolled, notes = rolled_on(first, second)
        asked: list[RowIds] = []
        for con in (then, now):
            for models in dict.fromkeys((first.models, rolled, second.models)):
                asked.append(sources.rows_behind(con, replace(first, models=models), id_))
        rows = sources.union(asked)
        was, became = sources.fetch(then, rows).known_by(start), sources.fetch(now, rows).known_by(end)
        stored = [rescore.stored(at, r, id_)[1] or {} for at, r in ((then, first), (now, second))]
    walk = _Walk(portfolio, id_)
    changes = _Changes.between(was, became)
    restated, less = changes.restated(), changes.without_gone()
    before = walk.state(first, first.models, was.everything())
    if before is None:
        raise NotFound(
            f"the score of {id_} on {start} cannot be computed again",
            f"`scoretrace replay {id_} --as-of {start}` says what differs",
        )
    steps: tuple[tuple[str, State | None, Mapping[str, tuple[Mapping[str, Any], ...]]], ...] = (
        ("time", walk.state(first, rolled, was.everything()), {}),
        ("restated", walk.state(first, rolled, restated), changes.rows("restated")),
        ("went", walk.state(first, rolled, less), changes.rows("went")),
        ("came", walk.state(first, rolled, became.everything()), changes.rows("came")),
        ("definition", walk.state(first, second.models, became.everything()), {}),
        ("model", walk.state(second, second.models, became.everything()), {}),
    )
    parts: list[Part] = []
    state = before
    for name, reached, moved in steps:
        if reached is None:
            notes.append(f"after {name} alone there is no score: its part is told with the step that follows")
            parts.append(Part(name, 0.0, {}, moved, told_alone=False))
            continue
        parts.append(Part(name, reached.log_odds - state.log_odds, _difference(state, reached), moved))
        state = reached
    for side, reached, score in ((start, before, stored[0]), (end, state, stored[1])):
        if not rescore.same(score.get("log_odds"), reached.log_odds):
            notes.append(f"the score of {side} does not come out as stored: `scoretrace replay` says what differs")
    return Why(first, second, id_, before, state, tuple(parts), tuple(notes))


class _Walk:
    """Computes the score of one subject under any SQL, rows and model; the same state only once."""

    def __init__(self, portfolio: Portfolio, subject_id: int | str) -> None:
        self._id_type = portfolio.id_type
        self._subject_id = subject_id
        self._features: list[tuple[tuple[RecordedModel, ...], dict[str, pa.Table], dict[str, Any] | None]] = []

    def state(self, scorer: Recording, models: tuple[RecordedModel, ...], rows: dict[str, pa.Table]) -> State | None:
        """The score by the model of ``scorer``; None when the SQL gives the subject no row, or not what it reads."""
        features = self._computed(scorer, models, rows)
        if features is None:
            return None
        booster = rescore.recorded_booster(scorer.settings, scorer.scored)
        if not features.keys() >= set(native.features(booster)):
            return None
        raw = float(native.log_odds(booster, rescore.one_row(booster, features), 1)[0])
        parts = rescore.contributions(booster, features)
        return State(raw, {**parts.by_feature, BASE: parts.base}, features)

    def _computed(
        self, scorer: Recording, models: tuple[RecordedModel, ...], rows: dict[str, pa.Table]
    ) -> dict[str, Any] | None:
        for known_models, known_rows, found in self._features:
            if (
                known_models == models
                and known_rows.keys() == rows.keys()
                and all(known_rows[t].equals(rows[t]) for t in rows)
            ):
                return found
        with subject_sandbox.of_rows(models, rows, self._id_type) as box:
            computed = rescore.rows_of(box, models[-1].relation, f"{scorer.key} = ?", self._subject_id)
        self._features.append((models, rows, next(iter(computed), None)))
        return self._features[-1][2]


@dataclass(frozen=True, eq=False)
class _Changes:
    """The rows of two nights side by side: raw table → row ids that are gone, and that are new, told apart by key."""

    was: SourceRows
    became: SourceRows
    gone: Mapping[str, frozenset[int]]
    new: Mapping[str, frozenset[int]]
    replaced: Mapping[str, frozenset[int]]
    """Gone or new row ids whose record, by the contract's key, is on the other night too."""

    @classmethod
    def between(cls, was: SourceRows, became: SourceRows) -> _Changes:
        gone, new, replaced = {}, {}, {}
        for table in was.tables.keys() | became.tables.keys():
            before, after = _by_id(was, table), _by_id(became, table)
            gone[table] = frozenset(before.keys() - after.keys())
            new[table] = frozenset(after.keys() - before.keys())
            known, known_after = set(before.values()), set(after.values())
            replaced[table] = frozenset(
                {i for i in new[table] if after[i] in known} | {i for i in gone[table] if before[i] in known_after}
            )
        return cls(was, became, gone, new, replaced)

    def restated(self) -> dict[str, pa.Table]:
        """The first night's rows with what was restated in its new version."""
        return self._mixed(lambda t: self.gone[t] & self.replaced[t], lambda t: self.new[t] & self.replaced[t])

    def without_gone(self) -> dict[str, pa.Table]:
        """The same, without the rows that are no longer there."""
        return self._mixed(lambda t: self.gone[t], lambda t: self.new[t] & self.replaced[t])

    def rows(self, kind: str) -> dict[str, tuple[Mapping[str, Any], ...]]:
        """The rows of a part: for restated ones, old and new versions."""
        found: dict[str, tuple[Mapping[str, Any], ...]] = {}
        for table in sorted(self.gone):
            if kind == "came":
                chosen = [(self.became, self.new[table] - self.replaced[table])]
            elif kind == "went":
                chosen = [(self.was, self.gone[table] - self.replaced[table])]
            else:
                chosen = [
                    (self.was, self.gone[table] & self.replaced[table]),
                    (self.became, self.new[table] & self.replaced[table]),
                ]
            rows = [r for side, ids in chosen if ids for r in side.only(table, sorted(ids)).to_pylist()]
            if rows:
                found[table] = tuple(rows)
        return found

    def _mixed(self, without: Any, plus: Any) -> dict[str, pa.Table]:
        mixed = {}
        for table in sorted(self.gone):
            side = self.was.tables.get(table, self.became.tables.get(table))
            assert side is not None
            kept = side.slice(0, 0)
            if table in self.was.tables:
                mask = pc.is_in(self.was.tables[table][ROWID], pa.array(sorted(without(table)), pa.int64()))
                kept = self.was.tables[table].filter(pc.invert(mask))
            if plus(table):
                kept = pa.concat_tables([kept, self.became.only(table, sorted(plus(table)))])
            mixed[table] = kept.drop_columns([ROWID])
        return mixed


def _by_id(rows: SourceRows, table: str) -> dict[int, tuple[Any, ...]]:
    """Row id → the record's key."""
    if table not in rows.tables:
        return {}
    columns = [rows.tables[table][c].to_pylist() for c in (ROWID, *CONTRACTS[table].key)]
    return {row[0]: tuple(row[1:]) for row in zip(*columns, strict=True)}


def _difference(before: State, after: State) -> dict[str, float]:
    names = dict.fromkeys((*before.contributions, *after.contributions))
    return {n: after.contributions.get(n, 0.0) - before.contributions.get(n, 0.0) for n in names}


def _side(recorded: Recording, state: State) -> dict[str, Any]:
    return {
        "as_of": recorded.as_of.isoformat(),
        "run": recorded.run.run_id,
        "log_odds": state.log_odds,
        "pd": float(native.probability(np.array([state.log_odds]))[0]),
        "model": {"name": recorded.scored.name, "version": recorded.scored.version, "digest": recorded.scored.digest},
    }
