"""What landed in a raw table: its loads up to the night, and the rows of the one that the URL names (``load=ID``)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import streamlit as st

from app import controls, explain_facts, exports, formats, landed_reads, lineage_facts, markup, session, shell
from app.markup import Html
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
    load = landed_reads.load(reader, table, load_id)
    if load is None:  # before anything is put on record: an address may name anything
        raise NotFound(
            f"raw.{table} has no load {load_id!r} up to {formats.day(reader.as_of)}", "choose one of its loads below"
        )
    actor = session.actor()
    guard.require(reader.home.engine, actor, "trace.read", f"load:{load.load_id}")
    with st.container(
        key="actions-load", horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"
    ):
        told = f"{formats.count(load.rows)}, personal data masked; a row opens whom it is of"
        st.html(markup.block(markup.heading(f"Rows of load {load_id}", told)), width="stretch")
        st.page_link(shell.LINEAGE, label="close the rows", query_params=session.address(column=node), icon="")
    st.html(markup.block(lineage_facts.load_facts(load, reader.zone)))
    place = controls.pages(load.rows, _ROWS, ROWS_PAGE)
    stored = landed_reads.rows(reader, table, load_id, place.start, len(place))
    if not stored:
        st.html(markup.block(markup.quiet("None is in the lake: it was refused, or retention took them.")))
        return
    shown = [masked_row(table, row, frozenset(row)) for row in stored]
    known = {c.name: c for c in CONTRACTS[table].columns}
    feeding = [column] if column in known else None
    before: Mapping[landed_reads.Place, Any] = {}
    if feeding and not known[column].pii and column not in CONTRACTS[table].key:
        before = landed_reads.before(reader, table, column, load, place.start, len(place))
    caption, currency = f"Rows of load {load_id}", reader.home.portfolio.currency
    rows_table = explain_facts.row_table(table, shown, currency, caption, feeding, before)
    links = [(str(next(iter(row.values()))), {session.AS_OF: str(reader.as_of), "q": _whose(row)}) for row in shown]
    shell.linked_table("load-rows", Html(""), rows_table, shell.LINEAGE, links, to=shell.SCORES)
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        controls.pager(load.rows, _ROWS, ROWS_PAGE)
        if access.may(actor, "scores.export"):
            name, most = f"rows-{load.load_id}", formats.count(min(load.rows, exports.MOST))
            content = partial(exports.load_rows, reader, table, load, actor)
            shell.csv_button(name, content, told=f"{most} rows, masked; that you took them is put on record")
    if feeding:
        with st.expander("Every column of these rows"):
            every = explain_facts.row_table(table, shown, currency, f"{caption} with every column")
            st.html(markup.block(every))


def _whose(row: Mapping[str, Any]) -> str:
    """The id of the account or application that a raw row is of."""
    return str(next(row[name] for name in ("account_id", "subject_id", "application_id") if row.get(name) is not None))
