"""Where OpenLineage events go: always to a file of the run, and over the wire when the client is configured to.

Whether and whereto is the openlineage client's own affair (OPENLINEAGE_URL, OPENLINEAGE_CONFIG, openlineage.yml,
OPENLINEAGE__TRANSPORT__…). An event to be sent is first put in the outbox and leaves it when the receiver has taken it:
in order, and once each. Only a process killed between the receiver's answer and the note of it sends that one event
again; a receiver knows it by its run, type and time. A dead receiver costs a night one short timeout.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import time
import uuid
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from openlineage.client import OpenLineageClient
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from requests import HTTPError

from pipeline.config import Settings

_TIMEOUT = 3.0  # seconds the receiver has for one event
_BUDGET = 20.0  # seconds that one delivery may take in all; the rest goes next time
_REFUSED_FOR_GOOD = (400, 413, 422)  # the event itself is the matter: sent again it would be refused again

Event = Mapping[str, Any]
"""One OpenLineage run event as JSON."""


@dataclass(frozen=True)
class Delivery:
    """What became of the outbox. reason: why something was left in it or refused, else empty."""

    sent: int
    left: int
    refused: int = 0
    reason: str = ""


class EventStore:
    """The events of one home: written per run, queued, delivered. Making it touches nothing."""

    def __init__(self, settings: Settings) -> None:
        self.folder = settings.home / "lineage"

    def path(self, run_id: str) -> Path:
        """The JSON lines of one run."""
        return self.folder / "events" / f"{run_id}.jsonl"

    def write(self, run_id: str, events: Iterable[Event]) -> None:
        """Add events to the run's file."""
        _append(self.path(run_id), events)

    def read(self, run_id: str) -> list[dict[str, Any]]:
        """The events of one run in the order they happened; none for a run without any."""
        path = self.path(run_id)
        if not path.is_file():
            return []
        return [event for line in path.read_bytes().splitlines() if (event := _parsed(line)) is not None]

    # -- the outbox: a file of lines, and how many bytes of it have been delivered

    @property
    def _queue(self) -> Path:
        return self.folder / "outbox.jsonl"

    @property
    def _sent_mark(self) -> Path:
        return self.folder / "outbox.sent"

    @property
    def refused(self) -> Path:
        """Events that the receiver called invalid, each with its answer. They are not sent again."""
        return self.folder / "refused.jsonl"

    def queue(self, events: Iterable[Event]) -> None:
        """Put events at the end of the outbox."""
        with self._locked():
            header = [] if self._queue.is_file() else [{"outbox": uuid.uuid4().hex}]
            _append(self._queue, [*header, *events])

    def waiting(self) -> list[dict[str, Any]]:
        """What the outbox still holds, oldest first."""
        with self._locked():
            return [event for _, event in self._undelivered()]

    def deliver(self, client: OpenLineageClient) -> Delivery:
        """Send the outbox in order until it is empty, an event cannot be delivered, or the time is up. Never raises
        for a receiver that is absent, slow or broken: what it did not take stays."""
        sent = refused = 0
        reason = ""
        deadline = time.monotonic() + _BUDGET
        with self._locked():
            waiting = list(self._undelivered())
            for end, event in waiting:
                if time.monotonic() > deadline:
                    reason = f"not all could be sent within {_BUDGET:g} s"
                    break
                try:
                    client.emit(as_run_event(event))
                except HTTPError as error:
                    status = error.response.status_code if error.response is not None else 0
                    reason = f"the receiver answered {status}"
                    if status not in _REFUSED_FOR_GOOD:
                        break
                    answer = error.response.text[:500] if error.response is not None else ""
                    _append(self.refused, [{"status": status, "answer": answer, "event": event}])
                    refused += 1
                except Exception as error:  # noqa: BLE001 - each transport has errors of its own; none may stop a night
                    reason = f"{type(error).__name__}: {str(error)[:300]}"
                    break
                else:
                    sent += 1
                _replace(self._sent_mark, f"{self._name()} {end}")
            left = len(waiting) - sent - refused
            if waiting and not left:
                self._queue.unlink()
                self._sent_mark.unlink(missing_ok=True)
        return Delivery(sent, left, refused, reason)

    def _undelivered(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """The undelivered events, each with the position of its end in the file."""
        if not self._queue.is_file():
            return
        mark = self._sent_mark.read_text().split() if self._sent_mark.is_file() else []
        # A mark that names another file is what a process left that was killed between removing the two.
        position = int(mark[1]) if len(mark) == 2 and mark[0] == self._name() else 0
        with self._queue.open("rb") as handle:
            handle.seek(position)
            for line in handle:
                position += len(line)
                event = _parsed(line)
                if event is not None and "eventType" in event:
                    yield position, event

    def _name(self) -> str:
        """What this outbox file is called, by its first line: each new one has a name of its own."""
        with self._queue.open("rb") as handle:
            return str((_parsed(handle.readline()) or {}).get("outbox", "-"))

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """One process at a time at the outbox."""
        self.folder.mkdir(parents=True, exist_ok=True)
        with (self.folder / "outbox.lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield


def configured_client() -> OpenLineageClient | None:
    """The openlineage client if its own configuration names a transport, made impatient; None if it names none."""
    log = logging.getLogger("openlineage.client.client")
    before = log.level
    log.setLevel(logging.ERROR)  # it warns that it would print to the console: that is when we do not use it
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            client = OpenLineageClient()
    finally:
        log.setLevel(before)
    kind = client.transport.kind
    named = bool((client.config.transport or {}).get("type"))
    if kind == "noop" or (kind == "console" and not named):
        return None
    for transport in (client.transport, *getattr(client.transport, "transports", ())):
        # By default five retries of five seconds: half a minute for each event of a night.
        if hasattr(transport, "timeout"):
            transport.timeout = min(float(transport.timeout), _TIMEOUT)
        retry = getattr(getattr(transport, "config", None), "retry", None)
        if isinstance(retry, dict):
            transport.config.retry = retry | {"total": 0, "read": 0, "connect": 0}
    return client


def as_run_event(event: Event) -> RunEvent:
    """The JSON of an event as the client takes it; its facets stay the dictionaries they are."""
    run, job = event["run"], event["job"]
    return RunEvent(
        eventType=RunState(event["eventType"]),
        eventTime=event["eventTime"],
        producer=event["producer"],
        run=Run(run["runId"], dict(run.get("facets", {}))),
        job=Job(job["namespace"], job["name"], dict(job.get("facets", {}))),
        inputs=[
            InputDataset(d["namespace"], d["name"], facets=d.get("facets", {}), inputFacets=d.get("inputFacets", {}))
            for d in event.get("inputs", ())
        ],
        outputs=[
            OutputDataset(d["namespace"], d["name"], facets=d.get("facets", {}), outputFacets=d.get("outputFacets", {}))
            for d in event.get("outputs", ())
        ],
    )


def _append(path: Path, values: Iterable[Event]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(value, separators=(",", ":"), sort_keys=True) + "\n" for value in values)
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as handle:
            handle.seek(-1, os.SEEK_END)
            if handle.read() != b"\n":
                text = "\n" + text  # a line that a killed process left unfinished ends here
    with path.open("a", encoding="utf-8") as out:
        out.write(text)
        out.flush()
        os.fsync(out.fileno())


def _parsed(line: bytes) -> dict[str, Any] | None:
    """A line's JSON; None for one that a killed process left unfinished (its event is in the run's own file)."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _replace(path: Path, text: str) -> None:
    partial = path.with_suffix(f".{os.getpid()}")
    partial.write_text(text)
    partial.replace(path)
