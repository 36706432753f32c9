"""Champion against challenger: figures by hand and by law on arrays, then for real beside two trained models."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import archive
from pipeline import booster as native
from pipeline.comparison import store
from pipeline.comparison.facts import Comparison, read
from pipeline.comparison.impact import UNKNOWN, fairness
from pipeline.comparison.measure import direction, grade_of, migrated, spearman
from pipeline.errors import NotFound
from pipeline.governance import canonical_json
from pipeline.monitoring import statistics
from pipeline.training_set import HOLDOUT, collect
from tests.pipeline import small_book
from tests.pipeline.small_book import ACCOUNT_MODEL, AS_OF, COHORTS, CONTRACT, Book

GRADES = [("A", 0.02), ("B", 0.05), ("C", 0.15), ("D", 1.0)]
WEAK = {"rounds": 1, "num_leaves": 2, "feature_fraction": 0.2}
OPEN = {"auc": 0.0, "ks": 0.0, "calibration": 9.0, "psi": 9.0}


def log_odds(*pds: float) -> np.ndarray:
    return np.log(np.array(pds) / (1 - np.array(pds)))


def test_a_migration_by_hand() -> None:
    found = migrated(log_odds(0.01, 0.01, 0.04, 0.9), log_odds(0.01, 0.1, 0.01, 0.04), GRADES)
    assert found.counts == ((1, 0, 1, 0), (1, 0, 0, 0), (0, 0, 0, 0), (0, 1, 0, 0))
    assert found.steps == {-2: 1, -1: 1, 0: 1, 2: 1}
    assert (found.moved, found.worse, found.better, found.rows) == (3, 1, 2, 4)


@given(st.lists(st.tuples(st.floats(-9, 9), st.floats(-9, 9)), min_size=1, max_size=60))
def test_a_migration_keeps_every_row_and_the_margins_of_both(pairs: list[tuple[float, float]]) -> None:
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    found = migrated(first, second, GRADES)
    assert found.rows == len(pairs) == sum(found.steps.values())
    assert [sum(line) for line in found.counts] == np.bincount(grade_of(first, GRADES), minlength=4).tolist()
    assert [sum(line) for line in zip(*found.counts, strict=True)] == np.bincount(
        grade_of(second, GRADES), minlength=4
    ).tolist()
    assert migrated(second, first, GRADES).steps == {-k: v for k, v in sorted(found.steps.items(), reverse=True)}


def test_impact_by_hand_the_threshold_itself_passes_and_small_groups_are_named() -> None:
    groups = np.array(["x"] * 60 + ["y"] * 60 + ["z"] * 29 + [UNKNOWN] * 5)
    pd = np.array([0.01] * 60 + [0.01] * 48 + [0.5] * 12 + [0.5] * 29 + [0.9] * 5)
    labels = np.zeros(len(pd), dtype=np.int8)
    found = fairness({"sex": groups}, labels, {"challenger": log_odds(*pd)}, 0.05)
    (impact,) = found.impacts
    assert (impact.reference, impact.too_small, found.unknown) == ("x", ("z",), 5)
    x, y, z = impact.groups
    assert (x.rate, x.air, x.smd) == (1.0, 1.0, None)
    assert (y.rows, y.approved, y.air, y.passes) == (60, 48, 0.8, True)
    assert y.smd is not None and y.smd > 0
    assert (z.rows, z.air, z.passes, z.smd) == (29, None, None, None)
    # One fewer, and the rule is broken.
    pd[60] = 0.5
    (again,) = fairness({"sex": groups}, labels, {"challenger": log_odds(*pd)}, 0.05).impacts
    assert (again.groups[1].air, again.groups[1].passes) == (47 / 60, False)


def test_without_a_cut_off_nothing_is_judged_and_without_attributes_it_is_said() -> None:
    groups = np.array(["x"] * 40 + ["y"] * 50)
    scores, labels = {"challenger": np.linspace(-3, 3, 90)}, np.zeros(90, dtype=np.int8)
    (impact,) = fairness({"sex": groups}, labels, scores, None).impacts
    assert impact.reference == "y" and {g.passes for g in impact.groups} == {None}
    assert impact.groups[0].smd is not None and impact.groups[0].smd < 0
    none = fairness({"sex": np.full(90, UNKNOWN)}, labels, scores, 0.1)
    assert (none.impacts, none.unknown) == ((), 90) and none.why_none


# For real: a weak champion that is approved, and the challenger that beats it.


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """pd_weak version 1 in force, version 2 registered against it; half of the applicants' sex is on record."""
    home = tmp_path_factory.mktemp("pair") / "home"
    book = small_book.copy(small_book.promoted(tmp_path_factory), home)
    with book.writer() as con:
        con.execute(
            "INSERT INTO raw.applicant_protected (subject_id, subject_type, recorded_on, sex, age_band, load_date, "
            "load_id, source_file, source_sha256, source_row) SELECT 1000 + i, 'account', DATE '2023-01-01', "
            "CASE WHEN i % 2 = 0 THEN 'F' ELSE 'M' END, CASE WHEN i < 8 THEN '90+' END, DATE '2023-01-02', 'l', 'f', "
            f"'s', i FROM range({small_book.ACCOUNTS // 2}) r(i)"
        )
        # A correction after the training date: not known then.
        con.execute(
            "INSERT INTO raw.applicant_protected (subject_id, subject_type, recorded_on, sex, load_date, load_id, "
            f"source_file, source_sha256, source_row) SELECT 1000, 'account', DATE '{AS_OF}', 'X', "
            f"DATE '{AS_OF}' + 1, 'm', 'f', 's', 1"
        )
    weak = replace(ACCOUNT_MODEL, name="pd_weak", cutoff_pd=0.2)
    book = replace(book, portfolio=replace(book.portfolio, models=(weak,)))
    first = small_book.train(book, weak, floors=OPEN, parameters=WEAK)
    assert first.version is not None
    small_book.approve(book, "pd_weak", 1)
    second = small_book.train(book, weak, tolerances={"calibration": 1.0, "psi": 1.0})
    assert second.version is not None, second.checks
    return book


def compared(book: Book) -> Comparison:
    return store.between(book.settings, book.engine, "pd_weak", 1, 2)[1]


def test_a_first_model_has_no_champion_and_it_is_said(pair: Book) -> None:
    kept = store.of_model(pair.engine, "pd_weak")[0]
    found = store.load(pair.settings, kept.sha256)
    assert (found.champion, found.difference, found.migration, found.movers) == (None, None, None, ())
    assert found.alone == "a first model: there is no champion"
    assert found.challenger.version == 1
    with pytest.raises(NotFound, match="was not compared with version 7") as refused:
        store.between(pair.settings, pair.engine, "pd_weak", 7, 2)
    assert "1 2" in refused.value.next_step and "version 1" in refused.value.next_step


def test_both_are_measured_on_the_same_rows_as_numpy_measures_them(pair: Book) -> None:
    found = compared(pair)
    with pair.writer() as con:
        data = collect(con, pair.portfolio.label, pair.portfolio.models[0], AS_OF, COHORTS, CONTRACT)
    rows = data.rows(HOLDOUT)
    y = data.labels[rows]
    scores = {}
    for version in (1, 2):
        booster = pair.registry.load(pair.registry.get("pd_weak", version))
        scores[version] = native.log_odds(booster, data.columns(native.features(booster), rows))
    assert (found.rows, found.events) == (len(y), int(y.sum()))
    assert found.champion is not None and found.difference is not None
    assert found.challenger.measures.auc == statistics.delong_interval(y, scores[2])
    assert found.champion.measures.brier == statistics.brier(y, native.probability(scores[1]))
    delong = statistics.delong_test(y, scores[2], scores[1])
    assert (found.difference.auc, found.difference.low) == (delong.difference, delong.low)
    assert found.difference.auc > 0
    assert found.migration == migrated(scores[1], scores[2], GRADES)
    moved = np.abs(scores[2] - scores[1])
    assert abs(found.movers[0].difference) == moved.max()
    ids = {str(s) for s in data.subjects[rows]}
    assert {m.subject for m in found.movers} <= ids and found.movers[0].as_of == str(COHORTS[-1])


def test_the_reasons_of_a_mover_add_up_to_its_move(pair: Book) -> None:
    found = compared(pair)
    assert len(found.movers) == 10
    for mover in found.movers:
        assert mover.base + mover.others + sum(r.difference for r in mover.reasons) == pytest.approx(
            mover.difference, abs=1e-12
        )
        before, after = (np.log(p / (1 - p)) for p in (mover.champion_pd, mover.challenger_pd))
        assert after - before == pytest.approx(mover.difference, abs=1e-9)
        assert mover.reasons[0].feature in {"utilization_3m_avg", "dpd_30_rollup", "bureau_score_delta"}


def test_protected_groups_are_those_known_at_the_training_date(pair: Book) -> None:
    found = compared(pair).fairness
    assert found.cutoff_pd == 0.2 and not found.why_none
    sex = [i for i in found.impacts if i.attribute == "sex"]
    assert [i.model for i in sex] == ["champion", "challenger"]
    assert [g.group for g in sex[1].groups] == ["F", "M"]  # not the X of a later correction
    assert found.unknown == compared(pair).rows - sum(g.rows for g in sex[1].groups)
    (age,) = (i for i in found.impacts if (i.attribute, i.model) == ("age_band", "challenger"))
    assert age.too_small == ("90+",) and age.reference is None
    assert not {"sex", "age_band"} & set(pair.registry.text(pair.registry.get("pd_weak", 2)).split())


def test_rows_that_the_champion_learnt_from_are_counted(pair: Book) -> None:
    assert compared(pair).seen_by_champion == 0
    known = replace(pair, portfolio=pair.portfolio)
    hashed = small_book.train(known, pair.portfolio.models[0], holdout="hash")
    assert hashed.comparison_sha256
    found = store.load(pair.settings, hashed.comparison_sha256)
    assert found.seen_by_champion and 0 < found.seen_by_champion < found.rows


def test_drivers_have_the_direction_of_their_constraint(pair: Book) -> None:
    directions = {d.feature: d.rises for d in compared(pair).drivers}
    assert directions["utilization_3m_avg"] == directions["dpd_30_rollup"] == 1
    assert "stated_income" not in directions


def test_a_direction_is_told_by_what_an_effect_is_worth_and_not_by_a_flat_stretch() -> None:
    draw = np.random.default_rng(20260314)
    values = np.concatenate([draw.uniform(0, 1, 40), draw.uniform(1, 5, 960)])
    # One in twenty pays less than is due: that is the effect; above it is flat, and rises by next to nothing.
    effects = np.where(values < 1, 1.1, -0.04 + 0.004 * values) + draw.normal(0, 0.01, len(values))
    assert spearman(values, effects) > 0.2, "ranks would call it rising"
    assert direction(values, effects) == -1
    assert direction(values, -effects) == 1
    assert direction(np.where(values < 1, np.nan, values), draw.normal(0, 1, len(values))) == 0
    even = draw.uniform(-1, 1, 1000)
    assert direction(even, np.abs(even)) == 0, "down and up again"
    assert direction(values, np.zeros(len(values))) == direction(np.ones(len(values)), effects) == 0


def test_what_is_kept_reads_back_the_same_and_one_changed_byte_is_found(pair: Book, tmp_path: Path) -> None:
    kept, found = store.between(pair.settings, pair.engine, "pd_weak", 1, 2)
    assert read(json.loads(json.dumps(found.document()))) == found
    assert store.keep(pair.settings, found) == kept.sha256
    assert archive.read(pair.settings, kept.sha256) == canonical_json.encode(found.document())
    own = small_book.copy(pair, tmp_path / "home")
    path = archive.path_of(own.settings, kept.sha256)
    path.write_bytes(path.read_bytes().replace(b'"rows":', b'"rowz":', 1))
    with pytest.raises(NotFound, match="has been changed"):
        store.load(own.settings, kept.sha256)


def test_a_champion_that_cannot_score_the_rows_is_named(pair: Book, tmp_path: Path) -> None:
    from pipeline.train import train_candidate

    own = replace(small_book.copy(pair, tmp_path / "home"), portfolio=pair.portfolio)
    spec = replace(pair.portfolio.models[0], floors=OPEN)
    champion = native.features(own.registry.load(own.registry.get("pd_weak", 1)))
    contract = tuple(f for f in CONTRACT if f.name != champion[0])
    with own.writer() as con:
        outcome = train_candidate(
            own.settings, own.engine, con, own.registry, own.portfolio, spec, AS_OF, COHORTS, small_book.RUN, contract
        )
    found = store.load(own.settings, outcome.comparison_sha256)
    assert found.champion is None and f"it reads {champion[0]}" in found.alone
