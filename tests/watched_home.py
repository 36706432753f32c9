"""The portal's home as its nights' monitor leaves it: drift, contributions, outcomes and alerts, in the real tables.

What is stored goes through the functions that store it; only the counts and the figures are made up here: a feature
drifts over the last four nights, and a year and a half of months has outcomes. Run as a script it makes a home to look
at: ``python -m tests.watched_home FOLDER``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest

from pipeline import lake, ledger, portfolio
from pipeline.calendar import add_months, month_end
from pipeline.config import Settings
from pipeline.monitoring import alerts, baselines, drift, outcome_tables
from pipeline.monitoring.alert_rules import CALIBRATION, DRIFT, HIGH, MODERATE, VOLUME, Finding
from pipeline.monitoring.alert_state import Cause
from pipeline.monitoring.baselines import Baseline
from pipeline.monitoring.bins import CATEGORY, NUMBER, WHOLE, BinCounts, FeatureBins
from pipeline.monitoring.score_drift import BASE
from pipeline.monitoring.segments import SCORE
from pipeline.registry import ModelVersion
from tests import published_home
from tests.conftest import copy_home, made_once
from tests.published_home import CHANGED_ON, GATE_FAILED_ON, LAST

MODEL = "pd_default"
DRIFTED = "utilization_3m_avg"
NIGHTS = 20
DRIFTS_FROM = LAST - timedelta(days=3)
DRIFT_ALERT, VOLUME_ALERT, OLD_ALERT = (
    f"drift/{MODEL}/feat_utilization", "volume/payments_ledger", f"calibration/{MODEL}",
)  # fmt: skip
ROWS = 20_000
NEWEST_MATURE = date(2025, 3, 1)

_DECILES = tuple(round(i / 10, 1) for i in range(1, 10))
_BINS = (
    FeatureBins(DRIFTED, NUMBER, _DECILES),
    FeatureBins("dpd_30_rollup", NUMBER, (0.0, 1.0, 2.0)),
    FeatureBins("<i>bureau_score_last", NUMBER, _DECILES),
    FeatureBins("product_code_last", CATEGORY, (0.0, 1.0, 2.0)),
    *(FeatureBins(f"balance_trend_{i}m", NUMBER, _DECILES) for i in range(1, 25)),
    FeatureBins(SCORE, NUMBER, _DECILES),
)
_KEYS = (WHOLE, ("product", "card"), ("product", "loan"), ("arrival", "new"))
_SHARES = {WHOLE: 1.0, ("product", "card"): 0.7, ("product", "loan"): 0.297, ("arrival", "new"): 0.003}


def shared(factory: pytest.TempPathFactory) -> Path:
    """The home, made once a run. Copy it before changing it."""

    def make(folder: Path) -> str:
        watch(published_home.settings_for(copy_home(published_home.shared(factory), folder / "home")))
        return ""

    return made_once(factory, "watched", make)[0] / "home"


def build(home: Path) -> Settings:
    return watch(published_home.build(home))


def watch(settings: Settings) -> Settings:
    """What a monitor leaves over a home with nights."""
    book = portfolio.load(settings.portfolio_dir)
    engine = ledger.open_ledger(settings)
    with closing(lake.connect(settings, read_only=False)) as con:
        for version in (30, 31):
            _baseline(con, version)
        nights = [LAST - timedelta(days=back) for back in range(NIGHTS - 1, -1, -1)]
        for as_of in (d for d in nights if d != GATE_FAILED_ON):
            scored_by = 31 if as_of >= CHANGED_ON else 30
            for version in {scored_by, 31}:
                counts = BinCounts(_BINS, _KEYS, _matrix(as_of.toordinal(), _moved(as_of)))
                drift.write_night(con, book.monitoring, _of(version), counts, as_of, scored_by)
            _contributions(con, as_of, scored_by)
        outcome_tables.create(con)
        outcome_tables.replace(con, LAST, _outcomes())
    told = (
        (DRIFTS_FROM, [_DRIFT_FOUND, _CALIBRATION_FOUND]),
        (LAST - timedelta(days=1), [_DRIFT_FOUND]),
        (LAST, [_DRIFT_FOUND, _VOLUME_FOUND]),
    )
    for as_of, findings in told:
        run_id = ledger.publication_for(engine, as_of).run_id  # type: ignore[union-attr]
        alerts.judge(
            engine, findings, as_of, run_id=run_id, actor="pipeline", covered=(DRIFT, VOLUME, CALIBRATION),
            explain=lambda finding: _CAUSES.get(finding.id, ()),
        )  # fmt: skip
    engine.dispose()
    return settings


_DRIFT_FOUND = Finding(
    DRIFT_ALERT, DRIFT, HIGH, f"feat_utilization: {DRIFTED} PSI 0.31 (20,000 rows; 0.29 against the version's first "
    "nights)", (DRIFTED,), (f"features.account_features.{DRIFTED}",),
)  # fmt: skip
_VOLUME_FOUND = Finding(
    VOLUME_ALERT, VOLUME, MODERATE, "payments_ledger: 0 rows (expected 40 to 160 rows)", ("volume payments_ledger",),
    ("raw.payments_ledger",),
)  # fmt: skip
_CALIBRATION_FOUND = Finding(OLD_ALERT, CALIBRATION, MODERATE, "14 events came true, 21.0 were expected", ("31",), ())
_CAUSES = {
    DRIFT_ALERT: (
        Cause("raw.loan_servicing.credit_limit", "its values tonight are not those of the 38,412 rows before (PSI "
              "0.44); 3.1% null, usually 0.0%"),
        Cause("raw.loan_servicing, load 20260314-1", "1,193 rows tonight, usually 1,243 (median of 28 days)"),
        Cause("<b>model</b> int_account_month", "data test on credit_limit: Got 37 results"),
    ),
    VOLUME_ALERT: (Cause("raw.payments_ledger", "gate volume: payments_ledger: 0 rows"),),
}  # fmt: skip


def _of(version: int) -> Baseline:
    importance = {b.feature: rank for rank, b in enumerate(_BINS, start=1)} | {SCORE: 1, "balance_trend_24m": 0}
    return Baseline(MODEL, version, BinCounts(_BINS, _KEYS, _matrix(version, 0.0)), importance, NEWEST_MATURE)


def _baseline(con: duckdb.DuckDBPyConnection, version: int) -> None:
    named = ModelVersion(MODEL, version, "", "", "", 0, "", datetime(2026, 1, 1, tzinfo=UTC), "", {})
    baselines.write(con, named, _of(version).counts)


def _moved(as_of: date) -> float:
    """How far the drifting feature has moved on a night: 0 is not at all."""
    return 0.0 if as_of < DRIFTS_FROM else 0.35 + 0.12 * (as_of - DRIFTS_FROM).days


def _matrix(seed: int, moved: float) -> np.ndarray:
    """Counts by segment and bin: even deciles, of which the drifting feature's lose rows to the top one."""
    random = np.random.default_rng(seed)
    lines = []
    for key in _KEYS:
        rows, line = round(ROWS * _SHARES[key]), []
        for bins in _BINS:
            shares = np.full(bins.size, 1.0)
            shares[-1] = 0.1 if bins.kind == NUMBER else 0.0
            if bins.feature == DRIFTED and key != ("product", "loan"):
                shares[-2] += 3 * moved
                shares[-1] += moved
            elif bins.feature == SCORE:
                shares[-2] += moved / 4
            line.append(random.multinomial(rows, shares / shares.sum()))
        lines.append(np.concatenate(line))
    return np.array(lines, dtype=np.int64)


def _contributions(con: duckdb.DuckDBPyConnection, as_of: date, version: int) -> None:
    """Mean contributions of a sample of 400: the drifted feature adds most of what moved."""
    random, parts = np.random.default_rng(as_of.toordinal()), {BASE: -3.4, DRIFTED: 0.02 + 0.25 * _moved(as_of)}
    parts |= {b.feature: 0.01 * float(random.standard_normal()) for b in _BINS[1:-1]}
    night = {
        "as_of_date": pa.scalar(as_of, pa.date32()),
        "model_name": pa.scalar(MODEL, pa.string()),
        "model_version": pa.scalar(version, pa.int32()),
    }
    rows = pa.table(
        {
            **{k: pa.repeat(v, len(parts)) for k, v in night.items()},
            "dimension": pa.array([""] * len(parts)),
            "segment": pa.array([""] * len(parts)),
            "feature": pa.array(list(parts)),
            "mean": pa.array(list(parts.values())),
            "n": pa.array([400] * len(parts), pa.int64()),
        }
    )
    where = f"as_of_date = DATE '{as_of}' AND model_name = '{MODEL}'"
    baselines.replace(con, [("contributions", rows, "feature")], where)


def _outcomes() -> Mapping[str, list[dict[str, Any]]]:
    """Months of scores from October 2024 on: those up to March 2025 have matured, the rest are estimates."""
    rows: dict[str, list[dict[str, Any]]] = {name: [] for name in outcome_tables.TABLES}
    months = [add_months(month_end(date(2024, 10, 1)), i) for i in range(18)]
    for i, end in enumerate(months):
        first = end.replace(day=1)
        matured = first <= NEWEST_MATURE
        random = np.random.default_rng(i)
        auc = 0.77 - 0.004 * i + 0.01 * float(random.standard_normal())
        cohort = {
            "as_of_date": LAST, "run_id": "made-up", "subject": "account", "model_name": MODEL, "model_version": 30,
            "month": first, "origin": "live", "segment": "all", "value": "",
        }  # fmt: skip
        mean, rate = 0.034, 0.034 + 0.001 * i
        kinds = ("estimated", "matured") if first == NEWEST_MATURE else ("matured" if matured else "estimated",)
        for kind in kinds:
            known = kind == "matured"
            rows["performance"].append(
                cohort | {
                    "kind": kind, "scored_from": end, "scored_to": end, "matures_on": add_months(end, 12), "n": ROWS,
                    "expected": ROWS * mean, "mean_pd": mean, "auc": auc if known else 0.78,
                    "ks": 0.42 - 0.002 * i, "brier": 0.031 + 0.0003 * i,
                }
                | ({
                    "events": round(ROWS * rate), "observed_rate": rate, "rate_low": rate - 0.003,
                    "rate_high": rate + 0.003, "auc_low": auc - 0.02, "auc_high": auc + 0.02,
                    "ks_low": 0.38 - 0.002 * i, "ks_high": 0.46 - 0.002 * i, "brier_low": 0.029 + 0.0003 * i,
                    "brier_high": 0.033 + 0.0003 * i,
                    "gini": 2 * auc - 1, "ece": 0.004, "calibration_slope": 0.93, "calibration_intercept": -0.05,
                    "hosmer_lemeshow": 14.2, "hosmer_lemeshow_df": 8, "hosmer_lemeshow_p": 0.077, "monotone": True,
                    "reversals": "[]",
                } if known else {})
            )  # fmt: skip
            for at, (grade, pd) in enumerate(zip("ABCDEFG", (0.006, 0.015, 0.03, 0.06, 0.12, 0.22, 0.5), strict=True)):
                n = round(ROWS * (0.2, 0.25, 0.22, 0.17, 0.1, 0.05, 0.01)[at])
                seen = pd * (1.35 if grade == "D" else 0.97)
                rows["grades"].append(
                    cohort | {"kind": kind, "position": at, "grade": grade, "n": n, "expected": n * pd, "mean_pd": pd}
                    | ({
                        "events": round(n * seen), "observed_rate": seen, "rate_low": seen * 0.85,
                        "rate_high": seen * 1.15, "jeffreys_p": 0.0004 if grade == "D" else 0.61, "binomial_p": 0.5,
                    } if known else {})
                )  # fmt: skip
                rows["reliability"].append(
                    cohort | {"kind": kind, "bin": at, "pd_from": pd * 0.8, "pd_to": pd * 1.2, "n": n, "mean_pd": pd}
                    | ({
                        "events": round(n * seen), "observed_rate": seen, "rate_low": seen * 0.85,
                        "rate_high": seen * 1.15,
                    } if known else {})
                )  # fmt: skip
    for group, n, ratio in (("female", 4_100, 0.97), ("male", 4_300, 1.0), ("other", 900, 0.74), ("unknown", 12, None)):
        rows["fairness"].append(
            {
                "as_of_date": LAST, "run_id": "made-up", "subject": "account", "model_name": MODEL, "model_version": 31,
                "month": date(2026, 3, 1), "origin": "live", "attribute": "sex", "group_name": group,
                "reference": "male", "n": n, "selected": round(n * 0.6 * (ratio or 1)), "cut_off": 0.05,
                "rate": 0.6 * (ratio or 1), "ratio": ratio, "passes": None if ratio is None else ratio >= 0.8,
                "too_small": ratio is None, "mean_points": 611.0, "smd": -0.04,
            }
        )  # fmt: skip
    for born in range(12):
        vintage = add_months(month_end(date(2025, 1, 1)), born).replace(day=1)
        for age in range(14 - born):
            rows["vintages"].append(
                {
                    "as_of_date": LAST, "run_id": "made-up", "through": date(2026, 2, 28), "vintage": vintage,
                    "months_on_book": age, "accounts": 400, "events": 1, "events_to_date": age + 1,
                    "rate_to_date": (age + 1) / 400,
                }
            )  # fmt: skip
    return rows


if __name__ == "__main__":
    build(Path(sys.argv[1]))
