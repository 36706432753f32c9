"""The sandbox: a DuckDB of its own in which archived SQL runs unchanged, over the raw rows that it is given.

Archived SQL names its relations ``"lake"."schema"."table"``. Here the catalog called ``lake`` is a scratch database:
its raw tables hold the given rows and nothing else, and every model is built into it from the SQL that the run
archived, byte for byte. What comes out depends on those rows and that SQL alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass

import duckdb
import pyarrow as pa

from lineage.recording import RecordedModel
from pipeline import lake
from pipeline.config import Settings
from pipeline.contracts import CONTRACTS, LANDING_COLUMNS
from pipeline.errors import NotFound
from pipeline.faults import explained
from pipeline.sql import ident, literal

RECORDED = "recorded"
"""Name under which the lake itself, at a snapshot, is attached beside the scratch catalog of a whole replay."""

_ACCOUNT = {
    "loan_servicing": "account_id",
    "payments_ledger": "account_id",
    "account_events": "account_id",
    "bureau_pull": "subject_id",  # of an account or of an application: those of other kinds are not asked for
}


@contextmanager
def of_raw(rows: Mapping[str, pa.Table], id_type: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """A scratch catalog with these raw rows (raw table → its rows) and no models; tables not given are empty."""
    with closing(duckdb.connect(":memory:")) as con:
        # A handful of rows: more threads would only wait for each other, and a better plan takes longer to find than a
        # plain one to run.
        con.execute(
            f"PRAGMA disable_optimizer; SET threads = 1; SET TimeZone = 'UTC'; ATTACH ':memory:' AS {lake.ALIAS}"
        )
        con.execute(f"CREATE SCHEMA {ident(lake.ALIAS, 'raw')}")
        for name, contract in CONTRACTS.items():
            table = ident(lake.ALIAS, "raw", name)
            if name in rows:
                con.register("given_rows", rows[name])
                con.execute(f"CREATE TABLE {table} AS SELECT * FROM given_rows")
                con.unregister("given_rows")
            else:
                columns = ", ".join(
                    f"{ident(c.name)} {c.sql_type(id_type)}" for c in (*contract.columns, *LANDING_COLUMNS)
                )
                con.execute(f"CREATE TABLE {table} ({columns})")
        yield con


@dataclass(frozen=True)
class Span:
    """Accounts from one id up to the next, which is left out; None is open. A part of the book at a time."""

    low: str | int | None = None
    high: str | int | None = None

    def holds(self, column: str) -> str:
        """A SQL condition, on a quoted column."""
        bounds = [f"{column} >= {literal(self.low)}"] if self.low is not None else []
        bounds += [f"{column} < {literal(self.high)}"] if self.high is not None else []
        return " AND ".join(bounds) or "true"


EVERYBODY = Span()


@contextmanager
def of_snapshot(
    settings: Settings, snapshot: int, models: Iterable[RecordedModel], span: Span = EVERYBODY
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Build models over the raw rows of the lake at a snapshot; gone afterwards.

    span: only the rows of these accounts. A row that belongs to no account is there for each of them.
    The lake at that snapshot is attached as ``recorded``. Raises NotFound when the snapshot is not there any more, and
    MachineRefused when there is too little memory, or disk to spill to.
    """
    with closing(lake.connect(settings, snapshot=snapshot, alias=RECORDED)) as con:
        con.execute("USE memory")
        # In memory, and beyond the memory limit in the spill folder: a database file costs a quarter more time.
        con.execute(f"ATTACH ':memory:' AS {lake.ALIAS}")
        con.execute(f"CREATE SCHEMA {ident(lake.ALIAS, 'raw')}")
        for name in CONTRACTS:
            con.execute(
                f"CREATE VIEW {ident(lake.ALIAS, 'raw', name)} AS SELECT * FROM {ident(RECORDED, 'raw', name)} "
                f"WHERE {span.holds(ident(_ACCOUNT[name])) if name in _ACCOUNT else 'true'}"
            )
        try:
            build(con, models)
        except NotFound as error:  # of a whole book, memory or the disk it spills to may be why
            if error.__cause__ and (machine := explained(error.__cause__, settings.home)):
                raise machine from error
            raise
        yield con


def build(con: duckdb.DuckDBPyConnection, models: Iterable[RecordedModel]) -> None:
    """Run each model's archived SQL, upstream first, into the scratch catalog. Raises NotFound naming a model whose
    SQL does not run on this DuckDB any more."""
    for schema in dict.fromkeys(m.schema for m in models):
        con.execute(f"CREATE SCHEMA IF NOT EXISTS {ident(lake.ALIAS, schema)}")
    for model in models:
        kind = "VIEW" if model.view else "TABLE"
        try:
            con.execute(f"CREATE {kind} {model.relation} AS {model.sql}")
        except duckdb.Error as error:
            raise NotFound(
                f"the archived SQL of {model.name} ({model.sha256[:12]}) does not run here: "
                f"{str(error).splitlines()[0]}",
                "replay with the DuckDB version that the run recorded; `scoretrace trace` names it",
            ) from error
