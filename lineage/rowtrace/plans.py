"""The annotated query for one text, key and choice of columns, kept for the next time with other values of the key."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from functools import lru_cache

from lineage.kept import Kept
from lineage.rowtrace.annotate import Annotator
from lineage.rowtrace.catalog import Facts
from lineage.rowtrace.demand import Ask, Built, Demand, key_constant
from lineage.rowtrace.expressions import SHIFT
from lineage.rowtrace.parsing import parse
from lineage.rowtrace.resolve import Resolved, outputs, resolve
from pipeline.sql import ident

_PLANNING = 2  # raised when the same query is planned differently


@dataclass
class Plan:
    """An annotated query as SQL: (number, table, row ids) of what is behind each feature."""

    sql: str
    tables: list[str]
    outputs: list[str]
    types: list[str | None]
    """Per key column its type; None until DuckDB is asked for it."""
    numbers: list[int]
    """Per feature the number that its rows come under."""
    lists: int
    """How many numbers there are."""
    reads: list[tuple[int, list[str]]]
    """Per place that reads a table: which one, and the columns that must equal a value of the key there."""
    built: Built | None = field(default=None, repr=False)
    """Where its leaves are; None for a plan that was kept."""


@lru_cache(maxsize=128)
def kept_plan(
    sql: str,
    names: tuple[str, ...],
    nulls: tuple[bool, ...],
    features: tuple[str, ...] | None,
    facts: Facts,
    kept: Kept | None = None,
) -> Plan:
    """``make_plan``, remembered in this process and, in ``kept``, for the next one."""
    depends = (_PLANNING, sql, names, nulls, features, facts.fingerprint)
    known = kept.recall(*depends) if kept else None
    if known is not None:
        return Plan(**known)
    plan = make_plan(sql, names, nulls, features, facts, loose=False)
    if kept:
        told = {f.name: getattr(plan, f.name) for f in fields(plan) if f.name != "built"}
        kept.keep(told, *depends)
    return plan


@lru_cache(maxsize=64)
def resolved_query(sql: str, facts: Facts) -> Resolved:
    return resolve(parse(sql), facts)


@lru_cache(maxsize=128)
def known_outputs(sql: str, facts: Facts, kept: Kept | None = None) -> list[str]:
    """Names of the query's output columns."""
    known: list[str] | None = kept.recall("outputs of", sql, facts.fingerprint) if kept else None
    if known is None:
        known = outputs(resolved_query(sql, facts).root)
        if kept:
            kept.keep(known, "outputs of", sql, facts.fingerprint)
    return known


def make_plan(
    sql: str,
    names: tuple[str, ...],
    nulls: tuple[bool, ...],
    features: tuple[str, ...] | None,
    facts: Facts,
    *,
    loose: bool,
) -> Plan:
    """The annotated query of one text, for any values of its key. Raises Refusal.

    names: output columns of the key. nulls: which of them are NULL. features: the columns whose rows are told, each
    apart; None tells those of the whole row. loose: as for ``Annotator``.
    """
    resolved = resolved_query(sql, facts)
    known = outputs(resolved.root)
    missing = frozenset(i for i, is_null in enumerate(nulls) if is_null)
    if features is None:
        wanted = [Ask(frozenset(known))]
    else:
        wanted = [Ask(frozenset({f}), frozenset(names) - {f}) for f in features]
    annotator = Annotator(resolved, feature=features is not None, nulls=missing, loose=loose)
    demand = Demand(frozenset(names), tuple(dict.fromkeys(wanted)), frozenset((c, i) for i, c in enumerate(names)))
    built = annotator.build(demand)
    filters = [f"{ident(c)} IS NULL" if nulls[i] else f"{ident(c)} = {key_constant(i)}" for i, c in enumerate(names)]
    where = f"WHERE {' AND '.join(filters)}" if filters else ""
    lists = list(dict.fromkeys(built.lists.values()))
    text = f"""
        SELECT number, CASE WHEN row < 0 THEN row::INTEGER ELSE (row // {SHIFT})::INTEGER END AS base,
            list_sort(list(DISTINCT (row % {SHIFT})::BIGINT)) AS ids
        FROM (
            SELECT number, unnest(rows) AS row
            FROM (
                SELECT unnest(range({len(lists)})) AS number, unnest([{", ".join(map(ident, lists))}]) AS rows
                FROM ({built.sql}) AS result {where}
            )
        )
        WHERE row IS NOT NULL
        GROUP BY number, base"""
    kinds = [annotator.shapes.output_type(resolved.root, c) for c in names]
    numbers = [lists.index(built.lists[ask]) for ask in wanted]
    reads = [(leaf.table, sorted(c.lower() for c, _ in leaf.known)) for leaf in built.leaves]
    return Plan(text, [resolved.written[t] for t in resolved.tables], known, kinds, numbers, len(lists), reads, built)
