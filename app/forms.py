"""A form that does one thing, and the sentence for who may not use it."""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from app import desk, markup
from app.markup import Html
from app.session import Home
from pipeline.governance.access import Actor


def form(
    home: Home, key: str, label: str, fields: Callable[[], tuple[object, ...]], act: Callable[..., object], done: str
) -> None:
    """``act(actor, *fields)`` when it is sent; then ``done`` is said and the fields are empty again.

    A refusal leaves what was typed where it is.
    """
    times = st.session_state.setdefault(f"{key} times", 0)  # names the fields anew once it is done
    with st.form(f"{key} {times}", border=False, enter_to_submit=False):
        values = fields()
        asked = st.form_submit_button(label)
    if asked:

        def send(who: Actor) -> str:
            act(who, *values)
            return done

        if desk.attempt(home, send):
            st.session_state[f"{key} times"] = times + 1
        st.rerun()


def words(label: str) -> str:
    """A field for a few sentences."""
    return st.text_area(label, max_chars=2000, height=70, placeholder="kept for ever, as you write it")


def sentence(text: str, level: str = "") -> None:
    """Who may, or why not."""
    said = markup.status(level, text) if level else Html(f"<span class='quiet'>{markup.with_code(text)}</span>")
    st.html(markup.block(Html("<p class='told'>"), said, Html("</p>")))
