"""The audit log as a file: JSON lines to verify from, or CSV for a spreadsheet."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from sqlalchemy import Engine

from pipeline.errors import ConfigError
from pipeline.governance import audit, canonical_json, guard
from pipeline.governance.access import Actor
from pipeline.governance.chain import FIELDS, Record
from pipeline.governance.texts import shown

_OBEYED = ("=", "+", "-", "@", "\t", "\r")


def export(
    engine: Engine,
    out: Path,
    *,
    by: Actor,
    form: str = "jsonl",
    actor: str | None = None,
    action: str | None = None,
    subject: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> dict[str, Any]:
    """Write the records to a new file and record who took them.

    Beside it comes ``<name>.head.json``, which is also returned.

    That says where the whole log ended then (``seq``, ``sha256``, ``at``), how many ``records`` the file has and the
    file's own SHA-256 (``file_sha256``). A JSON line has a record's fields as they were hashed, the detail as text:
    SHA-256 over the canonical JSON of all but ``sha256`` is ``sha256``. In CSV a cell that a spreadsheet would take
    for a formula gets an apostrophe before it. Raises ConfigError: unknown form, a file that is there or cannot be
    written.
    """
    about = f"export:{shown(' '.join(out.name.split()))}"
    guard.require(engine, by, "audit.export", about)
    if form not in _FORMS:
        raise ConfigError(f"there is no export as {form!r}", f"choose one of {', '.join(_FORMS)}")
    facts_file = out.with_name(f"{out.name}.head.json")
    for path in (out, facts_file):
        if path.exists():
            raise ConfigError(f"{path} is there already", "choose another file; an export is never overwritten")
    end = audit.head(engine)
    found = audit.stream(
        engine, actor=actor, action=action, subject=subject, since=since, until=until, up_to=end.seq
    )  # fmt: skip
    partial = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with partial.open("w", encoding="utf-8", newline="") as file:
            records = _FORMS[form](found, file)
        with partial.open("rb") as written:
            digest = hashlib.file_digest(written, "sha256").hexdigest()
        facts = vars(end) | {"records": records, "file_sha256": digest}
        partial.replace(out)
        facts_file.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"the export {out} cannot be written: {error.strerror}", "choose another file") from error
    finally:
        with suppress(OSError):
            partial.unlink(missing_ok=True)
    audit.append(
        engine, actor=by.name, action="audit.exported", subject=about,
        detail={name: facts[name] for name in ("records", "seq", "file_sha256")},
    )  # fmt: skip
    return facts


def harmless(cell: str) -> str:
    """A cell's text with an apostrophe before it if a spreadsheet would run it as a formula.

    >>> harmless("=1+1"), harmless("1+1")
    ("'=1+1", '1+1')
    """
    return f"'{cell}" if cell.startswith(_OBEYED) else cell


def _json_lines(found: Iterable[Record], file: TextIO) -> int:
    return sum(1 for record in found if file.write(canonical_json.encode(vars(record)).decode() + "\n"))


def _csv(found: Iterable[Record], file: TextIO) -> int:
    writer = csv.writer(file)
    writer.writerow(FIELDS)
    return sum(1 for record in found if writer.writerow([harmless(str(value)) for value in vars(record).values()]))


_FORMS: Mapping[str, Callable[[Iterable[Record], TextIO], int]] = {"jsonl": _json_lines, "csv": _csv}
