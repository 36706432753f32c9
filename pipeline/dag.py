"""The declared task graph and its in-process runner.

A task is a name, what must come before it, how often and how patiently it is tried, and how long it may
take. The graph is data: the runner here walks it in one process; a scheduler can be generated from it.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from typing import Any, Generic, Protocol, TypeVar

from pipeline.errors import ConfigError, ScoretraceError, TaskTimeout, beside, redacted
from pipeline.runs import FAILED, SUCCEEDED, RunLedger

Context = TypeVar("Context")


@dataclass(frozen=True)
class TaskResult:
    """What a task reports: rows written and a JSON-able detail for the ledger."""

    rows: int | None = None
    detail: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Task(Generic[Context]):
    """One task. ``timeout`` and ``backoff`` are seconds; the wait doubles after each failed attempt.

    Only faults that may pass are tried again (a locked catalog, a full disk). A ScoretraceError is a
    decision, and would be taken again.
    """

    name: str
    action: Callable[[Context], TaskResult]
    upstream: tuple[str, ...] = ()
    retries: int = 2
    backoff: float = 2.0
    timeout: float = 3600.0


class Listener(Protocol):
    """Told of each attempt, after the ledger has it. Lineage listens here; its faults must not stop a night."""

    def task_started(self, run_id: str, task: str, attempt: int) -> None: ...
    def task_finished(
        self, run_id: str, task: str, attempt: int, result: TaskResult | None, error: str | None
    ) -> None: ...


@dataclass(frozen=True)
class Graph(Generic[Context]):
    """Tasks by name, checked on construction: unknown upstreams and cycles are refused."""

    name: str
    tasks: tuple[Task[Context], ...]

    def __post_init__(self) -> None:
        names = {t.name for t in self.tasks}
        for task in self.tasks:
            if unknown := set(task.upstream) - names:
                raise ConfigError(f"task {task.name} of {self.name} waits for unknown {', '.join(sorted(unknown))}")
        try:
            self.order()
        except CycleError as error:
            raise ConfigError(f"the tasks of {self.name} wait for each other: {error.args[1]}") from error

    def order(self) -> tuple[Task[Context], ...]:
        """The tasks in an order that keeps every upstream first; declaration order decides among equals."""
        by_name = {t.name: t for t in self.tasks}
        return tuple(by_name[n] for n in TopologicalSorter({t.name: t.upstream for t in self.tasks}).static_order())


def run(
    graph: Graph[Context],
    context: Context,
    ledger: RunLedger,
    *,
    snapshot: Callable[[], int],
    progress: Callable[[str], None] = lambda _: None,
    listeners: Sequence[Listener] = (),
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, TaskResult]:
    """Run the tasks in order; the first task that fails for good ends the run and is raised.

    snapshot: reads the lake's newest snapshot id, recorded before and after each attempt.
    """
    results: dict[str, TaskResult] = {}
    order = graph.order()
    for position, task in enumerate(order, start=1):
        progress(f"[{position}/{len(order)}] {task.name} …")
        started = time.monotonic()
        results[task.name] = _attempts(task, context, ledger, snapshot, progress, listeners, sleep)
        rows = results[task.name].rows
        counted = f", {rows:,} rows" if rows is not None else ""
        progress(f"[{position}/{len(order)}] {task.name} ✓ {time.monotonic() - started:.1f} s{counted}")
    return results


def _attempts(
    task: Task[Context],
    context: Context,
    ledger: RunLedger,
    snapshot: Callable[[], int],
    progress: Callable[[str], None],
    listeners: Sequence[Listener],
    sleep: Callable[[float], None],
) -> TaskResult:
    for attempt in range(1, task.retries + 2):
        ledger.start_attempt(task.name, attempt, snapshot())
        for listener in listeners:
            listener.task_started(ledger.run_id, task.name, attempt)
        try:
            with _time_limit(task.name, task.timeout):
                result = task.action(context)
        except BaseException as error:
            message = redacted(str(error)) or type(error).__name__
            with beside(error):
                ledger.finish_attempt(task.name, attempt, FAILED, error=message)
                for listener in listeners:
                    listener.task_finished(ledger.run_id, task.name, attempt, None, message)
            if isinstance(error, ScoretraceError) or not isinstance(error, Exception) or attempt > task.retries:
                raise
            wait = task.backoff * 2 ** (attempt - 1)
            progress(f"{task.name} failed ({message.splitlines()[0][:200]}); attempt {attempt + 1} in {wait:.0f} s")
            sleep(wait)
        else:
            ledger.finish_attempt(
                task.name, attempt, SUCCEEDED, snapshot=snapshot(), rows=result.rows, detail=result.detail
            )
            for listener in listeners:
                listener.task_finished(ledger.run_id, task.name, attempt, result, None)
            return result
    raise AssertionError("unreachable: the last attempt returns or raises")


@contextmanager
def _time_limit(name: str, seconds: float) -> Iterator[None]:
    """Raise TaskTimeout in the body after ``seconds``; in the main thread only, where signals arrive."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    expired = TaskTimeout(
        f"task {name} ran longer than its limit of {seconds:g} s",
        "see the run's record for where the time went; run the command again to go on",
    )

    def expire(_signal: int, _frame: object) -> None:
        raise expired

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    except TaskTimeout:
        raise
    except Exception as error:
        # A query that the signal interrupts ends in an error of its own, with ours somewhere behind it.
        if "interrupt" in str(error).lower() and expired.__traceback__ is not None:
            raise expired from error
        raise
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
