"""A home: the one folder with portfolio, lake, control store, registry, archive and key. Made once, opened often."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from sqlalchemy import Engine

from pipeline import control, lake, portfolio
from pipeline.config import Settings
from pipeline.errors import ConfigError
from pipeline.governance import audit, coverage, keys
from pipeline.lease import writer_lease
from pipeline.portfolio import Portfolio


def init(
    settings: Settings,
    portfolio_folder: Path,
    *,
    actor: str = "init",
    taken_on_record: Callable[[Mapping[str, int]], None] = lambda _: None,
) -> Portfolio:
    """Make a home for a portfolio, or take over the changes of the same portfolio's folder.

    taken_on_record: told how many rows of which tables the audit log covers from now on that were there before it did.
    Raises ConfigError, and changes nothing, when the folder does not check or the home holds another lender.
    """
    incoming, outgoing = settings.home / "portfolio.new", settings.home / "portfolio.old"
    if outgoing.is_dir() and not settings.portfolio_dir.exists():  # an init was killed between its two renames
        outgoing.rename(settings.portfolio_dir)
    checked = portfolio.load(portfolio_folder)
    if (settings.portfolio_dir / "portfolio.yml").is_file():
        present = portfolio.load(settings.portfolio_dir)
        if (present.name, present.id_type) != (checked.name, checked.id_type):
            raise ConfigError(
                f"{settings.home} holds the portfolio {present.name} (ids {present.id_type}), not {checked.name} "
                f"(ids {checked.id_type})",
                "set SCORETRACE_HOME to another folder for another lender",
            )
    settings.home.mkdir(parents=True, exist_ok=True, mode=0o750)  # it holds personal data
    for folder in (settings.archive_dir, settings.registry_dir, settings.extracts_dir, settings.work_dir):
        folder.mkdir(parents=True, exist_ok=True)
    engine = control.create(settings)
    with writer_lease(settings, engine, "init"):
        lake.create(settings, checked.id_type)
        if portfolio_folder.resolve() != settings.portfolio_dir.resolve():
            for leftover in (incoming, outgoing):
                shutil.rmtree(leftover, ignore_errors=True)
            incoming.mkdir()
            for path in portfolio.files_of(portfolio_folder):
                shutil.copy2(path, incoming)
            if settings.portfolio_dir.exists():
                settings.portfolio_dir.rename(outgoing)
            incoming.rename(settings.portfolio_dir)
            shutil.rmtree(outgoing, ignore_errors=True)
        if key_id := keys.create(settings.keys_dir):
            audit.append(engine, actor=actor, action="key.created", subject=f"key:{key_id}", detail={})
        if taken := coverage.begin(engine, actor=actor):
            taken_on_record(taken)
    engine.dispose()
    return portfolio.load(settings.portfolio_dir)


def open_home(settings: Settings) -> tuple[Portfolio, Engine]:
    """The portfolio and the control store of an existing home. Raises ConfigError naming the command that makes one."""
    if not (settings.portfolio_dir / "portfolio.yml").is_file():
        raise ConfigError(
            f"{settings.home} is not a Scoretrace home",
            "run `scoretrace init --portfolio cascade` first, or set SCORETRACE_HOME to an existing home",
        )
    control.require_store(settings)
    engine = control.open_store(settings)
    control.require_log(engine, settings.home)
    return portfolio.load(settings.portfolio_dir), engine
