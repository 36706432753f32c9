"""Training: which rows, which features, the same bytes again, and a gate that registers nothing it should not."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import date
from pathlib import Path

import duckdb
import numpy as np
import pytest
from sqlalchemy import select

from pipeline import booster as native
from pipeline import control, training_set
from pipeline.errors import ModelRefused, TrainingRefused
from pipeline.portfolio import ModelSpec
from pipeline.registry import text_digest
from pipeline.train import fit, train_candidate, training_parameters
from pipeline.training_set import HOLDOUT, TRAIN, VALID, TrainingSet, collect, usable_features
from tests.pipeline import small_book
from tests.pipeline.small_book import (
    ACCOUNT_MODEL,
    APPLICATION_MODEL,
    AS_OF,
    COHORTS,
    CONTRACT,
    Book,
    feature,
)

OPEN_FLOORS = {"auc": 0.0, "ks": 0.0, "calibration": 9.0, "psi": 9.0}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Book:
    return small_book.promoted(tmp_path_factory)


@pytest.fixture
def book(home: Book, tmp_path: Path) -> Book:
    return small_book.copy(home, tmp_path / "home")


@pytest.fixture(scope="module")
def lab(home: Book, tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A copy for tests that collect training sets without changing what they read."""
    return small_book.copy(home, tmp_path_factory.mktemp("lab") / "home")


def collected(book: Book, spec: ModelSpec = ACCOUNT_MODEL, as_of: date = AS_OF, **changes: object) -> TrainingSet:
    with book.writer() as con:
        return collect(con, book.portfolio.label, replace(spec, **changes), as_of, COHORTS, CONTRACT)  # type: ignore[arg-type]


@contextmanager
def changed(book: Book, sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
    with book.writer() as con:
        con.execute(sql)
        yield con


def one(con: duckdb.DuckDBPyConnection, sql: str) -> int:
    row = con.execute(sql).fetchone()
    assert row is not None
    return int(row[0])


def training_runs(book: Book, name: str = "pd_default") -> list[dict[str, object]]:
    table = control.training_runs
    with book.engine.connect() as connection:
        rows = connection.execute(select(table).where(table.c.model_name == name).order_by(table.c.id)).all()
    return [dict(row._mapping) for row in rows]


def members(found: TrainingSet) -> dict[tuple[object, date], int]:
    return {
        (subject, day): int(label)
        for subject, day, label in zip(found.subjects.tolist(), found.dates.tolist(), found.labels, strict=True)
    }


# Which features


def test_what_a_model_may_not_read_is_dropped_by_name(lab: Book) -> None:
    found = collected(lab)
    assert found.dropped == {
        "bureau_inquiries_6m": "no value in the training set",
        "stated_income": "personal data",
        "product": "not a number (VARCHAR)",
    }
    assert found.features == (
        "utilization_3m_avg", "dpd_30_rollup", "bureau_score_delta", "months_on_book", "is_revolving",
    )  # fmt: skip


@pytest.mark.parametrize("name", ["sex", "age_band", "applicant_sex_code", "marital_status", "MARITAL_STATUS"])
def test_a_protected_attribute_in_the_contract_stops_training(name: str) -> None:
    with pytest.raises(TrainingRefused, match=f"{name} carries the protected attribute"):
        usable_features((*CONTRACT, feature(name, dtype="INTEGER")))


def test_names_that_only_look_alike_are_fine() -> None:
    names, _ = usable_features((feature("account_age_months"), feature("essex_branch_flag")))
    assert names == ("account_age_months", "essex_branch_flag")


# Which rows, which labels


def test_labels_are_the_events_within_the_horizon(lab: Book) -> None:
    found = collected(lab)
    with lab.writer() as con:
        events = dict(con.execute("SELECT subject_id, event_date FROM intermediate.int_account_outcomes").fetchall())
    ends = dict(zip(COHORTS, (date(2024, 4, 30), date(2024, 5, 31), date(2024, 6, 30), date(2024, 7, 31)), strict=True))
    labels = members(found)
    expected = {
        (account, day): int(account in events and events[account] <= ends[day])
        for account in range(1000, 1000 + small_book.ACCOUNTS)
        for day in COHORTS
        if not (account in events and events[account] <= day)
    }
    assert labels == expected
    assert found.counts["eligible"] == len(expected)
    assert found.counts["left_out_event_before"] == small_book.ACCOUNTS * len(COHORTS) - len(expected)


def test_a_cohort_that_has_not_matured_is_not_read(lab: Book) -> None:
    assert sorted(collected(lab, as_of=date(2024, 7, 30)).counts["cohorts"]) == [str(d) for d in COHORTS[:3]]
    with pytest.raises(TrainingRefused, match="labels need 3 months"):
        collected(lab, as_of=date(2024, 4, 29))


def test_an_event_that_was_not_known_yet_is_no_event(book: Book) -> None:
    before = collected(book)
    sql = f"UPDATE intermediate.int_account_outcomes SET load_date = DATE '{AS_OF}' + 1 WHERE subject_id < 1700"
    with changed(book, sql) as con:
        known = one(con, f"SELECT count(*) FROM intermediate.int_account_outcomes WHERE load_date <= DATE '{AS_OF}'")
        assert known < one(con, "SELECT count(*) FROM intermediate.int_account_outcomes")
    after = collected(book)
    assert sum(label for (account, _), label in members(before).items() if account < 1700) > 0  # type: ignore[operator]
    assert sum(label for (account, _), label in members(after).items() if account < 1700) == 0  # type: ignore[operator]
    assert after.sha256 != before.sha256


def test_only_booked_applications_have_an_outcome_and_each_counts_once(book: Book) -> None:
    with book.writer() as con:
        booked = one(con, "SELECT count(*) FROM staging.stg_applications__applications WHERE account_id IS NOT NULL")
        everyone = one(con, "SELECT count(*) FROM staging.stg_applications__applications")
    first = collected(book, APPLICATION_MODEL)
    assert booked < everyone
    with book.writer() as con:
        taken = set(first.subjects.tolist())
        wanted = {
            row[0]
            for row in con.execute(
                "SELECT application_id FROM staging.stg_applications__applications "
                "JOIN features.application_features USING (application_id) "
                f"WHERE account_id IS NOT NULL AND as_of_date < DATE '{AS_OF}'"
            ).fetchall()
        }
    assert taken == wanted and len(taken) == len(first.subjects)
    # The same application again in a later partition of the same months changes nothing.
    sql = (
        "INSERT INTO features.application_features SELECT * REPLACE (DATE '2024-04-30' AS as_of_date) "
        "FROM features.application_features WHERE as_of_date = DATE '2024-01-31'"
    )
    with changed(book, sql):
        pass
    assert collected(book, APPLICATION_MODEL).sha256 == first.sha256


def test_applications_of_every_day_of_a_cohort_month_are_read(book: Book) -> None:
    first = collected(book, APPLICATION_MODEL)
    sql = "UPDATE features.application_features SET as_of_date = DATE '2024-02-10' WHERE as_of_date = DATE '2024-02-29'"
    with changed(book, sql):
        pass
    moved = collected(book, APPLICATION_MODEL)
    assert set(moved.subjects.tolist()) == set(first.subjects.tolist())
    assert "2024-02-10" in moved.counts["cohorts"]


def test_the_sample_is_the_same_each_time_and_part_of_the_whole(lab: Book) -> None:
    whole, part, again = collected(lab), collected(lab, max_rows=2_000), collected(lab, max_rows=2_000)
    assert len(part.labels) == 2_000 < len(whole.labels)
    assert part.sha256 == again.sha256 != whole.sha256
    assert members(part).items() <= members(whole).items()
    assert members(collected(lab, max_rows=1_000)).items() <= members(part).items()


# Folds


def test_out_of_time_holds_out_the_latest_cohorts(lab: Book) -> None:
    found = collected(lab)
    days = {fold: set(found.dates[found.rows(fold)].tolist()) for fold in (TRAIN, VALID, HOLDOUT)}
    assert days[HOLDOUT] == {COHORTS[-1]}
    assert days[TRAIN] == days[VALID] == set(COHORTS[:-1])
    assert len(found.rows(HOLDOUT)) <= 0.3 * len(found.labels)
    assert not set(found.subjects[found.rows(TRAIN)]) & set(found.subjects[found.rows(VALID)])


def test_out_of_time_needs_two_cohorts(lab: Book) -> None:
    with pytest.raises(TrainingRefused, match="needs two matured cohorts") as refused:
        collected(lab, as_of=date(2024, 4, 30))
    assert "holdout: hash" in refused.value.next_step


def test_a_subject_held_out_by_hash_is_held_out_every_time(lab: Book) -> None:
    late = collected(lab, holdout="hash")
    early = collected(lab, holdout="hash", as_of=date(2024, 5, 31))
    assert len(early.labels) < len(late.labels)
    held = set(late.subjects[late.rows(HOLDOUT)])
    assert 0.25 < len(held) / len(set(late.subjects)) < 0.35
    assert set(early.subjects[early.rows(HOLDOUT)]) <= held
    assert not set(early.subjects[early.rows(TRAIN, VALID)]) & held


# The digest, the members


def test_the_digest_is_of_the_rows_and_not_of_their_batches(lab: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    first = collected(lab)
    monkeypatch.setattr(training_set, "BATCH_ROWS", 113)
    again = collected(lab)
    assert again.sha256 == first.sha256
    assert again.matrix.tobytes() == first.matrix.tobytes()
    with lab.writer() as con:
        con.execute("SET threads = 1")
        assert collect(con, lab.portfolio.label, ACCOUNT_MODEL, AS_OF, COHORTS, CONTRACT).sha256 == first.sha256


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE features.account_features SET months_on_book = months_on_book + 1 "
        "WHERE account_id = (SELECT min(account_id) FROM features.account_features)",
        "UPDATE intermediate.int_account_outcomes SET event_date = DATE '2023-01-01' "
        "WHERE subject_id = (SELECT min(subject_id) FROM intermediate.int_account_outcomes)",
    ],
)
def test_one_changed_value_changes_the_digest(book: Book, sql: str) -> None:
    first = collected(book).sha256
    with changed(book, sql):
        pass
    assert collected(book).sha256 != first


def test_another_fold_is_another_training_set(lab: Book) -> None:
    digests = {collected(lab, **change).sha256 for change in ({}, {"holdout": "hash"}, {"holdout_share": 0.6})}
    assert len(digests) == 3


def test_members_are_in_the_lake_once(book: Book) -> None:
    found = collected(book)
    collected(book)
    with book.writer() as con:
        rows = con.execute(
            "SELECT subject_id, as_of_date, label, fold FROM training.members WHERE training_set = ? "
            "ORDER BY as_of_date, subject_id", [found.sha256],
        ).fetchall()  # fmt: skip
    assert len(rows) == len(found.labels)
    assert [(int(s), d, bool(y), f) for s, d, y, f in rows] == [
        (int(s), d, bool(y), str(f))
        for s, d, y, f in zip(found.subjects, found.dates.tolist(), found.labels, found.folds, strict=True)
    ]


# Fitting


@pytest.fixture(scope="module")
def data(lab: Book) -> TrainingSet:
    return collected(lab)


def test_the_same_input_gives_the_same_model_text_on_one_and_two_threads(data: TrainingSet) -> None:
    parameters = training_parameters(ACCOUNT_MODEL, data, CONTRACT)
    texts = [fit(data, parameters, threads) for threads in (1, 2, 1)]
    assert len({text_digest(text) for text in texts}) == 1
    other = fit(data, parameters | {"seed": 1}, 1)
    assert text_digest(other) != text_digest(texts[0])


def test_constraints_come_from_the_contract_and_hold(data: TrainingSet) -> None:
    parameters = training_parameters(ACCOUNT_MODEL, data, CONTRACT)
    assert parameters["monotone_constraints"] == [1, 1, -1, 0, 0]
    booster = native.parse(fit(data, parameters))
    assert native.features(booster) == data.features
    rng = np.random.default_rng(11)
    ranges = {"utilization_3m_avg": (0, 1), "dpd_30_rollup": (0, 60), "bureau_score_delta": (-50, 50)}
    rows = np.column_stack([rng.uniform(*ranges.get(name, (0, 100)), 200) for name in data.features])
    for name, direction in (("utilization_3m_avg", 1), ("dpd_30_rollup", 1), ("bureau_score_delta", -1)):
        at = data.features.index(name)
        swept = []
        for value in np.linspace(*ranges[name], 25):
            rows[:, at] = value
            swept.append(native.log_odds(booster, rows))
        steps = np.diff(np.array(swept), axis=0) * direction
        assert (steps >= -1e-12).all()
        assert (steps > 0).any()


@pytest.mark.parametrize("key", ["deterministic", "objective", "monotone_constraints", "num_threads"])
def test_a_portfolio_may_not_undo_what_makes_a_retrain_repeatable(data: TrainingSet, key: str) -> None:
    with pytest.raises(TrainingRefused, match=key):
        training_parameters(replace(ACCOUNT_MODEL, parameters={key: 1}), data, CONTRACT)


# The gate, the record


def test_a_first_model_that_reaches_the_floors_is_registered_and_recorded(home: Book) -> None:
    version = home.registry.get("pd_default", 1)
    (run,) = training_runs(home)
    assert (run["outcome"], run["model_version"], run["model_digest"]) == ("registered", 1, version.digest)
    assert (run["training_set"], run["snapshot_id"]) == (version.training_set, version.snapshot_id)
    assert run["incumbent_version"] is None
    assert [c["check"] for c in run["checks"]] == ["auc", "ks", "calibration", "stability"]  # type: ignore[attr-defined]
    assert home.registry.metrics(version) == run["metrics"]


def test_a_first_model_below_a_floor_is_a_recorded_non_event(book: Book) -> None:
    outcome = small_book.train(book, name="pd_strict", floors={"auc": 0.99})
    assert (outcome.outcome, outcome.version) == ("below_floor", None)
    assert [c.check for c in outcome.checks if not c.passed] == ["auc"]
    assert book.registry.versions("pd_strict") == ()
    (run,) = training_runs(book, "pd_strict")
    assert (run["outcome"], run["model_version"], run["model_digest"]) == ("below_floor", None, outcome.digest)


def test_the_incumbent_trained_again_is_not_better_than_itself(book: Book) -> None:
    outcome = small_book.train(book)
    incumbent = book.registry.production("pd_default")
    assert (outcome.outcome, outcome.incumbent_version) == ("not_better", 1)
    assert outcome.digest == incumbent.digest  # trained twice, in two homes, to the same bytes
    assert [c.check for c in outcome.checks if not c.passed] == ["changed"]
    assert len(book.registry.versions("pd_default")) == 1
    assert training_runs(book)[-1]["outcome"] == "not_better"


def test_a_worse_candidate_is_not_registered(book: Book) -> None:
    outcome = small_book.train(book, parameters={"rounds": 1, "num_leaves": 2, "feature_fraction": 0.2})
    assert (outcome.outcome, outcome.version) == ("not_better", None)
    assert "auc" in {c.check for c in outcome.checks if not c.passed}
    assert len(book.registry.versions("pd_default")) == 1


def test_a_better_candidate_is_registered_beside_the_incumbent(book: Book) -> None:
    weakest = replace(ACCOUNT_MODEL, name="pd_weak")
    book = replace(book, portfolio=replace(book.portfolio, models=(weakest,)))
    weak = small_book.train(
        book, name="pd_weak", floors=OPEN_FLOORS, parameters={"rounds": 1, "num_leaves": 2, "feature_fraction": 0.2}
    )
    assert weak.version is not None
    small_book.approve(book, "pd_weak", 1)
    better = small_book.train(book, name="pd_weak", floors={"auc": 0.999}, tolerances={"calibration": 1.0, "psi": 1.0})
    assert (better.outcome, better.incumbent_version) == ("registered", 1), better.checks
    assert better.version is not None and better.version.version == 2
    assert book.registry.production("pd_weak").version == 1  # registering approves nothing
    assert better.as_dict()["model"] == {"name": "pd_weak", "version": 2}


def test_a_candidate_that_was_never_approved_is_no_incumbent(book: Book) -> None:
    first = small_book.train(book, name="pd_new")
    again = small_book.train(book, name="pd_new")
    assert again.incumbent_version is None
    assert again.version == first.version  # the same bytes: a killed training run finds what it had registered
    assert len(book.registry.versions("pd_new")) == 1


def test_an_incumbent_that_cannot_score_the_rows_any_more_leaves_the_floors(book: Book) -> None:
    contract = tuple(spec for spec in CONTRACT if spec.name != "months_on_book")
    with book.writer() as con:
        outcome = train_candidate(
            book.settings, book.engine, con, book.registry, book.portfolio, ACCOUNT_MODEL, AS_OF, COHORTS,
            small_book.RUN, contract,
        )  # fmt: skip
    assert outcome.checks[0].check == "incumbent" and "months_on_book" in outcome.checks[0].bound
    assert outcome.outcome == "registered"
    assert outcome.version is not None and outcome.version.version == 2


def test_a_changed_incumbent_stops_training(book: Book) -> None:
    path = book.registry.artifact_path(book.registry.production("pd_default"))
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(ModelRefused, match=hashlib.sha256(path.read_bytes()).hexdigest()):
        small_book.train(book)


def test_one_class_only_is_refused_with_figures(book: Book) -> None:
    with changed(book, "DELETE FROM intermediate.int_account_outcomes"):
        pass
    with pytest.raises(TrainingRefused, match="hold 0 events among"):
        small_book.train(book)
