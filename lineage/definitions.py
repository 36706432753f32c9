"""The SQL of a model as a definition: what of an archived text stays the same from night to night.

dbt writes every date that a model depends on as a literal, and leaves empty lines where a night has no use for a
condition. Neither makes another definition.
"""

from __future__ import annotations

import re

DATE = re.compile(r"(?i)\bdate '(\d{4}-\d{2}-\d{2})'")
"""A date literal; its group is the date."""


def undated(sql: str) -> str:
    """The text without its dates and its layout: equal for two nights of one definition."""
    return " ".join(DATE.sub("date ''", sql).split())
