"""The demonstration's people: who requests, who signs, who looks. Their passwords are made here and kept in the home,
in a file that its owner alone can read; there is no default password anywhere."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine

from app.auditing import record
from app.sign_in import read_password, write_password
from pipeline.config import Settings
from pipeline.governance import identity, users
from pipeline.governance.access import Actor
from pipeline.governance.approvals import Approvals

PEOPLE = {
    "ada": ("admin",),
    "dana": ("data_scientist",),
    "avery": ("approver",),
    "blake": ("approver",),
    "quinn": ("analyst",),
}


def make(settings: Settings, engine: Engine) -> Path:
    """Make the users that are missing; returns the folder with a password file for each. Safe to run again."""
    folder = settings.home / "demo-users"
    folder.mkdir(mode=0o700, exist_ok=True)
    known = users.all_users(engine)
    now = datetime.now(UTC)
    owner = Actor("owner of the home", frozenset({"admin"}), "home", now)
    for name, roles in PEOPLE.items():
        if name in known:
            continue
        password = identity.generate_password()
        path = folder / name
        path.unlink(missing_ok=True)
        write_password(path, password)
        users.add(engine, owner, name, roles, identity.hash_password(name, password), now, record)
    return folder


def person(engine: Engine, folder: Path, name: str) -> Actor:
    """One of them, signed in with the password of this moment."""
    return identity.authenticate(engine, name, read_password(folder / name), datetime.now(UTC), record=record)


def ask(desk: Approvals, folder: Path, model: str, version: int) -> None:
    """Request a version as the one who trained it; the others have to decide."""
    reason = "trained with a month of outcomes more; not worse than the version in force on the same held-out cohort"
    desk.request(person(desk.engine, folder, "dana"), model, version, reason)


def sign_off(desk: Approvals, folder: Path, model: str, version: int) -> None:
    """Request, challenge and sign a version as the demonstration's people, each with their own password."""

    waiting = [p for p in desk.book().of_model(model) if p.version == version and not p.closed]
    reason = "first model of the demonstration, floors passed"
    promotion = waiting[0] if waiting else desk.request(person(desk.engine, folder, "dana"), model, version, reason)
    signed = {s.signer for s in promotion.signatures}
    for name in ("avery", "blake"):
        if name not in signed and not desk.promotion(promotion.id).closed:
            desk.sign(
                person(desk.engine, folder, name),
                promotion.id,
                meaning="I approve this version for scoring",
                reason="floors passed on the held-out cohorts; card and plots reviewed",
            )
