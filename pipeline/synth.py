"""Cascade Lending, the synthetic lender: extracts for a history and for the nights after it.

``generate`` simulates a lender month by month in DuckDB (the model is in ``synth_sql``), a slice of the
statement cycle at a time, so that memory stays bounded for millions of accounts. The same arguments give
the same rows on any machine.
"""

from __future__ import annotations

import gzip
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import duckdb

from pipeline import synth_sql as model
from pipeline.errors import ConfigError
from pipeline.sql import ident, literal
from pipeline.synth_sql import Month

EXTRACTS = ("statements", "payments", "bureau", "credit_applications", "demographics", "events")
INCIDENTS = {
    "bureau_format": "the night's bureau scores come as text, such as 712 (VS4)",
    "duplicate_load": "the night's statements file has every row twice",
    "late_file": "the night's statements file is absent",
    "empty_file": "the night's payments file has a header and no rows",
    "population_shift": "from the date on: other limits and utilisation, riskier applicants",
    "restated_statement": "corrected statements of a week before come with the night's own",
}
RESTATED_DAYS = 7

_BURN_IN = 6  # months simulated before the history, so that it starts with arrears already in the book
_CHUNK = 300_000  # accounts simulated at a time
# Shares of the book a month, measured on the model: what leaves must be booked for the book to keep its size.
_BOOKED_MONTHLY = 0.0190
_BOOKED_PER_APPLICATION = 0.66
_WEEKDAY_WEIGHTS = (1.1, 1.1, 1.05, 1.05, 1.1, 0.9, 0.7)


@dataclass(frozen=True)
class Incident:
    """Something that goes wrong on one date; see INCIDENTS."""

    kind: str
    day: date

    @classmethod
    def parse(cls, text: str) -> Incident:
        """Read ``KIND@YYYY-MM-DD``. Raises ConfigError naming what is wrong with it."""
        kind, _, day = text.partition("@")
        if kind not in INCIDENTS:
            raise ConfigError(f"incident {text!r}: {kind!r} is not a kind", f"kinds are: {', '.join(INCIDENTS)}")
        try:
            return cls(kind, date.fromisoformat(day))
        except ValueError as error:
            raise ConfigError(f"incident {text!r}: {day!r} is not a date", f"write it as {kind}@2026-03-11") from error


@dataclass(frozen=True)
class GenerateReport:
    """What was written. ``accounts`` were ever open; ``rows`` counts each extract, history and nights together."""

    out: Path
    history_from: date
    history_to: date
    nights: tuple[date, ...]
    accounts: int
    rows: dict[str, int]
    incidents: tuple[Incident, ...]
    seconds: float

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {extract}" for extract, count in self.rows.items())
        wrong = ", ".join(f"{i.kind}@{i.day}" for i in self.incidents) or "none"
        return (
            f"{self.out}: history {self.history_from} to {self.history_to} and {len(self.nights)} nights, "
            f"{self.accounts:,} accounts, {counts}; incidents: {wrong}; {self.seconds:.0f} s"
        )


def generate(
    accounts: int,
    months: int,
    out: Path,
    *,
    nights: int = 7,
    end: date = date(2026, 3, 14),
    seed: int = 20260314,
    incidents: Sequence[Incident] = (),
    progress: Callable[[str], None] = lambda _: None,
    memory_limit: str = "4GB",
) -> GenerateReport:
    """Write the extracts of a lender with about ``accounts`` open accounts.

    ``out/history/`` gets one Parquet file per extract with a ``load_date`` column: ``months`` months, up to the
    day before the first night, in load-date order. ``out/<load_date>/`` gets the files of each of the ``nights``
    nights that end at ``end``: statements as Parquet, the others as CSV, gzipped. ``out/history`` appears last:
    with it, the output is complete. ``memory_limit`` is DuckDB's; what does not fit spills to ``out``.

    Raises ConfigError when an argument makes no sense or ``out`` already holds a history.
    """
    started = time.monotonic()
    _check(accounts, months, nights, out)
    first_night = end - timedelta(days=nights - 1)
    history_from = _months_before(first_night, months)
    dates = tuple(first_night + timedelta(days=n) for n in range(nights))
    _check_incidents(incidents, history_from, first_night, end)
    shifted_from = min((i.day for i in incidents if i.kind == "population_shift"), default=None)

    work = out / ".partial"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    con = duckdb.connect(str(work / "lender.duckdb"))
    try:
        con.execute(f"SET memory_limit = {literal(memory_limit)}")
        con.execute(f"SET temp_directory = {literal(str(work / 'spill'))}")
        for macro in model.macros(seed):
            con.execute(macro)
        opened_before = (Month.of(history_from) + -_BURN_IN).first
        _write_applications(con, work, accounts, opened_before, end, shifted_from)
        total = _simulate(con, work, accounts, opened_before, history_from, end, shifted_from, progress)
        rows = _write_extracts(con, work, history_from, first_night, dates, incidents, progress)
    finally:
        con.close()
    for name in (*(d.isoformat() for d in dates), "history"):
        shutil.rmtree(out / name, ignore_errors=True)
        (work / name).replace(out / name)
    shutil.rmtree(work)
    return GenerateReport(
        out=out,
        history_from=history_from,
        history_to=first_night - timedelta(days=1),
        nights=dates,
        accounts=total,
        rows=rows,
        incidents=tuple(incidents),
        seconds=time.monotonic() - started,
    )


def _check(accounts: int, months: int, nights: int, out: Path) -> None:
    for name, value, least in (("accounts", accounts, 100), ("months", months, 1), ("nights", nights, 0)):
        if value < least:
            raise ConfigError(f"{name} is {value}; it must be at least {least}", "give a larger number")
    if accounts > 50_000_000:
        raise ConfigError(f"{accounts:,} accounts are more than the account numbers hold", "give at most 50,000,000")
    if (out / "history").exists():
        raise ConfigError(f"{out} already holds generated extracts", "give another --out, or delete that folder")


def _check_incidents(incidents: Sequence[Incident], history_from: date, first_night: date, end: date) -> None:
    for incident in incidents:
        first = history_from if incident.kind == "population_shift" else first_night
        if not first <= incident.day <= end:
            raise ConfigError(
                f"incident {incident.kind}@{incident.day} is outside {first} to {end}",
                "choose a date of one of the nights, or generate more nights",
            )


def _months_before(day: date, months: int) -> date:
    month = Month.of(day) + -months
    return month.first.replace(day=min(day.day, month.days))


def _write_applications(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    accounts: int,
    opened_before: date,
    end: date,
    shifted_from: date | None,
) -> None:
    """Make the table of all applications, and the parts of the extracts that hang on it alone."""
    daily = accounts * _BOOKED_MONTHLY / _BOOKED_PER_APPLICATION / 30.44
    days: list[str] = []
    due, first = 0.0, 1
    for n in range((end - opened_before).days + 1):
        day = opened_before + timedelta(days=n)
        due += daily * _WEEKDAY_WEIGHTS[day.weekday()]
        last = 1 + int(due)
        days.append(f"({literal(day)}, {first}, {last})")
        first = last
    con.execute("CREATE TABLE days (applied_on DATE, first BIGINT, last BIGINT)")
    con.execute(f"INSERT INTO days VALUES {', '.join(days)}")
    con.execute(f"CREATE TABLE applications AS {model.applications('days', shifted_from)}")
    _part(con, work, "credit_applications", "000", model.credit_applications())
    _part(con, work, "demographics", "applicants", model.demographics_of_applicants())
    _part(con, work, "bureau", "000000_000", model.bureau_of_applications())


def _simulate(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    accounts: int,
    opened_before: date,
    history_from: date,
    end: date,
    shifted_from: date | None,
    progress: Callable[[str], None],
) -> int:
    """Run every account from before the history to two months after the end; returns how many there were.

    The months after the end are needed for payments that were made before their due date.
    """
    booked = con.execute("SELECT count(*) FROM applications WHERE booked_on IS NOT NULL").fetchone()
    assert booked is not None
    total = accounts + int(booked[0])
    chunks = max(1, -(-total // _CHUNK))
    first, last = Month.of(opened_before).number, Month.of(end).number + 2
    for chunk in range(chunks):
        opened = model.accounts(accounts, opened_before, chunk, chunks)
        con.execute(f"CREATE OR REPLACE TEMP TABLE accounts AS {opened}")
        for number in range(first, last + 1):
            month = Month(number)
            moved = model.next_state(month, None if number == first else "state")
            con.execute(f"CREATE OR REPLACE TEMP TABLE next_state AS {moved}")
            con.execute("DROP TABLE IF EXISTS state")
            con.execute("ALTER TABLE next_state RENAME TO state")
            if number < Month.of(history_from).number:
                continue
            if month == Month.of(history_from):
                _part(con, work, "demographics", f"accounts_{chunk:03}", model.demographics_of_accounts(history_from))
            name = f"{number:06}_{chunk:03}"
            _part(con, work, "statements", name, model.statements(month, shifted_from))
            _part(con, work, "payments", name, model.payments(month))
            _part(con, work, "bureau", name, model.bureau_of_accounts(month))
            _part(con, work, "events", name, model.events(month))
        progress(f"simulated {chunk + 1} of {chunks} slices, {total:,} accounts in all")
    return total


def _part(con: duckdb.DuckDBPyConnection, work: Path, extract: str, name: str, query: str) -> None:
    folder = work / "parts" / extract
    folder.mkdir(parents=True, exist_ok=True)
    con.execute(f"COPY ({query}) TO {literal(str(folder / f'{name}.parquet'))} (FORMAT parquet)")


def _write_extracts(
    con: duckdb.DuckDBPyConnection,
    work: Path,
    history_from: date,
    first_night: date,
    dates: Sequence[date],
    incidents: Sequence[Incident],
    progress: Callable[[str], None],
) -> dict[str, int]:
    """Join the parts into history and nights; the parts' names sort by month, so the history is in load-date order."""
    rows: dict[str, int] = {}
    (work / "history").mkdir()
    for day in dates:
        (work / day.isoformat()).mkdir()
    for extract in EXTRACTS:
        parts = sorted(str(p) for p in (work / "parts" / extract).glob("*.parquet"))
        source = f"SELECT * FROM read_parquet([{', '.join(literal(p) for p in parts)}])"
        known = f"load_date >= {literal(history_from)} AND load_date < {literal(first_night)}"
        rows[extract] = _copy(con, f"{source} WHERE {known}", work / "history" / f"{extract}.parquet")
        for day in dates:
            today = {i.kind for i in incidents if i.day == day}
            rows[extract] += _write_night(con, work / day.isoformat(), extract, source, day, today)
        progress(f"{extract}: {rows[extract]:,} rows")
    return rows


def _write_night(
    con: duckdb.DuckDBPyConnection, folder: Path, extract: str, source: str, day: date, today: set[str]
) -> int:
    """Write one extract of one night, with whatever goes wrong that night; returns its rows."""
    if extract == "statements" and "late_file" in today:
        return 0
    query = f"SELECT * FROM ({source}) WHERE load_date = {literal(day)}"
    if extract == "statements" and "restated_statement" in today:
        query += f" UNION ALL {model.restated(source, day - timedelta(days=RESTATED_DAYS), day)}"
    if extract == "statements" and "duplicate_load" in today:
        query = f"{query} UNION ALL {query}"
    if extract == "payments" and "empty_file" in today:
        query += " AND FALSE"
    names = [n for n, *_ in con.execute(f"DESCRIBE {query}").fetchall() if n != "load_date"]
    columns = ", ".join(
        f"{ident(n)} || ' (VS4)' AS {ident(n)}" if n == "VS_SCORE" and "bureau_format" in today else ident(n)
        for n in names
    )
    suffix = "parquet" if extract == "statements" else "csv.gz"
    return _copy(con, f"SELECT {columns} FROM ({query}) ORDER BY ALL", folder / f"{extract}.{suffix}")


def _copy(con: duckdb.DuckDBPyConnection, query: str, path: Path) -> int:
    """Write a query as Parquet or gzipped CSV; returns its rows."""
    if path.suffix == ".parquet":
        row = con.execute(f"COPY ({query}) TO {literal(str(path))} (FORMAT parquet, COMPRESSION zstd)").fetchone()
    else:
        plain = path.with_suffix("")
        row = con.execute(f"COPY ({query}) TO {literal(str(plain))} (FORMAT csv, HEADER)").fetchone()
        # The gzip header would carry the time of day and make equal files differ.
        with plain.open("rb") as text, path.open("wb") as raw, gzip.GzipFile("", "wb", 6, raw, mtime=0) as packed:
            shutil.copyfileobj(text, packed)
        plain.unlink()
    assert row is not None
    return int(row[0])
