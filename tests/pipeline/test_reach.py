"""A night makes again what it reaches and carries the rest over, with the bits of a full build whatever happened."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, timedelta

import pytest
import sqlglot

from pipeline import archive, lake
from pipeline.config import Settings
from pipeline.portfolio import load, resolve
from pipeline.rebuild import carried_models
from pipeline.transform import BuildResult, Warehouse
from tests.pipeline.book import Book, history
from tests.pipeline.test_transform import FEATURES, MONTHS, PAYMENT, STATEMENT

DAY = date(2026, 3, 12)
CARRIED = ("int_account_slots", "feat_balance", "feat_delinquency", "feat_payments", "feat_pricing", "feat_utilization")
ENDED = """SELECT {account} AS account_id, DATE '{day}' AS event_date, 'closed' AS event_type, NULL AS amount,
    DATE '{day}' AS load_date"""


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Book:
    settings = Settings.at(tmp_path_factory.mktemp("reach") / "home")
    lake.create(settings, "BIGINT")
    made = Book(settings)
    history(made, date(2026, 4, 2))
    return made


@pytest.fixture(scope="module")
def warehouse(book: Book) -> Iterator[Warehouse]:
    made = Warehouse(book.settings, load(resolve("cascade")))
    build(made, DAY)
    yield made


def build(warehouse: Warehouse, as_of: date) -> BuildResult:
    return warehouse.build(as_of, select=("+account_features",), tests=False)


def fingerprints(book: Book, as_of: date) -> dict[str, str]:
    layer = {name: "intermediate" if name.startswith("int_") else "features" for name in CARRIED}
    tables = {name: book.fingerprint(f"lake.{layer[name]}.{name}") for name in CARRIED}
    return tables | {"account_features": book.fingerprint(FEATURES, f"as_of_date = DATE '{as_of}'")}


def rows_come(book: Book) -> None:
    """A late statement, a late payment, and the end of an account."""
    book.add(
        "loan_servicing", "late", STATEMENT.format(account=7, day="2025-12-29", balance=11, dpd=40, known="2026-03-11")
    )
    paid = PAYMENT.format(payment=1, account=9, due="2025-10-20", paid="2026-03-10", known="2026-03-10")
    book.add("payments_ledger", "paid-late", paid)
    book.add("account_events", "ended", ENDED.format(account=11, day="2026-03-12"))


def load_taken_back(book: Book) -> None:
    book.remove("loan_servicing", "late")


def nothing(book: Book) -> None:
    pass


@pytest.mark.parametrize(
    ("happens", "as_of", "carried"),
    [
        (nothing, DAY + timedelta(days=1), True),
        (rows_come, DAY + timedelta(days=2), True),
        (load_taken_back, DAY + timedelta(days=2), False),
        (nothing, DAY + timedelta(days=1), True),
        (nothing, date(2026, 4, 1), False),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)
def test_what_is_carried_over_equals_a_full_build(
    book: Book, warehouse: Warehouse, happens: Callable[[Book], None], as_of: date, carried: bool
) -> None:
    happens(book)
    built = build(warehouse, as_of)
    assert {name: found is not None for name, found in built.rebuilt.reached.items()} == dict.fromkeys(CARRIED, carried)
    if not carried:
        return  # it was a full build
    was = fingerprints(book, as_of)
    book.forget_state()
    again = build(warehouse, as_of)
    assert set(again.rebuilt.reached.values()) == {None}
    assert fingerprints(book, as_of) == was


def test_a_build_in_batches_of_months_equals_one_at_once(book: Book, warehouse: Warehouse) -> None:
    build(warehouse, DAY)
    at_once = book.fingerprint(MONTHS)
    book.forget_state()
    small = Warehouse(book.settings, warehouse.portfolio, batch_rows=100)
    built = small.build(DAY, select=("path:models/staging", "int_account_month"), tests=False)
    assert built.rebuilt.months is None
    assert len(built.rebuilt.batches) > 10
    assert book.fingerprint(MONTHS) == at_once
    month = next(n for n in built.nodes if n.model == "int_account_month")
    assert month.definition_sha256
    assert "batch" not in archive.path_of(book.settings, month.definition_sha256).read_text()


def test_only_the_month_of_the_as_of_date_stands_in_what_is_carried(book: Book, warehouse: Warehouse) -> None:
    def own_sql(built: BuildResult) -> dict[str, str]:
        found = {n.model: n.definition_sha256 for n in built.nodes if n.model in CARRIED}
        return {
            name: sqlglot.parse_one(archive.path_of(book.settings, digest).read_text(), dialect="duckdb").sql("duckdb")
            for name, digest in found.items()
            if digest
        }

    assert {model.name for model in carried_models(warehouse.manifest())} == set(CARRIED)
    one = own_sql(build(warehouse, DAY))
    other = own_sql(build(warehouse, DAY + timedelta(days=9)))
    assert set(one) == set(CARRIED)
    assert one == other
