"""Start the Streamlit server on the portal."""

from __future__ import annotations

import socket
import subprocess
import sys

from pipeline.config import REPOSITORY
from pipeline.errors import ConfigError


def serve_portal(port: int, address: str) -> int:
    """Run the portal until it is stopped; returns the server's exit code.

    Raises ConfigError when the address cannot be listened on.
    """
    _require_free(port, address)
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(REPOSITORY / "app" / "main.py"),
        "--server.port",
        str(port),
        "--server.address",
        address,
    ]
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
