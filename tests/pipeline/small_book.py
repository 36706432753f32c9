"""A home with a tiny hand-made lake: feature partitions and outcomes as dbt would leave them, risk in the features."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path

import duckdb
import pytest
from sqlalchemy import Engine, insert

from pipeline import booster as native
from pipeline import control, lake
from pipeline.config import Settings
from pipeline.features import FeatureSpec
from pipeline.governance import keys
from pipeline.governance.promotion_state import Promotion
from pipeline.portfolio import Gates, Grade, Label, ModelSpec, Points, Portfolio
from pipeline.registry import ModelVersion, Registry, TrainingRecord
from pipeline.score import ScoreResult, score
from pipeline.train import TrainingOutcome, train_candidate
from tests.signing_off import record_training, sign_off

COHORTS = (date(2024, 1, 31), date(2024, 2, 29), date(2024, 3, 31), date(2024, 4, 30))
AS_OF = date(2024, 7, 31)
NIGHT = AS_OF
RUN = "20240731-retrain-00000001"
ACCOUNTS = 1_500

ACCOUNT_MODEL = ModelSpec(
    "pd_default",
    "account",
    holdout_share=0.3,
    floors={"auc": 0.6, "ks": 0.1, "calibration": 0.5, "psi": 0.5},
    parameters={"rounds": 40, "early_stopping_rounds": 10, "learning_rate": 0.1, "num_leaves": 7},
)
APPLICATION_MODEL = replace(ACCOUNT_MODEL, name="pd_application", subject="application", holdout="hash")


def feature(name: str, **facts: object) -> FeatureSpec:
    values: dict[str, object] = {
        "name": name,
        "dtype": "DOUBLE",
        "theme": "utilization",
        "unit": "ratio",
        "owner": "risk",
        "rationale": "known to matter",
        "pii": False,
        "monotone": 0,
        "null_policy": "missing",
        "description": f"The {name}.",
    }
    return FeatureSpec(**{**values, **facts})  # type: ignore[arg-type]


CONTRACT = (
    feature("utilization_3m_avg", monotone=1, dtype="DECIMAL(9,6)"),
    feature("dpd_30_rollup", monotone=1, dtype="INTEGER"),
    feature("bureau_score_delta", monotone=-1),
    feature("months_on_book", dtype="BIGINT"),
    feature("is_revolving", dtype="BOOLEAN"),
    feature("bureau_inquiries_6m", dtype="INTEGER"),  # never filled: this lender has no such data
    feature("stated_income", dtype="DECIMAL(18,2)", pii=True),
    feature("product", dtype="VARCHAR"),
)


@dataclass(frozen=True)
class Book:
    """An open home. ``writer`` opens the lake as the lease holder would."""

    settings: Settings
    engine: Engine
    portfolio: Portfolio
    registry: Registry

    def writer(self) -> closing[duckdb.DuckDBPyConnection]:
        return closing(lake.connect(self.settings, read_only=False))


def portfolio(id_type: str, models: Sequence[ModelSpec] = (ACCOUNT_MODEL,)) -> Portfolio:
    return Portfolio(
        name="harbor",
        title="Harbor Credit Union",
        folder=Path("harbor"),
        sha256="0" * 64,
        id_type=id_type,
        calendar="daily",
        timezone="Europe/Berlin",
        currency="EUR",
        sla_due=time(6),
        label=Label(("default",), 3),
        extracts=(),
        models=tuple(models),
        grades=(Grade("A", 0.02), Grade("B", 0.05), Grade("C", 0.15), Grade("D", 1.0)),
        points=Points(),
        gates=Gates(),
    )


def make(home: Path, id_type: str = "BIGINT", accounts: int = ACCOUNTS) -> Book:
    """Make the home: features of the cohorts and of one night, outcomes, and a run that training may refer to."""
    settings = Settings.at(home)
    lake.create(settings, id_type)
    engine = control.create(settings)
    keys.create(settings.keys_dir)
    with engine.begin() as connection:
        connection.execute(insert(control.runs).values(**_run(RUN)))
    with closing(lake.connect(settings, read_only=False)) as con:
        for subject in ("account", "application"):
            _fill(con, subject, id_type, accounts)
    return Book(settings, engine, portfolio(id_type, (ACCOUNT_MODEL, APPLICATION_MODEL)), Registry(settings))


def reopen(home: Path, id_type: str = "BIGINT") -> Book:
    """Open a home that was copied here."""
    settings = Settings.at(home)
    models = (ACCOUNT_MODEL, APPLICATION_MODEL)
    return Book(settings, control.open_store(settings), portfolio(id_type, models), Registry(settings))


def copy(book: Book, home: Path) -> Book:
    shutil.copytree(book.settings.home, home)
    return reopen(home, book.portfolio.id_type)


def _run(run_id: str) -> dict[str, object]:
    return {
        "run_id": run_id,
        "kind": "retrain",
        "as_of": AS_OF,
        "status": "running",
        "started_at": datetime(2024, 8, 1, tzinfo=UTC),
        "actor": "test",
        "host": "test",
        "pid": 1,
        "environment": {},
    }


def _fill(con: duckdb.DuckDBPyConnection, subject: str, id_type: str, accounts: int) -> None:
    """Features drawn from a hash of subject and date; the event's odds rise with utilization and days past due."""
    key = f"{subject}_id"
    days = ", ".join(f"(DATE '{day}')" for day in (*COHORTS, NIGHT))
    # Each application comes once, in one partition; each account stands in all of them.
    once = "WHERE i % 5 = abs(epoch_days) % 5" if subject == "application" else ""
    con.execute(
        f"""
        CREATE TEMP TABLE drawn AS
        WITH days AS (SELECT day, row_number() OVER (ORDER BY day) AS epoch_days FROM (VALUES {days}) d(day)),
        rows AS (SELECT i, day, epoch_days FROM range({accounts}) r(i), days {once}),
        uniform AS (
            SELECT
                CAST({"'A' || " if id_type == "VARCHAR" else ""}(1000 + i) AS {id_type}) AS {key},
                day AS as_of_date,
                [(md5_number_lower(concat_ws('|', i, day, k)) % 1000003) / 1000003.0::DOUBLE for k in range(8)] AS u
            FROM rows
        )
        SELECT {key}, as_of_date, u, -4.5 + 3.0 * u[1] + 0.05 * floor(u[2] * u[2] * 60) AS log_odds FROM uniform
        """
    )
    con.execute(
        f"""
        CREATE TABLE lake.features.{subject}_features AS
        SELECT
            {key}, as_of_date,
            CAST(u[1] AS DECIMAL(9,6)) AS utilization_3m_avg,
            CAST(floor(u[2] * u[2] * 60) AS INTEGER) AS dpd_30_rollup,
            CASE WHEN u[3] > 0.1 THEN (u[3] - 0.5) * 100 END AS bureau_score_delta,
            CAST(u[4] * 120 AS BIGINT) AS months_on_book,
            u[5] > 0.5 AS is_revolving,
            CAST(NULL AS INTEGER) AS bureau_inquiries_6m,
            CAST(u[6] * 50000 AS DECIMAL(18,2)) AS stated_income,
            'card' AS product
        FROM drawn
        """
    )
    con.execute(f"ALTER TABLE lake.features.{subject}_features SET PARTITIONED BY (as_of_date)")
    # The event falls within three months of its cohort; on 31 July all of them are known.
    con.execute(
        f"""
        CREATE TABLE lake.intermediate.int_{subject}_outcomes AS
        WITH events AS (
            SELECT {key}, as_of_date + CAST(10 + floor(u[8] * 70) AS INTEGER) AS event_date
            FROM drawn WHERE u[7] < 1 / (1 + exp(-log_odds)) AND as_of_date < DATE '{NIGHT}'
        )
        SELECT {key} AS subject_id, min(event_date) AS event_date, min(event_date) + 2 AS load_date
        FROM events GROUP BY {key}
        """
    )
    if subject == "application":
        con.execute(
            f"""
            CREATE TABLE lake.staging.stg_applications__applications AS
            SELECT DISTINCT {key}, CASE WHEN md5_number_lower({key}::VARCHAR) % 10 < 8 THEN {key} END AS account_id
            FROM drawn
            """
        )
    con.execute("DROP TABLE drawn")
    con.execute(
        f"INSERT INTO lake.ops.model_state SELECT '{subject}_features', as_of_date, 0, '' "
        f"FROM (SELECT DISTINCT as_of_date FROM lake.features.{subject}_features)"
    )


_PROMOTED: list[Book] = []


def train(book: Book, spec: ModelSpec = ACCOUNT_MODEL, **changes: object) -> TrainingOutcome:
    """Train one model on all cohorts. changes: other settings of the model."""
    with book.writer() as con:
        return train_candidate(
            book.settings, book.engine, con, book.registry, book.portfolio, replace(spec, **changes),  # type: ignore[arg-type]
            AS_OF, COHORTS, RUN, CONTRACT,
        )  # fmt: skip


def approve(book: Book, name: str, version: int, reason: str = "passed its gate") -> Promotion:
    return sign_off(book.settings, book.engine, book.registry, book.portfolio, name, version, reason)


def night(book: Book, spec: ModelSpec = ACCOUNT_MODEL, run_id: str = "night-1") -> ScoreResult:
    with book.writer() as con:
        return score(con, book.settings, book.engine, book.registry, book.portfolio, spec, NIGHT, run_id)


def register(book: Book, text: str, *, training_set: str, name: str = "pd_default") -> ModelVersion:
    """Register a model text as if a training run had made it."""
    names = tuple(native.features(native.parse(text)))
    record = TrainingRecord(
        RUN, AS_OF, training_set, 1, names, {n: {"dtype": "DOUBLE"} for n in names}, "3" * 64, {"rounds": 1}
    )
    version = book.registry.register(
        name, text, training=record, metrics={"auc": 0.7}, plots={}, card="# card\n", tags={"subject": "account"}
    )
    record_training(book.engine, version, RUN)
    return version


def promoted(factory: pytest.TempPathFactory) -> Book:
    """A home with both models trained and approved, made once per test run. Copy it before changing anything."""
    if not _PROMOTED:
        book = make(factory.mktemp("promoted") / "home")
        for spec in book.portfolio.models:
            outcome = train(book, spec)
            assert outcome.version is not None, outcome.checks
            approve(book, spec.name, outcome.version.version)
        _PROMOTED.append(book)
    return _PROMOTED[0]
