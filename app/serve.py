"""Start the Streamlit server on the portal."""

from __future__ import annotations

import subprocess
import sys

from pipeline.config import REPOSITORY


def serve_portal(port: int, address: str) -> int:
    """Run the portal until it is stopped; returns the server's exit code."""
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
