"""Causes as a list, and the way from each to its column, its table or its model in Lineage."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import streamlit as st

from app import drift_facts, landed_view, markup, session, shell
from pipeline.contracts import CONTRACTS
from pipeline.governance import access
from pipeline.monitoring.alert_state import Cause

MOST = 3


def show(causes: Sequence[Cause], key: str, night: date, published: Sequence[date]) -> None:
    """The causes, the likeliest first, and what they are about in Lineage. key: where they stand. night: whose lineage;
    the one that the URL shows where that night is none of the published ones."""
    st.html(markup.block(drift_facts.cause_list(causes)))
    about = {name: query for c in causes for name, query in [_about(c.source)] if query}
    if about and access.may(session.actor(), "run.read"):
        with st.container(key=f"actions-causes-{key}", horizontal=True, gap="medium"):
            for name, query in list(about.items())[:MOST]:
                address = session.address(**query, **({session.AS_OF: night.isoformat()} if night in published else {}))
                st.page_link(shell.LINEAGE, label=shell.plain(f"{name} in Lineage ▸"), query_params=address, icon="")


def _about(source: str) -> tuple[str, dict[str, str]]:
    """What a cause is about and what Lineage is asked for it: a column and the loads of its table, a load and its rows,
    a model by a search; nothing where it has no page there."""
    named, _, load = source.partition(", load ")
    kind, _, model = named.partition(" ")
    if kind == "model" and model:
        return model, {"q": model}
    schema, _, rest = named.partition(".")
    table, _, column = rest.partition(".")
    if schema != "raw" or table not in CONTRACTS:
        return named, {"column": named} if named.count(".") == 2 else {}
    if load:
        newest = load.split(", ")[-1]
        return f"load {newest}", {"column": f"raw.{table}.{CONTRACTS[table].key[0]}", landed_view.LOAD: newest}
    return named, {"column": f"raw.{table}.{column or CONTRACTS[table].key[0]}"}
