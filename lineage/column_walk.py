"""SQL and schema in, column lineage out: a walk over the qualified scopes of one statement. No database, no files.

Each column of the result names its input columns and how they reach it, in the vocabulary of OpenLineage's column
lineage facet 1-2-0: DIRECT (IDENTITY, TRANSFORMATION, AGGREGATION) when the input's value flows into the output's,
INDIRECT (JOIN, GROUP_BY, FILTER, SORT, WINDOW, CONDITIONAL) when it decides which value that is. What decides over
whole rows (WHERE, HAVING, QUALIFY, GROUP BY, joins, DISTINCT, ORDER BY) stands once, for all columns, in ``dataset``;
an aggregate or a window function names it too, as far as it decides which rows the function sees.

Longer than a module should be because SQL is: the rules for one construct each are the short methods of ``_Walk``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlglot import exp, parse_one
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.optimizer.scope import Scope, build_scope

from pipeline.errors import ScoretraceError

DIRECT, INDIRECT = "DIRECT", "INDIRECT"
ROWS = "*"  # the column of an input that is the table's rows themselves, as count(*) reads it

Schema = Mapping[str, Mapping[str, str]]
"""Table as the SQL names it, its catalog left out (``raw.loan_servicing``) → column → SQL type, in column order."""


class LineageRefused(ScoretraceError):
    """A statement that no lineage can be read from: it does not parse, or selects nothing."""


@dataclass(frozen=True, order=True)
class Transformation:
    """One way in which an input reaches an output. masking: the input's value cannot be read off it (hash, count)."""

    type: str
    subtype: str
    masking: bool = False


@dataclass(frozen=True, order=True)
class Input:
    """An input column and every way in which it takes part. table: as the SQL names it, its catalog left out."""

    table: str
    column: str
    transformations: tuple[Transformation, ...]


@dataclass(frozen=True, order=True)
class Untraceable:
    """A column that could not be resolved. output: the result's column it would feed, ``*`` for its rows."""

    output: str
    expression: str
    reason: str


@dataclass(frozen=True)
class ColumnLineage:
    """Lineage of one statement.

    columns: output column → inputs, in output order; a constant has none. dataset: inputs that decide over whole rows.
    tables: every table read, sorted. untraceable: what is missing from the above, and why.
    """

    columns: Mapping[str, tuple[Input, ...]]
    dataset: tuple[Input, ...]
    tables: tuple[str, ...]
    untraceable: tuple[Untraceable, ...] = ()


IDENTITY = Transformation(DIRECT, "IDENTITY")
TRANSFORMATION = Transformation(DIRECT, "TRANSFORMATION")
AGGREGATION = Transformation(DIRECT, "AGGREGATION")
COUNTED = Transformation(DIRECT, "AGGREGATION", masking=True)
HASHED = Transformation(DIRECT, "TRANSFORMATION", masking=True)
JOIN, GROUP_BY, FILTER, SORT, WINDOW, CONDITIONAL = (
    Transformation(INDIRECT, subtype) for subtype in ("JOIN", "GROUP_BY", "FILTER", "SORT", "WINDOW", "CONDITIONAL")
)
_STRENGTH = ("IDENTITY", "TRANSFORMATION", "AGGREGATION")


def compose(outer: Transformation, inner: Transformation) -> Transformation:
    """How a column reaches the output through two steps, ``outer`` the one nearer to the output.

    Two DIRECT steps are the stronger of the two. With an INDIRECT one the whole is INDIRECT, of the kind nearest to
    the input, for that is what was done with the column; only CONDITIONAL yields to the kind further out.
    """
    if outer.type == inner.type == DIRECT:
        strongest = max(outer.subtype, inner.subtype, key=_STRENGTH.index)
        return Transformation(DIRECT, strongest, outer.masking or inner.masking)
    if inner.type == INDIRECT and (outer.type == DIRECT or inner.subtype != CONDITIONAL.subtype):
        return inner
    return outer


def column_lineage(sql: str, schema: Schema, dialect: str = "duckdb") -> ColumnLineage:
    """Column lineage of a SELECT, or of the SELECT inside a CREATE VIEW or CREATE TABLE AS.

    A table that ``schema`` lacks is no error: columns that name it still resolve, those that would need its column
    list (``*``, or an unqualified name beside other tables) are listed as untraceable. Raises LineageRefused when
    the text is not a query.
    """
    try:
        statement: Any = parse_one(sql, dialect=dialect)
    except SqlglotError as error:
        raise LineageRefused(f"the SQL cannot be parsed: {_plain(error)}", "check the archived statement") from error
    query = statement.expression if isinstance(statement, exp.Create) else statement
    query = query.unnest() if isinstance(query, exp.Subquery) else query
    if not isinstance(query, exp.Query):
        raise LineageRefused(f"this is no query but {statement.key.upper()}", "give a SELECT or a CREATE … AS SELECT")
    try:
        qualified = qualify(
            query.copy(),
            dialect=dialect,
            schema=_nested(schema),
            validate_qualify_columns=False,
            allow_partial_qualification=True,
            quote_identifiers=False,
        )
        root = build_scope(qualified)
    except SqlglotError as error:
        raise LineageRefused(
            f"the columns cannot be resolved: {_plain(error)}", "check the archived statement"
        ) from error
    if root is None:
        raise LineageRefused("the statement has no SELECT to walk", "give a SELECT or a CREATE … AS SELECT")
    return _Walk(schema, dialect).lineage(root)


def _nested(schema: Schema) -> dict[str, Any]:
    """The schema as sqlglot takes it: one level for each part of the name, equally deep for all."""
    depth = min((name.count(".") + 1 for name in schema), default=1)
    nested: dict[str, Any] = {}
    for name, columns in schema.items():
        parts = name.split(".")[-depth:]
        level = nested
        for part in parts[:-1]:
            level = level.setdefault(part, {})
        level[parts[-1]] = dict(columns)
    return nested


def _plain(error: Exception) -> str:
    """The first line of a parser's message, without its terminal colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", str(error)).splitlines()[0]


# -- what an expression does with its arguments

_Inputs = dict[tuple[str, str], set[Transformation]]

_HASHES = (exp.MD5, exp.MD5Digest, exp.SHA, exp.SHA1Digest, exp.SHA2, exp.SHA2Digest)
_HASH_NAMES = {"HASH", "MD5", "MD5_NUMBER", "SHA1", "SHA256"}
_BEST_OF = (exp.ArgMax, exp.ArgMin)
_RANKING = (exp.RowNumber, exp.Rank, exp.DenseRank, exp.PercentRank, exp.CumeDist, exp.Ntile)
_POSITION = (exp.Lag, exp.Lead, exp.FirstValue, exp.LastValue, exp.NthValue)
_AGGREGATE_NAMES = {
    "AVG", "BIT_AND", "BIT_OR", "BIT_XOR", "BOOL_AND", "BOOL_OR", "COUNT_IF", "COUNT_STAR", "ENTROPY", "FAVG",
    "FSUM", "GEOMEAN", "GEOMETRIC_MEAN", "HISTOGRAM", "KAHAN_SUM", "KURTOSIS", "KURTOSIS_POP", "LIST", "MAD",
    "MODE", "PRODUCT", "QUANTILE", "REGR_AVGX", "REGR_AVGY", "REGR_COUNT", "REGR_INTERCEPT", "REGR_R2",
    "REGR_SLOPE", "REGR_SXX", "REGR_SXY", "REGR_SYY", "RESERVOIR_QUANTILE", "SEM", "SKEWNESS", "SUMKAHAN",
}  # fmt: skip
_FUNCTION_SOURCE = (exp.Anonymous, exp.Func)


@dataclass
class _Relation:
    """Lineage of one scope: its columns, what decides over its rows, and the tables whose rows it counts."""

    columns: dict[str, _Inputs] = field(default_factory=dict)
    rows: _Inputs = field(default_factory=dict)
    tables: set[str] = field(default_factory=set)


class _Walk:
    """One statement's walk. Scopes are resolved once each, innermost first, as they are asked for."""

    def __init__(self, schema: Schema, dialect: str) -> None:
        self._schema = schema
        self._dialect = dialect
        self._relations: dict[int, _Relation] = {}
        self._lost: dict[int, dict[str, list[Untraceable]]] = {}
        self._losing: list[Untraceable] = []
        self._tables: set[str] = set()
        self._scopes: dict[int, Scope] = {}
        self._seen_by_functions: dict[int, _Inputs] = {}

    def lineage(self, root: Scope) -> ColumnLineage:
        self._scopes = {id(scope.expression): scope for scope in root.traverse()}
        relation = self._relation(root)
        return ColumnLineage(
            columns={name: _sorted(inputs) for name, inputs in relation.columns.items()},
            dataset=_sorted(relation.rows),
            tables=tuple(sorted(self._tables)),
            untraceable=tuple(sorted({u for lost in self._lost[id(root)].values() for u in lost})),
        )

    # -- scopes

    def _relation(self, scope: Scope) -> _Relation:
        # A recursive CTE refers to its first part by a scope of its own, which has not been traversed.
        scope = self._scopes.get(id(scope.expression), scope)
        found = self._relations.get(id(scope))
        if found is None:
            outer, self._losing = self._losing, []
            self._lost[id(scope)] = defaultdict(list)
            found = self._relations[id(scope)] = self._resolve(scope)
            self._losing = outer
        return found

    def _resolve(self, scope: Scope) -> _Relation:
        expression = scope.expression
        if isinstance(expression, exp.SetOperation):
            return self._set_operation(scope, expression)
        if isinstance(expression, exp.Select):
            return self._select(scope, expression)
        if isinstance(expression, exp.Values):
            names = expression.alias_column_names or [
                f"col{i}" for i in range(len(expression.expressions[0].expressions))
            ]
            return _Relation(columns={name: {} for name in names})
        if isinstance(expression, exp.UDTF):
            return self._table_function(scope, expression)
        if isinstance(expression, exp.Subquery):
            inner = next(iter(scope.derived_table_scopes or scope.subquery_scopes), None)
            if inner is not None:
                return self._relation(inner)
        relation = _Relation()
        self._record(scope, ROWS, expression, f"{expression.key} is not followed")
        return relation

    def _select(self, scope: Scope, select: exp.Select) -> _Relation:
        relation = _Relation(rows=self._rows(scope, select), tables=self._row_tables(scope))
        self._keep(scope, ROWS)
        for projection in select.expressions:
            name = _free_name(projection.alias_or_name, relation.columns)
            if _is_star(projection):
                self._record(scope, name, projection, "its columns are not known: the schema lacks a table it reads")
                relation.columns.setdefault(name, {})
                continue
            inputs: _Inputs = {}
            self._visit(projection, scope, IDENTITY, inputs)
            relation.columns[name] = inputs
            self._keep(scope, name)
        distinct = select.args.get("distinct")
        if distinct is not None and distinct.args.get("on") is None:
            for inputs in list(relation.columns.values()):
                _merge(relation.rows, inputs, GROUP_BY)
        return relation

    def _rows(self, scope: Scope, select: exp.Select) -> _Inputs:
        """What decides over the rows of a SELECT: its own clauses and those of everything it reads."""
        rows: _Inputs = {}
        for _, source in scope.selected_sources.values():
            if isinstance(source, Scope):
                inner = self._relation(source)
                _merge(rows, inner.rows, IDENTITY)
                self._adopt(source, ROWS)
                if isinstance(source.expression, exp.UDTF) and not isinstance(source.expression, exp.Values):
                    # How many elements a list has decides how often the row beside it comes.
                    for inputs in inner.columns.values():
                        _merge(rows, inputs, JOIN)
        for projection in select.expressions:
            for unnested in projection.find_all(exp.Explode, exp.Unnest):
                self._visit(unnested, scope, JOIN, rows)
        for join in select.args.get("joins") or ():
            self._visit(join.args.get("on"), scope, JOIN, rows)
            for using in join.args.get("using") or ():
                self._visit(using, scope, JOIN, rows)
        group = select.args.get("group")
        self._visit(select.args.get("where"), scope, FILTER, rows)
        self._visit(group, scope, GROUP_BY, rows)
        if group is not None and group.args.get("all"):
            for projection in select.expressions:
                if not any(self._is_aggregate(node) for node in projection.walk()):
                    self._visit(projection, scope, GROUP_BY, rows)
        self._seen_by_functions[id(scope)] = {key: set(ways) for key, ways in rows.items()}
        self._visit(select.args.get("having"), scope, FILTER, rows)
        self._visit(select.args.get("qualify"), scope, FILTER, rows)
        order = select.args.get("order")
        self._visit(order, scope, SORT, rows)
        if order is not None and any(o.this.name.upper() == "ALL" for o in order.expressions):
            for projection in select.expressions:
                self._visit(projection, scope, SORT, rows)
        distinct = select.args.get("distinct")
        if distinct is not None:
            self._visit(distinct.args.get("on"), scope, GROUP_BY, rows)
        for clause in ("limit", "offset"):
            self._visit(select.args.get(clause), scope, FILTER, rows)
        for lateral in select.args.get("laterals") or ():
            self._visit(lateral.this, scope, JOIN, rows)
        return rows

    def _row_tables(self, scope: Scope) -> set[str]:
        """The tables whose rows a SELECT reads, through whatever it selects from."""
        tables: set[str] = set()
        for _, source in scope.selected_sources.values():
            tables |= self._relation(source).tables if isinstance(source, Scope) else {self._table(source)}
        return {t for t in tables if t}

    def _set_operation(self, scope: Scope, operation: exp.SetOperation) -> _Relation:
        left_scope, right_scope = scope.set_operation_scopes
        left, right = self._relation(left_scope), self._relation(right_scope)
        only_left = isinstance(operation, exp.Except)
        relation = _Relation(tables=left.tables | (set() if only_left else right.tables))
        names = list(left.columns)
        by_name = bool(operation.args.get("by_name"))
        if not by_name and len(left.columns) != len(right.columns):
            self._record(scope, ROWS, operation, "its two sides do not have the same number of columns")
        pairs = {name: name for name in right.columns} if by_name else dict(zip(names, right.columns, strict=False))
        if by_name:
            names += [name for name in right.columns if name not in left.columns]
        for name in names:
            inputs: _Inputs = {}
            _merge(inputs, left.columns.get(name, {}), IDENTITY)
            self._adopt_from(scope, left_scope, name, name)
            other = pairs.get(name)
            if other is not None and not only_left:
                _merge(inputs, right.columns.get(other, {}), IDENTITY)
                self._adopt_from(scope, right_scope, other, name)
            relation.columns[name] = inputs
        for side_scope, side in ((left_scope, left), (right_scope, right)):
            _merge(relation.rows, side.rows, IDENTITY)
            self._adopt_from(scope, side_scope, ROWS, ROWS)
            if isinstance(operation, exp.Except | exp.Intersect):
                kind = GROUP_BY if side is left else FILTER
            elif operation.args.get("distinct"):
                kind = GROUP_BY
            else:
                continue
            for column, inputs in side.columns.items():
                _merge(relation.rows, inputs, kind)
                self._adopt_from(scope, side_scope, column, ROWS)
        self._visit(operation.args.get("order"), scope, SORT, relation.rows)
        if _is_recursive(operation):
            self._record(scope, ROWS, operation, "it is recursive: its columns are followed for one step only")
        return relation

    def _table_function(self, scope: Scope, function: exp.UDTF) -> _Relation:
        """UNNEST, LATERAL and their like: each column may hold whatever their arguments hold."""
        inputs: _Inputs = {}
        inner = function.this if isinstance(function, exp.Lateral) else None
        if isinstance(inner, exp.Subquery) and scope.subquery_scopes:
            return self._relation(scope.subquery_scopes[0])
        for argument in (*function.expressions, *([inner] if inner is not None else [])):
            self._visit(argument, scope, TRANSFORMATION, inputs)
        names = function.alias_column_names or [function.alias]
        for name in names:
            self._keep(scope, name, clear=False)
        self._losing = []
        return _Relation(columns={name: dict(inputs) for name in names})

    # -- expressions

    def _visit(self, node: Any, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        """Add the columns below ``node`` to ``into``, each as ``kind`` composed with what is done to it on the way."""
        if node is None:
            return
        rule = self._rule(node)
        if rule is not None:
            rule(node, scope, kind, into)
            return
        below = kind
        if not isinstance(node, exp.Alias | exp.Paren | exp.Where | exp.Having | exp.Qualify | exp.Group | exp.Ordered):
            below = compose(kind, HASHED if self._is_hash(node) else TRANSFORMATION)
        for child in node.iter_expressions():
            self._visit(child, scope, below, into)

    def _rule(self, node: Any) -> Callable[[Any, Scope, Transformation, _Inputs], None] | None:
        if isinstance(node, exp.Column):
            return self._column
        if isinstance(node, exp.Query):
            return self._subquery
        if isinstance(node, exp.Window):
            return self._window
        if isinstance(node, exp.Order):
            return self._order
        if isinstance(node, exp.Case | exp.If):
            return self._case
        if isinstance(node, exp.Coalesce | exp.Nullif):
            return self._null_choice
        if isinstance(node, exp.Filter):
            return self._filtered
        if isinstance(node, exp.WithinGroup):
            return self._within_group
        if isinstance(node, exp.Exists | exp.In):
            return self._membership
        if isinstance(node, exp.Comprehension):
            return self._comprehension
        return self._aggregate if self._is_aggregate(node) else None

    def _column(self, column: exp.Column, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        name, table = column.name, column.table
        if not table:
            self._unqualified(column, scope, kind, into)
            return
        owner: Scope | None = scope
        while owner is not None and table not in owner.sources:
            owner = owner.parent
        if owner is None:
            self._lose(column, f"{table} is not among the tables of its query")
            return
        source = owner.sources[table]
        if isinstance(source, Scope):
            relation = self._relation(source)
            if name in relation.columns:
                _merge(into, relation.columns[name], kind)
                self._adopt(source, name)
            else:
                self._lose(column, f"{table} has no column {name}")
            return
        base = self._table(source)
        known = self._columns_of(source)
        if not base:
            for argument in source.this.iter_expressions():
                self._visit(argument, owner, compose(kind, TRANSFORMATION), into)
            self._lose(column, f"it comes from the table function {source.this.sql(dialect=self._dialect)}")
        elif source.args.get("pivots"):
            self._lose(column, f"it comes from a PIVOT or UNPIVOT of {base}")
        elif known and name not in known and name not in ("rowid", "snapshot_id"):
            self._lose(column, f"{base} has no column {name}")
        else:
            into.setdefault((base, name), set()).add(kind)

    def _unqualified(self, column: exp.Column, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        """A name that stands alone: a column of the SELECT list, as in ORDER BY, or one that cannot be placed."""
        expression = scope.expression
        if isinstance(expression, exp.SetOperation):
            relation = _Relation()
            for side in scope.set_operation_scopes:
                position = list(self._relation(scope.set_operation_scopes[0]).columns)
                if column.name in position:
                    columns = list(self._relation(side).columns.values())
                    _merge(relation.rows, columns[position.index(column.name)], IDENTITY)
            _merge(into, relation.rows, kind)
            return
        if isinstance(expression, exp.Select) and not isinstance(column.parent, exp.Alias):
            for projection in expression.expressions:
                if projection.alias_or_name == column.name and column not in projection.walk():
                    self._visit(projection, scope, kind, into)
                    return
        sources = scope.selected_sources
        if len(sources) == 1 and column.name in ("rowid", "snapshot_id"):
            ((_, source),) = sources.values()
            if not isinstance(source, Scope) and (base := self._table(source)):
                into.setdefault((base, column.name), set()).add(kind)
                return
        unknown = [t for _, t in sources.values() if not isinstance(t, Scope) and not self._columns_of(t)]
        if len(unknown) == 1 and not unknown[0].args.get("pivots") and (base := self._table(unknown[0])):
            # Every other source is known and has no such column, so it can only be this one's.
            into.setdefault((base, column.name), set()).add(kind)
            return
        among = ", ".join(sorted(sources)) or "no table"
        self._lose(column, f"it cannot be placed among {among}: the schema lacks it, or the columns of one of them")

    def _subquery(self, query: Any, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        """A scalar subquery: its value flows on; what decides over its rows decides over that value."""
        relation = self._subrelation(query, scope)
        if relation is not None:
            for inputs in relation.columns.values():
                _merge(into, inputs, compose(kind, TRANSFORMATION))
            _merge(into, relation.rows, kind)

    def _subrelation(self, query: Any, scope: Scope) -> _Relation | None:
        inner = query.unnest() if isinstance(query, exp.Subquery) else query
        for child in scope.subquery_scopes:
            if child.expression is inner or child.expression is query:
                relation = self._relation(child)
                for name in (*relation.columns, ROWS):
                    self._adopt(child, name)
                return relation
        self._lose(query, "this subquery is not followed")
        return None

    def _membership(self, node: Any, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        """EXISTS and IN: what is compared flows on, what is only looked up decides."""
        query = node.this if isinstance(node, exp.Exists) else node.args.get("query")
        if isinstance(node, exp.In):
            self._visit(node.this, scope, compose(kind, TRANSFORMATION), into)
            for element in node.expressions:
                self._visit(element, scope, compose(kind, TRANSFORMATION), into)
        if query is not None:
            relation = self._subrelation(query, scope)
            if relation is not None:
                looked_up = compose(kind, CONDITIONAL)
                for inputs in relation.columns.values():
                    _merge(into, inputs, looked_up)
                _merge(into, relation.rows, looked_up)

    def _window(self, window: Any, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        function = window.this
        if isinstance(function, _POSITION) or isinstance(getattr(function, "this", None), _POSITION):
            for child in function.iter_expressions():
                self._visit(child, scope, compose(kind, TRANSFORMATION), into)
        else:
            self._visit(function, scope, kind, into)
        for part in self._window_parts(window, scope):
            self._visit(part, scope, compose(kind, WINDOW), into)
        _merge(into, self._seen_by_functions.get(id(scope), {}), kind)

    def _window_parts(self, window: Any, scope: Scope) -> Iterable[Any]:
        yield from window.args.get("partition_by") or ()
        order = window.args.get("order")
        if order is not None:
            yield from (o.this for o in order.expressions)
        spec = window.args.get("spec")
        if spec is not None:
            yield spec
        named = window.args.get("alias")
        if named is not None and not isinstance(window.parent, exp.Select):
            for definition in scope.expression.args.get("windows") or ():
                if definition.name == named.name:
                    yield from self._window_parts(definition, scope)

    def _order(self, order: exp.Order, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        """ORDER BY, of a query or inside an aggregate (where ``this`` is what is aggregated)."""
        self._visit(order.this, scope, kind, into)
        for ordered in order.expressions:
            self._visit(ordered.this, scope, compose(kind, SORT), into)

    def _case(self, case: Any, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        branches = [case] if isinstance(case, exp.If) else case.args["ifs"]
        if isinstance(case, exp.Case):
            self._visit(case.this, scope, compose(kind, CONDITIONAL), into)
            self._visit(case.args.get("default"), scope, compose(kind, TRANSFORMATION), into)
        for branch in branches:
            self._visit(branch.this, scope, compose(kind, CONDITIONAL), into)
            self._visit(branch.args.get("true"), scope, compose(kind, TRANSFORMATION), into)
            self._visit(branch.args.get("false"), scope, compose(kind, TRANSFORMATION), into)

    def _null_choice(self, node: Any, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        """COALESCE and NULLIF: values flow on, and those looked at to choose decide as well."""
        if isinstance(node, exp.Nullif):
            values, looked_at = [node.this], [node.this, node.expression]
        else:
            values = [node.this, *node.expressions]
            looked_at = values[:-1]
        for value in values:
            self._visit(value, scope, compose(kind, TRANSFORMATION), into)
        for value in looked_at:
            self._visit(value, scope, compose(kind, CONDITIONAL), into)

    def _filtered(self, node: exp.Filter, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        self._visit(node.this, scope, kind, into)
        self._visit(node.expression, scope, compose(kind, FILTER), into)

    def _within_group(self, node: exp.WithinGroup, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        """percentile_cont(0.5) WITHIN GROUP (ORDER BY x): what is ordered is what is aggregated."""
        for ordered in node.expression.expressions:
            self._visit(ordered.this, scope, compose(kind, AGGREGATION), into)

    def _aggregate(self, node: Any, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        counts = isinstance(node, exp.Count | exp.CountIf) or node.name.upper().startswith("COUNT")
        below = compose(kind, COUNTED if counts else AGGREGATION)
        if node.find(exp.Column) is None:
            # count(*), sum(1): no column is named, the rows themselves are what is read.
            for table in self._row_tables(scope):
                into.setdefault((table, ROWS), set()).add(below)
        _merge(into, self._seen_by_functions.get(id(scope), {}), kind)
        for key, argument in node.args.items():
            for child in argument if isinstance(argument, list) else [argument]:
                if isinstance(child, exp.Expression) and not isinstance(child, exp.Star):
                    by = isinstance(node, _BEST_OF) and key == "expression"
                    self._visit(child, scope, compose(kind, SORT) if by else below, into)

    def _comprehension(self, node: Any, scope: Scope, kind: Transformation, into: _Inputs) -> None:
        variable = node.expression.name if node.expression is not None else ""
        below = compose(kind, TRANSFORMATION)
        for child in (node.args.get("iterator"), node.args.get("condition"), node.this):
            for column in child.find_all(exp.Column) if child is not None else ():
                if column.table or column.name != variable:
                    self._visit(column, scope, below, into)

    @staticmethod
    def _is_aggregate(node: Any) -> bool:
        if isinstance(node, exp.AggFunc):
            return not isinstance(node, (*_POSITION, *_RANKING))
        return isinstance(node, exp.Anonymous) and node.name.upper() in _AGGREGATE_NAMES

    @staticmethod
    def _is_hash(node: Any) -> bool:
        return isinstance(node, _HASHES) or (isinstance(node, exp.Anonymous) and node.name.upper() in _HASH_NAMES)

    # -- tables

    def _table(self, source: exp.Table) -> str:
        """The table's name as the result gives it; nothing for a table function."""
        if isinstance(source.this, _FUNCTION_SOURCE):
            return ""
        parts = [part.name for part in source.parts]
        name = ".".join(parts[-2:])
        self._tables.add(name)
        return name

    def _columns_of(self, source: exp.Table) -> Mapping[str, str]:
        name = ".".join(part.name for part in source.parts[-2:])
        found = self._schema.get(name) or self._schema.get(source.name) or {}
        return {column.lower(): kind for column, kind in found.items()}

    # -- what could not be resolved

    def _lose(self, node: Any, reason: str) -> None:
        self._losing.append(Untraceable("", node.sql(dialect=self._dialect), reason))

    def _record(self, scope: Scope, output: str, node: Any, reason: str) -> None:
        self._lost[id(scope)][output].append(Untraceable(output, _short(node.sql(dialect=self._dialect)), reason))

    def _keep(self, scope: Scope, output: str, *, clear: bool = True) -> None:
        """File what was lost since the last call under an output of the scope."""
        self._lost[id(scope)][output] += [Untraceable(output, u.expression, u.reason) for u in self._losing]
        if clear:
            self._losing = []

    def _adopt(self, source: Scope, name: str) -> None:
        """Whoever reads a column that lost something has lost it too."""
        source = self._scopes.get(id(source.expression), source)
        self._losing += self._lost[id(source)].get(name, [])

    def _adopt_from(self, scope: Scope, source: Scope, name: str, output: str) -> None:
        self._adopt(source, name)
        self._keep(scope, output)


def _merge(into: _Inputs, inputs: _Inputs, kind: Transformation) -> None:
    for key, ways in inputs.items():
        into.setdefault(key, set()).update(compose(kind, way) for way in ways)


def _sorted(inputs: _Inputs) -> tuple[Input, ...]:
    return tuple(Input(table, column, tuple(sorted(ways))) for (table, column), ways in sorted(inputs.items()))


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    """The output's name; a second one of the same name is numbered as DuckDB does."""
    if name not in taken:
        return name
    number = 1
    while f"{name}_{number}" in taken:
        number += 1
    return f"{name}_{number}"


def _is_star(projection: Any) -> bool:
    return bool(projection.is_star) or projection.find(exp.Columns) is not None


def _is_recursive(operation: exp.SetOperation) -> bool:
    cte = operation.find_ancestor(exp.CTE)
    with_ = cte.find_ancestor(exp.With) if cte is not None else None
    if cte is None or with_ is None or not with_.args.get("recursive"):
        return False
    return any(table.name == cte.alias and not table.db for table in operation.find_all(exp.Table))


def _short(text: str) -> str:
    return text if len(text) <= 120 else text[:117] + "…"
