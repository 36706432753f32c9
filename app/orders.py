"""The order of a table: the name of a column, or ``-`` and the name where the largest stands first; and which of its
rows have the words that are looked for. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def opposite(order: str) -> str:
    """``pd`` ↔ ``-pd``."""
    return order[1:] if order.startswith("-") else f"-{order}"


def way(order: str) -> str:
    """``ascending`` or ``descending``, as aria-sort says it."""
    return "descending" if order.startswith("-") else "ascending"


def name(order: str) -> str:
    """The column of an order: ``-pd`` → ``pd``."""
    return order.removeprefix("-")


def arranged(items: Iterable[T], order: str, keys: Mapping[str, Callable[[T], Any]]) -> list[T]:
    """Items by the key that an order names. What has no value stands last either way; what is alike stays as it was."""
    key, valued, rest = keys[name(order)], list[T](), list[T]()
    for item in items:
        (rest if key(item) is None else valued).append(item)
    return sorted(valued, key=key, reverse=order.startswith("-")) + rest


def having(items: Iterable[T], words: str, text: Callable[[T], str]) -> list[T]:
    """The items whose text has each of the words, in capitals or not; every item where there are none."""
    wanted = words.lower().split()
    return [item for item in items if all(word in text(item).lower() for word in wanted)]
