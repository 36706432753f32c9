"""Who is told of promotions and alerts: ``hooks.json``, checked as a whole. Secrets are named in it, and elsewhere.

{"portal": "https://scoretrace.lender.example",
 "receivers": [{"name": "servicenow", "url": "https://lender.service-now.example/api/model-change",
                "events": ["promotion."], "secret_file": "keys/servicenow.secret"}]}
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pipeline import private_file
from pipeline.config import HOOK_SECRET, Settings, hook_secret
from pipeline.errors import ConfigError

SHORTEST_SECRET = 16
_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,39}")
_KNOWN = {"name", "url", "events", "secret_file", "secret_env", "timeout_seconds", "since"}


@dataclass(frozen=True)
class Receiver:
    """One receiver. events: starts of audit actions. since: a new receiver is sent what was recorded from then on."""

    name: str
    url: str = field(repr=False)
    events: tuple[str, ...]
    since: datetime
    secret_file: Path | None = None
    secret_env: str = ""
    timeout_seconds: float = 10.0

    @property
    def place(self) -> str:
        """Scheme and host: all of the address that is ever shown, for a path may carry a token."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.hostname}" + (f":{parts.port}" if parts.port else "")


@dataclass(frozen=True)
class Receivers:
    """The checked file. portal: address of the portal for links, without a slash at its end; empty when not given."""

    portal: str
    receivers: tuple[Receiver, ...]


def read(settings: Settings) -> Receivers:
    """The receivers of a home; none when there is no such file. Raises ConfigError naming the entry that is wrong."""
    path = settings.hooks_file
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    except FileNotFoundError:
        return Receivers("", ())
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read: {error}", "mend the file; the README shows one") from error
    try:
        return _read(settings, raw, written)
    except ValueError as error:
        raise ConfigError(f"{path}: {error}", "mend the file; the README shows one") from error


def secret_of(receiver: Receiver) -> bytes:
    """The secret that a receiver's deliveries are signed with.

    Raises ConfigError when it is not there, could be read by others than its owner, or has fewer than 16 characters.
    """
    if receiver.secret_file is None:
        found = hook_secret(receiver.secret_env) or ""
        where = f"the environment variable {receiver.secret_env}"
    else:
        found = private_file.first_line(receiver.secret_file, "the secret file", ConfigError).strip()
        where = str(receiver.secret_file)
    if len(found) < SHORTEST_SECRET:
        raise ConfigError(
            f"{where} holds no secret of {SHORTEST_SECRET} characters or more for the receiver {receiver.name}",
            "make one with `openssl rand -hex 32` and give the receiver the same",
        )
    return found.encode()


def _read(settings: Settings, raw: Any, written: datetime) -> Receivers:
    if not isinstance(raw, dict) or not isinstance(raw.get("receivers"), list):
        raise ValueError("it has no list of receivers")
    if unknown := sorted(set(raw) - {"portal", "receivers"}):
        raise ValueError(f"unknown key {', '.join(unknown)}; there are portal and receivers")
    portal = raw.get("portal", "")
    if portal:
        _address("portal", portal)
    found = tuple(_receiver(settings, f"receivers[{i}]", entry, written) for i, entry in enumerate(raw["receivers"]))
    names = [r.name for r in found]
    if len(names) != len(set(names)):
        raise ValueError("two receivers have the same name")
    return Receivers(str(portal).rstrip("/"), found)


def _receiver(settings: Settings, place: str, raw: Any, written: datetime) -> Receiver:
    if not isinstance(raw, dict):
        raise ValueError(f"{place} is not an object")
    if "secret" in raw:
        raise ValueError(f"{place} has its secret in clear text; name a secret_file or a secret_env instead")
    if unknown := sorted(set(raw) - _KNOWN):
        raise ValueError(f"{place} has the unknown key {', '.join(unknown)}; there are {', '.join(sorted(_KNOWN))}")
    name, events, timeout = raw.get("name"), raw.get("events"), raw.get("timeout_seconds", 10)
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise ValueError(f"{place}.name is {name!r}; it is lower-case letters, digits, - and _")
    if not isinstance(events, list) or not events or not all(isinstance(e, str) and e for e in events):
        raise ValueError(f"{place}.events is a list of starts of audit actions, such as promotion.")
    if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= 60:
        raise ValueError(f"{place}.timeout_seconds is above 0 and at most 60")
    file, variable = raw.get("secret_file"), raw.get("secret_env")
    if (file is None) == (variable is None):
        raise ValueError(f"{place} names either a secret_file or a secret_env")
    if variable is not None and not str(variable).startswith(HOOK_SECRET):
        raise ValueError(f"{place}.secret_env is {variable!r}; such a variable begins with {HOOK_SECRET}")
    return Receiver(
        name=name,
        url=_address(f"{place}.url", raw.get("url")),
        events=tuple(events),
        since=_since(place, raw["since"]) if "since" in raw else written,
        secret_file=settings.home / Path(file).expanduser() if file is not None else None,
        secret_env=str(variable or ""),
        timeout_seconds=float(timeout),
    )


def _address(place: str, url: Any) -> str:
    try:
        parts = urlsplit(url if isinstance(url, str) else "")
        sound = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        sound = False
    if not sound or any(c.isspace() or ord(c) < 32 for c in url) or parts.fragment:
        raise ValueError(f"{place} is no http or https address")
    if parts.username is not None or parts.password is not None:
        raise ValueError(f"{place} carries a user or a password; deliveries are signed instead")
    return str(url)


def _since(place: str, given: Any) -> datetime:
    try:
        moment = datetime.fromisoformat(given)
    except (TypeError, ValueError):
        raise ValueError(f"{place}.since is {given!r}; it is a date or a time in ISO form") from None
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
