"""The installation's Ed25519 signing key, and every public key it ever had.

``keys/signing.pem`` is read by its owner alone; ``keys/public/<key id>.pem`` stays for ever, so that what an older key
signed can still be verified. Whoever can write the folder can add a key of their own: an examiner compares the key id
with the one written down when the key was made.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from pipeline.errors import ConfigError, SignatureRefused

_KEY_ID = re.compile(r"[0-9a-f]{16}")


def key_id_of(public: Ed25519PublicKey) -> str:
    """The first 16 hexadecimal digits of the SHA-256 of the raw public key."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


@dataclass(frozen=True)
class SigningKey:
    """A private key in memory. It is never printed."""

    key_id: str
    _private: Ed25519PrivateKey

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id})"

    def sign(self, message: bytes) -> bytes:
        return self._private.sign(message)


@dataclass(frozen=True)
class PublicKeys:
    """The public keys in a ``keys`` folder: what signatures are verified with."""

    folder: Path

    def verify(self, key_id: str, signature: bytes, message: bytes) -> None:
        """Raises SignatureRefused when the key is unknown, is not the one its id says, or did not sign these bytes."""
        try:
            self._key(key_id).verify(signature, message)
        except InvalidSignature as error:
            raise SignatureRefused(
                f"the signature of key {key_id} does not match: document or signature have been changed",
                "take the document from where it was kept, unchanged",
            ) from error

    def _key(self, key_id: str) -> Ed25519PublicKey:
        path = self.folder / "public" / f"{key_id}.pem"
        # The id comes with the document: it must not lead out of the folder.
        if not _KEY_ID.fullmatch(key_id) or not path.is_file():
            raise SignatureRefused(
                f"no key {key_id} is known here", f"if it is one of ours, restore its file in {self.folder / 'public'}"
            )
        try:
            public = load_pem_public_key(path.read_bytes())
        except ValueError as error:
            raise SignatureRefused(f"{path} holds no public key", "restore it from a backup of the home") from error
        if not isinstance(public, Ed25519PublicKey) or key_id_of(public) != key_id:
            raise SignatureRefused(f"{path} holds another key than {key_id}", "restore it from a backup of the home")
        return public


def create(folder: Path) -> str | None:
    """Make a signing key if there is none; returns its id, or None when there is one already."""
    if (folder / "signing.pem").exists():
        return None
    return _new_key(folder)


def signing_key(folder: Path) -> SigningKey:
    """The key to sign with. Raises ConfigError: none there, not a key, or readable by others than its owner."""
    path = folder / "signing.pem"
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise ConfigError(f"there is no signing key {path}", "run `scoretrace init` again: it makes one") from error
    except OSError as error:
        raise ConfigError(
            f"the signing key {path} cannot be read: {error.strerror}", "run the command as the key's owner"
        ) from error
    with os.fdopen(handle, "rb") as file:
        for what, status, mode in ((path, os.fstat(handle), "600"), (folder, folder.stat(), "700")):
            if status.st_mode & 0o077:
                raise ConfigError(
                    f"{what} has the mode {stat.S_IMODE(status.st_mode):03o}: others than its owner may use the "
                    "signing key",
                    f"`chmod {mode} {what}`, then `scoretrace audit rotate-key` if others were on this machine",
                )
        content = file.read()
    try:
        private = load_pem_private_key(content, password=None)
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{path} holds no private key", "restore it from a backup of the home") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise ConfigError(f"{path} holds a key that is not Ed25519", "restore it from a backup of the home")
    return SigningKey(key_id_of(private.public_key()), private)


def rotate(folder: Path) -> tuple[str, str]:
    """Put a new signing key in the old one's place; returns the ids (old, new). The old private key is gone then."""
    old = signing_key(folder).key_id
    return old, _new_key(folder)


def _new_key(folder: Path) -> str:
    """The public key first: killed in between, no signature is ever without one."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    private = Ed25519PrivateKey.generate()
    key_id = key_id_of(private.public_key())
    public_folder = folder / "public"
    public_folder.mkdir(exist_ok=True)
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    _write(public_folder / f"{key_id}.pem", public, 0o644)
    secret = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    _write(folder / "signing.pem", secret, 0o600)
    return key_id


def _write(path: Path, content: bytes, mode: int) -> None:
    """Whole or not at all, and never for a moment with a wider mode."""
    partial = path.with_suffix(f".{os.getpid()}.new")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        os.fchmod(file.fileno(), mode)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
