"""dbt-duckdb plugin: prepares dbt's own DuckDB connection just as ``pipeline.lake.connect`` does.

dbt-duckdb calls it before it attaches anything. The extensions come from the installed wheels, so dbt
needs no network; a missing home stops here with a sentence instead of a failed ATTACH.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dbt.adapters.duckdb.plugins import BasePlugin
from dbt_common.exceptions import DbtRuntimeError
from duckdb import DuckDBPyConnection

from pipeline import lake
from pipeline.config import Settings
from pipeline.errors import ConfigError
from pipeline.sql import literal


class Plugin(BasePlugin):  # type: ignore[misc]
    """Configured in ``dbt/profiles.yml`` with home, lake_catalog, memory_limit and threads."""

    def initialize(self, plugin_config: dict[str, Any]) -> None:
        self.settings = Settings.at(
            Path(plugin_config["home"]),
            lake_catalog=plugin_config.get("lake_catalog") or "",
            memory_limit=plugin_config.get("memory_limit") or "",
            threads=int(plugin_config.get("threads") or 0),
        )

    def configure_connection(self, conn: DuckDBPyConnection) -> None:
        settings = self.settings
        catalog = settings.lake_catalog
        if catalog.startswith("sqlite:") and not Path(catalog.removeprefix("sqlite:")).is_file():
            missing = ConfigError(
                f"there is no lake at {catalog.removeprefix('sqlite:')}",
                "set SCORETRACE_HOME to an existing home, or run `scoretrace init --portfolio cascade` first",
            )
            raise DbtRuntimeError(str(missing))  # dbt prints its own errors without a traceback
        lake.load_extensions(conn, settings)
        # One place for data: small writes go to Parquet too, never into the catalog database.
        conn.execute("SET ducklake_default_data_inlining_row_limit = '0'")
        if settings.memory_limit:
            conn.execute(f"SET memory_limit = {literal(settings.memory_limit)}")
        if settings.threads:
            conn.execute(f"SET threads = {int(settings.threads)}")
        conn.execute(f"SET temp_directory = {literal(str(lake.scratch(settings)))}")
        conn.execute(lake.attach_sql(settings, read_only=False))

    def configure_cursor(self, cursor: DuckDBPyConnection) -> None:
        cursor.execute("SET TimeZone = 'UTC'")
