"""The commands of ``scoretrace user``: who there is, and what they may do."""

from __future__ import annotations

import getpass
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine

from app.auditing import record
from app.console import JsonFlag, out, plain, print_json, print_table
from app.sign_in import As, PasswordFile, ask, signed_in, write_password
from pipeline import control
from pipeline.config import Settings
from pipeline.errors import IdentityRefused
from pipeline.governance import guard, identity
from pipeline.governance import users as book
from pipeline.governance.access import PERSONAL_ROLES, Actor

users = typer.Typer(no_args_is_help=True, help="Who may sign in, and what they may do.")

Name = Annotated[str, typer.Argument(help="The user's name; best their e-mail address.")]
Roles = Annotated[list[str], typer.Option("--role", help=f"Repeatable: {', '.join(PERSONAL_ROLES)}.")]
Generate = Annotated[bool, typer.Option("--generate", help="Make the password and print it, once.")]


@users.command()
def add(
    name: Name,
    role: Roles,
    generate: Generate = False,
    to: Annotated[Path | None, typer.Option(help="Make the password and write it to this new file, mode 0600.")] = None,
    sign_in_as: As = None,
    password_file: PasswordFile = None,
) -> None:
    """Add a user. The first administrator is made by the owner of the home; then it takes an administrator."""
    settings, engine = _home()
    by = _manager(settings, engine, sign_in_as, password_file)
    guard.require(engine, by, "user.manage", f"user:{name}")
    if name in book.all_users(engine):  # before a password is asked for
        raise IdentityRefused(f"there is a user {name!r} already", f"`scoretrace user roles {name} --role …`")
    password = _new_password(name, generate or to is not None)
    hashed = identity.hash_password(name, password)
    if to is not None:
        write_password(to, password)
    book.add(engine, by, name, role, hashed, _now(), record)
    out.print(plain(f"{name} may sign in as {', '.join(sorted(set(role)))}"))
    _show(password, generate and to is None)
    if by.method == "home":
        out.print("from now on the portal asks for a sign-in")
        if "admin" not in role:
            out.print("next: make an administrator, `scoretrace user add NAME --role admin --generate`")


@users.command("list")
def list_users(sign_in_as: As = None, password_file: PasswordFile = None, as_json: JsonFlag = False) -> None:
    """Who there is, with which roles, and who is locked or disabled."""
    settings, engine = _home()
    guard.require(engine, _manager(settings, engine, sign_in_as, password_file), "user.manage", "user:all")
    now = _now()
    found = sorted(book.all_users(engine).values(), key=lambda u: u.name)
    if as_json:
        print_json([_facts(user, now) for user in found])
        return
    columns = ("user", "roles", "standing", "last signed in", "added")
    rows = [
        (
            user.name,
            ", ".join(sorted(user.roles)),
            _standing(user, now),
            f"{user.signed_in_at:%Y-%m-%d %H:%M} UTC" if user.signed_in_at else "–",
            f"{user.added_at:%Y-%m-%d}",
        )
        for user in found
    ]
    print_table(columns, rows)
    if not found:
        out.print("next: scoretrace user add NAME --role admin --generate")


@users.command()
def disable(name: Name, sign_in_as: As = None, password_file: PasswordFile = None) -> None:
    """Shut a user out, at once: an open session of theirs ends with its next click."""
    settings, engine = _home()
    by = _manager(settings, engine, sign_in_as, password_file)
    book.set_disabled(engine, by, name, True, _now(), record)
    out.print(plain(f"{name} can no longer sign in"))


@users.command()
def enable(name: Name, sign_in_as: As = None, password_file: PasswordFile = None) -> None:
    """Let a disabled or locked user in again."""
    settings, engine = _home()
    by = _manager(settings, engine, sign_in_as, password_file)
    book.set_disabled(engine, by, name, False, _now(), record)
    out.print(plain(f"{name} may sign in again"))


@users.command()
def roles(name: Name, role: Roles, sign_in_as: As = None, password_file: PasswordFile = None) -> None:
    """Give a user these roles and no others."""
    settings, engine = _home()
    by = _manager(settings, engine, sign_in_as, password_file)
    book.set_roles(engine, by, name, role, _now(), record)
    out.print(plain(f"{name} is {', '.join(sorted(set(role)))} from now on"))


@users.command()
def passwd(name: Name, generate: Generate = False, sign_in_as: As = None, password_file: PasswordFile = None) -> None:
    """Set a password: one's own with --as oneself, anybody's as an administrator. It ends their sessions."""
    settings, engine = _home()
    by = _manager(settings, engine, sign_in_as, password_file)
    if by.name != name:
        guard.require(engine, by, "user.manage", f"user:{name}")
    book.find(engine, name)
    password = _new_password(name, generate)
    hashed = identity.hash_password(name, password)
    book.set_password(engine, by, name, hashed, _now(), record)
    out.print(plain(f"{name} has a new password"))
    _show(password, generate)


def _home() -> tuple[Settings, Engine]:
    """The home and its control store, with the tables that an older home lacks."""
    from pipeline.home import open_home

    settings = Settings.load()
    open_home(settings)[1].dispose()
    return settings, control.create(settings)


def _manager(settings: Settings, engine: Engine, name: str | None, password_file: Path | None) -> Actor:
    """Who acts: the user of ``--as``; without one, and while no administrator could sign in, the home's owner."""
    if name:
        return signed_in(settings, engine, name, password_file)
    if any("admin" in user.roles and not user.disabled for user in book.all_users(engine).values()):
        raise IdentityRefused(
            "this home has an administrator: managing users takes a sign-in", "run it again with --as NAME"
        )
    owner = settings.home.stat().st_uid
    if os.geteuid() not in (0, owner):
        raise IdentityRefused(
            f"only the owner of {settings.home} (user id {owner}) can make its first administrator",
            "run it as that user of the machine",
        )
    return Actor(f"{getpass.getuser()} (owner of the home)", frozenset({"admin"}), "home", _now())


def _new_password(name: str, generate: bool) -> str:
    return identity.generate_password() if generate else ask(f"New password of {name}", "--generate", twice=True)


def _show(password: str, generate: bool) -> None:
    if generate:
        out.print(f"password: {password}")
        out.print("it is kept nowhere: hand it over now, and have it changed with `scoretrace user passwd`")


def _standing(user: book.User, now: datetime) -> str:
    standing = user.standing(now)
    return f"locked until {user.locked_until:%H:%M} UTC" if standing == "locked" else standing


def _facts(user: book.User, now: datetime) -> dict[str, object]:
    """What may be told of a user: everything but the hash."""
    return {
        "name": user.name,
        "roles": sorted(user.roles),
        "standing": user.standing(now),
        "failures": user.tries,
        "locked_until": user.locked_until,
        "added_at": user.added_at,
        "password_at": user.password_at,
        "signed_in_at": user.signed_in_at,
    }


def _now() -> datetime:
    return datetime.now(UTC)
