"""One SELECT for one demand: its sources, its outputs, its groups, and how far the key reaches into them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.answers import Answer, Notes, Source
from lineage.rowtrace.demand import Ask, Demand
from lineage.rowtrace.parsing import Refusal
from lineage.rowtrace.pushdown import Place, reach, tied_by_full
from lineage.rowtrace.resolve import Unique, outputs, sources_of

if TYPE_CHECKING:
    from lineage.rowtrace.annotate import Annotator


class Scope:
    """A SELECT as it is rebuilt. Used once."""

    def __init__(self, owner: Annotator, select: exp.Select, demand: Demand, outer: Mapping[Place, int]) -> None:
        self.owner = owner
        self.select = select
        self.outer = outer
        self.named = owner.resolved.facts.aggregates
        self.outputs = {
            e.alias_or_name: (e.this if isinstance(e, exp.Alias) else e) for e in reversed(select.expressions)
        }
        multiplying = {n for n, e in self.outputs.items() if e.find(exp.Explode, exp.Unnest)}
        self.multiplying = frozenset(multiplying)
        self.demand = replace(demand, columns=(demand.columns | multiplying) & frozenset(self.outputs))
        self.computed = [self.outputs[n] for n in sorted(self.demand.columns)]
        self.where = select.args.get("where")
        self.having = select.args.get("having")
        self.qualify = select.args.get("qualify")
        self.sources: dict[str, Source] = {}
        self._read_sources()
        self.traced = self._traced(demand.asks)
        self.keys = self._group_keys()
        self.notes = Notes()
        """Of the ask that is being answered."""
        self.known: dict[Place, int] = {}
        self.flat: dict[Place, str] = {}
        self.reads: set[Place] = set()
        """What the ask being answered, or all of them, read of ``flat``."""
        self.late: dict[str, int] = {}
        """Key columns that cannot be compared before the windows are computed."""
        self.matched: dict[tuple[int, bool], exp.Expression] = {}
        """(subquery of this SELECT, whether it is a conjunct) → its rows."""
        self.placed: dict[int, tuple[exp.Expression, frozenset[Place]]] = {}
        self.partitions: exp.Join | None = None
        self.stages: list[exp.CTE] = []

    # what stands in the query

    def _read_sources(self) -> None:
        if self.select.args.get("sample"):
            self.owner.refuse("sampling (USING SAMPLE)")
        joins = {id(j.this): j for j in self.select.args.get("joins") or []}
        for node in sources_of(self.select):
            join = joins.get(id(node))
            source = Source(node.alias_or_name, node, join)
            if join is not None:
                if join.method == "POSITIONAL":
                    raise Refusal("a positional join")
                if join.side in ("RIGHT", "FULL"):
                    for earlier in self.sources.values():
                        earlier.optional = True
                source.optional = join.side in ("LEFT", "FULL") or join.kind in ("SEMI", "ANTI")
            self.sources[source.alias] = source

    def _traced(self, asks: Iterable[Ask]) -> list[exp.Expression]:
        """The outputs whose rows are asked for, values first."""
        wanted: dict[str, None] = {}
        for ask in asks:
            wanted |= dict.fromkeys(sorted(ask.values & self.outputs.keys()))
            others = sorted(ask.conditions & self.outputs.keys() - ask.values)
            wanted |= dict.fromkeys(n for n in others if not self._told_by_any_side(n))
        return [self.outputs[n] for n in wanted]

    def _columns_for(self, ask: Ask) -> list[str]:
        """The computed outputs that an ask is about. A reader that asks for no rows at all is about all of them."""
        if not ask.columns:
            return sorted(self.demand.columns)
        return sorted(self.demand.columns & (ask.columns | self.multiplying))

    def _turn_to(self, answer: Answer) -> None:
        """What is noted and read from here on is for this answer."""
        self.notes, self.reads = answer.notes, answer.reads

    def _told_by_any_side(self, name: str) -> bool:
        """``coalesce(a.id, b.id)`` of a FULL JOIN on that id: as a condition, either side will do."""
        joins = [s.join for s in self.sources.values() if s.join is not None]
        return self.owner.feature and tied_by_full(self.outputs[name], joins)

    def _group_keys(self) -> list[exp.Expression] | None:
        """Plain grouping expressions; None when the SELECT has no groups at all."""
        group = self.select.args.get("group")
        parts = [*self.outputs.values(), self.having, self.qualify]
        found = any(x.aggregates(p, self.named) for p in parts if p is not None)
        if group is None:
            return [] if found or self.having is not None else None
        if group.args.get("all"):
            return [e for e in self.outputs.values() if not x.aggregates(e, self.named) and not x.windows(e)]
        return list(group.expressions)

    @property
    def grouping_sets(self) -> bool:
        group = self.select.args.get("group")
        return group is not None and (
            any(group.args.get(k) for k in ("grouping_sets", "cube", "rollup", "totals"))
            or any(isinstance(e, exp.GroupingSets | exp.Cube | exp.Rollup) for e in group.expressions)
        )

    # how far the key reaches

    def _push_down(self) -> list[exp.Expression]:
        """Find how far the key reaches; returns the key's comparisons that belong into WHERE."""
        fixed: dict[Place, int] = {}
        coalesced: list[tuple[list[Place], int]] = []
        filters = []
        used = [w for e in (*self.computed, *self.traced, self.qualify) if e is not None for w in x.windows(e)]
        for name, constant in sorted(self.demand.known):
            node = self.outputs.get(name)
            if node is None or not self._movable(node, []):
                continue
            if not self._movable(node, used):
                self.late[name] = constant
                continue
            filters.append(self.owner.equals(node.copy(), constant))
            if constant in self.owner.nulls:
                if (
                    isinstance(node, exp.Column)
                    and node.table in self.sources
                    and not self.sources[node.table].optional
                ):
                    self.known[node.table, node.name] = constant
            elif isinstance(node, exp.Column) and node.table in self.sources:
                fixed[node.table, node.name] = constant
            elif isinstance(node, exp.Coalesce):
                parts = [node.this, *node.expressions]
                if all(isinstance(p, exp.Column) and p.table in self.sources for p in parts):
                    coalesced.append(([(p.table, p.name) for p in parts], constant))
        joins = [s.join for s in self.sources.values() if s.join is not None]
        self._reach_partitions(used)
        self.known |= reach(fixed, coalesced, self.where, joins, self.outer, self.owner.shapes.column_type)
        return filters

    def _reach_partitions(self, used: list[exp.Window]) -> None:
        """For a key outside the windows' partitions: only partitions that hold a row with the key can matter.

        ``row_number() OVER (PARTITION BY payment_id …)`` traced by account: a semi join on the account's own
        payment ids keeps whole partitions, so every rank stays what it was, and leaves the rest of the table unread.
        """
        if not self.late or self.keys is not None or not used:
            return
        common = [p for p in used[0].args.get("partition_by") or [] if isinstance(p, exp.Expression)]
        for w in used[1:]:
            common = [p for p in common if any(p == q for q in w.args.get("partition_by") or [])]
        common = [p for p in common if not x.subqueries(p)]
        if not common or any(s.kind in ("SEMI", "ANTI") or (s.join and s.join.method) for s in self.sources.values()):
            return
        again = self.select.copy()
        for part in ("qualify", "order", "distinct", "limit", "offset"):
            again.set(part, None)
        wanted = [exp.alias_(p.copy(), f"_p{i}", quoted=True) for i, p in enumerate(common)]
        wanted += [exp.alias_(self.outputs[n].copy(), n, quoted=True) for n in self.late]
        again.set("expressions", wanted)
        alias = self.owner.fresh("i")
        Unique(f"{alias}s").visit(again, {a: a for a, _ in self.outer} | {a: a for a in self._outer_aliases()})
        self.owner.shapes.register(again)
        names = frozenset(f"_p{i}" for i in range(len(common)))
        body = self.owner.query(again, Demand(names, known=frozenset(self.late.items())), self.outer)
        on = [
            (exp.EQ if self.owner.shapes.required(p) and not self._is_optional(p) else exp.NullSafeEQ)(
                this=p.copy(), expression=x.column(alias, f"_p{i}")
            )
            for i, p in enumerate(common)
        ]
        self.partitions = exp.Join(this=x.derived(body, alias), kind="SEMI", on=exp.and_(*on, copy=False))

    def _is_optional(self, node: exp.Expression) -> bool:
        return any(self.sources[c.table].optional for c in node.find_all(exp.Column) if c.table in self.sources)

    def _outer_aliases(self) -> set[str]:
        inner = {s.alias_or_name for q in self.select.find_all(exp.Select) for s in sources_of(q)}
        return {c.table for c in self.select.find_all(exp.Column) if c.table} - inner

    def _movable(self, node: exp.Expression, used: list[exp.Window]) -> bool:
        """Whether a filter on an output column may as well stand in WHERE."""
        if any(isinstance(n, exp.Query | exp.Window | exp.Explode | exp.Unnest | exp.Literal) for n in x.walk(node)):
            return False
        if not any(isinstance(n, exp.Column) for n in x.walk(node)):
            return False
        if self.keys is not None and (self.grouping_sets or not any(node == k for k in self.keys)):
            return False
        return all(any(node == p for p in w.args.get("partition_by") or []) for w in used)

    # expressions

    def _flattened(self, node: exp.Expression, base: str) -> exp.Expression:
        """The expression over the level of plain columns: ``s3.balance`` becomes that level's ``c7``."""

        def flat(n: exp.Expression) -> exp.Expression:
            if isinstance(n, exp.Column) and n.table in self.sources:
                name = self.flat.setdefault((n.table, n.name), f"c{len(self.flat)}")
                self.reads.add((n.table, n.name))
                return x.column(base, name)
            return n

        return node.copy().transform(flat)

    def _value(self, node: exp.Expression) -> exp.Expression:
        """The expression with its subqueries rebuilt, to be computed."""
        copy = node.copy()
        for query in x.subqueries(copy):
            replacement = self._computed_subquery(query)
            if query is copy:
                return replacement
            query.replace(replacement)
        return copy

    def _computed_subquery(self, query: exp.Expression) -> exp.Expression:
        exists = isinstance(query.parent, exp.Exists)
        names = outputs(query)
        columns = frozenset() if exists else frozenset(names)
        alias = self.owner.fresh("v")
        body = self.owner.query(query, Demand(columns, known=self._member_known(query)), {**self.outer, **self.known})
        wanted: list[exp.Expression] = [x.column(alias, n) for n in names] if columns else [exp.Literal.number(1)]
        select = exp.Select(expressions=wanted).from_(x.derived(body, alias))
        return exp.Subquery(this=select) if isinstance(query, exp.Subquery) or not exists else select

    def _member_known(self, query: exp.Expression) -> frozenset[tuple[str, int]]:
        """``WHERE account_id IN (SELECT id …)`` with the key's account: only that id is looked for."""
        parent = query.parent
        if not isinstance(parent, exp.In) or not isinstance(parent.this, exp.Column):
            return frozenset()
        if self.where is None or not any(parent == c for c in x.conjuncts(self.where)):
            return frozenset()
        place, name = (parent.this.table, parent.this.name), outputs(query)[0]
        constant = self.known.get(place)
        shapes = self.owner.shapes
        if constant is None or constant in self.owner.nulls:
            return frozenset()
        kind = shapes.column_type(place)
        inner = query.this if isinstance(query, exp.Subquery) else query
        return frozenset({(name, constant)}) if kind and shapes.output_type(inner, name) == kind else frozenset()
