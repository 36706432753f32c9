"""Whatever breaks: what is wrong is named, with its id and the next command; nothing wrong is published; the way back
that the message names works."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import insert

from pipeline import archive, control, home, lake_files, ledger, portfolio
from pipeline.backup import MANIFEST
from pipeline.config import Settings
from pipeline.doctor import archived
from pipeline.doctor.examine import examine
from pipeline.faults import explained
from pipeline.governance import audit, canonical_json, chain
from pipeline.governance.approvals import Approvals
from pipeline.registry import Registry
from pipeline.transform import Warehouse
from tests.conftest import FIRST, SECOND, Cascade
from tests.faults.conftest import SCORETRACE, call, doctor, doctor_by_hand, remounted
from tests.signing_off import person

Content = Callable[[Settings, date], str | None]


def refused(settings: Settings, *said: str, **options: object) -> str:
    """Run the night, which must stop, saying all of this; nothing may be published by it."""
    done = call(settings, "nightly", "--as-of", str(SECOND), **options)
    told = " ".join(done.stderr.split())
    assert done.returncode == 1, done.stderr[-3000:]
    for words in said:
        assert words in told, told[-3000:]
    assert "next:" in told
    return told


def still_as_it_was(settings: Settings, cascade: Cascade, content_of: Content) -> None:
    assert content_of(settings, SECOND) is None
    assert content_of(settings, FIRST) == cascade.content_sha256


def a_live_file(settings: Settings, schema: str = "raw", table: str = "loan_servicing") -> Path:
    files = lake_files.named_in(settings.lake_catalog)
    found = [f for f in files if f.live and (f.schema, f.table) == (schema, table)]
    return lake_files.path_of(settings, max(found, key=lambda f: f.bytes))


def test_a_whole_home_is_found_whole(published: Settings) -> None:
    assert doctor_by_hand(published) == doctor(published) == {}


def test_a_decision_is_told_and_is_no_fault(own_home: Settings) -> None:
    portfolio, engine = home.open_home(own_home)
    desk = Approvals(own_home, engine, Registry(own_home), portfolio)
    in_force = desk.book().in_force["pd_default"].promotion
    desk.withdraw(person("carol", "approver"), in_force, reason="a fault in a feature")
    engine.dispose()
    (models,) = [c for c in examine(own_home) if c.check == "models"]
    assert models.ok and "withdrawn by carol: a fault in a feature" in models.says
    refused(own_home, "withdrawn by carol: a fault in a feature")


def test_a_missing_parquet_file_is_named_and_comes_back_from_a_backup(
    own_home: Settings, cascade: Cascade, kept: Path, content_of: Content
) -> None:
    path = a_live_file(own_home)
    path.unlink()
    refused(own_home, path.name, "is missing", "scoretrace doctor", "raw.loan_servicing")
    still_as_it_was(own_home, cascade, content_of)
    (fault,) = doctor_by_hand(own_home)["lake files"]
    assert path.name in fault["about"] and "--damaged-only" in fault["repair"]
    back = call(own_home, "restore", str(kept), str(own_home.home), "--damaged-only")
    assert back.returncode == 0 and "1 files put back" in back.stdout
    assert doctor(own_home) == {}


@pytest.mark.parametrize(
    "table", ["raw.payments_ledger", "scores.account_scores", "features.feat_balance", "drift.baselines"]
)
def test_a_flipped_bit_is_found_by_its_digest(
    own_home: Settings, cascade: Cascade, kept: Path, content_of: Content, table: str
) -> None:
    schema, _, name = table.partition(".")
    path = a_live_file(own_home, schema, name)
    body, status = bytearray(path.read_bytes()), path.stat()
    body[len(body) // 3] ^= 0x10
    path.write_bytes(body)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # as a disk's own fault leaves it
    if schema == "scores":  # no night reads it again: maintenance would, and write it anew under a digest of its own
        for command in (["maintain"], ["monitor", "--as-of", str(FIRST)]):
            done = call(own_home, *command)
            assert done.returncode == 1 and path.name in done.stderr and path.is_file()
    else:
        refused(own_home, path.name, "SHA-256", "scoretrace doctor")
        still_as_it_was(own_home, cascade, content_of)
    (fault,) = doctor(own_home)["lake files"]
    assert path.name in fault["about"] and "SHA-256" in fault["says"]
    refusal = call(own_home, "backup", str(own_home.home.parent / "another"))
    assert refusal.returncode == 1 and path.name in refusal.stderr  # a backup does not carry damage along
    call(own_home, "restore", str(kept), str(own_home.home), "--damaged-only")
    assert doctor(own_home) == {}


def test_a_backup_that_lacks_a_damaged_file_says_so(own_home: Settings, kept: Path, tmp_path: Path) -> None:
    path = a_live_file(own_home)
    path.unlink()
    older = tmp_path / "older"
    shutil.copytree(kept, older)
    manifest = json.loads((older / MANIFEST).read_bytes())
    del manifest["files"][path.relative_to(own_home.home).as_posix()]
    (older / MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    done = call(own_home, "restore", str(older), str(own_home.home), "--damaged-only")
    told = " ".join(done.stderr.split())
    assert done.returncode == 1 and "1 files are damaged still" in told and path.name in told
    assert "scoretrace backfill" in told


def test_what_records_name_in_the_archive_is_missed_and_comes_back_but_for_what_the_backup_lost(
    own_home: Settings, kept: Path, tmp_path: Path
) -> None:
    engine = ledger.open_ledger(own_home)
    wanted = archived.named(engine, Registry(own_home), portfolio.load(own_home.portfolio_dir))
    engine.dispose()
    kinds = {record.split()[0] for record in wanted.values()}
    assert kinds == {"run", "model"}, "a recipe is a version's own"
    older = tmp_path / "older"
    shutil.copytree(kept, older)
    lost = sorted(wanted)
    for digest in lost:
        archive.path_of(own_home, digest).unlink()
    gone = archive.path_of(Settings.at(older), lost[0])
    gone.write_bytes(b"not these bytes")
    assert {f["about"] for f in doctor(own_home)["archive"]} == {f"archive {digest}" for digest in lost}
    done = call(own_home, "restore", str(older), str(own_home.home), "--damaged-only")
    assert done.returncode == 1 and f"{len(lost) - 1} files put back" in done.stdout
    assert "1 files are damaged still" in " ".join(done.stderr.split()) and lost[0] in done.stderr
    (fault,) = doctor(own_home)["archive"]
    assert lost[0] in fault["about"]


def test_a_corrupt_catalog_is_named_and_the_whole_home_comes_back(
    own_home: Settings, cascade: Cascade, kept: Path, content_of: Content
) -> None:
    path = own_home.home / "lake" / "catalog.sqlite"
    body = bytearray(path.read_bytes())
    for page in range(1, len(body) // 4096):
        body[page * 4096 : page * 4096 + 512] = b"\xa5" * 512
    path.write_bytes(body)
    told = refused(own_home, "scoretrace doctor", "scoretrace restore")
    assert "damaged" in told
    still_as_it_was(own_home, cascade, content_of)
    assert any("catalog" in f["says"] for f in doctor(own_home)["stores"])
    again = own_home.home.parent / "again"
    assert call(own_home, "restore", str(kept), str(again)).returncode == 0
    settings = Settings.at(again)
    assert doctor(settings) == {}
    done = call(settings, "nightly", "--as-of", str(SECOND))
    assert done.returncode == 0, done.stderr[-3000:]
    assert content_of(settings, SECOND)


@pytest.mark.parametrize("emptied", [False, True])
@pytest.mark.parametrize("store", ["control.sqlite", "lake/catalog.sqlite"])
def test_a_store_that_is_gone_is_never_begun_anew(own_home: Settings, store: str, emptied: bool) -> None:
    path = own_home.home / store
    data = sorted(own_home.lake_data.rglob("*.parquet"))
    for lost in path.parent.glob(f"{path.name}*"):
        lost.unlink()
    if emptied:
        path.touch()
    for command in (
        ["nightly", "--as-of", str(SECOND)],
        ["init", "--portfolio", str(own_home.portfolio_dir)],
        ["maintain"],
        ["scores", "--as-of", str(FIRST)],
    ):
        done = call(own_home, *command)
        told = " ".join(done.stderr.split())
        assert done.returncode == 1 and path.name in told and "scoretrace restore" in told, (command, told[-2000:])
        assert path.is_file() == emptied and (not emptied or not path.stat().st_size), command
    faults = [f for found in doctor_by_hand(own_home).values() for f in found if path.name in f["about"] + f["says"]]
    assert faults and all("scoretrace restore" in f["repair"] for f in faults)
    assert sorted(own_home.lake_data.rglob("*.parquet")) == data


@pytest.mark.parametrize("store", ["control.sqlite", "registry/mlflow.sqlite", "lake/catalog.sqlite"])
def test_a_truncated_store_is_named(own_home: Settings, store: str) -> None:
    path = own_home.home / store
    os.truncate(path, path.stat().st_size // 2 // 4096 * 4096)
    refused(own_home)
    (fault,) = (f for f in doctor(own_home)["stores"] if f["about"].endswith(store))
    assert "damaged" in fault["says"] and "scoretrace restore" in fault["repair"]


def test_a_clock_set_back_stops_the_night_until_somebody_has_looked(
    own_home: Settings, cascade: Cascade, content_of: Content
) -> None:
    engine = ledger.open_ledger(own_home)
    last = audit.head(engine)
    ahead = (datetime.now(UTC) + timedelta(days=3)).isoformat(timespec="microseconds")
    record = chain.sealed(  # written while the clock was three days ahead
        seq=last.seq + 1, at=ahead, actor="scheduler", action="run.noted", subject="run:earlier",
        detail=canonical_json.encode({}).decode(), prev_sha256=last.sha256,
    )  # fmt: skip
    with engine.begin() as connection:
        connection.execute(insert(control.audit_log).values(**vars(record)))
    refused(own_home, f"record {record.seq} of the audit log", "set back", "timedatectl", "--accept-clock")
    refused(own_home, "set back")  # a refusal is no acceptance
    for command in (("audit", "checkpoint", "--out", str(own_home.home.parent / "c.json")), ("audit", "rotate-key")):
        done = call(own_home, *command)
        assert done.returncode == 1 and "set back" in done.stderr, command
    still_as_it_was(own_home, cascade, content_of)
    (fault,) = doctor(own_home)["clock"]
    assert fault["about"] == f"audit record {record.seq}"
    done = call(own_home, "doctor", "--accept-clock", "the battery of the board was empty")
    assert done.returncode == 0, done.stdout
    assert audit.records(engine, action="clock.accepted")[0].facts["ahead"]["seq"] == record.seq
    assert doctor(own_home) == {}


def test_a_lease_left_by_a_dead_process_is_named_and_taken_over(own_home: Settings) -> None:
    holding = subprocess.Popen([sys.executable, "-c", HOLDER, str(own_home.home)], stdout=subprocess.PIPE, text=True)
    assert holding.stdout is not None and holding.stdout.readline() == "holding\n"
    assert doctor(own_home) == {}  # it lives
    told = refused(own_home, "nightly --as-of 2026-03-13 by night-batch", f"process {holding.pid}")
    assert "wait until it has finished" in told
    holding.kill()
    holding.wait()
    (fault,) = doctor(own_home)["writer"]
    assert f"process {holding.pid}" in fault["about"] and "run its command again" in fault["repair"]
    extracts = own_home.extracts_dir / str(SECOND)
    assert call(own_home, "land", "--load-date", str(SECOND), "--extracts", str(extracts)).returncode == 0
    assert doctor(own_home) == {}


HOLDER = """
import sys, time
from pathlib import Path
from pipeline.config import Settings
from pipeline import home
from pipeline.lease import writer_lease
settings = Settings.at(Path(sys.argv[1]))
_, engine = home.open_home(settings)
with writer_lease(settings, engine, "nightly --as-of 2026-03-13 by night-batch"):
    print("holding", flush=True)
    time.sleep(600)
"""


@pytest.mark.timeout(900)
def test_a_disk_that_fills_up_in_the_night_stops_it_and_room_is_all_it_takes(
    cascade: Cascade, small_disk: Callable[[int], Path], content_of: Content
) -> None:
    whole = sum(p.stat().st_size for p in cascade.settings.home.rglob("*") if p.is_file())
    disk = small_disk(whole * 3 + 200_000_000)
    settings = cascade.copy(disk / "home")
    shutil.rmtree(settings.work_dir)
    night = subprocess.Popen(
        [str(SCORETRACE), "nightly", "--as-of", str(SECOND)],
        env={**os.environ, "SCORETRACE_HOME": str(settings.home)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert night.stderr is not None
    told = []
    for line in night.stderr:
        told.append(line)
        if "features …" in line:
            fill(disk / "filler")
    night.wait()
    said = "".join(told)
    assert night.returncode == 1, said
    assert "no room left on the disk" in said and f"df -h {settings.home}" in said and "Traceback" not in said
    still_as_it_was(settings, cascade, content_of)
    refused(settings, "MB are the least", "make room")
    assert "disk" in doctor(settings)
    (disk / "filler").unlink()
    done = call(settings, "nightly", "--as-of", str(SECOND))
    assert done.returncode == 0, done.stderr[-3000:]
    assert content_of(settings, SECOND)
    assert doctor(settings) == {}


def test_a_full_disk_is_no_fault_of_the_dbt_project(cascade: Cascade, small_disk: Callable[[int], Path]) -> None:
    whole = sum(p.stat().st_size for p in cascade.settings.home.rglob("*") if p.is_file())
    settings = cascade.copy(small_disk(whole + 100_000_000) / "home")
    shutil.rmtree(settings.work_dir)
    fill(settings.home.parent / "filler")
    with pytest.raises(OSError, match="No space left") as refusal:
        Warehouse(settings, portfolio.load(settings.portfolio_dir)).manifest()
    told = explained(refusal.value, settings.home)
    assert told is not None and "no room left on the disk" in told.message


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler:
        for piece in (1 << 20, 1 << 12):
            try:
                while True:
                    filler.write(b"\0" * piece)
            except OSError:
                continue


def test_a_home_that_cannot_be_written_is_said_to_be(
    cascade: Cascade, small_disk: Callable[[int], Path], content_of: Content
) -> None:
    settings = cascade.copy(small_disk(400_000_000) / "home")
    with remounted(settings.home.parent, "ro"):
        refused(settings, "cannot be written", "mount it for writing")
        assert any("cannot be written" in f["says"] for f in doctor(settings)["modes"])
        # A store whose WAL was left open is read from it; one that was closed would have to write to be read.
        shown = call(settings, "scores", "--as-of", str(FIRST), "--limit", "3")
        assert (shown.returncode, "next:" in shown.stderr) in [(0, False), (1, True)], shown.stderr
        assert "Traceback" not in shown.stderr
    still_as_it_was(settings, cascade, content_of)
    assert doctor(settings) == {}


@pytest.mark.parametrize("megabytes", [700, 1_500])
def test_too_little_memory_is_said(own_home: Settings, cascade: Cascade, content_of: Content, megabytes: int) -> None:
    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (megabytes << 20, megabytes << 20))

    done = call(own_home, "nightly", "--as-of", str(SECOND), preexec_fn=limited)
    assert done.returncode, "choose a smaller limit"
    if done.returncode > 0:
        assert "memory" in done.stderr and "next:" in done.stderr, done.stderr[-3000:]
    else:  # a library that is refused a thread ends the whole process: nobody is left to say so but the doctor
        assert done.returncode == -signal.SIGABRT
        assert "writer" in doctor(own_home)  # and the run, if it had begun
    still_as_it_was(own_home, cascade, content_of)


def test_a_query_that_outgrows_its_memory_says_which_setting(
    own_home: Settings, cascade: Cascade, content_of: Content
) -> None:
    refused(own_home, "not enough memory", "SCORETRACE_MEMORY_LIMIT", env={"SCORETRACE_MEMORY_LIMIT": "12MB"})
    still_as_it_was(own_home, cascade, content_of)


def test_the_nights_own_error_is_told_whatever_else_fails(own_home: Settings) -> None:
    """The alerts of a failed night cannot be judged either: its own error comes first, theirs is a note."""
    engine = ledger.open_ledger(own_home)
    with engine.begin() as connection:
        for trigger in ("alerts_stop", "metrics_stop"):
            connection.exec_driver_sql(f"DROP TRIGGER IF EXISTS {trigger}")
        connection.exec_driver_sql(
            "CREATE TRIGGER alerts_stop BEFORE INSERT ON audit_log WHEN NEW.action LIKE 'alert.%' "
            "BEGIN SELECT RAISE(ABORT, 'no alert can be recorded'); END"
        )
    (own_home.extracts_dir / str(SECOND) / "statements.parquet").unlink()
    told = refused(own_home, "statements")
    first, _, rest = told.partition("next:")
    assert "statements" in first and "and then:" in rest and "audit log" in rest
