"""Drift of whole nights on a tiny lake: baselines frozen once, nights stored and read, versions kept apart."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest

from app.charts_drift import of_the_book, of_the_model
from pipeline import booster as native
from pipeline import lake
from pipeline.config import Settings
from pipeline.errors import ConfigError, NotFound
from pipeline.ledger import Publication, ScoredModel
from pipeline.monitoring import baselines, drift, monitor, score_drift, stability
from pipeline.monitoring.bins import Segment, count_bins, read_bins
from pipeline.monitoring.drift import history, write_night
from pipeline.monitoring.policy import DriftPolicy
from pipeline.monitoring.segments import SCORE
from pipeline.portfolio import Grade
from pipeline.registry import ModelVersion
from pipeline.score import score
from tests.pipeline import small_book
from tests.pipeline.small_book import ACCOUNT_MODEL, COHORTS, NIGHT, Book

NIGHTS = (*COHORTS, NIGHT)


@pytest.fixture
def book(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Book:
    made = small_book.copy(small_book.promoted(tmp_path_factory), tmp_path / "home")
    # The tiny book is all risky: grades that part it.
    graded = (Grade("A", 0.3), Grade("B", 0.45), Grade("C", 0.6), Grade("D", 1.0))
    return replace(made, portfolio=replace(made.portfolio, grades=graded))


def version_of(book: Book, number: int = 1) -> ModelVersion:
    return book.registry.get("pd_default", number)


def publish(book: Book, as_of: date, number: int = 1, change: str = "") -> Publication:
    """Score a night and say that it was published. change: SQL run on the lake before."""
    with book.writer() as con:
        if change:
            con.execute(change)
        scored = score(con, book.settings, book.engine, book.registry, book.portfolio, ACCOUNT_MODEL, as_of, "run")
        snapshot = lake.current_snapshot(con)
    model = ScoredModel("pd_default", number, version_of(book, number).digest, "account", scored.rows)
    now = datetime(2024, 8, 1, tzinfo=UTC)
    return Publication(1, as_of, "run", snapshot, now, scored.rows, 0, "", (model,), 5, None, None)


def watch(book: Book, publication: Publication, **baseline: int) -> dict[str, object]:
    with book.writer() as con:
        night = monitor.Night(
            con, book.settings, book.engine, book.registry, book.portfolio, publication, "run", "test",
            {"account": small_book.CONTRACT},
        )  # fmt: skip
        return monitor.watch(night, baseline_version=baseline)


def stored(book: Book, sql: str) -> list[tuple[object, ...]]:
    with closing(lake.connect(book.settings)) as con:
        return con.execute(sql).fetchall()


def read(book: Book, **facts: object) -> tuple[drift.Drift, ...]:
    with closing(lake.connect(book.settings)) as con:
        return drift.history(con, NIGHTS[0], NIGHTS[-1], **facts)  # type: ignore[arg-type]


def test_the_baseline_is_the_training_set_in_deciles_and_is_frozen(book: Book) -> None:
    with book.writer() as con:
        args = (con, book.settings, book.registry, book.portfolio, ACCOUNT_MODEL, version_of(book))
        made = baselines.ensure(*args)
        rows = con.execute(
            "SELECT CAST(f.utilization_3m_avg AS DOUBLE) FROM training.members m JOIN features.account_features f "
            "ON f.account_id = CAST(m.subject_id AS BIGINT) AND f.as_of_date = m.as_of_date WHERE training_set = ?",
            [version_of(book).training_set],
        ).fetchnumpy()
        (values,) = rows.values()
        edges = next(b.points for b in made.bins if b.feature == "utilization_3m_avg")
        assert list(made.counts.of("utilization_3m_avg")) == list(stability.bin_counts(values, edges))
        assert len(edges) == 9 and np.isin(edges, values).all()
        assert made.counts.of(SCORE).sum() == len(values)
        assert {k[0] for k in made.counts.keys} == {"", "grade"}
        con.execute("DELETE FROM training.members")
        again = baselines.ensure(*args)
    assert again.bins == made.bins and again.importance == made.importance
    for key in made.counts.keys:
        for b in made.bins:
            assert list(again.counts.of(b.feature, key)) == list(made.counts.of(b.feature, key))


def test_without_a_training_set_there_is_no_baseline_and_the_night_goes_on(book: Book) -> None:
    publication = publish(book, NIGHT, change="DELETE FROM lake.training.members")
    said = watch(book, publication)
    assert said["watched"] == []
    assert "training set of pd_default version 1" in said["without_baseline"][0]  # type: ignore[index]
    assert read(book) == ()


def test_a_night_again_gives_the_same_bytes_and_its_own_rows_alone(book: Book) -> None:
    first, last = publish(book, COHORTS[0]), publish(book, NIGHT)
    watch(book, first)
    others = stored(book, "SELECT * FROM drift.statistics ORDER BY ALL")
    watch(book, last)
    tables = ("counts", "statistics", "segment_statistics", "contributions")
    before = [stored(book, f"SELECT * FROM drift.{t} WHERE as_of_date = '{NIGHT}' ORDER BY ALL") for t in tables]
    watch(book, last)
    after = [stored(book, f"SELECT * FROM drift.{t} WHERE as_of_date = '{NIGHT}' ORDER BY ALL") for t in tables]
    assert before == after and all(before)
    assert stored(book, f"SELECT * FROM drift.statistics WHERE as_of_date = '{COHORTS[0]}' ORDER BY ALL") == others


def test_what_is_stored_is_what_numpy_finds(book: Book) -> None:
    watch(book, publish(book, NIGHT))
    found = {d.feature: d for d in read(book)}
    with closing(lake.connect(book.settings)) as con:
        baseline = baselines.read(con, book.registry, version_of(book))
        assert baseline is not None
        for b in baseline.bins[:-1]:
            (values,) = (
                con.execute(
                    f"SELECT CAST({b.feature} AS DOUBLE) v FROM features.account_features WHERE as_of_date = ?", [NIGHT]
                )
                .fetchnumpy()
                .values()
            )
            tonight = stability.bin_counts(np.ma.filled(values.astype(float), math.nan), b.points)
            d = found[b.feature]
            judged = stability.judged_psi(baseline.counts.of(b.feature), tonight)
            assert (d.psi, d.critical, d.n) == (
                pytest.approx(judged.value),
                pytest.approx(judged.critical),
                len(values),
            )
            assert (d.bins, d.floored, d.significant) == (judged.bins, judged.floored, judged.significant)
            assert d.missing_rate == tonight[-1] / len(values)
    keys = list(found["utilization_3m_avg"].as_dict())
    assert keys[:9] == ["as_of", "feature", "psi", "psi_without_missing", "critical", "band", "n", "bins", "floored"]


def test_a_shift_shows_in_its_feature_and_in_the_score(book: Book) -> None:
    change = f"UPDATE lake.features.account_features SET utilization_3m_avg = 0.9 WHERE as_of_date = '{NIGHT}'"
    watch(book, publish(book, NIGHT, change=change))
    found = {d.feature: d for d in read(book)}
    assert found["utilization_3m_avg"].band == "high" and found["utilization_3m_avg"].significant
    assert found[SCORE].band == "high"
    assert found["months_on_book"].band == "stable"


def test_a_feature_that_is_all_null_tonight_is_high_and_has_none_without_missing(book: Book) -> None:
    change = f"UPDATE lake.features.account_features SET bureau_score_delta = NULL WHERE as_of_date = '{NIGHT}'"
    watch(book, publish(book, NIGHT, change=change))
    (found,) = read(book, feature="bureau_score_delta")
    assert (found.band, found.psi_without_missing, found.missing_rate) == ("high", None, 1.0)
    assert found.floored


def test_a_night_missing_in_the_middle_is_no_hole_in_the_others(book: Book) -> None:
    for day in (COHORTS[0], COHORTS[2]):
        watch(book, publish(book, day))
    found = read(book, feature=SCORE)
    assert [d.as_of for d in found] == [COHORTS[0], COHORTS[2]]
    assert [d.launch_psi for d in found] == [None, None], "no first night of a version is before it was trained"
    watch(book, publish(book, COHORTS[1]))
    assert [d.as_of for d in read(book, feature=SCORE)] == list(COHORTS[:3])


def second_version(book: Book) -> ModelVersion:
    """Another model in production that reads one feature more than a third would: trained on fewer features."""
    import lightgbm

    names = ["utilization_3m_avg", "months_on_book", "stated_income"]
    rng = np.random.default_rng(4)
    x = rng.random((400, 3))
    data = lightgbm.Dataset(x, (x[:, 0] + rng.random(400) > 1.2).astype(int), feature_name=names)
    text = native.canonical_text(lightgbm.train({"objective": "binary", "verbosity": -1, "seed": 1}, data, 5))
    made = small_book.register(book, text, training_set=version_of(book).training_set)
    with book.writer() as con:
        snapshot = lake.current_snapshot(con)
    book.registry._client.set_model_version_tag(made.name, str(made.version), "scoretrace.snapshot_id", str(snapshot))
    small_book.approve(book, made.name, made.version)
    return book.registry.get(made.name, made.version)


def test_two_versions_in_one_window_each_against_its_own_and_by_hand_against_the_other(book: Book) -> None:
    watch(book, publish(book, COHORTS[0]))
    made = second_version(book)
    night = publish(book, NIGHT, made.version)
    watch(book, night)
    assert [(d.as_of, d.version) for d in read(book, feature=SCORE)] == [(COHORTS[0], 1), (NIGHT, 2)]
    assert [d.as_of for d in read(book, feature="stated_income")] == [NIGHT], "a feature new in this version"
    assert read(book, feature="stated_income")[0].launch_psi is None
    assert [d.as_of for d in read(book, feature="dpd_30_rollup")] == [COHORTS[0]]
    own = read(book, feature="months_on_book")
    watch(book, night, pd_default=1)
    assert read(book, feature="months_on_book") == own, "what was asked by hand is not the night's own"
    by_hand = read(book, version=1)
    assert {(d.as_of, d.scored_by) for d in by_hand} == {(COHORTS[0], 1), (NIGHT, 2)}
    assert "dpd_30_rollup" in {d.feature for d in by_hand if d.as_of == NIGHT}
    with pytest.raises(NotFound, match="version 9"):
        watch(book, night, pd_default=9)


def test_segments_fall_back_to_the_whole_baseline_and_may_be_empty(book: Book) -> None:
    change = (
        "UPDATE lake.features.account_features SET utilization_3m_avg = 0.0001, dpd_30_rollup = 0 "
        f"WHERE as_of_date = '{NIGHT}'"
    )
    watch(book, publish(book, NIGHT, change=change))
    by = {d.segment: d for d in read(book, dimension="grade", feature="utilization_3m_avg")}
    with closing(lake.connect(book.settings)) as con:
        frozen = baselines.read(con, book.registry, version_of(book))
    assert frozen is not None
    sizes = {k[1]: int(frozen.counts.of(SCORE, k).sum()) for k in frozen.counts.keys if k[0] == "grade"}
    assert set(by) == set(sizes) | {s for s in by if by[s].n}
    for grade, d in by.items():
        assert d.against == ("segment" if sizes.get(grade, 0) >= 100 else "whole")
    empty = [d for d in by.values() if not d.n]
    assert empty and all((d.psi, d.band, d.bins) == (None, "none", 0) for d in empty)


def test_the_change_of_the_score_splits_by_feature_without_remainder(book: Book) -> None:
    change = f"UPDATE lake.features.account_features SET utilization_3m_avg = 0.9 WHERE as_of_date = '{NIGHT}'"
    watch(book, publish(book, COHORTS[3]))
    watch(book, publish(book, NIGHT, change=change))
    with closing(lake.connect(book.settings)) as con:
        moved = score_drift.between(con, ACCOUNT_MODEL, COHORTS[3], NIGHT)
        sample = con.execute(
            "SELECT avg(log_odds) FROM (SELECT log_odds FROM scores.account_scores WHERE as_of_date = ? "
            "ORDER BY md5_number_lower('score drift|' || account_id::VARCHAR), account_id LIMIT 400)",
            [NIGHT],
        ).fetchone()
        whole = con.execute(
            "SELECT avg(log_odds) FROM scores.account_scores WHERE as_of_date IN (?, ?) "
            "GROUP BY as_of_date ORDER BY as_of_date",
            [COHORTS[3], NIGHT],
        ).fetchall()
        with pytest.raises(NotFound, match="monitor --as-of"):
            score_drift.between(con, ACCOUNT_MODEL, COHORTS[0], NIGHT)
    assert moved.rows == (400, 400)
    assert sum(moved.by_feature.values()) == pytest.approx(moved.change, abs=1e-12)
    assert next(iter(moved.by_feature)) == "utilization_3m_avg"
    assert moved.after == pytest.approx(sample[0], abs=1e-9)  # type: ignore[index]
    assert moved.by_feature.get(score_drift.BASE, 0.0) == pytest.approx(0.0, abs=1e-12)
    assert moved.versions == (version_of(book).version,) * 2
    assert moved.book == pytest.approx(tuple(row[0] for row in whole), abs=1e-9)
    assert not moved.mostly_noise and of_the_model(moved) == ""
    away = replace(moved, book=(-3.0, -2.9999), versions=(1, 2))
    assert away.mostly_noise and "tell no cause" in of_the_book(away) and "from v1 to v2" in of_the_model(away)
    assert of_the_book(replace(moved, book=None)) == ""


def test_a_night_published_again_by_another_version_has_one_version(tmp_path: Path) -> None:
    settings, rows = Settings.at(tmp_path), "SELECT i % 100 AS f FROM range(4000) r(i)"
    lake.create(settings, "BIGINT")
    with closing(lake.connect(settings, read_only=False)) as con:
        bins = read_bins(con, rows, ["f"])
        counts = count_bins(con, rows, bins, ())
        first, second = (baselines.Baseline("m", version, counts, {"f": 1}, NIGHT) for version in (1, 2))
        for version, scored_by in ((first, 1), (second, 1), (second, 2)):
            write_night(con, DriftPolicy(), version, counts, NIGHT, scored_by)
        assert [d.version for d in history(con, NIGHT, NIGHT)] == [2]
        assert [d.version for d in history(con, NIGHT, NIGHT, own_version=False)] == [2]
        write_night(con, DriftPolicy(), first, counts, NIGHT, 2)
        assert [d.version for d in history(con, NIGHT, NIGHT, own_version=False)] == [2, 1], "chosen by hand it stays"


def test_a_home_from_before_says_what_to_do(book: Book) -> None:
    with book.writer() as con:
        con.execute("DROP TABLE lake.drift.statistics")
    with closing(lake.connect(book.settings)) as con, pytest.raises(ConfigError, match="made before"):
        drift.history(con, NIGHT, NIGHT)


def test_arrivals_are_held_against_first_nights_at_the_same_time_of_the_month(tmp_path: Path) -> None:
    settings, splits = Settings.at(tmp_path), (Segment("arrival", "arrival"),)
    lake.create(settings, "BIGINT")
    plain, on_the_first = ((f"SELECT (i % 100) + {more} AS f, "
                            "CASE WHEN i % 4 = 0 THEN 'new' ELSE 'standing' END AS arrival FROM range(4000) r(i)")
                           for more in (0, 60))  # fmt: skip
    with closing(lake.connect(settings, read_only=False)) as con:
        bins = read_bins(con, plain, ["f"])
        trained = date(2026, 2, 26)
        baseline = baselines.Baseline("m", 1, count_bins(con, plain, bins, splits), {"f": 1}, trained)

        def night(day: date, rows: str) -> tuple[float | None, dict[str, float | None]]:
            write_night(con, DriftPolicy(), baseline, count_bins(con, rows, bins, splits), day, 1)
            (whole,) = history(con, day, day)
            return whole.launch_psi, {d.segment: d.launch_psi for d in history(con, day, day, dimension="arrival")}

        night(date(2025, 2, 26), on_the_first)
        assert night(trained, plain) == (None, {"new": None, "standing": None}), "what was looked back on is no first"
        assert night(date(2026, 2, 27), plain) == (0.0, {"new": 0.0, "standing": 0.0})
        whole, arrivals = night(date(2026, 3, 1), on_the_first)
        assert whole is not None and whole > 1 and arrivals == {"new": None, "standing": None}, "no first has been seen"
        whole, arrivals = night(date(2026, 3, 2), plain)
        assert arrivals["new"] is not None and arrivals["new"] > 1, "against the first alone"
        assert night(date(2026, 3, 28), plain)[1] == {"new": 0.0, "standing": 0.0}, "as late in the month before"
