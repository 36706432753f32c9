"""What a night could cost at best, and what one would write instead: beside it, on the same machine, in the same run.

The floor: the night's own SQL in a bare DuckDB over plain Parquet, every account made anew, without a catalog, tests or
transactions; and the same booster on one NumPy block. Instead: one theme of features in pandas, on as many accounts as
fit, its values compared with those of the night.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from lineage.recording import recording
from lineage.rescore import recorded_booster
from pipeline import archive, home, lake, ledger
from pipeline import booster as native
from pipeline.config import Settings
from pipeline.contracts import CONTRACTS
from pipeline.rebuild import INCREMENTAL
from pipeline.sql import ident, literal

PANDAS_ACCOUNTS = 41_000
THEMES = ("balance", "delinquency", "payments", "pricing", "utilization")
BLOCK_ROWS = 500_000


def sql_floor(settings: Settings, as_of: date) -> dict[str, float]:
    """Seconds of each model of a night in a bare DuckDB. The months that the night did not rebuild are given."""
    _, engine = home.open_home(settings)
    recorded = recording(settings, engine, as_of, "account")
    executed = {
        r.model: r.executed_sha256
        for r in ledger.dbt_results(engine, recorded.run.run_id)
        if r.resource_type == "model"
    }
    months_sql = archive.read(settings, executed[INCREMENTAL]).decode()  # type: ignore[arg-type]
    seconds: dict[str, float] = {}
    with TemporaryDirectory(dir=settings.work_dir) as folder, _bare(settings, Path(folder)) as con:
        _plain_parquet(settings, recorded.publication.snapshot_id, Path(folder), con, as_of)
        for schema in dict.fromkeys(m.schema for m in recorded.models):
            con.execute(f"CREATE SCHEMA IF NOT EXISTS {ident(lake.ALIAS, schema)}")
        for model in recorded.models:
            started = time.perf_counter()
            if model.name == INCREMENTAL:
                con.execute(f"CREATE TABLE rebuilt AS {months_sql}")
                con.execute(
                    f"CREATE VIEW {model.relation} AS SELECT * FROM rebuilt UNION ALL BY NAME "
                    f"SELECT * FROM read_parquet({literal(str(Path(folder) / 'months.parquet'))}) "
                    "WHERE statement_month NOT IN (SELECT DISTINCT statement_month FROM rebuilt)"
                )
            else:
                con.execute(f"CREATE {'VIEW' if model.view else 'TABLE'} {model.relation} AS {model.sql}")
            seconds[model.name] = time.perf_counter() - started
    return seconds


def booster_floor(settings: Settings, as_of: date) -> tuple[int, float]:
    """(rows, seconds) of the night's booster on one block of its features that is in memory already."""
    _, engine = home.open_home(settings)
    recorded = recording(settings, engine, as_of, "account")
    booster = recorded_booster(settings, recorded.scored)
    columns = ", ".join(f"CAST({ident(c)} AS DOUBLE) AS {ident(c)}" for c in native.features(booster))
    with closing(lake.connect(settings, snapshot=recorded.publication.snapshot_id)) as con:
        found = con.execute(
            f"SELECT {columns} FROM features.account_features WHERE as_of_date = {literal(as_of)} LIMIT {BLOCK_ROWS}"
        ).fetchnumpy()
    block = np.column_stack([np.ma.filled(found[c], np.nan) for c in native.features(booster)])
    started = time.perf_counter()
    native.log_odds(booster, block, settings.threads)
    return len(block), time.perf_counter() - started


def pandas_instead(settings: Settings, as_of: date) -> tuple[int, tuple[float, int], tuple[float, int]]:
    """(accounts, (seconds, features) in pandas, the same in DuckDB), from months that are in memory already.

    In pandas some features of one theme; in DuckDB every theme over statement slots, and the slots. So compare the
    seconds per feature.
    """
    _, engine = home.open_home(settings)
    recorded = recording(settings, engine, as_of, "account")
    slots = next(m for m in recorded.models if m.name == "int_account_slots")
    themes = [m for m in recorded.models if m.name.removeprefix("feat_") in THEMES]
    with closing(lake.connect(settings, snapshot=recorded.publication.snapshot_id)) as con:
        con.execute(
            f"""CREATE TEMP TABLE picked AS SELECT account_id FROM features.account_features
            WHERE as_of_date = {literal(as_of)} ORDER BY account_id LIMIT {PANDAS_ACCOUNTS}"""
        )
        months = con.execute(
            "SELECT * FROM intermediate.int_account_month SEMI JOIN picked USING (account_id)"
        ).to_arrow_table()
        stored = con.execute(
            f"SELECT f.* FROM features.account_features f SEMI JOIN picked USING (account_id) "
            f"WHERE as_of_date = {literal(as_of)} ORDER BY account_id"
        ).df()
    frame = months.select(["account_id", "statement_month", "statement_date", "balance"]).to_pandas()
    started = time.perf_counter()
    made = _balance_in_pandas(frame, pd.Timestamp(as_of))
    in_pandas = time.perf_counter() - started
    both = made.reindex(stored["account_id"])
    for name in made.columns:
        np.testing.assert_allclose(both[name].to_numpy(float), stored[name].to_numpy(float), rtol=1e-9, err_msg=name)
    with closing(duckdb.connect()) as bare:
        bare.execute(f"ATTACH ':memory:' AS {lake.ALIAS}")
        for schema in ("intermediate", "features"):
            bare.execute(f"CREATE SCHEMA {ident(lake.ALIAS, schema)}")
        bare.execute(f"CREATE TABLE {ident(lake.ALIAS, 'intermediate', INCREMENTAL)} AS FROM months")
        bare.execute(f"CREATE TABLE {ident(lake.ALIAS, 'intermediate', 'int_account_closures')} (account_id BIGINT)")
        started = time.perf_counter()
        for model in (slots, *themes):
            bare.execute(f"CREATE TABLE {model.relation} AS {model.sql}")
        in_sql = time.perf_counter() - started
    features = sum(name in recorded.features for model in themes for name in model.columns)
    return len(stored), (in_pandas, len(made.columns)), (in_sql, features)


def _balance_in_pandas(frame: pd.DataFrame, as_of: pd.Timestamp) -> pd.DataFrame:
    """Some of the balance features, as a data scientist would write them."""
    month = pd.to_datetime(frame["statement_month"])
    back = (as_of.year - month.dt.year) * 12 + as_of.month - month.dt.month
    frame = frame.assign(back=back, balance=frame["balance"].astype(float))
    with_statement = frame[frame["statement_date"].notna()]
    anchor = with_statement[with_statement["back"] <= 1].groupby("account_id")["back"].min()
    slot = frame["back"] - frame["account_id"].map(anchor) + 1
    wide = (
        frame.assign(slot=slot)
        .query("slot >= 1 and slot <= 24")
        .pivot(index="account_id", columns="slot", values="balance")
        .reindex(columns=range(1, 25))
    )
    made: dict[str, Any] = {f"balance_last_{k}": wide[k] for k in range(1, 7)}
    for months in (3, 6, 12):
        made[f"balance_avg_{months}m"] = wide[list(range(1, months + 1))].mean(axis=1)
    for months in (12, 24):
        made[f"balance_max_{months}m"] = wide[list(range(1, months + 1))].max(axis=1)
    made["balance_min_12m"] = wide[list(range(1, 13))].min(axis=1)
    six = wide[list(range(1, 7))]
    made["balance_zero_count_6m"] = (six <= 0).sum(axis=1)
    made["balance_rising_count_6m"] = sum((wide[k] > wide[k + 1]).astype(int) for k in range(1, 7))
    return pd.DataFrame(made)


@contextmanager
def _bare(settings: Settings, folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(duckdb.connect()) as con:
        if settings.memory_limit:
            con.execute(f"SET memory_limit = {literal(settings.memory_limit)}")
        con.execute(f"SET temp_directory = {literal(str(folder / 'spill'))}; SET TimeZone = 'UTC'")
        con.execute(f"ATTACH {literal(str(folder / 'floor.duckdb'))} AS {lake.ALIAS}")
        con.execute(f"CREATE SCHEMA {ident(lake.ALIAS, 'raw')}")
        yield con


def _plain_parquet(
    settings: Settings, snapshot: int, folder: Path, con: duckdb.DuckDBPyConnection, as_of: date
) -> None:
    """The raw rows and the months, as plain files that only a path leads to. Not part of what is measured."""
    with closing(lake.connect(settings, snapshot=snapshot)) as source:
        for name in CONTRACTS:
            file = literal(str(folder / f"{name}.parquet"))
            source.execute(f"COPY (SELECT * FROM raw.{ident(name)} ORDER BY load_date) TO {file}")
            con.execute(f"CREATE VIEW {ident(lake.ALIAS, 'raw', name)} AS SELECT * FROM read_parquet({file})")
        source.execute(
            f"COPY (SELECT * FROM intermediate.{INCREMENTAL} ORDER BY statement_month) "
            f"TO {literal(str(folder / 'months.parquet'))}"
        )
