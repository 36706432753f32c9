"""Equal lists told once: where two asks have come to the same answer, the relation keeps one of the two columns.

Which asks have the same answer shows only from below, when the sources' own answers have been told apart. The builders
work from above, so this is a pass of its own over the finished query. It changes how much is computed, never what.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from lineage.rowtrace import expressions as x
from lineage.rowtrace.parsing import DIALECT
from lineage.rowtrace.resolve import sources_of

Merged = Mapping[str, str]
"""List column that is no longer there → the one that has the same."""


class Collapse:
    """Goes through the definitions of one query from below, each before those that read it."""

    def __init__(self) -> None:
        self._merged: dict[str, Merged] = {}

    def define(self, name: str, query: exp.Expression) -> None:
        """A definition that the ones after it may read."""
        self._merged[name] = self.merge(query)

    def merge(self, query: exp.Expression) -> Merged:
        """Drop columns that have the same rows as another, in the query and all that stands in it."""
        self._read(query)
        merged: dict[str, str] = {}
        first: dict[tuple[str, ...], str] = {}
        for name, texts in _lists(query).items():
            kept = first.setdefault(texts, name)
            if kept != name:
                merged[name] = kept
        if merged:
            _drop(query, merged)
        return merged

    def _read(self, query: exp.Expression) -> None:
        """Make the query read what its sources have kept."""
        if isinstance(query, exp.Subquery):
            self._read(query.this)
        elif isinstance(query, exp.SetOperation):
            self._read(query.left)
            self._read(query.right)
        if not isinstance(query, exp.Select):
            return
        renamed: dict[str, Merged] = {}
        # A star would show that a column is gone.
        plain = not any(isinstance(c.this, exp.Star) for c in query.expressions if isinstance(c, exp.Column))
        seen: set[int] = set()
        for source in sources_of(query):
            inner = source.this if isinstance(source, exp.Lateral) else source
            if isinstance(inner, exp.Subquery):
                seen.add(id(inner))
                if plain:
                    renamed[source.alias_or_name] = self.merge(inner.this)
                else:
                    self._read(inner.this)
            elif isinstance(source, exp.Table) and not source.db and source.name in self._merged:
                renamed[source.alias_or_name] = self._merged[source.name]
        for part in query.args.values():
            for node in part if isinstance(part, list) else [part]:
                if isinstance(node, exp.Expression):
                    self._rename(node, renamed, seen)

    def _rename(self, node: exp.Expression, renamed: Mapping[str, Merged], seen: set[int]) -> None:
        if isinstance(node, exp.Column):
            name = renamed.get(node.table, {}).get(node.name)
            if name is not None:
                node.set("this", exp.to_identifier(name, quoted=True))
        if isinstance(node, exp.Query) and not isinstance(node, exp.Table) and id(node) not in seen:
            self._read(node)
        elif id(node) not in seen:
            for child in node.iter_expressions():
                self._rename(child, renamed, seen)


def _lists(query: exp.Expression) -> dict[str, tuple[str, ...]]:
    """List columns of a query and what they are computed as, in each of its branches."""
    while isinstance(query, exp.Subquery):
        query = query.this
    if isinstance(query, exp.SetOperation):
        left, right = _lists(query.left), _lists(query.right)
        return {n: (*texts, *right[n]) for n, texts in left.items() if n in right}
    if not isinstance(query, exp.Select):
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for e in query.expressions:
        if isinstance(e, exp.Alias) and x.is_list(e.alias):
            text = e.this.sql(dialect=DIALECT)
            e.set("this", exp.Var(this=text))  # it is not written out a second time
            found[e.alias] = (text,)
    return found


def _drop(query: exp.Expression, merged: Merged) -> None:
    while isinstance(query, exp.Subquery):
        query = query.this
    if isinstance(query, exp.SetOperation):
        _drop(query.left, merged)
        _drop(query.right, merged)
    elif isinstance(query, exp.Select):
        query.set("expressions", [e for e in query.expressions if e.alias_or_name not in merged])
