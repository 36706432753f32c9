"""Outcomes are measured by the labels that models are trained on: one definition, read from two places."""

from __future__ import annotations

import pytest

from pipeline.monitoring import cohorts
from pipeline.sql import literal
from pipeline.training_set import collect
from tests.pipeline import small_book


@pytest.mark.parametrize("subject", ["account", "application"])
def test_labels_equal_the_training_sets(tmp_path_factory: pytest.TempPathFactory, subject: str) -> None:
    """Every subject of the matured cohorts has the label of the training set, and none is left out but there too."""
    book = small_book.make(tmp_path_factory.mktemp("definition") / "home", accounts=600)
    spec = small_book.ACCOUNT_MODEL if subject == "account" else small_book.APPLICATION_MODEL
    landing = "'l' AS load_id, 'f' AS source_file, 'h' AS source_sha256"
    with book.writer() as con:
        found = collect(con, book.portfolio.label, spec, small_book.AS_OF, small_book.COHORTS, small_book.CONTRACT)
        con.execute(
            f"""INSERT INTO lake.raw.account_events BY NAME
            SELECT subject_id AS account_id, event_date, 'default' AS event_type, load_date, {landing},
                row_number() OVER (ORDER BY subject_id) AS source_row
            FROM lake.intermediate.int_{subject}_outcomes"""
        )
        if subject == "application":
            con.execute(
                f"""INSERT INTO lake.raw.applications BY NAME
                SELECT application_id, account_id, DATE '2024-01-01' AS applied_on, 'card' AS product,
                    DATE '2024-01-02' AS load_date, {landing}, row_number() OVER (ORDER BY application_id) AS source_row
                FROM lake.staging.stg_applications__applications"""
            )
        days = ", ".join(literal(day) for day in small_book.COHORTS)
        con.execute(
            f"""INSERT INTO lake.scores.{subject}_scores BY NAME
            SELECT {subject}_id, as_of_date, 0.1 AS pd, -2.2 AS log_odds, 600 AS score_points, 'C' AS grade,
                {literal(spec.name)} AS model_name, 1 AS model_version, 'd' AS model_digest, 'r' AS run_id,
                0 AS feature_snapshot, as_of_date + 1 AS scored_at
            FROM lake.features.{subject}_features WHERE as_of_date IN ({days})"""
        )
        measured = {}
        for cohort in cohorts.cohorts(con, book.portfolio, subject, small_book.AS_OF, None):
            assert cohort.kind(small_book.AS_OF) == cohorts.MATURED
            cohorts.fill(con, book.portfolio, cohort, small_book.AS_OF, None)
            for key, day, label in con.execute(
                f"SELECT subject_id, as_of_date, label FROM temp.{cohorts.ROWS}"
            ).fetchall():
                measured[key, day] = label
    trained = dict(
        zip(zip(found.subjects.tolist(), found.dates.tolist(), strict=True), found.labels.tolist(), strict=True)
    )
    assert sum(trained.values()) > 5
    assert measured == trained
