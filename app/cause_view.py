"""Causes as a list, and the way from each to its column in Lineage."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import drift_facts, markup, session, shell
from pipeline.governance import access
from pipeline.monitoring.alert_state import Cause

MOST = 3


def show(causes: Sequence[Cause], key: str) -> None:
    """The causes, the likeliest first; those that are a column of a table open its lineage. key: where they stand."""
    st.html(markup.block(drift_facts.cause_list(causes)))
    columns = list(dict.fromkeys(c.source for c in causes if c.source.count(".") == 2))[:MOST]
    if columns and access.may(session.actor(), "run.read"):
        with st.container(key=f"actions-causes-{key}", horizontal=True, gap="medium"):
            for column in columns:
                query = session.address(column=column)
                st.page_link(shell.LINEAGE, label=f"{column} in Lineage ▸", query_params=query, icon="")
