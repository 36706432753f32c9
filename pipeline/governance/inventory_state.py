"""A model's place in the inventory as its events make it: declared facts, then edits, reviews and triggers."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from pipeline.governance.event import Event
from pipeline.governance.inventory import EDITABLE, LISTS, Entry, Trigger


@dataclass(frozen=True)
class Edit:
    """One field changed by somebody for a reason."""

    field: str
    by: str
    at: datetime
    reason: str


@dataclass(frozen=True)
class Fired:
    """A trigger that fired, and the response to it when there is one. seq: the record that fired it."""

    trigger: str
    at: datetime
    seq: int
    why: str
    responded_by: str | None = None
    responded_at: datetime | None = None
    response: str = ""

    @property
    def owed(self) -> bool:
        return self.responded_at is None


@dataclass(frozen=True)
class Review:
    """A review that took place."""

    by: str
    at: datetime
    note: str


@dataclass(frozen=True)
class Standing:
    """A model as the records have it. edits: the newest of each field, fields in order of the entry."""

    entry: Entry
    edits: Mapping[str, Edit] = field(default_factory=dict)
    fired: tuple[Fired, ...] = ()
    reviews: tuple[Review, ...] = ()


def fold(declared: Mapping[str, Entry], events: Iterable[Event]) -> dict[str, Standing]:
    """Every declared model's standing after these events, in their order. Events about other models are passed over."""
    found = {name: Standing(entry) for name, entry in declared.items()}
    for event in events:
        for name in found:
            if _about(event, name, found):
                found[name] = _stepped(found[name], event)
    return found


def _about(event: Event, model: str, models: Collection[str]) -> bool:
    """Whether a record is about a model. An alert is named KIND/WHAT…; one that names no model concerns them all."""
    kind, _, name = event.subject.partition(":")
    if kind == "alert":
        named = {part for part in (*name.split("/"), event.detail.get("model")) if part in models}
        return model in named or not named
    if kind == "model" and name.partition("/")[0] == model:
        return True
    return bool(event.detail.get("model") == model)


def _stepped(s: Standing, event: Event) -> Standing:
    d = event.detail
    match event.action:
        case "inventory.edited":
            changes: dict[str, Any] = {
                k: tuple(v) if k in LISTS else v for k, v in d["changes"].items() if k in EDITABLE
            }
            edits = {k: Edit(k, event.actor, event.at, d["reason"]) for k in changes}
            return replace(s, entry=replace(s.entry, **changes), edits={**s.edits, **edits})
        case "inventory.reviewed":
            return replace(s, reviews=(*s.reviews, Review(event.actor, event.at, d["note"])))
        case "inventory.trigger_fired":
            return replace(s, fired=(*s.fired, Fired(d["trigger"], event.at, event.seq, d["why"])))
        case "inventory.responded":
            given = {"responded_by": event.actor, "responded_at": event.at, "response": d["note"]}
            return replace(
                s, fired=tuple(replace(f, **given) if f.trigger == d["trigger"] and f.owed else f for f in s.fired)
            )
        case _:
            found = tuple(
                Fired(t.name, event.at, event.seq, _why(event)) for t in s.entry.triggers if _fires(t, event)
            )  # fmt: skip
            return replace(s, fired=(*s.fired, *found)) if found else s


def _fires(trigger: Trigger, event: Event) -> bool:
    return bool(
        trigger.on
        and event.action.startswith(trigger.on)
        and all(_fits(event.detail.get(key), wanted) for key, wanted in trigger.matching)
    )


def _fits(value: Any, wanted: Any) -> bool:
    return value in wanted if isinstance(wanted, list) else bool(value == wanted)


def _why(event: Event) -> str:
    """What the record itself says, in one of the words that records use for it."""
    said: Any = next((event.detail[key] for key in ("message", "reason", "why") if event.detail.get(key)), "")
    return f"{event.action} by {event.actor}" + (f": {said}" if said else "")
