"""The lake's tables as OpenLineage datasets, with what is known of them at one snapshot."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import date
from functools import cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import duckdb
from openlineage.client.event_v2 import InputDataset, OutputDataset

from lineage import event_facets as facets
from lineage.columns import catalog_of
from pipeline import archive, lake
from pipeline.config import Settings
from pipeline.sql import ident, literal, literals


class Descriptions:
    """What the run's archived manifest says of columns and tests; nothing when the run recorded none."""

    def __init__(self, columns: Mapping[str, Mapping[str, str]], severities: Mapping[str, str]) -> None:
        self.columns = columns
        self.severities = severities

    @classmethod
    def of(cls, settings: Settings, manifest_sha256: str | None) -> Descriptions:
        """Read the archived manifest. Raises NotFound when it was recorded and is gone."""
        if not manifest_sha256:
            return cls({}, {})
        manifest = json.loads(archive.read_text(settings, manifest_sha256))
        columns: dict[str, dict[str, str]] = {}
        severities: dict[str, str] = {}
        for unique_id, node in {**manifest["nodes"], **manifest["sources"]}.items():
            columns[node["name"]] = {n.lower(): c.get("description") or "" for n, c in node["columns"].items()}
            if node["resource_type"] == "test":
                severities[unique_id] = str(node["config"].get("severity") or "error").lower()
        return cls(columns, severities)


class LakeTables:
    """The lake's tables at one snapshot, as datasets. The lake is opened when something of it is asked."""

    def __init__(
        self,
        opened: Callable[[], duckdb.DuckDBPyConnection],
        snapshot: int | None,
        place: tuple[str, str],
        descriptions: Descriptions,
    ) -> None:
        self._opened = opened
        self._snapshot = snapshot
        self._namespace, self._uri = place
        self.descriptions = descriptions

    @cached_property
    def _lake(self) -> duckdb.DuckDBPyConnection:
        return self._opened()

    @cached_property
    def catalog(self) -> dict[str, dict[str, str]]:
        """Every table's columns and types."""
        return catalog_of(self._lake)

    @cached_property
    def _stored(self) -> set[str]:
        """Tables proper; the rest are views."""
        found = self._lake.execute(
            "SELECT schema_name || '.' || table_name FROM duckdb_tables() WHERE database_name = ?", [lake.ALIAS]
        ).fetchall()
        return {name for (name,) in found}

    def named(self, model: str) -> str:
        """``schema.table`` of a model or source by its name alone."""
        return next((table for table in self.catalog if table.rpartition(".")[2] == model), model)

    def input(self, table: str, input_facets: facets.InputFacets | None = None) -> InputDataset:
        """The table as something read, with facets of its own for that."""
        return InputDataset(self._namespace, table, facets=self._facets(table), inputFacets=input_facets or {})

    def output(self, table: str, *, rows: int | None = None, lineage: Any = None) -> OutputDataset:
        """The table as something written: rows, if the number written is known, and its column lineage."""
        own = self._facets(table)
        if lineage is not None:
            own["columnLineage"] = facets.column_lineage(lineage, self._namespace)
        statistics: facets.OutputFacets = {} if rows is None else {"outputStatistics": facets.output_statistics(rows)}
        return OutputDataset(self._namespace, table, facets=own, outputFacets=statistics)

    def _facets(self, table: str) -> facets.DatasetFacets:
        own: facets.DatasetFacets = {"dataSource": facets.data_source(self._namespace, self._uri)}
        if self._snapshot is not None:
            own["version"] = facets.dataset_version(self._snapshot)
        if table in self.catalog:
            described = self.descriptions.columns.get(table.rpartition(".")[2], {})
            own["schema"] = facets.schema(self.catalog[table], described)
        return own

    def rows(self, table: str, as_of: date) -> int | None:
        """Rows of a table, of its as-of partition where it has one; None for a view, which writes none."""
        if table not in self._stored:
            return None
        where = f" WHERE as_of_date = {literal(as_of)}" if "as_of_date" in self.catalog[table] else ""
        counted = self._lake.execute(f"SELECT count(*) FROM {ident(lake.ALIAS, *table.split('.'))}{where}").fetchone()
        return int(counted[0]) if counted else None

    def files(self, loads: list[str]) -> list[tuple[str, str]]:
        """Name and SHA-256 of every file behind these loads."""
        if not loads:
            return []
        return self._lake.execute(
            f"""SELECT DISTINCT f.file, f.sha256 FROM (SELECT unnest(files) AS f FROM raw.loads
                WHERE load_id IN ({literals(loads)})) ORDER BY ALL"""
        ).fetchall()


def catalog_uri(settings: Settings) -> str:
    """Where the lake's catalog is, without the password that a PostgreSQL connection string may hold."""
    kind, _, rest = settings.lake_catalog.partition(":")
    if kind == "sqlite":
        return Path(rest).as_uri()
    if "://" in rest:
        parts = urlsplit(rest)
        return f"postgresql://{parts.hostname or 'localhost'}:{parts.port or 5432}{parts.path}"
    named = dict(part.split("=", 1) for part in rest.split() if "=" in part)
    return f"postgresql://{named.get('host', 'localhost')}:{named.get('port', '5432')}/{named.get('dbname', '')}"
