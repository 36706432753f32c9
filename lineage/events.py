"""OpenLineage events of a run as it goes: START and COMPLETE or FAIL for the run, each task's attempt, each dbt model.

``EventListener`` is handed to the runner from above; whatever fails here is reported and never stops a night.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType

from openlineage.client import OpenLineageClient
from sqlalchemy import Engine

from lineage.event_transport import Event, EventStore, configured_client
from lineage.run_events import RunEvents
from pipeline.config import Settings
from pipeline.dag import TaskResult


class EventListener:
    """Tells of a run as it goes. Use it as a context around the run, so that the run itself is told of as well:

        with EventListener(settings, engine) as listener:
            run_night(…, listeners=[listener])

    report: gets a sentence when an event could not be made or delivered.
    """

    def __init__(self, settings: Settings, engine: Engine, report: Callable[[str], None] = lambda _: None) -> None:
        self._settings = settings
        self._engine = engine
        self._report = report
        self._store = EventStore(settings)
        self._client: OpenLineageClient | None = None
        self._entered = self._configured = self._dead = False
        self._run: RunEvents | None = None

    def __enter__(self) -> EventListener:
        self._entered = True
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._run is not None:
            self._safely(self._run.run_finished)
            self._run.close()
        if self._client is not None:
            self._client.close(3.0)

    def task_started(self, run_id: str, task: str, attempt: int) -> None:
        """Tell that an attempt began; before the first of a run, that the run did."""

        def events() -> list[Event]:
            begun: list[Event] = []
            if self._run is None or self._run.run_id != run_id:
                if self._run is not None:
                    self._run.close()
                self._run = RunEvents(self._settings, self._engine, run_id)
                begun = self._run.run_started() if self._entered else []
            return begun + self._run.task_started(task, attempt)

        self._safely(events)

    def task_finished(self, run_id: str, task: str, attempt: int, result: TaskResult | None, error: str | None) -> None:
        """Tell how an attempt ended, after the dbt models and tests that it ran. The ledger has both arguments too."""
        if self._run is not None:
            run = self._run
            self._safely(lambda: run.task_finished(task, attempt))

    def _safely(self, make: Callable[[], list[Event]]) -> None:
        try:
            events = make()
            if self._run is None:
                return
            self._store.write(self._run.run_id, events)
            for note in self._run.take_notes():
                self._report(f"lineage: {note}")
            self._send(events)
        except Exception as error:  # noqa: BLE001 - a night must not fail because nobody could be told of it
            self._report(f"lineage events were not written: {type(error).__name__}: {error}")

    def _send(self, events: Sequence[Event]) -> None:
        if not self._configured:
            self._configured = True
            self._client = configured_client()
        if self._client is None:
            return
        self._store.queue(events)
        if self._dead:
            return  # one wait for a dead receiver is enough for a night
        delivery = self._store.deliver(self._client)
        if delivery.left or delivery.refused:
            self._dead = delivery.left > 0
            self._report(
                f"lineage events: {delivery.sent} sent, {delivery.left} kept for the next run, "
                f"{delivery.refused} refused ({delivery.reason})"
            )


def deliver_outbox(settings: Settings, report: Callable[[str], None] = lambda _: None) -> int:
    """Send what is left of earlier runs, if the client is configured. Returns how many events are still waiting."""
    store = EventStore(settings)
    client = configured_client()
    if client is None:
        return len(store.waiting())
    delivery = store.deliver(client)
    client.close(3.0)
    if delivery.reason:
        report(f"lineage events: {delivery.sent} sent, {delivery.left} left ({delivery.reason})")
    return delivery.left
