"""Who is acting, on which home, at which night. The URL is the only state: every page reads it and writes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import streamlit as st
from sqlalchemy import Engine

from app import acting, formats
from pipeline import home, ledger
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.governance.access import Actor
from pipeline.ledger import Publication
from pipeline.portfolio import Portfolio

AS_OF = "as_of"
_PAGE = "page that the browser shows"


@dataclass(frozen=True)
class Home:
    """An opened home: its settings, its lender, its control store, its published dates (newest first).

    identity: changes when the home is made anew at the same path, so that nothing cached of the old one is shown.
    watched: how often a night's monitor ended; what is stored of drift and outcomes changes with it and not between.
    """

    identity: str
    settings: Settings
    portfolio: Portfolio
    engine: Engine
    dates: tuple[date, ...]
    watched: int

    @property
    def zone(self) -> ZoneInfo:
        return ZoneInfo(self.portfolio.timezone)

    @property
    def grades(self) -> list[str]:
        """The grades' names, the best first."""
        return [grade.name for grade in self.portfolio.grades]


@dataclass(frozen=True)
class Reader:
    """A home read at one published night: what every page works on."""

    home: Home
    publication: Publication

    @property
    def as_of(self) -> date:
        return self.publication.as_of

    @property
    def zone(self) -> ZoneInfo:
        return self.home.zone

    @property
    def previous(self) -> date | None:
        """The published night before this one."""
        return next((d for d in self.home.dates if d < self.as_of), None)


def actor() -> Actor:
    """Who acts, with the roles of this moment. Raises SignInNeeded when nobody is signed in and somebody has to be."""
    settings = Settings.load()
    return acting.actor(_engine(_identity(settings), settings), settings, datetime.now(UTC))


def open_home() -> Home:
    """The home that the environment names. Raises ConfigError when there is none."""
    settings = Settings.load()
    identity = _identity(settings)
    portfolio = _portfolio(identity, _stamp(settings.portfolio_dir), settings)
    engine = _engine(identity, settings)
    dates, watched = ledger.published_dates(engine), ledger.attempts_ended(engine, "monitor")
    return Home(identity, settings, portfolio, engine, dates, watched)


def asked_date() -> str | None:
    """The as-of date in the URL, as it was written there."""
    return st.query_params.get(AS_OF) or None


def reader(opened: Home) -> Reader | None:
    """The published night that the URL asks for, or the latest; None when nothing was ever published.

    Raises NotFound for a date that is no date or was never published: another night is never shown instead.
    """
    asked = asked_date()
    if asked is None:
        publication = ledger.latest_publication(opened.engine)
        return Reader(opened, publication) if publication else None
    try:
        as_of = date.fromisoformat(asked)
    except ValueError:
        raise NotFound(f"{asked!r} is not a date", "write it as 2026-03-14, or choose a night above") from None
    publication = ledger.publication_for(opened.engine, as_of)
    if publication is None:
        raise NotFound(
            f"no night is published for {formats.day(as_of)}",
            f"choose another night above, or run `scoretrace nightly --as-of {as_of}`",
        )
    return Reader(opened, publication)


def address(**changes: str | None) -> dict[str, str]:
    """The query of a link that keeps the night: the as-of date of this URL, if it names one, and ``changes``."""
    asked = asked_date()
    query = {AS_OF: asked} if asked else {}
    return {**query, **{k: v for k, v in changes.items() if v is not None}}


def write_address(page: str) -> None:
    """Have the browser show the query that this run read, where it shows the page already.

    A page link to the page that is already open reruns it with the link's query and leaves the address bar as it
    was (Streamlit 1.67); saying the query once more puts it there, and into the history for the Back button. A link
    to another page puts its own query there: said once more, it would race that, and put the page before into the
    history with a query that is not its own.
    """
    if st.session_state.get(_PAGE) == page:
        st.query_params.from_dict(st.query_params.to_dict())
    st.session_state[_PAGE] = page


def _identity(settings: Settings) -> str:
    """The control store's address, and which file it is where it is one."""
    path = Path(settings.control_url.removeprefix("sqlite:///"))
    return f"{settings.control_url}|{path.stat().st_ino if path.is_file() else 0}"


def _stamp(folder: Path) -> int:
    """Changes with any file of the portfolio's folder; 0 when there is none."""
    return max((path.stat().st_mtime_ns for path in folder.glob("*")), default=0)


@st.cache_resource(show_spinner=False, max_entries=4)
def _portfolio(identity: str, stamp: int, _settings: Settings) -> Portfolio:
    portfolio, engine = home.open_home(_settings)
    engine.dispose()
    return portfolio


@st.cache_resource(show_spinner=False, max_entries=4)
def _engine(identity: str, _settings: Settings) -> Engine:
    return ledger.open_ledger(_settings)
