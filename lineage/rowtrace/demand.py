"""What travels between the builders: the demand on a relation, the leaves it ends in, the SQL that comes out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

Names = frozenset[str]
NONE: Names = frozenset()


@dataclass(frozen=True)
class Ask:
    """One question to a relation: whose rows? Each is answered by a list column of its own.

    The answer follows from the ask alone: what else is asked of the same relation does not change it.
    """

    values: Names = NONE
    """Columns whose rows are asked for."""
    conditions: Names = NONE
    """Whose rows are asked for because a condition reads them: a group's key then adds nothing to its aggregates."""
    counted: bool = False
    """Whether the reader's result depends on how often a row comes."""

    @property
    def columns(self) -> Names:
        return self.values | self.conditions


@dataclass(frozen=True)
class Demand:
    """What the readers want of a relation."""

    columns: Names = NONE
    """To be computed."""
    asks: tuple[Ask, ...] = (Ask(),)
    """Each once."""
    known: frozenset[tuple[str, int]] = frozenset()
    """(column, key constant): only rows where they are equal will be looked at."""

    def each(self, change: Callable[[Ask], Ask]) -> tuple[Ask, ...]:
        """The asks that these become one level below."""
        return tuple(dict.fromkeys(change(ask) for ask in self.asks))


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
    lists: dict[Ask, str] = field(default_factory=dict)
    """Ask → the column that answers it."""


def key_constant(index: int) -> str:
    return f"__key_{index}__"
