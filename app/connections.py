"""Cursors on the published lake, kept by the server: one DuckDB, one attachment for each night that is read."""

from __future__ import annotations

import duckdb
import streamlit as st

from app.session import Home, Reader
from pipeline import lake
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.sql import ident


def key(reader: Reader) -> str:
    """What a cached read is good for: this publication of this home, as long as its dates are the same."""
    p = reader.publication
    return f"{reader.home.identity}|{p.id}|{p.snapshot_id}|{p.content_sha256}|{len(reader.home.dates)}"


def on_night(reader: Reader) -> duckdb.DuckDBPyConnection:
    """A cursor that sees the lake as the reader's publication left it, and no other state of it."""
    home, publication = reader.home, reader.publication
    instance = _instance(home.identity, home.settings)
    name, _ = _night(home.identity, publication.snapshot_id, home.settings, instance)
    cursor = instance.cursor()
    cursor.execute(f"USE {ident(name)}")
    return cursor


@st.cache_resource(show_spinner=False, max_entries=2)
def _instance(identity: str, _settings: Settings) -> duckdb.DuckDBPyConnection:
    """One DuckDB for all sessions: loading its extensions takes half a second, attaching one more night 20 ms.

    The lake's newest state, where a night may be half written, is let go at once.
    """
    instance = lake.connect(_settings)
    instance.execute("USE memory")
    instance.execute(f"DETACH {ident(lake.ALIAS)}")
    return instance


def current(home: Home) -> duckdb.DuckDBPyConnection:
    """A cursor on the lake's newest state: for what nights write after their publication, and nothing else."""
    cursor = _instance(home.identity, home.settings).cursor()
    attach = lake.attach_sql(home.settings, read_only=True)
    cursor.execute(attach.replace("ATTACH", "ATTACH IF NOT EXISTS", 1))
    cursor.execute(f"USE {ident(lake.ALIAS)}")
    return cursor


def _detach(night: tuple[str, duckdb.DuckDBPyConnection]) -> None:
    name, instance = night
    instance.cursor().execute(f"DETACH DATABASE IF EXISTS {ident(name)}")


@st.cache_resource(show_spinner=False, max_entries=64, on_release=_detach)
def _night(
    identity: str, snapshot: int, _settings: Settings, _instance: duckdb.DuckDBPyConnection
) -> tuple[str, duckdb.DuckDBPyConnection]:
    """Attach the lake at one snapshot, under a name of its own; returns the name and the instance it is in."""
    name = f"night_{snapshot}"
    attach, _, options = lake.attach_sql(_settings, read_only=True, snapshot=snapshot).rpartition(f" AS {lake.ALIAS} ")
    try:
        _instance.cursor().execute(f"{attach.replace('ATTACH', 'ATTACH IF NOT EXISTS', 1)} AS {ident(name)} {options}")
    except duckdb.Error as error:
        raise NotFound(
            f"the published snapshot {snapshot} cannot be read from the lake: {error}",
            "see `scoretrace status`, or restore the home's lake folder from a backup",
        ) from error
    return name, _instance
