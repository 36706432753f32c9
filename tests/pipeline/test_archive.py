"""The archive: bytes by their SHA-256, whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import archive
from pipeline.config import Settings
from pipeline.errors import NotFound


@pytest.mark.parametrize("damage", [b"", b"SELECT", b"SELECT 2"])
def test_what_a_power_cut_left_in_its_place_is_written_again(tmp_path: Path, damage: bytes) -> None:
    settings = Settings.at(tmp_path / "home")
    digest = archive.keep(settings, b"SELECT 1")
    archive.path_of(settings, digest).write_bytes(damage)
    with pytest.raises(NotFound):
        archive.read(settings, digest)
    assert archive.keep(settings, b"SELECT 1") == digest
    assert archive.read(settings, digest) == b"SELECT 1"
    assert [p.name for p in archive.path_of(settings, digest).parent.iterdir()] == [digest]
