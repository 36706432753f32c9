"""How the portal writes numbers, times and ids. Missing is an en dash, never 0 or NaN."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

MISSING = "–"
THIN = "\u202f"  # narrow no-break space
MINUS = "\u2212"
HASH_LENGTH = 12
_ISO_DAY = re.compile(r"(?<![\w/.=-])\d{4}-\d\d-\d\d(?![\w/-])")


def count(value: int | None) -> str:
    """20000 → ``20 000``."""
    return MISSING if value is None else f"{value:,}".replace(",", THIN).replace("-", MINUS)


def probability(value: float | None) -> str:
    """0.0342 → ``3.42%``. What is above 0 but rounds to it says so."""
    if value is None or math.isnan(value):
        return MISSING
    return "<0.01%" if 0 < value < 0.00005 else f"{value * 100:.2f}%"


def share(value: float | None) -> str:
    """0.2667 → ``26.7%``."""
    return MISSING if value is None or math.isnan(value) else f"{value * 100:.1f}%"


def points_change(value: float | None) -> str:
    """A difference of two probabilities in percentage points: 0.0132 → ``+1.32 pp``; nothing moved is ``0.00 pp``."""
    if value is None or math.isnan(value):
        return MISSING
    rounded = round(value * 100, 2)
    sign = "+" if rounded > 0 else MINUS if rounded < 0 else ""
    return f"{sign}{abs(rounded):.2f} pp"


def decimal(value: float | None, places: int = 3) -> str:
    """A figure with its sign and a fixed number of decimals; whole numbers keep none."""
    if value is None or math.isnan(value):
        return MISSING
    text = f"{value:,.0f}" if value == int(value) else f"{value:,.{places}f}"
    return text.replace(",", THIN).replace("-", MINUS)


def sentence(text: str) -> str:
    """A recorded sentence with its counts, negative numbers and dates as a page writes them; a path keeps its own."""
    text = re.sub(r"(?<=\d),(?=\d{3}(?!\d))", THIN, text)
    text = re.sub(r"(?<![\w.])-(?=\d)", MINUS, text)
    return _ISO_DAY.sub(_day, text)


def _day(found: re.Match[str]) -> str:
    try:
        return day(date.fromisoformat(found[0]))
    except ValueError:  # 2026-02-30 is no day, whoever wrote it
        return found[0]


def signed(value: float | None, places: int = 2) -> str:
    """0.41 → ``+0.41``."""
    if value is None or math.isnan(value):
        return MISSING
    rounded = round(value, places)
    return f"{'+' if rounded > 0 else MINUS if rounded < 0 else ''}{abs(rounded):.{places}f}"


def duration(seconds: float | None) -> str:
    """4.2 → ``4.2 s``, 74 → ``1 min 14 s``, 4980 → ``1 h 23 min``."""
    if seconds is None:
        return MISSING
    if seconds < 9.95:
        return f"{seconds:.1f}{THIN}s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole}{THIN}s"
    if whole < 3600:
        return f"{whole // 60}{THIN}min {whole % 60:02d}{THIN}s"
    if whole < 86400:
        return f"{whole // 3600}{THIN}h {whole % 3600 // 60:02d}{THIN}min"
    return f"{whole // 86400}{THIN}d {whole % 86400 // 3600}{THIN}h"


def day(value: date | None, year: bool = True) -> str:
    """14 Mar 2026."""
    if value is None:
        return MISSING
    return f"{value.day} {value:%b} {value.year}" if year else f"{value.day} {value:%b}"


def heads(days: Iterable[date]) -> list[str]:
    """Dates side by side: 13 Mar, 14 Mar; with their years where these are not the same."""
    known = list(days)
    several = len({d.year for d in known}) > 1
    return [day(d, year=several) for d in known]


def clock(value: datetime | None, zone: ZoneInfo, seconds: bool = False) -> str:
    """Local time of day with its zone: ``05:11 CET``."""
    return MISSING if value is None else value.astimezone(zone).strftime("%H:%M:%S %Z" if seconds else "%H:%M %Z")


def moment(value: datetime | None, zone: ZoneInfo, seconds: bool = False) -> str:
    """Local day and time with the zone: ``15 Mar 2026 05:11 CET``."""
    if value is None:
        return MISSING
    return f"{day(value.astimezone(zone).date())} {clock(value, zone, seconds)}"


def utc(value: datetime) -> str:
    """The same moment in UTC, for the hover text of a local time."""
    return value.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def short(digest: str | None) -> str:
    """First 12 characters of a hash."""
    return digest[:HASH_LENGTH] if digest else MISSING


def plural(number: int, noun: str) -> str:
    """``1 account``, ``20 000 accounts``."""
    return f"{count(number)} {noun if number == 1 else noun + 's'}"
