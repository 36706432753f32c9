"""The portal's reads of models, kept as long as nothing new is on record: every fact of them comes with a record."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st
from sqlalchemy import Engine

from app import desk
from app.session import Home
from pipeline import ledger
from pipeline.governance import audit, inventory_log
from pipeline.governance.inventory_log import Listed
from pipeline.governance.validation import facts
from pipeline.governance.validation.facts import ValidationFacts
from pipeline.registry import ModelVersion


def inventory(home: Home) -> tuple[Listed, ...]:
    """Every model of the portfolio as the inventory has it."""
    return _inventory(_key(home), home)


def standing(home: Home) -> tuple[Listed, ...]:
    """The same without exposures, which take a look at the lake."""
    return _standing(_key(home), home)


def versions(home: Home, model: str) -> tuple[ModelVersion, ...]:
    """The registered versions of a model, newest first."""
    return tuple(reversed(desk.registry(home).versions(model)))


def version(home: Home, model: str, number: int) -> ValidationFacts:
    """All that is on record of a version. Raises NotFound or ModelRefused."""
    return _version(_key(home), home, model, number)


def _key(home: Home) -> str:
    return f"{home.identity}|{home.portfolio.sha256}|{audit.head(home.engine).seq}|{_published(home.engine)}"


def _published(engine: Engine) -> int:
    newest = ledger.latest_publication(engine)
    return newest.id if newest else 0


@st.cache_resource(show_spinner=False, max_entries=4)
def _inventory(key: str, _home: Home) -> tuple[Listed, ...]:
    return inventory_log.listed(_home.settings, _home.engine, _home.portfolio)


@st.cache_resource(show_spinner=False, max_entries=4)
def _standing(key: str, _home: Home) -> tuple[Listed, ...]:
    return inventory_log.listed(_home.settings, _home.engine, _home.portfolio, exposure=False)


@st.cache_resource(show_spinner="reading the records of this version", max_entries=16)
def _version(key: str, _home: Home, model: str, number: int) -> ValidationFacts:
    now = datetime.now(UTC)
    return facts.gather(_home.settings, _home.engine, desk.registry(_home), _home.portfolio, model, number, now)
