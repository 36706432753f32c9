"""``scoretrace audit``: what an examiner types, with its exit codes."""

from __future__ import annotations

import getpass
import json
import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from pipeline import home
from pipeline.config import Settings
from pipeline.governance import audit, chain
from tests.pipeline.lender import write_portfolio


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home as ``scoretrace init`` makes it, with a few more records."""
    folder = tmp_path_factory.mktemp("cli")
    home.init(Settings.at(folder / "home"), write_portfolio(folder / "portfolio"), actor="ada")
    _, engine = home.open_home(Settings.at(folder / "home"))
    for n in range(3):
        subject = "model:pd_default/1" if n == 2 else f"run:{n}"
        audit.append(engine, actor="ada", action="run.started", subject=subject, detail={"n": n})
    engine.dispose()
    return folder / "home"


@pytest.fixture
def own(made: Path, tmp_path: Path) -> Path:
    shutil.copytree(made, tmp_path / "home")
    return tmp_path / "home"


def scoretrace(folder: Path, *arguments: str, group: str = "audit") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", group, *arguments],
        env={**os.environ, "SCORETRACE_HOME": str(folder)},
        capture_output=True,
        text=True,
        timeout=120,
    )


def edit(folder: Path, statement: str) -> None:
    with closing(sqlite3.connect(folder / "control.sqlite")) as db, db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        db.execute(statement)


def test_init_makes_a_key_and_says_so_in_the_log(made: Path) -> None:
    found = scoretrace(made, "search", "--action", "key", "--json")
    (record,) = json.loads(found.stdout)
    assert (record["action"], record["actor"], record["seq"]) == ("key.created", "ada", 1)
    assert (made / "keys" / "public" / f"{record['subject'].removeprefix('key:')}.pem").is_file()


def test_a_sound_log_ends_with_0_and_its_limits_are_said(made: Path) -> None:
    found = scoretrace(made, "verify")
    assert found.returncode == 0, found.stderr
    assert "5 records, none changed" in found.stdout
    assert "a tail that was cut off would leave no trace" in found.stdout


def test_a_changed_record_ends_with_1_and_is_named(own: Path) -> None:
    edit(own, "UPDATE audit_log SET actor = 'eve' WHERE seq = 3")
    found = scoretrace(own, "verify")
    assert (found.returncode, found.stderr) == (1, "")
    assert "record 3 has been changed" in found.stdout
    found = scoretrace(own, "verify", "--json")
    assert found.returncode == 1
    verdict = json.loads(found.stdout)
    assert (verdict["ok"], verdict["first_bad"], verdict["records"], verdict["against"]) == (False, 3, 2, None)


def test_a_cut_off_tail_and_a_changed_checkpoint_end_with_1(own: Path, tmp_path: Path) -> None:
    out = tmp_path / "checkpoint.json"
    taken = scoretrace(own, "checkpoint", "--out", str(out))
    assert taken.returncode == 0, taken.stderr
    assert "record 5" in taken.stdout
    again = scoretrace(own, "checkpoint", "--out", str(out))
    assert (again.returncode, "is there already" in again.stderr) == (1, True)
    good = scoretrace(own, "verify", "--against", str(out))
    assert good.returncode == 0 and "signed by key" in good.stdout
    edit(own, "DELETE FROM audit_log WHERE seq > 4")
    assert scoretrace(own, "verify").returncode == 0
    found = scoretrace(own, "verify", "--against", str(out))
    assert found.returncode == 1
    assert "the log ends at 4" in found.stdout
    out.write_text(out.read_text().replace("payloadType", "payloadtype"))
    refused = scoretrace(own, "verify", "--against", str(out))
    assert refused.returncode == 1
    assert "payloadType of the envelope is missing" in refused.stdout and "next:" in refused.stdout
    assert "4 records, none changed" in refused.stdout, "the chain is checked all the same"
    edit(own, "UPDATE audit_log SET actor = 'eve' WHERE seq = 3")
    both = scoretrace(own, "verify", "--against", str(out))
    assert both.returncode == 1
    assert "record 3 has been changed" in both.stdout and "payloadType of the envelope is missing" in both.stdout


def test_a_user_slipped_in_ends_with_1_and_is_named(own: Path) -> None:
    edit(own, "INSERT INTO user_events (user_name, kind, at, by) VALUES ('eve', 'added', '2026-03-14 09:00:00', 'x')")
    found = scoretrace(own, "verify")
    assert found.returncode == 1
    assert "none changed" in found.stdout and "user event 1: no record of the audit log covers it" in found.stdout
    assert json.loads(scoretrace(own, "verify", "--json").stdout)["uncovered"]["id"] == 1


def test_a_detail_that_is_no_json_is_named_by_verify_and_by_who_reads_it(own: Path) -> None:
    with closing(sqlite3.connect(own / "control.sqlite")) as db:
        last = dict(zip(chain.FIELDS, db.execute("SELECT * FROM audit_log ORDER BY seq DESC").fetchone(), strict=True))
    forged = {
        "seq": 6, "at": last["at"], "actor": "eve", "action": "promotion.asked", "subject": "promotion:x",
        "prev_sha256": last["sha256"],
    }  # fmt: skip
    record = chain.sealed(detail="{broken", **forged)
    edit(own, "INSERT INTO audit_log VALUES " + str(tuple(vars(record).values())))
    found = scoretrace(own, "verify")
    assert found.returncode == 1
    assert "record 6: the detail of record 6 is damaged: it is no JSON" in found.stdout
    read = scoretrace(own, "list", group="promotions")
    assert read.returncode == 1
    assert "the detail of record 6 of the audit log is damaged" in read.stderr and "audit verify" in read.stderr


def test_an_audit_log_that_was_dropped_is_not_made_anew(own: Path) -> None:
    edit(own, "DROP TABLE audit_log")
    for group, arguments in (("audit", ("verify",)), ("promotions", ("list",)), ("user", ("list",))):
        found = scoretrace(own, *arguments, group=group)
        assert found.returncode == 1, found.stdout
        assert "has lost its audit log" in found.stderr and "scoretrace init" not in found.stderr


def test_search_and_export(own: Path, tmp_path: Path) -> None:
    found = scoretrace(own, "search", "--about", "model:pd_default/1", "--actor", "ada", "--since", "2026-01-01")
    assert found.returncode == 0, found.stderr
    assert len(found.stdout.splitlines()) == 2 and "model:pd_default/1" in found.stdout
    assert json.loads(scoretrace(own, "search", "--until", "2020-01-01", "--json").stdout) == []
    newest = json.loads(scoretrace(own, "search", "--limit", "2", "--json").stdout)
    assert [r["seq"] for r in newest] == [5, 4]
    out = tmp_path / "log.csv"
    written = scoretrace(own, "export", "--out", str(out), "--format", "csv", "--json")
    assert json.loads(written.stdout)["records"] == 5
    assert len(out.read_text().splitlines()) == 6
    (exported,) = json.loads(scoretrace(own, "search", "--action", "audit.exported", "--json").stdout)
    assert exported["actor"] == getpass.getuser()


def test_a_rotated_key_signs_the_next_checkpoint(own: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "1.json", tmp_path / "2.json"
    scoretrace(own, "checkpoint", "--out", str(first))
    rotated = scoretrace(own, "rotate-key")
    assert rotated.returncode == 0, rotated.stderr
    scoretrace(own, "checkpoint", "--out", str(second))
    ids = [json.loads(path.read_text())["signatures"][0]["keyid"] for path in (first, second)]
    assert rotated.stdout == f"key {ids[1]} signs from now on; signatures of {ids[0]} can still be verified\n"
    for path in (first, second):
        assert scoretrace(own, "verify", "--against", str(path)).returncode == 0


def test_without_a_home_the_next_step_is_named(tmp_path: Path) -> None:
    found = scoretrace(tmp_path / "nowhere", "verify")
    assert found.returncode == 1
    assert "scoretrace init" in found.stderr and "Traceback" not in found.stderr
