"""What a run's archived manifest says of its tables and columns: definition, owner, and what else is declared."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Engine

from lineage.recording import meta_of
from pipeline import archive, ledger
from pipeline.config import Settings


@dataclass(frozen=True)
class ColumnDoc:
    """One column as the project documents it. declared: unit, owner, theme, rationale and the like."""

    description: str
    declared: Mapping[str, Any] = field(repr=False)


@dataclass(frozen=True)
class TableDoc:
    """One model or source as the project documents it. view: it is computed when read, so it holds no rows."""

    description: str
    owner: str
    view: bool
    columns: Mapping[str, ColumnDoc] = field(repr=False)

    def column(self, name: str) -> ColumnDoc:
        """What is said of a column; nothing for one that the project does not document."""
        return self.columns.get(name, ColumnDoc("", {}))


UNDOCUMENTED = TableDoc("", "", False, {})


def documentation(settings: Settings, engine: Engine, run_id: str) -> dict[str, TableDoc]:
    """``schema.table`` → its documentation; empty for a run that archived no manifest. Raises NotFound when the run
    recorded one and the archive has it no more."""
    details = (a.detail or {} for a in reversed(ledger.task_attempts(engine, run_id)))
    sha256 = next((d["manifest_sha256"] for d in details if d.get("manifest_sha256")), None)
    if sha256 is None:
        return {}
    manifest = json.loads(archive.read_text(settings, sha256))
    found: dict[str, TableDoc] = {}
    for node in (*manifest["nodes"].values(), *manifest["sources"].values()):
        if node["resource_type"] not in ("model", "source"):
            continue
        columns = {
            name.lower(): ColumnDoc(column.get("description") or "", meta_of(column))
            for name, column in node["columns"].items()
        }
        owner = str(meta_of(node).get("owner") or "")
        view = node["config"].get("materialized") == "view"
        found[f"{node['schema']}.{node['name']}"] = TableDoc(node.get("description") or "", owner, view, columns)
    return found
