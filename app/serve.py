"""Start the Streamlit server on the portal."""

from __future__ import annotations

import ipaddress
import socket
import stat
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import streamlit as st

from pipeline import ledger
from pipeline.config import REPOSITORY, Settings
from pipeline.errors import ConfigError
from pipeline.governance import users


def require_sign_in(settings: Settings, address: str) -> None:
    """Raise ConfigError when other machines could read the book without a sign-in; this machine alone may."""
    if _this_machine_alone(address) or _by_provider():
        return
    engine = ledger.open_ledger(settings)
    try:
        if users.exist(engine):
            return
    finally:
        engine.dispose()
    raise ConfigError(
        f"on the address {address} other machines could read every score, and nobody would have to sign in",
        "make a user first, `scoretrace user add NAME --role admin --generate`, or leave --address out",
    )


def _this_machine_alone(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


def _by_provider() -> bool:
    """Whether the portal's secrets name an identity provider. Ones that cannot be read count as none."""
    try:
        return "auth" in st.secrets
    except FileNotFoundError:
        return False


def _require_kept(secrets: Iterable[str]) -> None:
    """Streamlit reads its secrets whatever their mode; the client's secret and the key of its cookies are in them. A
    group may read them: that is how a cluster gives a secret to a service."""
    for path in map(Path, secrets):
        if path.is_file() and path.stat().st_mode & (stat.S_IRWXO | stat.S_IWGRP):
            raise ConfigError(
                f"the portal's secrets {path} could be read or changed by others", f"`chmod 640 {path}`, or 600"
            )


def serve_portal(port: int, address: str) -> int:
    """Run the portal until it is stopped; returns the server's exit code.

    Raises ConfigError when the address cannot be listened on, or its secrets could be read by every user.
    """
    _require_free(port, address)
    _require_kept(st.get_option("secrets.files"))
    where = ["--server.port", str(port), "--server.address", address]
    command = [sys.executable, "-m", "app.portal_process", *where]
    try:
        return subprocess.run(command, cwd=REPOSITORY, check=False).returncode
    except KeyboardInterrupt:
        return 0


def _require_free(port: int, address: str) -> None:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does: a port just left is free
            probe.bind(place)
    except OSError as error:
        raise ConfigError(
            f"the portal cannot listen on {address} port {port}: {error.strerror or error}",
            f"stop what listens there, or choose another address or port: `scoretrace serve --port {port % 65535 + 1}`",
        ) from error
