"""A night as fragments of a page: how it stands, its figures, tasks, gates, tests and models. Pure; no Streamlit."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from app import formats, markup
from app.inbox import SIGNATURE, Waiting
from app.markup import Cell, Column, Html, Step, Table
from pipeline import calendar
from pipeline.gates import UNITS
from pipeline.governance.promotion_log import LetScore
from pipeline.governance.promotion_state import Finding, Promotion
from pipeline.ledger import (
    DbtResult,
    DbtTotals,
    GateVerdict,
    Night,
    Publication,
    Run,
    ScoredModel,
    Sla,
    TaskAttempt,
)
from pipeline.monitoring.alert_rules import HIGH
from pipeline.monitoring.alert_state import Alert
from pipeline.portfolio import Portfolio

_SLA = {
    Sla.MET: ("ok", "met"),
    Sla.MISSED: ("watch", "missed"),
    Sla.BACKFILLED: ("ok", "backfilled"),
    Sla.NONE: ("none", "no due time"),
}
VERDICT = {"pass": ("ok", "pass"), "warn": ("watch", "warn"), "fail": ("stop", "fail")}
TASK = {
    "succeeded": ("ok", ""),
    "failed": ("stop", "failed"),
    "abandoned": ("stop", "abandoned"),
    "running": ("watch", "running"),
}


@dataclass(frozen=True)
class Evidence:
    """What the ledger holds about a published night."""

    publication: Publication
    night: Night
    run: Run
    attempts: tuple[TaskAttempt, ...]
    gates: tuple[GateVerdict, ...]
    dbt: DbtTotals
    watched: TaskAttempt | None

    def gates_with(self, verdict: str) -> int:
        return sum(g.verdict == verdict for g in self.gates)


def alerts_line(standing: Sequence[Alert], *, newest: bool = True) -> str:
    """The alerts that nobody answers for, as the label of a link. newest: the page is of the newest night; on an older
    one it is said that they are today's."""
    when = "" if newest else " today"
    if not standing:
        return f"Alerts: :green[✓ none open{when}] ▸"
    colour, sign = ("red", "✕") if severe(standing) else ("orange", "▲")
    return f"Alerts: :{colour}[{sign} {len(standing)} open{when}] ▸"


def severe(standing: Sequence[Alert]) -> bool:
    """Whether one of them is of the highest level."""
    return any(a.level == HIGH for a in standing)


def answer(evidence: Evidence, alerts: Sequence[Alert] = (), *, clear: bool = True) -> Html:
    """Is the book right? One status: what failed, or what wants a look, or that nothing does.

    alerts: those that are open. clear: nothing else wants whoever looks: the night is the newest one, none failed or is
    overdue since, nothing waits for a signature, and its alerts are theirs to see. Else no more is said than this
    night's own.
    """
    failed, warned, dbt = evidence.gates_with("fail"), evidence.gates_with("warn"), evidence.dbt
    broken = _said(
        (failed, "gate", "failed"), (dbt.failed, "data test", "failed"), (dbt.models_failed, "model", "broke")
    )
    opened = _said((len(alerts), "alert", "open"))
    looks = _said((warned, "gate", "warned"), (dbt.warned, "data test", "warned")) + opened
    if evidence.night.sla == Sla.MISSED:
        looks.insert(0, "landed late")
    if unwatched := not_watched(evidence.watched):
        looks.append(unwatched)
    if broken or severe(alerts):
        return markup.status("stop", f"published, but {', '.join(broken + looks)}")
    if not evidence.gates or not dbt.passed:
        ran = "no gate ran" if dbt.passed else "no data test ran" if evidence.gates else "no gate and no data test ran"
        looks.append(ran)
    if looks:
        return markup.status("watch", f"published; {', '.join(looks)}")
    return markup.status("ok", "published; nothing needs you" if clear else "published")


def missed_nights(portfolio: Portfolio, newest: date, now: datetime) -> tuple[date, ...] | None:
    """Nights that are due and have not been published since the newest one, oldest first. None where that is longer
    ago than a month of nights, or half a year of months: no outage, but a book that is looked at and not run."""
    span = timedelta(days=31) if portfolio.calendar == "daily" else timedelta(days=190)
    nights = calendar.nights(portfolio.calendar, now.date() - span, now.date())
    due = [night for night in nights if portfolio.due(night) <= now]
    return None if due and newest < due[0] else tuple(night for night in due if night > newest)


def not_watched(monitor: TaskAttempt | None) -> str:
    """Why nobody can say yet how a published night's features and scores moved; empty where its monitor ended well."""
    if monitor is None:
        return "not watched"
    if monitor.status == "running":
        return "being watched still"
    return "" if monitor.status == "succeeded" else f"not watched: its monitor {TASK[monitor.status][1]}"


def _said(*counted: tuple[int, str, str]) -> list[str]:
    return [f"{formats.plural(n, noun)} {verb}" for n, noun, verb in counted if n]


def waiting_links(waiting: Sequence[Waiting]) -> list[tuple[str, dict[str, str]]]:
    """What waits for somebody, one link a kind: its words, and the query of the Promotions page."""
    to_sign = [w for w in waiting if w.what == SIGNATURE]
    others = [w for w in waiting if w.what != SIGNATURE]
    links = []
    if to_sign:
        verb = "wait" if len(to_sign) > 1 else "waits"
        words = f"{formats.plural(len(to_sign), 'promotion')} {verb} for your signature ›"
        links.append((words, _query([w.promotion.id for w in to_sign])))
    if others:
        words = f"{formats.plural(len(others), 'thing')} of a review for you ›"
        links.append((words, _query([w.promotion.id for w in others])))
    return links


def model_links(late: Sequence[tuple[str, str]]) -> list[tuple[str, dict[str, str]]]:
    """(model, what is late of it): one link a kind, to the model where it is one."""
    links = []
    for what in ("review", "response"):
        if models := [model for model, kind in late if kind == what]:
            label = f"{formats.plural(len(models), f'model {what}')} overdue ›"
            links.append((label, {"model": models[0]} if len(set(models)) == 1 else {}))
    return links


def finding_links(due: Sequence[tuple[Promotion, Finding]], today: date) -> list[tuple[str, dict[str, str]]]:
    """Open findings that are overdue, and those due within the week: one link a kind."""
    late = [p.id for p, finding in due if finding.due < today.isoformat()]
    soon = [p.id for p, finding in due if finding.due >= today.isoformat()]
    kinds = ((late, "overdue"), (soon, "due this week"))
    return [(f"{formats.plural(len(ids), 'finding')} {when} ›", _query(ids)) for ids, when in kinds if ids]


def _query(ids: Sequence[str]) -> dict[str, str]:
    """The promotion, where it is one; else the inbox."""
    return {"promotion": ids[0]} if len(set(ids)) == 1 else {}


def figures(
    evidence: Evidence, zone: ZoneInfo, mean_pd: float | None, change: float | None, before: date | None
) -> list[tuple[str, Cell, Cell]]:
    """The night's figures, each with its label and a note. ``change`` is the mean PD's since ``before``, the newest
    night before it."""
    publication, landed, dbt = evidence.publication, evidence.night.landed_at, evidence.dbt
    failed, warned, gates = evidence.gates_with("fail"), evidence.gates_with("warn"), len(evidence.gates)
    tests = dbt.passed + dbt.warned + dbt.failed
    day = formats.day(landed.astimezone(zone).date()) if landed else ""
    moved = "no night shown before"
    if change is not None and before is not None:
        moved = (
            f"{formats.points_change(change)} since {formats.day(before, year=before.year != publication.as_of.year)}"
        )
    return [
        ("Landed", markup.at(landed, zone, with_day=False), day),
        ("SLA", markup.status(*_SLA[evidence.night.sla]), sla_note(evidence.night)),
        (
            "Accounts scored",
            formats.count(publication.accounts),
            f"and {formats.plural(publication.applications, 'application')}",
        ),
        ("Mean PD", formats.probability(mean_pd), moved),
        ("Gates passed", _passed(gates - failed - warned, warned, failed), f"{failed} failed, {warned} warned"),
        (
            "Data tests passed",
            _passed(dbt.passed, dbt.warned, dbt.failed),
            f"{dbt.failed} failed, {dbt.warned} warned",
        ),
        ("Features", formats.count(publication.features), f"{formats.plural(dbt.models, 'model')}, {tests} tests"),
    ]


def _passed(passed: int, warned: int, failed: int) -> Html:
    total = passed + warned + failed
    if not total:
        return markup.status("none", "none ran")
    level = "stop" if failed else "watch" if warned else "ok"
    return markup.status(level, f"{formats.count(passed)} of {formats.count(total)}")


def sla_note(night: Night) -> str:
    """How far from its due time the night landed."""
    publication = night.publication
    if publication is None or publication.sla_due is None or night.landed_at is None:
        return "the night carries none"
    spare = (publication.sla_due - night.landed_at).total_seconds()
    if night.sla == Sla.BACKFILLED:
        return f"run {formats.duration(-spare)} after it was due"
    return f"{formats.duration(abs(spare))} {'before' if spare >= 0 else 'after'} it was due"


def status_of(
    night: Night | None,
    day: date,
    portfolio: Portfolio,
    now: datetime,
    warned: Container[str],
    telling: Container[str] = (),
) -> tuple[str, str]:
    """How an as-of date stands on the calendar, as a level and words. warned: runs that a gate or a test warned of.
    telling: runs that told of an alert that is open."""
    if night is None or (night.publication is None and night.run is None):
        return "none", "not run" if now > portfolio.due(day) else "not due yet"
    if night.publication is None:
        assert night.run is not None
        failed = night.run.failed
        return ("stop", "failed, nothing published") if failed else ("watch", f"{night.run.status}, not published")
    if night.run and night.run.failed:
        same = night.run.run_id == night.publication.run_id
        return "watch", f"published; {'what came after' if same else 'a later run of it'} failed"
    if night.sla == Sla.MISSED:
        return "watch", "landed late"
    if night.publication.run_id in warned:
        return "watch", "landed, with a warning of a gate or a test"
    if night.publication.run_id in telling:
        return "watch", "landed, with an alert that is open"
    return "ok", "backfilled" if night.sla == Sla.BACKFILLED else "landed"


def steps(attempts: Sequence[TaskAttempt]) -> list[Step]:
    """One step a task: its last attempt decides how it ended, every attempt counts for its time."""
    found = []
    for task in dict.fromkeys(a.task for a in attempts):
        tries = [a for a in attempts if a.task == task]
        level, word = TASK.get(tries[-1].status, ("none", tries[-1].status))
        seconds = sum(a.seconds or 0.0 for a in tries)
        said = [formats.duration(seconds)]
        if tries[-1].rows is not None:
            said.append(formats.plural(tries[-1].rows, "row"))
        if len(tries) > 1:
            said.append(f"{len(tries)} attempts")
        found.append(Step(task, level, word, seconds, " · ".join(said)))
    return found


def task_strip(run: Run, attempts: Sequence[TaskAttempt]) -> Html:
    """The night as its tasks, under a line that names the run."""
    note = markup.join([formats.duration(run.seconds), f"run {run.run_id}", f"by {run.actor}"])
    return Html(f"{markup.heading('The night', note)}{markup.GAP}{markup.strip(steps(attempts))}")


def observed(g: GateVerdict) -> str:
    """A gate's figure with its unit."""
    unit = UNITS.get(g.gate)
    if g.observed is None or unit is None:  # a gate that this version does not know stays readable
        return formats.decimal(g.observed)
    return formats.probability(g.observed) if unit == "share" else formats.plural(round(g.observed), unit)


def _tested(r: DbtResult) -> str:
    return f"{r.model}.{r.column}" if r.column else r.model


_RANK = {"pass": 0, "success": 0, "skipped": 1, "warn": 2}  # any other verdict is a failure
GATE_ORDERS: Mapping[str, Callable[[GateVerdict], Any]] = {
    "gate": lambda g: g.gate,
    "of": lambda g: g.subject,
    "verdict": lambda g: _RANK.get(g.verdict, 3),
    "observed": lambda g: g.observed,
}
TEST_ORDERS: Mapping[str, Callable[[DbtResult], Any]] = {
    "test": lambda r: _full_test_name(r.unique_id),
    "on": _tested,
    "result": lambda r: _RANK.get(r.status, 3),
    "rows": lambda r: r.failures,
    "took": lambda r: r.seconds,
}


def gate_words(g: GateVerdict) -> str:
    """What of a gate's verdict is looked through for words."""
    return f"{g.gate} {g.subject} {g.verdict} {g.message}"


def test_words(r: DbtResult) -> str:
    """What of a data test is looked through for words."""
    return f"{_full_test_name(r.unique_id)} {_tested(r)} {r.status} {r.message or ''}"


def gate_table(gates: Sequence[GateVerdict], caption: str, order: str | None = None) -> Table:
    """Verdicts with their figures and bounds, in the order given."""
    columns = [
        Column("gate", order="gate"),
        Column("of", order="of"),
        Column("verdict", order="-verdict"),
        Column("observed", "number", order="-observed"),
        Column("finding; what was expected", "wrap fill"),
    ]
    rows: list[list[Cell]] = [
        [
            g.gate,
            g.subject,
            markup.status(*VERDICT.get(g.verdict, ("none", g.verdict))),
            observed(g),
            markup.join(
                [
                    formats.sentence(g.message.removeprefix(f"{g.subject}: ")),
                    markup.quiet(formats.sentence(g.expected)),
                ],
                "; ",
            ),
        ]
        for g in gates
    ]
    return markup.table(columns, rows, caption, order=order)


def model_table(
    models: Sequence[ScoredModel], promoted: Callable[[ScoredModel], LetScore | None], zone: ZoneInfo
) -> Table:
    """Which bytes scored, how many, and who let them."""
    columns = [
        Column("model"),
        Column("version"),
        Column("digest"),
        Column("scored", "number"),
        Column("promoted by", "fill"),
    ]
    rows: list[list[Cell]] = [
        [m.name, f"v{m.version}", markup.digest(m.digest), formats.count(m.rows), promoted_by(promoted(m), zone)]
        for m in models
    ]
    return markup.table(columns, rows, "Models that scored this night")


def promoted_by(promotion: LetScore | None, zone: ZoneInfo) -> Html:
    """Who and when, with the reason on hover; a version without a promotion is a stop."""
    if promotion is None:
        return markup.status("stop", "no promotion on record")
    who = markup.hint(promotion.actor, promotion.reason)
    return markup.join([who, markup.at(promotion.promoted_at, zone)], ", ")


def test_table(
    results: Sequence[DbtResult], caption: str = "Data tests that did not pass", order: str | None = None
) -> Table:
    """Data tests with how they ended, in the order given."""
    columns = [
        Column("test", order="test"),
        Column("on", order="on"),
        Column("result", order="-result"),
        Column("rows", "number", "that failed it", order="-rows"),
        Column("took", "number", order="-took"),
        Column("message", "wrap fill"),
    ]
    rows: list[list[Cell]] = [
        [
            markup.hint(_test_name(r.unique_id), r.unique_id),
            _tested(r),
            markup.status(*VERDICT.get(r.status, ("stop", r.status))),
            formats.count(r.failures),
            formats.duration(r.seconds),
            r.message or formats.MISSING,
        ]
        for r in results
    ]
    return markup.table(columns, rows, caption, order=order)


def _full_test_name(unique_id: str) -> str:
    """The name within dbt's ``test.<project>.<name>.<hash>``."""
    parts = unique_id.split(".")
    return parts[2] if len(parts) > 2 else unique_id


def _test_name(unique_id: str) -> str:
    """As much of the name as a table has room for; generic tests have long ones."""
    name = _full_test_name(unique_id)
    return name if len(name) <= 48 else f"{name[:47]}…"
