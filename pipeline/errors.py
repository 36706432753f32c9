"""The one error tree. Every message says what failed, which id, and what to do next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

_PASSWORD = re.compile(r"(password\s*=\s*)(?:'(?:[^'\\]|\\.)*'|[^\s'\"]+)", re.I)
_USER_INFO = re.compile(r"(://[^\s:/@]+:)[^\s@]+(?=@)")


def redacted(text: str) -> str:
    """A text without the passwords of connection strings and addresses: libraries put what they were given in their
    messages, and messages are kept."""
    return _USER_INFO.sub(r"\1…", _PASSWORD.sub(r"\1…", text))


class ScoretraceError(Exception):
    """Base of every error a user may see.

    ``next_step`` is a sentence naming the command or page that comes next; the command line and
    the portal print it under the message. Passwords within the message are left out (``redacted``).
    """

    def __init__(self, message: str, next_step: str = "") -> None:
        self.message = redacted(message)
        super().__init__(self.message)
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message}\n  next: {self.next_step}" if self.next_step else self.message


class ConfigError(ScoretraceError):
    """A setting, a portfolio or a home that cannot be used as it is."""


class HomeDamaged(ScoretraceError):
    """A file of the home that is missing, cut short or not the bytes that were written."""


class MachineRefused(ScoretraceError):
    """The machine does not give what the work needs: room on the disk, memory, the right to write, a clock that stands
    right. What was half done is done over by the same command."""


class LandingError(ScoretraceError):
    """An extract that does not keep its contract. Nothing of its landing was written."""


class GateFailed(ScoretraceError):
    """A load that is not fresh, complete, unique or plausible. Nothing downstream has run."""


class LeaseHeld(ScoretraceError):
    """Another process is writing the lake."""


class FeatureBuildFailed(ScoretraceError):
    """dbt could not build a model, or one of its data tests failed."""


class ModelRefused(ScoretraceError):
    """A model that may not score: none approved, bytes changed, or features missing."""


class TrainingRefused(ScoretraceError):
    """A training run that cannot start: no matured labels, too few rows, one class only."""


class NotFound(ScoretraceError):
    """An id that names nothing."""


class TaskTimeout(ScoretraceError):
    """A task that ran longer than its declared limit."""


class PromotionRefused(ScoretraceError):
    """A step of a promotion that a rule stands against. The refusal itself is on record."""


class InventoryRefused(ScoretraceError):
    """A change of the model inventory that a rule stands against. The refusal itself is on record."""


class RecordRefused(ScoretraceError):
    """A record that the audit log does not take: control characters, too long, nobody named. Nothing was written."""


class RecordDamaged(ScoretraceError):
    """A record of the audit log whose detail is not what was written. Nothing is decided by it."""


class SignatureRefused(ScoretraceError):
    """A signature that does not stand: changed bytes, an unknown key, or not the kind of document expected."""


class AccessDenied(ScoretraceError):
    """Somebody asked for what none of their roles allows. Nothing was shown or done."""


class IdentityRefused(ScoretraceError):
    """A sign-in, a password, a token or a user that is not accepted. Nobody was let in and nothing was changed."""


@contextmanager
def beside(first: BaseException) -> Iterator[None]:
    """For what is still to be written down once something has failed: a second fault there becomes a note of the
    first, which stays the one that is raised and told."""
    try:
        yield
    except Exception as second:  # noqa: BLE001 - told as a note of the first
        first.add_note(f"and then: {redacted(str(second)).partition(chr(10))[0] or type(second).__name__}")
