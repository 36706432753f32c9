"""The newest night as a Prometheus text file, for the collector that a house already runs (node_exporter's textfile).

Written whole or not at all, after each night, also one that failed. The format:
https://prometheus.io/docs/instrumenting/exposition_formats
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import Engine

from pipeline import ledger
from pipeline.config import Settings
from pipeline.monitoring import alerts


@dataclass(frozen=True)
class Metric:
    """One metric: its name without the prefix, what it says, and samples (labels → value)."""

    name: str
    says: str
    samples: tuple[tuple[Mapping[str, str], float], ...] = field(default=())


def after_run(settings: Settings, engine: Engine, run_id: str) -> Path:
    """Write ``metrics/scoretrace.prom`` in the home about a run that has ended; returns the path."""
    path = settings.home / "metrics" / "scoretrace.prom"
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(render(of_run(engine, run_id)), encoding="utf-8")
    partial.replace(path)
    return path


def of_run(engine: Engine, run_id: str) -> list[Metric]:
    """What the ledger says of a run, and which alerts stand."""
    run, attempts = ledger.run(engine, run_id), ledger.task_attempts(engine, run_id)
    published = ledger.latest_publication(engine)
    seconds: dict[str, float] = {}
    tries: Counter[str] = Counter()
    for a in attempts:
        seconds[a.task] = seconds.get(a.task, 0.0) + (a.seconds or 0.0)
        tries[a.task] += 1
    rows = {a.task: a.rows for a in attempts if a.rows is not None}
    gates = Counter(v.verdict for v in ledger.gate_verdicts(engine, run_id))
    tests = ledger.dbt_totals(engine, run_id)
    standing = Counter((a.kind, a.level) for a in alerts.open_alerts(engine))
    watched: list[dict[str, Any]] = next(
        (a.detail["watched"] for a in reversed(attempts) if a.detail and "watched" in a.detail), []
    )
    metrics = [
        Metric("night_as_of_timestamp_seconds", "As-of date of the last night that ran, at 00:00 UTC.",
               (({}, _epoch_of_day(run.as_of.toordinal())),)),
        Metric("night_ended_timestamp_seconds", "When the last night ended.",
               (({}, run.ended_at.timestamp() if run.ended_at else 0.0),)),
        Metric("night_succeeded", "1 when the last night ran to its end, 0 when it failed.",
               (({}, float(run.status == "succeeded")),)),
        Metric("night_seconds", "How long the last night took.", (({}, run.seconds or 0.0),)),
        Metric("task_seconds", "How long each task took, all attempts together.",
               tuple(({"task": t}, s) for t, s in seconds.items())),
        Metric("task_attempts", "Attempts of each task.", tuple(({"task": t}, float(n)) for t, n in tries.items())),
        Metric("task_rows", "Rows that each task wrote.", tuple(({"task": t}, float(n)) for t, n in rows.items())),
        Metric("gates", "Load gates of the last night by verdict.",
               tuple(({"verdict": v}, float(gates[v])) for v in ("pass", "warn", "fail"))),
        Metric("data_tests", "Data tests of the last night by outcome.",
               tuple(({"outcome": o}, float(getattr(tests, o))) for o in ("passed", "warned", "failed"))),
        Metric("drift_psi_max", "Largest PSI of a feature over the whole book, against the version's baseline.",
               tuple(({"model": w["model"], "version": str(w["version"])}, float(w["largest"])) for w in watched)),
        Metric("drift_features", "Features by band of their PSI.",
               tuple(({"model": w["model"], "version": str(w["version"]), "band": band}, float(n))
                     for w in watched for band, n in w["bands"].items())),
        Metric("alerts_open", "Alerts that stand and that nobody answers for.",
               tuple(({"kind": k, "level": level}, float(n)) for (k, level), n in sorted(standing.items()))
               or (({}, 0.0),)),
    ]  # fmt: skip
    if published is not None:
        sla = ledger.sla_of(published, ledger.run(engine, published.run_id))
        in_time = {ledger.Sla.MET: 1.0, ledger.Sla.MISSED: 0.0}.get(sla)
        metrics += [
            Metric("published_as_of_timestamp_seconds", "As-of date of the newest published night, at 00:00 UTC.",
                   (({}, _epoch_of_day(published.as_of.toordinal())),)),
            Metric("published_sla_met", "1 when the newest published night was in time, 0 when it was late; "
                   "left out when it was made up for later or has no due time.",
                   () if in_time is None else (({}, in_time),)),
            Metric("published_subjects", "Subjects that the newest published night scored.",
                   tuple(({"model": m.name, "version": str(m.version)}, float(m.rows)) for m in published.models)),
        ]  # fmt: skip
    return metrics


def render(metrics: Iterable[Metric]) -> str:
    """The text format: a help and a type line for each metric, then its samples. Without samples it is left out."""
    lines = []
    for metric in metrics:
        if not metric.samples:
            continue
        name = f"scoretrace_{metric.name}"
        lines += [f"# HELP {name} {metric.says}", f"# TYPE {name} gauge"]
        for labels, value in metric.samples:
            shown = ",".join(f'{k}="{_escaped(v)}"' for k, v in labels.items())
            lines.append(f"{name}{{{shown}}} {value!r}" if shown else f"{name} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _epoch_of_day(ordinal: int) -> float:
    return (ordinal - 719_163) * 86_400.0
