"""Alerts in the audit log: a night's findings become events there, people acknowledge them, and the list is a fold.

Whatever sends alerts elsewhere follows the records whose action starts with ``alert.``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import date, timedelta

from sqlalchemy import Connection, Engine

from pipeline.errors import NotFound, RecordRefused
from pipeline.governance import audit, guard, texts
from pipeline.governance.access import Actor
from pipeline.governance.event import event_of
from pipeline.monitoring.alert_rules import Finding, merged, steps
from pipeline.monitoring.alert_state import ACKNOWLEDGED, RAISED, REOPENED, RESOLVED, UPDATED, Alert, Cause, fold
from pipeline.monitoring.policy import DriftPolicy

Explain = Callable[[Finding], Sequence[Cause]]
"""Looks for the causes of a finding; handed in from above, where lineage is."""
_MOST_CAUSES, _MOST_MEMBERS = 8, 40


def alerts_of(where: Engine | Connection) -> dict[str, Alert]:
    """Every alert by id, as the audit log has it, in the order they were first raised."""
    return fold(event_of(r) for r in audit.records(where, action="alert."))


def open_alerts(where: Engine | Connection) -> tuple[Alert, ...]:
    """The alerts that nobody answers for and that still stand."""
    return tuple(a for a in alerts_of(where).values() if a.state not in (ACKNOWLEDGED, RESOLVED))


def telling_runs(where: Engine | Connection) -> frozenset[str]:
    """The runs that told of what nobody answers for yet: an alert raised, reopened, or become worse."""
    events = [event_of(r) for r in audit.records(where, action="alert.")]
    open_ = {f"alert:{a.id}" for a in fold(events).values() if a.state not in (ACKNOWLEDGED, RESOLVED)}
    told = (e for e in events if e.action in (RAISED, REOPENED, UPDATED) and e.subject in open_)
    return frozenset(str(e.detail["run_id"]) for e in told)


def judge(
    engine: Engine,
    findings: Sequence[Finding],
    as_of: date,
    *,
    run_id: str,
    actor: str,
    covered: Collection[str],
    explain: Explain | None = None,
) -> list[str]:
    """Record what a night's findings change; returns a line for each. The same findings again change nothing.

    Causes are looked for before the log is held, and only for what may be told.
    """
    findings = [_bounded(f) for f in merged(findings)]
    sought = {f.id: tuple(explain(f)) if explain else () for f in findings if f.wants_cause}
    findings = [f for f in findings if not f.wants_cause or sought[f.id]]
    wanted = [s for s in steps(alerts_of(engine), findings, as_of, covered=covered) if s.finding]
    causes = {
        s.alert: list(sought.get(s.alert) or (explain(s.finding) if explain and s.finding else ()))[:_MOST_CAUSES]
        for s in wanted
    }
    lines = []
    with engine.begin() as connection:
        audit.hold_off_others(connection)
        for step in steps(alerts_of(connection), findings, as_of, covered=covered):
            detail = _detail(step.finding, causes.get(step.alert, [])) if step.finding else {}
            audit.append(
                connection, actor=actor, action=step.action, subject=f"alert:{step.alert}",
                detail={"as_of": as_of.isoformat(), "run_id": run_id, **detail},
            )  # fmt: skip
            said = f"{step.action.partition('.')[2]}: {step.alert}"
            lines.append(f"{said}: {step.finding.message}" if step.finding else said)
    return lines


def acknowledge(
    engine: Engine, actor: Actor, id_: str, *, why: str, until: date, today: date, policy: DriftPolicy
) -> Alert:
    """Answer for an alert up to and including an as-of date; then, or when it gets worse, it reopens by itself.

    Raises AccessDenied, NotFound for an alert that is not there or no longer stands, RecordRefused for a date that
    is past or farther off than the policy's ``acknowledge_days``, or a reason that says nothing.
    """
    guard.require(engine, actor, "drift.acknowledge", f"alert:{id_}")
    if not why.strip():
        raise RecordRefused("an alert is not acknowledged without a reason", "say why with --reason")
    said = texts.reason("an acknowledgement", why)
    if until < today:
        raise RecordRefused(f"{until} is past", "give a date from today on")
    if until > (latest := today + timedelta(days=policy.acknowledge_days)):
        raise RecordRefused(
            f"{until} is more than {policy.acknowledge_days} days away",
            f"give a date up to {latest} and answer again then, or set monitoring.acknowledge_days in portfolio.yml",
        )
    with engine.begin() as connection:
        audit.hold_off_others(connection)
        known = alerts_of(connection).get(id_)
        if known is None or known.state == RESOLVED:
            state = "is not there" if known is None else "is resolved"
            raise NotFound(f"alert {id_} {state}", "`scoretrace alerts list` shows those that stand")
        audit.append(
            connection, actor=actor.name, action="alert.acknowledged", subject=f"alert:{id_}",
            detail={"why": said, "until": until.isoformat()},
        )  # fmt: skip
        return alerts_of(connection)[id_]


def _bounded(finding: Finding) -> Finding:
    """A finding as the log will have it, so that the same finding tomorrow is seen to be the same."""
    members = tuple(texts.shown(m, 200) for m in finding.members[:_MOST_MEMBERS])
    return replace(finding, message=texts.shown(finding.message, 2_000), members=members)


def _detail(finding: Finding, causes: Sequence[Cause]) -> Mapping[str, object]:
    return {
        "kind": finding.kind,
        "level": finding.level,
        "message": finding.message,
        "members": list(finding.members),
        "causes": [{"source": texts.shown(c.source, 300), "reason": texts.shown(c.reason, 500)} for c in causes],
    }
