"""Window functions: where each looks, and the rows it finds there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.answers import Answer
from lineage.rowtrace.groups import GroupScope
from lineage.rowtrace.parsing import DIALECT
from lineage.rowtrace.pushdown import Place


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

    @property
    def text(self) -> str:
        """Two reaches with the same text look at the same rows."""
        only = self.only.sql(dialect=DIALECT) if self.only is not None else ""
        return f"{self.window().sql(dialect=DIALECT)} {only}"

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


class WindowScope(GroupScope):
    """A scope that can put a level of windows over its rows or groups."""

    def _windowed(
        self,
        level: exp.Expression | None,
        alias: str,
        mapping: dict[str, str],
        answers: list[Answer],
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

        self.reads = shared = set[Place]()
        qualify = settled(self._value(self.qualify.this)) if self.qualify is not None else None
        columns, read = [], {}
        for n in sorted(self.demand.columns):
            self.reads = read[n] = set[Place]()
            columns.append(exp.alias_(settled(self._value(self.outputs[n])), n, quoted=True))
        reaches: list[list[Reach]] = []
        for answer in answers:
            self._turn_to(answer)
            self.reads |= shared.union(*(read[n] for n in self._columns_for(answer.ask)))
            reaches.append([self._window_reach(w, settled) for e in answer.tops for w in x.windows(e)])
        every = [r for found in reaches for r in found]
        excluding = any(r.spec is not None and r.spec.args.get("exclude") for r in every)
        deferred = deferred and bool(every) and not excluding
        lists = []
        for answer, found in zip(answers, reaches, strict=True):
            self._turn_to(answer)
            rows = x.column(alias, self.owner.answer(answer.ask))
            pieces: list[exp.Expression] = [rows]
            if not deferred:
                pieces += [r.listed(rows) for r in found]
            pieces += [mark for r in found for mark in r.cut()]
            if grouped:
                pieces += [settled(p) for p in self._group_level_pieces(answer)]
            lists.append(exp.alias_(x.concat(pieces), self.owner.answer(answer.ask), quoted=True))
        select = exp.Select(expressions=[*columns, *lists])
        if qualify is not None:
            select.set("qualify", exp.Qualify(this=qualify))
        below = x.derived(level, alias) if level is not None else exp.Table(this=exp.to_identifier(alias, quoted=True))
        if not deferred:
            return select.from_(below)
        return self._deferred(select, below, alias, answers, reaches)

    def _deferred(
        self,
        select: exp.Select,
        below: exp.Expression,
        alias: str,
        answers: list[Answer],
        reaches: list[list[Reach]],
    ) -> exp.Select:
        stage, top, again = (self.owner.fresh("t") for _ in range(3))
        numbers: list[exp.Expression] = [exp.Column(this=exp.Star(), table=exp.to_identifier(alias, quoted=True))]
        within: dict[str, list[exp.Expression]] = {}
        """Each different reach, by its text → what holds for the rows in it."""
        for r in (r for found in reaches for r in found):
            if r.text in within:
                continue
            i = len(within)
            matches = within[r.text] = []
            for j, p in enumerate(r.partition):
                select.append("expressions", exp.alias_(p.copy(), f"__p{i}_{j}", quoted=True))
                matches.append(exp.NullSafeEQ(this=x.moved(p, alias, again), expression=x.column(top, f"__p{i}_{j}")))
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
                matches.append(exp.Paren(this=x.moved(r.only, alias, again)))
        lists = []
        for answer, found in zip(answers, reaches, strict=True):
            name = self.owner.answer(answer.ask)
            fetched: list[exp.Expression] = [x.column(top, name)]
            for r in found:
                source = exp.alias_(
                    exp.Table(this=exp.to_identifier(stage, quoted=True)), again, table=True, quoted=True
                )
                inner = exp.Select(expressions=[x.gathered(x.column(again, name))]).from_(source)
                matches = [m.copy() for m in within[r.text]]
                fetched.append(exp.Subquery(this=inner.where(*matches) if matches else inner))
            lists.append(exp.alias_(x.concat(fetched), name, quoted=True))
        body = exp.Select(expressions=numbers).from_(below)
        named = exp.TableAlias(this=exp.to_identifier(stage, quoted=True))
        self.stages.append(exp.CTE(this=body, alias=named, materialized=True))
        staged = exp.alias_(exp.Table(this=exp.to_identifier(stage, quoted=True)), alias, table=True, quoted=True)
        outs = [x.column(top, n) for n in sorted(self.demand.columns)]
        return exp.Select(expressions=[*outs, *lists]).from_(x.derived(select.from_(staged), top))

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
