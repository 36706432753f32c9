"""The sandbox of one subject after another: the same archived SQL over other rows, planned once.

Planning a night's models takes as long as running them over a handful of rows. So a scratch catalog waits for the next
subject of the same night, with its raw tables empty and its SQL prepared. Every use is a transaction that is rolled
back: nothing of one subject is there for another. A catalog in which something failed is thrown away.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import duckdb
import pyarrow as pa

from lineage import sandbox
from lineage.recording import RecordedModel
from pipeline import lake
from pipeline.contracts import CONTRACTS
from pipeline.sql import ident

MOST_WAITING = 3
"""Scratch catalogs that wait for their next subject; each takes some ten megabytes."""

_Key = tuple[tuple[str, ...], tuple[tuple[str, str], ...], str]
_waiting: dict[_Key, _Scratch] = {}
_lock = threading.Lock()


@contextmanager
def of_rows(
    models: Iterable[RecordedModel], rows: Mapping[str, pa.Table], id_type: str
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Build models over the rows of one subject (raw table → its rows); tables not given are empty.

    Raises NotFound naming a model whose SQL does not run on this DuckDB any more.
    """
    wanted = tuple(models)
    key = (
        tuple(m.relation + m.sha256 for m in wanted),
        tuple((name, str(rows[name].schema)) for name in CONTRACTS if name in rows),
        id_type,
    )
    with _lock:
        scratch = _waiting.pop(key, None)
    scratch = scratch or _Scratch(wanted, {name: table.slice(0, 0) for name, table in rows.items()}, id_type)
    try:
        with scratch.holding(rows) as con:
            yield con
    except BaseException:
        scratch.close()
        raise
    with _lock:
        surplus = [_waiting.pop(key)] if key in _waiting else []
        _waiting[key] = scratch
        while len(_waiting) > MOST_WAITING:
            surplus.append(_waiting.pop(next(iter(_waiting))))
    for old in surplus:
        old.close()


class _Scratch:
    """A scratch catalog. What a model's columns are is known from its first use, and it is prepared for the second."""

    def __init__(self, models: tuple[RecordedModel, ...], empty: Mapping[str, pa.Table], id_type: str) -> None:
        self._models = models
        self._raw = sandbox.of_raw(empty, id_type)
        self._con = self._raw.__enter__()
        for schema in dict.fromkeys(m.schema for m in models):
            self._con.execute(f"CREATE SCHEMA {ident(lake.ALIAS, schema)}")
        self._columns: dict[str, str] = {}  # relation → its columns with their types
        self._prepared = False

    @contextmanager
    def holding(self, rows: Mapping[str, pa.Table]) -> Iterator[duckdb.DuckDBPyConnection]:
        """The models over these rows, until the end of the block."""
        if self._columns and not self._prepared:
            self._prepare()
        self._con.execute("BEGIN")
        for name, table in rows.items():
            self._con.register("given_rows", table)
            self._con.execute(f"INSERT INTO {ident(lake.ALIAS, 'raw', name)} SELECT * FROM given_rows")
            self._con.unregister("given_rows")
        if self._prepared:
            for number, model in enumerate(self._models):
                if not model.view:
                    self._con.execute(f"EXECUTE model_{number}")
        else:
            sandbox.build(self._con, self._models)
            self._columns = {m.relation: self._described(m) for m in self._models if not m.view}
        yield self._con
        self._con.execute("ROLLBACK")

    def _described(self, model: RecordedModel) -> str:
        columns = self._con.execute(f"DESCRIBE {model.relation}").fetchall()
        return ", ".join(f"{ident(name)} {kind}" for name, kind, *_ in columns)

    def _prepare(self) -> None:
        for number, model in enumerate(self._models):
            if model.view:
                self._con.execute(f"CREATE VIEW {model.relation} AS {model.sql}")
            else:
                self._con.execute(f"CREATE TABLE {model.relation} ({self._columns[model.relation]})")
                self._con.execute(f"PREPARE model_{number} AS INSERT INTO {model.relation} {model.sql}")
        self._prepared = True

    def close(self) -> None:
        self._raw.__exit__(None, None, None)
