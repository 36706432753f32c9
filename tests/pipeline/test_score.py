"""Scoring: the same bits every time, one transaction, and a refusal that leaves the partition as it was."""

from __future__ import annotations

import math
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pytest

from pipeline import booster as native
from pipeline import lake
from pipeline import score as scoring
from pipeline.errors import FeatureBuildFailed, ModelRefused
from pipeline.portfolio import Grade, Points
from pipeline.score import grades, partition_sha256, score_points
from tests.pipeline import small_book
from tests.pipeline.small_book import APPLICATION_MODEL, NIGHT, Book

TABLE = "scores.account_scores"


@pytest.fixture
def book(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Book:
    return small_book.copy(small_book.promoted(tmp_path_factory), tmp_path / "home")


def query(book: Book, sql: str) -> list[tuple[object, ...]]:
    con = lake.connect(book.settings)
    try:
        return con.execute(sql).fetchall()
    finally:
        con.close()


def digest(book: Book, table: str = TABLE, day: date = NIGHT) -> str:
    con = lake.connect(book.settings)
    try:
        return partition_sha256(con, table, day)
    finally:
        con.close()


def change(book: Book, sql: str) -> None:
    with book.writer() as con:
        con.execute(sql)


def test_every_account_is_scored_once_and_the_columns_agree(book: Book) -> None:
    result = small_book.night(book)
    rows = query(
        book,
        "SELECT count(*), count(DISTINCT account_id), min(model_digest), count(DISTINCT scored_at), min(run_id), "
        "min(feature_snapshot) FROM scores.account_scores",
    )
    version = book.registry.production("pd_default")
    assert (result.rows, result.model) == (small_book.ACCOUNTS, version)
    snapshot = rows[0][-1]
    assert rows == [(small_book.ACCOUNTS, small_book.ACCOUNTS, version.digest, 1, "night-1", snapshot)]
    assert isinstance(snapshot, int) and snapshot > 0
    (scored_at,) = query(book, "SELECT any_value(scored_at) FROM scores.account_scores")[0]
    assert getattr(scored_at, "tzinfo", None) is not None
    for pd, log_odds, points, grade in query(
        book, "SELECT pd, log_odds, score_points, grade FROM scores.account_scores"
    ):
        assert pd == pytest.approx(1 / (1 + math.exp(-log_odds)), rel=1e-15)  # type: ignore[operator, arg-type]
        assert points == round(600 + 40 / math.log(2) * (-log_odds - math.log(30)))  # type: ignore[operator]
        assert grade == next(g.name for g in book.portfolio.grades if pd <= g.pd_up_to)  # type: ignore[operator]


def test_the_stored_score_is_the_model_on_the_stored_features(book: Book) -> None:
    small_book.night(book)
    booster = book.registry.load(book.registry.production("pd_default"))
    columns = ", ".join(f"CAST(f.{name} AS DOUBLE)" for name in native.features(booster))
    rows = query(
        book,
        f"SELECT s.log_odds, s.pd, {columns} FROM scores.account_scores s JOIN features.account_features f "
        "USING (account_id, as_of_date) ORDER BY account_id DESC LIMIT 50",
    )
    for log_odds, pd, *values in rows:
        matrix = np.array([[math.nan if v is None else v for v in values]], dtype=np.float64)
        raw = native.log_odds(booster, matrix)
        assert (float(raw[0]), float(native.probability(raw)[0])) == (log_odds, pd)


def test_the_same_night_twice_is_the_same_partition(book: Book) -> None:
    small_book.night(book, run_id="night-1")
    first = digest(book)
    small_book.night(book, run_id="night-2")
    assert digest(book) == first
    assert query(book, "SELECT count(*), min(run_id) FROM scores.account_scores") == [(small_book.ACCOUNTS, "night-2")]


def test_a_score_does_not_depend_on_its_batch(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    small_book.night(book)
    first = digest(book)
    monkeypatch.setattr(scoring, "BATCH_ROWS", 7)
    small_book.night(book)
    assert digest(book) == first


def test_rows_are_written_in_the_order_of_their_ids(book: Book) -> None:
    small_book.night(book)
    ids = [row[0] for row in query(book, "SELECT account_id FROM scores.account_scores ORDER BY rowid")]
    assert ids == sorted(ids)  # type: ignore[type-var]


def test_other_dates_stay(book: Book) -> None:
    small_book.night(book)
    change(
        book,
        "INSERT INTO scores.account_scores "
        "SELECT * REPLACE (DATE '2024-07-30' AS as_of_date) FROM scores.account_scores",
    )
    day = date(2024, 7, 30)
    before = digest(book, day=day)
    small_book.night(book)
    assert digest(book, day=day) == before != digest(book)


def test_the_digest_covers_values_and_not_the_run(book: Book) -> None:
    small_book.night(book)
    first = digest(book)
    change(
        book,
        "UPDATE scores.account_scores "
        "SET run_id = 'other', feature_snapshot = 0, scored_at = scored_at - INTERVAL 1 DAY",
    )
    assert digest(book) == first
    change(book, "UPDATE scores.account_scores SET pd = nextafter(pd, 1::DOUBLE) WHERE account_id = 1001")
    assert digest(book) != first


@pytest.mark.parametrize("spoil", ["byte", "alias", "none", "feature"])
def test_a_refusal_leaves_the_partition_as_it_was(book: Book, spoil: str) -> None:
    small_book.night(book)
    before = digest(book)
    version = book.registry.production("pd_default")
    if spoil == "byte":
        path = book.registry.artifact_path(version)
        path.write_bytes(path.read_bytes().replace(b"leaf_value=0", b"leaf_value=1", 1) + b" ")
        expected = "has been changed"
    elif spoil == "alias":
        small_book.register(book, book.registry.text(version), training_set="7" * 64)
        book.registry.set_production("pd_default", 2)
        expected = "which is in force, approves version 1"
    elif spoil == "none":
        book.registry._client.delete_registered_model_alias("pd_default", "production")
        expected = "no version of pd_default is set as production"
    else:
        change(book, "ALTER TABLE features.account_features DROP COLUMN utilization_3m_avg")
        expected = "features.account_features does not have: utilization_3m_avg"
    with pytest.raises(ModelRefused, match=expected) as refused:
        small_book.night(book, run_id="night-2")
    assert "scoretrace" in refused.value.next_step
    assert digest(book) == before


def test_a_failure_in_mid_stream_leaves_the_partition_as_it_was(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    small_book.night(book)
    before = digest(book)
    monkeypatch.setattr(scoring, "BATCH_ROWS", 100)
    change(
        book,
        "CREATE OR REPLACE TABLE features.account_features AS SELECT * REPLACE ("
        "CASE WHEN account_id = 2400 THEN 'many' ELSE dpd_30_rollup::VARCHAR END AS dpd_30_rollup) "
        "FROM features.account_features ORDER BY account_id",
    )
    with pytest.raises(duckdb.ConversionException, match="many"):
        small_book.night(book, run_id="night-2")
    assert digest(book) == before


def test_no_features_of_the_date_is_an_error(book: Book) -> None:
    small_book.night(book)
    before = digest(book)
    change(book, f"DELETE FROM features.account_features WHERE as_of_date = DATE '{NIGHT}'")
    with pytest.raises(FeatureBuildFailed, match=f"holds no rows for {NIGHT}") as failed:
        small_book.night(book)
    assert f"scoretrace nightly --as-of {NIGHT}" in failed.value.next_step
    assert digest(book) == before


def test_a_night_without_applications_is_fine_if_it_was_built(book: Book) -> None:
    assert small_book.night(book, APPLICATION_MODEL).rows > 0
    change(book, f"DELETE FROM features.application_features WHERE as_of_date = DATE '{NIGHT}'")
    assert small_book.night(book, APPLICATION_MODEL).rows == 0
    for table in ("application_scores", "application_reasons"):
        assert query(book, f"SELECT count(*) FROM scores.{table}") == [(0,)]
    change(book, f"DELETE FROM ops.model_state WHERE as_of_date = DATE '{NIGHT}'")
    with pytest.raises(FeatureBuildFailed):
        small_book.night(book, APPLICATION_MODEL)


def test_reasons_are_what_raised_the_score_most(book: Book) -> None:
    result = small_book.night(book, APPLICATION_MODEL)
    first = digest(book, "scores.application_reasons")
    small_book.night(book, APPLICATION_MODEL, run_id="night-2")
    assert digest(book, "scores.application_reasons") == first
    rows = query(
        book,
        "SELECT application_id, list(rank ORDER BY rank), list(contribution ORDER BY rank) "
        "FROM scores.application_reasons GROUP BY ALL",
    )
    assert 0 < len(rows) <= result.rows
    for _, ranks, parts in rows:
        assert ranks == list(range(1, len(parts) + 1)) and len(parts) <= scoring.REASONS  # type: ignore[arg-type]
        assert parts == sorted(parts, reverse=True) and parts[-1] > 0  # type: ignore[type-var, index, call-overload]
    assert query(book, "SELECT count(*) FROM scores.account_reasons") == [(0,)]


def test_contributions_and_base_sum_to_the_log_odds(book: Book) -> None:
    booster = book.registry.load(book.registry.production("pd_application"))
    rng = np.random.default_rng(5)
    matrix = rng.uniform(0, 50, (200, booster.num_feature()))
    matrix[rng.random(matrix.shape) < 0.1] = np.nan
    parts = native.contributions(booster, matrix)
    assert parts.shape == (200, booster.num_feature() + 1)
    np.testing.assert_allclose(parts.sum(axis=1), native.log_odds(booster, matrix), rtol=0, atol=1e-9)


def test_varchar_ids_are_scored_too(tmp_path: Path) -> None:
    book = small_book.make(tmp_path / "home", "VARCHAR", accounts=400)
    outcome = small_book.train(book, floors={"auc": 0.5, "ks": 0.0, "calibration": 1.0, "psi": 2.0})
    assert outcome.version is not None
    small_book.approve(book, "pd_default", 1)
    assert small_book.night(book).rows == 400
    assert query(book, "SELECT min(account_id) FROM scores.account_scores") == [("A1000",)]


def test_points_double_the_odds_every_pdo() -> None:
    points = Points(base=600, base_odds=30, pdo=40)
    at_base = -math.log(30)
    raw = np.array([at_base, at_base - math.log(2), at_base + math.log(2)])
    assert score_points(raw, points).tolist() == [600, 640, 560]


def test_a_pd_on_the_bound_is_in_the_better_grade() -> None:
    bounds = (Grade("A", 0.01), Grade("B", 0.1), Grade("C", 1.0))
    assert grades(np.array([0.0, 0.01, np.nextafter(0.01, 1), 0.1, 1.0]), bounds).tolist() == [0, 0, 1, 1, 2]


def test_probability_is_defined_at_the_ends() -> None:
    ends = native.probability(np.array([-1e3, -40.0, 0.0, 40.0, 1e3]))
    assert ends[2] == 0.5 and (np.diff(ends) >= 0).all() and ends[0] >= 0 and ends[-1] == 1.0
