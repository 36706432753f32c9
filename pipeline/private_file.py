"""A secret in a file: read only where its owner alone can read and change it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from pipeline.errors import ScoretraceError


def first_line(path: Path, what: str, error: type[ScoretraceError]) -> str:
    """The first line of a plain file that belongs to whoever runs this and that nobody else may read or write.

    what: the file in words, for the message. Raises ``error`` for any other file and for one that is not UTF-8.
    """
    try:
        # What is checked is the open file, which is what is read, wherever the path may lead a moment later.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), encoding="utf-8") as handle:
            found = os.fstat(handle.fileno())
            mode = stat.S_IMODE(found.st_mode)
            if not stat.S_ISREG(found.st_mode) or mode & 0o177 or found.st_uid != os.geteuid():
                raise error(
                    f"{what} {path} could be read or changed by others (mode {mode:04o})",
                    f"`chmod 600 {path}`, as its owner, and make the secret anew if others may have seen it",
                )
            return handle.readline(1000).rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as fault:
        raise error(f"{what} {path} cannot be read: {fault}", "name a plain file with the secret in it") from fault
