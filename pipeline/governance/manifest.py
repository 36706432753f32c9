"""What a promotion is about, as hashes: the bytes that would score, and everything they were judged by."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Engine, select

from pipeline import control
from pipeline.comparison import store as comparison_store
from pipeline.errors import ModelRefused
from pipeline.governance import audit, canonical_json
from pipeline.governance.policy import Policy
from pipeline.portfolio import Portfolio
from pipeline.registry import RECIPE, ModelVersion

HASHES: Mapping[str, str] = {
    "model_sha256": "model text",
    "training_set": "training set, canonical bytes",
    "contract_sha256": "feature contract",
    "recipe_sha256": "training recipe",
    "metrics_sha256": "metrics",
    "gate_sha256": "gate results",
    "comparison_sha256": "champion against challenger",
    "portfolio_sha256": "portfolio",
    "policy_sha256": "promotion policy",
}
"""The hashes of a manifest in words, in the order in which they are read."""
MANIFEST = "manifest_sha256"


@dataclass(frozen=True)
class Compared:
    """One hash of a manifest beside the records of now. key: of HASHES, or MANIFEST for the manifest itself.

    moved_on: another one, and rightly so: the portfolio may change after the request.
    """

    key: str
    what: str
    sha256: str
    same: bool
    moved_on: bool = False


def compared(manifest: Mapping[str, Any], manifest_sha256: str, now: Mapping[str, Any]) -> tuple[Compared, ...]:
    """Every hash of a request against what the records would say today (``manifest_of``), the manifest's own first."""
    whole = sha256(dict(manifest)) == manifest_sha256
    found = [Compared(MANIFEST, "the manifest itself", manifest_sha256, whole)]
    for key, what in HASHES.items():
        if key in manifest:
            same = now.get(key) == manifest[key]
            found.append(Compared(key, what, manifest[key], same, not same and key == "portfolio_sha256"))
    return tuple(found)


def manifest_of(engine: Engine, portfolio: Portfolio, version: ModelVersion, policy: Policy) -> dict[str, Any]:
    """The manifest of a registered version. Raises ModelRefused when its training run is not on record.

    model_sha256: the model's text. training_set, contract_sha256, recipe_sha256: what it was made of and how.
    metrics_sha256, gate_sha256: what it was measured and judged by. comparison_sha256: champion against challenger, in
    the archive; empty where the training run made none. policy, policy_sha256: the rules of the request.
    """
    training = training_of(engine, version)
    compared = comparison_store.of_training(engine, training["run_id"], version.digest)
    return {
        "model": version.name,
        "version": version.version,
        "model_sha256": version.digest,
        "training_set": version.training_set,
        "training_run": training["run_id"],
        "contract_sha256": version.contract_sha256,
        "recipe_sha256": version.tags.get(RECIPE, ""),
        "metrics_sha256": sha256(training["metrics"]),
        "gate_sha256": sha256(training["checks"]),
        "comparison_sha256": compared.sha256 if compared else "",
        "portfolio_sha256": portfolio.sha256,
        "policy": policy.as_dict(),
        "policy_sha256": sha256(policy.as_dict()),
    }


def training_of(engine: Engine, version: ModelVersion) -> Mapping[str, Any]:
    """The training run that registered a version, with who ran it. Raises ModelRefused when it is not on record."""
    t, r = control.training_runs, control.runs
    query = (
        select(t, r.c.actor)
        .join(r, r.c.run_id == t.c.run_id)
        .where(t.c.model_name == version.name, t.c.model_version == version.version, t.c.outcome == "registered")
        # The registry's tags can be written by hand: what they state has to be what the run recorded.
        .where(t.c.model_digest == version.digest, t.c.training_set == version.training_set)
        .order_by(t.c.id.desc())
        .limit(1)
    )
    with engine.connect() as connection:
        row = connection.execute(query).mappings().first()
        # The run's row can be changed; its record cannot, unseen. Who trained is whom the rules keep from signing.
        subject = f"run:{row['run_id']}" if row else ""
        started = audit.records(connection, action="run.started", subject=subject, limit=1) if row else ()
    if row is None:
        raise ModelRefused(
            f"no training run on record registered {version} with these bytes and this training set",
            f"`scoretrace retrain --model {version.name} --as-of DATE` registers one that can be promoted",
        )
    return dict(row) | ({"actor": started[0].actor} if started else {})


def sha256(value: Any) -> str:
    """SHA-256 of a value's canonical JSON."""
    return hashlib.sha256(canonical_json.encode(value)).hexdigest()
