"""What is shown in place of a page while nobody is signed in: the form, or the way to the identity provider."""

from __future__ import annotations

from datetime import UTC, datetime

import streamlit as st

from app import acting, markup
from app.acting import SignInNeeded
from app.markup import Html
from app.password_sessions import IDLE, LONGEST
from app.session import Home
from pipeline.errors import IdentityRefused

_TRIES = "sign-in tries"  # names the password's field anew after each try, so that it is empty again


def show(home: Home, needed: SignInNeeded) -> None:
    with st.container(key="signing-in", width=380):
        lines: list[markup.Cell] = [Html("<h1>Sign in</h1>")]
        if needed.ended:
            lines += [markup.GAP, markup.alarm("watch", needed.ended)]
        st.html(markup.block(*lines))
        if needed.way == "oidc":
            if st.button("Continue to your identity provider", type="primary", width="stretch"):
                st.login()
            said = f"Your groups there decide what you see of {home.portfolio.title} here."
            st.html(markup.block(Html(f"<p><small>{markup.html(said)}</small></p>")))
        else:
            _form(home)


def remember() -> None:
    """On the page after a sign-in: have the browser fetch the cookie, for its other tabs and for this one's reload."""
    if ticket := acting.ticket():
        st.html(f"<img class='unseen' src='remembered/{ticket}' alt=''>")


def _form(home: Home) -> None:
    tries = st.session_state.setdefault(_TRIES, 0)
    with st.form("sign-in", border=False):
        name = st.text_input("User name", autocomplete="username", max_chars=64)
        password = st.text_input(
            "Password", type="password", autocomplete="current-password", max_chars=256, key=f"password {tries}"
        )
        asked = st.form_submit_button("Sign in", type="primary", width="stretch")
    if asked:
        st.session_state[_TRIES] = tries + 1
        try:
            acting.sign_in(home.engine, name, password, datetime.now(UTC))
        except IdentityRefused as error:
            st.session_state["sign-in refused"] = error
        st.rerun()
    if refused := st.session_state.pop("sign-in refused", None):
        st.html(markup.block(markup.alarm("stop", refused.message, f"Next: {refused.next_step}.")))
    minutes, hours = IDLE.seconds // 60, LONGEST.seconds // 3600
    said = (
        f"A session holds in every tab of this browser. It ends when you sign out, after {minutes} minutes without use "
        f"and after {hours} hours. An administrator adds users."
    )
    st.html(markup.block(Html("<p><small>"), said, Html("</small></p>")))
