"""The feature build on a tiny real lake: what is rebuilt, what is refused, what is kept as evidence."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest

from pipeline import archive, lake
from pipeline.config import Settings
from pipeline.errors import FeatureBuildFailed
from pipeline.features import feature_contract
from pipeline.portfolio import Portfolio, load, resolve
from pipeline.rebuild import INCREMENTAL
from pipeline.transform import FEATURE_LAYERS, BuildFailed, BuildResult, Warehouse
from tests.pipeline.book import Book, history

LAST = date(2026, 3, 14)
BEFORE = date(2026, 3, 2)
MONTHS = f"lake.intermediate.{INCREMENTAL}"
FEATURES = "lake.features.account_features"

STATEMENT = """SELECT {account} AS account_id, DATE '{day}' AS statement_date, 'card' AS product,
    DATE '2022-01-01' AS opened_on, 2000 AS credit_limit, {balance} AS balance, 50 AS scheduled_payment, 0.2 AS apr,
    {dpd} AS days_past_due, 'current' AS status, DATE '{known}' AS load_date"""
PAYMENT = """SELECT {payment} AS payment_id, {account} AS account_id, DATE '{due}' AS due_date,
    DATE '{paid}' AS paid_on, 50 AS due_amount, 50 AS paid_amount, 'card' AS method, false AS returned,
    DATE '{known}' AS load_date"""


@pytest.fixture(scope="module")
def portfolio() -> Portfolio:
    return load(resolve("cascade"))


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    settings = Settings.at(tmp_path_factory.mktemp("transform") / "home")
    lake.create(settings, "BIGINT")
    made = Book(settings)
    history(made, LAST)
    return made


@pytest.fixture(scope="module")
def warehouse(book: Book, portfolio: Portfolio) -> Iterator[Warehouse]:
    made = Warehouse(book.settings, portfolio)
    made.build(LAST, tests=False)
    yield made


def build_months(warehouse: Warehouse, as_of: date) -> BuildResult:
    """Build the incremental model and what it reads; the rest of the graph has nothing to say about it."""
    return warehouse.build(as_of, select=("path:models/staging", INCREMENTAL), tests=False)


def assert_equals_full_rebuild(book: Book, warehouse: Warehouse, as_of: date) -> None:
    built = build_months(warehouse, as_of)
    assert built.rebuilt.months is not None
    incremental = book.fingerprint(MONTHS)
    book.forget_state()
    assert build_months(warehouse, as_of).rebuilt.months is None
    assert book.fingerprint(MONTHS) == incremental


def test_every_data_test_passes_and_every_feature_table_has_the_book(book: Book, warehouse: Warehouse) -> None:
    result = warehouse.build(LAST, select=(*FEATURE_LAYERS, "path:models/marts"))
    assert (result.failed, result.passed >= 300) == (0, True)
    accounts = book.query(
        f"SELECT count(*), count(DISTINCT account_id) FROM {FEATURES} WHERE as_of_date = DATE '{LAST}'"
    )
    slots = book.query("SELECT count(*), count(DISTINCT account_id) FROM lake.intermediate.int_account_slots")
    assert accounts == slots
    assert accounts[0][0] > 20  # type: ignore[operator]


def test_a_second_run_rebuilds_no_month_and_gives_the_same_bits(book: Book, warehouse: Warehouse) -> None:
    warehouse.build(LAST, tests=False)
    before = book.fingerprint(FEATURES, f"as_of_date = DATE '{LAST}'")
    assert warehouse.build(LAST, tests=False).rebuilt.months == ()
    assert book.fingerprint(FEATURES, f"as_of_date = DATE '{LAST}'") == before


def test_moving_backwards_and_forwards_equals_a_full_rebuild(book: Book, warehouse: Warehouse) -> None:
    build_months(warehouse, LAST)
    assert_equals_full_rebuild(book, warehouse, BEFORE)
    assert_equals_full_rebuild(book, warehouse, LAST)


def test_late_and_restated_rows_equal_a_full_rebuild(book: Book, warehouse: Warehouse) -> None:
    build_months(warehouse, LAST)
    # A statement of January that comes in March, another balance for one of February, a payment of December paid now.
    book.add(
        "loan_servicing", "late", STATEMENT.format(account=7, day="2026-01-30", balance=11, dpd=40, known="2026-03-12")
    )
    known = book.query(
        "SELECT max(statement_date) FROM lake.raw.loan_servicing WHERE account_id = 8 AND statement_date < '2026-03-01'"
    )
    book.add(
        "loan_servicing", "again", STATEMENT.format(account=8, day=known[0][0], balance=777, dpd=0, known="2026-03-13")
    )
    book.add(
        "payments_ledger",
        "paid-late",
        PAYMENT.format(payment=1, account=9, due="2025-12-20", paid="2026-03-10", known="2026-03-10"),
    )
    built = build_months(warehouse, LAST)
    assert built.rebuilt.months == (date(2025, 12, 1), date(2026, 1, 1), date(2026, 2, 1))
    assert book.query(f"SELECT balance FROM {MONTHS} WHERE account_id = 8 AND statement_month = '2026-02-01'") == [
        (777,)
    ]
    incremental = book.fingerprint(MONTHS)
    book.forget_state()
    build_months(warehouse, LAST)
    assert book.fingerprint(MONTHS) == incremental


def test_a_load_taken_back_equals_a_full_rebuild(book: Book, warehouse: Warehouse) -> None:
    book.add(
        "loan_servicing", "wrong", STATEMENT.format(account=5, day="2025-11-29", balance=1, dpd=0, known="2026-03-14")
    )
    build_months(warehouse, LAST)
    book.remove("loan_servicing", "wrong")
    assert_equals_full_rebuild(book, warehouse, LAST)
    book.add(
        "payments_ledger",
        "wrong-too",
        PAYMENT.format(payment=2, account=9, due="2025-10-02", paid="2026-03-10", known="2026-03-10"),
    )
    build_months(warehouse, LAST)
    with_payment = book.fingerprint(MONTHS)
    book.remove("payments_ledger", "wrong-too")
    # The months that a vanished payment was due in are no longer told by any row: everything is rebuilt.
    assert build_months(warehouse, LAST).rebuilt.months is None
    assert book.fingerprint(MONTHS) != with_payment


def test_a_changed_definition_rebuilds_everything(book: Book, warehouse: Warehouse, portfolio: Portfolio) -> None:
    build_months(warehouse, LAST)
    stricter = Warehouse(book.settings, dataclasses.replace(portfolio, exclude_dpd=30))
    assert build_months(stricter, LAST).rebuilt.months is None
    assert build_months(stricter, LAST).rebuilt.months == ()
    assert build_months(warehouse, LAST).rebuilt.months is None


def test_an_as_of_date_run_again_is_unchanged_by_later_loads(book: Book, warehouse: Warehouse) -> None:
    warehouse.build(BEFORE, tests=False)
    saw = book.fingerprint(FEATURES, f"as_of_date = DATE '{BEFORE}'")
    book.add(
        "loan_servicing", "later", STATEMENT.format(account=6, day="2026-02-20", balance=9, dpd=30, known="2026-03-05")
    )
    warehouse.build(LAST, tests=False)
    assert book.query(f"SELECT dpd_max_3m FROM {FEATURES} WHERE as_of_date = DATE '{LAST}' AND account_id = 6") >= [
        (30,)
    ]
    warehouse.build(BEFORE, tests=False)
    assert book.fingerprint(FEATURES, f"as_of_date = DATE '{BEFORE}'") == saw


def test_what_ran_is_archived_by_its_content(book: Book, warehouse: Warehouse) -> None:
    warehouse.build(BEFORE, tests=False)
    result = warehouse.build(LAST, tests=False)
    assert result.rebuilt.months
    for node in result.nodes:
        assert node.executed_sha256
        assert archive.path_of(book.settings, node.executed_sha256).is_file()
    month = next(n for n in result.nodes if n.model == INCREMENTAL)
    assert month.definition_sha256
    assert month.definition_sha256 != month.executed_sha256
    whole = archive.path_of(book.settings, month.definition_sha256).read_text()
    columns = ", ".join(name for name, *_ in book.query(f"DESCRIBE {MONTHS}"))  # type: ignore[misc]
    assert book.fingerprint(f"({whole})".replace("SELECT *", f"SELECT {columns}")) == book.fingerprint(
        f"(SELECT {', '.join(n for n, *_ in book.query(f'DESCRIBE ({whole})'))} FROM {MONTHS})"  # type: ignore[misc]
    )
    assert result.manifest_path.is_file()
    assert result.run_results_sha256
    assert archive.path_of(book.settings, result.run_results_sha256).is_file()


def test_a_broken_test_names_column_and_count_and_hands_back_the_result(book: Book, warehouse: Warehouse) -> None:
    book.add("loan_servicing", "broken", STATEMENT.format(account=5, day=LAST, balance=1, dpd=-3, known=LAST))
    with pytest.raises(FeatureBuildFailed, match=r"loan_servicing\.days_past_due: 1 rows") as caught:
        warehouse.build(LAST)
    book.remove("loan_servicing", "broken")
    assert isinstance(caught.value, BuildFailed)
    failed = {(n.model, n.column, n.failures) for n in caught.value.result.nodes if n.status == "fail"}
    assert ("loan_servicing", "days_past_due", 1) in failed
    assert ("account_features", "dpd_last_1", 1) in failed
    assert caught.value.next_step
    warehouse.build(LAST, tests=False)


def test_cohorts_are_built_first_and_tested_together(book: Book, warehouse: Warehouse) -> None:
    cohorts = [date(2025, 12, 31), date(2026, 1, 31)]
    assert warehouse.unbuilt("account_features", cohorts) == cohorts
    for day in cohorts:
        warehouse.build(day, period_start=day.replace(day=1), tests=False)
    assert warehouse.unbuilt("account_features", cohorts) == []
    assert warehouse.unbuilt("application_features", cohorts) == []
    result = warehouse.test(cohorts, select=["account_features", "application_features"])
    assert result.failed == 0
    # A row that became known before the second cohort, loaded only now, undoes that cohort alone.
    book.add(
        "loan_servicing", "found", STATEMENT.format(account=4, day="2026-01-05", balance=9, dpd=0, known="2026-01-20")
    )
    assert warehouse.unbuilt("account_features", cohorts) == cohorts[1:]
    # A night's partition holds its day's applications only, not the month's.
    warehouse.build(cohorts[1], period_start=cohorts[1], tests=False)
    assert warehouse.unbuilt("account_features", cohorts) == []
    assert warehouse.unbuilt("application_features", cohorts) == cohorts[1:]


def test_outcomes_are_views_at_their_own_date(book: Book, warehouse: Warehouse) -> None:
    warehouse.build(LAST, select=["+int_account_outcomes", "+int_application_outcomes"], tests=False)
    assert book.query("SELECT subject_id FROM lake.intermediate.int_account_outcomes") == [(30,)]
    warehouse.build(date(2026, 2, 11), select=["+int_account_outcomes"], tests=False)
    assert book.query("SELECT count(*) FROM lake.intermediate.int_account_outcomes") == [(0,)]


def test_contracts_that_a_portfolio_lacks_give_null_features(tmp_path: Path, portfolio: Portfolio) -> None:
    settings = Settings.at(tmp_path / "home")
    lake.create(settings, "BIGINT")
    book = Book(settings)
    history(book, LAST, only_statements=True)
    warehouse = Warehouse(settings, portfolio)
    assert warehouse.build(LAST).failed == 0
    lacking = [f.name for f in feature_contract(warehouse.manifest(), "account") if f.theme == "bureau"]
    lacking += ["payment_missed_count_12m", "paid_avg_6m", "cure_count_24m"]
    counts = book.query(f"SELECT {', '.join(f'count({name})' for name in lacking)} FROM {FEATURES}")
    assert counts == [(0,) * len(lacking)]
