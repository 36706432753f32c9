"""The annotation: rewrite a resolved query so that each row carries the base rows behind it.

Every relation is rebuilt top-down from a ``Demand``: which of its columns must be computed, whose rows are asked for,
and which columns are known to equal the key. The rebuilt relation has the demanded columns and for each *ask* one more
(``__rows…``), a list of base rows:

- a base table gives each row its own row id;
- a join concatenates; a semi join, EXISTS, IN and a scalar subquery add the rows that match; an anti join, NOT EXISTS
  and NOT IN add none, since what is absent has no rows;
- GROUP BY, DISTINCT and UNION gather the rows of the group; DISTINCT ON those of the whole group it chose from;
- a window function adds its frame, or its partition where the function looks at all of it (ranks).

For one feature the same is done with less: left joins that the feature does not read are left out, an aggregate gathers
only the rows its own FILTER or CASE lets through (all of the group, if it lets none through: "none" is a statement
about all of them), and a CASE or COALESCE over joined sources takes the branch that the row took.

A CTE or view is built once for all that is asked of it and materialized when read twice, so that 25 joins on one
model read the base tables once. Many features are many asks of the same query.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace import regroup
from lineage.rowtrace.collapse import Collapse
from lineage.rowtrace.demand import NONE, Ask, Built, Demand, Leaf, Names, key_constant
from lineage.rowtrace.parsing import DIALECT, Refusal
from lineage.rowtrace.pushdown import Place
from lineage.rowtrace.resolve import Resolved, canonical
from lineage.rowtrace.select import SelectAnnotator
from lineage.rowtrace.shapes import Shapes


@dataclass
class _Copy:
    """One build of a definition."""

    name: str
    demand: Demand
    uses: int = 0


class Annotator:
    """Builds one annotated query.

    feature: narrow to the values asked for; without it there is one ask only. nulls: the key constants that are NULL.
    loose: do not stop at a construct that cannot be exact; only the leaves are then of use, as a superset.
    """

    def __init__(self, resolved: Resolved, *, feature: bool, nulls: frozenset[int] = frozenset(), loose: bool = False):
        self.resolved = resolved
        self.feature = feature
        self.nulls = nulls
        self.loose = loose
        self.shapes = Shapes(resolved)
        self.index = {name: i for i, name in enumerate(resolved.tables)}
        self.copies: dict[str, dict[object, _Copy]] = {}
        self.extra: list[exp.CTE] = []
        self.leaves: list[Leaf] = []
        self.lists: dict[Ask, str] = {}
        self.counter = 0

    def build(self, demand: Demand) -> Built:
        """The whole query: the demanded columns and a list for each ask, with the definitions it needs before it."""
        root = self.query(self.resolved.root, demand, {})
        ctes: list[exp.CTE] = list(reversed(self.extra))
        self.extra = []
        while self.copies:
            name = max(self.copies, key=lambda n: self.resolved.definitions[n].order)
            for copy in self.copies.pop(name).values():
                body = self.query(self.resolved.definitions[name].query, copy.demand, {})
                alias = exp.TableAlias(this=exp.to_identifier(copy.name, quoted=True))
                ctes.append(exp.CTE(this=body, alias=alias, materialized=copy.uses > 1))
                ctes += reversed(self.extra)
                self.extra = []
        same = Collapse()
        for cte in reversed(ctes):
            same.define(cte.alias, cte.this)
        merged = same.merge(root)
        text = root.sql(dialect=DIALECT)
        if ctes:
            text = f"WITH {', '.join(c.sql(dialect=DIALECT) for c in reversed(ctes))} {text}"
        return Built(text, self.leaves, {a: merged.get(self.answer(a), self.answer(a)) for a in demand.asks})

    def refuse(self, construct: str) -> None:
        if not self.loose:
            raise Refusal(construct)

    def fresh(self, letter: str) -> str:
        self.counter += 1
        return f"_{letter}{self.counter}"

    def answer(self, ask: Ask) -> str:
        """The list column that answers an ask, under the same name in every relation."""
        if not self.feature:  # what is asked of a definition is then known only when its last reader has been built
            return x.ROWS
        return self.lists.setdefault(ask, f"{x.ROWS}{len(self.lists) + 1}")

    def answer_of(self, node: exp.Expression, ask: Ask) -> str:
        """The same for a FROM item: a base table has one answer to all."""
        table = isinstance(node, exp.Table) and not (node.name in self.resolved.definitions and not node.db)
        return x.ROWS if table else self.answer(ask)

    # relations

    def query(self, node: exp.Expression, demand: Demand, outer: Mapping[Place, int]) -> exp.Expression:
        while isinstance(node, exp.Subquery):
            if any(node.args.get(k) for k in ("limit", "offset")):
                raise Refusal("a LIMIT outside parentheses")
            node = node.this
        if isinstance(node, exp.Select):
            if node.args.get("limit") or node.args.get("offset"):
                return regroup.limited(self, node, demand, outer)
            if node.args.get("distinct"):
                return regroup.distinct(self, node, demand, outer)
            return SelectAnnotator(self, node, demand, outer).build()
        if isinstance(node, exp.SetOperation):
            if node.args.get("limit") or node.args.get("offset"):
                return regroup.limited(self, node, demand, outer)
            return regroup.set_operation(self, node, demand, outer)
        raise Refusal(type(node).__name__.upper())

    def source(self, node: exp.Expression, demand: Demand, outer: Mapping[Place, int], alias: str) -> exp.Expression:
        """A FROM item rebuilt under ``alias``. One with base rows behind it has the lists asked for."""
        if node.args.get("sample"):
            self.refuse("sampling (TABLESAMPLE)")
        if isinstance(node, exp.Table) and isinstance(node.this, exp.Identifier):
            if node.name in self.resolved.definitions and not node.db:
                return self._reference(node.name, demand, alias)
            return self._base(node, demand, alias)
        if isinstance(node, exp.Lateral):
            inner = node.this
            if isinstance(inner, exp.Subquery):
                body = x.derived(self.query(inner.this, demand, outer), alias)
                lateral = exp.Lateral(this=exp.Subquery(this=body.this), alias=body.args["alias"])
                return lateral
            return _renamed(node, alias)
        if isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Values):
            return x.derived(self.query(node.this, demand, outer), alias)
        return _renamed(node, alias)

    def has_rows(self, node: exp.Expression) -> bool:
        """Whether a FROM item, once rebuilt, has lists of rows."""
        if isinstance(node, exp.Table):
            return isinstance(node.this, exp.Identifier)
        if isinstance(node, exp.Lateral):
            return isinstance(node.this, exp.Subquery)
        return isinstance(node, exp.Subquery) and not isinstance(node.this, exp.Values)

    def _reference(self, name: str, demand: Demand, alias: str) -> exp.Expression:
        kind = (demand.known, None if self.feature else demand.asks[0].counted)
        copies = self.copies.setdefault(name, {})
        copy = copies.get(kind)
        if copy is None:
            copy = copies[kind] = _Copy(f"{name}_{self.fresh('c')}", demand)
        asks = tuple(dict.fromkeys((*copy.demand.asks, *demand.asks)))
        if not self.feature:
            asks = (replace(asks[0], values=_all(a.values for a in asks), conditions=_all(a.conditions for a in asks)),)
        copy.demand = replace(copy.demand, columns=copy.demand.columns | demand.columns, asks=asks)
        copy.uses += 1
        return exp.Table(
            this=exp.to_identifier(copy.name, quoted=True),
            alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)),
        )

    def _base(self, node: exp.Table, demand: Demand, alias: str) -> exp.Expression:
        table = next(t for t in self.resolved.tables.values() if canonical(t) == _name(node))
        index = self.index[canonical(table)]
        known = frozenset((c, k) for c, k in demand.known if any(c.lower() == n.lower() for n, _ in table.columns))
        self.leaves.append(Leaf(index, known))
        bare = node.copy()
        for part in ("alias", "joins", "sample"):
            bare.set(part, None)
        rowid = exp.column("rowid", quoted=True)
        select = exp.Select(
            expressions=[
                *(exp.column(c, quoted=True) for c in sorted(demand.columns)),
                exp.alias_(exp.Array(expressions=[x.code(index, rowid)]), x.ROWS, quoted=True),
            ]
        ).from_(bare)
        filters = [self.equals(exp.column(c, quoted=True), k) for c, k in sorted(known)]
        return x.derived(select.where(*filters) if filters else select, alias)

    def equals(self, value: exp.Expression, constant: int) -> exp.Expression:
        """``value`` is the key's: a filter that the engine can push into a scan, also for NULL."""
        if constant in self.nulls:
            return exp.Is(this=value, expression=exp.Null())
        return exp.EQ(this=value, expression=exp.Var(this=key_constant(constant)))


def _all(names: Iterable[Names]) -> Names:
    return NONE.union(*names)


def _name(node: exp.Table) -> str:
    return ".".join(p.name for p in node.parts).lower()


def _renamed(node: exp.Expression, alias: str) -> exp.Expression:
    copy = node.copy()
    columns = copy.args["alias"].args.get("columns") if isinstance(copy.args.get("alias"), exp.TableAlias) else None
    copy.set("alias", exp.TableAlias(this=exp.to_identifier(alias, quoted=True), columns=columns))
    copy.set("joins", None)
    return copy
