"""The archive: files kept under the SHA-256 of their content, in the home. Runs write it; lineage reads it.

Compiled SQL, manifests, model texts and portfolios are kept here, so that what a run was made of can be read
whatever has become of the project, the registry or the portfolio since. A file is checked whenever it is read.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from pipeline.config import Settings
from pipeline.errors import NotFound


def path_of(settings: Settings, sha256: str) -> Path:
    """Where the archive keeps the file with this content, whether it is there or not."""
    return settings.archive_dir / "sha256" / sha256[:2] / sha256


def keep(settings: Settings, content: bytes) -> str:
    """Keep bytes and return their SHA-256. Written whole or not at all, and on the disk when it is said; what is there
    already is left alone, unless it is no longer these bytes."""
    digest = hashlib.sha256(content).hexdigest()
    path = path_of(settings, digest)
    if not path.is_file() or path.read_bytes() != content:
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{os.getpid()}")
        with partial.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    return digest


def read(settings: Settings, sha256: str) -> bytes:
    """The bytes with this SHA-256. Raises NotFound when they are gone, or no longer these bytes."""
    path = path_of(settings, sha256)
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"the archive has no file {sha256}", f"restore {path} from a backup of the home") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise NotFound(f"the archived file {sha256} has been changed", f"restore {path} from a backup of the home")
    return content


def read_text(settings: Settings, sha256: str) -> str:
    """``read``, as UTF-8 text."""
    return read(settings, sha256).decode("utf-8")
