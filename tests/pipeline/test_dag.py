"""The task graph: order, retries with back-off, decisions that are not retried, limits in time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest
from sqlalchemy import Engine, select

from pipeline import control, dag, lake, portfolio
from pipeline.config import Settings
from pipeline.dag import Graph, Task, TaskResult
from pipeline.errors import ConfigError, GateFailed, LeaseHeld, TaskTimeout
from pipeline.lease import writer_lease
from pipeline.runs import RunLedger
from tests.pipeline.lender import write_portfolio


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.at(tmp_path / "home")


@pytest.fixture
def engine(settings: Settings) -> Engine:
    return control.create(settings)


@pytest.fixture
def ledger(engine: Engine, tmp_path: Path) -> RunLedger:
    lender = portfolio.load(write_portfolio(tmp_path / "portfolio"))
    return RunLedger.start(
        engine, kind="nightly", as_of=date(2026, 3, 14), actor="tester", portfolio=lender, snapshot=1
    )


def attempts(engine: Engine) -> list[tuple[str, int, str]]:
    table = control.task_attempts
    with engine.connect() as connection:
        rows = connection.execute(select(table.c.task, table.c.attempt, table.c.status).order_by(table.c.started_at))
        return [tuple(row) for row in rows]  # type: ignore[misc]


def run(graph: Graph[Any], ledger: RunLedger, waits: list[float] | None = None) -> dict[str, TaskResult]:
    return dag.run(graph, None, ledger, snapshot=lambda: 7, sleep=(waits if waits is not None else []).append)


def test_order_keeps_upstream_first_and_every_attempt_is_recorded(engine: Engine, ledger: RunLedger) -> None:
    seen: list[str] = []

    def task(name: str, *upstream: str) -> Task[None]:
        return Task(name, lambda _: seen.append(name) or TaskResult(len(name)), upstream)  # type: ignore[func-returns-value]

    results = run(Graph("g", (task("c", "b"), task("b", "a"), task("a"))), ledger)
    assert seen == ["a", "b", "c"]
    assert results["c"].rows == 1
    assert attempts(engine) == [("a", 1, "succeeded"), ("b", 1, "succeeded"), ("c", 1, "succeeded")]


def test_a_passing_fault_is_tried_again_with_doubling_waits(engine: Engine, ledger: RunLedger) -> None:
    faults = iter([OSError("disk full"), OSError("disk full"), None])

    def flaky(_: None) -> TaskResult:
        if (fault := next(faults)) is not None:
            raise fault
        return TaskResult(1)

    waits: list[float] = []
    run(Graph("g", (Task("flaky", flaky, retries=2, backoff=3.0),)), ledger, waits)
    assert waits == [3.0, 6.0]
    assert [status for _, _, status in attempts(engine)] == ["failed", "failed", "succeeded"]


def test_a_decision_is_not_tried_again_and_stops_what_follows(engine: Engine, ledger: RunLedger) -> None:
    def refuse(_: None) -> TaskResult:
        raise GateFailed("no", "mend it")

    after: list[int] = []
    graph = Graph(
        "g",
        (Task("gate", refuse), Task("features", lambda _: after.append(1) or TaskResult(), ("gate",))),  # type: ignore[func-returns-value]
    )
    with pytest.raises(GateFailed):
        run(graph, ledger)
    assert attempts(engine) == [("gate", 1, "failed")]
    assert not after


def _sleep(_: None) -> TaskResult:
    time.sleep(5)
    return TaskResult()


def _query(_: None) -> TaskResult:
    """Ten minutes of counting, on as many threads as there are cores: the wait ends, and so must the query."""
    with lake.stopping(duckdb.connect()) as con:
        con.execute("SELECT count(*) FROM range(1000000) a, range(1000000) b").fetchall()
    return TaskResult()


@pytest.mark.parametrize("slow", [_sleep, _query])
def test_a_task_over_its_limit_is_stopped_and_named(
    engine: Engine, ledger: RunLedger, slow: Callable[[None], TaskResult]
) -> None:
    started = time.monotonic()
    with pytest.raises(TaskTimeout, match="task slow ran longer than its limit"):
        run(Graph("g", (Task("slow", slow, timeout=0.2),)), ledger)
    assert time.monotonic() - started < 3
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.25, "nothing goes on behind the back of the one who stopped it"


def test_a_graph_that_cannot_run_is_refused() -> None:
    def nothing(_: None) -> TaskResult:
        return TaskResult()

    with pytest.raises(ConfigError, match="unknown nowhere"):
        Graph("g", (Task("a", nothing, ("nowhere",)),))
    with pytest.raises(ConfigError, match="wait for each other"):
        Graph("g", (Task("a", nothing, ("b",)), Task("b", nothing, ("a",))))


def test_a_dead_run_is_marked_by_the_next(engine: Engine, ledger: RunLedger, tmp_path: Path) -> None:
    ledger.start_attempt("land", 1, 1)
    lender = portfolio.load(tmp_path / "portfolio")
    RunLedger.start(engine, kind="nightly", as_of=date(2026, 3, 15), actor="tester", portfolio=lender, snapshot=1)
    assert attempts(engine) == [("land", 1, "abandoned")]
    with engine.connect() as connection:
        status = connection.execute(
            select(control.runs.c.status).where(control.runs.c.run_id == ledger.run_id)
        ).scalar_one()
    assert status == "abandoned"


HOLDER = """
import sys, time
from pathlib import Path
from pipeline import control
from pipeline.config import Settings
from pipeline.lease import writer_lease
settings = Settings.at(Path(sys.argv[1]))
with writer_lease(settings, control.create(settings), "nightly --as-of 2026-03-14 by night-batch"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_second_writer_is_told_who_the_first_is_and_a_killed_one_leaves_nothing(
    settings: Settings, engine: Engine
) -> None:
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(settings.home)], stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with (
        pytest.raises(LeaseHeld, match=rf"night-batch \(process {holder.pid} on "),
        writer_lease(settings, engine, "me"),
    ):
        pass
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with writer_lease(settings, engine, "me"):
        pass
