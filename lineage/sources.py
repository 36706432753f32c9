"""The raw rows behind each feature of one subject, fetched once and told apart by feature."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

from lineage import subject_sandbox
from lineage.kept import Kept
from lineage.recording import Recording
from lineage.rows import Refused, contributing_rows, contributing_rows_by_column, narrowed_to_key
from pipeline.contracts import CONTRACTS, ID

RowIds = Mapping[str, tuple[int, ...]]
"""Raw table (without its schema) → sorted row ids; tables without rows are left out."""

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

    def known_by(self, day: date) -> SourceRows:
        """Those that had landed by a date: of a night that looks back, the lake holds later ones too."""
        return SourceRows({n: t.filter(pc.less_equal(t["load_date"], pa.scalar(day))) for n, t in self.tables.items()})

    def as_dicts(self) -> dict[str, dict[int, dict[str, Any]]]:
        """Raw table → row id → the row by column name."""
        return {name: {row[ROWID]: row for row in table.to_pylist()} for name, table in self.tables.items()}


def own_rows(con: duckdb.DuckDBPyConnection, recorded: Recording, subject_id: int | str) -> SourceRows:
    """Every raw row that names the subject, of the tables that the models read: a plain look-up, without lineage.

    For features of a subject's own that is all they can depend on. For one that reads other subjects' rows it is not.
    """
    texts = " ".join(m.sql for m in recorded.models)
    wanted = {name: _naming(recorded, name) for name in CONTRACTS if f'"raw"."{name}"' in texts}

    def look_up(name: str) -> pa.Table:
        where = " OR ".join(f"{column} = ?" for column in wanted[name])
        sql = f"SELECT rowid, * FROM lake.raw.{name} WHERE {where} ORDER BY rowid"
        with con.cursor() as cursor:
            return cursor.execute(sql, [subject_id] * len(wanted[name])).to_arrow_table()

    # Each look-up mostly opens files: side by side they take as long as the longest.
    with ThreadPoolExecutor(max_workers=4) as pool:
        named = [name for name, columns in wanted.items() if columns]
        return SourceRows(dict(zip(named, pool.map(look_up, named), strict=True)))


def rows_behind(
    con: duckdb.DuckDBPyConnection, recorded: Recording, subject_id: int | str, own: SourceRows | None = None
) -> RowIds:
    """The row ids behind the subject's whole feature row. Arguments as ``rows_by_feature``."""
    with _asked(con, recorded, subject_id, None, own) as at:
        return _plain(
            contributing_rows(recorded.one_query, {recorded.key: subject_id}, at, kept=Kept.of(recorded.settings))
        )


def rows_by_feature(
    con: duckdb.DuckDBPyConnection,
    recorded: Recording,
    subject_id: int | str,
    features: Sequence[str],
    own: SourceRows | None = None,
) -> dict[str, RowIds]:
    """The row ids behind each of the features' values.

    con: the lake at the publication's snapshot. own: what ``own_rows`` found, so that the lake need not be asked where
    no other rows can be behind the features.
    """
    kept = Kept.of(recorded.settings)
    with _asked(con, recorded, subject_id, features, own) as at:
        found = contributing_rows_by_column(recorded.one_query, {recorded.key: subject_id}, at, features, kept=kept)
    return {feature: _plain(found[feature]) for feature in features}


@contextmanager
def _asked(
    con: duckdb.DuckDBPyConnection,
    recorded: Recording,
    subject_id: int | str,
    features: Sequence[str] | None,
    own: SourceRows | None,
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Whom to ask for rows: the subject's own rows, if the query can reach no others; else the lake."""
    if own is None:
        yield con
        return
    with subject_sandbox.of_rows((), own.tables, recorded.portfolio().id_type) as box:
        try:
            reads = narrowed_to_key(
                recorded.one_query, {recorded.key: subject_id}, box, features, kept=Kept.of(recorded.settings)
            )
            alone = all(columns & set(_naming(recorded, table.rpartition(".")[2])) for table, columns in reads)
        except Refused:  # the lake says what stands in the way, with a superset
            alone = False
        yield box if alone else con


def union(found: Sequence[RowIds]) -> RowIds:
    """Every row of any of them."""
    tables = sorted({name for rows in found for name in rows})
    return {name: tuple(sorted({i for rows in found for i in rows.get(name, ())})) for name in tables}


def fetch(con: duckdb.DuckDBPyConnection, wanted: RowIds, own: SourceRows | None = None) -> SourceRows:
    """Read the rows themselves. own: rows that were looked up already, and are taken from there.

    By row id alone every file of a table is read; most rows behind a subject are the subject's own, which the files
    are sorted by.
    """
    tables = {}
    for name, ids in wanted.items():
        known = own.only(name, ids) if own is not None and name in own.tables else None
        rest = sorted(set(ids) - set(known[ROWID].to_pylist())) if known is not None else ids
        if known is not None and not rest:
            tables[name] = known
            continue
        found = con.execute(
            f"SELECT rowid, * FROM lake.raw.{name} WHERE rowid IN ({', '.join(map(str, rest))}) ORDER BY rowid"
        ).to_arrow_table()
        tables[name] = found if known is None else pa.concat_tables([known, found]).sort_by(ROWID)
    return SourceRows(tables)


def with_copies(rows: SourceRows, sets: Sequence[RowIds], id_type: str) -> tuple[dict[str, pa.Table], Copies]:
    """All rows as they are and, beside them, each row set once more under ids of its own.

    Ids are renamed throughout (accounts, payments, applications), so that no row of one set can meet a row of another
    in a join, a group or a partition: one run of the SQL then proves every set by itself. Renaming is one to one and
    keeps the order, so SQL that only compares ids gives a set the values that the original ids would have; SQL that
    computes with them does not, and the set then counts as unproved.
    """
    named = (table[c].to_pylist() for name, table in rows.tables.items() for c in _id_columns(name))
    copies = Copies(sorted({v for values in named for v in values if v is not None}), id_type)
    tables = {}
    for name, table in rows.tables.items():
        place = {rowid: i for i, rowid in enumerate(table[ROWID].to_pylist())}
        chosen = [(number, place[i]) for number, wanted in enumerate(sets) for i in wanted.get(name, ())]
        plain = table.drop_columns([ROWID])
        part = plain.take(pa.array([at for _, at in chosen], pa.int64()))
        for column in _id_columns(name):
            at = part.schema.get_field_index(column)
            values = zip((number for number, _ in chosen), part[column].to_pylist(), strict=True)
            renamed = [None if v is None else copies.renamed(number, v) for number, v in values]
            part = part.set_column(at, part.schema.field(at), pa.array(renamed, part.schema.field(at).type))
        tables[name] = pa.concat_tables([plain, part])
    return tables, copies


class Copies:
    """How ids are called in the copy of each row set."""

    def __init__(self, ids: Sequence[Any], id_type: str) -> None:
        self._codes = {v: i for i, v in enumerate(ids)}
        self._lowest = min([0, *ids]) if id_type == "BIGINT" else None

    def renamed(self, number: int, value: Any) -> Any:
        """The id that stands for ``value`` in copy ``number``: below all ids that there are, or with a prefix."""
        if self._lowest is None:
            return f"{number}|{value}"
        span = len(self._codes) + 1  # one more, for an id that none of the rows has
        return self._lowest - (number + 1) * span + self._codes.get(value, span - 1)


def strangers(rows: SourceRows, subject: str, subject_id: int | str) -> dict[str, frozenset[int]]:
    """Raw table → row ids of rows that name another subject: a value with such a row behind it is a population's."""
    found: dict[str, set[int]] = {}
    for name, table in rows.tables.items():
        ids = table[ROWID].to_pylist()
        for column in {f"{subject}_id", "subject_id"} & set(_id_columns(name)):
            other = {i for i, v in zip(ids, table[column].to_pylist(), strict=True) if v not in (None, subject_id)}
            found[name] = found.get(name, set()) | other
    return {name: frozenset(ids) for name, ids in found.items()}


def _naming(recorded: Recording, table: str) -> list[str]:
    """The columns of a raw table that name the subject."""
    return sorted({recorded.key, "subject_id"} & set(_id_columns(table)))


def _id_columns(table: str) -> list[str]:
    return [c.name for c in CONTRACTS[table].columns if c.type == ID]


def _plain(found: Mapping[str, Sequence[int]]) -> RowIds:
    """Names as the archived SQL writes them, without the catalog and the schema."""
    return {name.rpartition(".")[2]: tuple(ids) for name, ids in found.items() if ids}
