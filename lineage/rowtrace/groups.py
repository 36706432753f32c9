"""GROUP BY: the level of groups over the plain columns, and the rows that each group gathers."""

from __future__ import annotations

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.answers import Answer
from lineage.rowtrace.demand import Ask
from lineage.rowtrace.parsing import DIALECT
from lineage.rowtrace.pushdown import Place
from lineage.rowtrace.reading import ReadingScope


class GroupScope(ReadingScope):
    """A scope that can put a level of groups over its rows."""

    windowed = False
    """Whether a level of windows comes above."""

    def _read_groups(self, answer: Answer) -> None:
        """Note what the groups read for one answer: the aggregates told, and the keys as conditions."""
        for e in answer.tops:
            answer.told += x.aggregates(e, self.named)
        answer.counted = any(x.counts_rows(a) for a in answer.told)
        for aggregate in answer.told:
            answer.pieces += self._rows_of(aggregate, condition=False)
        for key in self.keys or []:
            self._rows_of(key, condition=True)
            answer.pieces += [p for e in x.subqueries(key) for p in self._subquery_pieces(e, conjunct=False)]

    def _grouped(self, base: str, answers: list[Answer]) -> tuple[exp.Select, str, dict[str, str]]:
        """The level of groups. With windows above, it exports what they need; mapping: expression → exported column."""
        alias = self.owner.fresh("g")
        select = exp.Select().from_(exp.Table(this=exp.to_identifier(base, quoted=True)))
        self.reads = shared = set[Place]()
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
        exported = (
            self._for_windows(answers) if self.windowed else {n: self.outputs[n] for n in sorted(self.demand.columns)}
        )
        columns = []
        read: dict[str, set[Place]] = {}
        for name, e in exported.items():
            self.reads = read[name] = set()
            columns.append(exp.alias_(self._flattened(self._value(e), base), name, quoted=True))
        mapping = {e.sql(dialect=DIALECT): name for name, e in exported.items()} if self.windowed else {}
        lists = []
        for answer in answers:
            own = self._needed_by_windows(answer) if self.windowed else []
            names = [mapping[e.sql(dialect=DIALECT)] for e in own] if self.windowed else self._columns_for(answer.ask)
            self._turn_to(answer)
            self.reads |= shared.union(*(read[n] for n in names))
            rows = x.column(base, self.owner.answer(answer.ask))
            gathered = x.gathered(rows)
            if self.owner.feature and answer.told and not self._asks_for_keys(answer.ask):
                gathered = self._narrowed(answer.told, base, rows)
            pieces = [self._flattened(p, base) for p in self._group_level_pieces(answer)] if not self.windowed else []
            together = x.concat([gathered, *pieces]) if pieces else gathered
            lists.append(exp.alias_(together, self.owner.answer(answer.ask), quoted=True))
        select.set("expressions", [*columns, *lists])
        return select, alias, mapping

    def _for_windows(self, answers: list[Answer]) -> dict[str, exp.Expression]:
        """Keys and aggregates that the level of windows reads, each under a name."""
        found: dict[str, exp.Expression] = {}
        for answer in answers:
            for e in self._needed_by_windows(answer):
                found.setdefault(e.sql(dialect=DIALECT), e)
        return {f"g{i}": e for i, e in enumerate(found.values())}

    def _needed_by_windows(self, answer: Answer) -> list[exp.Expression]:
        computed = [self.outputs[n] for n in self._columns_for(answer.ask)]
        return [*(self.keys or []), *(a for e in (*computed, *answer.tops) for a in x.aggregates(e, self.named))]

    def _narrowed(self, told: list[exp.Expression], base: str, rows: exp.Expression) -> exp.Expression:
        """Rows that the aggregates' own conditions let through; all of the group where none does.

        Also all of it where a ``sum(… ELSE 0)`` is 0 by its ELSE alone: without those rows it would be NULL.
        """
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

    def _asks_for_keys(self, ask: Ask) -> bool:
        """Whether the value asked for is a grouping key itself: then every row of the group says it."""
        values = [self.outputs[n] for n in ask.values if n in self.outputs]
        return any(not x.aggregates(e, self.named) for e in values)

    def _group_level_pieces(self, answer: Answer) -> list[exp.Expression]:
        """Subqueries evaluated once per group: in the SELECT list or HAVING, outside any aggregate."""
        found = []
        for e in (*answer.traced, *([self.having.this] if self.having is not None else [])):
            inside = {id(q) for a in x.aggregates(e, self.named) for q in x.subqueries(a)}
            top = self.having is not None and e is self.having.this
            for q in x.subqueries(e):
                if id(q) not in inside and not any(q == k for k in self.keys or []):
                    found += self._subquery_pieces(q, conjunct=top)
        return found
