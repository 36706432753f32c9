"""A folder is there whole or not at all, whoever is killed while it is made."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path

import pytest

from pipeline.whole_folder import made_whole


def killed_while_making(place: Path) -> None:
    """A child of this process begins the folder and is killed before it ends."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        with made_whole(place) as partial:
            (partial / "half").write_text("of it")
            os.write(writing, b"!")
            signal.pause()
    os.read(reading, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    os.close(reading)
    os.close(writing)


def test_it_has_its_name_once_it_is_whole(tmp_path: Path) -> None:
    place = tmp_path / "new" / "copy"
    with made_whole(place) as partial:
        (partial / "file").write_text("all of it")
        assert not place.exists()
    assert [p.name for p in place.parent.iterdir()] == ["copy"]
    assert (place / "file").read_text() == "all of it"


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="stopped"), made_whole(tmp_path / "copy") as partial:
        (partial / "file").write_text("half of it")
        raise RuntimeError("stopped")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_goes_when_the_place_is_made_again(tmp_path: Path) -> None:
    place, others = tmp_path / "a[1]*", [tmp_path / "a1x", tmp_path / "a[1]*.2026"]
    for one in (place, *others):
        killed_while_making(one)
    assert len(list(tmp_path.iterdir())) == 3
    with made_whole(place):
        pass
    assert place.is_dir()
    left = sorted(p.name for p in tmp_path.iterdir() if p != place)
    assert len(left) == 2 and left[0].startswith(".a1x.") and left[1].startswith(".a[1]*.2026."), "of other places"


def test_what_is_being_made_is_left_alone(tmp_path: Path) -> None:
    at_work = tmp_path / f".copy.{socket.gethostname()}-{os.getppid()}.partial"  # by a process that is there
    elsewhere = tmp_path / f".copy.another-machine-{2**22 + 1}.partial"
    for folder in (at_work, elsewhere):
        folder.mkdir()
    with made_whole(tmp_path / "copy"):
        pass
    assert at_work.is_dir() and elsewhere.is_dir() and (tmp_path / "copy").is_dir()
