"""The expensive things, made once a run however many processes share it: a small Cascade home with approved models
and one published night, and the parsed dbt project."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest

from pipeline.config import SHIPPED_PORTFOLIOS, Settings, prepare_process

if TYPE_CHECKING:
    from dbt.contracts.graph.manifest import Manifest

prepare_process()
# Machines differ and share their cores: a law is checked for its truth, not for its speed.
hypothesis.settings.register_profile("scoretrace", deadline=None)
hypothesis.settings.register_profile("long", deadline=None, max_examples=3_000)  # pytest --hypothesis-profile=long
hypothesis.settings.load_profile("scoretrace")


def examples(few: int) -> hypothesis.settings:
    """As many examples as an ordinary run has time for; all of them under the profile ``long``."""
    long = hypothesis.settings.default.max_examples >= 3_000
    quiet = [hypothesis.HealthCheck.function_scoped_fixture, hypothesis.HealthCheck.too_slow]
    return hypothesis.settings(deadline=None, suppress_health_check=quiet, **({} if long else {"max_examples": few}))


EVE, FIRST, SECOND, THIRD = (date(2026, 3, day) for day in (11, 12, 13, 14))


@dataclass(frozen=True)
class Cascade:
    """A home whose first night is published; the extracts of two more nights wait in its extracts folder."""

    settings: Settings
    content_sha256: str

    def copy(self, folder: Path) -> Settings:
        """The same home elsewhere, to be changed at will."""
        return Settings.at(copy_home(self.settings.home, folder))


def copy_home(home: Path, to: Path) -> Path:
    """A copy of a home that others may be reading: SQLite's side files come and go with its readers."""

    def copy(source: str, target: str) -> str:
        try:
            return str(shutil.copy2(source, target))
        except FileNotFoundError:
            if not source.endswith(("-shm", "-wal")):
                raise
            return target

    return Path(shutil.copytree(home, to, copy_function=copy))


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], str]) -> tuple[Path, str]:
    """A folder that one of the run's processes fills and the others wait for, and the word that ``make`` left of it."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    done = folder.with_suffix(".done")
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)  # of a process that failed halfway
            folder.mkdir()
            done.write_text(make(folder), encoding="utf-8")
    return folder, done.read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Cascade:
    folder, content_sha256 = made_once(tmp_path_factory, "cascade", make_cascade)
    return Cascade(Settings.at(folder / "home"), content_sha256)


def make_cascade(folder: Path) -> str:
    """Make the home of the ``cascade`` fixture in the folder; returns the content hash of its first night."""
    from pipeline import home, lake, synth
    from pipeline.land import land
    from pipeline.nightly import run_night
    from pipeline.registry import Registry
    from pipeline.retrain import run_retrain
    from pipeline.transform import Warehouse
    from tests.signing_off import at_the_home, sign_off

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
        outcome = run_retrain(settings, portfolio, engine, spec, EVE, actor=at_the_home("trainer"), warehouse=warehouse)
        assert outcome.version is not None, [vars(c) for c in outcome.checks]
        sign_off(settings, engine, registry, portfolio, spec.name, outcome.version.version)
    report = run_night(
        settings, portfolio, engine, FIRST, actor=at_the_home(), extracts=settings.extracts_dir, warehouse=warehouse
    )
    return report.content_sha256


@pytest.fixture(scope="session", autouse=True)
def parsed_once() -> Iterator[None]:
    """Parsing the dbt project takes seconds and gives the same for every home with the same constants: what one
    warehouse of a process has parsed, the next ones take a copy of. Processes of their own still parse."""
    from pipeline.transform import Warehouse

    parse, parsed = Warehouse._project, dict[str, "Manifest"]()

    def project(warehouse: Warehouse) -> Manifest:
        if warehouse._parsed is None:
            constants = json.dumps(warehouse._constants(), sort_keys=True)
            if constants not in parsed:
                # Kept as parsed: a warehouse's own manifest takes up what its builds compile.
                parsed[constants] = parse(warehouse).deepcopy()
            warehouse._parsed = parsed[constants].deepcopy()
        return warehouse._parsed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Warehouse, "_project", project)
        yield


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
