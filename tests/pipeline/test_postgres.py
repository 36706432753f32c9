"""Several machines share one home's stores: PostgreSQL as control store and as the lake's catalog."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path

import pytest

from pipeline import control, gates, home, lake
from pipeline.config import Settings
from pipeline.errors import LeaseHeld
from pipeline.land import land
from pipeline.lease import writer_lease
from pipeline.runs import RunLedger
from tests.pipeline.lender import statement, write_portfolio, write_statements
from tests.postgres import binaries, server

DAY = date(2026, 3, 10)


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
        control_url=f"postgresql+psycopg://{parts['user']}@{parts['host']}:{parts['port']}/{parts['dbname']}",
        lake_catalog=f"postgres:{connection}",
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
