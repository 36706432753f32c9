"""Records of the audit log as they would have been written at other times: what the portal's tests read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Engine, insert

from pipeline.control import audit_log
from pipeline.governance import audit, canonical_json, chain
from pipeline.governance.manifest import sha256
from pipeline.governance.policy import Policy


def write(engine: Engine, records: Sequence[tuple[datetime, str, str, str, Mapping[str, Any]]]) -> None:
    """Add (at, actor, action, subject, detail) to the end of the log, chained as ``audit.append`` does it."""
    for at, actor, action, subject, detail in records:
        last = audit.head(engine)
        record = chain.sealed(
            seq=last.seq + 1, at=at.astimezone(UTC).isoformat(timespec="microseconds"), actor=actor, action=action,
            subject=subject, detail=canonical_json.encode(dict(detail)).decode(), prev_sha256=last.sha256,
        )  # fmt: skip
        with engine.begin() as connection:
            connection.execute(insert(audit_log).values(**vars(record)))


def promoted(
    at: datetime, model: str, version: int, digest: str, *, replaces: int | None, signer: str, reason: str
) -> list[tuple[datetime, str, str, str, Mapping[str, Any]]]:
    """The records of a promotion that one signature completed. Its envelope is empty: it is read, not verified."""
    name = f"{model}-{version}-{digest[:6]}"
    manifest = {"model": model, "version": version, "model_sha256": digest, "policy": Policy(quorum=1).as_dict()}
    about = f"promotion:{name}"
    requested = {
        "manifest": manifest, "manifest_sha256": sha256(manifest), "trainer": "t.weaver", "reason": reason,
        "replaces": replaces, "external_reference": None,
    }  # fmt: skip
    signed = {"roles": ["approver"], "meaning": "I approve", "reason": reason, "envelope": {}}
    return [
        (at, "d.lindqvist", "promotion.requested", about, requested),
        (at, signer, "promotion.signed", about, signed),
        (at, "scoretrace", "promotion.promoted", about, {"model": model, "version": version}),
        (at, "scoretrace", "promotion.alias_moved", f"model:{model}", {"version": version, "promotion": name}),
    ]
