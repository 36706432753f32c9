"""Two nights with everything between them that a question must tell apart, built once a session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb
import pyarrow.parquet as pq
import pytest
from sqlalchemy import Engine, update

from lineage.subjects import lake_of
from pipeline import booster as native
from pipeline import control, home, lake, ledger
from pipeline.config import Settings
from pipeline.portfolio import Portfolio
from tests.conftest import FIRST, SECOND, Cascade, copy_home, made_once


@dataclass(frozen=True)
class Story:
    """A home in which a second night followed the first. Between them a statement of ``restated`` was delivered again
    with another balance, and version 2 of pd_default was promoted; after them version 1 was promoted again."""

    settings: Settings
    restated: int

    def copy(self, folder: Path) -> Story:
        """The same elsewhere, to be changed at will."""
        copy_home(self.settings.home, folder)
        return Story(Settings.at(folder), self.restated)

    @property
    def portfolio(self) -> Portfolio:
        return home.open_home(self.settings)[0]

    @property
    def engine(self) -> Engine:
        return ledger.open_ledger(self.settings)

    def runs_of(self, as_of: date) -> list[str]:
        """Runs that published the date, oldest first."""
        return [r.run_id for r in reversed(ledger.runs(self.engine, kinds=["nightly"], since=as_of, until=as_of))]

    def lake_on(self, as_of: date, run_id: str | None = None) -> closing[duckdb.DuckDBPyConnection]:
        """The lake as the newest publication of a date shows it."""
        from lineage.recording import published

        return closing(lake_of(self.settings, published(self.engine, as_of, run_id)))

    def ids(self, as_of: date, kind: str, most: int) -> list[int]:
        """Some subjects scored that night, spread over the book and always the same ones."""
        with self.lake_on(as_of) as con:
            return column(
                con,
                f"SELECT {kind}_id FROM scores.{kind}_scores WHERE as_of_date = '{as_of}' "
                f"ORDER BY md5({kind}_id::VARCHAR) LIMIT {most}",
            )


def column(con: duckdb.DuckDBPyConnection, sql: str) -> list[int]:
    """The first column of a query."""
    return [row[0] for row in con.execute(sql).fetchall()]


def point_publication_at(story: Story, as_of: date, snapshot: int) -> None:
    """Make readers of a date read the lake at another snapshot, as someone would who may write everything."""
    p = control.publications
    with story.engine.begin() as db:
        db.exec_driver_sql("DROP TRIGGER publications_no_update")  # as only an owner of the database can
        db.execute(update(p).where(p.c.as_of == as_of).values(snapshot_id=snapshot))


@pytest.fixture(scope="session")
def story(cascade: Cascade, tmp_path_factory: pytest.TempPathFactory) -> Story:
    folder, restated = made_once(tmp_path_factory, "story", lambda folder: make_story(cascade, folder))
    return Story(Settings.at(folder / "home"), int(restated))


@pytest.fixture
def own_story(story: Story, tmp_path: Path) -> Story:
    return story.copy(tmp_path / "home")


@pytest.fixture
def first_night(story: Story) -> Iterator[duckdb.DuckDBPyConnection]:
    """The lake as the first night published it."""
    with story.lake_on(FIRST) as con:
        yield con


def make_story(cascade: Cascade, folder: Path) -> str:
    """Make the home of the ``story`` fixture in the folder; returns the account with the restated statement."""
    from pipeline.governance.approvals import Approvals
    from pipeline.land import land
    from pipeline.nightly import run_night
    from pipeline.registry import Registry
    from pipeline.transform import Warehouse
    from tests.signing_off import at_the_home, person, record_training, sign_off

    settings = cascade.copy(folder / "home")
    portfolio, engine = home.open_home(settings)
    extracts = settings.extracts_dir
    restated = deliver_again(settings, extracts / FIRST.isoformat() / "statements.parquet")
    with closing(lake.connect(settings, read_only=False)) as con:
        land(con, portfolio, FIRST, extracts)
    registry = Registry(settings)
    version = register_shorter(registry)
    record_training(engine, registry.get("pd_default", version))
    first = Approvals(settings, engine, registry, portfolio).named("pd_default/1")
    sign_off(settings, engine, registry, portfolio, "pd_default", version, "fewer <b>trees</b>")
    warehouse = Warehouse(settings, portfolio)
    run_night(settings, portfolio, engine, SECOND, actor=at_the_home(), extracts=extracts, warehouse=warehouse)
    Approvals(settings, engine, registry, portfolio).rollback(person("cleo", "approver"), first, "back to the first")
    return str(restated)


def deliver_again(settings: Settings, file: Path) -> int:
    """Write one statement of a delivered file anew, of an account scored on both nights, with another balance."""
    rows = pq.read_table(file)
    with closing(lake.connect(settings)) as con:
        scored = set(column(con, "SELECT account_id FROM scores.account_scores"))
    values = rows.to_pylist()
    chosen = next(r for r in values if r["ACCT_NBR"] in scored and r["CUR_BAL_AMT"] > 100 and r["DLQ_DAYS"] == 0)
    chosen["CUR_BAL_AMT"] *= 2
    pq.write_table(type(rows).from_pylist(values, schema=rows.schema), file)
    return int(chosen["ACCT_NBR"])


def register_shorter(registry: object) -> int:
    """A second version of pd_default: the first one without its last five trees."""
    from pipeline.registry import Registry, TrainingRecord

    assert isinstance(registry, Registry)
    first = registry.get("pd_default", 1)
    booster = native.parse(registry.text(first))
    text = booster.model_to_string(num_iteration=booster.num_trees() - 5)
    names = tuple(native.features(booster))
    record = TrainingRecord(
        "shorter", FIRST, "4" * 64, first.snapshot_id, names, {n: {"dtype": "DOUBLE"} for n in names}, "3" * 64, {}
    )
    found = registry.register(
        "pd_default", text, training=record, metrics={"auc": 0.7}, plots={}, card="# card\n",
        tags={"subject": "account"},
    )  # fmt: skip
    return found.version
