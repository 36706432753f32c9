"""Which snapshots of the lake are promised, and which no longer: the rule, without the lake.

A night can be replayed while the snapshot that it was published at is there. The portfolio says for how long each
night can, and for how long the last night of a month; what a model was trained on stays as long as the home.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any

from pipeline.calendar import add_months

if TYPE_CHECKING:
    from pipeline.ledger import Publication


@dataclass(frozen=True)
class Retention:
    """How long a night can be replayed to the bit. nights: days for each one. month_ends: months for the last of each
    calendar month. What stays besides: every score, every raw row that stands, every record."""

    nights: int = 400
    month_ends: int = 84

    def __post_init__(self) -> None:
        for name in ("nights", "month_ends"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"retention.{name} is {value!r}; it is a whole number of at least 1")


@dataclass(frozen=True)
class Plan:
    """What a maintenance ends. ``ending``: publications whose replay ends; ``expire``: snapshots that go, theirs and
    those which nothing was ever promised for; ``kept``: how many stay."""

    ending: tuple[Publication, ...]
    expire: tuple[int, ...]
    kept: int


def plan(
    policy: Retention,
    today: date,
    publications: Iterable[Publication],
    snapshots: Collection[int],
    needed: Collection[int],
    also: Mapping[int, int],
) -> Plan:
    """What may go of ``snapshots``, those in the lake, at ``today``.

    needed: snapshots that stay in any case (the newest ones, those that models were trained on).
    also: publication id → the last snapshot of its run, which shows what was watched after publishing.
    """
    all_of_them = sorted(publications, key=lambda p: (p.as_of, p.id))

    def of(publication: Publication) -> set[int]:
        return {publication.snapshot_id, also.get(publication.id, publication.snapshot_id)}

    stay = set(needed).union(*(of(p) for p in promised(policy, today, all_of_them)))
    expire = tuple(sorted(set(snapshots) - stay))
    ending = tuple(p for p in all_of_them if p.snapshot_id in expire)
    return Plan(ending, expire, len(set(snapshots) & stay))


def promised(policy: Retention, today: date, publications: Iterable[Publication]) -> list[Publication]:
    """Those whose night can be replayed at ``today``: each recent one, each of a date that is its month's last, and
    the newest, however old it is: its scores are those that stand."""
    found = list(publications)
    newest = max((p.as_of for p in found), default=None)
    last_of_month: dict[date, date] = {}
    for p in found:
        month = p.as_of.replace(day=1)
        last_of_month[month] = max(p.as_of, last_of_month.get(month, p.as_of))
    oldest_night = today - timedelta(days=policy.nights)
    oldest_month_end = add_months(today, -policy.month_ends)
    return [
        p
        for p in found
        if p.as_of == newest
        or p.as_of >= oldest_night
        or (p.as_of >= oldest_month_end and p.as_of == last_of_month[p.as_of.replace(day=1)])
    ]


def parse(raw: Mapping[str, Any]) -> Retention:
    """The ``retention`` section of a portfolio. Raises ValueError naming the key that is wrong."""
    if unknown := sorted(set(raw) - {"nights", "month_ends"}):
        raise ValueError(f"retention has the unknown {', '.join(unknown)}; its keys are nights and month_ends")
    return Retention(**raw)
