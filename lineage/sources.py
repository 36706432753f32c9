"""The raw rows behind each feature of one subject, fetched once and told apart by feature."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lineage.kept import Kept
from lineage.recording import Recording
from lineage.rows import contributing_rows, contributing_rows_by_column
from pipeline.contracts import CONTRACTS, ID

RowIds = Mapping[str, tuple[int, ...]]
"""Raw table (without its schema) → sorted row ids; tables without rows are left out."""

Renaming = Mapping[Any, Any]

ROWID = "rowid"


@dataclass(frozen=True, eq=False)
class SourceRows:
    """The raw rows behind a subject. tables: raw table → its rows as they are in the lake, ``rowid`` first."""

    tables: Mapping[str, pa.Table] = field(repr=False)

    def __len__(self) -> int:
        return sum(t.num_rows for t in self.tables.values())

    def only(self, name: str, ids: Sequence[int]) -> pa.Table:
        """The rows of one table with these row ids."""
        return self.tables[name].filter(pc.is_in(self.tables[name][ROWID], pa.array(ids, pa.int64())))

    def everything(self) -> dict[str, pa.Table]:
        """All rows without their row ids: what a sandbox is given."""
        return {name: table.drop_columns([ROWID]) for name, table in self.tables.items()}

    def as_dicts(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Raw table → row id → the row by column name."""
        return {name: {row[ROWID]: row for row in table.to_pylist()} for name, table in self.tables.items()}


def rows_behind(con: duckdb.DuckDBPyConnection, recorded: Recording, subject_id: int | str) -> RowIds:
    """The row ids behind the subject's whole feature row. con: the lake at the publication's snapshot."""
    return _plain(
        contributing_rows(recorded.one_query(), {recorded.key: subject_id}, con, kept=Kept.of(recorded.settings))
    )


def rows_by_feature(
    con: duckdb.DuckDBPyConnection, recorded: Recording, subject_id: int | str, features: Sequence[str]
) -> dict[str, RowIds]:
    """The row ids behind each of the features' values."""
    kept = Kept.of(recorded.settings)
    found = contributing_rows_by_column(recorded.one_query(), {recorded.key: subject_id}, con, features, kept=kept)
    return {feature: _plain(found[feature]) for feature in features}


def union(found: Sequence[RowIds]) -> RowIds:
    """Every row of any of them."""
    tables = sorted({name for rows in found for name in rows})
    return {name: tuple(sorted({i for rows in found for i in rows.get(name, ())})) for name in tables}


def fetch(con: duckdb.DuckDBPyConnection, wanted: RowIds) -> SourceRows:
    """Read the rows themselves."""
    return SourceRows(
        {
            name: con.execute(
                f"SELECT rowid, * FROM lake.raw.{name} WHERE rowid IN ({', '.join(map(str, ids))}) ORDER BY rowid"
            ).to_arrow_table()
            for name, ids in wanted.items()
        }
    )


def with_copies(rows: SourceRows, sets: Sequence[RowIds], id_type: str) -> tuple[dict[str, pa.Table], list[Renaming]]:
    """All rows as they are and, beside them, each row set once more under ids of its own; and each set's renaming.

    Ids are renamed throughout (accounts, payments, applications), so that no row of one set can meet a row of another
    in a join, a group or a partition: one run of the SQL then proves every set by itself. Renaming is one to one, so
    SQL that only compares ids gives a set the values that the original ids would have; SQL that computes with them
    does not, and the set then counts as unproved. A renaming maps an original id to the set's own.
    """
    named = (table[c].to_pylist() for name, table in rows.tables.items() for c in _id_columns(name))
    ids = sorted({v for values in named for v in values if v is not None})
    lowest = min([0, *ids]) if id_type == "BIGINT" else 0

    def renamed(number: int) -> Renaming:
        if id_type == "BIGINT":
            return {v: lowest - 1 - number * len(ids) - i for i, v in enumerate(ids)}
        return {v: f"{number}|{v}" for v in ids}

    renamings = [renamed(number) for number in range(len(sets))]
    tables = {}
    for name, table in rows.everything().items():
        parts = [table]
        for wanted, renaming in zip(sets, renamings, strict=True):
            part = rows.only(name, wanted.get(name, ())).drop_columns([ROWID])
            for column in _id_columns(name):
                at = part.schema.get_field_index(column)
                values = [None if v is None else renaming[v] for v in part[column].to_pylist()]
                part = part.set_column(at, part.schema.field(at), pa.array(values, part.schema.field(at).type))
            parts.append(part)
        tables[name] = pa.concat_tables(parts)
    return tables, renamings


def strangers(rows: SourceRows, wanted: RowIds, subject: str, subject_id: int | str) -> bool:
    """Whether any wanted row names another subject: the value is then a population's, not this subject's alone."""
    for name, ids in wanted.items():
        for column in {f"{subject}_id", "subject_id"} & set(_id_columns(name)):
            if any(v not in (None, subject_id) for v in rows.only(name, ids)[column].to_pylist()):
                return True
    return False


def _id_columns(table: str) -> list[str]:
    return [c.name for c in CONTRACTS[table].columns if c.type == ID]


def _plain(found: Mapping[str, Sequence[int]]) -> RowIds:
    """Names as the archived SQL writes them, without the catalog and the schema."""
    return {name.rpartition(".")[2]: tuple(ids) for name, ids in found.items() if ids}
