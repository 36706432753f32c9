"""Alerts as fragments of a page: the list, one alert's figures, what happened to it. Pure; no Streamlit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from zoneinfo import ZoneInfo

from app import formats, markup
from app.markup import Cell, Column, Html, Table
from pipeline.governance.event import Event
from pipeline.monitoring.alert_rules import HIGH, MODERATE
from pipeline.monitoring.alert_state import ACKNOWLEDGED, OPEN, RESOLVED, Alert

STATES = {OPEN: "open", ACKNOWLEDGED: "acknowledged", RESOLVED: "resolved"}
_ACTIONS = {
    "alert.raised": "raised",
    "alert.updated": "got worse or wider",
    "alert.reopened": "reopened by itself",
    "alert.acknowledged": "acknowledged",
    "alert.resolved": "resolved",
}


def state(alert: Alert) -> Html:
    """How an alert stands: an open one by its level, one that somebody answers for, one that is over."""
    if alert.state == RESOLVED:
        return markup.status("ok", "resolved")
    if alert.state == ACKNOWLEDGED:
        return markup.status("none", "acknowledged")
    return markup.status("stop" if alert.level == "high" else "watch", f"open, {alert.level}")


_LEVELS = {MODERATE: 0, HIGH: 1}
ORDERS: Mapping[str, Callable[[Alert], Any]] = {
    "alert": lambda a: a.id,
    "level": lambda a: _LEVELS.get(a.level),
    "since": lambda a: a.since,
    "told": lambda a: a.as_of,
}


def words(alert: Alert) -> str:
    """What of an alert is looked through for words."""
    return " ".join([alert.id, alert.kind, alert.level, alert.state, alert.message, *alert.members])


def standing_first(alerts: Sequence[Alert]) -> list[Alert]:
    """Open before acknowledged before resolved; within, high before moderate, the newest told first."""
    rank = {OPEN: 0, ACKNOWLEDGED: 1, RESOLVED: 2}
    return sorted(alerts, key=lambda a: (rank[a.state], a.level != "high", -a.as_of.toordinal(), a.id))


def alert_table(alerts: Sequence[Alert], caption: str, order: str) -> Table:
    """Alerts in the order given, each with the likeliest cause of it."""
    columns = [
        Column("alert", order="alert"),
        Column("stands", order="-level" if any(a.state == OPEN for a in alerts) else ""),
        Column("since", order="-since"),
        Column("last told", order="-told"),
        Column("likeliest cause", "fill clip"),
    ]
    rows: list[list[Cell]] = [
        [a.id, state(a), formats.day(a.since), formats.day(a.as_of), _likeliest(a)] for a in alerts
    ]
    return markup.table(columns, rows, caption, order=order)


def _likeliest(alert: Alert) -> Html:
    if not alert.causes:
        return markup.quiet("none found upstream")
    cause = alert.causes[0]
    text = f"{cause.source}: {formats.sentence(cause.reason)}"
    return markup.hint(text, text)


def figures(alert: Alert) -> Html:
    """One alert's facts side by side."""
    answer = alert.acknowledgement if alert.state == ACKNOWLEDGED else None
    return markup.facts(
        [
            ("Stands", state(alert), f"{alert.kind}, level {alert.level}"),
            ("Since", formats.day(alert.since), "the night that it began"),
            ("Last told", formats.day(alert.as_of), f"run {alert.run_id}"),
            ("Raised", f"{alert.times}×", "counting each time anew"),
            ("Answered for by", answer.by if answer else formats.MISSING, _until(alert)),
        ]
    )


def _until(alert: Alert) -> str:
    answer = alert.acknowledgement if alert.state == ACKNOWLEDGED else None
    return f"until {formats.day(answer.until)}: {answer.why}" if answer else "nobody yet"


def event_table(events: Sequence[Event], zone: ZoneInfo) -> Table:
    """What happened to an alert, newest first, each with its record in the audit log."""
    columns = [Column("record", "number"), Column("when"), Column("what"), Column("by"), Column("of the night"),
               Column("said", "wrap fill")]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            str(e.seq),
            markup.at(e.at, zone),
            _ACTIONS.get(e.action, e.action),
            e.actor,
            formats.sentence(str(e.detail.get("as_of", formats.MISSING))),
            _said(e),
        ]
        for e in events
    ]
    return markup.table(columns, rows, "What happened to this alert, newest first")


def _said(event: Event) -> str:
    if event.action == "alert.acknowledged":
        return formats.sentence(f"until {event.detail['until']}: ") + str(event.detail["why"])
    return formats.sentence(str(event.detail.get("message", formats.MISSING)))
