"""What every command prints with: text to a person, JSON to a program, progress and errors aside."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from pipeline.governance import access
from pipeline.governance.access import Actor

out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 240)
err = Console(stderr=True, highlight=False, soft_wrap=True)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]


def date_of(text: str | datetime) -> datetime:
    """A date of the command line. Raises BadParameter that says how one is written."""
    try:
        return text if isinstance(text, datetime) else datetime.strptime(text, "%Y-%m-%d")
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no date; next: write it as 2026-03-14") from None


DAY: Any = {"parser": date_of, "metavar": "YYYY-MM-DD"}
"""What makes an option a date."""
Day = Annotated[datetime, typer.Option(**DAY)]


def actor() -> Actor:
    """Who runs the command, on files that are theirs to read and write."""
    return access.owner(getpass.getuser(), datetime.now(UTC))


def progress(line: str) -> None:
    err.print(f"[dim]{datetime.now():%H:%M:%S}[/dim] {plain(line)}")


def say_error(message: str, next_step: str) -> None:
    try:
        err.print(f"[bold red]✕[/bold red] {plain(message)}")
        if next_step:
            err.print(f"  [bold]next:[/bold] {plain(next_step)}")
    except (MemoryError, ImportError):  # there is not even room to print in colour
        sys.stderr.write(f"✕ {message}\n  next: {next_step}\n")


def plain(text: str) -> str:
    """Text that rich prints as it is."""
    return text.replace("[", r"\[")


def print_json(value: Any) -> None:
    print(json.dumps(value, default=str, indent=2, ensure_ascii=False))


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(plain(cell) for cell in row))
    out.print(table)
