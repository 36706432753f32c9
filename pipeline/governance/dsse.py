"""DSSE v1 envelopes: a document, its type and its signatures, as one JSON text.

The signature covers type and bytes together, in the pre-authentication encoding of the specification
(https://github.com/secure-systems-lab/dsse), so a document of one kind can never pass for one of another.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any, Protocol

from pipeline.errors import SignatureRefused

_NEXT = "take the document from where it was kept, unchanged"


class Signer(Protocol):
    """A private key with its id."""

    @property
    def key_id(self) -> str: ...
    def sign(self, message: bytes) -> bytes: ...


class Keys(Protocol):
    """The public keys that are trusted. ``verify`` raises SignatureRefused."""

    def verify(self, key_id: str, signature: bytes, message: bytes) -> None: ...


def pae(payload_type: str, payload: bytes) -> bytes:
    """The bytes that are signed.

    >>> pae("http://example.com/HelloWorld", b"hello world")
    b'DSSEv1 29 http://example.com/HelloWorld 11 hello world'
    """
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def seal(payload_type: str, payload: bytes, *signers: Signer) -> str:
    """The envelope, signed by each signer over the same bytes."""
    message = pae(payload_type, payload)
    return json.dumps(
        {
            "payloadType": payload_type,
            "payload": base64.b64encode(payload).decode(),
            "signatures": [{"keyid": s.key_id, "sig": base64.b64encode(s.sign(message)).decode()} for s in signers],
        }
    )


def opened(envelope: str | bytes, keys: Keys, *, payload_type: str) -> bytes:
    """The payload, once the envelope is of this type and has a signature, and every one it has is good.

    Stricter than the specification, which passes over signatures that do not verify: here nothing in an envelope is
    there for nothing. Raises SignatureRefused, saying what is wrong.
    """
    stated_type, payload, signatures = _parsed(envelope)
    if stated_type != payload_type:
        raise SignatureRefused(f"the envelope holds {stated_type!r}, and {payload_type!r} is wanted", _NEXT)
    if not signatures:
        raise SignatureRefused(f"the {payload_type} envelope carries no signature", _NEXT)
    for key_id, signature in signatures:
        keys.verify(key_id, signature, pae(stated_type, payload))
    return payload


def signers(envelope: str | bytes) -> tuple[str, ...]:
    """The key ids that an envelope names, in its order; only ``opened`` says whether they signed it."""
    return tuple(key_id for key_id, _ in _parsed(envelope)[2])


def _parsed(envelope: str | bytes) -> tuple[str, bytes, list[tuple[str, bytes]]]:
    try:
        value = json.loads(envelope)
    except (ValueError, RecursionError) as error:  # not JSON, not UTF-8, or nested without end
        raise SignatureRefused(f"this is no signed envelope: {error}", _NEXT) from error
    if not isinstance(value, dict) or not isinstance(value.get("signatures"), list):
        raise SignatureRefused("this is no signed envelope: payload, payloadType and signatures are wanted", _NEXT)
    signatures = []
    for entry in value["signatures"]:
        if not isinstance(entry, dict):
            raise SignatureRefused("a signature of the envelope is no object with keyid and sig", _NEXT)
        signatures.append((_text(entry, "keyid"), _bytes(entry, "sig")))
    return _text(value, "payloadType"), _bytes(value, "payload"), signatures


def _text(value: dict[str, Any], field: str) -> str:
    found = value.get(field)
    if not isinstance(found, str) or not found.isascii():
        raise SignatureRefused(f"{field} of the envelope is missing or no plain text", _NEXT)
    return found


def _bytes(value: dict[str, Any], field: str) -> bytes:
    """Base64, standard or URL-safe as the specification allows, and no letter other than its bytes need."""
    found = _text(value, field)
    for alphabet in (b"+/", b"-_"):
        try:
            decoded = base64.b64decode(found, alphabet, validate=True)
        except (binascii.Error, ValueError):
            continue
        if base64.b64encode(decoded, alphabet).decode() == found:
            return decoded
    raise SignatureRefused(f"{field} of the envelope is not base64", _NEXT)
