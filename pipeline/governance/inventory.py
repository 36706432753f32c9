"""What the model inventory says of a model, aligned with SR 26-2 (17 April 2026), and how a portfolio declares it.

Purpose, exposure, inherent risk and materiality are separate: what it is for, how much money hangs on it, how much
could go wrong whatever is done about it, and how much scrutiny it therefore gets. Exposure is read from the published
night and the tier from the portfolio, because the tier decides who must sign; neither can be edited here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from pipeline.governance.policy import TIERS

TEXTS = ("purpose", "intended_use", "owner", "inherent_risk", "inherent_risk_reason")
LISTS = ("limits", "data", "assumptions")
EDITABLE = (*TEXTS, *LISTS)
LONGEST, MOST = 4_000, 50


@dataclass(frozen=True)
class Trigger:
    """What must not go unanswered: when it fires, the response owed, by whom, and within how many days.

    on: start of the audit actions that fire it by themselves (``alert.raised``), when they are about the model and
    their details fit ``matching``, a value or a list of values for each key; without ``on``, people fire it.
    """

    name: str
    when: str
    response: str
    owner: str
    within_days: int = 10
    on: str = ""
    matching: tuple[tuple[str, Any], ...] = ()


@dataclass(frozen=True)
class Entry:
    """One model's declared facts. data, assumptions: one statement each; the same words in two models are shared."""

    purpose: str = ""
    intended_use: str = ""
    owner: str = ""
    inherent_risk: str = ""
    inherent_risk_reason: str = ""
    limits: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    assumptions: tuple[str, ...] = ()
    triggers: tuple[Trigger, ...] = ()

    @property
    def gaps(self) -> tuple[str, ...]:
        """The fields that say nothing yet."""
        return tuple(f.name for f in fields(self) if not getattr(self, f.name))

    def trigger(self, name: str) -> Trigger | None:
        return next((t for t in self.triggers if t.name == name), None)


def checked(field: str, value: Any) -> str | tuple[str, ...]:
    """A field's value as the inventory keeps it. Raises ValueError saying what is wrong with it."""
    if field not in EDITABLE:
        raise ValueError(f"{field} is no field of the inventory; there are {', '.join(EDITABLE)}")
    if field in LISTS:
        if not isinstance(value, list | tuple) or not value or len(value) > MOST:
            raise ValueError(f"{field} is a list of 1 to {MOST} statements")
        return tuple(_text(f"{field}[{i}]", item) for i, item in enumerate(value))
    text = _text(field, value)
    if field == "inherent_risk" and text not in TIERS:
        raise ValueError(f"inherent_risk is {text!r}; it is one of {', '.join(TIERS)}")
    return text


def parse(model: str, raw: Any) -> Entry:
    """The ``inventory:`` section of a model in portfolio.yml. Raises ValueError naming the key that is wrong."""
    place = f"models.{model}.inventory"
    if not isinstance(raw, Mapping):
        raise ValueError(f"{place} is a section of keys and values")
    if unknown := sorted(map(str, set(raw) - {*EDITABLE, "triggers"})):
        raise ValueError(f"{place} has the unknown key {', '.join(unknown)}; there are {', '.join(EDITABLE)}, triggers")
    try:
        values = {key: checked(key, value) for key, value in raw.items() if key != "triggers"}
    except ValueError as error:
        raise ValueError(f"{place}: {error}") from error
    given = raw.get("triggers", [])
    if not isinstance(given, list):
        raise ValueError(f"{place}.triggers is a list")
    triggers = tuple(_trigger(f"{place}.triggers[{i}]", item) for i, item in enumerate(given))
    names = [t.name for t in triggers]
    if len(names) != len(set(names)):
        raise ValueError(f"{place}.triggers: two have the same name")
    return Entry(**values, triggers=triggers)  # type: ignore[arg-type]


def _trigger(place: str, raw: Any) -> Trigger:
    if not isinstance(raw, Mapping):
        raise ValueError(f"{place} is a section of keys and values")
    known = {f.name for f in fields(Trigger)}
    if unknown := sorted(map(str, set(raw) - known)):
        raise ValueError(f"{place} has the unknown key {', '.join(unknown)}; there are {', '.join(sorted(known))}")
    for key in ("name", "when", "response", "owner"):
        if key not in raw:
            raise ValueError(f"{place} says no {key}")
        _text(f"{place}.{key}", raw[key])
    days, matching = raw.get("within_days", 10), raw.get("matching", {})
    if type(days) is not int or not 1 <= days <= 366:
        raise ValueError(f"{place}.within_days is {days!r}; it is a whole number from 1 to 366")
    if not isinstance(matching, Mapping) or (matching and not raw.get("on")):
        raise ValueError(f"{place}.matching is a section of keys and values, beside on")
    plain = {key: str(raw[key]).strip() for key in ("name", "when", "response", "owner")}
    return Trigger(**plain, within_days=days, on=str(raw.get("on", "")), matching=tuple(sorted(matching.items())))


def _text(place: str, value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError(f"{place} is {value!r}; it is a text")
    if len(value) > LONGEST:
        raise ValueError(f"{place} has {len(value):,} characters; {LONGEST:,} are the most")
    return value.strip()
