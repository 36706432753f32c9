"""``make kill-commands TIMES=52``: commands that write a home or a copy of one, killed at a random moment.

Each time the command is run again in the same words, and what then stands must be what stands when nobody disturbs it:
the doctor finds nothing, every landed row is there once, every published night has its bytes, what was watched of it
and its alerts are the same, no model version is there twice, and a promotion is as far as its signatures let it.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from app.auditing import record
from pipeline import home, lake, ledger
from pipeline.config import Settings, prepare_process
from pipeline.doctor.examine import examine
from pipeline.errors import ScoretraceError
from pipeline.governance import identity, users
from pipeline.governance.approvals import Approvals
from pipeline.monitoring.alerts import alerts_of
from pipeline.registry import Registry
from pipeline.score import content_sha256
from pipeline.sql import ident, literals
from tests.conftest import SECOND, THIRD, make_cascade
from tests.faults.conftest import SCORETRACE
from tests.faults.killing import fork_home
from tests.signing_off import person

UNDER_WAY = {"runs", "writer"}
"""What the doctor may say of a home whose command was killed just now: that nobody ended what was begun."""
OF_THE_RUN = ("run_id", "stored_at", "load_id", "landed_at", "decided_at", "inputs_sha256")
DONE_ALREADY = (
    "is there already and not empty",
    "is requested already",
    "has signed it already",
    "is in force already",
)


def _nothing(_: Path) -> None:
    """What most commands need first."""


@dataclass(frozen=True)
class Command:
    """A command line over a folder of ``home``, ``backup`` and ``portfolio``; ``makes`` is the home it leaves,
    ``before`` what the folder needs first."""

    arguments: Callable[[Path], list[str]]
    makes: str = "home"
    before: Callable[[Path], None] = _nothing


def _lose_files(place: Path) -> None:
    """Half of the lake's files, as a disk loses them."""
    for number, path in enumerate(sorted((place / "home" / "lake" / "data").rglob("*.parquet"))):
        if number % 2:
            path.unlink()


_PROMOTION = re.compile(r"(?<=-\d-)[0-9a-f]{6}")  # the part of a promotion's id that is drawn
REQUESTER, SIGNED, SIGNER = "dana", "avery", "blake"
PASSWORD = "correct horse battery"
AGAIN = "pd_default/1"


def _requesters(place: Path) -> None:
    """Somebody who may request and two who may sign; the version that scored is withdrawn."""
    settings = Settings.at(place / "home")
    portfolio, engine = home.open_home(settings)
    hashed = identity.hash_password(REQUESTER, PASSWORD)
    for name, role in ((REQUESTER, "data_scientist"), (SIGNED, "approver"), (SIGNER, "approver")):
        users.add(engine, person("root", "admin"), name, [role], hashed, datetime.now(UTC), record)
    (place / "password").write_text(PASSWORD, encoding="utf-8")
    (place / "password").chmod(0o600)
    desk = Approvals(settings, engine, Registry(settings), portfolio)
    in_force = desk.book().in_force["pd_default"].promotion
    desk.withdraw(person("carol", "approver"), in_force, reason="to be signed once more")
    engine.dispose()


def _one_signature_short(place: Path) -> None:
    """A promotion that the next signature puts in force."""
    _requesters(place)
    settings = Settings.at(place / "home")
    portfolio, engine = home.open_home(settings)
    desk = Approvals(settings, engine, Registry(settings), portfolio)
    asked = desk.request(person(REQUESTER, "data_scientist"), "pd_default", 1, "once more")
    desk.sign(person(SIGNED, "approver"), asked.id, meaning="I approve this version", reason="once more")
    engine.dispose()


def _by(name: str, place: Path) -> list[str]:
    return ["--reason", "once more", "--as", name, "--password-file", str(place / "password")]


COMMANDS = {
    "land": Command(lambda place: ["land", "--load-date", str(THIRD)]),
    "backfill": Command(lambda _: ["backfill", "--from", str(SECOND), "--to", str(THIRD)]),
    "promotions request": Command(
        lambda place: ["promotions", "request", "pd_default", "1", *_by(REQUESTER, place)], before=_requesters
    ),
    "promotions sign": Command(
        lambda place: ["promotions", "sign", AGAIN, *_by(SIGNER, place)], before=_one_signature_short
    ),
    "maintain": Command(lambda _: ["maintain", "--yes"]),
    "backup": Command(lambda place: ["backup", str(place / "copy")]),
    "restore": Command(lambda place: ["restore", str(place / "backup"), str(place / "again")], makes="again"),
    "restore --damaged-only": Command(
        lambda place: ["restore", "--damaged-only", str(place / "backup"), str(place / "home")], before=_lose_files
    ),
    "retrain": Command(lambda _: ["retrain", "--model", "pd_default", "--as-of", str(SECOND)]),
    "init": Command(lambda place: ["init", "--portfolio", str(place / "portfolio")], makes="new"),
    "init of a home that is there": Command(lambda place: ["init", "--portfolio", str(place / "portfolio")]),
    "rotate-key": Command(lambda _: ["audit", "rotate-key"]),
    "monitor": Command(lambda _: ["monitor", "--as-of", str(SECOND)]),
}


class Commands:
    """Runs and kills one command after another, each in a copy of a prepared folder."""

    def __init__(self, prepared: Path, scratch: Path) -> None:
        self.prepared, self.scratch = prepared, scratch
        self.undisturbed: dict[str, tuple[float, Any]] = {}

    def trial(self, name: str, share: float) -> tuple[bool, float]:
        """Kill a command this share into its time, and run it again; returns whether it was killed, and when."""
        if name not in self.undisturbed:
            place = self._place(COMMANDS[name])
            took = self._run(name, place)
            self.undisturbed[name] = took, self._outcome(name, place)
            shutil.rmtree(place)
        seconds, expected = self.undisturbed[name]
        place = self._place(COMMANDS[name])
        child = self._start(name, place)
        wait = share * seconds
        try:
            child.wait(wait)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)
        killed = child.wait() == -signal.SIGKILL
        if killed and (place / "home" / "portfolio" / "portfolio.yml").is_file():
            said = {c.check for c in examine(Settings.at(place / "home")) if c.faults} - UNDER_WAY
            prepared = COMMANDS[name].before is not _nothing  # what that left is compared in the end
            assert prepared or not said, f"{name} killed after {wait:.2f} s: {said}, {place}"
        if killed or COMMANDS[name].makes == "home":
            self._run(name, place)
        outcome = self._outcome(name, place)
        assert outcome == expected, f"{name} killed after {wait:.2f} s: {outcome}, not {expected}; {place}"
        left = sorted(p.name for p in place.iterdir() if p.name.startswith("."))
        assert not left, f"{name} killed after {wait:.2f} s left {left} in {place}"
        shutil.rmtree(place)
        return killed, wait

    def _place(self, command: Command) -> Path:
        place = self.scratch / "killed"
        place.mkdir()
        fork_home(self.prepared / "home", place / "home")
        for folder in ("backup", "portfolio"):
            shutil.copytree(self.prepared / folder, place / folder, copy_function=os.link)
        command.before(place)
        return place

    def _start(self, name: str, place: Path) -> subprocess.Popen[bytes]:
        command = COMMANDS[name]
        at = place / ("home" if command.makes == "again" else command.makes)
        with (place / "log").open("ab") as log:
            return subprocess.Popen(
                [str(SCORETRACE), *command.arguments(place)], stdout=log, stderr=log, start_new_session=True,
                env={**os.environ, "SCORETRACE_HOME": str(at)},
            )  # fmt: skip

    def _run(self, name: str, place: Path) -> float:
        started = time.monotonic()
        child = self._start(name, place)
        code, told = child.wait(), (place / "log").read_text(encoding="utf-8")
        # A command that was done when it was killed has left what it leaves, and the next says so.
        assert code == 0 or any(words in told for words in DONE_ALREADY), f"{name} in {place}: {told[-2000:]}"
        assert "Traceback" not in told, told
        return time.monotonic() - started

    def _outcome(self, name: str, place: Path) -> dict[str, Any]:
        """What stands in the end, of a backup in the home that it restores to."""
        made = COMMANDS[name].makes
        if name == "backup":
            home_of_it = place / "of the copy"
            _scoretrace(Settings.at(home_of_it), "restore", str(place / "copy"), str(home_of_it))
            made = home_of_it.name
        settings = Settings.at(place / made)
        portfolio, engine = home.open_home(settings)
        try:
            registry = Registry(settings)
            versions = {m.name: [(v.version, v.digest) for v in registry.versions(m.name)] for m in portfolio.models}
            nights = {
                str(p.as_of): (p.content_sha256, _content(settings, p) == p.content_sha256)
                for p in ledger.publications(engine)
            }
            book = Approvals(settings, engine, registry, portfolio).book()
            promotions = [
                (p.model, p.version, [s.signer for s in p.signatures], p.promoted_by, p.closed)
                for p in book.promotions.values()
            ]
            scoring = {m.name: registry.production_version(m.name) for m in portfolio.models}
            told = {id_: alert.state for id_, alert in sorted(alerts_of(engine).items())}
        finally:
            engine.dispose()
        faults = {c.check: [_PROMOTION.sub("", f.says) for f in c.faults] for c in examine(settings) if c.faults}
        tables = _tables(settings)
        return {
            "faults": faults, "nights": nights, "versions": versions, "alerts": told, "tables": tables,
            "promotions": promotions, "scoring": scoring,
        }  # fmt: skip


def _tables(settings: Settings) -> dict[str, Any]:
    """Of every table of landed rows, drift and outcomes how many rows it has and a sum of their hashes, less when and
    by which run or load a row was stored."""
    with closing(lake.connect(settings)) as con:
        tables = con.execute(
            "SELECT table_schema, table_name FROM information_schema.tables "
            "WHERE table_catalog = ? AND table_schema IN ('raw', 'drift', 'outcomes') ORDER BY ALL", [lake.ALIAS]
        ).fetchall()  # fmt: skip
        found = {}
        for schema, table in tables:
            found[f"{schema}.{table}"] = con.execute(
                "SELECT count(*), sum(hash(r)::HUGEINT) FROM "
                f"(SELECT COLUMNS(c -> c NOT IN ({literals(OF_THE_RUN)})) FROM {ident(schema, table)}) r"
            ).fetchone()
        return found


def _content(settings: Settings, publication: ledger.Publication) -> str | None:
    """The hash of what readers of a published night get, from the lake; None where its snapshot is gone."""
    try:
        with closing(lake.connect(settings, snapshot=publication.snapshot_id)) as con:
            return content_sha256(con, (m.subject for m in publication.models), publication.as_of)
    except ScoretraceError:
        return None


def prepare(folder: Path) -> Path:
    """A home with two published nights and the extracts of a third, a backup of it, and its portfolio as the lender
    keeps it."""
    folder.mkdir()
    make_cascade(folder)
    settings = Settings.at(folder / "home")
    _scoretrace(settings, "nightly", "--as-of", str(SECOND))
    _scoretrace(settings, "backup", str(folder / "backup"))
    return folder


def _scoretrace(settings: Settings, *arguments: str) -> None:
    subprocess.run([str(SCORETRACE), *arguments], check=True, env={**os.environ, "SCORETRACE_HOME": str(settings.home)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=60)
    parser.add_argument("--seed", type=int, default=20260314)
    parser.add_argument("--only", choices=sorted(COMMANDS), help="this command alone")
    parser.add_argument("--prepared", type=Path, help="a folder made before, or where to keep the one that is made")
    options = parser.parse_args()
    prepare_process()
    chance = random.Random(options.seed)
    names = [options.only] if options.only else list(COMMANDS)
    with tempfile.TemporaryDirectory(
        prefix="scoretrace-kill-", dir=options.prepared.parent if options.prepared else None
    ) as scratch:
        folder = options.prepared or Path(scratch) / "prepared"
        commands = Commands(folder if (folder / "backup").is_dir() else prepare(folder), Path(scratch))
        killed, over, began = Counter[str](), Counter[str](), time.monotonic()
        for number in range(options.times):
            name = names[number % len(names)]
            dead, after = commands.trial(name, chance.uniform(0.2, 1))  # before that, Python loads
            (killed if dead else over)[name] += 1
            print(
                f"{number + 1:4} {name:30} {'killed' if dead else 'over'} at {after:.2f} s: as undisturbed", flush=True
            )
    counts = ", ".join(f"{n} {killed[n]}" for n in names)
    print(
        f"killed {sum(killed.values())} times ({counts}), over before the kill {sum(over.values())}; run again, each "
        f"left what it leaves undisturbed; {time.monotonic() - began:,.0f} s"
    )


if __name__ == "__main__":
    main()
