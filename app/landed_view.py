"""What landed in a raw table: its loads up to the night, and the rows of the one that the URL names (``load=ID``)."""

from __future__ import annotations

import streamlit as st

from app import controls, explain_facts, formats, landed_reads, lineage_facts, markup, session, shell
from app.session import Reader
from lineage.personal_data import masked_row
from pipeline.contracts import CONTRACTS
from pipeline.errors import NotFound
from pipeline.governance import access, guard

LOAD = "load"
LOADS_PAGE, ROWS_PAGE = f"loads_{controls.PAGE}", f"rows_{controls.PAGE}"
_LOADS, _ROWS = 8, 15  # of one page


def loads(reader: Reader, node: str) -> None:
    """The loads of the raw table that the column ``node`` is of, a page at a time."""
    table = node.removeprefix("raw.").rpartition(".")[0]
    count = landed_reads.count(reader, table)
    if not count:
        return
    place = controls.pages(count, _LOADS, LOADS_PAGE)
    found = landed_reads.loads(reader, table, place.start, len(place))
    may = access.may(session.actor(), "trace.read")
    note = f"{place.start + 1} to {place.stop} of {formats.count(count)}, newest first"
    head = markup.heading(f"Loads of raw.{table}", f"{note}; an id opens its rows" if may else note)
    links = [(x.load_id, session.address(column=node, load=x.load_id)) for x in found] if may else []
    shell.linked_table("loads", head, lineage_facts.load_table(found, reader.zone), shell.LINEAGE, links)
    controls.pager(count, _LOADS, LOADS_PAGE)


def rows(reader: Reader, node: str, load_id: str) -> None:
    """The rows of one load of that table, a page at a time, personal data masked. Raises NotFound, AccessDenied."""
    table, _, column = node.removeprefix("raw.").rpartition(".")
    guard.require(reader.home.engine, session.actor(), "trace.read", f"load:{load_id}")
    load = landed_reads.load(reader, table, load_id)
    if load is None:
        raise NotFound(
            f"raw.{table} has no load {load_id!r} up to {formats.day(reader.as_of)}", "choose one of its loads below"
        )
    place = controls.pages(load.rows, _ROWS, ROWS_PAGE)
    shown = [
        masked_row(table, row, frozenset(row))
        for row in landed_reads.rows(reader, table, load_id, place.start, len(place))
    ]
    note = f"{place.start + 1} to {place.stop} of {formats.count(load.rows)}, as its files have them"
    if not shown:
        note = "none in the lake: it was refused, or retention took them"
    st.html(markup.block(markup.heading(f"Rows of load {load_id}", note)))
    if not shown:
        return
    names = {c.name for c in CONTRACTS[table].columns}
    caption, currency = f"Rows of load {load_id}", reader.home.portfolio.currency
    feeding = [column] if column in names else None
    st.html(markup.block(explain_facts.row_table(table, shown, currency, caption, feeding)))
    controls.pager(load.rows, _ROWS, ROWS_PAGE)
    if feeding:
        with st.expander("Every column of these rows"):
            every = explain_facts.row_table(table, shown, currency, f"{caption} with every column")
            st.html(markup.block(every))
