"""Writing the lake: the lease, a home that is fit for it, one connection, and in the end the digests of what is new."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import duckdb
from sqlalchemy import Engine

from pipeline import clock, lake, lake_files
from pipeline.config import Settings
from pipeline.errors import MachineRefused, beside
from pipeline.faults import explained
from pipeline.lease import writer_lease

LEAST_FREE_BYTES = 16 * 1024 * 1024
"""Less than this and not even the records of a failed night could be written."""


@contextmanager
def writer(settings: Settings, engine: Engine, purpose: str) -> Iterator[duckdb.DuckDBPyConnection]:
    """The lake opened for writing, by the one process that may.

    Raises LeaseHeld; MachineRefused when the clock was set back or the disk is full; HomeDamaged when a file of the
    lake is not as it was written. A fault of the machine within is raised in the same words. What is new in the lake
    is put on record in the end, also of a run that failed; of one that was killed, by the next.
    """
    require_room(settings)  # even taking the lease writes a little
    with in_plain_words(settings), writer_lease(settings, engine, purpose):
        clock.require(engine)
        lake.require_catalog(settings)
        lake.sweep(settings)
        lake_files.record_new(settings, engine)
        lake_files.require_whole(settings, engine)
        try:
            with lake.stopping(lake.connect(settings, read_only=False)) as con:
                yield con
                lake.forget_idle_statistics(con)
        except BaseException as error:
            with beside(error):
                lake_files.record_new(settings, engine)
            raise
        lake_files.record_new(settings, engine)


@contextmanager
def in_plain_words(settings: Settings) -> Iterator[None]:
    """Faults of disk, memory and files, raised as errors that say what to do."""
    try:
        yield
    except Exception as error:
        if plain := explained(error, settings.home):
            for note in getattr(error, "__notes__", ()):
                plain.add_note(note)
            raise plain from error
        raise


def require_room(settings: Settings) -> None:
    """Raises MachineRefused when the home's disk has less free than a night's records need."""
    free = shutil.disk_usage(settings.home).free
    if free < LEAST_FREE_BYTES:
        raise MachineRefused(
            f"the disk of {settings.home} has {free / 1e6:.1f} MB free; {LEAST_FREE_BYTES / 1e6:.0f} MB are the least",
            f"make room (`df -h {settings.home}`), then run the same command again",
        )
