"""A backup is the home of one moment, whole while a night writes; with a byte changed it becomes no home."""

from __future__ import annotations

import json
import os
import stat
import subprocess
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from app import reports
from pipeline import backup, home
from pipeline.config import Settings
from pipeline.errors import ConfigError, HomeDamaged, NotFound
from pipeline.governance import checkpoints
from pipeline.restore import restore
from tests.conftest import FIRST, SECOND, Cascade
from tests.faults.conftest import SCORETRACE, doctor
from tests.signing_off import at_the_home

Content = Callable[[Settings, date], str | None]


def copy_of(settings: Settings, place: Path, **options: bool) -> backup.Backup:
    _, engine = home.open_home(settings)
    return backup.back_up(settings, engine, place, **options)


def test_a_backup_becomes_the_same_home(cascade: Cascade, kept: Path, tmp_path: Path, content_of: Content) -> None:
    made = restore(kept, tmp_path / "again")
    settings = Settings.at(made.home)
    assert doctor(settings) == {}
    assert content_of(settings, FIRST) == cascade.content_sha256
    assert reports.published_scores(settings, FIRST, "account", 50) == reports.published_scores(
        cascade.settings, FIRST, "account", 50
    )
    assert stat.S_IMODE((settings.keys_dir / "signing.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(kept.stat().st_mode) == 0o700  # it holds the signing key


def test_while_a_night_runs_every_copy_is_a_home_of_one_moment(
    own_home: Settings, tmp_path: Path, content_of: Content
) -> None:
    copies: list[Path] = []
    with (own_home.home.parent / "night.log").open("w") as log:
        night = subprocess.Popen(
            [str(SCORETRACE), "nightly", "--as-of", str(SECOND)],
            env={**os.environ, "SCORETRACE_HOME": str(own_home.home)}, stdout=log, stderr=log,
        )  # fmt: skip
        while night.poll() is None:
            copies.append(copy_of(own_home, tmp_path / f"copy{len(copies)}", link=True).place)
    assert night.returncode == 0, (own_home.home.parent / "night.log").read_text()[-3000:]
    assert len(copies) >= 3
    seen = set()
    for number in sorted({0, len(copies) // 3, len(copies) * 2 // 3, len(copies) - 1}):
        settings = Settings.at(restore(copies[number], tmp_path / f"home{number}").home)
        faults = doctor(settings)
        assert set(faults) <= {"runs"}, faults  # the night that was under way is unfinished in it, and nothing else
        seen.add(content_of(settings, SECOND))
    assert seen <= {None, content_of(own_home, SECOND)}
    assert None in seen


@pytest.mark.parametrize("happens", ["a checkpoint", "another key"])
def test_what_is_written_while_files_are_copied_does_not_outrun_the_log(
    own_home: Settings, tmp_path: Path, happens: str
) -> None:
    _, engine = home.open_home(own_home)
    done: list[str] = []

    def meanwhile(line: str) -> None:
        if "files of the lake" not in line or done:
            return
        done.append(line)
        if happens == "a checkpoint":
            checkpoints.after_night(own_home, engine, actor="night-batch", progress=done.append)
        else:
            checkpoints.rotate_key(own_home, engine, actor=at_the_home())

    place = backup.back_up(own_home, engine, tmp_path / "copy", progress=meanwhile).place
    assert done
    assert doctor(Settings.at(restore(place, tmp_path / "again").home)) == {}


def test_a_restored_home_is_as_private_as_it_was(published: Settings, tmp_path: Path) -> None:
    for mode in (0o700, 0o750):
        published.home.chmod(mode)
        place = copy_of(published, tmp_path / f"copy{mode:o}", link=True).place
        again = restore(place, tmp_path / f"again{mode:o}").home
        assert stat.S_IMODE(again.stat().st_mode) == mode
    again.chmod(0o755)
    (fault,) = doctor(Settings.at(again))["modes"]
    assert "every user of the machine" in fault["says"]


def test_nothing_is_overwritten_and_nothing_lies_in_the_home(published: Settings, kept: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not empty"):
        restore(kept, published.home)
    with pytest.raises(ConfigError, match="not empty"):
        copy_of(published, kept)
    with pytest.raises(ConfigError, match="in the home itself"):
        copy_of(published, published.home / "backups" / "one")
    with pytest.raises(NotFound, match="no whole backup"):
        restore(published.home, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("file", ["control.sqlite", "lake/data", "archive", "keys/signing.pem"])
def test_a_byte_changed_in_a_backup_and_no_home_comes_of_it(published: Settings, tmp_path: Path, file: str) -> None:
    place = copy_of(published, tmp_path / "copy").place
    path = (
        place / file if (place / file).is_file() else next(p for p in sorted((place / file).rglob("*")) if p.is_file())
    )
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)
    with pytest.raises(HomeDamaged, match="SHA-256"):
        restore(place, tmp_path / "again")
    assert not [p for p in tmp_path.iterdir() if "again" in p.name]


def test_a_manifest_that_leads_out_of_the_backup_is_refused(published: Settings, tmp_path: Path) -> None:
    place = copy_of(published, tmp_path / "copy", link=True).place
    manifest = json.loads((place / backup.MANIFEST).read_text())
    manifest["files"]["../escaped"] = {"sha256": "0" * 64, "bytes": 0, "mode": 0o644}
    (place / backup.MANIFEST).write_text(json.dumps(manifest))
    with pytest.raises(HomeDamaged, match="outside"):
        restore(place, tmp_path / "again")


def test_links_to_another_disk_are_refused(published: Settings, small_disk: Callable[[int], Path]) -> None:
    place = small_disk(400_000_000) / "copy"
    with pytest.raises(ConfigError, match="another disk") as refusal:
        copy_of(published, place, link=True)
    assert "leave --link away" in refusal.value.next_step
    assert not list(place.parent.iterdir())


def test_a_copy_that_was_stopped_leaves_nothing(published: Settings, tmp_path: Path) -> None:
    def stop(line: str) -> None:
        if "registry" in line:
            raise KeyboardInterrupt

    _, engine = home.open_home(published)
    with pytest.raises(KeyboardInterrupt):
        backup.back_up(published, engine, tmp_path / "copy", progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_what_is_in_postgresql_is_said_to_be_elsewhere(published: Settings) -> None:
    shared = Settings.at(published.home, control_url="postgresql+psycopg://x", lake_catalog="postgres:dbname=x")
    assert backup.databases_elsewhere(shared) == ("control store", "lake catalog")
    assert backup.databases_elsewhere(published) == ()
