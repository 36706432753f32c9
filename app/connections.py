"""Cursors on the published lake, kept by the server: one DuckDB, one attachment for each night that is read."""

from __future__ import annotations

from dataclasses import dataclass, replace

import duckdb
import streamlit as st

from app.session import Home, Reader
from lineage.ended import snapshot_with_scores
from pipeline import lake
from pipeline.config import Settings
from pipeline.errors import ConfigError
from pipeline.ledger import Publication
from pipeline.sql import ident


def key(reader: Reader) -> str:
    """What a cached read is good for: this publication of this home, as long as its dates are the same."""
    p = reader.publication
    return f"{reader.home.identity}|{p.id}|{p.snapshot_id}|{p.content_sha256}|{len(reader.home.dates)}"


def on_night(reader: Reader) -> duckdb.DuckDBPyConnection:
    """A cursor that sees the lake as the reader's publication left it, and no other state of it."""
    night = _of(reader)
    cursor = night.instance.cursor()
    cursor.execute(f"USE {ident(night.name)}")
    return cursor


def has_ended(reader: Reader) -> bool:
    """Whether retention took the night's own snapshot: its scores are read from a later one that shows the same."""
    return _of(reader).snapshot != reader.publication.snapshot_id


def _of(reader: Reader) -> _Night:
    home, publication = reader.home, reader.publication
    instance = _instance(home.identity, home.settings)
    return _night(home.identity, publication.snapshot_id, publication, home.settings, instance)


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


@dataclass(frozen=True)
class _Night:
    """The lake at one snapshot, attached under a name of its own."""

    name: str
    snapshot: int
    instance: duckdb.DuckDBPyConnection


def _detach(night: _Night) -> None:
    night.instance.cursor().execute(f"DETACH DATABASE IF EXISTS {ident(night.name)}")


@st.cache_resource(show_spinner=False, max_entries=64, on_release=_detach)
def _night(
    identity: str,
    published_at: int,
    _publication: Publication,
    _settings: Settings,
    _instance: duckdb.DuckDBPyConnection,
) -> _Night:
    """Attach the lake as a night was published, or at the snapshot that still shows its scores.

    published_at: the publication's snapshot, which with the home says what is cached. Raises NotFound when neither is
    there.
    """
    night = _Night(f"night_{published_at}", published_at, _instance)
    try:
        _attach(_settings, night)
    except duckdb.Error as error:
        if "snapshot" not in str(error).lower():
            raise ConfigError(
                f"the lake of {_settings.home} cannot be opened: {error}",
                "run `scoretrace doctor`; `scoretrace restore BACKUP NEW_HOME` puts the whole home back",
            ) from error
        night = replace(night, snapshot=snapshot_with_scores(_settings, _publication))
        _attach(_settings, night)
    return night


def _attach(settings: Settings, night: _Night) -> None:
    attach, _, options = lake.attach_sql(settings, read_only=True, snapshot=night.snapshot).rpartition(
        f" AS {lake.ALIAS} "
    )
    attach = attach.replace("ATTACH", "ATTACH IF NOT EXISTS", 1)
    night.instance.cursor().execute(f"{attach} AS {ident(night.name)} {options}")
