"""A list of scores as a file: what a filter keeps, for who may take it, and on record."""

from __future__ import annotations

import csv
import hashlib
import io
from dataclasses import asdict

from app import auditing, data
from app.data import Filter
from app.session import Reader
from pipeline.governance import guard
from pipeline.governance.access import Actor
from pipeline.governance.export import harmless

MOST = 100_000
"""Rows of one file: what a browser downloads and a spreadsheet opens. The whole book is in the lake, for whoever
may read that."""


def csv_of(reader: Reader, chosen: Filter, order: str, actor: Actor) -> bytes:
    """The scores that a filter keeps, in its order, at most ``MOST``; who took which is a record. PD and log-odds to
    the last bit. Raises AccessDenied."""
    about = f"night:{reader.as_of}"
    guard.require(reader.home.engine, actor, "scores.export", about)
    table = data.listed(reader, chosen, order, MOST)
    written = io.StringIO(newline="")
    lines = csv.writer(written)
    lines.writerow(table.column_names)
    for batch in table.to_batches():
        lines.writerows(
            [harmless(str(v)) if isinstance(v, str) else v for v in row.values()] for row in batch.to_pylist()
        )
    content = written.getvalue().encode()
    auditing.record(
        reader.home.engine, actor=actor.name, action="scores.exported", subject=about,
        detail={
            "rows": table.num_rows,
            "filter": {k: str(v) for k, v in asdict(chosen).items() if v},
            "file_sha256": hashlib.sha256(content).hexdigest(),
        },
    )  # fmt: skip
    return content
