"""Whether a signature of a promotion is genuine: its envelope is whole, and says what its record says."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime

from pipeline.errors import SignatureRefused
from pipeline.governance import dsse, keys
from pipeline.governance import promotion_rules as rules
from pipeline.governance.manifest import sha256
from pipeline.governance.promotion_state import Promotion, Signature

SIGNATURE_TYPE = "application/vnd.scoretrace.signature+json"


def sound(p: Promotion, public: keys.PublicKeys) -> Promotion:
    """The promotion with those of its signatures that are genuine: what rules are asked about before it counts."""
    return replace(p, signatures=tuple(s for s in p.signatures if genuine(p, s, public)))


def genuine(p: Promotion, s: Signature, public: keys.PublicKeys) -> bool:
    """Whether a signature's envelope is whole, sealed with the key of its time, and says of this manifest what its
    record says."""
    if s.retired:
        return False
    try:
        said = json.loads(dsse.opened(json.dumps(s.envelope), public, payload_type=SIGNATURE_TYPE))
    except SignatureRefused:
        return False
    conditions = {"ends": p.conditions.ends, "max_subjects": p.conditions.max_subjects}
    return bool(
        said["promotion"] == p.id
        and said["manifest"] == dict(p.manifest)
        and sha256(said["manifest"]) == p.manifest_sha256
        and said["conditions"] == conditions
        and said.get("external_reference", p.external_reference) == p.external_reference
        and (said["signer"], said["roles"]) == (s.signer, sorted(s.roles))
        and (said["meaning"], said["reason"]) == (s.meaning, s.reason)
        and abs(datetime.fromisoformat(said["signed_at"]) - s.at) <= rules.SKEW
    )
