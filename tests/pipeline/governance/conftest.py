"""A control store of each kind, empty for every test: SQLite in a folder, PostgreSQL on a server of our own."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sqlalchemy import Engine, create_engine, text

from pipeline import control
from pipeline.config import Settings
from tests.postgres import binaries, server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[], str]]:
    """Makes a new, empty database on the session's server; returns its URL."""
    bin_dir = binaries()
    if bin_dir is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with server(bin_dir) as conninfo:
        parts = dict(pair.split("=") for pair in conninfo.split())
        base = f"postgresql+psycopg://{parts['user']}@{parts['host']}:{parts['port']}"
        admin = create_engine(f"{base}/{parts['dbname']}", isolation_level="AUTOCOMMIT")

        def new() -> str:
            name = f"t{uuid.uuid4().hex}"
            with admin.connect() as connection:
                connection.execute(text(f"CREATE DATABASE {name}"))
            return f"{base}/{name}"

        yield new
        admin.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    if request.param == "sqlite":
        return Settings.at(tmp_path / "home")
    return Settings.at(tmp_path / "home", control_url=request.getfixturevalue("postgresql")())


@pytest.fixture
def engine(settings: Settings) -> Iterator[Engine]:
    made = control.create(settings)
    yield made
    made.dispose()


@pytest.fixture
def sqlite_settings(tmp_path: Path) -> Settings:
    return Settings.at(tmp_path / "home")


@pytest.fixture
def sqlite_engine(sqlite_settings: Settings) -> Iterator[Engine]:
    made = control.create(sqlite_settings)
    yield made
    made.dispose()


@pytest.fixture
def postgres_engine(postgresql: Callable[[], str], tmp_path: Path) -> Iterator[Engine]:
    made = control.create(Settings.at(tmp_path / "home", control_url=postgresql()))
    yield made
    made.dispose()
