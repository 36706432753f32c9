"""A folder is there whole or not at all, whoever is killed while it is made."""

from __future__ import annotations

import os
import signal
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
    place, other = tmp_path / "a[1]*", tmp_path / "a1x"
    killed_while_making(place)
    killed_while_making(other)
    left = {p.name.rpartition(".")[0].rpartition(".")[0] for p in tmp_path.iterdir()}
    assert left == {".a[1]*", ".a1x"}
    with made_whole(place):
        pass
    assert place.is_dir()
    # Of another place, whose name a pattern would take for this one's, nothing goes.
    assert [p.name.startswith(".a1x.") for p in tmp_path.iterdir() if p != place] == [True]


def test_what_is_being_made_is_left_alone(tmp_path: Path) -> None:
    with made_whole(tmp_path / "copy") as at_work:
        held = at_work.rename(tmp_path / ".copy.1.partial")  # as a process of another number would have named it
        with pytest.raises(OSError, match="another was faster"), made_whole(tmp_path / "copy"):
            assert held.is_dir()
            raise OSError("another was faster")
        held.rename(at_work)
    assert (tmp_path / "copy").is_dir()
