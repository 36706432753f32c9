"""Every page and every role: it loads, or says who may; without a night it says what comes next; a bad link is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from pipeline.config import REPOSITORY
from pipeline.governance.access import PERSONAL_ROLES, RULES
from tests.app.conftest import Open, html_of
from tests.app.test_sign_in import sign_in

# A page, what its reader must be allowed, and a link on it that leads nowhere.
PAGES = {
    "tonight": ("scores.read", {"as_of": "2031-01-01"}),
    "drift": ("drift.read", {"feature": "nothing"}),
    "outcomes": ("drift.read", {"model": "nothing"}),
    "alerts": ("drift.read", {"alert": "nothing"}),
    "scores": ("scores.read", {"account": "999999999"}),
    "columns": ("run.read", {"column": "no.such.column"}),
    "runs": ("run.read", {"run": "nothing"}),
    "models": ("model.read", {"model": "nothing"}),
    "promotions": ("promotion.read", {"promotion": "nothing"}),
    "audit": ("audit.read", {"record": "nothing"}),
}


def show(app: AppTest, page: str, **query: str) -> str:
    """A page within the session: what it wrote."""
    app.switch_page(f"views/{page}.py")
    app.query_params.clear()
    for part, value in query.items():
        app.query_params[part] = value
    return html_of(app.run())


@pytest.mark.parametrize("role", PERSONAL_ROLES)
def test_each_page_loads_or_says_who_may(portal: Open, guarded_watch: Path, role: str) -> None:
    app = sign_in(portal(guarded_watch), role)
    for page, (needed, bad) in PAGES.items():
        said, rule = show(app, page), RULES[needed]
        if role in rule.roles:
            assert "<h1>" in said and "not allowed" not in said, page
            assert "role='alert'" in (lost := show(app, page, **bad)) and "Next:" in lost, (page, bad)
        else:
            assert "not allowed" in said and f"{role} ({role}) may not {rule.meaning}" in said, page
            assert all(other in said for other in rule.roles if other in PERSONAL_ROLES), page
            assert "<table" not in said and "<h1>" not in said, page


@pytest.mark.parametrize("page", PAGES)
def test_signed_out_a_page_is_the_sign_in(portal: Open, guarded_watch: Path, page: str) -> None:
    said = html_of(portal(guarded_watch, page))
    assert "<h1>Sign in</h1>" in said and "<table" not in said


@pytest.mark.parametrize("page", PAGES)
def test_without_a_night_a_page_says_what_comes_next(portal: Open, without_nights: Path, page: str) -> None:
    said = html_of(portal(without_nights, page))
    assert "this page broke" not in said
    needs_no_night = page in ("models", "promotions", "audit", "alerts")
    assert ("<h1>" in said) if needs_no_night else ("Next:" in said), page


def test_a_home_with_nothing_in_it_says_what_makes_one(portal: Open, tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "none", ignore_errors=True)
    assert "scoretrace init" in html_of(portal(tmp_path / "none"))


def test_the_list_of_pages_is_whole() -> None:
    assert {view.stem for view in (REPOSITORY / "app" / "views").glob("*.py")} == set(PAGES)
