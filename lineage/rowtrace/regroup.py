"""Relations that regroup or choose: DISTINCT, set operations, LIMIT."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.demand import Ask, Demand
from lineage.rowtrace.parsing import DIALECT, Refusal
from lineage.rowtrace.pushdown import Place
from lineage.rowtrace.resolve import outputs

if TYPE_CHECKING:
    from lineage.rowtrace.annotate import Annotator


def distinct(owner: Annotator, node: exp.Select, demand: Demand, outer: Mapping[Place, int]) -> exp.Expression:
    names = frozenset(outputs(node))
    on = node.args["distinct"].args.get("on")
    plain = node.copy()
    plain.set("distinct", None)
    alias = owner.fresh("d")
    if on is None:
        plain.set("order", None)
        inner = owner.query(plain, replace(demand, columns=names, asks=(Ask(names),)), outer)
        rows = x.gathered(x.column(alias, owner.answer(Ask(names))))
        return (
            exp.Select(
                expressions=[
                    *(x.column(alias, c) for c in sorted(demand.columns)),
                    *(exp.alias_(rows.copy(), owner.answer(ask), quoted=True) for ask in demand.asks),
                ]
            )
            .from_(x.derived(inner, alias))
            .group_by(*(x.column(alias, n) for n in outputs(node)))
        )
    keys = list(on.expressions) if isinstance(on, exp.Tuple) else [on]
    order = list(plain.args["order"].expressions) if plain.args.get("order") else []
    plain.set("order", None)
    added = _add_columns(owner, plain, [*keys, *(o.this for o in order)])
    key_names, order_names = added[: len(keys)], added[len(keys) :]
    on_outputs = {n for n, e in _by_name(node).items() if any(e == k for k in keys)}

    def below(ask: Ask) -> Ask:
        return Ask(ask.values, ask.conditions | set(added))

    known = frozenset((c, k) for c, k in demand.known if c in on_outputs)
    inner = owner.query(plain, Demand(demand.columns | set(added), demand.each(below), known), outer)
    partition = [x.column(alias, n) for n in key_names]
    orders = [_ordered(o, x.column(alias, n)) for o, n in zip(order, order_names, strict=True)]
    first = exp.Window(
        this=exp.RowNumber(),
        partition_by=partition,
        order=exp.Order(expressions=orders) if orders else None,
        over="OVER",
    )

    def together(ask: Ask) -> exp.Expression:
        rows = x.call("list", x.column(alias, owner.answer(below(ask))))
        return x.call("flatten", exp.Window(this=rows, partition_by=[p.copy() for p in partition], over="OVER"))

    select = exp.Select(
        expressions=[
            *(x.column(alias, c) for c in sorted(demand.columns)),
            *(exp.alias_(together(ask), owner.answer(ask), quoted=True) for ask in demand.asks),
        ]
    ).from_(x.derived(inner, alias))
    select.set("qualify", exp.Qualify(this=exp.EQ(this=first, expression=exp.Literal.number(1))))
    return select


def set_operation(
    owner: Annotator, node: exp.SetOperation, demand: Demand, outer: Mapping[Place, int]
) -> exp.Expression:
    if not isinstance(node, exp.Union):
        owner.refuse(type(node).__name__.upper())
    names = outputs(node)
    distinct = bool(node.args.get("distinct")) or not isinstance(node, exp.Union)
    asks = (Ask(frozenset(names)),) if distinct else demand.asks
    wanted = names if distinct else [n for n in names if n in demand.columns]
    selects = []
    for branch in (node.left, node.right):
        own = outputs(branch)
        here = {n: n for n in names if n in own} if node.args.get("by_name") else dict(zip(names, own, strict=False))
        known = frozenset(
            (here[c], k)
            for c, k in demand.known
            if c in here and owner.shapes.output_type(node, c) is not None and k not in owner.nulls
        )

        def below(ask: Ask, here: dict[str, str] = here) -> Ask:
            values, conditions = (frozenset(here[n] for n in c if n in here) for c in (ask.values, ask.conditions))
            return Ask(values, conditions - values, ask.counted)

        demanded = Demand(
            frozenset(here[n] for n in wanted if n in here), tuple(dict.fromkeys(map(below, asks))), known
        )
        inner = owner.query(branch, demanded, outer)
        alias = owner.fresh("u")
        columns = [exp.alias_(x.column(alias, here[n]) if n in here else exp.Null(), n, quoted=True) for n in wanted]
        lists = [exp.alias_(x.column(alias, owner.answer(below(a))), owner.answer(a), quoted=True) for a in asks]
        selects.append(exp.Select(expressions=[*columns, *lists]).from_(x.derived(inner, alias)))
    both = exp.Union(this=selects[0], expression=selects[1], distinct=False)
    if not distinct:
        return both
    alias = owner.fresh("u")
    rows = x.gathered(x.column(alias, owner.answer(asks[0])))
    return (
        exp.Select(
            expressions=[
                *(x.column(alias, c) for c in sorted(demand.columns)),
                *(exp.alias_(rows.copy(), owner.answer(ask), quoted=True) for ask in demand.asks),
            ]
        )
        .from_(x.derived(both, alias))
        .group_by(*(x.column(alias, n) for n in names))
    )


def limited(owner: Annotator, node: exp.Expression, demand: Demand, outer: Mapping[Place, int]) -> exp.Expression:
    """LIMIT as a condition on the rank. A row that is in only because equals were cut apart carries ``TIE``."""
    plain = node.copy()
    limit, offset, order = (plain.args.get(k) for k in ("limit", "offset", "order"))
    for part in ("limit", "offset", "order"):
        plain.set(part, None)
    count = _whole_number(limit.expression) if limit is not None else None
    skip = _whole_number(offset.expression) if offset is not None else 0
    if (limit is not None and count is None) or skip is None or (limit and limit.args.get("limit_options")):
        owner.refuse("a LIMIT that is not a whole number")
        return owner.query(plain, demand, outer)
    if owner.loose:
        return owner.query(plain, replace(demand, known=demand.known if not skip else frozenset()), outer)
    keys = list(order.expressions) if order is not None else []
    if isinstance(plain, exp.Select) and not plain.args.get("distinct"):
        added = _add_columns(owner, plain, [o.this for o in keys])
    else:
        added = _order_outputs(plain, keys)
    alias, ranked = owner.fresh("l"), owner.fresh("l")

    def below(ask: Ask) -> Ask:
        return Ask(ask.values, (ask.conditions | set(added)) - ask.values, True)

    inner = owner.query(plain, Demand(demand.columns | set(added), demand.each(below)), outer)
    orders = [_ordered(o, x.column(alias, n)) for o, n in zip(keys, added, strict=True)]
    by = exp.Order(expressions=orders) if orders else None

    def listed(ask: Ask) -> exp.Expression:
        rows: exp.Expression = x.column(alias, owner.answer(below(ask)))
        if skip:  # the rows before it decide that it is not among those skipped
            window = exp.Window(this=x.call("list", rows), order=by.copy() if by else None, over="OVER")
            rows = x.call("flatten", window)
        return exp.alias_(rows, owner.answer(ask), quoted=True)

    if orders:
        first: exp.Expression = exp.Window(this=x.call("rank"), order=by.copy() if by else None, over="OVER")
    else:
        first = exp.Literal.number(1)
    peers = exp.Window(this=exp.Count(this=exp.Star()), partition_by=[x.column(alias, n) for n in added], over="OVER")
    level = exp.Select(
        expressions=[
            *(x.column(alias, c) for c in sorted(demand.columns)),
            *(listed(ask) for ask in demand.asks),
            exp.alias_(first, "__first", quoted=True),
            exp.alias_(peers, "__peers", quoted=True),
        ]
    ).from_(x.derived(inner, alias))
    start, last = x.column(ranked, "__first").sql(DIALECT), f'("{ranked}"."__first" + "{ranked}"."__peers" - 1)'
    end = skip + count if count is not None else None
    inside = f"{last} > {skip}" + (f" AND {start} <= {end}" if end is not None else "")
    split = f"{start} <= {skip}" + (f" OR {last} > {end}" if end is not None else "")
    cut = split if node is owner.resolved.root else f"bool_or({split}) OVER ()"

    def marked(ask: Ask) -> exp.Expression:
        rows = f'"{ranked}"."{owner.answer(ask)}"'
        tie = f"CASE WHEN {cut} THEN list_append({rows}, CAST({x.TIE} AS HUGEINT)) ELSE {rows} END"
        return exp.alias_(exp.maybe_parse(tie, dialect=DIALECT), owner.answer(ask), quoted=True)

    return (
        exp.Select(
            expressions=[
                *(x.column(ranked, c) for c in sorted(demand.columns)),
                *(marked(ask) for ask in demand.asks),
            ]
        )
        .from_(x.derived(level, ranked))
        .where(exp.maybe_parse(inside, dialect=DIALECT))
    )


def _add_columns(owner: Annotator, select: exp.Select, wanted: Iterable[exp.Expression]) -> list[str]:
    names = []
    for node in wanted:
        names.append(owner.fresh("o"))
        select.append("expressions", exp.alias_(node.copy(), names[-1], quoted=True))
    return names


def _order_outputs(query: exp.Expression, keys: list[exp.Expression]) -> list[str]:
    """ORDER BY of a set operation or DISTINCT: its keys are output columns, by name or position."""
    names = outputs(query)
    by_name = _by_name(query) if isinstance(query, exp.Select) else {}
    found = []
    for key in keys:
        node = key.this
        if isinstance(node, exp.Literal) and not node.is_string:
            found.append(names[int(node.this) - 1])
        elif isinstance(node, exp.Column) and not node.table and node.name in names:
            found.append(node.name)
        elif match := [n for n, e in by_name.items() if e == node]:
            found.append(match[0])
        else:
            raise Refusal(f"ORDER BY {node.sql(dialect=DIALECT)} over a set operation or DISTINCT")
    return found


def _by_name(select: exp.Select) -> dict[str, exp.Expression]:
    return {e.alias_or_name: (e.this if isinstance(e, exp.Alias) else e) for e in reversed(select.expressions)}


def _ordered(like: exp.Expression, value: exp.Expression) -> exp.Ordered:
    return exp.Ordered(this=value, desc=like.args.get("desc"), nulls_first=like.args.get("nulls_first"))


def _whole_number(node: exp.Expression | None) -> int | None:
    if isinstance(node, exp.Literal) and not node.is_string and str(node.this).isdigit():
        return int(node.this)
    return None
