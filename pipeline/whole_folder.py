"""A folder that is there whole or not at all: made beside its place, on the disk, and then given its name."""

from __future__ import annotations

import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def made_whole(place: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``place`` (new, or an empty folder) when the block ends well.

    Otherwise nothing is left; what a process of this machine left that was killed in the block goes when the same
    place is made again.
    """
    _sweep(place)
    partial = place.with_name(f".{place.name}.{socket.gethostname()}-{os.getpid()}.partial")
    try:
        partial.mkdir(parents=True, mode=0o700)
        yield partial
        # Names and contents of all files in one go, before the name that says they are whole.
        os.sync()
        if place.exists():
            place.rmdir()
        partial.rename(place)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    with suppress(OSError):  # it stands already, whatever a power cut makes of its name
        _sync(place.parent)


def _sweep(place: Path) -> None:
    """Take out what killed processes of this machine left of this place."""
    left = re.compile(rf"\.{re.escape(place.name)}\.{re.escape(socket.gethostname())}-(\d+)\.partial")
    for folder in place.parent.iterdir() if place.parent.is_dir() else ():
        named = left.fullmatch(folder.name)
        if named and (int(named[1]) == os.getpid() or not Path(f"/proc/{named[1]}").exists()):
            shutil.rmtree(folder, ignore_errors=True)


def _sync(folder: Path) -> None:
    held = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)
