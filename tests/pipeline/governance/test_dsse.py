"""Envelopes by the specification; a changed one never gives another document."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import SignatureRefused
from pipeline.governance import dsse, keys

KIND = "application/vnd.scoretrace.test+json"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("home") / "keys"
    keys.create(path)
    return path


@pytest.fixture(scope="module")
def envelope(folder: Path) -> str:
    return dsse.seal(KIND, b'{"seq":7,"text":"\xc3\xa9\xff\xfb\xef\xbe"}', keys.signing_key(folder))


def opened(envelope: str | bytes, folder: Path) -> bytes:
    return dsse.opened(envelope, keys.PublicKeys(folder), payload_type=KIND)


def test_the_specifications_own_vector() -> None:
    assert dsse.pae("http://example.com/HelloWorld", b"hello world") == (
        b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    )
    assert dsse.pae("é", b"") == b"DSSEv1 2 \xc3\xa9 0 ", "lengths count bytes"


def test_the_envelope_is_the_specifications(envelope: str, folder: Path) -> None:
    value = json.loads(envelope)
    assert sorted(value) == ["payload", "payloadType", "signatures"]
    (signature,) = value["signatures"]
    assert sorted(signature) == ["keyid", "sig"]
    key = keys.signing_key(folder)
    payload = base64.b64decode(value["payload"])
    assert base64.b64decode(signature["sig"]) == key.sign(dsse.pae(KIND, payload)), "Ed25519 signs deterministically"
    assert dsse.signers(envelope) == (key.key_id,)


@given(payload=st.binary(max_size=200))
def test_what_was_sealed_comes_out(folder: Path, payload: bytes) -> None:
    sealed = dsse.seal(KIND, payload, keys.signing_key(folder))
    assert opened(sealed, folder) == payload
    # A verifier must take either alphabet.
    value = json.loads(sealed)
    value["payload"] = base64.urlsafe_b64encode(payload).decode()
    assert opened(json.dumps(value), folder) == payload


@given(data=st.data())
def test_no_changed_byte_gives_another_document(envelope: str, folder: Path, data: st.DataObject) -> None:
    raw = bytearray(envelope.encode())
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= data.draw(st.integers(1, 255))
    try:
        payload = opened(bytes(raw), folder)
    except SignatureRefused as refused:
        assert refused.message and refused.next_step
    else:  # the one letter of base64 that has two forms
        assert payload == opened(envelope, folder)


@given(bit=st.integers(0, 7), data=st.data())
@pytest.mark.parametrize("part", ["payload", "sig"])
def test_one_bit_of_document_or_signature_voids_it(
    envelope: str, folder: Path, part: str, bit: int, data: st.DataObject
) -> None:
    value = json.loads(envelope)
    place = value if part == "payload" else value["signatures"][0]
    raw = bytearray(base64.b64decode(place[part]))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= 1 << bit
    place[part] = base64.b64encode(raw).decode()
    with pytest.raises(SignatureRefused, match="does not match"):
        opened(json.dumps(value), folder)


def changed(envelope: str, **changes: Any) -> str:
    return json.dumps(json.loads(envelope) | changes)


def test_what_is_wrong_is_said(envelope: str, folder: Path) -> None:
    good = json.loads(envelope)["signatures"][0]
    for text, message in (
        (b"\xff", "no signed envelope"),
        ("not json", "no signed envelope"),
        ("[1]", "no signed envelope"),
        ("[" * 100_000, "no signed envelope"),
        (changed(envelope, payloadType="application/json"), "holds 'application/json'"),
        (changed(envelope, payloadType=None), "payloadType of the envelope"),
        (changed(envelope, payload="!!!!"), "payload of the envelope is not base64"),
        (changed(envelope, signatures=[]), "no signature"),
        (changed(envelope, signatures="x"), "no signed envelope"),
        (changed(envelope, signatures=["x"]), "a signature of the envelope is no object"),
        (changed(envelope, signatures=[good | {"keyid": "0" * 16}]), "no key 0000000000000000"),
        (changed(envelope, signatures=[{"sig": good["sig"]}]), "keyid of the envelope is missing"),
        (changed(envelope, signatures=[good, good | {"sig": "QUJD"}]), "does not match"),
    ):
        with pytest.raises(SignatureRefused, match=message):
            opened(text, folder)


def test_a_document_of_one_kind_does_not_pass_for_another(folder: Path) -> None:
    """Even with the type rewritten: the signature covers it."""
    promotion = dsse.seal("application/vnd.scoretrace.promotion+json", b"{}", keys.signing_key(folder))
    with pytest.raises(SignatureRefused, match=r"and 'application/vnd\.scoretrace\.test"):
        opened(promotion, folder)
    with pytest.raises(SignatureRefused, match="does not match"):
        opened(changed(promotion, payloadType=KIND), folder)


def test_several_may_sign_the_same_bytes(tmp_path: Path) -> None:
    keys.create(tmp_path)
    first = keys.signing_key(tmp_path)
    keys.rotate(tmp_path)
    both = dsse.seal(KIND, b"x", first, keys.signing_key(tmp_path))
    assert len(dsse.signers(both)) == 2
    assert opened(both, tmp_path) == b"x"
