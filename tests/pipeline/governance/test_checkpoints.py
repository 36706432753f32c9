"""Checkpoints: signed, kept, and what they find that the chain alone cannot."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from pipeline.config import Settings
from pipeline.errors import ConfigError, NotFound, SignatureRefused
from pipeline.governance import audit, checkpoints, dsse, keys
from tests.signing_off import at_the_home


@pytest.fixture
def log(settings: Settings, engine: Engine) -> Engine:
    keys.create(settings.keys_dir)
    for n in range(5):
        audit.append(engine, actor="ada", action="run.started", subject=f"run:{n}", detail={})
    return engine


def cut_tail(engine: Engine, after: int) -> None:
    """As the database's owner could."""
    drop = {
        "sqlite": "DROP TRIGGER audit_log_no_delete",
        "postgresql": "ALTER TABLE audit_log DISABLE TRIGGER audit_log_append_only",
    }
    with engine.begin() as connection:
        connection.execute(text(drop[engine.dialect.name]))
        connection.execute(text(f"DELETE FROM audit_log WHERE seq > {after}"))


def test_a_cut_off_tail_is_found_against_a_kept_checkpoint(settings: Settings, log: Engine, tmp_path: Path) -> None:
    out = tmp_path / "kept" / "checkpoint.json"
    taken = checkpoints.write(settings, log, out, actor=at_the_home("ada"))
    assert taken.seq == 5
    assert checkpoints.read(settings, out) == taken
    written = audit.records(log)[-1]
    assert (written.action, written.subject, written.actor) == ("checkpoint.written", "checkpoint:5", "ada")
    assert written.facts["sha256"] == taken.sha256
    assert audit.verify(log, taken).ok
    cut_tail(log, 3)
    assert audit.verify(log).ok
    found = audit.verify(log, checkpoints.read(settings, out))
    assert (found.ok, found.first_bad) == (False, 4)
    assert "records 4 to 5" in found.reason


def test_a_checkpoint_is_of_the_specified_form(settings: Settings, log: Engine, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    taken = checkpoints.write(settings, log, out, actor=at_the_home("ada"))
    value = json.loads(out.read_text())
    assert value["payloadType"] == "application/vnd.scoretrace.audit-checkpoint+json"
    assert json.loads(base64.b64decode(value["payload"])) == {"seq": 5, "sha256": taken.sha256, "at": taken.at}
    assert checkpoints.signers(out) == (keys.signing_key(settings.keys_dir).key_id,)


def test_a_tampered_checkpoint_is_refused(settings: Settings, log: Engine, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    checkpoints.write(settings, log, out, actor=at_the_home("ada"))
    value = json.loads(out.read_text())
    payload = json.loads(base64.b64decode(value["payload"])) | {"seq": 3}
    value["payload"] = base64.b64encode(json.dumps(payload).encode()).decode()
    out.write_text(json.dumps(value))
    with pytest.raises(SignatureRefused, match="does not match"):
        checkpoints.read(settings, out)


@pytest.mark.parametrize(
    "payload",
    [b"[]", b"{}", b"\xff", b'{"seq":-1,"sha256":"x","at":"y"}', b'{"seq":"1","sha256":"x","at":"y"}',
     b'{"seq":0,"sha256":"x","at":"y"}'],
)  # fmt: skip
def test_a_signed_file_that_is_no_checkpoint_is_refused(
    sqlite_settings: Settings, tmp_path: Path, payload: bytes
) -> None:
    keys.create(sqlite_settings.keys_dir)
    out = tmp_path / "c.json"
    out.write_text(dsse.seal(checkpoints.PAYLOAD_TYPE, payload, keys.signing_key(sqlite_settings.keys_dir)))
    with pytest.raises(SignatureRefused, match=r"is signed and holds no"):
        checkpoints.read(sqlite_settings, out)


def test_a_checkpoint_of_another_home_is_refused(settings: Settings, log: Engine, tmp_path: Path) -> None:
    checkpoints.write(settings, log, tmp_path / "c.json", actor=at_the_home("ada"))
    other = Settings.at(tmp_path / "other")
    keys.create(other.keys_dir)
    with pytest.raises(SignatureRefused, match="no key"):
        checkpoints.read(other, tmp_path / "c.json")
    with pytest.raises(NotFound, match="cannot be read"):
        checkpoints.read(other, tmp_path / "nothing.json")


def test_after_a_rotation_both_are_verified(settings: Settings, log: Engine, tmp_path: Path) -> None:
    before = checkpoints.write(settings, log, tmp_path / "1.json", actor=at_the_home("ada"))
    old, new = checkpoints.rotate_key(settings, log, actor=at_the_home("bob"))
    after = checkpoints.write(settings, log, tmp_path / "2.json", actor=at_the_home("ada"))
    assert (checkpoints.read(settings, tmp_path / "1.json"), checkpoints.signers(tmp_path / "1.json")) == (
        before,
        (old,),
    )
    assert (checkpoints.read(settings, tmp_path / "2.json"), checkpoints.signers(tmp_path / "2.json")) == (
        after,
        (new,),
    )
    (rotated,) = audit.records(log, action="key.rotated")
    assert (rotated.actor, rotated.subject, rotated.facts) == ("bob", f"key:{new}", {"replaces": old})


def test_a_checkpoint_is_never_overwritten_nor_half_written(settings: Settings, log: Engine, tmp_path: Path) -> None:
    out = tmp_path / "c.json"
    out.write_text("mine")
    with pytest.raises(ConfigError, match="is there already"):
        checkpoints.write(settings, log, out, actor=at_the_home("ada"))
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        checkpoints.write(settings, log, tmp_path / "file" / "c.json", actor=at_the_home("ada"))
    assert out.read_text() == "mine"
    assert audit.head(log).seq == 5, "what was not written is not on record"


def test_a_night_leaves_one_and_stands_without(settings: Settings, log: Engine) -> None:
    said: list[str] = []
    assert checkpoints.newest(settings) is None
    checkpoints.after_night(settings, log, actor="night", progress=said.append)
    audit.append(log, actor="ada", action="run.started", subject="run:6", detail={})
    checkpoints.after_night(settings, log, actor="night", progress=said.append)
    newest = checkpoints.newest(settings)
    assert newest is not None and newest.name == "000000000007.json"
    assert checkpoints.read(settings, newest).seq == 7
    (settings.keys_dir / "signing.pem").chmod(0o644)
    checkpoints.after_night(settings, log, actor="night", progress=said.append)
    assert said[:2] == ["checkpoint of the audit log at record 5", "checkpoint of the audit log at record 7"]
    assert said[2].startswith("▲ no checkpoint of the audit log") and "chmod 600" in said[2]
    assert audit.records(log)[-1].action == "checkpoint.failed"
    assert audit.verify(log, checkpoints.read(settings, newest)).ok
