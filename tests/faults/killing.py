"""A night that is killed at a random moment, over and over, in homes that are copies of one prepared home.

One process loads everything and parses dbt once, then forks: a child runs the night and tells which task it is in, this
process kills it there, a second child runs it again, and a third one reads all the while. What this process itself must
never do is open DuckDB: its threads would not come along.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

from pipeline import home, lake, ledger, nightly
from pipeline.config import Settings
from pipeline.runs import RunLedger
from pipeline.score import content_sha256
from pipeline.transform import Warehouse
from tests.signing_off import at_the_home
from tests.untested import Untested

TASKS = ("land", "gate", "features", "score", "publish", "monitor")
SQLITE = (".sqlite", ".sqlite-wal", ".sqlite-shm")


@dataclass(frozen=True)
class Killed:
    """One trial: where the night was killed, what the next run published, and how often readers looked meanwhile."""

    task: str
    after: float  # seconds into the task
    survived: bool  # the task was over before it could be killed
    content: str
    reads: int


def fork_home(prepared: Path, folder: Path) -> Settings:
    """A copy of a home: its write-once files are linked, the rest is copied."""

    def copy(source: str, target: str) -> str:
        once = (
            f"{prepared}/lake/data/",
            f"{prepared}/archive/",
            f"{prepared}/extracts/",
            f"{prepared}/registry/artifacts/",
        )
        if source.startswith(once):
            os.link(source, target)
            return target
        return str(shutil.copy2(source, target))

    shutil.copytree(prepared, folder, copy_function=copy, ignore=shutil.ignore_patterns("work"))
    return Settings.at(folder)


class Nights:
    """Runs, kills and reads nights of one date in forks of this process.

    tests: with dbt's data tests, which write nothing and are half of a small night's time.
    """

    def __init__(self, prepared: Path, scratch: Path, as_of: date, *, tests: bool = False) -> None:
        self.prepared, self.scratch, self.as_of = prepared, scratch, as_of
        settings = Settings.at(prepared)
        from pipeline import portfolio

        self.warehouse = (Warehouse if tests else Untested)(settings, portfolio.load(settings.portfolio_dir))
        self.warehouse.manifest()  # parsed here once
        import lightgbm  # noqa: F401
        import mlflow.store.tracking.sqlalchemy_store  # noqa: F401

        self.seconds: dict[str, float] = {}
        self.expected = ""

    def undisturbed(self) -> str:
        """The content hash of a night that nobody disturbs; how long each task takes is kept."""
        settings = fork_home(self.prepared, self.scratch / "undisturbed")
        began: dict[str, float] = {}
        child, told = self._start(settings)
        for task in _lines(told):
            began[task] = time.monotonic()
        ended = time.monotonic()
        os.waitpid(child, 0)
        starts = [*(began[t] for t in TASKS), ended]
        self.seconds = {t: starts[i + 1] - starts[i] for i, t in enumerate(TASKS)}
        self.expected, self.watched = self._content(settings), self._watched(settings)
        shutil.rmtree(settings.home)
        return self.expected

    def trial(self, task: str, share: float) -> Killed:
        """Kill a night this share into a task, run it again, and check what readers saw; raises AssertionError."""
        settings = fork_home(self.prepared, self.scratch / "killed")
        with self._reader(settings) as reads:
            child, told = self._start(settings)
            wait = share * self.seconds[task]
            for name in _lines(told):
                if name == task:
                    time.sleep(wait)
                    break
            os.kill(child, signal.SIGKILL)
            _, status = os.waitpid(child, 0)
            os.close(told)
            survived = not os.WIFSIGNALED(status)
            before = self._content(settings)
            assert before in ("", self.expected), f"half a night was published: {before}"
            again, told = self._start(settings)
            list(_lines(told))
            _, status = os.waitpid(again, 0)
            assert status == 0, f"killed {wait:.2f} s into {task}, the night would not run again: {settings.home}"
            content, looked = self._content(settings), reads()
        assert content == self.expected, f"killed {wait:.2f} s into {task}: {content}, not {self.expected}"
        assert self._watched(settings) == self.watched, f"killed {wait:.2f} s into {task}: what was watched differs"
        shutil.rmtree(settings.home)
        return Killed(task, wait, survived, content, looked)

    def at_points(self) -> list[str]:
        """Kill a night in one home where it hurts most in each task, then let it run; returns the tasks it died in."""
        settings = fork_home(self.prepared, self.scratch / "points")
        with self._reader(settings) as reads:
            for task in POINTS:
                child, told = self._start(settings, task)
                reached = list(_lines(told))
                _, status = os.waitpid(child, 0)
                assert os.WIFSIGNALED(status), f"{task} was over before it was killed"
                assert reached[-1] == task, reached
                published = self.expected if task == "monitor" else ""
                assert self._content(settings) == published, f"half a night was published: killed in {task}"
            child, told = self._start(settings)
            list(_lines(told))
            _, status = os.waitpid(child, 0)
            assert status == 0, (settings.home / "night.log").read_text()[-3000:]
            assert reads() > 0
        assert (self._content(settings), self._watched(settings)) == (self.expected, self.watched)
        statuses = {r.status for r in ledger.runs(ledger.open_ledger(settings), since=self.as_of)}
        assert statuses == {"abandoned", "succeeded"}, statuses
        return list(POINTS)

    def _start(self, settings: Settings, point: str = "") -> tuple[int, int]:
        """Fork a child that runs the night; returns its id, and where it tells which task it begins.

        point: the task in which the child ends itself, at its worst moment.
        """
        reading, writing = os.pipe()
        child = os.fork()
        if child:
            os.close(writing)
            return child, reading
        os.close(reading)
        with _child(settings.home / "night.log"):
            portfolio, engine = home.open_home(settings)
            self.warehouse.settings = settings
            if point:
                POINTS[point]()
            nightly.run_night(
                settings, portfolio, engine, self.as_of, actor=at_the_home(), extracts=settings.extracts_dir,
                warehouse=self.warehouse, listeners=[_Teller(writing, point)],
            )  # fmt: skip
        raise AssertionError("unreachable")

    def _content(self, settings: Settings) -> str:
        engine = ledger.open_ledger(settings)
        found = ledger.publication_for(engine, self.as_of)
        engine.dispose()
        return found.content_sha256 if found else ""

    def _watched(self, settings: Settings) -> str:
        """A digest of the drift that is stored of the night, as a child reads it."""
        told = settings.home / "watched"
        child = os.fork()
        if not child:
            with _child(settings.home / "watched.log"), closing(lake.connect(settings)) as con:
                rows = [
                    con.execute(f"SELECT * FROM drift.{t} WHERE as_of_date = ? ORDER BY ALL", [self.as_of]).fetchall()
                    for t in ("counts", "statistics", "segment_statistics", "contributions")
                ]
                assert all(rows)
                told.write_text(hashlib.sha256(repr(rows).encode()).hexdigest())
        _, status = os.waitpid(child, 0)
        assert status == 0, (settings.home / "watched.log").read_text()[-2000:]
        return told.read_text()

    @contextmanager
    def _reader(self, settings: Settings) -> Iterator[Callable[[], int]]:
        """Read what is published, again and again: each time a whole night, byte for byte as it was published."""
        counted = settings.home / "reads.json"
        child = os.fork()
        if not child:
            with _child(settings.home / "reader.log"):
                _read_for_ever(settings, counted)
        try:
            yield lambda: int(json.loads(counted.read_text())) if counted.exists() else 0
            gone, _ = os.waitpid(child, os.WNOHANG)
            assert not gone, f"the reader saw what it should not: {(settings.home / 'reader.log').read_text()[-2000:]}"
        finally:
            try:
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
            except (ProcessLookupError, ChildProcessError):
                pass


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _dying(function: Callable[..., Any], calls_before: int) -> Callable[..., Any]:
    left = [calls_before]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        if not left[0]:
            _die()
        left[0] -= 1
        return function(*arguments, **options)

    return wrapped


def _while_models_build() -> None:
    """Some models are built, some are not yet."""
    invoke = Warehouse._invoke

    def invoked(self: Warehouse, command: str, *arguments: Any) -> Any:
        if command == "run":
            threading.Timer(1.5, _die).start()
        return invoke(self, command, *arguments)

    Warehouse._invoke = invoked  # type: ignore[method-assign]


def _between_models() -> None:
    """The accounts' scores are committed, the applications' are not."""
    nightly.score = _dying(nightly.score, 1)  # type: ignore[attr-defined]


def _before_the_pointer() -> None:
    """The marts are committed, the pointer still shows the night before."""
    RunLedger.publish = _dying(RunLedger.publish, 0)  # type: ignore[method-assign]


POINTS: dict[str, Callable[[], None]] = {
    "land": lambda: None,  # a moment after it began, as in gate and monitor: see ``_Teller``
    "gate": lambda: None,
    "features": _while_models_build,
    "score": _between_models,
    "publish": _before_the_pointer,
    "monitor": lambda: None,
}


class _Teller:
    def __init__(self, pipe: int, point: str) -> None:
        self.pipe, self.point = pipe, point

    def task_started(self, run_id: str, task: str, attempt: int) -> None:
        os.write(self.pipe, f"{task}\n".encode())
        if task == self.point and task in ("land", "gate", "monitor"):
            threading.Timer(0.15, _die).start()

    def task_finished(self, run_id: str, task: str, attempt: int, result: object, error: str | None) -> None:
        pass


def _read_for_ever(settings: Settings, counted: Path) -> None:
    engine, count = ledger.open_ledger(settings), 0
    while True:
        publication = ledger.latest_publication(engine)
        assert publication is not None
        with closing(lake.connect(settings, snapshot=publication.snapshot_id)) as con:
            content = content_sha256(con, (m.subject for m in publication.models), publication.as_of)
        assert content == publication.content_sha256, publication
        count += 1
        partial = counted.with_suffix(".new")
        partial.write_text(json.dumps(count))
        partial.replace(counted)
        time.sleep(0.5)


@contextmanager
def _child(log: Path) -> Iterator[None]:
    """A forked child's work; it never comes back into what its parent was doing."""
    code = 1
    try:
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(handle, 1)
        os.dup2(handle, 2)
        yield
        code = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(code)


def _lines(pipe: int) -> Iterator[str]:
    with os.fdopen(os.dup(pipe)) as told:
        for line in told:
            yield line.strip()


def drawn(seed: int, times: int) -> Iterator[tuple[str, float]]:
    """Tasks in turn, each at a random moment; the same seed gives the same moments."""
    chance = random.Random(seed)
    for number in range(times):
        yield TASKS[number % len(TASKS)], chance.random()
