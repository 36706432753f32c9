"""What outcomes ask to be told: a drop beyond chance, PDs that are off; never an estimate, a backfill or a few rows."""

from __future__ import annotations

from dataclasses import fields
from datetime import date
from typing import Any

import pytest

from pipeline.monitoring.outcome_reads import Holdout, StoredPerformance
from pipeline.monitoring.outcome_rules import outcome_findings
from pipeline.monitoring.policy import DriftPolicy

POLICY = DriftPolicy()
HELD = (Holdout("pd_default", 1, date(2025, 1, 31), {"auc": 0.80, "auc_low": 0.78, "auc_high": 0.82}),)


def month(**facts: Any) -> StoredPerformance:
    values: dict[str, Any] = dict.fromkeys(f.name for f in fields(StoredPerformance)) | {
        "model_name": "pd_default", "model_version": 1, "month": date(2025, 3, 1), "origin": "live", "kind": "matured",
        "segment": "all", "n": 5_000, "events": 250, "expected": 250.0, "mean_pd": 0.05,
        "auc": 0.79, "auc_low": 0.77, "auc_high": 0.81,
    }  # fmt: skip
    return StoredPerformance(**values | facts)


def told(*rows: StoredPerformance) -> list[tuple[str, str]]:
    return [(f.id, f.level) for f in outcome_findings(rows, HELD, POLICY)]


def test_a_month_as_the_holdout_was_asks_for_nothing() -> None:
    assert told(month()) == []
    assert told(month(auc=0.75, auc_low=0.71, auc_high=0.79)) == [], "lower, and within what chance allows"


def test_an_auc_beyond_chance_below_the_holdout_is_told() -> None:
    assert told(month(auc=0.70, auc_low=0.66, auc_high=0.74)) == [("performance/pd_default", "high")]


@pytest.mark.parametrize(
    ("events", "expected_level"), [(400, "high"), (313, "high"), (312, None), (200, None), (199, "moderate")]
)
def test_pds_that_are_off_are_told_the_low_ones_loudest(events: int, expected_level: str | None) -> None:
    wanted = [] if expected_level is None else [("calibration/pd_default", expected_level)]
    assert told(month(events=events)) == wanted


def test_a_few_rows_are_off_by_chance() -> None:
    assert told(month(n=200, events=14, expected=10.0)) == [], "40 % more of ten"
    assert told(month(n=80, events=40, expected=4.0)) == [], "fewer rows than the policy judges"


@pytest.mark.parametrize("facts", [{"kind": "estimated"}, {"origin": "backfill"}, {"segment": "product"}])
def test_estimates_backfills_and_segments_ask_for_nothing(facts: dict[str, str]) -> None:
    assert told(month(auc=0.5, auc_low=0.4, auc_high=0.6, events=900, **facts)) == []


def test_a_version_that_was_replaced_asks_for_nothing_more() -> None:
    off = {"events": 500}
    took_over = {"model_version": 2, "kind": "estimated", "events": None}
    assert told(month(**off), month(month=date(2025, 4, 1), **took_over)) == []
    both = [month(**off), month(month=date(2025, 4, 1), model_version=2, **off)]
    assert told(*both) == [("calibration/pd_default", "high")], "one of a model, however many versions are off"


def test_only_the_newest_month_of_a_version_counts() -> None:
    bad = month(auc=0.5, auc_low=0.4, auc_high=0.6)
    assert told(bad, month(month=date(2025, 4, 1))) == []
    assert told(month(), month(month=date(2025, 4, 1), events=500)) == [("calibration/pd_default", "high")]
