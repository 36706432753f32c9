"""Tables as files: what a page lists, whole, as CSV. A list of scores is for who may take one, and on record."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict

from app import auditing, data, landed_reads
from app.data import Score
from app.filters import Filter
from app.landed_reads import Load
from app.session import Reader
from lineage.personal_data import masked_row
from pipeline.governance import guard
from pipeline.governance.access import Actor
from pipeline.governance.export import harmless

MOST = 100_000
"""Scores of one file: what a browser downloads and a spreadsheet opens. The whole book is in the lake, for whoever
may read that."""


def as_csv(rows: Iterable[Mapping[str, object]]) -> bytes:
    """Rows with the same keys as CSV in UTF-8, a head line first; numbers to the last bit, lists as JSON, what is
    missing empty. A text that a spreadsheet would run as a formula gets an apostrophe before it."""
    written = io.StringIO(newline="")
    lines = csv.writer(written)
    for number, row in enumerate(rows):
        if not number:
            lines.writerow(row)
        lines.writerow(_cell(value) for value in row.values())
    return written.getvalue().encode()


def scores(reader: Reader, chosen: Filter, order: str, actor: Actor) -> bytes:
    """The scores that a filter keeps, in its order, at most ``MOST``; who took which is a record. Raises
    AccessDenied."""
    about = f"night:{reader.as_of}"
    guard.require(reader.home.engine, actor, "scores.export", about)
    table = data.listed(reader, chosen, order, MOST)
    content = as_csv(row for batch in table.to_batches(max_chunksize=10_000) for row in batch.to_pylist())
    asked = {"order": order, "filter": {k: str(v) for k, v in asdict(chosen).items() if v}}
    return _taken(reader, actor, about, table.num_rows, asked, content)


def found_scores(reader: Reader, subject: str, ids: Sequence[str], actor: Actor) -> bytes:
    """The night's scores of these ids, in the order given; as ``scores``."""
    about = f"night:{reader.as_of}"
    guard.require(reader.home.engine, actor, "scores.export", about)
    found = data.find(reader, subject, ids)
    content = as_csv(asdict(score) for score in found)
    return _taken(reader, actor, about, len(found), {"subject": subject, "ids": len(ids)}, content)


def history(reader: Reader, subject: str, scores: Sequence[Score], actor: Actor) -> bytes:
    """Every score of one subject; as ``scores``."""
    about = f"{subject}:{scores[-1].id}"
    guard.require(reader.home.engine, actor, "scores.export", about)
    return _taken(reader, actor, about, len(scores), {}, as_csv(asdict(score) for score in scores))


def load_rows(reader: Reader, table: str, load: Load, actor: Actor) -> bytes:
    """The rows that a load brought, at most ``MOST``, personal data masked; as ``scores``."""
    about = f"load:{load.load_id}"
    for action in ("trace.read", "scores.export"):
        guard.require(reader.home.engine, actor, action, about)
    found = landed_reads.first_rows(reader, table, load.load_id, MOST)
    content = as_csv(masked_row(table, row, frozenset(row)) for row in found)
    asked = {"table": f"raw.{table}"}
    return _taken(reader, actor, about, min(load.rows, MOST), asked, content, "rows.exported")


def _taken(
    reader: Reader,
    actor: Actor,
    about: str,
    rows: int,
    asked: Mapping[str, object],
    content: bytes,
    action: str = "scores.exported",
) -> bytes:
    """The file, once it is on record who took it."""
    auditing.record(
        reader.home.engine, actor=actor.name, action=action, subject=about,
        detail={"rows": rows, **asked, "file_sha256": hashlib.sha256(content).hexdigest()},
    )  # fmt: skip
    return content


def _cell(value: object) -> object:
    if isinstance(value, str):
        return harmless(value)
    if isinstance(value, list | tuple | dict):
        return harmless(json.dumps(value, default=str))
    return value
