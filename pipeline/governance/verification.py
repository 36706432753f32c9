"""All that can be checked of the audit log at once: its chain, a checkpoint kept of it, and the rows it answers for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import Engine

from pipeline.config import Settings
from pipeline.errors import NotFound, SignatureRefused
from pipeline.governance import audit, checkpoints, coverage
from pipeline.governance.chain import Checkpoint, Verdict
from pipeline.governance.coverage import Gap


@dataclass(frozen=True)
class Verified:
    """What was found. kept: the checkpoint of ``file`` that the log was held against, with the keys that signed it.

    checkpoint_fault, next_step: why that file is no checkpoint; the chain was then checked without one. gap: the
    first row beside the log that the log does not answer for; looked for only in a sound chain, which it rests on.
    """

    verdict: Verdict
    file: Path | None = None
    kept: Checkpoint | None = None
    signers: tuple[str, ...] = ()
    checkpoint_fault: str = ""
    next_step: str = ""
    gap: Gap | None = None

    @property
    def ok(self) -> bool:
        return self.verdict.ok and not self.checkpoint_fault and self.gap is None


def verify(
    settings: Settings, engine: Engine, against: Path | None = None, *, progress: Callable[[int], None] = lambda _: None
) -> Verified:
    """Check everything. against: a checkpoint's file; by default the newest in the home, where there is one."""
    file = against or checkpoints.newest(settings)
    kept: Checkpoint | None = None
    signers: tuple[str, ...] = ()
    fault, following = "", ""
    if file is not None:
        try:
            kept = checkpoints.read(settings, file)
            signers = checkpoints.signers(file)
        except (SignatureRefused, NotFound) as error:
            fault, following = error.message, error.next_step
    verdict = audit.verify(engine, kept, progress=progress)
    gap = coverage.verify(engine) if verdict.ok else None
    return Verified(verdict, file, kept, signers, fault, following, gap)
