"""Dates: month-ends stay month-ends, horizons do not slip, cohorts have matured."""

from __future__ import annotations

from datetime import date

from hypothesis import given
from hypothesis import strategies as st

from pipeline.calendar import add_months, matured_month_ends, month_end, nights

DAYS = st.dates(date(1990, 1, 1), date(2090, 12, 31))


def test_known_dates() -> None:
    assert month_end(date(2024, 2, 3)) == date(2024, 2, 29)
    assert add_months(date(2005, 9, 30), 1) == date(2005, 10, 31)
    assert add_months(date(2025, 1, 30), 1) == date(2025, 2, 28)
    assert list(nights("monthly", date(2005, 8, 15), date(2005, 10, 31))) == [
        date(2005, 8, 31), date(2005, 9, 30), date(2005, 10, 31),
    ]  # fmt: skip
    assert matured_month_ends(date(2005, 4, 30), date(2005, 10, 31), 1, 2) == (date(2005, 8, 31), date(2005, 9, 30))
    assert matured_month_ends(date(2025, 6, 1), date(2026, 3, 7), 12, 8) == ()


@given(DAYS, st.integers(0, 36))
def test_a_month_end_stays_one(day: date, months: int) -> None:
    later = add_months(month_end(day), months)
    assert later == month_end(later)
    assert (later.year * 12 + later.month) - (day.year * 12 + day.month) == months


@given(DAYS, st.integers(1, 24), st.integers(1, 12))
def test_every_cohort_has_matured_and_none_is_left_out(as_of: date, horizon: int, count: int) -> None:
    found = matured_month_ends(date(1980, 1, 1), as_of, horizon, count)
    assert len(found) == count
    assert all(add_months(day, horizon) <= as_of for day in found)
    assert add_months(add_months(found[-1], 1), horizon) > as_of
