"""Homes for the portal's tests: one with a history, one whose last night failed, one without a night, none at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app.auditing import record
from pipeline import ledger
from pipeline.config import REPOSITORY
from pipeline.governance import identity, users
from pipeline.governance.access import PERSONAL_ROLES, Actor
from tests import published_home, watched_home
from tests.conftest import copy_home
from tests.lineage.conftest import own_story, story

__all__ = ["own_story", "story"]  # fixtures of lineage: two nights with everything between them

Open = Callable[..., AppTest]
ROOT = Actor("root", frozenset({"admin"}), "home", datetime(2026, 3, 1, tzinfo=UTC))
PASSWORD = "correct horse battery"


@pytest.fixture(scope="session")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five weeks of nights of 300 accounts; read only, shared by every test."""
    return published_home.shared(tmp_path_factory)


@pytest.fixture(scope="session")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same nights with what their monitor left: drift, outcomes, alerts; read only."""
    return watched_home.shared(tmp_path_factory)


@pytest.fixture(scope="session")
def guarded_watch(watched: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The watched home with a user for each role, who has the role's name."""
    home = copy_home(watched, tmp_path_factory.mktemp("guarded") / "home")
    engine = ledger.open_ledger(published_home.settings_for(home))
    hashed = identity.HASHER.hash(PASSWORD)
    for role in PERSONAL_ROLES:
        users.add(engine, ROOT, role, [role], hashed, ROOT.authenticated_at, record)
    engine.dispose()
    return home


@pytest.fixture
def failed_last(history: Path, tmp_path: Path) -> Path:
    """The same home at another path, where the night of the 15th failed after the 14th was published."""
    home = tmp_path / "moved"
    shutil.copytree(history, home)
    engine = ledger.open_ledger(published_home.settings_for(home))
    published_home.fail_night(engine, published_home.LAST + timedelta(days=1))
    engine.dispose()
    return home


@pytest.fixture(scope="session")
def without_nights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("new") / "home"
    published_home.build(home, nights=0)
    return home


@pytest.fixture
def portal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Open]:
    """Open a page of the portal over a home: ``portal(home, "scores", account="1048000")``. What it opened of a shared
    home, which no test changes, stays open for the next test; a home of the test's own goes with it."""
    own = []

    def open_page(home: Path, page: str = "tonight", /, **query: str) -> AppTest:
        if home.is_relative_to(tmp_path):
            own.append(home)
        monkeypatch.setenv("SCORETRACE_HOME", str(home))
        app = AppTest.from_file(str(REPOSITORY / "app" / "main.py"), default_timeout=60)
        if page == "tonight":
            _ask(app, query)
            return app.run()
        app.run()
        app.switch_page(f"views/{page}.py")
        _ask(app, query)
        return app.run()

    yield open_page
    if own:
        st.cache_data.clear()
        st.cache_resource.clear()


def _ask(app: AppTest, query: dict[str, str]) -> None:
    for key, value in query.items():
        app.query_params[key] = value


def html_of(app: AppTest) -> str:
    """Everything that the page wrote as HTML."""
    assert not app.exception, [e.value for e in app.exception]
    page = "\n".join(element.proto.body for element in app.get("html"))
    assert "this page broke" not in page, "see the captured log"
    return page
