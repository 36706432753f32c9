"""Whatever bytes and columns arrive: a landing either lands whole or says why not and leaves nothing."""

from __future__ import annotations

import csv
import gzip
import io
import shutil
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline import gates, home, lake
from pipeline.config import Settings
from pipeline.errors import LandingError
from tests.conftest import examples
from tests.pipeline.lender import HEADER, statement, write_portfolio
from tests.pipeline.test_land import DAY, Lender

GOOD = "\n".join(";".join(row) for row in [HEADER, *(statement(a, DAY) for a in range(30))]).encode() + b"\n"
AWKWARD = st.sampled_from(
    ["", " ", "NULL", "nan", "inf", "-0", "1e400", "999999999999999999.99", "0.005", "2026-02-30", "9999-12-31", "\0",
     "\ufeff", "'; DROP TABLE raw.loads; --", '"', "\r", "=1+1", "٣", "2026-03-10", "H001", "-1", "2147483648"]
)  # fmt: skip
CELLS = st.one_of(AWKWARD, st.text(max_size=12), st.integers().map(str), st.dates().map(str), st.floats().map(str))


@pytest.fixture(scope="module")
def lender(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lender]:
    folder = tmp_path_factory.mktemp("fuzzed")
    settings = Settings.at(folder / "home")
    portfolio = home.init(settings, write_portfolio(folder / "portfolio"))
    with closing(lake.connect(settings, read_only=False)) as con:
        yield Lender(settings, portfolio, folder / "extracts", con)


def landed_or_nothing(lender: Lender, files: dict[str, bytes]) -> bool:
    """Land files; returns whether they landed."""
    folder = lender.extracts / DAY.isoformat()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    try:
        loads = lender.land()
    except LandingError as error:
        assert error.next_step and str(error.message)
        assert (lender.count("loan_servicing"), lender.count("payments_ledger")) == (0, 0)
        assert lender.count("loads") == 0
        return False
    assert {x.table: x.rows for x in loads} == {x.table: lender.count(x.table) for x in loads}
    gates.check(lender.con, lender.portfolio, DAY)
    for table in ("loan_servicing", "payments_ledger", "loads", "load_months", "load_log"):
        lender.con.execute(f"DELETE FROM raw.{table}")
    return True


@st.composite
def spoiled(draw: st.DrawFn) -> bytes:
    """A good file of which bytes are changed, lost, repeated or put in."""
    body = bytearray(GOOD)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(body)))
        match draw(st.sampled_from(("flip", "cut", "insert", "repeat", "drop"))):
            case "flip" if at < len(body):
                body[at] ^= draw(st.integers(1, 255))
            case "cut":
                del body[at:]
            case "insert":
                body[at:at] = draw(st.binary(max_size=20))
            case "repeat":
                body[at:at] = body[at : at + draw(st.integers(0, 200))]
            case _:
                del body[at : at + draw(st.integers(0, 50))]
    return bytes(body)


@examples(40)
@given(body=st.one_of(spoiled(), st.binary(max_size=400)), packed=st.booleans())
def test_any_bytes(lender: Lender, body: bytes, packed: bool) -> None:
    landed_or_nothing(lender, {"statements.csv.gz": gzip.compress(body)} if packed else {"statements.csv": body})


@examples(40)
@given(at=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_bit_of_a_compressed_file(lender: Lender, at: float, bit: int) -> None:
    """What gzip's own checksum refuses never lands, whatever the reader beneath makes of it."""
    body = bytearray(gzip.compress(GOOD))
    body[int(at * len(body))] ^= 1 << bit
    try:
        whole = gzip.decompress(bytes(body)) == GOOD
    except (EOFError, OSError, zlib.error):
        whole = False
    assert not landed_or_nothing(lender, {"statements.csv.gz": bytes(body)}) or whole


@examples(15)
@given(
    body=st.one_of(spoiled(), st.binary(max_size=400)),
    name=st.sampled_from(["statements.csv.gz", "statements.parquet"]),
)
def test_bytes_that_are_not_what_their_name_says(lender: Lender, body: bytes, name: str) -> None:
    landed_or_nothing(lender, {name: body})


@st.composite
def tables(draw: st.DrawFn) -> bytes:
    """A CSV file of any columns in any order with any cells; most of the lender's own among them."""
    header = draw(st.lists(st.one_of(st.sampled_from(HEADER), CELLS), min_size=1, max_size=7))
    if draw(st.booleans()):
        header = list(draw(st.permutations(HEADER)))
    usual = dict(zip(HEADER, statement(1, DAY), strict=True))
    rows = [
        [usual.get(name, "x") if draw(st.integers(0, 5)) else draw(CELLS) for name in header]
        for _ in range(draw(st.integers(0, 4)))
    ]
    out = io.StringIO(newline="")
    csv.writer(out, delimiter=draw(st.sampled_from(";;;,\t"))).writerows([header, *rows])
    return out.getvalue().encode("utf-8", "surrogatepass")


@examples(40)
@given(statements=tables(), receipts=st.none() | tables())
def test_any_columns_and_cells(lender: Lender, statements: bytes, receipts: bytes | None) -> None:
    landed_or_nothing(lender, {"statements.csv": statements} | ({} if receipts is None else {"receipts.csv": receipts}))


def test_a_good_file_lands(lender: Lender, tmp_path: Path) -> None:
    """The laws above would hold of a landing that refuses everything."""
    folder = lender.extracts / DAY.isoformat()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "statements.csv").write_bytes(GOOD)
    assert [x.rows for x in lender.land()] == [30, 0]
    for table in ("loan_servicing", "loads", "load_months", "load_log"):
        lender.con.execute(f"DELETE FROM raw.{table}")
