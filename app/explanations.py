"""The portal's reads of explanations: contributions, traces, why a score moved, the column graph of a run.

What a published run recorded never changes, so an answer is kept under the run and the subject. Whether somebody may
ask is looked at on every call, before anything kept is handed out. Nothing masked or clear is kept for a person: traces
are kept whole, and each page masks what it shows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import streamlit as st

from app.data import Score
from app.session import Home
from lineage import changes, evidence
from lineage import explained as splitting
from lineage import trace as tracing
from lineage.changes import Why
from lineage.columns import ColumnGraph, run_lineage
from lineage.definitions import undated
from lineage.documentation import UNDOCUMENTED, ColumnDoc, TableDoc, documentation
from lineage.explained import Explained
from lineage.graph import Difference
from lineage.personal_data import masked_change, personal_features, personal_names
from lineage.recording import published, recording
from lineage.rescore import recorded_booster
from lineage.subjects import lake_of
from lineage.trace import Trace
from pipeline import archive
from pipeline.errors import NotFound
from pipeline.governance import guard
from pipeline.governance.access import Actor
from pipeline.lake import session
from pipeline.ledger import Publication, ScoredModel
from pipeline.model_card import importance


def explained(home: Home, subject: str, score: Score, actor: Actor) -> Explained:
    """A score split by feature, personal values masked. Raises AccessDenied, NotFound."""
    guard.require(home.engine, actor, "trace.read", f"{subject}:{score.id}")
    return _explained(_key(home, score), subject, str(score.id), home, score, actor)


def traced(home: Home, subject: str, score: Score, actor: Actor) -> Trace:
    """A score down to its rows, with the proof; in clear. Raises AccessDenied, NotFound."""
    guard.require(home.engine, actor, "trace.read", f"{subject}:{score.id}")
    return _traced(_key(home, score), subject, str(score.id), home, score, actor)


def personal(home: Home, subject: str, score: Score, found: Trace) -> tuple[str, ...]:
    """The names of a trace's personal data, worked out once."""
    return _personal(_key(home, score), subject, str(score.id), found)


def personal_of(home: Home, subject: str, score: Score) -> frozenset[str]:
    """Features of the score's night that are personal data. Raises NotFound when the night's record is gone."""
    return _personal_of(home.identity, score.run_id, subject, home, score.as_of)


def moved(home: Home, subject: str, subject_id: str, start: date, end: date, actor: Actor) -> Why:
    """Why a score moved between two published nights, personal values masked. Raises AccessDenied, NotFound."""
    guard.require(home.engine, actor, "trace.read", f"{subject}:{subject_id}")
    runs = tuple(published(home.engine, day).run_id for day in (start, end))
    return _moved(home.identity, runs, subject, subject_id, home, start, end, actor)


def pack(home: Home, subject: str, score: Score, actor: Actor, *, personal_data: bool) -> bytes:
    """The evidence pack of a score as a zip; that it was taken is on record. Raises AccessDenied, NotFound."""
    found = traced(home, subject, score, actor)
    with tempfile.TemporaryDirectory(prefix="evidence-") as folder:
        out = Path(folder) / "evidence.zip"
        evidence.write_pack(
            home.settings, home.engine, home.portfolio, found, out, actor=actor, personal_data=personal_data
        )
        return out.read_bytes()


def graph(home: Home, run_id: str) -> ColumnGraph:
    """The column graph that a run recorded. Raises NotFound."""
    return _graph(home.identity, run_id, home)


def difference(home: Home, run_id: str, before: str) -> Difference:
    """What one run's column graph has that another's had not, and the other way round. Raises NotFound."""
    return _difference(home.identity, run_id, before, home)


def other_sql(home: Home, now: Mapping[str, str | None], then: Mapping[str, str | None]) -> tuple[str, ...]:
    """Names whose archived SQL is another beyond the dates in it, or that one side alone has; in name order."""

    def differs(name: str) -> bool:
        pair = now.get(name), then.get(name)
        if pair[0] == pair[1]:
            return False
        return None in pair or len({_undated(home.identity, str(sha), home) for sha in pair}) > 1

    return tuple(name for name in sorted({*now, *then}) if differs(name))


def documented(home: Home, run_id: str) -> Mapping[str, TableDoc]:
    """``schema.table`` → what the run's manifest says of it. Raises NotFound."""
    return _documented(home.identity, run_id, home)


def meanings(home: Home, run_id: str, table: str) -> Mapping[str, str]:
    """Column of a ``schema.table`` → what the project said of it in that run; of one whose manifest is gone, nothing:
    what is shown on hover is no reason to show no page."""
    return {name: column.description for name, column in _columns(home, run_id, table) if column.description}


def units(home: Home, run_id: str, table: str) -> Mapping[str, str]:
    """Column of a ``schema.table`` → its unit as that run's project declares it; as ``meanings``."""
    declared = {name: column.declared.get("unit") for name, column in _columns(home, run_id, table)}
    return {name: str(unit) for name, unit in declared.items() if unit}


def _columns(home: Home, run_id: str, table: str) -> Iterable[tuple[str, ColumnDoc]]:
    try:
        return documented(home, run_id).get(table, UNDOCUMENTED).columns.items()
    except NotFound:
        return ()


def importances(home: Home, model: ScoredModel) -> Mapping[str, float]:
    """Feature → its share of the gain of a model that scored. Raises NotFound when the model's bytes are gone."""
    return _importances(home.identity, model, home)


# ── what is kept ─────────────────────────────────────────────────────────────────────────────────────────────


@st.cache_data(show_spinner=False, max_entries=256)
def _explained(key: str, subject: str, subject_id: str, _home: Home, _score: Score, _actor: Actor) -> Explained:
    return splitting.explained(
        _home.settings, _home.engine, _home.portfolio, subject_id, _score.as_of,
        actor=_actor, kind=subject, run_id=_score.run_id, con=_lake_on(_home, _score),
    )  # fmt: skip


@st.cache_data(show_spinner=False, max_entries=32)
def _traced(key: str, subject: str, subject_id: str, _home: Home, _score: Score, _actor: Actor) -> Trace:
    return tracing.trace(
        _home.settings, _home.engine, _home.portfolio, subject_id, _score.as_of,
        actor=_actor, kind=subject, run_id=_score.run_id, con=_lake_on(_home, _score),
    )  # fmt: skip


@st.cache_data(show_spinner=False, max_entries=64)
def _personal(key: str, subject: str, subject_id: str, _found: Trace) -> tuple[str, ...]:
    return personal_names(_found)


@st.cache_data(show_spinner=False, max_entries=64)
def _personal_of(identity: str, run_id: str, subject: str, _home: Home, _as_of: date) -> frozenset[str]:
    return personal_features(recording(_home.settings, _home.engine, _as_of, subject, run_id=run_id))


@st.cache_data(show_spinner=False, max_entries=32)
def _moved(
    identity: str, runs: tuple[str, ...], subject: str, subject_id: str, _home: Home, start: date, end: date,
    _actor: Actor,
) -> Why:  # fmt: skip
    return masked_change(
        changes.why(_home.settings, _home.engine, _home.portfolio, subject_id, start, end, actor=_actor, kind=subject)
    )


@st.cache_resource(show_spinner=False, max_entries=8)
def _graph(identity: str, run_id: str, _home: Home) -> ColumnGraph:
    """Immutable once made, so every session may hold the same one."""
    return run_lineage(_home.settings, _home.engine, run_id)


@st.cache_data(show_spinner=False, max_entries=16)
def _difference(identity: str, run_id: str, before: str, _home: Home) -> Difference:
    """SQL that is another in its dates alone is not another definition."""
    now, then = graph(_home, run_id), graph(_home, before)
    sides = ({name: t.sql_sha256 for name, t in g.tables.items()} for g in (now, then))
    changed = other_sql(_home, *sides)
    found = now.difference(then)
    return replace(found, models_changed=tuple(t for t in found.models_changed if t in changed))


@st.cache_data(show_spinner=False, max_entries=512)
def _undated(identity: str, sha256: str, _home: Home) -> str:
    try:
        return undated(archive.read_text(_home.settings, sha256))
    except NotFound:
        return sha256  # gone from the archive: its hash is all there is to compare


@st.cache_resource(show_spinner=False, max_entries=8)
def _documented(identity: str, run_id: str, _home: Home) -> Mapping[str, TableDoc]:
    return documentation(_home.settings, _home.engine, run_id)


@st.cache_data(show_spinner=False, max_entries=16)
def _importances(identity: str, model: ScoredModel, _home: Home) -> dict[str, float]:
    return dict(importance(recorded_booster(_home.settings, model)))


def _key(home: Home, score: Score) -> str:
    return f"{home.identity}|{score.as_of}|{score.run_id}"


def _lake_on(home: Home, score: Score) -> duckdb.DuckDBPyConnection:
    """A session on the lake as the score's run published it: opening one anew takes half a second."""
    publication = published(home.engine, score.as_of, score.run_id)
    return session(_lake(home.identity, publication.id, home, publication))


@st.cache_resource(show_spinner=False, max_entries=6, on_release=lambda con: con.close())
def _lake(identity: str, id_: int, _home: Home, _publication: Publication) -> duckdb.DuckDBPyConnection:
    return lake_of(_home.settings, _publication)
