"""Alerts as their events make them: a fold over the audit log, and nothing else. No clock, no database, no decision.

Events are records about ``alert:KIND/WHAT``. What a night's findings make of them is in ``alert_rules``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from pipeline.governance.event import Event

OPEN, ACKNOWLEDGED, RESOLVED = "open", "acknowledged", "resolved"
RAISED, REOPENED, UPDATED = "alert.raised", "alert.reopened", "alert.updated"


@dataclass(frozen=True)
class Acknowledgement:
    """Who answers for an alert, why, and up to which as-of date."""

    by: str
    at: datetime
    why: str
    until: date


@dataclass(frozen=True)
class Cause:
    """One thing upstream that may have done it. source: a raw table, column, load, gate or model; most likely first."""

    source: str
    reason: str


@dataclass(frozen=True)
class Alert:
    """The state of one alert. level: ``high`` or ``moderate``. members: what it groups, such as features, as last
    told; seen: all that it grouped since it was raised.

    times: how often it was raised anew. as_of: the night it was last told of; since: the night it began.
    """

    id: str
    kind: str
    level: str
    message: str
    members: tuple[str, ...]
    causes: tuple[Cause, ...]
    state: str
    since: date
    as_of: date
    run_id: str
    seen: tuple[str, ...] = ()
    times: int = 1
    acknowledgement: Acknowledgement | None = None


def fold(events: Iterable[Event]) -> dict[str, Alert]:
    """Alerts by id after these events, in their order. Events of other kinds are passed over."""
    alerts: dict[str, Alert] = {}
    for event in events:
        kind, _, id_ = event.subject.partition(":")
        if kind != "alert":
            continue
        known, d = alerts.get(id_), event.detail
        if event.action in (RAISED, REOPENED, UPDATED):
            told = _told(id_, d)
            if known is None:
                alerts[id_] = told
                continue
            if event.action == RAISED:
                alerts[id_] = replace(told, times=known.times + 1)
                continue
            seen = tuple(dict.fromkeys((*known.seen, *told.seen)))
            told = replace(told, times=known.times, since=known.since, seen=seen)
            if event.action == UPDATED:
                told = replace(told, state=known.state, acknowledgement=known.acknowledgement)
            alerts[id_] = told
        elif known is None:
            continue
        elif event.action == "alert.acknowledged":
            answer = Acknowledgement(event.actor, event.at, d["why"], date.fromisoformat(d["until"]))
            alerts[id_] = replace(known, state=ACKNOWLEDGED, acknowledgement=answer)
        elif event.action == "alert.resolved":
            alerts[id_] = replace(known, state=RESOLVED, as_of=date.fromisoformat(d["as_of"]))
    return alerts


def _told(id_: str, d: Mapping[str, Any]) -> Alert:
    day = date.fromisoformat(d["as_of"])
    return Alert(
        id=id_,
        kind=d["kind"],
        level=d["level"],
        message=d["message"],
        members=tuple(d["members"]),
        seen=tuple(d["members"]),
        causes=tuple(Cause(c["source"], c["reason"]) for c in d["causes"]),
        state=OPEN,
        since=day,
        as_of=day,
        run_id=d["run_id"],
    )
