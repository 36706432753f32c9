"""The expensive fixture, built once a session: a small Cascade home with approved models and one published night."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import hypothesis
import pytest

from pipeline.config import SHIPPED_PORTFOLIOS, Settings, prepare_process

prepare_process()
# Machines differ and share their cores: a law is checked for its truth, not for its speed.
hypothesis.settings.register_profile("scoretrace", deadline=None)
hypothesis.settings.load_profile("scoretrace")

EVE, FIRST, SECOND, THIRD = (date(2026, 3, day) for day in (11, 12, 13, 14))


@dataclass(frozen=True)
class Cascade:
    """A home whose first night is published; the extracts of two more nights wait in its extracts folder."""

    settings: Settings
    content_sha256: str

    def copy(self, folder: Path) -> Settings:
        """The same home elsewhere, to be changed at will."""
        shutil.copytree(self.settings.home, folder)
        return Settings.at(folder)


@pytest.fixture(scope="session")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    from pipeline import home, lake, synth
    from pipeline.land import land
    from pipeline.nightly import run_night
    from pipeline.promotion import promote
    from pipeline.registry import Registry
    from pipeline.retrain import run_retrain
    from pipeline.transform import Warehouse

    folder = tmp_path_factory.mktemp("cascade")
    shutil.copytree(SHIPPED_PORTFOLIOS / "cascade", folder / "portfolio")
    yml = folder / "portfolio" / "portfolio.yml"
    # Fewer cohorts than the shipped lender trains on: the way is the same, and shorter.
    yml.write_text(re.sub(r"cohorts: 6", "cohorts: 3", yml.read_text(encoding="utf-8")), encoding="utf-8")
    settings = Settings.at(folder / "home")
    portfolio = home.init(settings, folder / "portfolio")
    _, engine = home.open_home(settings)
    synth.generate(4_000, 26, settings.extracts_dir, nights=3, end=THIRD)
    with closing(lake.connect(settings, read_only=False)) as con:
        land(con, portfolio, EVE, settings.extracts_dir / "history")
    warehouse, registry = Warehouse(settings, portfolio), Registry(settings)
    for spec in portfolio.models:
        outcome = run_retrain(settings, portfolio, engine, spec, EVE, actor="trainer", warehouse=warehouse)
        assert outcome.version is not None, [vars(c) for c in outcome.checks]
        promote(
            settings,
            engine,
            registry,
            spec.name,
            outcome.version.version,
            actor="approver",
            reason="first of the tests",
        )
    report = run_night(
        settings, portfolio, engine, FIRST, actor="engineer", extracts=settings.extracts_dir, warehouse=warehouse
    )
    return Cascade(settings, report.content_sha256)


@pytest.fixture
def published(cascade: Cascade) -> Settings:
    """The shared home itself, for tests that only read."""
    return cascade.settings


@pytest.fixture
def own_home(cascade: Cascade, tmp_path: Path) -> Settings:
    """A copy of the shared home that a test may change."""
    return cascade.copy(tmp_path / "home")


@pytest.fixture
def content_of() -> Callable[[Settings, date], str | None]:
    """The content hash that readers see for an as-of date, or None."""
    from pipeline import ledger

    def read(settings: Settings, as_of: date) -> str | None:
        found = ledger.publication_for(ledger.open_ledger(settings), as_of)
        return found.content_sha256 if found else None

    return read
