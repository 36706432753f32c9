"""Several machines share one home's stores: PostgreSQL as control store and as the lake's catalog."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import date
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import select

from pipeline import control, gates, home, lake, ledger
from pipeline.config import Settings
from pipeline.errors import ConfigError, LeaseHeld, ScoretraceError
from pipeline.land import land
from pipeline.lease import writer_lease
from pipeline.nightly import run_night
from pipeline.runs import RunLedger
from tests.pipeline.lender import statement, write_portfolio, write_statements
from tests.postgres import binaries, server
from tests.signing_off import at_the_home

DAY, NEXT = date(2026, 3, 10), date(2026, 3, 11)
PASSWORD = "canary-5b21-password"  # the server lets everybody in, and so anybody with this


@pytest.fixture(scope="module")
def connection() -> Iterator[str]:
    bin_dir = binaries()
    if bin_dir is None:
        pytest.skip("no PostgreSQL server is installed (Debian: apt-get install postgresql)")
    with server(bin_dir) as conninfo:
        yield conninfo


@pytest.fixture(scope="module")
def settings(connection: str, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    folder = tmp_path_factory.mktemp("postgres")
    parts = dict(pair.split("=") for pair in connection.split())
    made = Settings.at(
        folder / "home",
        control_url=f"postgresql+psycopg://{parts['user']}:{PASSWORD}@{parts['host']}:{parts['port']}/{parts['dbname']}",
        lake_catalog=f"postgres:{connection} password={PASSWORD}",
    )
    home.init(made, write_portfolio(folder / "portfolio"))
    return made


def test_a_load_lands_and_is_accepted(settings: Settings, tmp_path: Path) -> None:
    portfolio, engine = home.open_home(settings)
    write_statements(tmp_path, DAY, [statement(a, DAY) for a in range(40)])
    with writer_lease(settings, engine, "test"), closing(lake.connect(settings, read_only=False)) as con:
        ledger = RunLedger.start(engine, kind="nightly", as_of=DAY, actor="test", portfolio=portfolio, snapshot=1)
        assert land(con, portfolio, DAY, tmp_path)[0].rows == 40
        checked = gates.check(con, portfolio, DAY)
        gates.decide(con, checked)
        ledger.add_verdicts(v for found in checked.values() for v in found)
        ledger.finish("succeeded", snapshot=lake.current_snapshot(con))
    with closing(lake.connect(settings)) as con:
        assert con.execute("SELECT count(*) FROM raw.loan_servicing").fetchone() == (40,)


HOLDER = """
import sys, time
from pathlib import Path
from pipeline import control
from pipeline.config import Settings
from pipeline.lease import writer_lease
settings = Settings.at(Path(sys.argv[1]), control_url=sys.argv[2])
with writer_lease(settings, control.open_store(settings), "nightly by another machine"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_the_lease_is_one_across_machines_and_dies_with_its_holder(settings: Settings, tmp_path: Path) -> None:
    engine = control.open_store(settings)
    # Another home folder: no lock file is shared, as on another machine.
    command = [sys.executable, "-c", HOLDER, str(tmp_path / "elsewhere"), settings.control_url]
    holder = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(LeaseHeld, match="nightly by another machine"), writer_lease(settings, engine, "me"):
        pass
    holder.kill()
    holder.wait()
    for _ in range(2):
        with writer_lease(settings, engine, "me"):
            pass


def test_a_run_that_was_taken_for_dead_publishes_nothing(settings: Settings) -> None:
    """Its lock went with a connection that the server ended; the next run marks it, and it finds out."""
    portfolio, engine = home.open_home(settings)
    lost, found = (
        RunLedger.start(engine, kind="nightly", as_of=DAY, actor=who, portfolio=portfolio, snapshot=1)
        for who in ("one machine", "another")
    )
    before = ledger.publications(engine, superseded=True)
    with pytest.raises(LeaseHeld, match=f"run {lost.run_id} is abandoned"):
        lost.start_attempt("score", 1, 1)
    with pytest.raises(LeaseHeld, match="taken over the writer lease"):
        lost.publish(
            as_of=DAY, snapshot_id=1, accounts=1, applications=0, content_sha256="0" * 64, models=[], features=1
        )
    assert ledger.publications(engine, superseded=True) == before
    found.finish("succeeded", snapshot=1)


def test_a_lease_whose_connection_is_ended_is_given_back_without_a_fault(settings: Settings, connection: str) -> None:
    engine = control.open_store(settings)
    with writer_lease(settings, engine, "me"), psycopg.connect(connection, autocommit=True) as server_side:
        server_side.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )
    with writer_lease(settings, engine, "me again"):
        pass


def test_a_night_on_a_server_builds_its_features_and_keeps_no_password(settings: Settings, tmp_path: Path) -> None:
    portfolio, engine = home.open_home(settings)
    months = [date(2026, month, 11) for month in (1, 2, 3)]
    write_statements(tmp_path, NEXT, [statement(a, day) for day in months for a in range(40)])
    said: list[str] = []
    with pytest.raises(ScoretraceError, match="no approved model") as refused:
        run_night(settings, portfolio, engine, NEXT, actor=at_the_home(), extracts=tmp_path, progress=said.append)
    assert [a.task for a in ledger.task_attempts(engine, ledger.runs(engine, limit=1)[0].run_id)][-1] == "score"
    with closing(lake.connect(settings)) as con:
        assert con.execute("SELECT count(*) FROM features.account_features").fetchone() == (40,)
    away = replace(settings, lake_catalog=f"postgres:host=127.0.0.1 port=9 user=x password={PASSWORD}")
    with pytest.raises(ConfigError, match="cannot be opened") as unreachable:
        lake.connect(away)
    files = [p for p in settings.home.rglob("*") if p.is_file() and settings.work_dir not in p.parents]
    assert len(files) > 50
    assert not [p for p in files if PASSWORD.encode() in p.read_bytes()]
    assert PASSWORD not in "\n".join([*said, str(refused.value), str(unreachable.value)])
    with engine.connect() as store:
        for table in control.metadata.sorted_tables:
            assert PASSWORD not in str(store.execute(select(table)).all()), table.name
