"""A text without its dates. One model's SQL differs from night to night in nothing else, so it is planned once.

Each distinct date becomes a stand-in of its own, by the order in which they come: two texts are the same without their
dates only when the same places hold the same dates, so what is planned for one is right for the other.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from functools import lru_cache

_DATE = re.compile(r"(?i)(?<=\bdate ')\d{4}-\d{2}-\d{2}(?=')")
_FIRST = date(1, 1, 1)
_MOST = 3_000  # stand-ins stay far from any date of a business


@lru_cache(maxsize=32)
def without_dates(sql: str) -> tuple[str, dict[str, str]]:
    """The text with stand-ins, and stand-in → date. A text that has such early dates itself is left as it is."""
    found = list(dict.fromkeys(_DATE.findall(sql)))
    if len(found) > _MOST or any(day.startswith("00") for day in found) or "'000" in sql:
        return sql, {}
    stand_ins = {day: (_FIRST + timedelta(days=i)).isoformat() for i, day in enumerate(found)}
    return _DATE.sub(lambda m: stand_ins[m[0]], sql), {v: k for k, v in stand_ins.items()}


def with_dates(sql: str, dates: dict[str, str]) -> str:
    """The text with its dates again, wherever a stand-in stands by itself between quotes."""
    return re.sub(r"'(00\d\d-\d{2}-\d{2})'", lambda m: f"'{dates.get(m[1], m[1])}'", sql) if dates else sql
