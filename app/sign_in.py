"""Signing in on the command line: ``--as NAME``, the password from the terminal or from a file that is private.

A password is never an argument: arguments are in the shell's history and in everybody's list of processes.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy import Engine

from app.auditing import record
from pipeline import private_file
from pipeline.config import Settings
from pipeline.errors import IdentityRefused
from pipeline.governance import identity
from pipeline.governance.access import Actor

As = Annotated[str | None, typer.Option("--as", help="Sign in as this user; the password is asked for.")]
PasswordFile = Annotated[
    Path | None,
    typer.Option(help="File with the password of --as in its first line; refused unless its mode is 0600."),
]


def signed_in(settings: Settings, engine: Engine, name: str | None, password_file: Path | None) -> Actor:
    """The user who signs in with ``--as``. Raises IdentityRefused when none is named or the password is wrong."""
    if not name:
        raise IdentityRefused(
            f"{settings.home} has users: this needs somebody who signs in", "run it again with --as NAME"
        )
    password = read_password(password_file) if password_file else ask(f"Password of {name}", "--password-file FILE")
    return identity.authenticate(engine, name, password, datetime.now(UTC), record=record)


def ask(prompt: str, otherwise: str, *, twice: bool = False) -> str:
    """A password from the terminal, unseen. Raises IdentityRefused where there is none to ask at."""
    if not sys.stdin.isatty():
        raise IdentityRefused("there is no terminal to ask for a password", f"give {otherwise} instead")
    return str(typer.prompt(prompt, hide_input=True, confirmation_prompt=twice, err=True))


def read_password(path: Path) -> str:
    """The first line of a file that belongs to whoever runs this and that nobody else may read.

    Raises IdentityRefused for any other file, and for an empty one.
    """
    password = private_file.first_line(path, "the password file", IdentityRefused)
    if not password:
        raise IdentityRefused(f"the password file {path} is empty", "write the password in its first line")
    return password


def write_password(path: Path, password: str) -> None:
    """A password in a new file that its owner alone can read. Raises IdentityRefused when it is there already."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except OSError as error:
        raise IdentityRefused(f"{path} cannot be made: {error.strerror}", "name a file that is not there") from error
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(password + "\n")
