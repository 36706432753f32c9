"""The approvals of the open home, and what a person does there: each action ends in a sentence on the page."""

from __future__ import annotations

import logging
from collections.abc import Callable

import streamlit as st

from app import hooks, markup, session
from app.acting import SignInNeeded
from app.session import Home
from pipeline.config import Settings
from pipeline.errors import AccessDenied, ScoretraceError
from pipeline.governance.access import Actor
from pipeline.governance.approvals import Approvals
from pipeline.registry import Registry

_SAID = "said of the last action"
_log = logging.getLogger("scoretrace.portal")


def approvals(home: Home) -> Approvals:
    """The promotions of this home, as the records have them at this moment."""
    return Approvals(home.settings, home.engine, registry(home), home.portfolio)


def registry(home: Home) -> Registry:
    return _registry(home.identity, home.settings)


def signed_in(actor: Actor) -> bool:
    """Whether the actor proved who they are: what is recorded for ever is recorded of a person."""
    return actor.method in ("password", "oidc")


def attempt(home: Home, act: Callable[[Actor], str], *, of_anybody: bool = False) -> bool:
    """Do something as whoever is signed in; ``act`` returns what was done, in a sentence.

    of_anybody: where nobody signs in, the local reader may do it too: it decides nothing.

    Returns whether it was done. A refusal is kept for ``say``, and nothing is raised: this runs before the page does.
    """
    try:
        actor = session.actor()
        if not (of_anybody or signed_in(actor)):
            raise AccessDenied("nobody is signed in here, and this is recorded with a name", _USERS)
        st.session_state[_SAID] = ("ok", act(actor), "")
    except SignInNeeded:
        return False  # the page that follows is the sign-in
    except ScoretraceError as error:
        st.session_state[_SAID] = ("stop", error.message, error.next_step)
        return False
    except Exception:  # noqa: BLE001 - the last resort: the log gets the traceback, the reader a sentence
        _log.exception("an action broke")
        told = "this broke while it was done; the records say how far it came", "look at the page again"
        st.session_state[_SAID] = ("stop", *told)
        return False
    _deliver(home)
    return True


def say() -> None:
    """What the last action did, or why not. Said once."""
    if said := st.session_state.pop(_SAID, None):
        level, message, following = said
        lines = [f"Next: {following}."] if following else []
        st.html(markup.block(markup.alarm(level, message, *lines)))


def _deliver(home: Home) -> None:
    """Webhooks on their way; receivers that cannot be read do not undo what was done."""
    try:
        hooks.deliver_soon(home.settings)
    except ScoretraceError as error:
        level, message, _ = st.session_state[_SAID]
        st.session_state[_SAID] = (level, f"{message} ▲ No webhook was sent: {error.message}", error.next_step)


_USERS = "add users with `scoretrace user add`, then sign in"


@st.cache_resource(show_spinner=False, max_entries=4)
def _registry(identity: str, _settings: Settings) -> Registry:
    return Registry(_settings)
