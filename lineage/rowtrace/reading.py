"""What an expression reads: the columns it notes for its sources, and the rows it adds besides them."""

from __future__ import annotations

from itertools import pairwise

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.demand import Ask, Demand
from lineage.rowtrace.resolve import outputs
from lineage.rowtrace.scope import Scope


class ReadingScope(Scope):
    """A scope that tells the rows behind its expressions, as *pieces*: list expressions over its sources."""

    def _conditions(self) -> list[exp.Expression]:
        """Rows behind the row's being there at all: WHERE and the joins' conditions."""
        pieces = []
        if self.where is not None:
            for c in x.conjuncts(self.where):
                pieces += self._rows_of(c, condition=True, conjunct=True)
        for source in self.sources.values():
            on = source.join.args.get("on") if source.join is not None else None
            if on is not None and not (self.owner.feature and source.optional):
                for c in x.conjuncts(on):
                    pieces += self._rows_of(c, condition=True, conjunct=not source.optional)
            elif on is not None and x.subqueries(on):
                for c in x.conjuncts(on):
                    pieces += [p for q in x.subqueries(c) for p in self._subquery_pieces(q, conjunct=False)]
            inner = source.node.this if isinstance(source.node, exp.Lateral) else source.node
            if not isinstance(inner, exp.Subquery | exp.Table) or self._correlated(inner):
                self._note(inner, condition=True)
        return pieces

    def _correlated(self, node: exp.Expression) -> bool:
        return any(c.table in self.sources for c in node.find_all(exp.Column))

    def _note(self, node: exp.Expression, *, condition: bool) -> None:
        for c in node.find_all(exp.Column):
            if c.table in self.sources:
                (self.notes.conditions if condition else self.notes.values).add((c.table, c.name))

    def _rows_of(self, node: exp.Expression, *, condition: bool, conjunct: bool = False) -> list[exp.Expression]:
        """Note what an expression reads; returns the pieces it adds besides the sources that are behind every row."""
        if isinstance(node, exp.Query):
            return self._subquery_pieces(node, conjunct=conjunct)
        if isinstance(node, exp.Column):
            if node.table not in self.sources:
                return []
            source = self.sources[node.table]
            (self.notes.conditions if condition else self.notes.values).add((node.table, node.name))
            optional = source.optional and self.owner.feature and self.owner.has_rows(source.node)
            return [x.column(source.alias, x.ROWS)] if optional else []
        if self.owner.feature and isinstance(node, exp.Case | exp.If | exp.Coalesce):
            taken = self._branch_taken(node, condition=condition)
            if taken is not None:
                return taken
        if isinstance(node, exp.Not) and conjunct and isinstance(node.this, exp.Exists | exp.In):
            # It holds, so nothing matched: there are no rows to name. What it reads of this level counts all the same.
            self._note(node, condition=True)
            outside = node.this.this if isinstance(node.this, exp.In) else None
            return self._rows_of(outside, condition=True) if outside is not None else []
        pieces = []
        inner = conjunct and isinstance(node, exp.Exists | exp.In | exp.Paren | exp.Not)
        for child in node.iter_expressions():
            for p in self._rows_of(child, condition=condition, conjunct=inner):
                if p not in pieces:
                    pieces.append(p)
        return pieces

    def _branch_taken(self, node: exp.Expression, *, condition: bool) -> list[exp.Expression] | None:
        """CASE and COALESCE: the rows of the conditions, and of the branch that this row took."""
        if any(isinstance(n, exp.Query | exp.Window) for n in x.walk(node)) or x.aggregates(node, self.named):
            return None
        if isinstance(node, exp.Coalesce):
            parts = [node.this, *node.expressions]
            pieces = self._rows_of(parts[0], condition=condition)
            unset: list[exp.Expression] = []
            for before, part in pairwise(parts):
                unset.append(exp.Is(this=before.copy(), expression=exp.Null()))
                if more := self._rows_of(part, condition=condition):
                    absent = exp.and_(*[u.copy() for u in unset])
                    pieces.append(exp.Case(ifs=[exp.If(this=absent, true=x.concat(more))]))
            return pieces
        if isinstance(node, exp.If):
            node = exp.Case(ifs=[exp.If(this=node.this, true=node.args["true"])], default=node.args.get("false"))
        pieces = self._rows_of(node.this, condition=True) if node.this else []
        ifs = []
        for branch in node.args["ifs"]:
            pieces += [p for p in self._rows_of(branch.this, condition=True) if p not in pieces]
            rows = self._rows_of(branch.args["true"], condition=condition)
            ifs.append(exp.If(this=branch.this.copy(), true=x.concat(rows)))
        default = node.args.get("default")
        otherwise = self._rows_of(default, condition=condition) if default is not None else []
        if otherwise or any(i.args["true"].find(exp.Column) for i in ifs):
            subject = node.this.copy() if node.this else None
            pieces.append(exp.Case(this=subject, ifs=ifs, default=x.concat(otherwise)))
        return pieces

    def _subquery_pieces(self, query: exp.Expression, *, conjunct: bool) -> list[exp.Expression]:
        """The rows of a subquery: those that match for EXISTS, IN and ANY, all of them for a value or ALL.

        Rebuilt once, though several asks may need it: they all ask the same of it.
        """
        self._note(query, condition=True)
        built = self.matched.get((id(query), conjunct))
        if built is None:
            built = self.matched[id(query), conjunct] = self._matching_rows(query, conjunct=conjunct)
        return [built]

    def _matching_rows(self, query: exp.Expression, *, conjunct: bool) -> exp.Expression:
        parent = query.parent
        member = parent if isinstance(parent, exp.In) else None
        exists = isinstance(parent, exp.Exists)
        compared = parent.parent if isinstance(parent, exp.Any) else None
        alias = self.owner.fresh("w")
        names = outputs(query)
        need = frozenset(names) if member is not None or compared is not None else frozenset()
        values = frozenset() if exists else frozenset(names)
        known = self._member_known(query)
        ask = Ask(values)
        body = self.owner.query(query, Demand(need, (ask,), known), {**self.outer, **self.known})
        rows = x.column(alias, self.owner.answer(ask))
        select = exp.Select(expressions=[x.gathered(rows)]).from_(x.derived(body, alias))
        match: exp.Expression | None = None
        if member is not None:
            left = member.this.expressions if isinstance(member.this, exp.Tuple) else [member.this]
            pairs = [exp.EQ(this=e.copy(), expression=x.column(alias, n)) for e, n in zip(left, names, strict=False)]
            match = exp.and_(*pairs)
        elif compared is not None and isinstance(compared, exp.Binary):
            other = compared.this if compared.expression is parent else compared.expression
            here = x.column(alias, names[0])
            sides = (other.copy(), here) if compared.expression is parent else (here, other.copy())
            match = type(compared)(this=sides[0], expression=sides[1])
        if match is not None and any(isinstance(n, exp.Query) for n in x.walk(match)):
            match = None
        if match is not None and conjunct:
            select = select.where(match)
        elif match is not None:
            # Where nothing matches but something is unknown, the unknown is what the answer NULL comes from.
            unknown = exp.Is(this=exp.Paren(this=match.copy()), expression=exp.Null())
            decided = exp.Case(
                ifs=[exp.If(this=x.call("bool_or", match.copy()), true=x.gathered(rows, match))],
                default=x.gathered(rows, unknown),
            )
            select.set("expressions", [decided])
        return exp.Subquery(this=select)
