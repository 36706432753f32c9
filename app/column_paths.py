"""What of a run's column graph a page draws: the tables behind one column, or the columns around it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import networkx as nx

from app.charts_lineage import Box, Line, layered, ordered
from lineage.columns import ROWS, ColumnGraph
from lineage.graph import Reached

MOST = 12  # boxes of one layer before the rest is told as a count
_NAMED = 2  # columns of a table's box that are named


@dataclass(frozen=True)
class Drawing:
    """Boxes in their order and the lines between them. left_out: hop (−1 upstream, 1 downstream, …) → columns that
    are not drawn because the hop has more than ``MOST``."""

    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    left_out: Mapping[int, int]


def behind(graph: ColumnGraph, node: str, beyond: Sequence[str] = ()) -> Drawing:
    """The tables that a column comes from, one box each with the columns that take part; ``beyond``: columns that it
    feeds and that end the path."""
    reached = {r.node: r for r in graph.upstream(node)}
    wanted = [*reached, node, *beyond]
    tables: dict[str, list[str]] = {}
    for name in wanted:
        table, _, column = name.rpartition(".")
        tables.setdefault(table, []).append(column)
    ways: dict[tuple[str, str], bool] = {}
    for a, b, data in graph.columns.subgraph(wanted).edges(data=True):
        pair = (a.rpartition(".")[0], b.rpartition(".")[0])
        if pair[0] != pair[1]:
            flows = a not in reached or reached[a].direct  # into the column itself, not only into a table on its way
            direct = flows and any(t.type == "DIRECT" for t in data["transformations"])
            ways[pair] = ways.get(pair, False) or direct
    lines = tuple(Line(a, b, direct) for (a, b), direct in sorted(ways.items()))
    layer = layered(tables, lines)
    chosen = node.rpartition(".")[0]
    boxes = [
        Box(table, layer[table], table.partition(".")[2] or table, _named(columns, reached, table), table == chosen)
        for table, columns in tables.items()
    ]
    return Drawing(ordered(boxes, lines), lines, {})


def _named(columns: Sequence[str], reached: Mapping[str, Reached], table: str) -> str:
    """The columns of a table that take part, those whose value flows first."""

    def decides(column: str) -> bool:
        found = reached.get(f"{table}.{column}")
        return found is not None and not found.direct

    known = sorted((c for c in columns if c != ROWS), key=decides)
    more = f", +{len(known) - _NAMED}" if len(known) > _NAMED else ""
    return ", ".join(known[:_NAMED]) + more or "its rows"


def around(graph: ColumnGraph, node: str, up: int, down: int) -> Drawing:
    """The columns at most ``up`` hops before and ``down`` hops after a column; of each hop the first ``MOST``, those
    whose value flows first."""
    hops: dict[str, int] = {node: 0}
    left_out: dict[int, int] = {}
    for count, forward in ((up, False), (down, True)):
        front = [node]
        for distance in range(1, count + 1):
            hop = distance if forward else -distance
            near = _next(graph.columns, front, forward)
            fresh = [n for n in near if n not in hops]
            if len(fresh) > MOST:
                left_out[hop] = len(fresh) - MOST
            front = fresh[:MOST]
            hops.update(dict.fromkeys(front, hop))
    edges = graph.columns.subgraph(hops).edges(data="transformations")
    lines = tuple(Line(a, b, _flows(t)) for a, b, t in sorted(edges, key=lambda e: e[:2]) if hops[a] < hops[b])
    boxes = [
        Box(name, hop + up, "rows" if name.endswith(f".{ROWS}") else name.rpartition(".")[2],
            name.rpartition(".")[0], name == node)
        for name, hop in hops.items()
    ]  # fmt: skip
    return Drawing(ordered(boxes, lines), lines, left_out)


def further(graph: ColumnGraph, drawing: Drawing, forward: bool) -> bool:
    """Whether one more hop on this side has anything."""
    drawn = {b.id for b in drawing.boxes}
    layers = [b.layer for b in drawing.boxes]
    end = max(layers) if forward else min(layers)
    edge = [b.id for b in drawing.boxes if b.layer == end]
    return any(n not in drawn for n in _next(graph.columns, edge, forward))


def _next(graph: nx.DiGraph, front: Sequence[str], forward: bool) -> list[str]:
    """One hop on from some columns, each once: those that a value flows to first, then by name."""
    found: dict[str, bool] = {}
    for name in front:
        for other in graph.successors(name) if forward else graph.predecessors(name):
            edge = graph.edges[(name, other) if forward else (other, name)]
            found[other] = found.get(other, False) or _flows(edge["transformations"])
    return sorted(found, key=lambda n: (not found[n], n))


def _flows(transformations: Sequence[object]) -> bool:
    return any(getattr(t, "type", "") == "DIRECT" for t in transformations)
