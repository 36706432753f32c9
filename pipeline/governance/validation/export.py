"""A validation report written to a file, and on record with its hash."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from pipeline.errors import ConfigError
from pipeline.governance import audit, guard, texts
from pipeline.governance.access import Actor
from pipeline.governance.validation.facts import ValidationFacts
from pipeline.governance.validation.page import page


@dataclass(frozen=True)
class Report:
    """What was written. faults: what of the records is not whole, as the report says it too."""

    file: Path
    sha256: str
    bytes: int
    faults: tuple[str, ...]
    log_verifies: bool


def write(engine: Engine, facts: ValidationFacts, file: Path, actor: Actor) -> Report:
    """Write the report to a new file. Raises AccessDenied, or ConfigError when it is there or cannot be made."""
    subject = f"model:{facts.version.name}/{facts.version.version}"
    guard.require(engine, actor, "evidence.export", subject)
    content = page(facts).encode()
    try:
        with file.open("xb") as opened:
            opened.write(content)
    except FileExistsError as error:
        raise ConfigError(f"{file} is there already", "name a file that is not there") from error
    except OSError as error:
        raise ConfigError(f"{file} cannot be written: {error.strerror}", "name another file") from error
    report = Report(file, hashlib.sha256(content).hexdigest(), len(content), facts.faults, facts.verdict.ok)
    detail = {"file": texts.shown(file.name, 300), "sha256": report.sha256, "records": facts.verdict.records}
    audit.append(engine, actor=actor.name, action="report.exported", subject=subject, detail=detail)
    return report
