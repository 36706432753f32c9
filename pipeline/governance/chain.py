"""The audit log's hash chain: how a record follows another, and how the first that does not is found. No I/O.

Each record carries the SHA-256 of the record before it, so a record cannot be changed, removed or moved without every
later hash changing too. Two things a chain cannot show by itself: that its tail was cut off, and that all of it from
some record on was written anew. Both are found against a checkpoint that was kept elsewhere.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from pipeline.errors import RecordDamaged
from pipeline.governance import canonical_json

FIELDS = ("seq", "at", "actor", "action", "subject", "detail", "prev_sha256", "sha256")
GENESIS = "0" * 64
"""``prev_sha256`` of the first record, and the head of an empty log."""


@dataclass(frozen=True)
class Record:
    """One event. ``at`` is ISO text in UTC, ``detail`` canonical JSON text; ``facts`` reads it."""

    seq: int
    at: str
    actor: str
    action: str
    subject: str
    detail: str
    prev_sha256: str
    sha256: str

    @property
    def facts(self) -> Facts:
        """The detail as a value. Raises RecordDamaged when it is no JSON object; so does asking for what it lacks."""
        if why := _no_object(self.detail):
            raise _damaged(self.seq, why)
        return Facts(self.seq, json.loads(self.detail))


class Facts(dict[str, Any]):
    """The detail of record ``seq``. What is missing in it is damage of that record, and said as such."""

    def __init__(self, seq: int, detail: Mapping[str, Any]) -> None:
        super().__init__(detail)
        self.seq = seq

    def __missing__(self, key: str) -> Any:
        raise _damaged(self.seq, f"it has no {key}")


@dataclass(frozen=True)
class Checkpoint:
    """The log ended at record ``seq`` with this hash at that moment; 0 and GENESIS for a log without records."""

    seq: int
    sha256: str
    at: str


@dataclass(frozen=True)
class Verdict:
    """What a verification found.

    records: how many are good, counted from the first. head: the hash of the last good one. first_bad: number of the
    first record that is missing, changed or out of place; None when all is well. reason: what is wrong with it.
    """

    ok: bool
    records: int
    head: str
    first_bad: int | None = None
    reason: str = ""


def sealed(
    *, seq: int, at: str, actor: str, action: str, subject: str, detail: str, prev_sha256: str
) -> Record:  # fmt: skip
    """A record with its hash."""
    digest = _digest((seq, at, actor, action, subject, detail, prev_sha256))
    return Record(seq, at, actor, action, subject, detail, prev_sha256, digest)


class Verifier:
    """Follows the chain: give it every record in order with ``follow``, then ask for the ``verdict``."""

    def __init__(self, against: Checkpoint | None = None) -> None:
        self._against = against
        self._seq, self._head = 0, GENESIS
        self._bad: tuple[int, str] | None = None

    @property
    def going(self) -> bool:
        """Is all well so far?"""
        return self._bad is None

    def follow(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """The next records, as tuples of FIELDS. After the first bad one nothing more is looked at."""
        for row in rows:
            if self._bad is None:
                self._bad = _fault(row, self._seq, self._head) or _otherwise(row, self._against)
            if self._bad is not None:
                return
            self._seq, self._head = row[0], row[7]

    def unreadable(self, seq: int, why: str) -> None:
        """The database could not even read this record."""
        self._bad = self._bad or (seq, f"record {seq} cannot be read: {why}")

    def verdict(self) -> Verdict:
        """The verdict on everything that was followed; a checkpoint beyond the last record means a lost tail."""
        bad, kept = self._bad, self._against
        if bad is None and kept is not None and kept.seq > self._seq:
            missing = f"records {self._seq + 1} to {kept.seq}" if kept.seq > self._seq + 1 else f"record {kept.seq}"
            bad = self._seq + 1, f"the log ends at {self._seq}, and the checkpoint of {kept.at} had {missing} too"
        if bad is None:
            return Verdict(True, self._seq, self._head)
        return Verdict(False, self._seq, self._head, *bad)


def _fault(row: tuple[Any, ...], last: int, head: str) -> tuple[int, str] | None:
    """Number and description of what is wrong with the record after ``last``, or None."""
    seq, stated_previous, stated = row[0], row[6], row[7]
    if type(seq) is not int or seq <= last:
        return seq if type(seq) is int else last + 1, f"record {seq} stands where record {last + 1} belongs"
    if seq > last + 1:
        which = f"record {last + 1} is" if seq == last + 2 else f"records {last + 1} to {seq - 1} are"
        return last + 1, f"{which} missing: after {last} comes {seq}"
    if any(type(value) is not str for value in row[1:]):
        return seq, f"record {seq} has been changed: a field is not text"
    try:
        actual = _digest(row[:7])
    except ValueError as error:
        return seq, f"record {seq} has been changed: {error}"
    if actual != stated:
        return seq, f"record {seq} has been changed: its fields have the hash {actual}, it carries {stated}"
    if why := _no_object(row[5]):
        return seq, f"the detail of record {seq} is damaged: {why}"
    if stated_previous != head:
        return seq, (
            f"record {seq} does not follow record {last}: it names {stated_previous} as the hash before it, and that "
            f"is {head}; one of the two was replaced"
        )
    return None


def _no_object(detail: str) -> str:
    """Why a detail is no JSON object; empty when it is one."""
    try:
        found = json.loads(detail)
    except (ValueError, RecursionError) as error:
        return f"it is no JSON: {error}"
    return "" if isinstance(found, dict) else "it is no JSON object"


def _damaged(seq: int, why: str) -> RecordDamaged:
    return RecordDamaged(
        f"the detail of record {seq} of the audit log is damaged: {why}",
        "`scoretrace audit verify` checks the whole log; restore the control store from a backup",
    )


def _otherwise(row: tuple[Any, ...], kept: Checkpoint | None) -> tuple[int, str] | None:
    """Number and description of a record that is sound in itself and not the one that the checkpoint had."""
    if kept is None or row[0] != kept.seq or row[7] == kept.sha256:
        return None
    return kept.seq, (
        f"record {kept.seq} has the hash {row[7]}, and the checkpoint of {kept.at} has {kept.sha256}: the log was "
        "written anew, up to this record or from an earlier one on"
    )


def _digest(values: tuple[Any, ...]) -> str:
    """SHA-256 of the canonical JSON of a record's fields without its own hash."""
    return hashlib.sha256(canonical_json.encode(dict(zip(FIELDS, values, strict=False)))).hexdigest()
