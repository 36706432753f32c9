"""Causes as a list, and the way from each to its column, its table or its model in Lineage."""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from app import drift_facts, markup, session, shell
from pipeline.governance import access
from pipeline.monitoring.alert_state import Cause

MOST = 3


def show(causes: Sequence[Cause], key: str) -> None:
    """The causes, the likeliest first, and what they are about in Lineage. key: where they stand."""
    st.html(markup.block(drift_facts.cause_list(causes)))
    about = list(dict.fromkeys(filter(None, (_about(c.source) for c in causes))))[:MOST]
    if about and access.may(session.actor(), "run.read"):
        with st.container(key=f"actions-causes-{key}", horizontal=True, gap="medium"):
            for part, name in about:
                query = session.address(**{part: name})
                st.page_link(shell.LINEAGE, label=f"{name} in Lineage ▸", query_params=query, icon="")


def _about(source: str) -> tuple[str, str] | None:
    """What Lineage is asked for a cause: a column by its name, the columns of a table or a model by a search."""
    named, _, _ = source.partition(",")  # a load is named after its table
    kind, _, model = named.partition(" ")
    if kind == "model" and model:
        return "q", model
    return ("column", named) if named.count(".") == 2 else ("q", named) if named.startswith("raw.") else None
