"""What can be told of a relation without running it: types of columns that come straight from a table, and keys."""

from __future__ import annotations

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.parsing import DIALECT
from lineage.rowtrace.resolve import Resolved, outputs, sources_of

_INTEGERS = frozenset(
    {"TINYINT", "SMALLINT", "INTEGER", "INT", "BIGINT", "HUGEINT", "UTINYINT", "USMALLINT", "UINTEGER", "UBIGINT"}
)


class Shapes:
    def __init__(self, resolved: Resolved) -> None:
        self.resolved = resolved
        self._types: dict[tuple[int, str], str | None] = {}
        self._sources: dict[str, exp.Expression] = {}
        for query in (*(d.query for d in resolved.definitions.values()), resolved.root):
            self.register(query)

    def register(self, query: exp.Expression) -> None:
        """Make the sources of a query known by their aliases."""
        for select in query.find_all(exp.Select):
            for source in sources_of(select):
                self._sources[source.alias_or_name] = source

    def required(self, node: exp.Expression) -> bool:
        """Whether an expression is a NOT NULL column, read straight from its table."""
        if not isinstance(node, exp.Column):
            return False
        source = self._sources.get(node.table)
        if not isinstance(source, exp.Table) or not source.db:
            return False
        table = self.resolved.tables.get(".".join(p.name for p in source.parts).lower())
        return table is not None and node.name.lower() in table.required

    def column_type(self, place: tuple[str, str]) -> str | None:
        """Type of ``alias.column`` when it comes unchanged from a table (all integers count as one type), else None."""
        alias, name = place
        source = self._sources.get(alias)
        if isinstance(source, exp.Table) and isinstance(source.this, exp.Identifier):
            if definition := self.resolved.definitions.get(source.name):
                return self.output_type(definition.query, name) if not source.db else None
            table = self.resolved.tables.get(".".join(p.name for p in source.parts).lower())
            types = {c.lower(): t for c, t in table.columns} if table else {}
            return _kind(types[name.lower()]) if name.lower() in types else None
        if isinstance(source, exp.Lateral):
            source = source.this
        if isinstance(source, exp.Subquery):
            return self.output_type(source.this, name)
        return None

    def output_type(self, query: exp.Expression, name: str) -> str | None:
        """The same of an output column. For a set operation: of all branches alike, else None."""
        at = (id(query), name)
        if at not in self._types:
            self._types[at] = None
            self._types[at] = self._output_type(query, name)
        return self._types[at]

    def _output_type(self, query: exp.Expression, name: str) -> str | None:
        if isinstance(query, exp.Subquery):
            return self.output_type(query.this, name)
        if isinstance(query, exp.SetOperation):
            left, right = outputs(query.left), outputs(query.right)
            if query.args.get("by_name"):
                other: str | None = name
            else:
                other = right[left.index(name)] if name in left and left.index(name) < len(right) else None
            if name not in left or other not in right:
                return None
            kinds = {self.output_type(query.left, name), self.output_type(query.right, other)}
            return kinds.pop() if len(kinds) == 1 else None
        if isinstance(query, exp.Select):
            for e in query.expressions:
                if e.alias_or_name == name:
                    return self.expression_type(e.this if isinstance(e, exp.Alias) else e)
        return None

    def expression_type(self, node: exp.Expression) -> str | None:
        while isinstance(node, exp.Paren):
            node = node.this
        if isinstance(node, exp.Column):
            return self.column_type((node.table, node.name))
        if isinstance(node, exp.Cast) and not isinstance(node, exp.TryCast):
            return _kind(node.to.sql(dialect=DIALECT))
        if isinstance(node, exp.Coalesce):
            kinds = {self.expression_type(n) for n in (node.this, *node.expressions)}
            return kinds.pop() if len(kinds) == 1 else None
        return None

    def unique(self, source: exp.Expression, columns: frozenset[str]) -> bool:
        """Whether a FROM item has at most one row for each value of ``columns``, as far as its text tells."""
        if isinstance(source, exp.Table):
            definition = self.resolved.definitions.get(source.name) if not source.db else None
            return definition is not None and self._unique(definition.query, columns)
        return isinstance(source, exp.Subquery) and self._unique(source.this, columns)

    def _unique(self, query: exp.Expression, columns: frozenset[str]) -> bool:
        while isinstance(query, exp.Subquery):
            query = query.this
        if not isinstance(query, exp.Select):
            return False
        picked = [e.this if isinstance(e, exp.Alias) else e for e in query.expressions if e.alias_or_name in columns]
        distinct = query.args.get("distinct")
        if distinct and not distinct.args.get("on"):
            return set(outputs(query)) <= columns
        group = query.args.get("group")
        if any(node.find(exp.Explode, exp.Unnest) for node in query.expressions):
            return False
        if group:
            sets = any(group.args.get(k) for k in ("all", "grouping_sets", "cube", "rollup", "totals"))
            return not sets and all(any(k == p for p in picked) for k in group.expressions)
        if any(x.aggregates(e, self.resolved.facts.aggregates) for e in query.expressions):
            return True
        sources = sources_of(query)
        if len(sources) != 1:
            return False
        inner = frozenset(p.name for p in picked if isinstance(p, exp.Column))
        return self.unique(sources[0], inner) or self._ranked_first(query, sources[0], inner)

    def _ranked_first(self, query: exp.Select, source: exp.Expression, columns: frozenset[str]) -> bool:
        """``WHERE n = 1`` over ``row_number() OVER (PARTITION BY …) AS n`` with the partition among ``columns``."""
        body = source.this if isinstance(source, exp.Subquery) else None
        if isinstance(source, exp.Table) and not source.db and source.name in self.resolved.definitions:
            body = self.resolved.definitions[source.name].query
        if not isinstance(body, exp.Select):
            return False
        by_name = {e.alias_or_name: e.this for e in body.expressions if isinstance(e, exp.Alias)}
        for condition in x.conjuncts(query.args.get("where")):
            if not (isinstance(condition, exp.EQ) and isinstance(condition.this, exp.Column)):
                continue
            rank = by_name.get(condition.this.name)
            if condition.expression != exp.Literal.number(1) or not isinstance(rank, exp.Window):
                continue
            if isinstance(rank.this, exp.RowNumber) and all(
                any(by_name.get(c) == p for c in columns) for p in rank.args.get("partition_by") or []
            ):
                return True
        return False


def _kind(name: str) -> str:
    name = {"TEXT": "VARCHAR", "STRING": "VARCHAR"}.get(name.upper(), name.upper())
    return "INTEGER" if name in _INTEGERS else name
