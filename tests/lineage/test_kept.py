"""What is worked out once: kept whole, keyed by all it depends on; a text's dates taken out and put back."""

from __future__ import annotations

import os
import stat
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lineage.kept import Kept
from lineage.rows import contributing_rows
from lineage.rowtrace.dates import with_dates, without_dates

DATES = st.dates(date(1900, 1, 1), date(2199, 12, 31))


def test_an_answer_comes_back_for_the_same_question_only(tmp_path: Path) -> None:
    kept = Kept(tmp_path / "kept")
    assert kept.recall("a", 1) is None
    kept.keep({"ids": [1, None]}, "a", 1)
    assert kept.recall("a", 1) == {"ids": [1, None]}
    assert kept.recall("a", 2) is None
    assert kept.recall("a1") is None
    assert [p.suffix for p in (tmp_path / "kept").rglob("*") if p.is_file()] == [".json"]


def test_a_broken_file_is_worked_out_anew(tmp_path: Path) -> None:
    kept = Kept(tmp_path)
    kept.keep([1], "q")
    [file] = tmp_path.rglob("*.json")
    for content in (b"[1", b"", b"\xff\xfe"):
        file.write_bytes(content)
        assert kept.recall("q") is None
    kept.keep([2], "q")
    assert kept.recall("q") == [2]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_one_who_may_not_write_keeps_nothing(tmp_path: Path) -> None:
    tmp_path.chmod(stat.S_IRUSR | stat.S_IXUSR)
    try:
        Kept(tmp_path / "kept").keep([1], "q")
        assert not (tmp_path / "kept").exists()
    finally:
        tmp_path.chmod(stat.S_IRWXU)


@given(st.lists(DATES, min_size=1, max_size=8), st.integers(1, 400))
def test_a_later_nights_twin_is_the_same_text_without_dates(days: list[date], later: int) -> None:
    def text(shift: int) -> str:
        return "select " + ", ".join(f"d > date '{day + timedelta(days=shift)}'" for day in days)

    plain, dates = without_dates(text(0))
    twin, twins = without_dates(text(later))
    assert plain == twin
    assert with_dates(plain, dates) == text(0)
    assert with_dates(twin, twins) == text(later)


def test_the_same_places_must_hold_the_same_dates() -> None:
    same = "select date '2026-03-01', date '2026-03-01'"
    other = "select date '2026-03-01', date '2026-03-02'"
    assert without_dates(same)[0] != without_dates(other)[0]


def test_only_date_literals_are_dates() -> None:
    text = "select 'date ''2026-03-01''', '2026-03-01', update_date '2026-03-01' from t where d = DATE '2026-03-02'"
    plain, dates = without_dates(text)
    assert list(dates.values()) == ["2026-03-02"]
    assert "'date ''2026-03-01'''" in plain and "'2026-03-01'," in plain
    assert with_dates(plain, dates) == text


@pytest.mark.parametrize(
    "early", ["select date '0001-01-01', date '2026-03-01'", "select '0001-01-01', date '2026-03-01'"]
)
def test_a_text_with_early_dates_is_left_alone(early: str) -> None:
    assert without_dates(early) == (early, {})
    assert with_dates(early, {}) == early


def test_a_kept_plan_answers_for_another_date(tmp_path: Path) -> None:
    """One plan for two nights: the second is answered from the first one's file, and rightly."""
    kept = Kept(tmp_path)
    with closing(duckdb.connect()) as con:
        con.execute("CREATE TABLE pay AS SELECT i AS id, DATE '2026-03-01' + (i::INTEGER) AS day FROM range(5) r(i)")
        text = "SELECT 1 AS one, count(*) AS n FROM pay WHERE day <= date '{}' AND day < date '{}' + 1"
        first = contributing_rows(text.format("2026-03-02", "2026-03-02"), {"one": 1}, con, kept=kept)
        files = {p: p.read_bytes() for p in tmp_path.rglob("*.json")}
        second = contributing_rows(text.format("2026-03-04", "2026-03-04"), {"one": 1}, con, kept=kept)
        assert {p: p.read_bytes() for p in tmp_path.rglob("*.json")} == files, "nothing was planned anew"
        third = contributing_rows(text.format("2026-03-04", "2026-03-02"), {"one": 1}, con, kept=kept)
    assert (first, second, third) == ({"pay": [0, 1]}, {"pay": [0, 1, 2, 3]}, {"pay": [0, 1]})
