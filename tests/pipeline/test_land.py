"""Landing: all of a load date or nothing, every row under its permanent name, every fault named."""

from __future__ import annotations

import gzip
import hashlib
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from pipeline import dag, gates, home, lake, ledger, nightly
from pipeline.config import Settings
from pipeline.contracts import CONTRACTS
from pipeline.errors import GateFailed, LandingError
from pipeline.land import Load, land
from pipeline.portfolio import Portfolio
from pipeline.registry import Registry
from pipeline.runs import RunLedger
from pipeline.transform import Warehouse
from tests.pipeline.lender import HEADER, statement, write_portfolio, write_statements

DAY = date(2026, 3, 10)


@dataclass
class Lender:
    settings: Settings
    portfolio: Portfolio
    extracts: Path
    con: duckdb.DuckDBPyConnection

    def land(self, day: date = DAY) -> tuple[Load, ...]:
        return land(self.con, self.portfolio, day, self.extracts)

    def count(self, table: str = "loan_servicing") -> int:
        row = self.con.execute(f"SELECT count(*) FROM raw.{table}").fetchone()
        assert row
        return int(row[0])

    def gate(self, day: date = DAY) -> list[gates.Verdict]:
        checked = gates.check(self.con, self.portfolio, day)
        verdicts = [v for found in checked.values() for v in found]
        gates.decide(self.con, checked)
        gates.require_passed(day, verdicts)
        return verdicts

    def states(self) -> list[tuple[str, str]]:
        return self.con.execute("SELECT table_name, state FROM raw.loads ORDER BY landed_at, table_name").fetchall()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty home, made once: making a lake takes seconds, copying one does not."""
    folder = tmp_path_factory.mktemp("template")
    home.init(Settings.at(folder / "home"), write_portfolio(folder / "portfolio"))
    return folder / "home"


@pytest.fixture
def lender(template: Path, tmp_path: Path) -> Iterator[Lender]:
    shutil.copytree(template, tmp_path / "home")
    settings = Settings.at(tmp_path / "home")
    portfolio, _ = home.open_home(settings)
    with closing(lake.connect(settings, read_only=False)) as con:
        yield Lender(settings, portfolio, tmp_path / "extracts", con)


def book(day: date, accounts: int = 40) -> list[tuple[str, str, str, str, str]]:
    return [statement(a, day) for a in range(accounts)]


def test_rows_keep_file_hash_and_row(lender: Lender) -> None:
    path = write_statements(lender.extracts, DAY, book(DAY))
    loads = lender.land()
    assert [(x.table, x.rows, x.outcome) for x in loads] == [
        ("loan_servicing", 40, "landed"),
        ("payments_ledger", 0, "absent"),
    ]
    row = lender.con.execute(
        "SELECT source_file, source_sha256, source_row, load_date, balance FROM raw.loan_servicing "
        "WHERE account_id = 'H006'"
    ).fetchone()
    assert row is not None
    assert row[:4] == ("statements.csv", hashlib.sha256(path.read_bytes()).hexdigest(), 7, DAY)
    assert str(row[4]) == "100.00"


def test_landing_twice_changes_nothing(lender: Lender) -> None:
    write_statements(lender.extracts, DAY, book(DAY))
    lender.land()
    before = lake.current_snapshot(lender.con)
    assert {x.outcome for x in lender.land()} == {"unchanged", "absent"}
    assert lake.current_snapshot(lender.con) == before


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_other_formats_land_the_same_rows(lender: Lender, suffix: str) -> None:
    path = write_statements(lender.extracts, DAY, book(DAY))
    target = path.with_name("statements" + suffix)
    if suffix == ".csv.gz":
        target.write_bytes(gzip.compress(path.read_bytes()))
    else:
        duckdb.execute(
            f"COPY (SELECT acct, closed, limit_eur::DECIMAL(18,2) AS limit_eur, owed::DECIMAL(18,2) AS owed, "
            f"late_days::INTEGER AS late_days FROM read_csv('{path}', delim=';')) TO '{target}'"
        )
    path.unlink()
    lender.land()
    rows = lender.con.execute("SELECT source_row, account_id FROM raw.loan_servicing ORDER BY source_row").fetchall()
    assert rows == [(i + 1, f"H{i:03}") for i in range(40)]


def test_a_bulk_file_brings_its_own_load_dates(lender: Lender) -> None:
    days = [DAY - timedelta(days=n) for n in (3, 2, 1)]
    rows = [(*statement(a, day), day.isoformat()) for day in days for a in range(5)]
    write_statements(lender.extracts, DAY, rows, header=(*HEADER, "load_date"))  # type: ignore[arg-type]
    lender.land()
    found = lender.con.execute("SELECT load_date, count(*) FROM raw.loan_servicing GROUP BY 1 ORDER BY 1").fetchall()
    assert found == [(day, 5) for day in sorted(days)]


def test_a_restatement_waits_for_the_gate_and_keeps_the_old_snapshot(lender: Lender) -> None:
    write_statements(lender.extracts, DAY, book(DAY))
    lender.land()
    lender.gate()
    old_snapshot = lake.current_snapshot(lender.con)
    write_statements(lender.extracts, DAY, [statement(a, DAY, owed="250.00") for a in range(40)])
    assert lender.land()[0].outcome == "restated"
    assert lender.count() == 80, "both versions are there until the gates decide"
    lender.gate()
    assert lender.states() == [("loan_servicing", "superseded"), ("loan_servicing", "accepted")]
    assert lender.con.execute("SELECT DISTINCT balance::VARCHAR FROM raw.loan_servicing").fetchall() == [("250.00",)]
    old = lender.con.execute(
        f"SELECT DISTINCT balance::VARCHAR FROM raw.loan_servicing AT (VERSION => {old_snapshot})"
    ).fetchall()
    assert old == [("100.00",)]


def test_a_bad_restatement_leaves_the_good_load(lender: Lender) -> None:
    write_statements(lender.extracts, DAY, book(DAY))
    lender.land()
    lender.gate()
    rowids = lender.con.execute("SELECT rowid FROM raw.loan_servicing ORDER BY 1").fetchall()
    write_statements(lender.extracts, DAY, [statement(a, DAY, owed="9.00") for a in range(40)] * 2)
    lender.land()
    with pytest.raises(GateFailed, match=r"\[unique\].*40 repeated keys, first in \S+, rows 1, 41"):
        lender.gate()
    assert lender.states() == [("loan_servicing", "accepted"), ("loan_servicing", "rejected")]
    assert lender.con.execute("SELECT rowid FROM raw.loan_servicing ORDER BY 1").fetchall() == rowids


FAULTS = {
    "missing column": (HEADER[:-1], [r[:-1] for r in book(DAY)], ";", "missing column 'late_days'"),
    "extra column": ((*HEADER, "branch"), [(*r, "x") for r in book(DAY)], ";", "unknown column 'branch'"),
    "wrong delimiter": (HEADER, book(DAY), ",", "delimited by ','.*declares ';'"),
    "bad number": (HEADER, [*book(DAY, 3), ("H9", "2026-03-10", "1", "abc", "0")], ";", "row 4.*'owed': .*'aaa' is"),
    "a rounded number": (HEADER, [("H9", "2026-03-10", "1.00", "1.239", "0")], ";", "'owed': .*'9.999' is"),
    "a rounded integer": (HEADER, [("H9", "2026-03-10", "1.00", "1.2", "12.7")], ";", "'late_days': .*'99.9' is"),
    "bad date": (HEADER, [("H9", "2026-02-30", "1.00", "1.00", "0")], ";", "row 1.*'closed': .*'9999-99-99' is"),
    "missing key": (HEADER, [*book(DAY, 2), ("", "2026-03-10", "1", "1", "0")], ";", "row 3.*account_id is missing"),
    "future event": (HEADER, [*book(DAY, 2), statement(9, DAY + timedelta(days=1))], ";", "row 3.*in the future"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_file_is_named_and_changes_nothing(lender: Lender, fault: str) -> None:
    header, rows, delimiter, message = FAULTS[fault]
    write_statements(lender.extracts, DAY, rows, header=header, delimiter=delimiter)  # type: ignore[arg-type]
    before = lake.current_snapshot(lender.con)
    with pytest.raises(LandingError, match=message) as caught:
        lender.land()
    assert caught.value.next_step
    assert lake.current_snapshot(lender.con) == before


HEAD = b"acct;closed;limit_eur;owed;late_days\n"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (HEAD + b"H001;2026-03-10;1;1;0\nH\xff1;2026-03-10;1;1;0\n", ", line 3: not UTF-8"),
        (HEAD + b"H001;2026-03-10;1;1;0\nH002;2026-0", ", line 3: 2 columns where the header has 5"),
        (b"\xff\xfea\x00c\x00", ", line 1: not UTF-8"),
        (HEAD + b'"H001;2026-03-10;1;1;0\n', ", line 2: a quote that is not closed"),
        (HEAD + b"x" * 2_500_000 + b";2026-03-10;1;1;0\n", ", line 2: Maximum line size"),
    ],
    ids=["empty", "latin-1", "cut in a row", "utf-16", "open quote", "one endless line"],
)
def test_damaged_bytes(lender: Lender, content: bytes, message: str) -> None:
    path = write_statements(lender.extracts, DAY, book(DAY))
    path.write_bytes(content)
    with pytest.raises(LandingError, match=f"^statements.csv{message}|^statements.csv {message}") as caught:
        lender.land()
    assert "H00" not in caught.value.message, "a customer's record stays out of messages"
    assert len(caught.value.message) < 100
    assert lender.count() == 0


def test_a_payment_of_the_future_is_told_by_its_columns(lender: Lender) -> None:
    path = write_statements(lender.extracts, DAY, book(DAY))
    path.with_name("receipts.csv").write_text("no,acct,due,paid,amount\nR1,H001,2026-03-09,2026-03-11,5.00\n")
    with pytest.raises(LandingError, match=r"receipts.csv, row 1: .*due_date or paid_on \('2026-03-11'\)"):
        lender.land()


@pytest.mark.parametrize("share", [0.02, 0.3, 0.43, 0.7, 0.9, 0.999])
def test_a_compressed_file_that_was_cut_anywhere_is_no_shorter_file(lender: Lender, share: float) -> None:
    path = write_statements(lender.extracts, DAY, book(DAY, 500))
    whole = gzip.compress(path.read_bytes())
    path.with_name("statements.csv.gz").write_bytes(whole[: int(len(whole) * share)])
    path.unlink()
    with pytest.raises(LandingError, match=r"^statements.csv.gz cannot be read to its end"):
        lender.land()
    assert lender.count() == 0


def test_a_file_that_is_changed_while_it_lands_is_not_landed(lender: Lender) -> None:
    path = write_statements(lender.extracts, DAY, book(DAY))

    def change(_: str) -> None:
        path.write_bytes(path.read_bytes() + b"\n")

    with pytest.raises(LandingError, match="was changed while it was landed"):
        land(lender.con, lender.portfolio, DAY, lender.extracts, change)
    assert lender.count() == 0


@pytest.mark.parametrize("suffix", [".csv.gz", ".parquet"])
def test_a_truncated_archive(lender: Lender, suffix: str) -> None:
    path = write_statements(lender.extracts, DAY, book(DAY, 500))
    whole = gzip.compress(path.read_bytes()) if suffix == ".csv.gz" else b"PAR1" + bytes(400)
    path.with_name("statements" + suffix).write_bytes(whole[: len(whole) // 2])
    path.unlink()
    with pytest.raises(LandingError, match=f"^statements{re.escape(suffix)}[:, ] ?[^/]*") as caught:
        lender.land()
    assert "SELECT" not in caught.value.message, "a query of ours says nothing of the file"
    assert lender.count() == 0


def test_missing_folder_file_and_future(lender: Lender) -> None:
    with pytest.raises(LandingError, match="does not exist"):
        lender.land()
    (lender.extracts / DAY.isoformat()).mkdir(parents=True)
    with pytest.raises(LandingError, match=r"missing from .*statements"):
        lender.land()
    with pytest.raises(LandingError, match="in the future"):
        lender.land(datetime.now(UTC).date() + timedelta(days=2))


def test_gates_find_volume_nulls_and_unknown_accounts(lender: Lender) -> None:
    for n in range(8, 0, -1):
        day = DAY - timedelta(days=n)
        write_statements(lender.extracts, day, [statement(a, day, owed=f"{100 + n}.00") for a in range(40)])
        lender.land(day)
        lender.gate(day)
    write_statements(lender.extracts, DAY, book(DAY, 12))
    lender.land()
    with pytest.raises(GateFailed, match=r"\[volume\].*12 rows.*20 to 80 rows"):
        lender.gate()
    write_statements(lender.extracts, DAY, [(a, d, "", o, late) for a, d, _, o, late in book(DAY)])
    lender.land()
    with pytest.raises(GateFailed, match=r"\[nulls\].*credit_limit: 100.00% null"):
        lender.gate()
    write_statements(lender.extracts, DAY, book(DAY))
    receipts = lender.extracts / DAY.isoformat() / "receipts.csv"
    receipts.write_text(
        "no,acct,due,paid,amount\nR1,H001,2026-03-09,2026-03-10,5.00\nR2,NOBODY,2026-03-09,2026-03-10,5.00\n"
    )
    lender.land()
    with pytest.raises(GateFailed, match=r"\[known_account\].*1 rows of unknown accounts, first in \S+, row \d+ \("):
        lender.gate()
    assert lender.count() == 8 * 40, "nothing of the rejected landings stays"


RECEIPTS = "no,acct,due,paid,amount\n"


def test_a_payment_keeps_its_account_and_due_date_in_every_version(lender: Lender) -> None:
    day = DAY - timedelta(days=1)
    for at, receipts in ((day, "R1,H001,2026-03-08,,0.00\n"), (DAY, "R1,H001,2026-03-08,2026-03-09,5.00\n")):
        write_statements(lender.extracts, at, book(at))
        (lender.extracts / at.isoformat() / "receipts.csv").write_text(RECEIPTS + receipts)
        lender.land(at)
        lender.gate(at)
    for moved in ("R1,H002,2026-03-08,2026-03-09,5.00\n", "R1,H001,2026-03-07,2026-03-09,5.00\n"):
        (lender.extracts / DAY.isoformat() / "receipts.csv").write_text(RECEIPTS + moved)
        lender.land()
        with pytest.raises(
            GateFailed, match=r"\[fixed\].*1 known records with another account_id or due_date, first in \S+, row \d+"
        ):
            lender.gate()


def test_an_accounts_payments_lie_together_whatever_their_numbers(lender: Lender) -> None:
    write_statements(lender.extracts, DAY, book(DAY))
    paid = [(n, n * 7 % 40) for n in range(120)]
    receipts = [f"R{n:03},H{account:03},2026-03-0{1 + n // 40},2026-03-09,5.00\n" for n, account in paid]
    (lender.extracts / DAY.isoformat() / "receipts.csv").write_text(RECEIPTS + "".join(receipts))
    lender.land()
    order = [f"H{account:03}" for account in range(40) for _ in range(3)]
    assert [a for (a,) in lender.con.execute("SELECT account_id FROM raw.payments_ledger").fetchall()] == order


def test_yesterdays_file_sent_again(lender: Lender) -> None:
    day = DAY - timedelta(days=1)
    path = write_statements(lender.extracts, day, book(day))
    lender.land(day)
    lender.gate(day)
    again = lender.extracts / DAY.isoformat()
    again.mkdir(parents=True)
    (again / "statements.csv").write_bytes(path.read_bytes())
    lender.land()
    with pytest.raises(GateFailed, match=r"\[new_file\].*the file is the one of 2026-03-09"):
        lender.gate()


def test_what_is_said_of_a_refused_row_names_nobody(lender: Lender) -> None:
    """Messages are kept in the log and sent on: ids and personal data show in them by their form alone."""
    income = CONTRACTS["applications"].column("stated_income")
    assert income.shown("-98000.00") == "a value of the form '-99999.99'"
    assert CONTRACTS["loan_servicing"].column("account_id").shown("H0001") == "a value of the form 'A9999'"
    assert CONTRACTS["loan_servicing"].column("status").shown("zombie") == "'zombie'"
    write_statements(lender.extracts, DAY, book(DAY) * 2)
    lender.land()
    with pytest.raises(GateFailed) as caught:
        lender.gate()
    assert "H0" not in caught.value.message and "rows 1, 41" in caught.value.message


def test_a_gate_that_is_tried_again_rejects_what_it_rejected(lender: Lender) -> None:
    """The control store fails once in the middle of the gate: its second attempt must not find nothing to object to."""

    class Locked(RunLedger):
        attempts = 0

        def add_verdicts(self, verdicts: Iterable[gates.Verdict]) -> None:
            self.attempts += 1
            if self.attempts == 1:
                raise OSError("database is locked")
            super().add_verdicts(verdicts)

    _, engine = home.open_home(lender.settings)
    run = Locked.start(
        engine, kind="nightly", as_of=DAY, actor="test", portfolio=lender.portfolio,
        snapshot=lake.current_snapshot(lender.con),
    )  # fmt: skip
    write_statements(lender.extracts, DAY, book(DAY) * 2)
    lender.land()
    work = nightly.Work(
        lender.settings, lender.portfolio, engine, DAY, run, Warehouse(lender.settings, lender.portfolio),
        Registry(lender.settings), lender.con,
    )  # fmt: skip
    gate = dag.Graph("gate", (dag.Task("gate", nightly.decide_task, retries=2, timeout=60),))
    with pytest.raises(GateFailed, match="40 repeated keys"):
        dag.run(gate, work, run, snapshot=work.snapshot, sleep=lambda _: None)
    assert run.attempts == 2
    assert lender.states() == [("loan_servicing", "rejected")]
    assert [v.gate for v in ledger.gate_verdicts(engine, run.run_id) if v.verdict == "fail"] == ["unique"]
