"""Chosen audit events POSTed to other systems as signed webhooks, after what caused them and apart from it.

A delivery that fails is tried again with growing waits, in the order of the log, until the receiver answers 2xx.
Nothing that a command or a night does waits for one.
"""

from __future__ import annotations

import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from pipeline.config import Settings
from pipeline.errors import ConfigError
from pipeline.governance import webhook_body, webhook_outbox
from pipeline.governance.promotion_log import book_of
from pipeline.governance.webhook_outbox import Queue
from pipeline.governance.webhook_receivers import Receiver, Receivers, secret_of
from pipeline.portfolio import Portfolio


@dataclass(frozen=True)
class Delivered:
    """What came of one go at one receiver: records delivered, and why it stopped before the last, if it did."""

    receiver: str
    count: int
    error: str | None


def queues(engine: Engine, receivers: Receivers, now: datetime) -> tuple[Queue, ...]:
    """How every receiver stands."""
    return tuple(webhook_outbox.queue(engine, receiver, now) for receiver in receivers.receivers)


def due(engine: Engine, receivers: Receivers, now: datetime) -> tuple[Receiver, ...]:
    """Receivers that something waits for, whose wait is over, and that nobody is delivering to."""
    found = zip(receivers.receivers, queues(engine, receivers, now), strict=True)
    return tuple(r for r, q in found if q.waiting and not q.claimed and (q.next_at is None or q.next_at <= now))


def deliver(
    settings: Settings,
    engine: Engine,
    portfolio: Portfolio,
    receivers: Receivers,
    *,
    only_due: bool = False,
    patience: timedelta = timedelta(0),
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> tuple[Delivered, ...]:
    """Send each receiver what waits for it, oldest first, up to the first failure.

    only_due: leave receivers alone whose wait is not over. patience: go on trying failed ones for so long, with their
    waits in between. A receiver's fault, its missing secret included, never keeps another one from its own.
    """
    until, sums = clock() + patience, dict[str, Delivered]()
    chosen = due(engine, receivers, clock()) if only_due else receivers.receivers
    while chosen:
        for receiver in chosen:
            found = _deliver_to(engine, portfolio, receivers.portal, receiver, clock)
            before = sums.get(receiver.name)
            sums[receiver.name] = Delivered(found.receiver, found.count + (before.count if before else 0), found.error)
        soonest = min((q.next_at for q in queues(engine, receivers, clock()) if q.next_at), default=None)
        if soonest is None or soonest > until:
            break
        time.sleep(max(0.0, (soonest - clock()).total_seconds()))
        chosen = due(engine, receivers, clock())
    return tuple(sums.values())


def _deliver_to(
    engine: Engine, portfolio: Portfolio, portal: str, receiver: Receiver, clock: Callable[[], datetime]
) -> Delivered:
    count = 0
    with webhook_outbox.claimed(engine, receiver, clock()) as mine:
        if not mine:
            return Delivered(receiver.name, 0, "another process is delivering to it")
        book, tiers = book_of(engine), {spec.name: spec.materiality for spec in portfolio.models}
        while (record := webhook_outbox.upcoming(engine, receiver)) is not None:
            if record.subject.startswith("promotion:") and record.subject.partition(":")[2] not in book.promotions:
                book = book_of(engine)
            content = webhook_body.body(record, book, tiers, portal)
            status, fault = _post(receiver, content, record.action, webhook_body.delivery_id(record), clock)
            webhook_outbox.record(engine, receiver, record.seq, clock(), status=status, error=fault)
            if fault is not None:
                return Delivered(receiver.name, count, fault)
            count += 1
    return Delivered(receiver.name, count, None)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect is an answer like any other that is not 2xx: the signed body goes where the file says, or nowhere."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def _post(
    receiver: Receiver, content: bytes, event: str, delivery: str, clock: Callable[[], datetime]
) -> tuple[int | None, str | None]:
    """(HTTP status, what went wrong). What the receiver says is not kept: it may repeat what is nobody's business."""
    try:
        secret = secret_of(receiver)
    except ConfigError as error:  # an attempt like any other: it waits and is tried again
        return None, error.message
    request = urllib.request.Request(  # noqa: S310 - the address was checked to be http or https
        receiver.url,
        data=content,
        method="POST",
        headers={
            "Content-Type": "application/json; charset=utf-8",
            "User-Agent": "scoretrace",
            "Scoretrace-Event": event,
            "Scoretrace-Delivery": delivery,
            "Scoretrace-Signature": webhook_body.signature(secret, int(clock().timestamp()), content),
        },
    )
    # No proxy from the environment: what reads it is pipeline.config alone.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(request, timeout=receiver.timeout_seconds) as answer:
            status = int(answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        status = error.code
    except (OSError, ValueError) as error:  # refused, unreachable, TLS, timeout, or no HTTP at all
        reason = getattr(error, "reason", error)
        return None, f"no answer: {type(reason).__name__}: {reason}"[:300]
    except Exception as error:  # noqa: BLE001 - http.client has errors of its own for answers that are no HTTP
        return None, f"no answer that is HTTP: {type(error).__name__}"
    if 200 <= status < 300:
        return status, None
    if 300 <= status < 400:
        return status, f"answered {status}: a redirect, which is not followed"
    return status, f"answered {status}"
