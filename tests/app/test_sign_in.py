"""Who gets into the portal, as what, and for how long: real users in a real store, the pages as they run."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from streamlit.testing.v1 import AppTest

from app import acting
from app.auditing import record
from app.password_sessions import IDLE, LONGEST, SESSIONS, TICKET_LIVES, Sessions, SignedIn, ended
from pipeline import ledger
from pipeline.config import REPOSITORY
from pipeline.governance import audit, identity, users
from pipeline.governance.access import Actor
from tests.app.conftest import PASSWORD, ROOT, Open, html_of
from tests.published_home import FIRST_ID, settings_for

KEY = acting._KEY


@pytest.fixture
def guarded(history: Path, tmp_path: Path) -> Path:
    """The home with a history, where anna (viewer) and ben (analyst, approver) are users."""
    home = tmp_path / "guarded"
    shutil.copytree(history, home)
    engine = store(home)
    hashed = identity.HASHER.hash(PASSWORD)
    for name, roles in (("anna", ["viewer"]), ("ben", ["analyst", "approver"])):
        users.add(engine, ROOT, name, roles, hashed, ROOT.authenticated_at, record)
    engine.dispose()
    return home


def store(home: Path) -> Engine:
    return ledger.open_ledger(settings_for(home))


def sign_in(app: AppTest, name: str, password: str = PASSWORD) -> AppTest:
    app.text_input[0].set_value(name)
    app.text_input[1].set_value(password)
    app.button[0].click()
    return app.run()


def shows_nothing(app: AppTest) -> bool:
    page = html_of(app)
    return not (
        app.sidebar.get("page_link")
        or app.selectbox
        or app.get("plotly_chart")
        or "<table" in page
        or " Mar 2026" in page
    )


# ── users of the home ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", ["tonight", "scores"])
def test_before_the_sign_in_a_page_shows_nothing(portal: Open, guarded: Path, page: str) -> None:
    app = portal(guarded, page, **({"account": str(FIRST_ID)} if page == "scores" else {}), as_of="2026-03-10")
    assert "<h1>Sign in</h1>" in html_of(app) and shows_nothing(app)


def test_signing_in_opens_the_page_that_was_asked_for(portal: Open, guarded: Path) -> None:
    app = sign_in(portal(guarded, "scores", account=str(FIRST_ID), as_of="2026-03-10"), "ben")
    page = html_of(app)
    assert f"<h1>Account {FIRST_ID}</h1>" in page and "<h1>Sign in</h1>" not in page
    assert "ben" in page and "analyst, approver" in page and "not signed in" not in page
    assert app.query_params["account"] == str(FIRST_ID)


def test_a_refusal_says_so_and_empties_the_password(portal: Open, guarded: Path) -> None:
    app = sign_in(portal(guarded), "ben", "wrong horse battery")
    assert "✕ the name or the password is wrong" in html_of(app) and shows_nothing(app)
    assert [box.value for box in app.text_input] == ["ben", ""]
    unknown = sign_in(portal(guarded), "<i>nobody", "wrong horse battery")
    assert "✕ the name or the password is wrong" in html_of(unknown) and "<i>nobody" not in html_of(unknown)


def test_signing_out_leaves_nothing_behind(portal: Open, guarded: Path) -> None:
    app = sign_in(portal(guarded), "ben")
    key, app.session_state["said of the last action"] = app.session_state[KEY], "signed version 2"
    next(b for b in app.button if b.label == "Sign out").click()
    app.run()
    assert shows_nothing(app) and not app.session_state[KEY] and SESSIONS.get(key) is None
    assert "said of the last action" not in app.session_state


def test_a_session_that_ended_elsewhere_leaves_nothing_for_the_next_person(portal: Open, guarded: Path) -> None:
    app = sign_in(portal(guarded), "ben")
    app.session_state["export ready"] = "a file of ben's"
    SESSIONS.end(app.session_state[KEY])
    assert shows_nothing(app.run()) and "it was ended in another tab" in html_of(app)
    assert "export ready" not in app.session_state
    app.session_state["export ready"] = "left by some other way"
    assert "anna" in html_of(sign_in(app, "anna")) and "export ready" not in app.session_state


def test_two_browsers_are_two_sessions(portal: Open, guarded: Path) -> None:
    sign_in(portal(guarded), "ben")
    assert shows_nothing(portal(guarded))


def test_a_session_ends_after_its_time_and_says_why(portal: Open, guarded: Path) -> None:
    app = sign_in(portal(guarded), "ben")
    last_seen(app, IDLE)
    assert shows_nothing(app.run()) and "30 minutes passed without use" in html_of(app)
    assert "▲" not in html_of(app.run()), "it is said once"


def test_when_a_session_ends() -> None:
    now = datetime(2026, 3, 14, 9, tzinfo=UTC)
    actor = Actor("ben", frozenset({"viewer"}), "password", now)
    second = timedelta(seconds=1)
    assert ended(SignedIn(actor, now), now + IDLE - second) == ""
    assert "30 minutes" in ended(SignedIn(actor, now), now + IDLE)
    busy = now + LONGEST - second
    assert ended(SignedIn(actor, busy), busy) == ""
    assert "8 hours" in ended(SignedIn(actor, busy), busy + second)


def test_use_keeps_a_session(portal: Open, guarded: Path) -> None:
    app = sign_in(portal(guarded), "ben")
    last_seen(app, timedelta(minutes=29))
    app.run()
    signed = SESSIONS.get(app.session_state[KEY])
    assert signed and datetime.now(UTC) - signed.seen_at < timedelta(minutes=1)


def last_seen(app: AppTest, ago: timedelta) -> None:
    """As if its session had been left alone."""
    SESSIONS.seen(app.session_state[KEY], datetime.now(UTC) - ago)


def test_a_ticket_is_worth_a_key_once_and_not_for_long() -> None:
    sessions, now = Sessions(), datetime(2026, 3, 14, 9, tzinfo=UTC)
    actor = Actor("ben", frozenset({"viewer"}), "password", now)
    key = sessions.begin(actor, now)
    ticket = sessions.ticket(key, now)
    assert ticket != key and sessions.redeem("made up", now) is None
    assert sessions.redeem(ticket, now) == key and sessions.redeem(ticket, now) is None
    assert sessions.redeem(sessions.ticket(key, now), now + TICKET_LIVES) is None
    left = sessions.ticket(key, now)
    sessions.end(key)
    assert sessions.redeem(left, now) is None and sessions.get(key) is None


def test_sessions_that_are_over_are_forgotten_when_one_begins() -> None:
    sessions, now = Sessions(), datetime(2026, 3, 14, 9, tzinfo=UTC)
    actor = Actor("ben", frozenset({"viewer"}), "password", now)
    left, used = sessions.begin(actor, now), sessions.begin(actor, now)
    sessions.seen(used, now + IDLE)
    sessions.begin(actor, now + IDLE)
    assert sessions.get(left) is None and sessions.get(used)


def test_who_is_disabled_is_out_with_the_next_click(portal: Open, guarded: Path) -> None:
    app = sign_in(portal(guarded), "ben")
    assert not shows_nothing(app)
    engine = store(guarded)
    users.set_disabled(engine, ROOT, "ben", True, datetime.now(UTC), record)
    assert shows_nothing(app.run())
    users.set_disabled(engine, ROOT, "ben", False, datetime.now(UTC), record)
    assert shows_nothing(app.run()), "the session is over, not asleep"


def test_a_role_taken_away_is_gone_with_the_next_click(portal: Open, guarded: Path) -> None:
    app = sign_in(portal(guarded), "ben")
    users.set_roles(store(guarded), ROOT, "ben", ["viewer"], datetime.now(UTC), record)
    page = html_of(app.run())
    assert "viewer" in page and "approver" not in page


def test_the_first_user_closes_the_open_portal(portal: Open, history: Path, tmp_path: Path) -> None:
    home = tmp_path / "open"
    shutil.copytree(history, home)
    app = portal(home)
    page = html_of(app)
    assert "local reader" in page and "embedded, not signed in" in page and "<code>scoretrace user add</code>" in page
    users.add(store(home), ROOT, "anna", ["viewer"], "no password yet", datetime.now(UTC), record)
    assert shows_nothing(app.run())
    users.set_disabled(store(home), ROOT, "anna", True, datetime.now(UTC), record)
    assert shows_nothing(app.run()), "it does not open again when nobody is left"


# ── an identity provider ─────────────────────────────────────────────────────────────────────────────────────


def through_provider(portal: Open, home: Path, **claims: object) -> AppTest:
    """A page as it runs after the provider sent somebody back with these claims."""
    now = datetime.now(UTC).timestamp()
    app = portal(home)
    app.secrets["auth"] = {"redirect_uri": "http://localhost/oauth2callback", "cookie_secret": "x" * 32}
    given = {"is_logged_in": True, "sub": "42", "email": "eva@lender.example", "iat": now, "exp": now + 300, **claims}
    app.user = {k: v for k, v in given.items() if v is not None}
    return app.run()


@pytest.fixture
def provided(guarded: Path) -> Path:
    (guarded / "oidc_groups.json").write_text(json.dumps({"risk": "analyst"}), encoding="utf-8")
    return guarded


def test_a_group_of_the_provider_gives_its_role(portal: Open, provided: Path) -> None:
    page = html_of(through_provider(portal, provided, groups=["risk", "all"]))
    assert "eva@lender.example" in page and "analyst" in page and "14 Mar 2026" in page


def test_a_sign_in_at_the_provider_is_on_record_once(portal: Open, provided: Path) -> None:
    app = through_provider(portal, provided, groups=["risk"])
    app.run()
    found = audit.records(store(provided), action="user.sign_in", actor="eva@lender.example")
    assert [r.facts["method"] for r in found] == ["oidc"]
    app.user = {**app.user, "iat": app.user["iat"] + 1}
    app.run()
    assert len(audit.records(store(provided), action="user.sign_in", actor="eva@lender.example")) == 2


def test_nobody_signed_in_at_the_provider_sees_nothing(portal: Open, provided: Path) -> None:
    app = through_provider(portal, provided, groups=["risk"], is_logged_in=False)
    assert shows_nothing(app) and not app.text_input, "the home's own passwords are no way round the provider"
    assert app.button[0].label == "Continue to your identity provider"


@pytest.mark.parametrize("expiry", [None, 1_700_000_000, "never"])
def test_a_token_past_its_time_shows_nothing(portal: Open, provided: Path, expiry: object) -> None:
    app = through_provider(portal, provided, groups=["risk"], exp=expiry)
    assert shows_nothing(app) and "▲" in html_of(app) and "expir" in html_of(app)


def test_a_token_ends_while_the_page_is_open(portal: Open, provided: Path) -> None:
    app = through_provider(portal, provided, groups=["risk"])
    assert not shows_nothing(app)
    app.user = {**app.user, "exp": datetime.now(UTC).timestamp() - 1}
    assert shows_nothing(app.run())


def test_who_is_in_no_mapped_group_is_told_what_is_missing(portal: Open, provided: Path) -> None:
    page = html_of(through_provider(portal, provided, groups=["all"]))
    assert "✕ not allowed" in page and "no role" in page and "<h1>" not in page and "<table" not in page


@pytest.mark.parametrize("content", [None, "{", '{"risk": "service"}'])
def test_without_the_roles_of_groups_nobody_gets_in(portal: Open, provided: Path, content: str | None) -> None:
    path = provided / "oidc_groups.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    app = through_provider(portal, provided, groups=["risk"])
    page = html_of(app)
    assert "✕ nobody can sign in" in page and "oidc_groups.json" in page and shows_nothing(app)


def test_secrets_that_cannot_be_read_do_not_open_the_portal(
    portal: Open, history: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "secrets.toml"
    broken.write_text("[auth\n", encoding="utf-8")
    app = portal(history)
    import streamlit as st
    from streamlit.runtime.secrets import Secrets

    monkeypatch.setattr(st, "secrets", Secrets())
    st.config.set_option("secrets.files", [str(broken)])
    try:
        app.run()
    finally:
        st.config.set_option("secrets.files", [str(REPOSITORY / ".streamlit" / "secrets.toml")])
    assert "✕ nobody can sign in" in html_of(app) and shows_nothing(app)


def test_secrets_that_were_there_once_keep_the_portal_closed(tmp_path: Path) -> None:
    """In a process of its own: what Streamlit keeps of secrets outlives a test."""
    secrets = tmp_path / "secrets.toml"
    script = f"""
import pathlib, streamlit as st
from streamlit.testing.v1 import AppTest
secrets = pathlib.Path({str(secrets)!r})
st.config.set_option("secrets.files", [str(secrets)])
app = AppTest.from_string("import streamlit as st; from app import acting; st.text(acting.by_provider())")
said = [app.run().text[0].value, app.run().text[0].value]
secrets.write_text('[auth]\\nredirect_uri = "http://localhost/callback"\\n')
said.append(app.run().text[0].value)
secrets.unlink()
said.append(app.run().text[0].value)
print(said)
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "['False', 'False', 'True', 'True']", done.stderr
