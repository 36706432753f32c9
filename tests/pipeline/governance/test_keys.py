"""The signing key: who may read it, and that rotation leaves old signatures standing."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_public_key

from pipeline.errors import ConfigError, SignatureRefused
from pipeline.governance import keys


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    keys.create(tmp_path / "keys")
    return tmp_path / "keys"


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_the_private_key_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        key_id = keys.create(tmp_path / "keys")
    finally:
        os.umask(before)
    assert (mode(tmp_path / "keys"), mode(tmp_path / "keys" / "signing.pem")) == (0o700, 0o600)
    assert [p.name for p in (tmp_path / "keys" / "public").iterdir()] == [f"{key_id}.pem"]
    assert sorted(p.name for p in (tmp_path / "keys").iterdir()) == ["public", "signing.pem"]


def test_the_key_id_is_of_the_raw_public_key(folder: Path) -> None:
    key = keys.signing_key(folder)
    public = load_pem_public_key((folder / "public" / f"{key.key_id}.pem").read_bytes())
    assert hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16] == key.key_id  # type: ignore[union-attr]
    assert repr(key) == f"SigningKey({key.key_id})"


def test_making_a_key_twice_keeps_the_first(folder: Path) -> None:
    before = keys.signing_key(folder).key_id
    assert keys.create(folder) is None
    assert keys.signing_key(folder).key_id == before


@pytest.mark.parametrize("wider", [0o640, 0o604, 0o660, 0o666])
def test_a_key_that_others_may_read_is_refused(folder: Path, wider: int) -> None:
    (folder / "signing.pem").chmod(wider)
    with pytest.raises(ConfigError, match=f"signing.pem has the mode {wider:o}") as refused:
        keys.signing_key(folder)
    assert "chmod 600" in refused.value.next_step


def test_a_folder_that_others_may_enter_is_refused(folder: Path) -> None:
    folder.chmod(0o755)
    with pytest.raises(ConfigError, match="keys has the mode 755") as refused:
        keys.signing_key(folder)
    assert "chmod 700" in refused.value.next_step


def test_no_key_a_link_and_another_kind_of_key_are_refused(folder: Path, tmp_path: Path) -> None:
    path = folder / "signing.pem"
    path.rename(tmp_path / "elsewhere.pem")
    with pytest.raises(ConfigError, match="there is no signing key") as missing:
        keys.signing_key(folder)
    assert "scoretrace init" in missing.value.next_step
    path.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(ConfigError, match="cannot be read"):
        keys.signing_key(folder)
    path.unlink()
    other = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content, message in ((other, "not Ed25519"), (b"nothing", "holds no private key")):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(ConfigError, match=message):
            keys.signing_key(folder)


def test_signatures_before_and_after_a_rotation_stand(folder: Path) -> None:
    public = keys.PublicKeys(folder)
    old_key = keys.signing_key(folder)
    old_signature = old_key.sign(b"first")
    old, new = keys.rotate(folder)
    new_key = keys.signing_key(folder)
    assert (old, new) == (old_key.key_id, new_key.key_id)
    assert old != new
    assert mode(folder / "signing.pem") == 0o600
    public.verify(old, old_signature, b"first")
    public.verify(new, new_key.sign(b"second"), b"second")
    for key_id, signature, message in (
        (new, old_signature, b"first"),
        (old, old_signature, b"second"),
        (old, b"", b"first"),
    ):
        with pytest.raises(SignatureRefused, match=f"signature of key {key_id} does not match"):
            public.verify(key_id, signature, message)


@pytest.mark.parametrize("key_id", ["0" * 16, "../signing", "../../x", "", "A" * 16, "a" * 16 + "\n", "a\x00b"])
def test_a_key_that_is_not_known_is_refused(folder: Path, key_id: str) -> None:
    with pytest.raises(SignatureRefused, match="is known here"):
        keys.PublicKeys(folder).verify(key_id, b"s", b"m")


def test_a_public_key_put_under_anothers_id_is_refused(folder: Path, tmp_path: Path) -> None:
    """Whoever swaps the file of a known id for a key of their own gains nothing."""
    key_id = keys.signing_key(folder).key_id
    theirs = keys.create(tmp_path / "theirs")
    path = folder / "public" / f"{key_id}.pem"
    shutil.copy(tmp_path / "theirs" / "public" / f"{theirs}.pem", path)
    signature = keys.signing_key(tmp_path / "theirs").sign(b"m")
    with pytest.raises(SignatureRefused, match="holds another key"):
        keys.PublicKeys(folder).verify(key_id, signature, b"m")
    path.write_bytes(b"")
    with pytest.raises(SignatureRefused, match="holds no public key"):
        keys.PublicKeys(folder).verify(key_id, signature, b"m")
