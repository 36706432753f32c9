"""The column graph of one run: what feeds a column, what a column feeds, the way between two, what changed since.

A node is a column, named ``schema.table.column``; an edge runs from an input to what is made of it and carries the
transformations. ``schema.table.*`` stands for the rows of a table: what a WHERE, a join or a GROUP BY of its SQL reads
decides over them, and so over each of its columns. Questions leave that out unless ``rows=True``, for nearly everything
joins on an account, and so nearly everything would depend on everything; what a count(*) counts is always followed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import networkx as nx

from lineage.column_walk import IDENTITY, INDIRECT, ROWS, ColumnLineage, Input, Transformation, Untraceable, compose
from pipeline.errors import NotFound

MARTS = "marts"
_DECIDES = Transformation(INDIRECT, "ROWS")
"""On the way through a table's rows: they decide over its columns, but by none of OpenLineage's kinds so far."""


@dataclass(frozen=True)
class TableLineage:
    """One table's lineage in a run. table: ``schema.table``; columns: name → SQL type, all it has.

    model: the dbt model that made it, or the scoring model for scores; None for what was landed or written otherwise.
    sql_sha256: the archived statement it was read from.
    """

    table: str
    columns: Mapping[str, str]
    model: str | None = None
    sql_sha256: str | None = None
    lineage: ColumnLineage | None = None


@dataclass(frozen=True, order=True)
class Reached:
    """A column found by a question, with every way it takes part (composed over the whole path) and its distance."""

    table: str
    column: str
    transformations: tuple[Transformation, ...]
    distance: int

    @property
    def node(self) -> str:
        return f"{self.table}.{self.column}"

    @property
    def direct(self) -> bool:
        """Whether its value flows on, rather than only deciding."""
        return any(t.type == "DIRECT" for t in self.transformations)


@dataclass(frozen=True)
class Impact:
    """What a column feeds: the columns, the models that make them, and the marts among those tables."""

    columns: tuple[Reached, ...]
    models: tuple[str, ...]
    marts: tuple[str, ...]


@dataclass(frozen=True)
class Step:
    """One edge of a path."""

    source: str
    target: str
    transformations: tuple[Transformation, ...]


@dataclass(frozen=True)
class Difference:
    """How one run's graph differs from another's. changed: same columns, another way from one to the other."""

    columns_added: tuple[str, ...]
    columns_removed: tuple[str, ...]
    edges_added: tuple[Step, ...]
    edges_removed: tuple[Step, ...]
    changed: tuple[tuple[Step, Step], ...]
    models_changed: tuple[str, ...]

    @property
    def empty(self) -> bool:
        """Whether the lineage is the same; a model's SQL may have changed all the same."""
        return not (
            self.columns_added or self.columns_removed or self.edges_added or self.edges_removed or self.changed
        )


class ColumnGraph:
    """Tables with their lineage, as a graph. Immutable once made; questions are answered without any database."""

    def __init__(self, run_id: str, tables: Iterable[TableLineage], notes: Iterable[str] = ()) -> None:
        self.run_id = run_id
        self.tables: dict[str, TableLineage] = {t.table: t for t in tables}
        self.notes = tuple(notes)

    @cached_property
    def columns(self) -> nx.DiGraph:
        """What flows into a value or decides which value it is; rows only where they are counted."""
        graph = nx.DiGraph(run_id=self.run_id)
        for table in self.tables.values():
            for column, sql_type in table.columns.items():
                graph.add_node(
                    f"{table.table}.{column}", table=table.table, column=column, type=sql_type, model=table.model
                )
        for table in self.tables.values():
            for column, inputs in (table.lineage.columns if table.lineage else {}).items():
                for source in inputs:
                    self._edge(graph, source, f"{table.table}.{column}", table)
        counted = [table for _, table in graph.nodes(data="table") if f"{table}.{ROWS}" in graph]
        followed: set[str] = set()
        while counted:
            name = counted.pop()
            if name not in followed and name in self.tables:
                followed.add(name)
                counted += self._rows(graph, self.tables[name])
        return graph

    @cached_property
    def full(self) -> nx.DiGraph:
        """``columns``, and the rows of each table: what decides over them, and they over each of its columns."""
        graph = self.columns.copy()
        for table in self.tables.values():
            self._rows(graph, table)
            for column in table.columns:
                graph.add_edge(f"{table.table}.{ROWS}", f"{table.table}.{column}", transformations=(), passing=True)
        return graph

    def _rows(self, graph: nx.DiGraph, table: TableLineage) -> tuple[str, ...]:
        """Add what decides over a table's rows, and the rows they come from; returns the tables of those."""
        rows = f"{table.table}.{ROWS}"
        graph.add_node(rows, table=table.table, column=ROWS, type="", model=table.model)
        if table.lineage is None:
            return ()
        for source in table.lineage.dataset:
            self._edge(graph, source, rows, table)
        for read in table.lineage.tables:
            known = self.tables.get(read)
            graph.add_node(f"{read}.{ROWS}", table=read, column=ROWS, type="", model=known.model if known else None)
            graph.add_edge(f"{read}.{ROWS}", rows, transformations=(), passing=True)
        return table.lineage.tables

    @staticmethod
    def _edge(graph: nx.DiGraph, source: Input, target: str, into: TableLineage) -> None:
        name = f"{source.table}.{source.column}"
        if name not in graph:
            graph.add_node(name, table=source.table, column=source.column, type="", model=None)
        if target not in graph:
            column = target.rpartition(".")[2]
            graph.add_node(target, table=into.table, column=column, type="", model=into.model)
        graph.add_edge(name, target, transformations=source.transformations, passing=False)

    @property
    def untraceable(self) -> tuple[tuple[str, Untraceable], ...]:
        """Every column that could not be resolved, with the table whose SQL names it."""
        return tuple(
            (table.table, lost)
            for table in self.tables.values()
            for lost in (table.lineage.untraceable if table.lineage else ())
        )

    def upstream(self, node: str, *, rows: bool = False) -> tuple[Reached, ...]:
        """Everything that feeds a column, nearest first. Raises NotFound."""
        return self._reach(node, rows, forward=False)

    def sources(self, node: str, *, rows: bool = False) -> tuple[Reached, ...]:
        """Where a column begins: what feeds it that nothing feeds, such as raw columns, in name order."""
        graph = self.full if rows else self.columns
        found = (r for r in self.upstream(node, rows=rows) if not self._fed(graph, r.node))
        return tuple(sorted(found, key=lambda r: r.node))

    def downstream(self, node: str, *, rows: bool = False) -> Impact:
        """Everything that a column feeds, nearest first, with models and marts named. Raises NotFound."""
        reached = self._reach(node, rows, forward=True)
        tables = list(dict.fromkeys(r.table for r in reached))
        models = [m for t in tables if t in self.tables and (m := self.tables[t].model)]
        return Impact(
            columns=reached,
            models=tuple(dict.fromkeys(models)),
            marts=tuple(t for t in tables if t.startswith(f"{MARTS}.")),
        )

    def path(self, source: str, target: str, *, rows: bool = False) -> tuple[Step, ...]:
        """The shortest way from one column to another; empty when there is none. Raises NotFound for an unknown one."""
        graph = self.full if rows else self.columns
        self._require(graph, source)
        self._require(graph, target)
        try:
            nodes = nx.shortest_path(graph, source, target)
        except nx.NetworkXNoPath:
            return ()
        return tuple(Step(a, b, graph.edges[a, b]["transformations"]) for a, b in pairwise(nodes))

    def search(self, text: str, limit: int = 50) -> tuple[str, ...]:
        """Columns whose name holds every word of ``text``: the same column name first, then its beginning, then any."""
        words = text.lower().split()
        if not words:
            return ()

        def rank(node: str) -> tuple[int, int, str]:
            column = node.rpartition(".")[2].lower()
            return (0 if column == words[-1] else 1 if column.startswith(words[-1]) else 2, len(node), node)

        found = [n for n in self.columns if all(w in n.lower() for w in words)]
        return tuple(sorted(found, key=rank)[:limit])

    def difference(self, before: ColumnGraph) -> Difference:
        """What this run's graph has that ``before`` had not, and the other way round; rows included."""
        now, then = self.full, before.full
        edges = {(a, b): Step(a, b, t) for a, b, t in now.edges(data="transformations")}
        old = {(a, b): Step(a, b, t) for a, b, t in then.edges(data="transformations")}
        both = sorted(edges.keys() & old.keys())
        common = sorted(self.tables.keys() & before.tables.keys())
        return Difference(
            columns_added=tuple(sorted(set(self.columns) - set(before.columns))),
            columns_removed=tuple(sorted(set(before.columns) - set(self.columns))),
            edges_added=tuple(edges[e] for e in sorted(edges.keys() - old.keys()) if edges[e].transformations),
            edges_removed=tuple(old[e] for e in sorted(old.keys() - edges.keys()) if old[e].transformations),
            changed=tuple((old[e], edges[e]) for e in both if old[e] != edges[e]),
            models_changed=tuple(t for t in common if self.tables[t].sql_sha256 != before.tables[t].sql_sha256),
        )

    # -- walking

    def _reach(self, node: str, rows: bool, *, forward: bool) -> tuple[Reached, ...]:
        graph = self.full if rows else self.columns
        self._require(graph, node)
        near = nx.descendants(graph, node) if forward else nx.ancestors(graph, node)
        at_rows = node.endswith(f".{ROWS}") and not forward
        ways: dict[str, set[Transformation]] = {node: {_DECIDES if at_rows else IDENTITY}}
        named: dict[str, set[Transformation]] = {}
        within = graph.subgraph(near | {node})
        distance = nx.single_source_shortest_path_length(within if forward else within.reverse(copy=False), node)
        order = nx.topological_sort(within)
        for current in order if forward else reversed(list(order)):
            following: Any = within.successors(current) if forward else within.predecessors(current)
            for other in following:
                edge = within.edges[(current, other) if forward else (other, current)]
                if not edge["passing"]:
                    arriving = {_along(way, step, forward) for way in ways[current] for step in edge["transformations"]}
                elif (other if forward else current).endswith(f".{ROWS}"):
                    arriving = ways[current]  # from the rows of one table to those of another
                elif forward:
                    arriving = {way if way.type == INDIRECT else _DECIDES for way in ways[current]}
                else:
                    arriving = {_DECIDES}
                ways.setdefault(other, set()).update(arriving)
                named.setdefault(other, set()).update(arriving - {_DECIDES})
        found = (
            Reached(graph.nodes[n]["table"], graph.nodes[n]["column"], tuple(sorted(named[n])), distance[n])
            for n in named
            if n != node and named[n]
        )
        return tuple(sorted(found, key=lambda r: (r.distance, r.node)))

    @staticmethod
    def _fed(graph: nx.DiGraph, node: str) -> bool:
        """Whether anything is upstream of a node; a table's own rows are not upstream of its columns."""
        edges = graph.in_edges(node, data="passing")
        return any(not passing or node.endswith(f".{ROWS}") for _, _, passing in edges)

    @staticmethod
    def _require(graph: nx.DiGraph, node: str) -> None:
        if node not in graph:
            raise NotFound(
                f"no column {node} is in the lineage of this run", "`ColumnGraph.search` finds columns by name"
            )


def _along(way: Transformation, step: Transformation, forward: bool) -> Transformation:
    return compose(step, way) if forward else compose(way, step)
