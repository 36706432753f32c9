"""A backup of the shared home, the command line as a process of its own, and a disk of any size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import Settings
from pipeline.doctor.examine import examine
from tests.conftest import Cascade, made_once

SCORETRACE = Path(sys.executable).with_name("scoretrace")


def call(settings: Settings, *arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a command on a home; whatever comes out, it is no traceback."""
    environment = {**os.environ, "SCORETRACE_HOME": str(settings.home), **options.pop("env", {})}
    done = subprocess.run(
        [str(SCORETRACE), *arguments], env=environment, capture_output=True, text=True, timeout=500, **options
    )
    assert "Traceback" not in done.stderr + done.stdout, done.stderr
    return done


def doctor(settings: Settings) -> dict[str, list[dict[str, str]]]:
    """Check → its faults, of the checks that found any."""
    return {c.check: [vars(f) for f in c.faults] for c in examine(settings) if c.faults}


def doctor_by_hand(settings: Settings) -> dict[str, list[dict[str, str]]]:
    """The same by the command, whose exit code says the same."""
    done = call(settings, "doctor", "--json")
    report = json.loads(done.stdout)
    faults = {c["check"]: c["faults"] for c in report["checks"] if c["faults"]}
    assert (done.returncode, report["ok"]) == ((1, False) if faults else (0, True)), done.stderr
    return faults


@pytest.fixture(scope="session")
def kept(cascade: Cascade, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A backup of the shared home."""

    def make(folder: Path) -> str:
        done = call(cascade.settings, "backup", str(folder / "copy"))
        assert done.returncode == 0, done.stderr
        return done.stdout

    folder, _ = made_once(tmp_path_factory, "kept", make)
    return folder / "copy"


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[int], Path]]:
    """Mounts a disk of so many bytes and returns its folder; needs root."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int) -> Path:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", "-l", str(place)], capture_output=True)


@contextmanager
def remounted(place: Path, option: str) -> Iterator[None]:
    """The disk with another option, ``ro`` say, and then as before."""
    subprocess.run(["mount", "-o", f"remount,{option}", str(place)], check=True)
    yield
    subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
