"""What a retention keeps is what it promises: each night for a while, a month's last for longer, and no more."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.calendar import add_months
from pipeline.errors import ConfigError
from pipeline.ledger import Publication
from pipeline.portfolio import load, resolve
from pipeline.retention import Retention, parse, plan

TODAY = date(2026, 3, 14)


def published(number: int, days_ago: int, snapshot: int) -> Publication:
    as_of = TODAY - timedelta(days=days_ago)
    return Publication(
        number, as_of, f"run-{number}", snapshot, datetime(2026, 3, 15, tzinfo=UTC), 1, 0, "0" * 64, (), 1, None, None
    )


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Publication], set[int], dict[int, int], set[int]]:
    """Nights at growing snapshots, each run going on for some more; some snapshots between; some are needed."""
    ages = sorted(draw(st.lists(st.integers(0, 1500), min_size=1, max_size=30)), reverse=True)
    nights = [published(i, age, 10 * (i + 1)) for i, age in enumerate(ages)]
    snapshots = set(range(1, 10 * len(nights) + 10))
    also = {p.id: p.snapshot_id + 3 for p in nights if draw(st.booleans())}
    needed = draw(st.sets(st.sampled_from(sorted(snapshots)), max_size=5))
    return nights, snapshots, also, needed


@given(histories(), st.integers(1, 900), st.integers(1, 60))
def test_what_is_promised_stays_and_what_ends_is_told(
    history: tuple[list[Publication], set[int], dict[int, int], set[int]], nights: int, month_ends: int
) -> None:
    publications, snapshots, also, needed = history
    found = plan(Retention(nights, month_ends), TODAY, publications, snapshots, needed, also)
    gone = set(found.expire)
    assert not gone & needed
    assert gone <= snapshots
    assert found.kept == len(snapshots) - len(gone)
    for p in publications:
        last_of_month = max(q.as_of for q in publications if q.as_of.replace(day=1) == p.as_of.replace(day=1))
        kept = (
            p.as_of == max(q.as_of for q in publications)
            or p.as_of >= TODAY - timedelta(days=nights)
            or (p.as_of == last_of_month and p.as_of >= add_months(TODAY, -month_ends))
        )
        if kept:
            assert not {p.snapshot_id, also.get(p.id, p.snapshot_id)} & gone
            assert p not in found.ending
        elif p.snapshot_id not in needed and all(also.get(q.id) != p.snapshot_id for q in publications):
            assert p in found.ending
        assert (p in found.ending) == (p.snapshot_id in gone)


@given(histories(), st.integers(1, 900), st.integers(1, 60), st.integers(0, 300), st.integers(0, 40))
def test_a_longer_retention_ends_no_more(
    history: tuple[list[Publication], set[int], dict[int, int], set[int]], nights: int, months: int, more: int, yet: int
) -> None:
    publications, snapshots, also, needed = history
    short = plan(Retention(nights, months), TODAY, publications, snapshots, needed, also)
    long = plan(Retention(nights + more, months + yet), TODAY, publications, snapshots, needed, also)
    assert set(long.expire) <= set(short.expire)


def test_a_portfolio_says_how_long(tmp_path: Path) -> None:
    assert load(resolve("cascade")).retention == Retention(400, 84)
    assert parse({"nights": 30}) == Retention(30, 84)
    for wrong, told in (({"nights": 0}, "retention.nights is 0"), ({"weeks": 3}, "unknown weeks")):
        with pytest.raises(ValueError, match=told):
            parse(wrong)
    folder = tmp_path / "lender"
    folder.mkdir()
    for file in resolve("cascade").iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    with (folder / "portfolio.yml").open("a") as yml:
        yml.write("\nretention: {nights: soon}\n")
    with pytest.raises(ConfigError, match=r"retention\.nights is 'soon'"):
        load(folder)
