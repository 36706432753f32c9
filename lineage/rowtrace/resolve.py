"""The resolved query: every column says whose it is, every source has a name of its own, every CTE and view stands
once in one flat list of definitions.

sqlglot's ``qualify`` resolves columns, stars, USING, positions and aliases. What it leaves is done here: views are
expanded from the catalog, CTEs of any depth are lifted into one list, named windows are written out, GROUP BY ALL and
ORDER BY ALL are spelled, chained USING joins take the value that is not null, and aliases are made unique so that
a correlated column can be moved without meaning something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sqlglot import exp
from sqlglot.errors import SqlglotError
from sqlglot.optimizer.qualify import qualify
from sqlglot.schema import MappingSchema

from lineage.rowtrace.catalog import BaseTable, Facts, View
from lineage.rowtrace.parsing import DIALECT, Refusal, parse

GENERATORS = frozenset({"range", "generate_series", "unnest", "repeat", "explodingGenerateSeries"})


@dataclass
class Definition:
    """A CTE or a view. ``order`` grows from what is read to what reads it."""

    name: str
    written: str
    query: exp.Expression
    order: int
    recursive: bool = False


@dataclass
class Resolved:
    root: exp.Expression
    definitions: dict[str, Definition]
    tables: dict[str, BaseTable]
    """Canonical name, as it stands in the tree, → the table."""
    written: dict[str, str]
    """Canonical name → the name as first written in the query, without quotes."""
    facts: Facts
    recursive: list[str] = field(default_factory=list)


def resolve(tree: exp.Expression, facts: Facts) -> Resolved:
    """Resolve a parsed query against the catalog's facts. ``tree`` is not changed.

    Raises Refusal when a name cannot be resolved, or a source has no rows to name (a file, a table function).
    """
    binder = _Binder(facts)
    root = binder.bind(tree.copy(), {}, None)
    out = Resolved(root, binder.definitions, binder.tables, binder.written, facts, binder.recursive)
    _qualify(out)
    unique = Unique()
    for definition in out.definitions.values():
        unique.visit(definition.query, {})
    unique.visit(out.root, {})
    return out


def canonical(table: BaseTable) -> str:
    return f"{table.database}.{table.schema}.{table.name}".lower()


def outputs(query: exp.Expression) -> list[str]:
    """Names of a resolved query's output columns, in order."""
    if isinstance(query, exp.Subquery):
        return outputs(query.this)
    if isinstance(query, exp.SetOperation):
        left = outputs(query.left)
        if query.args.get("by_name"):
            return left + [n for n in outputs(query.right) if n not in left]
        return left
    if isinstance(query, exp.Values):
        return [f"col{i}" for i in range(len(query.expressions[0].expressions))]
    return [e.alias_or_name for e in query.expressions]


def sources_of(select: exp.Select) -> list[exp.Expression]:
    """What stands in FROM and the joins, in order."""
    first = [select.args["from_"].this] if select.args.get("from_") else []
    joined = [j.this for j in select.args.get("joins") or []]
    return first + joined + list(select.args.get("laterals") or [])


class _Binder:
    """Lifts CTEs and views into definitions, and gives every base table its full name."""

    def __init__(self, facts: Facts) -> None:
        self.facts = facts
        self.definitions: dict[str, Definition] = {}
        self.tables: dict[str, BaseTable] = {}
        self.written: dict[str, str] = {}
        self.views: dict[View, Definition] = {}
        self.recursive: list[str] = []

    def bind(
        self, node: exp.Expression, visible: Mapping[str, Definition], context: tuple[str, str] | None
    ) -> exp.Expression:
        with_ = node.args.get("with_")
        if isinstance(node, exp.Query) and with_ is not None:
            seen = dict(visible)
            node.set("with_", None)
            for cte in with_.expressions:
                self._define_cte(cte, seen, context, recursive=bool(with_.args.get("recursive")))
            visible = seen
        for pivot in node.args.get("pivots") or []:
            raise Refusal("UNPIVOT" if pivot.args.get("unpivot") else "PIVOT")
        for child in list(node.iter_expressions()):
            self.bind(child, visible, context)
        if isinstance(node, exp.Table):
            self._bind_table(node, visible, context)
        elif isinstance(node, exp.Select):
            _flatten_from(node)
            _inline_windows(node)
            _remember_using(node)
        elif isinstance(node, exp.Subquery) and isinstance(node.this, exp.Table) and node.alias:
            node.set("this", _select_star_from(node.this))
        return node

    def _define(self, written: str, query: exp.Expression, columns: list[str]) -> Definition:
        while isinstance(query, exp.Subquery) and not query.alias:
            query = query.this
        query.pop() if query.parent else None
        definition = Definition(f"_q{len(self.definitions)}", written, query, len(self.definitions))
        if columns:
            query.meta["view_columns"] = columns
        self.definitions[definition.name] = definition
        return definition

    def _define_cte(
        self, cte: exp.CTE, seen: dict[str, Definition], context: tuple[str, str] | None, *, recursive: bool
    ) -> None:
        name = cte.alias
        if recursive and any(t.name.lower() == name.lower() and not t.db for t in cte.this.find_all(exp.Table)):
            own = Definition(f"_r{len(self.recursive)}", name, exp.Select(), -1, recursive=True)
            self.recursive.append(name)
            self.bind(cte.this, {**seen, name.lower(): own}, context)
            raise Refusal(f"the recursive CTE {name}")
        body = self.bind(cte.this, seen, context)
        seen[name.lower()] = self._define(name, body, [c.name for c in cte.args["alias"].columns])

    def _bind_table(self, node: exp.Table, visible: Mapping[str, Definition], context: tuple[str, str] | None) -> None:
        if not isinstance(node.this, exp.Identifier):
            name = _function_name(node.this)
            if name not in GENERATORS:
                raise Refusal(f"the table function {name} (what it reads has no row ids)")
            return
        parts = tuple(p.name for p in node.parts)
        if not node.alias:
            node.set("alias", exp.TableAlias(this=exp.to_identifier(parts[-1], quoted=True)))
        if len(parts) == 1 and (definition := visible.get(parts[0].lower())):
            node.set("this", exp.to_identifier(definition.name, quoted=True))
            return
        found = self.facts.find(parts, context)
        if found is None:
            raise Refusal(f"the source {'.'.join(parts)} (no table or view of this connection)")
        if isinstance(found, View):
            if found not in self.views:
                body = parse(found.sql)
                names = body.meta.pop("view_columns", [])
                body = self.bind(body, {}, (found.database, found.schema))
                self.views[found] = self._define(".".join(parts), body, names)
            for part in ("catalog", "db"):
                node.set(part, None)
            node.set("this", exp.to_identifier(self.views[found].name, quoted=True))
            return
        self.tables.setdefault(canonical(found), found)
        self.written.setdefault(canonical(found), ".".join(parts))
        for part, name in (("catalog", found.database), ("db", found.schema), ("this", found.name)):
            node.set(part, exp.to_identifier(name, quoted=True))


def _qualify(out: Resolved) -> None:
    """Run sqlglot's qualify over definitions and root as one statement, then take them apart again."""
    root = out.root
    while isinstance(root, exp.Subquery):
        root = _unwrap(root)
    if isinstance(root, exp.Values):
        root = _select_values(root)
    ctes = []
    for definition in out.definitions.values():
        query = definition.query
        columns = query.meta.pop("view_columns", [])
        if isinstance(query, exp.Values):
            query = _select_values(query)
        alias = exp.TableAlias(
            this=exp.to_identifier(definition.name, quoted=True),
            columns=[exp.to_identifier(c, quoted=True) for c in columns],
        )
        ctes.append(exp.CTE(this=query, alias=alias))
    root = root.copy() if root.parent else root
    if ctes:
        root.set("with_", exp.With(expressions=ctes))
    schema: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    visible: dict[str, dict[str, dict[str, list[str]]]] = {}
    by_name = any(c.name.lower() == "rowid" for q in (root, *ctes) for c in q.find_all(exp.Column))
    for table in out.tables.values():
        names = [name for name, _ in table.columns]
        schema.setdefault(table.database, {}).setdefault(table.schema, {})[table.name] = dict.fromkeys(
            [*names, "rowid"] if by_name else names, "UNKNOWN"
        )
        visible.setdefault(table.database, {}).setdefault(table.schema, {})[table.name] = names
    try:
        root = qualify(root, schema=MappingSchema(schema, visible=visible, dialect=DIALECT), dialect=DIALECT)
    except (SqlglotError, RecursionError) as error:
        raise Refusal(f"a name that cannot be resolved ({(str(error).splitlines() or [''])[0]})") from error
    with_ = root.args.get("with_")
    root.set("with_", None)
    for cte in with_.expressions if with_ else []:
        out.definitions[cte.alias].query = cte.this
    out.root = root
    for query in (*(d.query for d in out.definitions.values()), root):
        for select in list(query.find_all(exp.Select)):
            _spell(select)
        for operation in list(query.find_all(exp.SetOperation)):
            _spell_order_all(operation)


def _spell(select: exp.Select) -> None:
    """Write out what DuckDB infers: output names, GROUP BY ALL, aliases in ORDER BY and DISTINCT ON, chained USING."""
    for i, e in enumerate(select.expressions):
        if isinstance(e, exp.Star) or e.find(exp.Columns) or e.is_star:
            raise Refusal("COLUMNS(…)")
        if not e.alias_or_name:
            select.expressions[i].replace(exp.alias_(e.copy(), f"_col_{i}", quoted=True))
    by_name: dict[str, exp.Expression] = {}
    for i, e in enumerate(list(select.expressions)):
        if e.alias_or_name in by_name:  # a second column of the same name cannot be spoken of from outside
            e.replace(exp.alias_((e.this if isinstance(e, exp.Alias) else e).copy(), f"_again_{i}", quoted=True))
        else:
            by_name[e.alias_or_name] = e.this if isinstance(e, exp.Alias) else e
    for place in (select.args.get("order"), select.args.get("distinct")):
        for column in list(place.find_all(exp.Column)) if place else []:
            if not column.table and column.name in by_name:
                column.replace(by_name[column.name].copy())
    _spell_order_all(select)
    for join in select.args.get("joins") or []:
        if join.meta.get("using"):
            _chain_using(select, join)


def _spell_order_all(query: exp.Expression) -> None:
    order = query.args.get("order")
    if order and len(order.expressions) == 1 and isinstance(order.expressions[0].this, exp.Var):
        first = order.expressions[0]
        if isinstance(query, exp.Select):
            keys = [(e.this if isinstance(e, exp.Alias) else e).copy() for e in query.expressions]
        else:
            keys = [exp.column(n, quoted=True) for n in outputs(query)]
        order.set("expressions", [exp.Ordered(this=k, desc=first.args.get("desc")) for k in keys])


def _unwrap(query: exp.Subquery) -> exp.Expression:
    """The query inside parentheses; an ORDER BY or LIMIT outside them applies to a derived table of it."""
    outside = {k: query.args[k] for k in ("order", "limit", "offset") if query.args.get(k)}
    if not outside:
        return query.this
    select = exp.select("*").from_(
        exp.Subquery(this=query.this, alias=exp.TableAlias(this=exp.to_identifier("_inner")))
    )
    for part, node in outside.items():
        select.set(part, node)
    return select


def _select_values(values: exp.Values) -> exp.Select:
    names = [exp.to_identifier(n, quoted=True) for n in outputs(values)]
    alias = exp.TableAlias(this=exp.to_identifier("_values", quoted=True), columns=names)
    return exp.select("*").from_(exp.Values(expressions=values.expressions, alias=alias))


def _remember_using(select: exp.Select) -> None:
    for join in select.args.get("joins") or []:
        if join.args.get("using") or join.method == "NATURAL":
            join.meta["using"] = True


def _chain_using(select: exp.Select, join: exp.Join) -> None:
    """After a RIGHT or FULL join the first column may be null: compare the first that is not, as DuckDB does."""
    earlier = []
    for other in select.args["joins"]:
        if other is join:
            break
        earlier.append(other)
    if not any(j.side in ("RIGHT", "FULL") for j in earlier):
        return
    for equality in list(join.args["on"].find_all(exp.EQ)):
        left, right = equality.this, equality.expression
        if not isinstance(left, exp.Column) or right.table != join.alias_or_name:
            continue
        members = [left.copy()]
        for other in earlier:
            if other.meta.get("using") and other.kind not in ("SEMI", "ANTI"):
                members += [
                    e.expression.copy()
                    for e in other.args["on"].find_all(exp.EQ)
                    if isinstance(e.expression, exp.Column)
                    and e.expression.name == left.name
                    and e.expression.table == other.alias_or_name
                ]
        if len(members) > 1:
            equality.set("this", exp.Coalesce(this=members[0], expressions=members[1:]))


def _inline_windows(select: exp.Select) -> None:
    named = {w.name.lower(): w for w in select.args.get("windows") or []}
    if not named:
        return

    def spelled(window: exp.Window) -> None:
        base = window.args.get("alias")
        if base is None or base.name.lower() not in named:
            return
        parent = named[base.name.lower()]
        spelled(parent)
        for part in ("partition_by", "order", "spec"):
            inherited = parent.args.get(part)
            if inherited and not window.args.get(part):
                copied = [x.copy() for x in inherited] if isinstance(inherited, list) else inherited.copy()
                window.set(part, copied)
        window.set("alias", None)

    for window in list(select.find_all(exp.Window)):
        if window.parent is not select and window.find_ancestor(exp.Select) is select:
            spelled(window)
    select.set("windows", None)


def _flatten_from(select: exp.Select) -> None:
    """``(a JOIN b) JOIN c`` is ``a JOIN b JOIN c``. Parentheses on the right of a join mean something: refused."""
    while select.args.get("from_"):
        first = select.args["from_"].this
        inner = (
            first.this
            if isinstance(first, exp.Paren) or (isinstance(first, exp.Subquery) and not first.alias)
            else first
        )
        if isinstance(inner, exp.Query) and not isinstance(inner, exp.Subquery | exp.Table):
            break
        nested = list(inner.args.get("joins") or [])
        if inner is first and not nested:
            break
        if inner is not first:
            nested += list(first.args.get("joins") or [])
        inner.set("joins", None)
        select.args["from_"].set("this", inner)
        select.set("joins", nested + list(select.args.get("joins") or []))
    for join in select.args.get("joins") or []:
        right = join.this
        bare = isinstance(right, exp.Subquery) and not right.alias and not isinstance(right.this, exp.Query)
        if isinstance(right, exp.Paren) or bare or (isinstance(right, exp.Table) and right.args.get("joins")):
            raise Refusal("a join in parentheses on the right of a join")


def _select_star_from(table: exp.Table) -> exp.Select:
    joins = table.args.pop("joins", None)
    select = exp.select("*").from_(table.copy())
    if joins:
        select.set("joins", joins)
    _remember_using(select)
    return select


def _function_name(node: exp.Expression) -> str:
    if isinstance(node, exp.Anonymous):
        return str(node.this).lower()
    return str(node.sql(dialect=DIALECT)).split("(")[0].lower()


class Unique:
    """Gives every source an alias that no other source of the whole query has. ``prefix`` must be new each time."""

    def __init__(self, prefix: str = "s") -> None:
        self.prefix = prefix
        self.count = 0

    def visit(self, node: exp.Expression, env: Mapping[str, str]) -> None:
        if isinstance(node, exp.Select):
            own = dict(env)
            for source in sources_of(node):
                old = source.alias_or_name
                own[old] = f"{self.prefix}{self.count}"
                self.count += 1
                alias = source.args.get("alias")
                if isinstance(alias, exp.TableAlias):
                    alias.set("this", exp.to_identifier(own[old], quoted=True))
                else:
                    source.set("alias", exp.TableAlias(this=exp.to_identifier(own[old], quoted=True)))
            env = own
        elif isinstance(node, exp.Column):
            if node.table:
                if node.table not in env:
                    raise Refusal(f"the column {node.sql(dialect=DIALECT)} (its source is out of reach)")
                node.set("table", exp.to_identifier(env[node.table], quoted=True))
            return
        for child in list(node.iter_expressions()):
            self.visit(child, env)
