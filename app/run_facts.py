"""Runs as fragments of a page: the list, attempts, models, environment, two runs side by side. Pure; no Streamlit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo

from app import formats, markup
from app.markup import Cell, Column, Html, Table
from app.night_facts import TASK, observed
from pipeline.ledger import DbtResult, DbtTotals, GateVerdict, Run, TaskAttempt


def status(run: Run) -> Html:
    """How a run ended, as sign and word."""
    level, _ = TASK.get(run.status, ("none", ""))
    return markup.status(level, run.status)


def run_table(runs: Sequence[Run], published: frozenset[str], zone: ZoneInfo, caption: str, order: str) -> Table:
    """Runs in the order given; the first column holds their ids."""
    columns = [
        Column("run"),
        Column("kind", order="kind"),
        Column("as of", order="-as_of"),
        Column("status", order="-status"),
        Column("published"),
        Column("started", order="-started"),
        Column("took", "number"),
        Column("by", order="by"),
        Column("error", "clip"),
    ]
    rows: list[list[Cell]] = [
        [
            r.run_id,
            r.kind,
            formats.day(r.as_of),
            status(r),
            "yes" if r.run_id in published else formats.MISSING,
            markup.at(r.started_at, zone),
            formats.duration(r.seconds),
            r.actor,
            markup.hint(r.message, r.message) if r.message else formats.MISSING,
        ]
        for r in runs
    ]
    return markup.table(columns, rows, caption, order=order)


def figures(run: Run, published: bool, zone: ZoneInfo) -> Html:
    """One run's figures side by side."""
    before, after = (formats.count(s) for s in (run.snapshot_before, run.snapshot_after))
    ended: Cell = "still running"
    if run.ended_at:
        how = "process gone, found " if run.status == "abandoned" else "ended "
        ended = markup.join([how, markup.at(run.ended_at, zone, seconds=True)], "")
    return markup.facts(
        [
            ("Status", status(run), "published" if published else "published nothing"),
            ("As of", formats.day(run.as_of), run.kind),
            ("Took", formats.duration(run.seconds), ended),
            ("Started", markup.at(run.started_at, zone, with_day=False, seconds=True), formats.day(
                run.started_at.astimezone(zone).date())),
            ("Snapshot", f"{before} → {after}", "before and after"),
            ("By", run.actor, f"on {run.host}, process {run.pid}"),
        ]
    )  # fmt: skip


def attempt_table(attempts: Sequence[TaskAttempt], zone: ZoneInfo) -> Table:
    """Every attempt of every task."""
    columns = [
        Column("task"),
        Column("attempt", "number"),
        Column("status"),
        Column("started"),
        Column("took", "number"),
        Column("rows", "number"),
        Column("snapshot before", "number"),
        Column("after", "number"),
        Column("error", "wrap fill"),
    ]
    rows: list[list[Cell]] = []
    for a in attempts:
        level, _ = TASK.get(a.status, ("none", ""))
        rows.append(
            [
                a.task,
                str(a.attempt),
                markup.status(level, a.status),
                markup.at(a.started_at, zone, with_day=False, seconds=True),
                formats.duration(a.seconds),
                formats.count(a.rows),
                formats.count(a.snapshot_before),
                formats.count(a.snapshot_after),
                (a.error or formats.MISSING).partition("\n")[0],
            ]
        )
    return markup.table(columns, rows, "Attempts of the run's tasks")


def model_table(results: Sequence[DbtResult]) -> Table:
    """The dbt models that a run built, in order, with their time and the hash of their SQL."""
    columns = [Column("model"), Column("status"), Column("took", "number"), Column("SQL", "fill")]
    rows: list[list[Cell]] = [
        [
            r.model,
            markup.status("ok" if r.status == "success" else "stop", r.status),
            formats.duration(r.seconds),
            markup.digest(r.definition_sha256),
        ]
        for r in results
    ]
    return markup.table(columns, rows, "Models built", fit=True)


def log_table(lines: Sequence[tuple[datetime, str]], zone: ZoneInfo) -> Table:
    """What a run said, oldest first."""
    rows: list[list[Cell]] = [[markup.at(at, zone, with_day=False, seconds=True), said.strip()] for at, said in lines]
    return markup.table([Column("at"), Column("said", "wrap fill")], rows, "What the run said, oldest first")


@dataclass(frozen=True)
class Told:
    """One event of a run: when, START or COMPLETE or FAIL, of which job, and how many data sets it read and wrote."""

    at: datetime
    kind: str
    job: str
    read: int
    wrote: int


def told(event: Mapping[str, Any]) -> Told:
    """The line of an OpenLineage run event."""
    return Told(
        datetime.fromisoformat(event["eventTime"]), event["eventType"], event["job"]["name"],
        len(event.get("inputs", ())), len(event.get("outputs", ())),
    )  # fmt: skip


def event_table(events: Sequence[Told], zone: ZoneInfo) -> Table:
    """Events in the order they happened."""
    columns = [
        Column("told at"), Column("event"), Column("job"), Column("data sets read", "number"),
        Column("written", "number"),
    ]  # fmt: skip
    rows: list[list[Cell]] = [
        [markup.at(e.at, zone, with_day=False, seconds=True), e.kind, e.job, formats.count(e.read),
         formats.count(e.wrote)]
        for e in events
    ]  # fmt: skip
    return markup.table(columns, rows, "Events of the run", fit=True)


def environment_table(environment: Mapping[str, Any]) -> Table:
    """What the run ran with, a line a fact; nested facts by their path."""
    rows: list[list[Cell]] = [[name, _fact(value)] for name, value in flat(environment)]
    return markup.table([Column("what"), Column("value", "wrap fill")], rows, "Environment of the run", fit=True)


def flat(facts: Mapping[str, Any], above: str = "") -> list[tuple[str, str]]:
    """Nested facts as lines, in name order: ``packages.duckdb`` and its value."""
    lines: list[tuple[str, str]] = []
    for name, value in sorted(facts.items()):
        path = f"{above}.{name}" if above else str(name)
        lines += flat(value, path) if isinstance(value, Mapping) else [(path, str(value))]
    return lines


def _fact(value: str) -> Cell:
    is_hash = len(value) == 64 and all(c in "0123456789abcdef" for c in value)
    return markup.digest(value) if is_hash else value


def compared(
    now: Run, then: Run, attempts: tuple[Sequence[TaskAttempt], Sequence[TaskAttempt]],
    totals: tuple[DbtTotals, DbtTotals],
) -> Table:  # fmt: skip
    """Two runs side by side: how they ended, what each task took, what the tests said."""
    columns = [
        Column("what"),
        Column(then.run_id, "number"),
        Column(now.run_id, "number"),
        Column("change", "number fill"),
    ]
    seconds = [_seconds(a) for a in attempts]
    rows: list[list[Cell]] = [
        ["as of", formats.day(then.as_of), formats.day(now.as_of), formats.MISSING],
        ["status", status(then), status(now), formats.MISSING],
        ["took", formats.duration(then.seconds), formats.duration(now.seconds), _change(then.seconds, now.seconds)],
    ]
    for task in dict.fromkeys((*seconds[0], *seconds[1])):
        before, after = seconds[1].get(task), seconds[0].get(task)
        rows.append(
            [f"{task}, all attempts", formats.duration(before), formats.duration(after), _change(before, after)]
        )
    for name in ("models", "passed", "warned", "failed", "skipped"):
        before, after = getattr(totals[1], name), getattr(totals[0], name)
        label = "models built" if name == "models" else f"tests {name}"
        change = f"{after - before:+d}".replace("-", formats.MINUS) if after != before else "0"
        rows.append([label, formats.count(before), formats.count(after), change])
    return markup.table(columns, rows, "Two runs side by side", fit=True)


def gate_changes(now: Sequence[GateVerdict], then: Sequence[GateVerdict]) -> Table:
    """Gate figures side by side, those whose verdict is another first."""
    by_gate = [{(g.gate, g.subject): g for g in found} for found in (now, then)]
    keys = sorted(
        dict.fromkeys((*by_gate[0], *by_gate[1])),
        key=lambda k: (_verdict(by_gate[0], k) == _verdict(by_gate[1], k), k),
    )
    columns = [
        Column("gate"), Column("of"), Column("then"), Column("observed then", "number"), Column("now"),
        Column("observed now", "number fill"),
    ]  # fmt: skip
    rows: list[list[Cell]] = []
    for key in keys:
        line: list[Cell] = [*key]
        for side in (by_gate[1], by_gate[0]):
            found = side.get(key)
            level = {"pass": "ok", "warn": "watch", "fail": "stop"}.get(found.verdict, "none") if found else "none"
            line += [
                markup.status(level, found.verdict) if found else markup.quiet("not judged"),
                observed(found) if found else formats.MISSING,
            ]
        rows.append(line)
    return markup.table(columns, rows, "Gate figures of both runs", fit=True)


def fact_changes(now: Mapping[str, str], then: Mapping[str, str], caption: str) -> Table:
    """Facts that are not the same in both runs."""
    names = [n for n in sorted({*now, *then}) if now.get(n) != then.get(n)]
    rows: list[list[Cell]] = [
        [n, _fact(then.get(n, formats.MISSING)), _fact(now.get(n, formats.MISSING))] for n in names
    ]
    return markup.table([Column("what"), Column("then"), Column("now", "fill")], rows, caption, fit=True)


def _verdict(side: Mapping[tuple[str, str], GateVerdict], key: tuple[str, str]) -> str:
    return side[key].verdict if key in side else ""


def _seconds(attempts: Sequence[TaskAttempt]) -> dict[str, float]:
    spent: dict[str, float] = {}
    for a in attempts:
        spent[a.task] = spent.get(a.task, 0.0) + (a.seconds or 0.0)
    return spent


def _change(before: float | None, after: float | None) -> str:
    if before is None or after is None:
        return formats.MISSING
    return f"{formats.signed(after - before, 1)}{formats.THIN}s"
