"""What a SELECT keeps account of while it is rebuilt: its sources, what is read of them, and the answer to each ask."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlglot import exp

from lineage.rowtrace.demand import Ask
from lineage.rowtrace.pushdown import Place


@dataclass
class Source:
    """One item of FROM and the joins."""

    alias: str
    node: exp.Expression
    join: exp.Join | None
    optional: bool = False
    """On the null-supplying side of an outer join."""

    @property
    def kind(self) -> str:
        return (self.join.kind or "") if self.join else ""

    @property
    def visible(self) -> bool:
        return self.kind not in ("SEMI", "ANTI")


@dataclass
class Notes:
    """Columns of the sources that have been seen to be read, as (alias, column)."""

    values: set[Place] = field(default_factory=set)
    conditions: set[Place] = field(default_factory=set)

    def copy(self) -> Notes:
        return Notes(set(self.values), set(self.conditions))

    def asks(self, aliases: Iterable[str], *, counted: bool) -> dict[str, Ask]:
        """What is asked of each source then, by its alias."""
        values: dict[str, set[str]] = {a: set() for a in aliases}
        conditions: dict[str, set[str]] = {a: set() for a in values}
        for found, places in ((values, self.values), (conditions, self.conditions - self.values)):
            for alias, name in places:
                if alias in found:
                    found[alias].add(name)
        return {a: Ask(frozenset(values[a]), frozenset(conditions[a]), counted) for a in values}


@dataclass
class Answer:
    """What is found out for one ask, level by level."""

    ask: Ask
    traced: list[exp.Expression]
    counted: bool
    """Whether it matters to the levels above that of the joins how often a row comes."""
    pieces: list[exp.Expression]
    """Lists of rows besides those of the sources that are behind every row."""
    notes: Notes
    tops: list[exp.Expression] = field(default_factory=list)
    """``traced``, HAVING and QUALIFY."""
    told: list[exp.Expression] = field(default_factory=list)
    """Aggregates in ``tops``."""
    reads: set[Place] = field(default_factory=set)
    """Columns of the level of joins that the levels above read for it."""
    columns: list[exp.Expression] = field(default_factory=list)
    """Expressions of the level of joins that it is about."""
    kept: list[Source] = field(default_factory=list)
    rows: exp.Expression = field(default_factory=exp.Null)
    """Its list, at the level of joins."""
    passed_on: dict[str, Ask] = field(default_factory=dict)
    """Alias of a source → what is asked of it."""
