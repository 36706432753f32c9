"""What travels between the builders: the demand on a relation, the leaves it ends in, the SQL that comes out."""

from __future__ import annotations

from dataclasses import dataclass, field

Names = frozenset[str]
NONE: Names = frozenset()


@dataclass(frozen=True)
class Demand:
    """What a reader wants of a relation."""

    columns: Names = NONE
    """To be computed."""
    values: Names = NONE
    """Whose rows are asked for."""
    conditions: Names = NONE
    """Whose rows are asked for because a condition reads them: a group's key then adds nothing to its aggregates."""
    known: frozenset[tuple[str, int]] = frozenset()
    """(column, key constant): only rows where they are equal will be looked at."""
    counted: bool = False
    """Whether the reader's result depends on how often a row comes."""


@dataclass(frozen=True)
class Leaf:
    """One reading of a base table: its index and the restrictions that reached it."""

    table: int
    known: frozenset[tuple[str, int]]


@dataclass
class Built:
    """The annotated query as SQL text, with ``key_constant(i)`` where the key's values go."""

    sql: str
    leaves: list[Leaf] = field(default_factory=list)


def key_constant(index: int) -> str:
    return f"__key_{index}__"
