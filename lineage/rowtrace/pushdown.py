"""How far a key reaches: which columns of which source must have the key's value for a row to matter.

Every conclusion here is a hint: the value is compared again where the output is, so a hint may be dropped without
harm, but a wrong one would lose rows. Equality is only followed between columns of the same type, since
``'05' = 5`` and ``'5' = 5`` do not make ``'05' = '5'``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from sqlglot import exp

from lineage.rowtrace.expressions import conjuncts

Place = tuple[str, str]
"""(alias, column)"""


def reach(
    fixed: Mapping[Place, int],
    coalesced: Sequence[tuple[list[Place], int]],
    where: exp.Expression | None,
    joins: Sequence[exp.Join],
    outer: Mapping[Place, int],
    type_of: Callable[[Place], str | None],
) -> dict[Place, int]:
    """Columns that equal a key constant in every row that matters, or belong to a side that is absent there.

    fixed: columns compared with a constant in the scope's own WHERE.
    coalesced: column lists whose COALESCE is compared with a constant there.
    outer: the same of the scopes outside, for correlated columns.
    A source may be restricted to the constants found for it: on the null-supplying side of an outer join only rows
    that could match are kept, and rows of the preserved side that thereby lose a match fail the WHERE anyway.
    """
    strong = {**outer, **fixed}
    weak: dict[Place, int] = {}
    both: list[tuple[Place, Place]] = []
    forward: list[tuple[Place, Place]] = []
    for equality in conjuncts(where):
        both += _pair(equality)
    for join in joins:
        pairs = [p for c in conjuncts(join.args.get("on")) for p in _pair(c)]
        right = join.alias_or_name
        oriented = [(a, b) if b[0] == right else (b, a) for a, b in pairs if right in (a[0], b[0]) and a[0] != b[0]]
        if join.side == "FULL":
            forward += oriented + [(b, a) for a, b in oriented]
            _through_full(coalesced, join, weak)
        elif join.side == "RIGHT":
            forward += [(b, a) for a, b in oriented]
        elif join.side == "LEFT" or join.kind in ("ANTI", "SEMI") or join.method == "ASOF":
            forward += oriented
        else:
            both += pairs
    if any(j.side == "FULL" for j in joins) and not _whole(coalesced, joins, weak):
        weak.clear()
    changed = True
    while changed:
        changed = False
        for a, b in both:
            for x, y in ((a, b), (b, a)):
                k = strong.get(x, weak.get(x))
                if k is not None and y not in strong and _same(type_of, x, y, outer):
                    strong[y] = k
                    changed = True
        for x, y in forward:
            k = strong.get(x, weak.get(x))
            if k is not None and y not in strong and y not in weak and _same(type_of, x, y, outer):
                weak[y] = k
                changed = True
    return {**weak, **strong}


def tied_by_full(node: exp.Expression, joins: Sequence[exp.Join]) -> bool:
    """Whether ``node`` is a COALESCE whose members the FULL joins hold equal."""
    places = _members(node) if isinstance(node, exp.Coalesce) else []
    tied: dict[Place, int] = {}
    for join in joins:
        if join.side == "FULL":
            _through_full([(places, 0)], join, tied)
    return bool(places) and all(p in tied for p in places)


def _pair(node: exp.Expression) -> list[tuple[Place, Place]]:
    if isinstance(node, exp.EQ) and isinstance(node.this, exp.Column) and isinstance(node.expression, exp.Column):
        return [((node.this.table, node.this.name), (node.expression.table, node.expression.name))]
    return []


def _same(type_of: Callable[[Place], str | None], a: Place, b: Place, outer: Mapping[Place, int]) -> bool:
    kind = type_of(a)
    return kind is not None and kind == type_of(b)


def _through_full(coalesced: Sequence[tuple[list[Place], int]], join: exp.Join, weak: dict[Place, int]) -> None:
    for places, k in coalesced:
        for c in conjuncts(join.args.get("on")):
            if not isinstance(c, exp.EQ):
                continue
            sides = [_members(c.this), _members(c.expression)]
            if all(side and set(side) <= set(places) for side in sides):
                for place in (*sides[0], *sides[1]):
                    weak[place] = k


def _members(node: exp.Expression) -> list[Place]:
    parts = [node.this, *node.expressions] if isinstance(node, exp.Coalesce) else [node]
    return [(p.table, p.name) for p in parts] if all(isinstance(p, exp.Column) for p in parts) else []


def _whole(coalesced: Sequence[tuple[list[Place], int]], joins: Sequence[exp.Join], weak: Mapping[Place, int]) -> bool:
    """Whether every member of a COALESCE was tied by the FULL joins' own equalities."""
    return all(place in weak for places, _ in coalesced for place in places) and len(joins) == sum(
        1 for j in joins if j.side == "FULL"
    )
