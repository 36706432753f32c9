"""The inventory changed: each change asks who may, is checked, and becomes a record of the audit log, or is refused.

A refusal is a record too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection, Engine

from pipeline import clock
from pipeline.errors import InventoryRefused, ScoretraceError
from pipeline.governance import audit, inventory, texts
from pipeline.governance.access import Actor, require
from pipeline.governance.inventory_log import standings
from pipeline.governance.inventory_state import Standing
from pipeline.portfolio import Portfolio

Step = Callable[[Standing], tuple[str, Mapping[str, Any]]]
_SHOW = "`scoretrace models show {}` shows what there is"


def edit(
    engine: Engine, portfolio: Portfolio, actor: Actor, model: str, changes: Mapping[str, Any], reason: str
) -> None:
    """Change fields of a model's entry. Raises InventoryRefused naming the field, AccessDenied, or ConfigError."""

    def step(standing: Standing) -> tuple[str, Mapping[str, Any]]:
        try:
            values = {key: inventory.checked(key, value) for key, value in changes.items()}
        except ValueError as error:
            raise InventoryRefused(f"{model}: {error}", _SHOW.format(model)) from error
        new = {k: v for k, v in values.items() if getattr(standing.entry, k) != v}
        if not new:
            raise InventoryRefused(f"{model}: nothing would change", _SHOW.format(model))
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in new.items()}
        return "edited", {"changes": plain, "reason": _said(reason, "an edit", "why")}

    _act(engine, portfolio, actor, model, step)


def reviewed(engine: Engine, portfolio: Portfolio, actor: Actor, model: str, note: str) -> None:
    """Record that a review took place, and what came of it: the next one counts from here."""
    _act(engine, portfolio, actor, model, lambda _: ("reviewed", {"note": _said(note, "a review", "what it found")}))


def fire(engine: Engine, portfolio: Portfolio, actor: Actor, model: str, trigger: str, why: str) -> None:
    """Say that a monitoring trigger fired; its response is owed from now on and the review comes forward."""

    def step(standing: Standing) -> tuple[str, Mapping[str, Any]]:
        if standing.entry.trigger(trigger) is None:
            there = ", ".join(t.name for t in standing.entry.triggers) or "none"
            raise InventoryRefused(f"{model} has no trigger {trigger!r}; it has: {there}", _SHOW.format(model))
        return "trigger_fired", {"trigger": trigger, "why": _said(why, "a trigger", "what was seen")}

    _act(engine, portfolio, actor, model, step)


def respond(engine: Engine, portfolio: Portfolio, actor: Actor, model: str, trigger: str, note: str) -> None:
    """Record the response that a fired trigger was owed."""

    def step(standing: Standing) -> tuple[str, Mapping[str, Any]]:
        if not any(f.trigger == trigger and f.owed for f in standing.fired):
            raise InventoryRefused(f"{model} owes no response to {trigger!r}", _SHOW.format(model))
        return "responded", {"trigger": trigger, "note": _said(note, "a response", "what was done")}

    _act(engine, portfolio, actor, model, step)


def _act(engine: Engine, portfolio: Portfolio, actor: Actor, model: str, step: Step) -> None:
    portfolio.model(model)
    clock.require(engine)  # a date that is not true would decide when a review is due
    subject = f"model:{model}"
    try:
        require(actor, "inventory.edit")
        with engine.begin() as connection:
            audit.hold_off_others(connection)
            action, detail = step(_standing(connection, portfolio, model))
            audit.append(connection, actor=actor.name, action=f"inventory.{action}", subject=subject, detail=detail)
    except ScoretraceError as refused:
        detail = {"asked": "inventory.edit", "rule": texts.shown(refused.message), "roles": sorted(actor.roles)}
        audit.append(engine, actor=actor.name, action="inventory.refused", subject=subject, detail=detail)
        raise


def _standing(connection: Connection, portfolio: Portfolio, model: str) -> Standing:
    return standings(connection, portfolio)[model]


def _said(text: str, what: str, wanted: str) -> str:
    if not text.strip():
        raise InventoryRefused(f"{what} needs words: {wanted}", "give them and try again")
    return texts.reason(what, text)
