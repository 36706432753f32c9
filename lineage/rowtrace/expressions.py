"""Small questions about SQL expressions, and the few expressions that annotation is made of."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from sqlglot import exp

from lineage.rowtrace.parsing import DIALECT

ROWS = "__rows"
"""The column that an annotated query has besides its own: HUGEINT[], see ``code``. Of a base table, and of a source
whose answer is still to be named; where many questions are answered, a number follows."""
_LIST = re.compile(rf"{ROWS}\d*")
SHIFT = 1 << 64
TIE = -1
"""In a list of rows: this row is here only because a LIMIT had to choose between equals."""
FRAME_TIE = -2
"""In a list of rows: a frame that counts rows had to choose between equals."""

_RANKING = ("row_number", "rank", "dense_rank", "percent_rank", "cume_dist", "ntile")
_BLIND_TO_COUNT = (
    exp.Max, exp.Min, exp.AnyValue, exp.LogicalAnd, exp.LogicalOr, exp.ArgMax, exp.ArgMin,
    exp.BitwiseAndAgg, exp.BitwiseOrAgg,
)  # fmt: skip
# Aggregates that pass over NULL, so that a CASE without ELSE around their argument is a filter.
_PASS_OVER_NULL = (
    exp.Sum, exp.Count, exp.Min, exp.Max, exp.Avg, exp.AnyValue, exp.Stddev, exp.StddevPop, exp.StddevSamp,
    exp.Variance, exp.VariancePop, exp.Median, exp.GroupConcat, exp.LogicalAnd, exp.LogicalOr, exp.CountIf,
)  # fmt: skip


def is_list(name: str) -> bool:
    """Whether a column of an annotated query is one that answers an ask."""
    return _LIST.fullmatch(name) is not None


def walk(node: exp.Expression) -> Iterator[exp.Expression]:
    """The node and what is under it, subqueries shown but not entered."""
    yield node
    if isinstance(node, exp.Query) and not isinstance(node, exp.Table):
        return
    for child in node.iter_expressions():
        yield from walk(child)


def subqueries(node: exp.Expression) -> list[exp.Expression]:
    return [n for n in walk(node) if isinstance(n, exp.Query)]


def windows(node: exp.Expression) -> list[exp.Window]:
    return [n for n in walk(node) if isinstance(n, exp.Window)]


def window_function(window: exp.Window) -> exp.Expression:
    """The function itself, without FILTER, IGNORE NULLS and the like around it."""
    node = window.this
    while isinstance(node, exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
        node = node.this
    return node


def is_ranking(function: exp.Expression) -> bool:
    return name_of(function) in _RANKING


def name_of(function: exp.Expression) -> str:
    if isinstance(function, exp.Anonymous | exp.AnonymousAggFunc):
        return str(function.this).lower()
    return str(function.sql(dialect=DIALECT)).split("(")[0].strip().lower()


def aggregates(node: exp.Expression, named: frozenset[str]) -> list[exp.Expression]:
    """Aggregate calls of this level, each with its FILTER; window functions are none, their arguments may hold some."""
    own = {id(window_function(w)) for w in windows(node)}
    found = []

    def visit(n: exp.Expression) -> None:
        if isinstance(n, exp.Query):
            return
        inner = n
        while isinstance(inner, exp.Filter | exp.IgnoreNulls | exp.RespectNulls | exp.WithinGroup):
            inner = inner.this
        plain = isinstance(inner, exp.AggFunc | exp.AnonymousAggFunc) or (
            isinstance(inner, exp.Anonymous) and str(inner.this).lower() in named
        )
        if (plain or isinstance(inner, exp.Grouping)) and id(inner) not in own:
            found.append(n)
            return
        for child in n.iter_expressions():
            visit(child)

    visit(node)
    return found


def counts_rows(aggregate: exp.Expression) -> bool:
    """Whether the same row twice changes the value."""
    inner = aggregate.this if isinstance(aggregate, exp.Filter) else aggregate
    return not (isinstance(inner, _BLIND_TO_COUNT) or isinstance(inner.this, exp.Distinct))


@dataclass(frozen=True)
class Condition:
    """Which rows can move an aggregate. ``zero_otherwise``: the others add 0, so that with them it is not NULL."""

    rows: exp.Expression
    zero_otherwise: bool


def condition_of(aggregate: exp.Expression) -> Condition | None:
    """The rows that can move an aggregate: its FILTER, and the CASE around its argument; None when all can.

    ``sum(CASE WHEN c THEN x ELSE 0 END)`` and ``max(CASE WHEN c THEN x END)`` are told as rows where ``c``.
    """
    parts: list[exp.Expression] = []
    zero = False
    if isinstance(aggregate, exp.Filter):
        parts.append(aggregate.expression.this.copy())
        aggregate = aggregate.this
    if isinstance(aggregate, exp.CountIf):
        parts.append(aggregate.this.copy())
    elif isinstance(aggregate, _PASS_OVER_NULL):
        argument = aggregate.this
        if isinstance(argument, exp.Distinct) and len(argument.expressions) == 1:
            argument = argument.expressions[0]
        branch = _case_condition(argument, summed=isinstance(aggregate, exp.Sum))
        if branch is not None:
            parts.append(branch.rows)
            zero = branch.zero_otherwise
    if not parts or any(subqueries(p) for p in parts):
        return None
    return Condition(exp.and_(*parts, copy=False), zero)


def _case_condition(node: exp.Expression, *, summed: bool) -> Condition | None:
    while isinstance(node, exp.Cast | exp.Paren | exp.Ordered | exp.Order):
        node = node.this
    if isinstance(node, exp.If):
        node = exp.Case(ifs=[exp.If(this=node.this, true=node.args["true"])], default=node.args.get("false"))
    if not isinstance(node, exp.Case):
        return None

    def zero(value: exp.Expression | None) -> bool:
        return summed and isinstance(value, exp.Literal) and not value.is_string and float(value.this) == 0

    def still(value: exp.Expression | None) -> bool:
        return value is None or isinstance(value, exp.Null) or zero(value)

    default = node.args.get("default")
    values = [i.args["true"] for i in node.args["ifs"]] + [default]
    if not any(still(v) for v in values):
        return None
    by_zero = any(zero(v) for v in values)

    def moves(value: exp.Expression | None) -> exp.Expression:
        if value is None or still(value):
            return exp.Boolean(this=False)
        # A NULL that is summed with zeros moves nothing, and alone would make the sum NULL.
        return exp.Not(this=exp.Is(this=exp.Paren(this=value.copy()), expression=exp.Null())) if by_zero else exp.true()

    ifs = [exp.If(this=i.this.copy(), true=moves(i.args["true"])) for i in node.args["ifs"]]
    subject = node.this.copy() if node.this else None
    return Condition(exp.Case(this=subject, ifs=ifs, default=moves(default)), by_zero)


def conjuncts(condition: exp.Expression | None) -> list[exp.Expression]:
    if condition is None:
        return []
    while isinstance(condition, exp.Paren | exp.Where | exp.Having | exp.Qualify):
        condition = condition.this
    if isinstance(condition, exp.And):
        return conjuncts(condition.this) + conjuncts(condition.expression)
    return [condition]


def column(table: str, name: str) -> exp.Column:
    return exp.column(name, table=table, quoted=True)


def code(table_index: int, rowid: exp.Expression) -> exp.Expression:
    """One row of one table as a HUGEINT: the table in the upper half, the row id in the lower."""
    wide = exp.cast(rowid, "HUGEINT")
    if not table_index:
        return wide
    return exp.Add(this=wide, expression=exp.cast(exp.Literal.string(str(table_index * SHIFT)), "HUGEINT"))


def concat(pieces: Sequence[exp.Expression]) -> exp.Expression:
    """Lists one after another; a list that is NULL counts as empty."""
    if not pieces:
        return exp.cast(exp.Array(expressions=[]), "HUGEINT[]")
    if len(pieces) == 1:
        return pieces[0].copy()
    return call("flatten", exp.Array(expressions=[p.copy() for p in pieces]))


def gathered(rows: exp.Expression, only: exp.Expression | None = None) -> exp.Expression:
    """Aggregate: the rows of many lists, each once."""
    inner: exp.Expression = call("list", rows.copy())
    if only is not None:
        inner = exp.Filter(this=inner, expression=exp.Where(this=only.copy()))
    return call("list_distinct", call("flatten", inner))


def call(name: str, *arguments: exp.Expression) -> exp.Expression:
    return exp.Anonymous(this=name, expressions=list(arguments))


def moved(node: exp.Expression, alias: str, to: str) -> exp.Expression:
    """The expression over another reading of the same relation."""
    copy = node.copy()
    for c in copy.find_all(exp.Column):
        if c.table == alias:
            c.set("table", exp.to_identifier(to, quoted=True))
    return copy


def derived(query: exp.Expression, alias: str) -> exp.Subquery:
    return exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))


def columns_of(nodes: Iterable[exp.Expression], aliases: Iterable[str]) -> dict[str, set[str]]:
    """alias → columns used of it, subqueries included: aliases are unique, so a correlated column is told apart."""
    mine = set(aliases)
    used: dict[str, set[str]] = {a: set() for a in mine}
    for node in nodes:
        for found in node.find_all(exp.Column):
            if found.table in mine and not is_list(found.name):
                used[found.table].add(found.name)
    return used
