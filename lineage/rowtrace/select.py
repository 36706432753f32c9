"""The annotation of one SELECT: its joins and WHERE, then its groups, then its windows, each a level of its own."""

from __future__ import annotations

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.demand import Demand
from lineage.rowtrace.parsing import DIALECT
from lineage.rowtrace.scope import Source
from lineage.rowtrace.windows import WindowScope


class SelectAnnotator(WindowScope):
    """Builds one SELECT. Used once."""

    def build(self) -> exp.Expression:
        levels = [p for p in (*self.computed, *self.traced, self.qualify) if p is not None]
        self.windowed = self.qualify is not None or any(x.windows(e) for e in levels)
        key_filters = self._push_down()
        return self._staged(key_filters) if self.windowed or self.keys is not None else self._flat_only(key_filters)

    def _flat_only(self, key_filters: list[exp.Expression]) -> exp.Expression:
        pieces = self._conditions()
        for e in self.traced:
            pieces += self._rows_of(e, condition=False)
        columns = [exp.alias_(self._value(self.outputs[n]), n, quoted=True) for n in sorted(self.demand.columns)]
        return self._assemble(columns, pieces, key_filters, counted=self.demand.counted)

    def _staged(self, key_filters: list[exp.Expression]) -> exp.Expression:
        """Joins and WHERE first, as one level of plain columns; groups and windows over it."""
        base = self.owner.fresh("f")
        pieces = self._conditions()
        tops = [*self.traced, *(p.this for p in (self.having, self.qualify) if p is not None)]
        counted = False
        grouped = self.keys is not None
        told: list[exp.Expression] = []
        if grouped:
            for e in tops:
                told += x.aggregates(e, self.named)
            for aggregate in told:
                counted = counted or x.counts_rows(aggregate)
                pieces += self._rows_of(aggregate, condition=False)
            for key in self.keys or []:
                self._rows_of(key, condition=True)
                pieces += [p for e in x.subqueries(key) for p in self._subquery_pieces(e, conjunct=False)]
        else:
            counted = True
            for e in tops:
                pieces += self._rows_of(e, condition=False)
        level: exp.Expression
        if grouped:
            level, alias, mapping = self._grouped(base, tops, told)
        else:
            level, alias, mapping = exp.Select(), base, {}
        if self.windowed:
            whole = not (key_filters or self.known or self.partitions or self._outer_aliases())
            final = self._windowed(level if grouped else None, alias, mapping, tops, deferred=whole)
        else:
            final = level
        columns = [exp.alias_(x.column(a, c), n, quoted=True) for (a, c), n in self.flat.items()]
        flat = self._assemble(columns, pieces, key_filters, counted=counted)
        for holder in (final, *self.stages):
            for table in list(holder.find_all(exp.Table)):
                if table.name == base and not table.db:
                    table.replace(x.derived(flat, base))
        self.owner.extra += self.stages
        return final

    def _grouped(
        self, base: str, tops: list[exp.Expression], told: list[exp.Expression]
    ) -> tuple[exp.Select, str, dict[str, str]]:
        """The level of groups. With windows above, it exports what they need; mapping: expression → exported column."""
        rows = x.column(base, x.ROWS)
        gathered = x.gathered(rows)
        if self.owner.feature and told and not self._asks_for_keys():
            gathered = self._narrowed(told, base)
        alias = self.owner.fresh("g")
        select = exp.Select().from_(exp.Table(this=exp.to_identifier(base, quoted=True)))
        group = self.select.args.get("group")
        if group is not None:
            if group.args.get("all"):
                spelled = exp.Group(expressions=[k.copy() for k in self.keys or []])
            else:
                spelled = group.copy()
            if spelled.expressions or not group.args.get("all"):
                select.set("group", self._flattened(spelled, base))
        if self.having is not None:
            select.set("having", exp.Having(this=self._flattened(self._value(self.having.this), base)))
        mapping: dict[str, str] = {}
        if self.windowed:
            wanted: list[exp.Expression] = [*(self.keys or [])]
            for e in (*self.computed, *tops):
                wanted += x.aggregates(e, self.named)
            columns = []
            for e in wanted:
                if e.sql(dialect=DIALECT) not in mapping:
                    name = f"g{len(mapping)}"
                    mapping[e.sql(dialect=DIALECT)] = name
                    columns.append(exp.alias_(self._flattened(self._value(e), base), name, quoted=True))
            own_pieces: list[exp.Expression] = []
        else:
            columns = [
                exp.alias_(self._flattened(self._value(self.outputs[n]), base), n, quoted=True)
                for n in sorted(self.demand.columns)
            ]
            own_pieces = [self._flattened(p, base) for p in self._group_level_pieces()]
        together = x.concat([gathered, *own_pieces]) if own_pieces else gathered
        select.set("expressions", [*columns, exp.alias_(together, x.ROWS, quoted=True)])
        return select, alias, mapping

    def _narrowed(self, told: list[exp.Expression], base: str) -> exp.Expression:
        """Rows that the aggregates' own conditions let through; all of the group where none does.

        Also all of it where a ``sum(… ELSE 0)`` is 0 by its ELSE alone: without those rows it would be NULL.
        """
        rows = x.column(base, x.ROWS)
        conditions = [x.condition_of(a) for a in told]
        if any(c is None for c in conditions):
            return x.gathered(rows)
        only = self._flattened(exp.or_(*[c.rows for c in conditions if c is not None], copy=True), base)
        enough = [x.call("bool_or", only.copy())]
        for c in conditions:
            if c is not None and c.zero_otherwise:
                enough.append(x.call("bool_or", self._flattened(c.rows, base)))
        decided = exp.If(this=exp.and_(*enough, copy=False), true=x.gathered(rows, only))
        return exp.Case(ifs=[decided], default=x.gathered(rows))

    def _asks_for_keys(self) -> bool:
        """Whether the value asked for is a grouping key itself: then every row of the group says it."""
        values = [self.outputs[n] for n in self.demand.values if n in self.outputs]
        return any(not x.aggregates(e, self.named) for e in values)

    # the level of joins

    def _assemble(
        self,
        columns: list[exp.Expression],
        pieces: list[exp.Expression],
        filters: list[exp.Expression],
        *,
        counted: bool,
    ) -> exp.Select:
        """FROM, joins and WHERE over rebuilt sources, with the rows of all that is behind one joined row."""
        where = [self._value(c) for c in x.conjuncts(self.where)] + filters
        pieces = self._distinct_pieces(pieces)
        kept = self._kept_sources(columns, where, pieces, counted=counted)
        feature = self.owner.feature
        always = [
            x.column(s.alias, x.ROWS)
            for s in kept
            if s.visible and self.owner.has_rows(s.node) and not (feature and s.optional and not counted)
        ]
        pieces = always + [p for p in pieces if p not in always]
        rows = x.concat(pieces)
        if feature and kept and not any(not s.optional for s in kept if s.visible):
            # A FULL JOIN row exists because of one side or the other: if the asked side is absent, it is the other.
            every = [x.column(s.alias, x.ROWS) for s in kept if s.visible and self.owner.has_rows(s.node)]
            present = exp.GT(this=x.call("list_count", rows.copy()), expression=exp.Literal.number(0))
            rows = exp.Case(ifs=[exp.If(this=present, true=rows)], default=x.concat(every))
        conditions = {s.alias: self._value(s.join.args["on"]) for s in kept if s.join and s.join.args.get("on")}
        correlated = [s.node for s in kept if self._correlated(s.node)]
        if self.partitions is not None:
            correlated = [*correlated, self.partitions]
        needed = x.columns_of([*columns, *where, rows, *conditions.values(), *correlated], self.sources)
        outer = {**self.outer, **self.known}
        select = exp.Select()
        for s in kept:
            demand = self._source_demand(s, needed[s.alias], counted)
            rebuilt = self.owner.source(s.node, demand, outer, s.alias)
            if s.join is None:
                select = select.from_(rebuilt)
                continue
            join = s.join.copy()
            join.set("this", rebuilt)
            if s.alias in conditions:
                join.set("on", conditions[s.alias])
            select.append("joins", join)
            if s.kind == "SEMI" and self.owner.has_rows(s.node):
                rows = x.concat([rows, self._semi_rows(s, demand, conditions.get(s.alias))])
        if self.partitions is not None:
            select.append("joins", self.partitions)
        if where:
            select = select.where(*where)
        select.set("expressions", [*columns, exp.alias_(rows, x.ROWS, quoted=True)])
        return select

    def _distinct_pieces(self, pieces: list[exp.Expression]) -> list[exp.Expression]:
        found: dict[str, exp.Expression] = {}
        for p in pieces:
            found.setdefault(p.sql(dialect=DIALECT), p)
        return list(found.values())

    def _source_demand(self, source: Source, needed: set[str], counted: bool) -> Demand:
        known = frozenset((c, k) for (a, c), k in self.known.items() if a == source.alias)
        values = frozenset(source.values if self.owner.feature else source.values | needed)
        conditions = frozenset(source.conditions | needed) - values
        return Demand(frozenset(needed), values, conditions, known, counted and source.visible)

    def _kept_sources(
        self, columns: list[exp.Expression], where: list[exp.Expression], pieces: list[exp.Expression], *, counted: bool
    ) -> list[Source]:
        """For one feature, a LEFT JOIN that nothing reads is left out, if it cannot change how often a row comes."""
        kept = list(self.sources.values())
        if not self.owner.feature:
            return kept
        for source in reversed(list(self.sources.values())):
            if (
                source.join is None
                or source.join.side != "LEFT"
                or source.join.method
                or source.kind in ("SEMI", "ANTI")
            ):
                continue
            if isinstance(source.node, exp.Lateral | exp.Unnest):
                continue
            others = [s.join.args["on"] for s in kept if s is not source and s.join and s.join.args.get("on")]
            used = x.columns_of([*columns, *where, *pieces, *others, *(s.node for s in kept)], [source.alias])
            read = used[source.alias] or source.values or source.conditions
            if read or any(x.column(source.alias, x.ROWS) == c for p in pieces for c in p.find_all(exp.Column)):
                continue
            keys = frozenset(
                side.name
                for c in x.conjuncts(source.join.args.get("on"))
                if isinstance(c, exp.EQ)
                for side in (c.this, c.expression)
                if isinstance(side, exp.Column) and side.table == source.alias
            )
            if counted and not self.owner.shapes.unique(source.node, keys):
                continue
            kept.remove(source)
        for source in kept:
            if source.optional and source.join is not None and source.join.args.get("on") is not None:
                self._note(source.join.args["on"], condition=True)
        return kept

    def _semi_rows(self, source: Source, demand: Demand, on: exp.Expression | None) -> exp.Expression:
        """The rows that a SEMI JOIN matched: the same source once more, as a correlated subquery."""
        alias = self.owner.fresh("m")
        again = self.owner.source(source.node, demand, {**self.outer, **self.known}, alias)
        select = exp.Select(expressions=[x.gathered(x.column(alias, x.ROWS))]).from_(again)
        if on is not None:
            condition = on.copy()
            for c in list(condition.find_all(exp.Column)):
                if c.table == source.alias:
                    c.set("table", exp.to_identifier(alias, quoted=True))
            select = select.where(condition)
        return exp.Subquery(this=select)
