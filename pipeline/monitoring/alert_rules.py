"""When is somebody told? Pure functions: a night's records in, findings out; findings and alerts in, steps out.

A feature's drift is told when it is large, significant, on a feature that matters, and new since the version took
over; a high one at once, a moderate one when it stands on enough of the last nights. Findings that share their
upstream model are one alert.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from pipeline.ledger import DbtResult, GateVerdict
from pipeline.monitoring.alert_state import ACKNOWLEDGED, OPEN, RAISED, REOPENED, RESOLVED, UPDATED, Alert
from pipeline.monitoring.drift import Drift
from pipeline.monitoring.policy import ARRIVAL, DriftPolicy
from pipeline.monitoring.segments import SCORE
from pipeline.portfolio import Portfolio

FRESHNESS, VOLUME, SCHEMA, QUALITY = "freshness", "volume", "schema", "quality"
RESTATEMENT, DRIFT, PERFORMANCE, CALIBRATION = "restatement", "drift", "performance", "calibration"
HIGH, MODERATE = "high", "moderate"
_GATES = {"fresh": FRESHNESS, "volume": VOLUME, "unique": VOLUME, "new_file": VOLUME}
_MOST_NAMED = 5


@dataclass(frozen=True)
class Finding:
    """Something a night found that somebody should know. ``id`` is KIND/WHAT; the same id is the same alert.

    members: features, gates or tests that it groups. columns: where a search for its cause begins, as
    ``schema.table`` or ``schema.table.column``. wants_cause: told only when something upstream has moved as well.
    A drift among tonight's arrivals alone may be the calendar's: on the first of a month, last month's payments.
    """

    id: str
    kind: str
    level: str
    message: str
    members: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    wants_cause: bool = False


@dataclass(frozen=True)
class Step:
    """One event to record about an alert; ``finding`` is None when it is resolved."""

    action: str
    alert: str
    finding: Finding | None


def drift_findings(
    nights: Sequence[Drift], as_of: date, policy: DriftPolicy, upstream: Mapping[str, str], table: str
) -> list[Finding]:
    """What one model's drift asks to be told on ``as_of``, grouped by upstream model.

    nights: the model's stored drift of the last ``policy.of`` nights, the whole book and the watched segments.
    upstream: feature → the dbt model that it comes from. table: the model's feature table, ``schema.table``.
    """
    tonight = [d for d in nights if d.as_of == as_of and _tested(d, policy)]
    limit = policy.false_alarms / max(1, len(tonight))
    recent = sorted({d.as_of for d in nights if d.as_of <= as_of})[-policy.of :]
    drifted: dict[tuple[str, str, str], set[date]] = {}
    for d in nights:
        if d.as_of in recent and _tested(d, policy) and _stands(d, policy, limit):
            drifted.setdefault((d.dimension, d.segment, d.feature), set()).add(d.as_of)
    told: dict[str, list[Drift]] = {}
    for d in tonight:
        on = drifted.get((d.dimension, d.segment, d.feature), set())
        if as_of in on and (_level(d, policy) == HIGH or len(on) >= policy.nights_of(d.dimension)):
            group = SCORE if d.feature == SCORE else upstream.get(d.feature, table.partition(".")[2])
            told.setdefault(group, []).append(d)
    if SCORE in told and len(told) > 1 and all(d.dimension for d in told[SCORE]):
        del told[SCORE]  # the features that moved it are told, and they have a cause
    return [_of_group(group, found, policy, table) for group, found in sorted(told.items())]


def gate_findings(verdicts: Iterable[GateVerdict]) -> list[Finding]:
    """Failed gates by kind and table; a warning of freshness too, and of a volume that is nothing at all."""
    by: dict[tuple[str, str], list[GateVerdict]] = {}
    for v in verdicts:
        quiet = v.verdict == "warn" and (v.gate == "fresh" or (v.gate == "volume" and v.observed == 0))
        if v.verdict == "fail" or quiet:
            by.setdefault((_GATES.get(v.gate, QUALITY), v.subject.partition(".")[0]), []).append(v)
    return [
        Finding(
            id=f"{kind}/{table}",
            kind=kind,
            level=HIGH if any(v.verdict == "fail" for v in found) else MODERATE,
            message="; ".join(f"{v.message} (expected {v.expected})" for v in found[:_MOST_NAMED]),
            members=tuple(dict.fromkeys(f"{v.gate} {v.subject}" for v in found)),
            columns=tuple(dict.fromkeys(f"raw.{v.subject}" for v in found)),
        )
        for (kind, table), found in by.items()
    ]


def landing_findings(portfolio: Portfolio, error: str) -> list[Finding]:
    """A landing that was refused: a file that is not there is freshness, one that does not fit is its schema.

    The message of a landing names the files by their extracts; the tables are those whose mapping reads the extract.
    """
    message = error.partition("\n  next: ")[0]
    kind = FRESHNESS if message.startswith("missing from ") or " is empty (0 bytes)" in message else SCHEMA
    named = message.rpartition(": ")[2] if message.startswith("missing from ") else message
    extracts = [e.name for e in portfolio.extracts if re.search(rf"\b{re.escape(e.name)}\b", named)]
    tables = {t: portfolio.mapping(t) for t in portfolio.provides}
    found = []
    for extract in extracts or [""]:
        read_by = [t for t, sql in tables.items() if extract and re.search(rf"\b{re.escape(extract)}\b", sql)]
        what = read_by[0] if read_by else extract or "landing"
        found.append(Finding(f"{kind}/{what}", kind, HIGH, message, (extract or "landing",), (f"raw.{what}",)))
    return found


def quality_findings(results: Iterable[DbtResult]) -> list[Finding]:
    """Failed data tests and models, by the model they are about."""
    by: dict[str, list[DbtResult]] = {}
    for r in results:
        if r.status in ("fail", "error"):
            by.setdefault(r.model, []).append(r)
    return [
        Finding(
            f"{QUALITY}/{model}", QUALITY, HIGH,
            "; ".join(f"{r.column or model}: {r.message or r.status}" for r in found[:_MOST_NAMED]),
            tuple(r.unique_id for r in found[:_MOST_NAMED]), (model,),
        )
        for model, found in by.items()
    ]  # fmt: skip


def restatement_findings(shares: Mapping[str, tuple[int, int, float]]) -> list[Finding]:
    """Tables of which tonight corrects more earlier rows than it usually does.

    shares: table → (rows of tonight that restate an earlier one, rows of tonight, largest share of the days before).
    """
    return [
        Finding(
            f"{RESTATEMENT}/{table}", RESTATEMENT, MODERATE,
            f"{table}: {restated:,} of tonight's {rows:,} rows correct rows that had landed before "
            f"({restated / rows:.1%}; in the days before at most {usual:.1%})",
            (table,), (f"raw.{table}",),
        )
        for table, (restated, rows, usual) in shares.items()
        if restated and restated / rows > max(0.01, 2 * usual)
    ]  # fmt: skip


def steps(
    alerts: Mapping[str, Alert], findings: Sequence[Finding], as_of: date, *, covered: Collection[str]
) -> list[Step]:
    """The events that turn the alerts as they are into what a night found. The same night again gives none.

    covered: kinds that this night looked at; an alert of another kind is left as it is. An acknowledged alert
    reopens by itself when its date is past, or when it gets worse; what is found no longer is resolved.
    """
    taken: list[Step] = []
    for f in findings:
        known = alerts.get(f.id)
        if known is None or known.state == RESOLVED:
            taken.append(Step(RAISED, f.id, f))
            continue
        worse = f.level == HIGH and known.level != HIGH
        if known.state == ACKNOWLEDGED:
            assert known.acknowledgement is not None
            if worse or known.acknowledgement.until < as_of:
                taken.append(Step(REOPENED, f.id, f))
        elif known.state == OPEN and (worse or set(f.members) - set(known.members)):
            taken.append(Step(UPDATED, f.id, f))
    found = {f.id for f in findings}
    taken += [
        Step("alert.resolved", a.id, None)
        for a in alerts.values()
        if a.state != RESOLVED and a.id not in found and a.kind in covered
    ]
    return taken


def _tested(d: Drift, policy: DriftPolicy) -> bool:
    return (
        d.psi is not None
        and d.n >= policy.minimum_rows
        and d.importance is not None
        and 0 < d.importance <= policy.importance
    )


def _stands(d: Drift, policy: DriftPolicy, limit: float) -> bool:
    """Large and significant, against the baseline and against the version's first nights."""
    if d.psi is None or d.p_value is None or d.launch_psi is None or d.launch_p_value is None:
        return False
    return (
        min(d.psi, d.launch_psi) >= policy.moderate
        and d.significant
        and d.p_value <= limit
        and d.launch_p_value <= limit
    )


def _level(d: Drift, policy: DriftPolicy) -> str:
    assert d.psi is not None and d.launch_psi is not None
    return HIGH if min(d.psi, d.launch_psi) >= policy.high else MODERATE


def _of_group(group: str, found: list[Drift], policy: DriftPolicy, table: str) -> Finding:
    # The worst figure of each feature, wherever it stands; a feature is named once.
    ordered = sorted(found, key=lambda d: (-min(d.psi or 0.0, d.launch_psi or 0.0), d.feature, d.segment))
    worst = {d.feature: d for d in reversed(ordered)}
    features = tuple(dict.fromkeys(d.feature for d in ordered))
    shown = "; ".join(_said(worst[name]) for name in features[:_MOST_NAMED])
    more = f"; and {len(features) - _MOST_NAMED} more" if len(features) > _MOST_NAMED else ""
    level = HIGH if any(_level(d, policy) == HIGH for d in found) else MODERATE
    columns = tuple(f"{table}.{name}" for name in features if name != SCORE)
    return Finding(
        f"{DRIFT}/{ordered[0].model}/{group}", DRIFT, level, f"{group}: {shown}{more}", features, columns,
        wants_cause=all(d.dimension for d in found),
    )  # fmt: skip


def _said(d: Drift) -> str:
    where = f" in {d.dimension} {d.segment}" if d.dimension else ""
    then = "first nights at this time of the month" if d.dimension == ARRIVAL else "first nights"
    return f"{d.feature} PSI {d.psi:.2f}{where} ({d.n:,} rows; {d.launch_psi:.2f} against the version's {then})"
