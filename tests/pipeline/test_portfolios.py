"""The shipped portfolios: every mapping gives its contract, and clean input passes landing and gates."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from pipeline import gates, lake, portfolio
from pipeline.config import REPOSITORY, SHIPPED_PORTFOLIOS, Settings
from pipeline.contracts import CONTRACTS
from pipeline.errors import LandingError
from pipeline.extracts import find_files, open_extracts
from pipeline.land import land
from pipeline.portfolio import Portfolio
from pipeline.synth import GenerateReport, Incident, generate

END = date(2026, 3, 14)
UCI_DATE = date(2005, 10, 31)
REAL_UCI = REPOSITORY.parent / "shared" / "data" / "uci_credit_card"
NAMES = sorted(p.parent.name for p in SHIPPED_PORTFOLIOS.glob("*/portfolio.yml"))

# Three clients by hand: X6 to X11 are the states of September back to April, then bills, then payments.
UCI_CLIENTS = [
    "1,20000,2,2,1,24,2,2,-1,-1,-2,-2,3913,3102,689,0,0,0,0,689,0,0,0,0,1",
    "2,5.00E+05,1,1,2,65,0,0,0,0,0,8,100,200,300,400,-500,600,10,20,30,40,50,60,0",
    "3,120000,2,0,0,40,-1,-1,-1,-1,-1,-1,7,6,5,4,3,2,6,5,4,3,2,1,0",
]


@pytest.fixture(scope="session")
def cascade() -> Portfolio:
    return portfolio.load(portfolio.resolve("cascade"))


@pytest.fixture(scope="session")
def uci() -> Portfolio:
    return portfolio.load(portfolio.resolve("uci_credit_card"))


@pytest.fixture(scope="session")
def extracts(tmp_path_factory: pytest.TempPathFactory) -> GenerateReport:
    """A small lender whose last three nights go wrong."""
    wrong = ("duplicate_load@2026-03-12", "empty_file@2026-03-13", "bureau_format@2026-03-14")
    incidents = [Incident.parse(text) for text in wrong]
    return generate(1_500, 2, tmp_path_factory.mktemp("cascade"), end=END, incidents=incidents)


@pytest.fixture(scope="session")
def uci_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    header = ",".join(["ID", *(f"X{n}" for n in range(1, 24)), "Y"])
    folder = tmp_path_factory.mktemp("uci")
    text = "\n".join([header, *UCI_CLIENTS]) + "\n"
    (folder / "UCI_Credit_Card.csv.gz").write_bytes(gzip.compress(text.encode()))
    return folder


@pytest.fixture
def uci_tables(uci: Portfolio, uci_folder: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with closing(mapped(uci, uci_folder, UCI_DATE)) as con:
        yield con


def mapped(lender: Portfolio, folder: Path, load_date: date) -> duckdb.DuckDBPyConnection:
    """Every contract of the portfolio as a table of its name, the row's load date in ``known_on``."""
    con = duckdb.connect()
    open_extracts(con, lender, find_files(lender, folder), load_date)
    for table in lender.provides:
        con.execute(f"CREATE TABLE {table} AS {lender.mapping(table)}")
        own = "load_date" in columns(con, table)
        con.execute(f"ALTER TABLE {table} ADD COLUMN known_on DATE")
        con.execute(f"UPDATE {table} SET known_on = {'load_date' if own else 'source.load_date'}")
    return con


def columns(con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
    return {name: str(kind) for name, kind, *_ in con.execute(f"DESCRIBE {table}").fetchall()}


def value(con: duckdb.DuckDBPyConnection, query: str) -> Any:
    row = con.execute(query).fetchone()
    assert row is not None
    return row[0]


def assert_keeps_contracts(con: duckdb.DuckDBPyConnection, lender: Portfolio, load_date: date) -> None:
    for table in lender.provides:
        contract = CONTRACTS[table]
        types = columns(con, table)
        for column in contract.columns:
            assert types[column.name] == column.sql_type(lender.id_type), f"{table}.{column.name}"
            if not column.nullable:
                assert value(con, f"SELECT count(*) FROM {table} WHERE {column.name} IS NULL") == 0
            if column.values:
                found = {v for (v,) in con.execute(f"SELECT DISTINCT {column.name} FROM {table}").fetchall()}
                assert found <= {*column.values, None}, f"{table}.{column.name}"
        keys = ", ".join(contract.key)
        repeats = f"SELECT 1 FROM {table} GROUP BY {keys}, known_on HAVING count(*) > 1"
        assert value(con, f"SELECT count(*) FROM ({repeats})") == 0, table
        late = f"{contract.event_date} > known_on OR known_on > DATE '{load_date}'"
        assert value(con, f"SELECT count(*) FROM {table} WHERE {late}") == 0, table


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_portfolio_loads_under_its_folder_name(name: str) -> None:
    assert portfolio.load(portfolio.resolve(name)).name == name


def test_cascade_provides_every_contract_and_both_models(cascade: Portfolio) -> None:
    assert cascade.provides == tuple(CONTRACTS)
    assert {m.name: m.subject for m in cascade.models} == {"pd_default": "account", "pd_application": "application"}
    assert (cascade.calendar, cascade.label.horizon_months, cascade.exclude_dpd) == ("daily", 12, 90)


def test_cascade_history_and_night_keep_the_contracts(cascade: Portfolio, extracts: GenerateReport) -> None:
    night = extracts.nights[0]
    folders = ((extracts.out / "history", extracts.history_to), (extracts.out / f"{night}", night))
    for folder, load_date in folders:
        with closing(mapped(cascade, folder, load_date)) as con:
            assert_keeps_contracts(con, cascade, load_date)
            assert value(con, "SELECT count(*) FROM loan_servicing") > 0
            if folder.name == "history":
                for table in ("loan_servicing", "applications"):
                    assert value(con, f"SELECT max(apr) FROM {table}") < 1
                for table, column in (("loan_servicing", "product"), ("loan_servicing", "status")):
                    kinds = value(con, f"SELECT count(DISTINCT {column}) FROM {table}")
                    assert kinds == len(CONTRACTS[table].column(column).values), column


def test_a_code_that_the_mapping_does_not_know_reaches_the_gates(cascade: Portfolio) -> None:
    for table, code in (("loan_servicing", "ACCT_STAT_CD"), ("applications", "CHNL_CD"), ("account_events", "EVT_CD")):
        assert f"ELSE {code}" in cascade.mapping(table)


def test_clean_nights_pass_and_troubled_ones_are_stopped(
    cascade: Portfolio, extracts: GenerateReport, tmp_path: Path
) -> None:
    settings = Settings.at(tmp_path)
    lake.create(settings, cascade.id_type)
    with closing(lake.connect(settings, read_only=False)) as con:

        def failures(load_date: date, folder: Path) -> set[tuple[str, str]]:
            land(con, cascade, load_date, folder)
            checked = gates.check(con, cascade, load_date)
            gates.decide(con, checked)
            return {(v.gate, v.subject) for vs in checked.values() for v in vs if v.verdict == gates.FAIL}

        assert failures(extracts.history_to, extracts.out / "history") == set()
        for night in extracts.nights[:4]:
            assert failures(night, extracts.out) == set(), night
        duplicated, emptied, retyped = extracts.nights[4:]
        assert ("unique", "loan_servicing") in failures(duplicated, extracts.out)
        assert failures(emptied, extracts.out) == {("volume", "payments_ledger")}
        with pytest.raises(LandingError, match="VS_SCORE"):
            land(con, cascade, retyped, extracts.out)


def test_uci_is_one_model_held_out_by_client(uci: Portfolio) -> None:
    (spec,) = uci.models
    assert (spec.name, spec.subject, spec.holdout, spec.holdout_share) == ("pd_default", "account", "hash", 0.3)
    assert spec.floors == {"auc": 0.74, "ks": 0.36}
    assert (uci.calendar, uci.label.horizon_months, uci.exclude_dpd) == ("monthly", 1, 9999)
    assert set(CONTRACTS) - set(uci.provides) == {"applications", "bureau_pull"}


def test_uci_keeps_the_contracts(uci: Portfolio, uci_tables: duckdb.DuckDBPyConnection) -> None:
    assert_keeps_contracts(uci_tables, uci, UCI_DATE)


def test_uci_statements_lie_oldest_first_each_known_on_its_own_day(uci_tables: duckdb.DuckDBPyConnection) -> None:
    rows = uci_tables.execute(
        "SELECT statement_date, known_on, balance, days_past_due, status FROM loan_servicing "
        "WHERE account_id = 1 ORDER BY statement_date"
    ).fetchall()
    assert [(str(day), int(bill), dpd, status) for day, _, bill, dpd, status in rows] == [
        ("2005-04-30", 0, 0, "inactive"),
        ("2005-05-31", 0, 0, "inactive"),
        ("2005-06-30", 0, 0, "paid_in_full"),
        ("2005-07-31", 689, 0, "paid_in_full"),
        ("2005-08-31", 3102, 60, "delinquent"),
        ("2005-09-30", 3913, 60, "delinquent"),
    ]
    assert all(day == known for day, known, *_ in rows)
    assert value(uci_tables, "SELECT max(days_past_due) FROM loan_servicing WHERE account_id = 2") == 240
    assert value(uci_tables, "SELECT max(credit_limit) FROM loan_servicing WHERE account_id = 2") == 500_000
    assert value(uci_tables, "SELECT any_value(status) FROM loan_servicing WHERE account_id = 2 AND balance = 100") == (
        "revolving"
    )


def test_uci_payments_pay_the_bill_of_the_month_before(uci_tables: duckdb.DuckDBPyConnection) -> None:
    rows = uci_tables.execute(
        "SELECT payment_id, due_date, paid_on, due_amount, paid_amount FROM payments_ledger "
        "WHERE account_id = 2 ORDER BY due_date"
    ).fetchall()
    # A credit balance leaves nothing due, and March's bill is not in the file.
    assert [(pid, due, paid) for pid, _, _, due, paid in rows] == [
        (204, None, 60),
        (205, 600, 50),
        (206, 0, 40),
        (207, 400, 30),
        (208, 300, 20),
        (209, 200, 10),
    ]
    unpaid = "SELECT count(*) FROM payments_ledger WHERE account_id = 1 AND paid_on IS NULL AND paid_amount = 0"
    assert value(uci_tables, unpaid) == 5
    august = "SELECT due_amount = paid_amount FROM payments_ledger WHERE account_id = 1 AND paid_on = '2005-08-31'"
    assert value(uci_tables, august) is True


def test_uci_label_and_protected_attributes(uci_tables: duckdb.DuckDBPyConnection) -> None:
    events = uci_tables.execute("SELECT account_id, event_date, event_type, known_on FROM account_events").fetchall()
    assert events == [(1, UCI_DATE, "default", UCI_DATE)]
    people = uci_tables.execute(
        "SELECT subject_id, age_band, sex, marital_status, known_on FROM applicant_protected ORDER BY subject_id"
    ).fetchall()
    first = date(2005, 4, 30)
    assert people == [
        (1, "18-24", "female", "married", first),
        (2, "65+", "male", "single", first),
        (3, "35-44", "female", None, first),
    ]


@pytest.mark.skipif(not REAL_UCI.is_dir(), reason="the UCI file does not lie beside the repository")
def test_the_real_uci_file_has_its_published_counts(uci: Portfolio) -> None:
    with closing(mapped(uci, REAL_UCI, UCI_DATE)) as con:
        assert_keeps_contracts(con, uci, UCI_DATE)
        assert value(con, "SELECT count(*) FROM loan_servicing") == 180_000
        assert value(con, "SELECT count(*) FROM account_events") == 6_636
        assert value(con, "SELECT count(*) FROM applicant_protected WHERE sex = 'female'") == 18_112
        limits = "SELECT DISTINCT account_id, credit_limit FROM loan_servicing"
        assert round(value(con, f"SELECT avg(credit_limit) FROM ({limits})"), 2) == 167_484.32
        delayed = con.execute(
            "SELECT count(*) FILTER (days_past_due = 30) FROM loan_servicing "
            "GROUP BY statement_date ORDER BY statement_date"
        ).fetchall()
        # The break in the coding of one month of delay that the source is known for.
        assert [count for (count,) in delayed] == [0, 0, 2, 4, 28, 3_688]


def test_no_mapping_carries_a_protected_attribute_outside_its_contract(uci: Portfolio, cascade: Portfolio) -> None:
    for lender, names in ((uci, ("X2", "X3", "X4", "X5")), (cascade, ("SEX_CD", "AGE_BAND_CD", "MAR_STAT_CD"))):
        for table in set(lender.provides) - {"applicant_protected"}:
            words = set(lender.mapping(table).replace(",", " ").replace("(", " ").replace(")", " ").split())
            assert not words & set(names), table
