"""The feature contract: what dbt declares about every feature, read from its manifest.

Nothing is computed here. Training takes the columns, their order and the monotone constraints from the
contract; the portal shows the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pipeline.errors import ConfigError

TABLES = {"account": "account_features", "application": "application_features"}
META = ("theme", "unit", "owner", "rationale", "pii", "monotone", "null_policy")


@dataclass(frozen=True)
class FeatureSpec:
    """One feature as its dbt model declares it.

    dtype: SQL type in the lake. unit: what one step of the value means. monotone: +1 when a higher value may only
    raise the PD, -1 when it may only lower it, 0 for no constraint. null_policy: when and why the value is NULL.
    """

    name: str
    dtype: str
    theme: str
    unit: str
    owner: str
    rationale: str
    pii: bool
    monotone: int
    null_policy: str
    description: str


def feature_contract(manifest: dict[str, Any], subject: str) -> tuple[FeatureSpec, ...]:
    """The features of a subject (``account`` or ``application``) in column order; keys are left out.

    Raises ConfigError naming the column and the entry that its dbt model does not declare.
    """
    model = TABLES[subject]
    node = next((n for n in manifest["nodes"].values() if n["resource_type"] == "model" and n["name"] == model), None)
    if node is None:
        raise ConfigError(f"the dbt project has no model {model}", "restore dbt/models/features")
    return tuple(
        _spec(model, name, column)
        for name, column in node["columns"].items()
        if _meta(column).get("role", "feature") != "key"
    )


def _meta(column: dict[str, Any]) -> dict[str, Any]:
    return column.get("config", {}).get("meta") or column.get("meta") or {}


def _spec(model: str, name: str, column: dict[str, Any]) -> FeatureSpec:
    meta = _meta(column)
    missing = [key for key in META if key not in meta]
    if missing or not column.get("description") or not column.get("data_type"):
        lacking = missing or [key for key in ("description", "data_type") if not column.get(key)]
        raise ConfigError(
            f"{model}.{name} declares no {', '.join(lacking)}", "complete the column in dbt/models/features"
        )
    return FeatureSpec(
        name=name,
        dtype=str(column["data_type"]),
        theme=str(meta["theme"]),
        unit=str(meta["unit"]),
        owner=str(meta["owner"]),
        rationale=str(meta["rationale"]),
        pii=bool(meta["pii"]),
        monotone=int(meta["monotone"]),
        null_policy=str(meta["null_policy"]),
        description=str(column["description"]),
    )
