"""A folder that is there whole or not at all: made beside its place, on the disk, and then given its name."""

from __future__ import annotations

import fcntl
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_SUFFIX = ".partial"


@contextmanager
def made_whole(place: Path) -> Iterator[Path]:
    """A folder to fill, which becomes ``place`` (new, or an empty folder) when the block ends well.

    Otherwise nothing is left. What a process left that was killed in the block goes when the same place is made again:
    it holds its lock no longer. (Some network disks lock no folders; there it stays.)
    """
    _sweep(place)
    partial = place.with_name(f".{place.name}.{os.getpid()}{_SUFFIX}")
    partial.mkdir(parents=True, mode=0o700)
    held = os.open(partial, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield partial
        os.sync()  # names and contents of all files, in one go: after a power cut the folder is whole or is not there
        if place.exists():
            place.rmdir()
        partial.rename(place)
        _sync(place.parent)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    finally:
        os.close(held)


def _sweep(place: Path) -> None:
    """Take out what killed processes left of this place."""
    if not place.parent.is_dir():
        return
    for leftover in place.parent.glob(f".{glob.escape(place.name)}.*{_SUFFIX}"):
        held = os.open(leftover, os.O_RDONLY)
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            continue  # somebody is at work on it, or nobody can tell
        else:
            shutil.rmtree(leftover, ignore_errors=True)
        finally:
            os.close(held)


def _sync(folder: Path) -> None:
    held = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(held)
    finally:
        os.close(held)
