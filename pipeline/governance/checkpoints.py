"""Signed checkpoints of the audit log. Kept elsewhere, one proves that no record up to it was changed or cut off."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from pipeline import clock
from pipeline.config import Settings
from pipeline.errors import ConfigError, NotFound, ScoretraceError, SignatureRefused
from pipeline.governance import audit, canonical_json, dsse, guard, keys
from pipeline.governance.access import Actor
from pipeline.governance.chain import GENESIS, Checkpoint
from pipeline.governance.texts import shown

PAYLOAD_TYPE = "application/vnd.scoretrace.audit-checkpoint+json"


def write(settings: Settings, engine: Engine, out: Path, *, actor: Actor) -> Checkpoint:
    """Sign where the log ends now into a new file, and record that. The file is written whole or not at all.

    Raises ConfigError when the file is there already, cannot be written, or there is no usable signing key.
    """
    guard.require(engine, actor, "audit.verify", "audit:log")
    return _write(settings, engine, audit.head(engine), out, actor.name)


def read(settings: Settings, path: Path) -> Checkpoint:
    """The checkpoint in a file. Raises NotFound without a file, SignatureRefused when its signature does not stand."""
    try:
        envelope = path.read_bytes()
    except OSError as error:
        raise NotFound(
            f"the checkpoint {path} cannot be read: {error.strerror}", "name a file of `scoretrace audit checkpoint`"
        ) from error
    try:
        payload = dsse.opened(envelope, keys.PublicKeys(settings.keys_dir), payload_type=PAYLOAD_TYPE)
    except SignatureRefused as error:
        raise SignatureRefused(f"{path}: {error.message}", error.next_step) from error
    try:
        found = Checkpoint(**json.loads(payload))
    except (ValueError, TypeError) as error:
        raise SignatureRefused(f"{path} is signed and holds no checkpoint", "name another file") from error
    if not isinstance(found.seq, int) or found.seq < 0 or (found.seq == 0) != (found.sha256 == GENESIS):
        raise SignatureRefused(f"{path} is signed and holds no possible checkpoint", "name another file")
    return found


def newest(settings: Settings) -> Path | None:
    """The newest checkpoint that a night left in the home, or None."""
    return max(settings.checkpoints_dir.glob("*.json"), default=None)


def after_night(settings: Settings, engine: Engine, *, actor: str, progress: Callable[[str], None]) -> None:
    """Leave a checkpoint in the home once a night is published.

    The night stands whether this succeeds or not: a fault is said and recorded, and nothing is raised for it.
    """
    taken = audit.head(engine)
    # Numbers of equal length: the newest file is the last by name.
    out = settings.checkpoints_dir / f"{taken.seq:012}.json"
    try:
        _write(settings, engine, taken, out, actor)
    except ScoretraceError as error:
        progress(f"▲ no checkpoint of the audit log: {error.message}; {error.next_step}")
        subject = f"checkpoint:{taken.seq}"
        audit.append(
            engine, actor=actor, action="checkpoint.failed", subject=subject, detail={"error": shown(error.message)}
        )
    else:
        progress(f"checkpoint of the audit log at record {taken.seq}")


def rotate_key(settings: Settings, engine: Engine, *, actor: Actor) -> tuple[str, str]:
    """Replace the signing key and record it; returns the ids (old, new).

    Raises ConfigError without a usable key, MachineRefused when the clock was set back.
    """
    guard.require(engine, actor, "key.rotate", "key:signing")
    clock.require(engine)  # before the key is replaced: the record of it would be refused
    old, new = keys.rotate(settings.keys_dir)
    audit.append(engine, actor=actor.name, action="key.rotated", subject=f"key:{new}", detail={"replaces": old})
    return old, new


def _write(settings: Settings, engine: Engine, taken: Checkpoint, out: Path, actor: str) -> Checkpoint:
    if out.exists():
        raise ConfigError(f"{out} is there already", "choose another file; a checkpoint is never overwritten")
    key = keys.signing_key(settings.keys_dir)
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(dsse.seal(PAYLOAD_TYPE, canonical_json.encode(vars(taken)), key) + "\n", encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        raise ConfigError(f"the checkpoint {out} cannot be written: {error.strerror}", "choose another file") from error
    detail = {"sha256": taken.sha256, "key_id": key.key_id, "file": shown(out.name)}
    audit.append(engine, actor=actor, action="checkpoint.written", subject=f"checkpoint:{taken.seq}", detail=detail)
    return taken


def signers(path: Path) -> tuple[str, ...]:
    """Ids of the keys that a checkpoint's file names."""
    return dsse.signers(path.read_bytes())
