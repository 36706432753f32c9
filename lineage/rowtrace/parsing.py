"""From text to one query tree, and the refusal that every later step may raise."""

from __future__ import annotations

from sqlglot import exp
from sqlglot import parse as parse_statements
from sqlglot.errors import SqlglotError

DIALECT = "duckdb"


class Refusal(Exception):
    """A construct whose rows cannot be told exactly. ``lineage.rows`` turns it into ``Refused``."""

    def __init__(self, construct: str) -> None:
        super().__init__(construct)
        self.construct = construct


def parse(sql: str) -> exp.Expression:
    """One SELECT (or set operation, or VALUES), taken out of a CREATE VIEW around it.

    Raises Refusal for anything else.
    """
    try:
        statements = [s for s in parse_statements(sql, dialect=DIALECT) if s is not None]
    except (SqlglotError, RecursionError) as error:
        raise Refusal(f"SQL that cannot be parsed ({_first_line(error)})") from error
    if len(statements) != 1:
        raise Refusal(f"{len(statements)} statements (one query is traced at a time)")
    tree = statements[0]
    if isinstance(tree, exp.Create):
        names = tree.this.expressions if isinstance(tree.this, exp.Schema) else []
        body = tree.expression
        while isinstance(body, exp.Subquery) and not body.alias:
            body = body.this
        if names:
            body.meta["view_columns"] = [n.name for n in names]
        tree = body
    if isinstance(tree, exp.Pivot):
        raise Refusal("PIVOT" if not tree.args.get("unpivot") else "UNPIVOT")
    if not isinstance(tree, exp.Query | exp.Values):
        raise Refusal(f"a statement that is not a query ({type(tree).__name__.upper()})")
    for placeholder in tree.find_all(exp.Placeholder, exp.Parameter):
        raise Refusal(f"the parameter {placeholder.sql(dialect=DIALECT)} (put its value into the SQL)")
    return tree


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
