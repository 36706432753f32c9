"""What a receiver is sent about a record, and how it is signed. Pure: a record, the promotions, the clock.

The fields are those that a ServiceNow change request or a Jira issue is made from. The same record always gives the
same delivery id, so a receiver that has seen the id can answer 200 and do nothing.
"""

from __future__ import annotations

import hashlib
import hmac
import uuid
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from pipeline.governance import canonical_json
from pipeline.governance.chain import Record
from pipeline.governance.promotion_state import Book

TOLERANCE = 300
"""Seconds that a receiver should let pass between the signature's time and its own clock."""
_DELIVERIES = uuid.UUID("6f2a2c1e-7b55-5c0a-9a0e-5d0f5b0f1d11")

# Action → what happened in words, and the state that a change request is in after it.
_SAID = {
    "promotion.requested": ("promotion requested", "requested"),
    "promotion.finding_raised": ("finding raised in review", "in_review"),
    "promotion.finding_closed": ("finding closed", "in_review"),
    "promotion.asked": ("question asked in review", "in_review"),
    "promotion.answered": ("question answered", "in_review"),
    "promotion.challenged": ("effective challenge recorded", "in_review"),
    "promotion.conditioned": ("conditions set", "in_review"),
    "promotion.external_approved": ("approval elsewhere recorded", "in_review"),
    "promotion.signed": ("signed", "in_approval"),
    "promotion.promoted": ("promoted: it may score", "implemented"),
    "promotion.alias_moved": ("the registry follows: it scores from now on", "implemented"),
    "promotion.rejected": ("rejected", "rejected"),
    "promotion.withdrawn": ("withdrawn", "cancelled"),
    "promotion.rolled_back": ("rolled back to an earlier version; a review is owed", "emergency"),
    "promotion.frozen": ("changes frozen", "frozen"),
    "promotion.unfrozen": ("changes allowed again", "requested"),
    "promotion.refused": ("a step was refused", "refused"),
    "alert.raised": ("alert raised", "open"),
    "alert.acknowledged": ("alert acknowledged", "acknowledged"),
    "alert.reopened": ("alert reopened", "open"),
    "alert.updated": ("alert changed", "open"),
    "alert.resolved": ("alert resolved", "closed"),
}
_CATEGORIES = {"promotion": "Model change", "alert": "Model monitoring"}
_LEVELS = {"high": "high", "moderate": "medium"}
_WORDS = ("reason", "text", "note", "why", "message", "rule", "reference", "meaning", "changed")
_SHORTEST = 160  # what a ServiceNow short description holds


def body(record: Record, book: Book, tiers: Mapping[str, str], portal: str) -> bytes:
    """The JSON that is sent, as canonical bytes. tiers: model → materiality tier, which is the risk.

    An alert that names no model has the risk of its own level.
    """
    detail: Mapping[str, Any] = record.facts
    model, version, promotion = _about(record, detail, book)
    said, state = _SAID.get(record.action, (record.action.replace(".", " ").replace("_", " "), "open"))
    model = model or next((part for part in record.subject.partition(":")[2].split("/") if part in tiers), "")
    named = f"{model} version {version}" if model and version else model or record.subject
    if record.subject.startswith("alert:"):
        named = record.subject.partition(":")[2]
    lines = [f"{named}: {said}.", f"Recorded by {record.actor} at {record.at}, audit record {record.seq}."]
    lines += [f"{key}: {detail[key]}" for key in _WORDS if isinstance(detail.get(key), str) and detail[key]]
    requester = record.actor
    if promotion is not None:
        requester = promotion.requester
        lines.append(f"Promotion {promotion.id}, requested by {requester}; manifest {promotion.manifest_sha256}.")
    return canonical_json.encode(
        {
            "delivery": delivery_id(record),
            "event": record.action,
            "subject": record.subject,
            "seq": record.seq,
            "occurred_at": record.at,
            "record_sha256": record.sha256,
            "short_description": _shortened(f"{named}: {said}"),
            "description": "\n".join(lines),
            "category": _CATEGORIES.get(record.action.partition(".")[0], "Model risk"),
            "risk": tiers.get(model) or _LEVELS.get(str(detail.get("level")), "unknown"),
            "requested_by": requester,
            "correlation_id": f"promotion:{promotion.id}" if promotion is not None else record.subject,
            "link": _link(portal, record, promotion.id if promotion is not None else None),
            "state": state,
            "model": model or None,
            "version": version,
            "external_reference": detail.get("reference") or detail.get("external_reference"),
        }
    )


def delivery_id(record: Record) -> str:
    """The same for every attempt at the same record."""
    return str(uuid.uuid5(_DELIVERIES, record.sha256))


def signature(secret: bytes, timestamp: int, content: bytes) -> str:
    """The header: ``t=<seconds>,v1=<hex HMAC-SHA256 over timestamp + "." + body>``."""
    digest = hmac.new(secret, f"{timestamp}.".encode() + content, hashlib.sha256).hexdigest()
    return f"t={timestamp},v1={digest}"


def verified(secret: bytes, header: str, content: bytes, now: int, tolerance: int = TOLERANCE) -> bool:
    """Whether a delivery is genuine and fresh: what a receiver does, in constant time."""
    parts = dict(pair.partition("=")[::2] for pair in header.split(","))
    stamp = parts.get("t", "")
    if not (stamp.isascii() and stamp.isdigit() and len(stamp) <= 12) or abs(now - int(stamp)) > tolerance:
        return False
    return hmac.compare_digest(
        signature(secret, int(stamp), content).encode(), f"t={stamp},v1={parts.get('v1')}".encode()
    )


def _about(record: Record, detail: Mapping[str, Any], book: Book) -> tuple[str, int | None, Any]:
    """Model, version and promotion that a record means, as far as it says."""
    kind, _, name = record.subject.partition(":")
    promotion = book.promotions.get(name if kind == "promotion" else str(detail.get("promotion", "")))
    if promotion is not None:
        return promotion.model, promotion.version, promotion
    model = name.partition("/")[0] if kind == "model" else str(detail.get("model") or "")
    version = name.partition("/")[2] if kind == "model" else str(detail.get("version") or "")
    return model, int(version) if version.isdecimal() else None, None


def _link(portal: str, record: Record, promotion: str | None) -> str | None:
    if not portal:
        return None
    if promotion is not None:
        return f"{portal}/promotions?promotion={quote(promotion, safe='')}"
    return f"{portal}/audit?record={record.seq}"


def _shortened(text: str) -> str:
    return text if len(text) <= _SHORTEST else f"{text[: _SHORTEST - 1]}…"
