"""Starting the portal: an address that cannot be had is said before Streamlit starts."""

from __future__ import annotations

import socket

import pytest

from app.serve import serve_portal
from pipeline.errors import ConfigError


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
