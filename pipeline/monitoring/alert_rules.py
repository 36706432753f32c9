"""When is somebody told? Pure functions: a night's records in, findings out; findings and alerts in, steps out.

A feature's drift is told when it is large, significant, on a feature that matters, and new since the version took
over; a high one at once, a moderate one when it stands on enough of the last nights. Findings that share their
upstream model are one alert.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
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
_BOOK = "loan_servicing"


@dataclass(frozen=True)
class Finding:
    """Something a night found that somebody should know. ``id`` is KIND/WHAT; the same id is the same alert.

    members: features, gates or tests that it groups. columns: where a search for its cause begins, as
    ``schema.table`` or ``schema.table.column``. segments: the (split, segment) of a drift that the whole book does not
    show; empty for what it does.
    since: the first of the nights that it rests on, where that is not tonight: its cause came with that one.
    """

    id: str
    kind: str
    level: str
    message: str
    members: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    segments: tuple[tuple[str, str], ...] = ()
    since: date | None = None

    @property
    def wants_cause(self) -> bool:
        """Whether it is told only when something upstream has moved as well. A drift among tonight's arrivals alone
        may be the calendar's: on the first of a month, last month's payments."""
        return bool(self.segments)


@dataclass(frozen=True)
class Step:
    """One event to record about an alert; ``finding`` is None when it is resolved."""

    action: str
    alert: str
    finding: Finding | None


def drift_findings(
    nights: Sequence[Drift],
    as_of: date,
    policy: DriftPolicy,
    upstream: Mapping[str, str],
    table: str,
    standing: Collection[str] = (),
) -> list[Finding]:
    """What one model's drift asks to be told on ``as_of``, grouped by upstream model.

    nights: the model's stored drift of the last ``policy.of`` nights, the whole book and the watched segments.
    upstream: feature → the dbt model that it comes from. table: the model's feature table, ``schema.table``.
    standing: ids of the alerts that stand. What was told stays told while it drifts, if only moderately: a PSI that
    swings about a band is one alert, and whoever answered for it is not asked again.
    """
    tonight = [d for d in nights if d.as_of == as_of and _tested(d, policy)]
    limit = policy.false_alarms / max(1, len(tonight))
    recent = sorted({d.as_of for d in nights if d.as_of <= as_of})[-policy.of :]
    drifted: dict[tuple[str, str, str], set[date]] = {}
    for d in nights:
        if d.as_of in recent and _tested(d, policy) and _stands(d, policy, limit):
            drifted.setdefault((d.dimension, d.segment, d.feature), set()).add(d.as_of)
    told: dict[str, list[Drift]] = {}
    since: dict[str, date] = {}
    for d in tonight:
        on = drifted.get((d.dimension, d.segment, d.feature), set())
        if as_of not in on:
            continue
        group = SCORE if d.feature == SCORE else upstream.get(d.feature, table.partition(".")[2])
        told_before = f"{DRIFT}/{d.model}/{group}" in standing
        if told_before or _level(d, policy) == HIGH or len(on) >= policy.nights_of(d.dimension):
            told.setdefault(group, []).append(d)
            since[group] = min(since.get(group, as_of), *on)
    if SCORE in told and len(told) > 1 and all(d.dimension for d in told[SCORE]):
        del told[SCORE]  # the features that moved it are told, and they have a cause
    return [_of_group(group, found, policy, table, since[group]) for group, found in sorted(told.items())]


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

    The message of a landing begins with the file, which has its extract's name, or lists the extracts that are
    missing. The alert is about the table that reads the extract: the book itself before others.
    """
    message = error.partition("\n  next: ")[0]
    missing = message.startswith("missing from ")
    kind = FRESHNESS if missing or " is empty (0 bytes)" in message else SCHEMA
    named = set(re.findall(r"\w+", message.rpartition(": ")[2] if missing else message.partition(".")[0]))
    tables = {t: portfolio.mapping(t) for t in sorted(portfolio.provides, key=lambda t: t != _BOOK)}
    found = []
    for extract in [e.name for e in portfolio.extracts if e.name in named] or ["landing"]:
        read_by = [t for t, sql in tables.items() if re.search(rf"\b{re.escape(extract)}\b", sql)]
        about = tuple(f"raw.{t}" for t in read_by) or (f"raw.{extract}",)
        found.append(Finding(f"{kind}/{(*read_by, extract)[0]}", kind, HIGH, message, (extract,), about))
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


def merged(findings: Iterable[Finding]) -> list[Finding]:
    """One finding for each id: what several say of it is said together, at the highest of their levels."""
    by: dict[str, Finding] = {}
    for f in findings:
        if (other := by.get(f.id)) is None:
            by[f.id] = f
            continue
        by[f.id] = replace(
            other,
            level=HIGH if HIGH in (f.level, other.level) else MODERATE,
            message=other.message if f.message == other.message else f"{other.message}; {f.message}",
            members=tuple(dict.fromkeys((*other.members, *f.members))),
            columns=tuple(dict.fromkeys((*other.columns, *f.columns))),
            segments=tuple(dict.fromkeys((*other.segments, *f.segments))) if other.segments and f.segments else (),
        )
    return list(by.values())


def steps(
    alerts: Mapping[str, Alert], findings: Sequence[Finding], as_of: date, *, covered: Collection[str]
) -> list[Step]:
    """The events that turn the alerts as they are into what a night found. The same night again gives none.

    findings: one for each id (``merged``). covered: kinds that this night looked at; an alert of another kind is left
    as it is. An acknowledged alert reopens by itself when its date is past, or when it gets worse: a higher level, or
    a member that it never had. What is found no longer is resolved.
    """
    taken: list[Step] = []
    for f in findings:
        known = alerts.get(f.id)
        if known is None or known.state == RESOLVED:
            taken.append(Step(RAISED, f.id, f))
            continue
        worse = (f.level == HIGH and known.level != HIGH) or set(f.members) - set(known.seen)
        if known.state == ACKNOWLEDGED:
            assert known.acknowledgement is not None
            if worse or known.acknowledgement.until < as_of:
                taken.append(Step(REOPENED, f.id, f))
        elif known.state == OPEN and worse:
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


def _of_group(group: str, found: list[Drift], policy: DriftPolicy, table: str, since: date) -> Finding:
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
        segments=tuple(sorted({(d.dimension, d.segment) for d in found})) if all(d.dimension for d in found) else (),
        since=since,
    )  # fmt: skip


def _said(d: Drift) -> str:
    where = f" in {d.dimension} {d.segment}" if d.dimension else ""
    then = "first nights at this time of the month" if d.dimension == ARRIVAL else "first nights"
    return f"{d.feature} PSI {d.psi:.2f}{where} ({d.n:,} rows; {d.launch_psi:.2f} against the version's {then})"
