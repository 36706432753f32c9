"""What a fault of the machine or of a file looks like from here, in the words and next steps of whoever keeps the home.

The libraries beneath (SQLite, DuckDB, dbt, MLflow) tell of the same full disk in their own ways, and some only as text.
Pure: an exception in, a ScoretraceError or None out.
"""

from __future__ import annotations

import errno
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import ConfigError, FeatureBuildFailed, HomeDamaged, MachineRefused, ScoretraceError

_AGAIN = "then run the same command again: what was half done is done over, and the last published night stands"
_FULL = re.compile(r"no space left on device|database or disk is full|disk quota exceeded|file too large", re.I)
_READ_ONLY = re.compile(
    r"read-only file system|attempt to write a readonly database|permission denied|unable to open database file", re.I
)
_MEMORY = re.compile(
    r"out of memory error|failed to allocate|failed to pin block|cannot allocate memory|bad_alloc|out of memory"
    r"|failed to map segment",
    re.I,
)
_UNREACHABLE = re.compile(r"connection to server at .* failed", re.I)
_BAD_STORE = re.compile(
    r"database disk image is malformed|file is not a database|disk I/O error|malformed database", re.I
)
_BAD_PARQUET = re.compile(
    r"no magic bytes found|invalid parquet|too small to be a parquet|parquet file is (corrupt|truncated)"
    r"|snappy decompression failure|zstd decompression failure|tprotocolexception|invalid page header"
    r"|cannot open file \"(?P<gone>[^\"]+\.parquet)\": no such file",
    re.I,
)


def explained(error: BaseException, home: Path) -> ScoretraceError | None:
    """The error of our own that says what happened to this home, or None when it is another kind of fault.

    Of our own errors those are explained that carry such a fault only as text: a dbt model that could not be written,
    a store that could not be opened. The others know better what they are about.
    """
    if isinstance(error, ScoretraceError) and not _from_beneath(error):
        return None
    for one in _chain(error):
        text, number = str(one), getattr(one, "errno", None)
        place = getattr(one, "filename", None) or home
        if isinstance(one, MemoryError) or _MEMORY.search(text) or number == errno.ENOMEM:
            return MachineRefused(
                f"not enough memory: {_first_line(text) or 'the process was refused more'}",
                f"give it more, or set SCORETRACE_MEMORY_LIMIT lower, so that DuckDB spills to disk, {_AGAIN}",
            )
        if number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) or _FULL.search(text):
            return MachineRefused(
                f"no room left on the disk of {place}: {_first_line(text)}",
                f"make room (`df -h {home}`; `scoretrace doctor` says how much there is), {_AGAIN}",
            )
        if number in (errno.EROFS, errno.EACCES, errno.EPERM) or _READ_ONLY.search(text):
            return MachineRefused(
                f"{place} cannot be written or read: {_first_line(text)}",
                f"mount it for writing, or run as the owner of the files (`ls -ld {place}`), {_AGAIN}",
            )
        if _UNREACHABLE.search(text):
            return MachineRefused(
                f"a store of {home} cannot be reached: {_first_line(text)}",
                "start its server, or correct SCORETRACE_CONTROL_URL or SCORETRACE_LAKE_CATALOG, " + _AGAIN,
            )
        if _BAD_STORE.search(text):
            return HomeDamaged(
                f"a store of {home} is damaged: {_first_line(text)}",
                "`scoretrace doctor` names the file; put the home back with `scoretrace restore BACKUP NEW_HOME`",
            )
        if _BAD_PARQUET.search(text):
            return HomeDamaged(
                f"a file of the lake in {home} is missing or damaged: {_first_line(text)}",
                "`scoretrace doctor` names each such file; put them back from `scoretrace backup`, " + _AGAIN,
            )
    return None


def of_the_machine(error: BaseException) -> bool:
    """Whether memory or room ran out: no file and no mapping is to blame for that."""
    return any(isinstance(e, MemoryError) or _MEMORY.search(str(e)) or _FULL.search(str(e)) for e in _chain(error))


def _from_beneath(error: ScoretraceError) -> bool:
    library = type(error.__cause__).__module__.partition(".")[0]
    return isinstance(error, FeatureBuildFailed) or (
        isinstance(error, ConfigError) and library in ("duckdb", "_duckdb", "sqlalchemy", "sqlite3")
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error, and what it came from, each once."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or one.__context__


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")[:300]
