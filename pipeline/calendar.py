"""Dates of the business: month-ends, horizons, the nights of a portfolio's calendar."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta


def month_end(day: date) -> date:
    """Last day of the day's month."""
    return (day.replace(day=28) + timedelta(days=4)).replace(day=1) - timedelta(days=1)


def add_months(day: date, months: int) -> date:
    """The day ``months`` later; a month-end stays a month-end (30 September + 1 month is 31 October)."""
    index = day.year * 12 + day.month - 1 + months
    first = date(index // 12, index % 12 + 1, 1)
    last = month_end(first)
    return last if day == month_end(day) else min(first.replace(day=1) + timedelta(days=day.day - 1), last)


def nights(calendar: str, start: date, end: date) -> Iterator[date]:
    """The as-of dates from start to end, both included: every day, or every month-end."""
    day = start if calendar == "daily" else month_end(start)
    while day <= end:
        yield day
        day = day + timedelta(days=1) if calendar == "daily" else month_end(day + timedelta(days=1))


def matured_month_ends(first_data: date, as_of: date, horizon_months: int, count: int) -> tuple[date, ...]:
    """The latest ``count`` month-ends, oldest first, whose whole horizon lies at or before ``as_of``."""
    found: list[date] = []
    day = month_end(add_months(as_of.replace(day=1), -horizon_months))
    while len(found) < count and day >= first_data:
        if add_months(day, horizon_months) <= as_of:
            found.append(day)
        day = day.replace(day=1) - timedelta(days=1)
    return tuple(reversed(found))
