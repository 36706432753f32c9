"""Settings and portfolios: read once, checked whole, wrong keys named."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import home, portfolio
from pipeline.config import SHIPPED_PORTFOLIOS, Settings
from pipeline.errors import ConfigError
from tests.pipeline.lender import write_portfolio


def test_settings_come_from_the_environment_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SCORETRACE_HOME", str(tmp_path))
    monkeypatch.setenv("SCORETRACE_THREADS", "3")
    settings = Settings.load()
    assert (settings.home, settings.threads) == (tmp_path, 3)
    assert settings.control_url == f"sqlite:///{tmp_path}/control.sqlite"
    monkeypatch.setenv("SCORETRACE_THREADS", "many")
    with pytest.raises(ConfigError, match="SCORETRACE_THREADS is 'many'"):
        Settings.load()


@pytest.mark.parametrize("name", ["h?x=1", "h#1", "h%20"])
def test_a_home_whose_path_would_be_misread_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="in its path"):
        Settings.at(tmp_path / name)


@pytest.mark.parametrize("name", sorted(p.name for p in SHIPPED_PORTFOLIOS.iterdir() if p.is_dir()))
def test_shipped_portfolios_check(name: str) -> None:
    assert portfolio.load(portfolio.resolve(name)).name == name


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("id_type: VARCHAR", "id_type: UUID", "id_type is 'UUID'; it must be one of BIGINT, VARCHAR"),
        ("calendar: daily\n", "", "key 'calendar' is missing"),
        ("timezone: Europe/Berlin", "timezone: Mars/Olympus", "timezone 'Mars/Olympus' is not known"),
        ("C: 1.0", "C: 0.05", "the PD bounds must rise and the last must be 1.0"),
        ("subject: account", "subject: loan", "models.pd_default.subject is 'loan'"),
        ("floors:", "flours:", "flours"),
        ("gates: {volume_window: 10}", "gates: {volume_windwo: 10}", "volume_windwo"),
        ("name: harbor", "name: [", "cannot be read"),
    ],
)
def test_a_wrong_key_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    folder = write_portfolio(tmp_path / "lender")
    path = folder / "portfolio.yml"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(ConfigError, match=message):
        portfolio.load(folder)


def test_words_that_yaml_would_turn_stay_words(tmp_path: Path) -> None:
    loaded = portfolio.load(write_portfolio(tmp_path / "lender"))
    receipts = next(e for e in loaded.extracts if e.name == "receipts")
    assert list(receipts.columns) == ["no", "acct", "due", "paid", "amount"]


def test_a_home_keeps_to_its_lender(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path / "home")
    folder = write_portfolio(tmp_path / "lender")
    home.init(settings, folder)
    first = home.open_home(settings)[0].sha256
    path = folder / "portfolio.yml"
    path.write_text(
        path.read_text(encoding="utf-8").replace("volume_window: 10", "volume_window: 20"), encoding="utf-8"
    )
    home.init(settings, folder)
    assert home.open_home(settings)[0].gates.volume_window == 20
    assert home.open_home(settings)[0].sha256 != first
    with pytest.raises(ConfigError, match="holds the portfolio harbor"):
        home.init(settings, portfolio.resolve("cascade"))
    assert home.open_home(settings)[0].name == "harbor"


def test_an_init_that_was_killed_between_its_renames_has_lost_no_portfolio(tmp_path: Path) -> None:
    settings, folder = Settings.at(tmp_path / "home"), write_portfolio(tmp_path / "portfolio")
    home.init(settings, folder)
    settings.portfolio_dir.rename(settings.home / "portfolio.old")
    with pytest.raises(ConfigError, match="holds the portfolio harbor"):
        home.init(settings, portfolio.resolve("cascade"))
    assert portfolio.load(settings.portfolio_dir).name == "harbor"
    home.init(settings, folder)
    assert sorted(p.name for p in settings.home.glob("portfolio*")) == ["portfolio"]


def test_what_is_no_home_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a Scoretrace home") as caught:
        home.open_home(Settings.at(tmp_path / "nothing"))
    assert "scoretrace init" in caught.value.next_step
    with pytest.raises(ConfigError, match="neither a shipped portfolio nor a folder"):
        portfolio.resolve("nobody")
