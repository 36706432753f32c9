"""Outcomes of a tiny book by hand: labels mature to the night and never before, and nothing is mixed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from pipeline.monitoring import cohorts, outcome_reads, outcome_tables
from pipeline.monitoring.cohorts import ScoringRecord
from pipeline.monitoring.outcomes import OutcomeReport, measure_outcomes
from tests.pipeline.monitoring.scored_book import PORTFOLIO, Book

JANUARY = date(2024, 1, 31)
NIGHT = date(2024, 4, 30)  # three months later: January's labels are mature
BEFORE, AFTER = date(2024, 4, 29), date(2024, 5, 1)
SCORES = {1: -2.0, 2: -1.0, 3: -0.5, 4: 0.0, 5: -1.0, 6: -4.0}


@pytest.fixture
def book(tmp_path: Path) -> Iterator[Book]:
    """Six accounts of January; what became of each is told beside it."""
    with Book(tmp_path / "home") as made:
        made.score(JANUARY, SCORES)
        made.event(1, date(2024, 3, 10), date(2024, 3, 12))  # an event within the horizon, known in time
        made.event(2, NIGHT, AFTER)  # on the horizon's last day, but known a day after the night
        made.event(3, date(2024, 1, 20), date(2024, 1, 22))  # before the score: left out
        made.event(4, date(2024, 4, 2), date(2024, 4, 2))
        made.event(5, date(2024, 2, 2), date(2024, 2, 2), "closed")  # an end that is no event: stays, as none
        made.event(6, AFTER, AFTER)  # after the horizon
        yield made


def run(
    book: Book, night: date, record: ScoringRecord | None = None, run_id: str = "run", cutoff_pd: float | None = None
) -> OutcomeReport:
    models = tuple(replace(m, cutoff_pd=cutoff_pd) for m in PORTFOLIO.models)
    return measure_outcomes(book.con, replace(PORTFOLIO, models=models), night, run_id, record=record)


def test_matured_by_hand(book: Book) -> None:
    """Events 1 and 4 of 1, 2, 4, 5, 6: account 4 scored above all, account 1 above one of three: AUC 4/6."""
    report = run(book, NIGHT)
    (seen,) = report.measured
    assert (seen.kind, seen.origin, seen.n, seen.events, seen.left_out_event_before) == ("matured", "live", 5, 2, 1)
    (row,) = book.stored("performance")
    assert row["auc"] == pytest.approx(4 / 6, rel=1e-12)
    assert row["gini"] == pytest.approx(2 / 6, rel=1e-12)
    pds = {k: 1 / (1 + math.exp(-z)) for k, z in SCORES.items() if k != 3}
    assert row["expected"] == pytest.approx(sum(pds.values()), rel=1e-12)
    assert row["brier"] == pytest.approx(sum((p - (k in (1, 4))) ** 2 for k, p in pds.items()) / 5, rel=1e-12)
    assert (row["month"], row["scored_to"], row["matures_on"]) == (date(2024, 1, 1), JANUARY, NIGHT)
    assert row["hosmer_lemeshow_df"] == 4  # −2, −1 twice, 0 and −4: four groups of equal scores, out of sample
    kept = {r["grade"]: (r["n"], r["events"]) for r in book.stored("grades")}
    assert kept == {"A": (1, 0), "C": (1, 1), "D": (3, 1)}


def test_a_home_made_earlier_is_read_and_gets_its_new_columns(book: Book) -> None:
    run(book, NIGHT)
    for column in ("ks_low", "ks_high", "rate_low"):
        book.con.execute(f"ALTER TABLE lake.outcomes.performance DROP COLUMN {column}")
    (old,) = outcome_reads.performance(book.con, NIGHT)
    assert (old.ks_low, old.rate_low) == (None, None) and old.ks is not None and old.rate_high is not None
    book.event(6, date(2024, 5, 20), date(2024, 5, 20))
    run(book, AFTER)
    (new,) = outcome_reads.performance(book.con, AFTER)
    assert new.ks_low is not None and new.ks is not None and new.ks_high is not None and new.rate_low is not None
    assert new.ks_low <= new.ks <= new.ks_high and new.rate_low <= (new.observed_rate or 0)


def test_a_label_known_a_day_after_the_night_is_not_used(book: Book) -> None:
    run(book, NIGHT)
    run(book, AFTER)
    first, second = book.stored("performance")
    assert (first["as_of_date"], first["events"]) == (NIGHT, 2)
    assert (second["as_of_date"], second["events"]) == (AFTER, 3)
    assert outcome_reads.performance(book.con, NIGHT)[0].events == 2
    assert outcome_reads.performance(book.con, AFTER)[0].events == 3


def test_before_the_horizon_is_over_there_is_an_estimate_and_no_label(book: Book) -> None:
    (seen,) = run(book, BEFORE).measured
    assert (seen.kind, seen.n, seen.events) == ("estimated", 5, None)
    (row,) = book.stored("performance")
    assert (row["kind"], row["observed_rate"], row["calibration_slope"], row["trend_p"]) == (
        "estimated", None, None, None,
    )  # fmt: skip
    assert 0.5 < row["auc"] < 1 and row["auc_low"] is None
    assert {r["jeffreys_p"] for r in book.stored("grades")} == {None}


def test_an_estimate_is_kept_beside_what_came_true(book: Book) -> None:
    run(book, BEFORE)
    run(book, NIGHT)
    (pair,) = outcome_reads.foreseen(book.con, NIGHT)
    assert (pair.estimated.kind, pair.matured.kind, pair.matured.events) == ("estimated", "matured", 2)
    assert [r.kind for r in outcome_reads.performance(book.con, NIGHT)] == ["matured"]
    assert [r.kind for r in outcome_reads.performance(book.con, BEFORE)] == ["estimated"]
    for night, kind in ((NIGHT, "matured"), (BEFORE, "estimated")):
        assert {g.kind for g in outcome_reads.grades(book.con, night)} == {kind}
        assert {b.kind for b in outcome_reads.reliability(book.con, night)} == {kind}


def test_a_night_measured_twice_or_late_has_the_same_rows(book: Book) -> None:
    run(book, BEFORE)
    run(book, NIGHT)
    once = {table: book.stored(table) for table in outcome_tables.TABLES}
    run(book, NIGHT, run_id="again")
    assert {table: book.stored(table) for table in outcome_tables.TABLES} == once
    book.event(5, date(2024, 4, 1), date(2024, 6, 1))
    run(book, NIGHT, run_id="after later news")
    assert {table: book.stored(table) for table in outcome_tables.TABLES} == once


def test_only_what_changed_is_measured_again(book: Book) -> None:
    run(book, NIGHT)
    book.event(6, date(2024, 5, 20), date(2024, 5, 20))  # outside January's horizon
    later = run(book, date(2024, 5, 25))
    assert later.unchanged == 0 and later.measured[0].events == 3  # account 2's event has come to light
    quiet = run(book, date(2024, 5, 26))
    assert (quiet.unchanged, quiet.measured, quiet.rows["performance"]) == (1, (), 0)
    assert outcome_reads.performance(book.con, date(2024, 5, 26))[0].as_of_date == date(2024, 5, 25)


def test_a_version_that_took_over_within_the_month_is_the_months(book: Book) -> None:
    """Accounts count once: what the replaced version's night was estimated at is not shown beside it."""
    book.score(date(2024, 5, 2), {1: 0.0, 2: 1.0, 5: 0.0})
    run(book, date(2024, 5, 2))
    book.score(date(2024, 5, 3), {5: 0.0, 6: 1.0}, version=2)
    run(book, date(2024, 5, 3))
    shown = [r for r in outcome_reads.performance(book.con, date(2024, 5, 3)) if r.month.month == 5]
    assert [(r.model_version, r.scored_to) for r in shown] == [(2, date(2024, 5, 3))]
    assert {g.model_version for g in outcome_reads.grades(book.con, date(2024, 5, 3)) if g.month.month == 5} == {2}


def test_accounts_count_once_a_month(book: Book) -> None:
    book.score(date(2024, 1, 15), {7: 1.0, 8: 2.0})
    (seen,) = run(book, NIGHT).measured
    assert seen.n == 5


def test_the_running_month_moves_on_with_its_nights(book: Book) -> None:
    book.score(date(2024, 5, 2), {1: 0.0, 2: 1.0})
    run(book, date(2024, 5, 2))
    book.score(date(2024, 5, 3), {5: 0.0, 6: 1.0, 7: 2.0})
    run(book, date(2024, 5, 3))
    shown = outcome_reads.performance(book.con, date(2024, 5, 3))
    assert [(r.month, r.scored_to, r.kind, r.n) for r in shown] == [
        (date(2024, 1, 1), JANUARY, "matured", 5),
        (date(2024, 5, 1), date(2024, 5, 3), "estimated", 2),
    ]


def test_a_backfill_is_told_apart_and_never_measured_on_rows_it_learnt_from(book: Book) -> None:
    book.score(JANUARY, SCORES, version=2, scored_at=datetime(2024, 5, 2, tzinfo=UTC), run_id="late")
    for number, fold in ((1, "train"), (2, "valid"), (4, "holdout")):
        for training_set in ("own", "other"):
            if training_set == "own" or number == 1:
                book.con.execute(
                    "INSERT INTO lake.training.members VALUES (?, ?, ?, 0, ?)",
                    [training_set, str(number), JANUARY, fold],
                )
    (seen,) = run(book, AFTER).measured
    assert (seen.origin, seen.n, seen.events, seen.left_out_training) == ("backfill", 3, 1, 2)
    record = ScoringRecord({JANUARY: "late"}, {("pd_default", 2): "other"})
    (known,) = run(book, AFTER, record).measured
    assert (known.n, known.left_out_training) == (4, 1)


def test_scores_that_were_not_published_do_not_count(book: Book) -> None:
    book.score(date(2024, 1, 30), {1: 0.0, 6: -1.0})
    record = ScoringRecord({date(2024, 1, 30): "night-2024-01-30", JANUARY: "another run"})
    (seen,) = run(book, NIGHT, record).measured
    assert seen.n == 2
    assert run(book, NIGHT, ScoringRecord({})).measured == ()


def test_a_cohort_without_rows_says_why(tmp_path: Path) -> None:
    with Book(tmp_path / "home") as book:
        book.score(JANUARY, {1: 0.0})
        book.event(1, date(2024, 1, 3), date(2024, 1, 3))
        report = run(book, NIGHT)
        assert report.empty == ("pd_default v1 2024-01 (live): 1 had their event before the score",)
        assert book.stored("performance") == []


def test_applications_count_at_their_first_score_once_booked(tmp_path: Path) -> None:
    with Book(tmp_path / "home") as book:
        book.score(date(2024, 1, 10), {1: 0.0, 2: -1.0}, subject="application")
        book.score(date(2024, 1, 20), {1: 3.0, 3: -2.0, 4: 1.0}, subject="application")
        for number, account in ((1, 101), (2, 102), (3, None), (4, 104)):
            book.application(number, date(2024, 1, 9), None, date(2024, 1, 10))
            if account:
                book.application(number, date(2024, 1, 9), account, date(2024, 1, 25))
        book.event(101, date(2024, 4, 12), date(2024, 4, 12))  # after the horizon of its first score
        book.event(104, date(2024, 4, 12), date(2024, 4, 12))  # within that of its own
        assert [m.kind for m in run(book, date(2024, 4, 19)).measured] == ["estimated"]
        (seen,) = run(book, date(2024, 4, 20)).measured
        assert (seen.subject, seen.kind, seen.n, seen.events) == ("application", "matured", 3, 1)
        parts = outcome_reads.performance(book.con, date(2024, 4, 20), segment=None)
        assert [(p.segment, p.value, p.n) for p in parts] == [
            ("all", "", 3), ("channel", "online", 3), ("product", "card", 3), ("state", "NY", 3),
        ]  # fmt: skip


def test_segments_are_those_that_the_portfolio_declares(book: Book) -> None:
    book.statement(1, date(2024, 1, 20), date(2023, 3, 5), "card")
    book.application(1, date(2023, 3, 1), 1, date(2023, 3, 2))
    declared = replace(PORTFOLIO, monitoring=replace(PORTFOLIO.monitoring, segments=("vintage", "state", "arrival")))
    measure_outcomes(book.con, declared, NIGHT, "run")
    parts = {(p.segment, p.value) for p in outcome_reads.performance(book.con, NIGHT, segment=None)}
    assert parts == {("all", ""), ("vintage", "2023-03"), ("state", "NY")}
    (again,) = measure_outcomes(book.con, PORTFOLIO, NIGHT, "run").measured  # another declaration: measured anew
    assert again.n == 5


def test_account_segments_come_from_the_statement_known_at_the_score(book: Book) -> None:
    for account, opened, product in (
        (1, date(2023, 3, 5), "card"),
        (2, date(2023, 3, 9), "auto_loan"),
        (4, None, "card"),
    ):
        book.statement(account, date(2023, 12, 20), date(2020, 1, 1), "line_of_credit")
        book.statement(account, date(2024, 1, 20), opened, product)
        book.statement(account, date(2024, 2, 20), opened, "personal_loan")
    run(book, NIGHT)
    parts = {(p.segment, p.value): (p.n, p.events) for p in outcome_reads.performance(book.con, NIGHT, segment=None)}
    assert parts == {
        ("all", ""): (5, 2),
        ("product", "card"): (2, 2),
        ("product", "auto_loan"): (1, 0),
        ("vintage", "2023-03"): (2, 1),
    }


def test_fairness_at_the_cut_off_by_hand(tmp_path: Path) -> None:
    """PD 0.02 is log-odds −3.89: 40 of 40 men and 24 of 40 women are approved, ratio 0.6; three are not recorded."""
    day = date(2024, 5, 2)
    with Book(tmp_path / "home") as book:
        men, women, few, unknown = range(1, 41), range(101, 141), range(201, 206), range(301, 304)
        scores = dict.fromkeys(men, -4.0) | {n: -4.0 if n < 125 else -1.0 for n in women}
        book.score(day, scores | dict.fromkeys((*few, *unknown), -4.0), subject="application")
        book.protected({"M": men, "F": women, "X": few}, day)
        assert run(book, day).adverse == (), "without a cut-off nothing is approved or refused"
        assert {g.ratio for g in outcome_reads.fairness(book.con, day)} == {None}
        report = run(book, day, cutoff_pd=0.02)
        assert report.adverse == ("sex=F",)
        groups = {g.group_name: g for g in outcome_reads.fairness(book.con, day)}
        assert set(groups) == {"M", "F", "X", "(not recorded)"}
        assert (groups["F"].reference, groups["F"].n, groups["F"].selected) == ("M", 40, 24)
        assert (groups["F"].ratio, groups["F"].passes, groups["M"].ratio) == (0.6, False, 1.0)
        assert (groups["X"].too_small, groups["X"].passes, groups["X"].smd) == (True, None, None)
        # Men all have 760 points; women 760 and 640 in shares of 24 and 16.
        variance = (24 * (760 - 712) ** 2 + 16 * (640 - 712) ** 2) / 39
        assert groups["F"].mean_points == 712
        assert groups["F"].smd == pytest.approx((712 - 760) / math.sqrt(39 * variance / 78), rel=1e-12)


def test_vintages_by_hand(tmp_path: Path) -> None:
    with Book(tmp_path / "home") as book:
        book.statement(1, date(2024, 1, 10), date(2023, 6, 1))  # opened before the lake's first statement
        for account, opened in ((2, date(2024, 1, 15)), (3, date(2024, 1, 20)), (4, date(2024, 2, 3))):
            book.statement(account, date(2024, 2, 10), opened)
        book.event(2, date(2024, 3, 5), date(2024, 3, 5))
        book.event(4, date(2024, 4, 2), date(2024, 4, 2))  # in a month that is not whole yet
        assert run(book, date(2024, 4, 10)).rows["vintages"] == 5
        curve = [
            (v.vintage.month, v.months_on_book, v.accounts, v.events_to_date)
            for v in outcome_reads.vintages(book.con, date(2024, 4, 10))
        ]
        assert curve == [(1, 0, 2, 0), (1, 1, 2, 0), (1, 2, 2, 1), (2, 0, 1, 0), (2, 1, 1, 0)]
        assert run(book, date(2024, 4, 11)).rows["vintages"] == 0  # no month has ended since
        assert len(outcome_reads.vintages(book.con, date(2024, 4, 11))) == 5


def test_a_lake_without_outcomes_reads_as_nothing(tmp_path: Path) -> None:
    with Book(tmp_path / "home") as book:
        assert outcome_reads.performance(book.con, NIGHT) == ()
        assert run(book, NIGHT).measured == ()
        assert outcome_tables.existing(book.con) == set(outcome_tables.TABLES)


def test_an_estimate_reads_no_label(book: Book) -> None:
    (cohort,) = cohorts.cohorts(book.con, PORTFOLIO, "account", BEFORE, None)
    cohorts.fill(book.con, PORTFOLIO, cohort, BEFORE, None)
    assert book.con.execute(f"SELECT count(label) FROM temp.{cohorts.ROWS}").fetchone() == (0,)
