"""What a check says, and what each looks at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sqlalchemy import Engine

from pipeline.config import Settings
from pipeline.portfolio import Portfolio


@dataclass(frozen=True)
class Home:
    """What is looked at, opened as far as it could be."""

    settings: Settings
    portfolio: Portfolio
    engine: Engine


@dataclass(frozen=True)
class Fault:
    """Something wrong: about which id or file, what it is, and the command that repairs it."""

    about: str
    says: str
    repair: str


@dataclass(frozen=True)
class Checked:
    """One check and what it found. says: what was looked at, with figures."""

    check: str
    says: str
    faults: tuple[Fault, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.faults


Found = tuple[str, Sequence[Fault]]
"""What a check returns: what was looked at, and what is wrong with it."""
Check = Callable[[Home], Found]
