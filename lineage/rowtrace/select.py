"""The annotation of one SELECT: its joins and WHERE, then its groups, then its windows, each a level of its own."""

from __future__ import annotations

from dataclasses import replace

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.answers import Answer, Source
from lineage.rowtrace.demand import Ask, Demand
from lineage.rowtrace.parsing import DIALECT
from lineage.rowtrace.pushdown import Place
from lineage.rowtrace.windows import WindowScope


class SelectAnnotator(WindowScope):
    """Builds one SELECT. Used once."""

    def build(self) -> exp.Expression:
        levels = [p for p in (*self.computed, *self.traced, self.qualify) if p is not None]
        self.windowed = self.qualify is not None or any(x.windows(e) for e in levels)
        key_filters = self._push_down()
        return self._staged(key_filters) if self.windowed or self.keys is not None else self._flat_only(key_filters)

    def _flat_only(self, key_filters: list[exp.Expression]) -> exp.Expression:
        values = {n: exp.alias_(self._value(self.outputs[n]), n, quoted=True) for n in sorted(self.demand.columns)}
        answers = self._begun()
        for answer in answers:
            self._turn_to(answer)
            for e in answer.traced:
                answer.pieces += self._rows_of(e, condition=False)
            answer.columns = [values[n] for n in self._columns_for(answer.ask)]
        return self._assemble(list(values.values()), answers, key_filters)

    def _begun(self) -> list[Answer]:
        """An answer for each ask, with what WHERE and the joins say to all of them."""
        pieces, shared = self._conditions(), self.notes
        return [Answer(ask, self._traced([ask]), ask.counted, list(pieces), shared.copy()) for ask in self.demand.asks]

    def _staged(self, key_filters: list[exp.Expression]) -> exp.Expression:
        """Joins and WHERE first, as one level of plain columns; groups and windows over it."""
        base = self.owner.fresh("f")
        answers = self._begun()
        filters = [p.this for p in (self.having, self.qualify) if p is not None]
        grouped = self.keys is not None
        for answer in answers:
            self._turn_to(answer)
            answer.tops = [*answer.traced, *filters]
            if grouped:
                self._read_groups(answer)
            else:
                seen = [*answer.tops, *(self.outputs[n] for n in self._columns_for(answer.ask))]
                answer.counted = answer.counted or any(x.windows(e) for e in seen)
                for e in answer.tops:
                    answer.pieces += self._rows_of(e, condition=False)
        level: exp.Expression
        if grouped:
            level, alias, mapping = self._grouped(base, answers)
        else:
            level, alias, mapping = exp.Select(), base, {}
        if self.windowed:
            whole = not (key_filters or self.known or self.partitions or self._outer_aliases())
            final = self._windowed(level if grouped else None, alias, mapping, answers, deferred=whole)
        else:
            final = level
        columns = {place: exp.alias_(x.column(*place), n, quoted=True) for place, n in self.flat.items()}
        for answer in answers:
            answer.columns = [c for place, c in columns.items() if place in answer.reads]
        flat = self._assemble(list(columns.values()), answers, key_filters)
        for holder in (final, *self.stages):
            for table in list(holder.find_all(exp.Table)):
                if table.name == base and not table.db:
                    table.replace(x.derived(flat, base))
        self.owner.extra += self.stages
        return final

    # the level of joins

    def _assemble(
        self, columns: list[exp.Expression], answers: list[Answer], filters: list[exp.Expression]
    ) -> exp.Select:
        """FROM, joins and WHERE over rebuilt sources, with the rows of all that is behind one joined row."""
        where = [self._value(c) for c in x.conjuncts(self.where)] + filters
        for answer in answers:
            self._turn_to(answer)
            answer.kept = self._kept_sources(answer, where)
            answer.rows = self._joined_rows(answer)
        kept = [s for s in self.sources.values() if any(s.alias in {k.alias for k in a.kept} for a in answers)]
        on = {s.alias: self._value(s.join.args["on"]) for s in kept if s.join and s.join.args.get("on")}
        correlated = {s.alias: s.node for s in kept if self._correlated(s.node)}
        always = [*where, *([self.partitions] if self.partitions is not None else [])]
        everything = [*columns, *always, *on.values(), *correlated.values()]
        needed = set[Place]().union(*map(self._places, everything))
        asks: dict[str, dict[Ask, None]] = {s.alias: {} for s in kept}
        for answer in answers:
            needed |= self._pass_on(answer, always, on, correlated)
            for alias, ask in answer.passed_on.items():
                asks[alias][ask] = None
        outer = {**self.outer, **self.known}
        select = exp.Select()
        for s in kept:
            known = frozenset((c, k) for (a, c), k in self.known.items() if a == s.alias)
            demand = Demand(frozenset(c for a, c in needed if a == s.alias), tuple(asks[s.alias]), known)
            rebuilt = self.owner.source(s.node, demand, outer, s.alias)
            if s.join is None:
                select = select.from_(rebuilt)
                continue
            join = s.join.copy()
            join.set("this", rebuilt)
            if s.alias in on:
                join.set("on", on[s.alias])
            select.append("joins", join)
            if s.kind == "SEMI" and self.owner.has_rows(s.node):
                self._add_semi_rows(s, demand, on.get(s.alias), answers)
        if self.partitions is not None:
            select.append("joins", self.partitions)
        if where:
            select = select.where(*where)
        lists = [exp.alias_(a.rows, self.owner.answer(a.ask), quoted=True) for a in answers]
        select.set("expressions", [*columns, *lists])
        return select

    def _joined_rows(self, answer: Answer) -> exp.Expression:
        """The sources behind every row and the pieces besides, with the sources' lists still to be named."""
        feature = self.owner.feature
        pieces = self._distinct_pieces(answer.pieces)
        listed = [x.column(s.alias, x.ROWS) for s in answer.kept if s.visible and self.owner.has_rows(s.node)]
        always = [
            x.column(s.alias, x.ROWS)
            for s in answer.kept
            if s.visible and self.owner.has_rows(s.node) and not (feature and s.optional and not answer.counted)
        ]
        rows = x.concat(always + [p for p in pieces if p not in always])
        if feature and answer.kept and all(s.optional for s in answer.kept if s.visible):
            # A FULL JOIN row exists because of one side or the other: if the asked side is absent, it is the other.
            present = exp.GT(this=x.call("list_count", rows.copy()), expression=exp.Literal.number(0))
            rows = exp.Case(ifs=[exp.If(this=present, true=rows)], default=x.concat(listed))
        return rows

    def _places(self, node: exp.Expression) -> frozenset[Place]:
        """Columns of the sources that an expression reads. Asked again of the same expressions for each answer."""
        known = self.placed.get(id(node))
        if known is None:
            used = x.columns_of([node], self.sources)
            known = self.placed[id(node)] = (node, frozenset((a, c) for a, names in used.items() for c in names))
        return known[1]

    def _pass_on(
        self,
        answer: Answer,
        always: list[exp.Expression],
        on: dict[str, exp.Expression],
        correlated: dict[str, exp.Expression],
    ) -> set[Place]:
        """Settle what one ask asks of each source, and make its rows read the sources' answers; returns what is read.

        What is needed to compute a row that is there is behind it as a condition.
        """
        here = [*always, *(d[s.alias] for d in (on, correlated) for s in answer.kept if s.alias in d)]
        needed = set[Place]().union(*map(self._places, (*answer.columns, *here, answer.rows)))
        if self.owner.feature:
            answer.notes.conditions |= needed
        else:
            answer.notes.values |= needed
        answer.passed_on = answer.notes.asks([s.alias for s in answer.kept if s.visible], counted=answer.counted)
        answer.passed_on |= answer.notes.asks([s.alias for s in answer.kept if not s.visible], counted=False)
        names = {a: self.owner.answer_of(self.sources[a].node, ask) for a, ask in answer.passed_on.items()}
        for c in answer.rows.find_all(exp.Column):
            if c.name == x.ROWS and c.table in names:
                c.set("this", exp.to_identifier(names[c.table], quoted=True))
        return needed

    def _distinct_pieces(self, pieces: list[exp.Expression]) -> list[exp.Expression]:
        found: dict[str, exp.Expression] = {}
        for p in pieces:
            found.setdefault(p.sql(dialect=DIALECT), p)
        return list(found.values())

    def _kept_sources(self, answer: Answer, where: list[exp.Expression]) -> list[Source]:
        """For one feature, a LEFT JOIN that nothing reads is left out, if it cannot change how often a row comes."""
        kept = list(self.sources.values())
        if not self.owner.feature:
            return kept
        read = {alias for alias, _ in answer.notes.values | answer.notes.conditions}
        read |= {a for e in (*answer.columns, *where) for a, _ in self._places(e)}
        read |= {c.table for p in answer.pieces for c in p.find_all(exp.Column)}
        for source in reversed(list(self.sources.values())):
            if source.alias in read or (
                source.join is None
                or source.join.side != "LEFT"
                or source.join.method
                or source.kind in ("SEMI", "ANTI")
            ):
                continue
            if isinstance(source.node, exp.Lateral | exp.Unnest):
                continue
            others = [s.join.args["on"] for s in kept if s is not source and s.join and s.join.args.get("on")]
            if any(alias == source.alias for e in (*others, *(s.node for s in kept)) for alias, _ in self._places(e)):
                continue
            keys = frozenset(
                side.name
                for c in x.conjuncts(source.join.args.get("on"))
                if isinstance(c, exp.EQ)
                for side in (c.this, c.expression)
                if isinstance(side, exp.Column) and side.table == source.alias
            )
            if answer.counted and not self.owner.shapes.unique(source.node, keys):
                continue
            kept.remove(source)
        for source in kept:
            if source.optional and source.join is not None and source.join.args.get("on") is not None:
                self._note(source.join.args["on"], condition=True)
        return kept

    def _add_semi_rows(self, source: Source, demand: Demand, on: exp.Expression | None, answers: list[Answer]) -> None:
        """The rows that a SEMI JOIN matched: the same source once more, as a correlated subquery."""
        for answer in answers:
            ask = answer.passed_on[source.alias]
            alias = self.owner.fresh("m")
            once_more = replace(demand, asks=(ask,))
            again = self.owner.source(source.node, once_more, {**self.outer, **self.known}, alias)
            rows = x.column(alias, self.owner.answer_of(source.node, ask))
            select = exp.Select(expressions=[x.gathered(rows)]).from_(again)
            if on is not None:
                select = select.where(x.moved(on, source.alias, alias))
            answer.rows = x.concat([answer.rows, exp.Subquery(this=select)])
