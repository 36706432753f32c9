"""Quoting of SQL identifiers and literals: the only place that turns a value into SQL text."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal


def ident(*parts: str) -> str:
    """Quote a (qualified) identifier: ``ident("lake", "raw", "loads")`` → ``"lake"."raw"."loads"``."""
    for part in parts:
        if not part or "\x00" in part:
            raise ValueError(f"not an identifier: {part!r}")
    return ".".join('"' + part.replace('"', '""') + '"' for part in parts)


def literal(value: str | int | Decimal | date | bool | None) -> str:
    """Write one value as a SQL literal. Floats are refused: their text is not their value."""
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise TypeError("no SQL literal for a time without a zone")
        return f"TIMESTAMPTZ '{value.isoformat()}'"
    if isinstance(value, date):
        return f"DATE '{value.isoformat()}'"
    if isinstance(value, str):
        if "\x00" in value:
            raise ValueError("a NUL character cannot stand in a SQL literal")
        return "'" + value.replace("'", "''") + "'"
    raise TypeError(f"no SQL literal for {type(value).__name__}")


def literals(values: Sequence[str | date | int]) -> str:
    """A comma-separated list of literals, for ``IN (…)``."""
    return ", ".join(literal(v) for v in values)


def double(value: float) -> str:
    """A number as a DOUBLE literal: the shortest text that reads back to the same bits; infinities as such."""
    return f"'{float(value)!r}'::DOUBLE"
