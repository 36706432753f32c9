"""Who somebody is: a person that an identity provider (OpenID Connect) vouches for, from the claims of their ID token.

The token's signature, issuer and audience were checked by whoever received it; Streamlit does so at sign-in. It does
not look at the expiry again afterwards, and its cookie lives for 30 days: ``actor_from_claims`` does, on every call.
"""

from __future__ import annotations

import json
import math
import unicodedata
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pipeline.errors import ConfigError, IdentityRefused
from pipeline.governance.access import PERSONAL_ROLES, Actor

_SKEW = timedelta(seconds=60)  # two clocks differ
_AGAIN = "sign out and in again; if it stays so, ask whoever runs the identity provider"


def actor_from_claims(claims: Mapping[str, Any], mapping: Mapping[str, str], now: datetime) -> Actor:
    """The person of an ID token's claims, with the roles that ``mapping`` (group → role) gives their groups.

    Named by e-mail address, or by ``sub`` where there is none or the provider says that it is not verified: of the
    rest, a person may choose much. ``authenticated_at`` is ``auth_time``, or ``iat`` where the provider does not
    tell it. A person none of whose groups is mapped has no role, and may nothing.

    Raises IdentityRefused when ``exp`` is missing or past, when the token is not valid yet, tells no time of
    sign-in or one to come, or names nobody.
    """
    expires = _time(claims, "exp")
    if expires is None:
        raise IdentityRefused("the sign-in has no time of expiry (claim exp)", _AGAIN)
    if expires <= now:
        raise IdentityRefused(f"the sign-in expired at {expires:%Y-%m-%d %H:%M} UTC", "sign in again")
    authenticated = _time(claims, "auth_time") or _time(claims, "iat")
    if authenticated is None:
        raise IdentityRefused("the sign-in does not tell when it took place (claims auth_time, iat)", _AGAIN)
    if max(authenticated, _time(claims, "nbf") or authenticated) > now + _SKEW:
        raise IdentityRefused("the sign-in lies in the future (claims auth_time, iat, nbf)", _AGAIN)
    identifier = _text(claims.get("sub"))
    mail = _text(claims.get("email")).casefold() if claims.get("email_verified", True) is True else ""
    if not identifier:
        raise IdentityRefused("the sign-in names nobody (claim sub)", _AGAIN)
    roles = frozenset(mapping[group] for group in _groups(claims.get("groups")) if group in mapping)
    subject = f"{_text(claims.get('iss'))}|{identifier}"
    return Actor(mail or identifier, roles, "oidc", authenticated, subject)


def read_group_roles(path: Path) -> dict[str, str]:
    """Which role each group of the identity provider has: a JSON object, ``{"risk-approvers": "approver"}``.

    Raises ConfigError when the file is missing, is not such an object, or names a role that no person can hold.
    """
    following = f'write it as {{"group": "role"}}, the roles being {", ".join(PERSONAL_ROLES)}'
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"the roles of the identity provider's groups cannot be read: {path}: {error}", following
        ) from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} is no JSON object of group and role", following)
    if odd := sorted(f"{group}: {role}" for group, role in found.items() if role not in PERSONAL_ROLES):
        raise ConfigError(f"{path} gives what is no role of a person ({'; '.join(odd)})", following)
    return found


def _time(claims: Mapping[str, Any], name: str) -> datetime | None:
    """A claim of seconds since 1970. Anything that is not such a number is as good as missing."""
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    try:
        return datetime.fromtimestamp(value, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _groups(value: Any) -> tuple[str, ...]:
    """The groups claim: a list of names, or one name."""
    names = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else []
    return tuple(name for name in names if isinstance(name, str))


def _text(value: Any) -> str:
    """A claim as one line of text: no control or invisible formatting characters, which could fake a line of a log
    or turn a name around; at most 200 characters."""
    if not isinstance(value, str):
        return ""
    kept = "".join(" " if c.isspace() else c for c in value if c.isspace() or unicodedata.category(c)[0] != "C")
    return " ".join(kept.split())[:200]
