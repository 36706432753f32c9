"""The inventory read: each model with its facts, its exposure, what is in force and when it is reviewed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import Connection, Engine

from pipeline.config import Settings
from pipeline.governance import audit, inventory_rules
from pipeline.governance.event import event_of
from pipeline.governance.exposure import Exposure, exposures
from pipeline.governance.inventory import Entry
from pipeline.governance.inventory_rules import Owed, ReviewDue
from pipeline.governance.inventory_state import Standing, fold
from pipeline.governance.promotion_log import book_of
from pipeline.governance.promotion_state import Book, Promotion
from pipeline.portfolio import ModelSpec, Portfolio


@dataclass(frozen=True)
class Listed:
    """One model of the inventory. shared_data, shared_assumptions: statement → the other models that make it too."""

    spec: ModelSpec
    standing: Standing
    exposure: Exposure | None
    in_force: Promotion | None
    review: ReviewDue
    owed: tuple[Owed, ...]
    shared_data: Mapping[str, tuple[str, ...]]
    shared_assumptions: Mapping[str, tuple[str, ...]]

    @property
    def entry(self) -> Entry:
        return self.standing.entry

    @property
    def name(self) -> str:
        return self.spec.name


def standings(where: Engine | Connection, portfolio: Portfolio) -> dict[str, Standing]:
    """Every model's standing, as the audit log has it."""
    declared = {spec.name: portfolio.inventory.get(spec.name, Entry()) for spec in portfolio.models}
    prefixes = {"inventory."} | {t.on for entry in declared.values() for t in entry.triggers if t.on}
    records = {r.seq: r for prefix in prefixes for r in audit.records(where, action=prefix)}
    events = (event_of(r) for _, r in sorted(records.items()))
    return fold(declared, events)


def listed(settings: Settings, engine: Engine, portfolio: Portfolio, *, exposure: bool = True) -> tuple[Listed, ...]:
    """The whole inventory, in the portfolio's order; exposures come from the lake and may be left out."""
    found, book = standings(engine, portfolio), book_of(engine)
    exposed = exposures(settings, engine, portfolio) if exposure else {}
    return tuple(_listed(portfolio, spec, found, book, exposed.get(spec.name)) for spec in portfolio.models)


def one(settings: Settings, engine: Engine, portfolio: Portfolio, name: str) -> Listed:
    """One model of it. Raises ConfigError for a name that is not in the portfolio."""
    portfolio.model(name)
    return next(found for found in listed(settings, engine, portfolio) if found.name == name)


def _listed(
    portfolio: Portfolio, spec: ModelSpec, all_: Mapping[str, Standing], book: Book, exposure: Exposure | None
) -> Listed:
    standing, held = all_[spec.name], book.in_force.get(spec.name)
    promotion = book.promotions[held.promotion] if held else None
    months = portfolio.review_months[spec.materiality]
    return Listed(
        spec=spec,
        standing=standing,
        exposure=exposure,
        in_force=promotion,
        review=inventory_rules.review_due(standing, spec.materiality, months, promotion, held),
        owed=inventory_rules.responses_owed(standing),
        shared_data=_shared(spec.name, all_, "data"),
        shared_assumptions=_shared(spec.name, all_, "assumptions"),
    )


def _shared(name: str, all_: Mapping[str, Standing], what: str) -> dict[str, tuple[str, ...]]:
    found = {}
    for statement in getattr(all_[name].entry, what):
        others = tuple(other for other, s in all_.items() if other != name and statement in getattr(s.entry, what))
        if others:
            found[statement] = others
    return found
