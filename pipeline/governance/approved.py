"""What may score: the version that the alias names, if a signed promotion in force covers it byte for byte."""

from __future__ import annotations

from datetime import UTC, date, datetime

from sqlalchemy import Engine

from pipeline.config import Settings
from pipeline.errors import ModelRefused
from pipeline.governance import keys
from pipeline.governance import promotion_rules as rules
from pipeline.governance.promotion_log import book_of
from pipeline.governance.promotion_state import Promotion
from pipeline.governance.signatures import sound
from pipeline.registry import ModelVersion, Registry


class ApprovalEnded(ModelRefused):
    """The records are whole, and what they say is that the version in force may not score: a decision, or a date."""


def require_approved(
    settings: Settings, engine: Engine, registry: Registry, name: str, as_of: date, *, now: datetime | None = None
) -> tuple[ModelVersion, Promotion]:
    """The version that may score a date, and the promotion that lets it.

    Raises ModelRefused, naming what is missing: no alias, no promotion in force, other bytes, a signature that is not
    genuine, too few; as ApprovalEnded where it is withdrawn, expired, or conditional and past its end.
    """
    book, now = book_of(engine), now or datetime.now(UTC)
    held = book.in_force.get(name)
    if held is not None and not registry.has_production(name):
        p = book.promotions[held.promotion]
        raise ModelRefused(
            f"no version of {name} is set as production in the registry, and promotion {p.id}, which is in force, "
            f"approves version {p.version} (digest {p.digest[:12]})",
            "`scoretrace promotions finish` sets it again, or says that the version is gone; then restore the registry "
            "from a backup, or have another version promoted",
        )
    version = registry.production(name)
    if held is None:
        asked = [p for p in book.of_model(name) if p.version == version.version]
        newest = f" ({asked[-1].id}: {rules.against_scoring(asked[-1], as_of, now)})" if asked else ""
        refused = ApprovalEnded if asked and asked[-1].promoted_at else ModelRefused
        raise refused(
            f"{version} is set as production in the registry, but no signed promotion approves it{newest}",
            f'`scoretrace promotions request {name} {version.version} --reason "…"`, then have it signed',
        )
    p = book.promotions[held.promotion]
    if (p.version, p.digest) != (version.version, version.digest):
        raise ModelRefused(
            f"{version} (digest {version.digest[:12]}) is set as production in the registry, but promotion {p.id}, "
            f"which is in force, approves version {p.version} (digest {p.digest[:12]})",
            "`scoretrace promotions finish` puts the approved version back",
        )
    whole = sound(p, keys.PublicKeys(settings.keys_dir))
    if against := rules.against_scoring(whole, as_of, now):
        false = ", ".join(s.signer for s in p.signatures if s not in whole.signatures)
        told = f"; the signature on record of {false} is not genuine" if false else ""
        refused = ModelRefused if false else ApprovalEnded
        raise refused(
            f"promotion {p.id} of {version} does not let it score {as_of}: {against}{told}",
            f"`scoretrace promotions show {p.id}`",
        )
    return version, p
