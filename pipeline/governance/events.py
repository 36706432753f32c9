"""What the pipeline tells the audit log: one function per event, called in the transaction that writes the fact.

Texts that machines made (errors, gate messages) are made to fit; figures that are no number become None. An event of
the pipeline is never lost for what stands in it.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, select

from pipeline.control import runs
from pipeline.governance import audit
from pipeline.governance.texts import shown

if TYPE_CHECKING:  # these write their facts through here
    from pipeline.evaluation import Check
    from pipeline.gates import Verdict

_MOST_FAILED = 20  # named in a record; all of them are in the ledger


def run_started(
    connection: Connection,
    run_id: str,
    actor: str,
    *,
    kind: str,
    as_of: date,
    snapshot: int,
    made_with: Mapping[str, Any],
) -> None:
    """A run began: of what, with which code and portfolio."""
    made = {name: made_with[name] for name in ("code", "lock_sha256", "portfolio", "portfolio_sha256")}
    _run(connection, run_id, "started", actor, {"kind": kind, "as_of": as_of, "snapshot_before": snapshot, **made})


def run_ended(
    connection: Connection, run_id: str, actor: str, status: str, *, snapshot: int | None, error: str | None
) -> None:
    """A run ended as its status says: succeeded or failed."""
    detail: dict[str, Any] = {"snapshot_after": snapshot} if snapshot is not None else {}
    _run(connection, run_id, status, actor, detail | ({"error": shown(error)} if error else {}))


def run_abandoned(connection: Connection, run_id: str, actor: str, *, started_by: str, found_by: str) -> None:
    """A run whose process died was found by the next one, by whose actor it is recorded."""
    _run(connection, run_id, "abandoned", actor, {"started_by": shown(started_by), "found_by": found_by})


def gates_judged(connection: Connection, run_id: str, actor: str, verdicts: Sequence[Verdict]) -> None:
    """How many gates passed, warned and failed, and which failed."""
    failed = [v for v in verdicts if v.verdict == "fail"]
    counts = Counter(v.verdict for v in verdicts)
    detail = {
        **{kind: counts[kind] for kind in ("pass", "warn", "fail")},
        "failed": [
            {
                "gate": v.gate,
                "subject": shown(v.subject, 200),
                "observed": _figure(v.observed),
                "expected": shown(v.expected, 200),
                "message": shown(v.message, 500),
            }
            for v in failed[:_MOST_FAILED]
        ],
    }
    audit.append(connection, actor=actor, action="gates.judged", subject=f"run:{run_id}", detail=detail)


def candidate_judged(
    connection: Connection,
    run_id: str,
    model: str,
    version: int | None,
    *,
    checks: Sequence[Check],
    detail: Mapping[str, Any],
) -> None:
    """A candidate was registered as a version, or refused; with the checks it did not pass."""
    failed = [
        {"check": c.check, "observed": _figure(c.observed), "bound": shown(c.bound, 200)}
        for c in checks
        if not c.passed
    ]
    audit.append(
        connection,
        actor=_actor_of(connection, run_id),
        action="candidate.refused" if version is None else "candidate.registered",
        subject=f"model:{model}" if version is None else f"model:{model}/{version}",
        detail={"run_id": run_id, **detail, "checks": len(checks), "failed": failed},
    )


def night_published(
    connection: Connection, run_id: str, actor: str, values: Mapping[str, Any], covered: Mapping[str, Any]
) -> None:
    """Readers see this night from now on. covered: the publication's row, as ``coverage.of`` has it."""
    named = ("as_of", "snapshot_id", "accounts", "applications", "content_sha256", "models", "sla_met")
    detail = {name: values[name] for name in named if name in values}
    _run(connection, run_id, "published", actor, {**detail, **covered})


def _run(connection: Connection, run_id: str, what: str, actor: str, detail: Mapping[str, Any]) -> None:
    plain = {k: v.isoformat() if isinstance(v, date | datetime) else v for k, v in detail.items()}
    audit.append(connection, actor=actor, action=f"run.{what}", subject=f"run:{run_id}", detail=plain)


def _actor_of(connection: Connection, run_id: str) -> str:
    return str(connection.scalar(select(runs.c.actor).where(runs.c.run_id == run_id)))


def _figure(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)
