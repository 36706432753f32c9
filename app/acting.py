"""Who acts in this browser session: through an identity provider, by password, or nobody where nobody needs to.

A session by password lives in the server's memory and ends by itself; its key is in each of its tabs and in a cookie,
for the tabs that are opened or loaded later. A session through a provider ends with its token.
Whatever is found is looked at again on every rerun: who was disabled a moment ago sees nothing more.
"""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import streamlit as st
from sqlalchemy import Engine

from app.auditing import record
from app.password_sessions import SESSIONS, ended
from pipeline.config import Settings
from pipeline.errors import ConfigError, IdentityRefused
from pipeline.governance import identity, users
from pipeline.governance.access import Actor
from pipeline.governance.claims import actor_from_claims, read_group_roles

SIGNING = "signing"
"""Streamlit's name of the same identity provider, asked with other parameters."""
_KEY = "signed in"
_TICKET = "ticket for the cookie"
_RECORDED = "sign-in on record"
_NO_SECRETS = "no secrets were there"
_SEEN: set[str] = set()  # of the process: secrets' files that were there once


class SignInNeeded(IdentityRefused):
    """Nobody is signed in, and somebody has to be. ``way`` is ``password`` or ``oidc``; the message says what ended."""

    def __init__(self, way: str, message: str = "", next_step: str = "") -> None:
        super().__init__(message or "nobody is signed in", next_step or "sign in")
        self.way = way
        self.ended = message


def actor(engine: Engine, settings: Settings, now: datetime) -> Actor:
    """Who acts. Raises SignInNeeded, or ConfigError when the secrets or the roles of groups cannot be read.

    Where there are neither users nor a provider, whoever reaches the portal is the local reader.
    """
    if by_provider():
        return _from_provider(engine, settings, now)
    if not users.exist(engine):
        return Actor("local reader", frozenset({"viewer", "analyst"}), "none", now)
    return _from_session(engine, now)


def by_provider() -> bool:
    """Whether people sign in with OpenID Connect: the secrets have an ``[auth]`` section.

    Raises ConfigError for secrets that are there and cannot be read: a slip in that file must not open the portal.
    """
    present = [str(path) for path in map(Path, st.get_option("secrets.files")) if path.exists()]
    if not (present or _SEEN) and st.session_state.get(_NO_SECRETS) == id(st.secrets):
        return False  # Streamlit would look for them anew each time, one session after the other
    _SEEN.update(present)  # a file that was there and is gone opens nothing: Streamlit remembers what it said
    try:
        return "auth" in st.secrets
    except FileNotFoundError as error:
        if present:
            raise ConfigError(
                f"the portal's secrets cannot be read: {', '.join(present)}", "mend the file and start the portal again"
            ) from error
        st.session_state[_NO_SECRETS] = id(st.secrets)
        return False


def login_for_signing() -> None:
    """Send the browser to the identity provider, which asks for the login anew, whatever it remembers.

    Raises ConfigError without an ``[auth.signing]`` section that says so: Streamlit takes the wish from there alone.
    """
    section = st.secrets["auth"].get(SIGNING, {})
    prompts = str(section.get("client_kwargs", {}).get("prompt", "")).split()
    if "login" not in prompts:
        raise ConfigError(
            "signing needs a login that the identity provider asks for anew, and the portal's secrets do not say how",
            f'add [auth.{SIGNING}] to them: the keys of [auth], and client_kwargs = {{ prompt = "login" }}',
        )
    st.login(SIGNING)


def sign_in(engine: Engine, name: str, password: str, now: datetime) -> None:
    """Begin a session and put it on record. Raises IdentityRefused."""
    key = SESSIONS.begin(identity.authenticate(engine, name, password, now, record=record), now)
    st.session_state.clear()  # whatever somebody before them left in this tab
    st.session_state[_KEY] = key
    st.session_state[_TICKET] = SESSIONS.ticket(key, now)


def sign_out() -> None:
    """End the session, in every tab, and the browser's where that is another by now; forget all that this tab held."""
    for key in (_key(), st.context.cookies.get(cookie_name())):
        if key:
            SESSIONS.end(key)
    _forget()
    if by_provider():
        st.logout()


def seen(now: datetime) -> None:
    """Note that somebody did something: called where a page is asked for, not where one refreshes itself."""
    if key := _key():
        SESSIONS.seen(key, now)


def cookie_name() -> str:
    """The cookie with a session's key. Browsers give a host's cookies to each of its ports: so it names the port."""
    return f"scoretrace_session_{st.get_option('server.port')}"


def ticket() -> str | None:
    """What the page after a sign-in asks its cookie with; None on every other page."""
    found: str | None = st.session_state.pop(_TICKET, None)
    return found


def _key() -> str | None:
    """The key of this tab's session: the browser's, when the tab was opened or loaded. It stays the tab's from then on;
    a WebSocket that was lost comes back with whatever cookie the browser has by then, which may be somebody else's."""
    key: str = st.session_state.setdefault(_KEY, st.context.cookies.get(cookie_name()) or "")
    return key or None


def _forget() -> None:
    """Leave nothing of a session in this tab, and have it take up no other by itself."""
    st.session_state.clear()
    st.session_state[_KEY] = ""


def _from_session(engine: Engine, now: datetime) -> Actor:
    key = _key()
    signed = SESSIONS.get(key) if key else None
    if key is None:
        raise SignInNeeded("password")
    if signed is None:
        _forget()
        raise SignInNeeded("password", "the session ended: it was ended in another tab, or the portal was started anew")
    over = ended(signed, now)
    try:
        if not over:
            return identity.still(engine, signed.actor)
    except IdentityRefused as error:
        over = error.message
    SESSIONS.end(key)
    _forget()
    raise SignInNeeded("password", over)


def _from_provider(engine: Engine, settings: Settings, now: datetime) -> Actor:
    claims = st.user.to_dict()
    if not claims.get("is_logged_in"):
        raise SignInNeeded("oidc")
    roles = read_group_roles(settings.oidc_groups_file)
    try:
        found = actor_from_claims(claims, roles, now)
    except IdentityRefused as error:
        raise SignInNeeded("oidc", error.message, error.next_step) from error
    sign_in_of = (found.subject, found.authenticated_at)
    if st.session_state.get(_RECORDED) != sign_in_of:  # once a session, not once a page
        detail = {"method": "oidc", "subject": found.subject, "roles": sorted(found.roles)}
        record(engine, actor=found.name, action="user.sign_in", subject=f"user:{found.name}", detail=detail)
        st.session_state[_RECORDED] = sign_in_of
    return found
