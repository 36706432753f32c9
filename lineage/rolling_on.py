"""A night's SQL asked on a later date: its archived text with the date literals of that date.

dbt writes every date that a model depends on as a literal. A definition that has not changed reads the same on both
nights but for those literals, so the later night's text is the earlier night's SQL on the later date. Where one did
change, its literals are carried over by what the unchanged models show: which date became which.
"""

from __future__ import annotations

from dataclasses import replace

from lineage.definitions import DATE, undated
from lineage.recording import RecordedModel, Recording


def rolled_on(first: Recording, second: Recording) -> tuple[tuple[RecordedModel, ...], list[str]]:
    """The first night's models on the second night's date, and a note where they cannot be told.

    They cannot when a changed definition has a date of which the unchanged ones do not show what it became; the
    second night's models are then taken, so that the change of definition counts with the passing of time.
    """
    later = {m.name: m for m in second.models}
    became: dict[str, set[str]] = {first.as_of.isoformat(): {second.as_of.isoformat()}}
    for model in first.models:
        other = later.get(model.name)
        if other is not None and undated(other.sql) == undated(model.sql):
            for old, new in zip(DATE.findall(model.sql), DATE.findall(other.sql), strict=True):
                became.setdefault(old, set()).add(new)
    rolled = []
    for model in first.models:
        other = later.get(model.name)
        if other is not None and undated(other.sql) == undated(model.sql):
            rolled.append(other)
            continue
        if any(len(became.get(day, ())) != 1 for day in DATE.findall(model.sql)):
            return second.models, [
                f"the definition of {model.name} changed, and what its dates would have become cannot be told: its "
                "change is counted under time"
            ]
        sql = DATE.sub(lambda found: f"date '{next(iter(became[found[1]]))}'", model.sql)
        rolled.append(replace(model, sql=sql))
    return tuple(rolled), []
