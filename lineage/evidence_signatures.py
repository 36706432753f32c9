"""What a pack takes from the books of governance: who signed the model, the audit log's chain, the keys to check it.

approval.json          the promotion that let the model score, with each signature's envelope
audit/chain.jsonl      the log from the first record that concerns the score to a checkpoint; of others the hashes alone
audit/checkpoint.json  that checkpoint, signed
keys/ID.pem            the public keys of all of these and of the pack
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Engine

from lineage.trace import Trace
from pipeline.config import Settings
from pipeline.governance import audit, canonical_json, checkpoints, dsse, keys
from pipeline.governance.chain import Record
from pipeline.governance.promotion_log import book_of

PACK_TYPE = "application/vnd.scoretrace.evidence-manifest+json"


def sealed(settings: Settings, manifest: bytes) -> tuple[str, bytes]:
    """The pack's manifest in a signed envelope, and the id of the key. Raises ConfigError without a usable key."""
    key = keys.signing_key(settings.keys_dir)
    return key.key_id, dsse.seal(PACK_TYPE, manifest, key).encode() + b"\n"


def governance_files(settings: Settings, engine: Engine, found: Trace) -> dict[str, bytes]:
    """The files above, by their names in the pack; a night before the first checkpoint has no chain."""
    promotion = None
    if found.promotion is not None:
        promotion = book_of(engine).promotions[found.promotion.id]
    envelopes = [dict(s.envelope) for s in promotion.signatures] if promotion else []
    files: dict[str, bytes] = {}
    if promotion is not None:
        signatures = [
            {"signer": s.signer, "roles": s.roles, "at": s.at, "meaning": s.meaning, "reason": s.reason, "envelope": e}
            for s, e in zip(promotion.signatures, envelopes, strict=True)
        ]
        told = {
            "promotion": promotion.id,
            "model": f"{promotion.model}/{promotion.version}",
            "manifest": dict(promotion.manifest),
            "signatures": signatures,
        }
        files["approval.json"] = json.dumps(told, indent=1, default=str, ensure_ascii=False).encode()
    used = {keys.signing_key(settings.keys_dir).key_id}
    used |= {key_id for e in envelopes for key_id in dsse.signers(json.dumps(e))}
    newest = checkpoints.newest(settings)
    if newest is not None:
        kept = checkpoints.read(settings, newest)
        concerns = _concerning(found)
        lines = list(_chain(audit.stream(engine, up_to=kept.seq), concerns))
        if lines:
            files["audit/chain.jsonl"] = b"".join(canonical_json.encode(line) + b"\n" for line in lines)
            files["audit/checkpoint.json"] = newest.read_bytes()
            used |= set(checkpoints.signers(newest))
    folder = settings.keys_dir / "public"
    return files | {f"keys/{key_id}.pem": (folder / f"{key_id}.pem").read_bytes() for key_id in sorted(used)}


def _concerning(found: Trace) -> frozenset[str]:
    """What the records of a score are about: its run, its model's version, the promotion of it."""
    model = found.recorded.scored
    about = {f"run:{found.recorded.run.run_id}", f"model:{model.name}/{model.version}"}
    if found.promotion is not None:
        about.add(f"promotion:{found.promotion.id}")
    return frozenset(about)


def _chain(records: Iterable[Record], concerns: frozenset[str]) -> Iterable[dict[str, Any]]:
    begun = False
    for record in records:
        told = record.subject in concerns
        begun = begun or told
        if told:
            yield vars(record)
        elif begun:  # the hashes alone: what others did is not the examiner's to read here
            yield {"seq": record.seq, "prev_sha256": record.prev_sha256, "sha256": record.sha256}
