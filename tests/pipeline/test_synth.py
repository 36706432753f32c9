"""The synthetic lender: what it promises of its files, its customers and its incidents."""

from __future__ import annotations

import csv
import gzip
import hashlib
from datetime import date, timedelta
from pathlib import Path

import duckdb
import pytest

from pipeline.errors import ConfigError
from pipeline.synth import EXTRACTS, INCIDENTS, GenerateReport, Incident, generate

END = date(2026, 3, 14)


@pytest.fixture(scope="session")
def lender(tmp_path_factory: pytest.TempPathFactory) -> GenerateReport:
    """2,000 accounts, 20 months and 7 clean nights."""
    return generate(2_000, 20, tmp_path_factory.mktemp("lender"), end=END)


@pytest.fixture(scope="session")
def troubled(tmp_path_factory: pytest.TempPathFactory) -> GenerateReport:
    """A lender to whom everything happens, one thing a night."""
    days = {kind: END - timedelta(days=n) for n, kind in enumerate(INCIDENTS)}
    incidents = [Incident(kind, day) for kind, day in days.items()]
    return generate(500, 4, tmp_path_factory.mktemp("troubled"), end=END, incidents=incidents)


@pytest.fixture(scope="session")
def book(lender: GenerateReport) -> duckdb.DuckDBPyConnection:
    """The history's extracts as views of their names."""
    con = duckdb.connect()
    for extract in EXTRACTS:
        con.execute(f"CREATE VIEW {extract} AS FROM '{lender.out}/history/{extract}.parquet'")
    return con


def one(con: duckdb.DuckDBPyConnection, query: str) -> tuple:
    row = con.execute(query).fetchone()
    assert row is not None
    return row


def night_of(report: GenerateReport, kind: str) -> Path:
    return report.out / next(i.day for i in report.incidents if i.kind == kind).isoformat()


def hashes(out: Path) -> dict[str, str]:
    files = sorted(p for p in out.rglob("*") if p.is_file())
    return {str(p.relative_to(out)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def csv_rows(path: Path) -> list[dict[str, str]]:
    with gzip.open(path, "rt", newline="") as handle:
        return list(csv.DictReader(handle))


def test_same_arguments_give_the_same_bytes(tmp_path: Path) -> None:
    for name, seed in (("one", 7), ("two", 7), ("other", 8)):
        generate(300, 2, tmp_path / name, nights=2, end=END, seed=seed)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")
    assert hashes(tmp_path / "one") != hashes(tmp_path / "other")


def test_a_night_has_every_extract_and_the_history_ends_the_day_before(
    lender: GenerateReport, book: duckdb.DuckDBPyConnection
) -> None:
    assert lender.nights == tuple(END - timedelta(days=n) for n in range(6, -1, -1))
    for night in lender.nights:
        assert {p.name.split(".")[0] for p in (lender.out / night.isoformat()).iterdir()} == set(EXTRACTS)
    assert (lender.history_from, lender.history_to) == (date(2024, 7, 8), date(2026, 3, 7))
    for extract in ("statements", "payments", "bureau", "credit_applications", "demographics"):
        loads = one(book, f"SELECT min(load_date), max(load_date), count(DISTINCT load_date) FROM {extract}")
        assert loads == (lender.history_from, lender.history_to, 608), extract
    assert sorted(p.name for p in lender.out.iterdir()) == [*(d.isoformat() for d in lender.nights), "history"]


def test_the_report_counts_the_rows_of_its_files(lender: GenerateReport, book: duckdb.DuckDBPyConnection) -> None:
    for extract in ("payments", "credit_applications"):
        nightly = sum(len(csv_rows(lender.out / d.isoformat() / f"{extract}.csv.gz")) for d in lender.nights)
        assert lender.rows[extract] == nightly + one(book, f"SELECT count(*) FROM {extract}")[0]


def test_the_history_is_in_load_date_order(lender: GenerateReport, book: duckdb.DuckDBPyConnection) -> None:
    # Landing writes one partition a load date; rows in date order keep few of them open at a time.
    for extract in ("statements", "credit_applications"):
        path = lender.out / "history" / f"{extract}.parquet"
        back = "load_date < lag(load_date) OVER (ORDER BY file_row_number) AS back"
        backward = f"SELECT {back} FROM read_parquet('{path}', file_row_number = true)"
        assert one(book, f"SELECT count(*) FROM ({backward}) WHERE back")[0] == 0


def test_the_book_keeps_its_size(book: duckdb.DuckDBPyConnection) -> None:
    sizes = book.execute(
        "SELECT count(*) FROM statements WHERE ACCT_STAT_CD NOT IN ('W', 'X') "
        "AND STMT_DT BETWEEN '2024-08-01' AND '2026-02-28' GROUP BY date_trunc('month', STMT_DT)"
    ).fetchall()
    assert len(sizes) == 19
    assert all(1_800 <= size <= 2_300 for (size,) in sizes)


def test_default_rate_and_arrears_are_those_of_a_lender(book: duckdb.DuckDBPyConnection) -> None:
    statements, defaults, late = one(
        book,
        "SELECT (SELECT count(*) FROM statements), (SELECT count(*) FROM events WHERE EVT_CD = 'DFLT'), "
        "(SELECT avg((DLQ_DAYS >= 30)::INTEGER) FROM statements)",
    )
    assert 0.03 <= 12 * defaults / statements <= 0.065
    assert 0.02 <= late <= 0.07


def test_arrears_rise_one_instalment_at_a_time_and_default_at_90(book: duckdb.DuckDBPyConnection) -> None:
    moves = dict(
        book.execute(
            """SELECT next // 30 - now // 30 AS step, count(*) FROM (
                SELECT DLQ_DAYS AS now, lead(DLQ_DAYS) OVER (PARTITION BY ACCT_NBR ORDER BY STMT_DT) AS next
                FROM statements) WHERE next IS NOT NULL GROUP BY step"""
        ).fetchall()
    )
    assert max(moves) == 1 and moves[0] > moves[1]
    strays = """SELECT count(*) FROM events e JOIN statements s ON s.ACCT_NBR = e.ACCT_NBR
        AND s.STMT_DT BETWEEN e.EVT_DT AND e.EVT_DT + 5
        WHERE EVT_CD = 'DFLT' AND s.DLQ_DAYS NOT BETWEEN 90 AND 119"""
    assert one(book, strays)[0] == 0


def test_utilisation_and_bureau_score_move_before_the_default(book: duckdb.DuckDBPyConnection) -> None:
    before, usual = one(
        book,
        """WITH d AS (SELECT ACCT_NBR, EVT_DT FROM events WHERE EVT_CD = 'DFLT')
        SELECT avg(CUR_BAL_AMT / CR_LMT_AMT) FILTER (d.EVT_DT IS NOT NULL),
               avg(CUR_BAL_AMT / CR_LMT_AMT) FILTER (d.EVT_DT IS NULL)
        FROM statements s LEFT JOIN d ON d.ACCT_NBR = s.ACCT_NBR AND d.EVT_DT - s.STMT_DT BETWEEN 100 AND 200
        WHERE PROD_CD IN ('CC', 'LC') AND DLQ_DAYS = 0 AND ACCT_STAT_CD <> 'X'""",
    )
    assert before > usual + 0.03
    risky, rest = one(
        book,
        """WITH d AS (SELECT ACCT_NBR, EVT_DT FROM events WHERE EVT_CD = 'DFLT')
        SELECT avg(VS_SCORE) FILTER (d.EVT_DT IS NOT NULL), avg(VS_SCORE) FILTER (d.EVT_DT IS NULL)
        FROM bureau b LEFT JOIN d ON d.ACCT_NBR = b.SUBJ_NBR AND d.EVT_DT - b.PULL_DT BETWEEN 100 AND 200
        WHERE SUBJ_TYP_CD = 'ACCT'""",
    )
    assert risky < rest - 25


def test_payments_are_paid_missed_or_returned(book: duckdb.DuckDBPyConnection) -> None:
    missed, missed_amount, returned, late_arrivals, payments = one(
        book,
        """SELECT count(*) FILTER (PMT_DT IS NULL), coalesce(sum(PMT_AMT) FILTER (PMT_DT IS NULL), 0),
            count(*) FILTER (RTN_FLG = 'Y'), count(*) FILTER (load_date > PMT_DT), count(*) FROM payments""",
    )
    assert missed_amount == 0
    assert 0.01 < missed / payments < 0.06 and 0.001 < returned / payments < 0.02
    assert 0.01 < late_arrivals / payments < 0.06


def test_a_booked_application_comes_again_with_its_account(book: duckdb.DuckDBPyConnection) -> None:
    twice, wrong = one(
        book,
        """SELECT count(*), count(*) FILTER (later.load_date <= first.load_date OR later.APPL_DT <> first.APPL_DT)
        FROM credit_applications first JOIN credit_applications later USING (APPL_NBR)
        WHERE first.ACCT_NBR IS NULL AND later.ACCT_NBR IS NOT NULL""",
    )
    assert twice > 100 and wrong == 0
    unopened = """SELECT count(*) FROM credit_applications WHERE ACCT_NBR IS NOT NULL AND load_date < '2026-01-01'
        AND ACCT_NBR NOT IN (SELECT ACCT_NBR FROM statements WHERE OPEN_DT >= APPL_DT)"""
    assert one(book, unopened)[0] == 0


def test_every_row_speaks_of_a_known_account(book: duckdb.DuckDBPyConnection) -> None:
    known = "SELECT ACCT_NBR FROM statements UNION SELECT ACCT_NBR FROM credit_applications WHERE ACCT_NBR IS NOT NULL"
    for extract, column in (
        ("payments", "ACCT_NBR"),
        ("events", "ACCT_NBR"),
        ("(FROM bureau WHERE SUBJ_TYP_CD = 'ACCT')", "SUBJ_NBR"),
        ("(FROM demographics WHERE SUBJ_TYP_CD = 'ACCT')", "SUBJ_NBR"),
    ):
        assert one(book, f"SELECT count(*) FROM {extract} WHERE {column} NOT IN ({known})")[0] == 0, extract


def test_fewer_nights_change_nothing_of_the_last(tmp_path: Path) -> None:
    files = []
    for nights in (1, 3):
        out = generate(300, 1, tmp_path / str(nights), nights=nights, end=END).out
        files.append((out / f"{END}" / "statements.parquet").read_bytes())
    assert files[0] == files[1]


def test_bureau_format(troubled: GenerateReport) -> None:
    rows = csv_rows(night_of(troubled, "bureau_format") / "bureau.csv.gz")
    assert rows and all(r["VS_SCORE"].endswith(" (VS4)") for r in rows if r["VS_SCORE"])


def test_duplicate_load(troubled: GenerateReport) -> None:
    path = night_of(troubled, "duplicate_load") / "statements.parquet"
    rows, distinct = one(duckdb.connect(), f"SELECT count(*), count(DISTINCT ACCT_NBR) FROM '{path}'")
    assert rows == 2 * distinct > 0


def test_late_file(troubled: GenerateReport) -> None:
    names = {p.name.split(".")[0] for p in night_of(troubled, "late_file").iterdir()}
    assert names == set(EXTRACTS) - {"statements"}


def test_empty_file(troubled: GenerateReport) -> None:
    with gzip.open(night_of(troubled, "empty_file") / "payments.csv.gz", "rt") as handle:
        assert handle.read() == "PMT_ID,ACCT_NBR,DUE_DT,PMT_DT,DUE_AMT,PMT_AMT,PMT_MTHD_CD,RTN_FLG\n"


def test_population_shift_lasts_from_its_date_on(tmp_path: Path) -> None:
    shift = date(2026, 3, 10)
    used = []
    for name, incidents in (("clean", []), ("shifted", [Incident("population_shift", shift)])):
        out = generate(1_000, 1, tmp_path / name, end=END, incidents=incidents).out
        rows = duckdb.execute(
            f"""SELECT filename[-29:-20]::DATE AS night, avg(CUR_BAL_AMT / CR_LMT_AMT) FROM
            read_parquet('{out}/2026-*/statements.parquet', filename = true)
            WHERE PROD_CD IN ('CC', 'LC') GROUP BY night ORDER BY night"""
        ).fetchall()
        assert len(rows) == 7
        used.append(dict(rows))
    for night, share in used[0].items():
        assert used[1][night] == share if night < shift else used[1][night] > 1.2 * share


def test_restated_statement(troubled: GenerateReport) -> None:
    folder = night_of(troubled, "restated_statement")
    day = date.fromisoformat(folder.name)
    old = f"(FROM '{troubled.out}/history/statements.parquet' WHERE STMT_DT = '{day - timedelta(days=7)}')"
    con = duckdb.connect()
    own, restated, changed = one(
        con,
        f"""SELECT count(*) FILTER (n.STMT_DT = '{day}'), count(o.ACCT_NBR),
            count(o.ACCT_NBR) FILTER (n.CUR_BAL_AMT < o.CUR_BAL_AMT)
        FROM '{folder}/statements.parquet' n LEFT JOIN {old} o USING (ACCT_NBR, STMT_DT)""",
    )
    assert own > restated >= changed > 0


def test_a_second_run_into_the_same_folder_is_refused(lender: GenerateReport) -> None:
    with pytest.raises(ConfigError, match="already holds"):
        generate(500, 1, lender.out, end=END)


def test_what_an_interrupted_run_left_is_replaced(tmp_path: Path) -> None:
    left = tmp_path / ".partial" / "parts" / "statements"
    left.mkdir(parents=True)
    (left / "000000_000.parquet").write_text("half a file")
    (tmp_path / END.isoformat()).mkdir()
    (tmp_path / END.isoformat() / "stray.csv").write_text("x")
    generate(300, 1, tmp_path, nights=1, end=END)
    assert not (tmp_path / ".partial").exists()
    assert not (tmp_path / END.isoformat() / "stray.csv").exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [("meteor@2026-03-10", "not a kind"), ("late_file@tomorrow", "not a date"), ("late_file", "not a date")],
)
def test_incident_texts_that_say_nothing(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Incident.parse(text)


def test_an_incident_outside_the_nights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="outside 2026-03-08 to 2026-03-14"):
        generate(300, 1, tmp_path, end=END, incidents=[Incident.parse("late_file@2026-02-01")])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("arguments", [(10, 12, 7), (300, 0, 7), (300, 12, -1)])
def test_sizes_that_make_no_lender_are_refused(tmp_path: Path, arguments: tuple[int, int, int]) -> None:
    accounts, months, nights = arguments
    with pytest.raises(ConfigError, match="must be at least"):
        generate(accounts, months, tmp_path, nights=nights, end=END)


def test_without_nights_the_history_runs_to_the_end(tmp_path: Path) -> None:
    report = generate(300, 1, tmp_path, nights=0, end=END)
    assert report.history_to == END and report.nights == ()
    assert [p.name for p in tmp_path.iterdir()] == ["history"]
