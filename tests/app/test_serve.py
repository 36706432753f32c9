"""Starting the portal: an address that cannot be had is said before Streamlit starts."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import streamlit as st

from app.serve import serve_portal
from pipeline.errors import ConfigError
from tests.e2e.served import free_port


def test_a_port_in_use_is_named_with_the_command_for_another() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(ConfigError, match=f"127.0.0.1 port {port}") as caught:
            serve_portal(port, "127.0.0.1")
    assert f"serve --port {port + 1}" in caught.value.next_step


def test_an_address_that_is_none_is_named() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on no\.such\.host\.invalid"):
        serve_portal(8501, "no.such.host.invalid")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660])
def test_secrets_that_others_could_read_or_change_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: int
) -> None:
    path = tmp_path / "secrets.toml"
    path.write_text('[auth]\nclient_secret = "any"\n', encoding="utf-8")
    path.chmod(mode)
    monkeypatch.setattr(st, "get_option", {"secrets.files": [str(tmp_path / "none.toml"), str(path)]}.__getitem__)
    with pytest.raises(ConfigError, match=r"secrets\.toml could be read or changed by others") as caught:
        serve_portal(free_port(), "127.0.0.1")
    assert "chmod" in caught.value.next_step
