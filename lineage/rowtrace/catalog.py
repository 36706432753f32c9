"""What one connection knows about the names of a query: tables, views, columns and functions.

``Facts`` is a value: two connections that know the same have equal facts, so an annotated query can be kept and used
again as long as the facts are the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import duckdb
from sqlglot import exp

from lineage.kept import Kept
from lineage.rowtrace.parsing import parse
from pipeline.sql import literals


@dataclass(frozen=True)
class BaseTable:
    """A table that has row ids. ``columns`` are (name, DuckDB type) in order, ``required`` those that are NOT NULL."""

    database: str
    schema: str
    name: str
    columns: tuple[tuple[str, str], ...]
    required: frozenset[str] = frozenset()


@dataclass(frozen=True)
class View:
    database: str
    schema: str
    name: str
    sql: str


@dataclass(frozen=True)
class Facts:
    database: str
    schema: str
    tables: tuple[BaseTable, ...]
    views: tuple[View, ...]
    aggregates: frozenset[str]
    """Functions of the query that aggregate."""
    refused: tuple[tuple[str, str], ...]
    """(function, why) for those that are volatile or the user's own."""

    @property
    def fingerprint(self) -> list[object]:
        """The facts as JSON takes them, in one order: the same in every process."""
        tables = [[t.database, t.schema, t.name, t.columns, sorted(t.required)] for t in self.tables]
        views = [[v.database, v.schema, v.name, v.sql] for v in self.views]
        return [self.database, self.schema, sorted(map(repr, tables)), views, sorted(self.aggregates), self.refused]

    def find(self, parts: tuple[str, ...], context: tuple[str, str] | None = None) -> BaseTable | View | None:
        """Resolve a name of one to three parts as DuckDB does: temporary objects, then the schema in use.

        context: (database, schema) of the view whose text the name stands in.
        """
        lowered = tuple(p.lower() for p in parts)
        places: list[tuple[str, str]] = []
        if len(parts) == 3:
            places = [(lowered[0], lowered[1])]
        else:
            paths = [p for p in (context, (self.database, self.schema)) if p]
            if len(parts) == 2:
                places = [(database, lowered[0]) for database, _ in paths] + [(lowered[0], "main")]
            else:
                places = [("temp", "main"), *paths, *((database, "main") for database, _ in paths)]
        for database, schema in places:
            everything: tuple[BaseTable | View, ...] = (*self.tables, *self.views)
            for found in everything:
                if (found.database.lower(), found.schema.lower(), found.name.lower()) == (
                    database.lower(),
                    schema.lower(),
                    lowered[-1],
                ):
                    return found
        return None


def gather(con: duckdb.DuckDBPyConnection, sql: str, kept: Kept | None = None) -> Facts:
    """Look up every name that the query and its views use. Raises Refusal if it is no query."""
    row = con.execute("SELECT current_database(), current_schema()").fetchone()
    assert row is not None
    views: dict[str, tuple[View, ...]] = {}
    wanted, functions = (set(names) for names in _names(sql, kept))
    seen: set[str] = set()
    while new := wanted - seen:
        seen |= new
        for database, schema, name, sql in con.execute(
            f"""SELECT database_name, schema_name, view_name, sql FROM duckdb_views()
                WHERE NOT internal AND lower(view_name) IN ({literals(sorted(new))})"""
        ).fetchall():
            views[name.lower()] = (*views.get(name.lower(), ()), View(database, schema, name, sql))
            tables_in, functions_in = _names(sql, kept)
            wanted |= tables_in
            functions |= functions_in
    columns: dict[tuple[str, str, str], list[tuple[str, str, bool]]] = {}
    if seen:
        for database, schema, table, column, kind, nullable in con.execute(
            f"""SELECT database_name, schema_name, table_name, column_name, data_type, is_nullable FROM duckdb_columns()
                WHERE NOT internal AND lower(table_name) IN ({literals(sorted(seen))})
                ORDER BY database_name, schema_name, table_name, column_index"""
        ).fetchall():
            columns.setdefault((database, schema, table), []).append((column, kind, nullable))
    known_views = {(v.database, v.schema, v.name) for group in views.values() for v in group}
    tables = tuple(
        BaseTable(*at, tuple((n, k) for n, k, _ in found), frozenset(n.lower() for n, _, null in found if not null))
        for at, found in columns.items()
        if at not in known_views
    )
    aggregates, refused = _functions(con, functions)
    return Facts(
        str(row[0]),
        str(row[1]),
        tables,
        tuple(v for key in sorted(views) for v in views[key]),
        aggregates,
        refused,
    )


@lru_cache(maxsize=256)
def _names(sql: str, kept: Kept | None = None) -> tuple[frozenset[str], frozenset[str]]:
    """Tables and views, by their last part, and functions that one text names; in lower case."""
    known = kept.recall("names in", sql) if kept else None
    if known is not None:
        return frozenset(known[0]), frozenset(known[1])
    tree = parse(sql)
    names = frozenset(_table_names(tree)), frozenset(_function_names(tree))
    if kept:
        kept.keep([sorted(n) for n in names], "names in", sql)
    return names


def _function_names(tree: exp.Expression) -> set[str]:
    """Lower-case names of the functions as DuckDB spells them, besides those the parser knows to be plain."""
    names = set()
    for node in tree.find_all(exp.Func):
        if isinstance(node, exp.Anonymous | exp.AnonymousAggFunc):
            names.add(str(node.this).lower())
        elif isinstance(node, exp.Rand | exp.Uuid):
            names.add(node.sql(dialect="duckdb").split("(")[0].lower())
    return names


def _functions(
    con: duckdb.DuckDBPyConnection, names: Iterable[str]
) -> tuple[frozenset[str], tuple[tuple[str, str], ...]]:
    wanted = sorted(names)
    if not wanted:
        return frozenset(), ()
    aggregates: set[str] = set()
    refused: dict[str, str] = {}
    for name, kind, stability, internal in con.execute(
        f"""SELECT DISTINCT lower(function_name), function_type, stability, internal FROM duckdb_functions()
            WHERE lower(function_name) IN ({literals(wanted)})"""
    ).fetchall():
        if kind == "aggregate":
            aggregates.add(name)
        if stability == "VOLATILE" and name != "error":
            refused[name] = f"volatile function {name}"
        elif "macro" in kind and not internal:
            refused[name] = f"user-defined macro {name}"
        elif name not in _own_functions():
            refused[name] = f"user-defined function {name}"
    return frozenset(aggregates), tuple(sorted(refused.items()))


@cache
def _own_functions() -> frozenset[str]:
    """Names that DuckDB has by itself (a function made in Python is listed as internal, like them)."""
    with duckdb.connect() as pristine:
        rows = pristine.execute("SELECT DISTINCT lower(function_name) FROM duckdb_functions()").fetchall()
    return frozenset(str(name) for (name,) in rows)


def _table_names(tree: exp.Expression) -> set[str]:
    return {t.name.lower() for t in tree.find_all(exp.Table) if t.name and isinstance(t.this, exp.Identifier)}
