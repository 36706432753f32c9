"""The demonstration refuses a book that it could not train on, before it makes anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.demo import SMALLEST, run_demo
from pipeline.config import Settings
from pipeline.errors import ConfigError
from tests.signing_off import at_the_home


def test_a_book_too_small_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="too few defaults") as caught:
        run_demo(Settings.at(tmp_path / "home"), SMALLEST - 1, actor=at_the_home(), progress=print)
    assert f"--accounts {SMALLEST}" in caught.value.next_step
    assert list(tmp_path.iterdir()) == []
