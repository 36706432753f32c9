"""Window functions: where each looks, and the rows it finds there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.parsing import DIALECT
from lineage.rowtrace.reading import ReadingScope


@dataclass(frozen=True)
class Reach:
    """Where a window function looks: as a window that any aggregate can be put over."""

    function: exp.Expression
    partition: list[exp.Expression]
    order: exp.Expression | None
    spec: exp.Expression | None
    only: exp.Expression | None

    def window(self) -> exp.Window:
        return exp.Window(
            this=self.function, partition_by=self.partition, order=self.order, spec=self.spec, over="OVER"
        ).copy()

    def cut(self) -> list[exp.Expression]:
        """What marks a row whose frame counts rows over an order that has equals: nobody can say which are in it."""
        counted = self.spec is not None and str(self.spec.args.get("kind", "")).upper() == "ROWS"
        ends = {str(self.spec.args.get(e, "")).upper() for e in ("start", "end")} if self.spec is not None else set()
        if not counted or ends == {"UNBOUNDED"}:
            return []
        whole = replace(self, order=None, spec=None)
        every = replace(whole, function=exp.Count(this=exp.Star())).window()
        keys = [o.this.copy() for o in self.order.expressions] if self.order is not None else [exp.Literal.number(1)]
        distinct = exp.Count(this=exp.Distinct(expressions=[x.call("row", *keys)]))
        different = replace(whole, function=distinct).window()
        mark = exp.Array(expressions=[exp.cast(exp.Literal.number(x.FRAME_TIE), "HUGEINT")])
        return [exp.Case(ifs=[exp.If(this=exp.GT(this=every, expression=different), true=mark)])]

    def listed(self, rows: exp.Expression) -> exp.Expression:
        """The lists of the rows in reach, as one list."""
        function = x.call("list", rows.copy())
        if self.only is not None:
            function = exp.Filter(this=function, expression=exp.Where(this=self.only.copy()))
        return x.call("flatten", replace(self, function=function).window())


class WindowScope(ReadingScope):
    """A scope that can put a level of windows over its rows or groups."""

    def _windowed(
        self,
        level: exp.Expression | None,
        alias: str,
        mapping: dict[str, str],
        tops: list[exp.Expression],
        *,
        deferred: bool,
    ) -> exp.Select:
        """The level of windows, over the groups or straight over the rows.

        deferred: the key reached nothing below, so that listing each row's partition would be quadratic. The level
        below is then materialized once, windows only note where their rows begin and end in it, and the rows are
        fetched for the output rows that are left.
        """
        grouped = level is not None

        def settled(node: exp.Expression) -> exp.Expression:
            return _mapped(node, mapping, alias) if grouped else self._flattened(node, alias)

        rows = x.column(alias, x.ROWS)
        reaches = [self._window_reach(w, settled) for e in tops for w in x.windows(e)]
        excluding = any(r.spec is not None and r.spec.args.get("exclude") for r in reaches)
        deferred = deferred and bool(reaches) and not excluding
        pieces = [rows]
        if not deferred:
            pieces += [r.listed(rows) for r in reaches]
        pieces += [mark for r in reaches for mark in r.cut()]
        if grouped:
            pieces += [settled(p) for p in self._group_level_pieces()]
        columns = [
            exp.alias_(settled(self._value(self.outputs[n])), n, quoted=True) for n in sorted(self.demand.columns)
        ]
        select = exp.Select(expressions=[*columns, exp.alias_(x.concat(pieces), x.ROWS, quoted=True)])
        if self.qualify is not None:
            select.set("qualify", exp.Qualify(this=settled(self._value(self.qualify.this))))
        below = x.derived(level, alias) if level is not None else exp.Table(this=exp.to_identifier(alias, quoted=True))
        if not deferred:
            return select.from_(below)
        stage, top = self.owner.fresh("t"), self.owner.fresh("t")
        numbers = [exp.Column(this=exp.Star(), table=exp.to_identifier(alias, quoted=True))]
        fetched: list[exp.Expression] = [x.column(top, x.ROWS)]
        for i, r in enumerate(reaches):
            again = self.owner.fresh("t")
            matches = []
            for j, p in enumerate(r.partition):
                select.append("expressions", exp.alias_(p.copy(), f"__p{i}_{j}", quoted=True))
                matches.append(exp.NullSafeEQ(this=_moved(p, alias, again), expression=x.column(top, f"__p{i}_{j}")))
            if r.order is not None or r.spec is not None:
                place = exp.Window(this=exp.RowNumber(), partition_by=r.partition, order=r.order, over="OVER").copy()
                numbers.append(exp.alias_(place, f"__n{i}", quoted=True))
                for name, end in (("__lo", exp.Min), ("__hi", exp.Max)):
                    bound = replace(r, function=end(this=x.column(alias, f"__n{i}"))).window()
                    select.append("expressions", exp.alias_(bound, f"{name}{i}", quoted=True))
                matches += [
                    exp.GTE(this=x.column(again, f"__n{i}"), expression=x.column(top, f"__lo{i}")),
                    exp.LTE(this=x.column(again, f"__n{i}"), expression=x.column(top, f"__hi{i}")),
                ]
            if r.only is not None:
                matches.append(exp.Paren(this=_moved(r.only, alias, again)))
            source = exp.alias_(exp.Table(this=exp.to_identifier(stage, quoted=True)), again, table=True, quoted=True)
            inner = exp.Select(expressions=[x.gathered(x.column(again, x.ROWS))]).from_(source)
            fetched.append(exp.Subquery(this=inner.where(*matches) if matches else inner))
        body = exp.Select(expressions=numbers).from_(below)
        named = exp.TableAlias(this=exp.to_identifier(stage, quoted=True))
        self.stages.append(exp.CTE(this=body, alias=named, materialized=True))
        staged = exp.alias_(exp.Table(this=exp.to_identifier(stage, quoted=True)), alias, table=True, quoted=True)
        outs = [x.column(top, n) for n in sorted(self.demand.columns)]
        return exp.Select(expressions=[*outs, exp.alias_(x.concat(fetched), x.ROWS, quoted=True)]).from_(
            x.derived(select.from_(staged), top)
        )

    def _window_reach(self, window: exp.Window, settled: Callable[[exp.Expression], exp.Expression]) -> Reach:
        """The rows behind a window function's value: its frame, its partition for ranks, the way back for lag."""
        function = x.window_function(window)
        partition = [settled(p) for p in window.args.get("partition_by") or []]
        order, spec = window.args.get("order"), window.args.get("spec")
        only = None
        if x.is_ranking(function):
            order, spec = None, None
        elif isinstance(function, exp.Lag | exp.Lead):
            offset = function.args.get("offset")
            steps = "1" if offset is None else offset.sql(dialect=DIALECT)
            if (
                not steps.isdigit()
                or isinstance(window.this, exp.IgnoreNulls)
                or function.find(exp.Order, exp.IgnoreNulls)
            ):
                order, spec = None, None
            elif isinstance(function, exp.Lag):
                spec = exp.WindowSpec(kind="ROWS", start=steps, start_side="PRECEDING", end="CURRENT ROW")
            else:
                spec = exp.WindowSpec(kind="ROWS", start="CURRENT ROW", end=steps, end_side="FOLLOWING")
        elif isinstance(window.this, exp.Filter):
            only = settled(window.this.expression.this)
        return Reach(
            exp.Null(),
            partition,
            settled(order) if order is not None else None,
            settled(spec) if spec is not None else None,
            only,
        )

    def _group_level_pieces(self) -> list[exp.Expression]:
        """Subqueries evaluated once per group: in the SELECT list or HAVING, outside any aggregate."""
        found = []
        for e in (*self.traced, *([self.having.this] if self.having is not None else [])):
            inside = {id(q) for a in x.aggregates(e, self.named) for q in x.subqueries(a)}
            top = self.having is not None and e is self.having.this
            for q in x.subqueries(e):
                if id(q) not in inside and not any(q == k for k in self.keys or []):
                    found += self._subquery_pieces(q, conjunct=top)
        return found


def _moved(node: exp.Expression, alias: str, to: str) -> exp.Expression:
    """The expression over another reading of the same relation."""
    copy = node.copy()
    for c in copy.find_all(exp.Column):
        if c.table == alias:
            c.set("table", exp.to_identifier(to, quoted=True))
    return copy


def _mapped(node: exp.Expression, mapping: dict[str, str], alias: str) -> exp.Expression:
    """The expression over the level of groups: each grouping key and aggregate becomes that level's column."""

    def visit(n: exp.Expression, *, in_window_function: bool = False) -> exp.Expression:
        name = mapping.get(n.sql(dialect=DIALECT)) if not in_window_function else None
        if name is not None:
            return x.column(alias, name)
        for key, value in list(n.args.items()):
            function = isinstance(n, exp.Window | exp.Filter | exp.IgnoreNulls | exp.RespectNulls) and key == "this"
            own = function and (isinstance(n, exp.Window) or in_window_function)
            if isinstance(value, exp.Expression):
                n.set(key, visit(value, in_window_function=own))
            elif isinstance(value, list):
                n.set(key, [visit(v) if isinstance(v, exp.Expression) else v for v in value])
        return n

    return visit(node.copy())
