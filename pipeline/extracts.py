"""A lender's extract files as typed DuckDB tables, each row carrying the file and row it came from.

``open_extracts`` checks file by file: present, readable, UTF-8, the declared columns and no others,
every value of its declared type. The first fault is raised as a LandingError that names file, row
and column.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import re
import zlib
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import duckdb

from pipeline.contracts import form
from pipeline.errors import LandingError
from pipeline.faults import of_the_machine
from pipeline.portfolio import Extract, Portfolio
from pipeline.sql import ident, literal

SUFFIXES = (".csv", ".csv.gz", ".parquet")
_INTEGERS = {"TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT"}


@dataclass(frozen=True)
class ExtractFile:
    """One file of a landing, by its bytes. state: inode, size and time of the last change when they were hashed."""

    extract: str
    path: Path
    sha256: str
    bytes: int
    state: tuple[int, int, int]

    @classmethod
    def of(cls, extract: str, path: Path) -> ExtractFile:
        """Hash a file. Raises LandingError for one that is compressed and not whole."""
        before = _state(path)
        if path.suffix == ".gz":
            _require_whole_stream(path)
        return cls(extract, path, sha256_of(path), path.stat().st_size, before)

    def require_unchanged(self) -> None:
        """Raise LandingError where other bytes lie at the path by now: what is on record is what was landed."""
        if _state(self.path) != self.state:
            raise LandingError(
                f"{self.path.name} was changed while it was landed",
                "deliver it whole, under another name first and then renamed, and land it again; nothing was landed",
            )


def folder_for(extracts: Path, load_date: date) -> Path:
    """The folder that holds a load date's files: ``extracts/<load_date>`` if it is there, else ``extracts``."""
    dated = extracts / load_date.isoformat()
    return dated if dated.is_dir() else extracts


def find_files(portfolio: Portfolio, folder: Path) -> dict[str, ExtractFile]:
    """The file of each declared extract, hashed. Raises LandingError naming every required file that is missing."""
    if not folder.is_dir():
        raise LandingError(f"the extract folder {folder} does not exist", "check --extracts and the load date")
    found: dict[str, ExtractFile] = {}
    missing: list[str] = []
    for extract in portfolio.extracts:
        paths = [p for p in (folder / f"{extract.name}{s}" for s in SUFFIXES) if p.is_file()]
        if len(paths) > 1:
            raise LandingError(
                f"extract {extract.name} is there twice: {', '.join(p.name for p in paths)}",
                f"leave one of them in {folder}",
            )
        if paths:
            found[extract.name] = ExtractFile.of(extract.name, paths[0])
        elif not extract.optional:
            missing.append(extract.name)
    if missing:
        raise LandingError(
            f"missing from {folder}: {', '.join(missing)} (each as {', '.join(SUFFIXES)})",
            "deliver the files, or mark the extract optional in portfolio.yml; nothing was landed",
        )
    return found


def _state(path: Path) -> tuple[int, int, int]:
    there = path.stat()
    return there.st_ino, there.st_size, there.st_mtime_ns


def _require_whole_stream(path: Path) -> None:
    """Read a compressed file to its end: DuckDB looks at no checksum, and takes a cut one for its whole."""
    try:
        with gzip.open(path) as stream:
            while stream.read(1 << 20):
                pass
    except (EOFError, OSError, zlib.error) as error:
        raise LandingError(f"{path.name} cannot be read to its end: {error}", _AGAIN) from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's bytes, read in blocks."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def open_extracts(
    con: duckdb.DuckDBPyConnection, portfolio: Portfolio, files: dict[str, ExtractFile], load_date: date
) -> None:
    """Make each extract readable under its name, with its declared columns and ``source``.

    ``source`` is STRUCT(file, sha256, row, load_date). A ``load_date`` column in the file, declared or not,
    is the row's own load date; otherwise it is the landing's. An absent optional extract is an empty table.
    """
    for extract in portfolio.extracts:
        file = files.get(extract.name)
        if file is None:
            types = canonical_types(con, extract)
            columns = ", ".join(f"CAST(NULL AS {t}) AS {ident(n)}" for n, t in types.items())
            con.execute(
                f"CREATE OR REPLACE TEMP VIEW {ident(extract.name)} AS "
                f"SELECT {columns}, CAST(NULL AS {_SOURCE_TYPE}) AS source WHERE false"
            )
            continue
        if file.bytes == 0:
            raise LandingError(f"{file.path.name} is empty (0 bytes)", "deliver the file again; nothing was landed")
        try:
            raw = _open_parquet(con, extract, file) if file.path.suffix == ".parquet" else _open_csv(con, extract, file)
        except duckdb.Error as error:
            if of_the_machine(error):
                raise
            raise LandingError(f"{file.path.name}{_reader_message(str(error))}", _AGAIN) from error
        _define(con, extract, file, raw, load_date)


_SOURCE_TYPE = "STRUCT(file VARCHAR, sha256 VARCHAR, row BIGINT, load_date DATE)"
_AGAIN = "correct the file and land it again; nothing was landed"


def _open_csv(con: duckdb.DuckDBPyConnection, extract: Extract, file: ExtractFile) -> dict[str, str]:
    """Load a CSV as text, with its record number; returns its columns with their types (all VARCHAR)."""
    header = _csv_header(extract, file.path)
    _check_columns(extract, file.path.name, header)
    columns = ", ".join(f"{literal(n)}: 'VARCHAR'" for n in header)
    # DuckDB keeps insertion order, so that row_number() is the record's number in the file.
    con.execute(
        f"""CREATE OR REPLACE TEMP TABLE {ident(f"_text_{extract.name}")} AS
        SELECT row_number() OVER () AS _row, * FROM read_csv({literal(str(file.path))},
            auto_detect=false, header=true, delim={literal(extract.delimiter)}, quote='"', escape='"',
            columns={{{columns}}}, nullstr='', strict_mode=true, null_padding=false, encoding='utf-8')"""
    )
    con.execute(f"CREATE OR REPLACE TEMP VIEW {ident(_raw(extract))} AS SELECT * FROM {ident(f'_text_{extract.name}')}")
    return dict.fromkeys(header, "VARCHAR")


def _open_parquet(con: duckdb.DuckDBPyConnection, extract: Extract, file: ExtractFile) -> dict[str, str]:
    """Open a Parquet file in place; returns its columns with their types."""
    reader = f"read_parquet({literal(str(file.path))}, file_row_number=true)"
    types = {
        name: str(kind)
        for name, kind, *_ in con.execute(f"DESCRIBE SELECT * EXCLUDE (file_row_number) FROM {reader}").fetchall()
    }
    _check_columns(extract, file.path.name, list(types))
    con.execute(
        f"""CREATE OR REPLACE TEMP VIEW {ident(_raw(extract))} AS
        SELECT file_row_number + 1 AS _row, * EXCLUDE (file_row_number) FROM {reader}"""
    )
    return types


def _raw(extract: Extract) -> str:
    return f"_extract_{extract.name}"


def _csv_header(extract: Extract, path: Path) -> list[str]:
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        # Other bytes than the header's are not judged here: DuckDB names the line that they are in.
        with opener(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline="") as handle:
            header = next(csv.reader(handle, delimiter=extract.delimiter), [])
    except (EOFError, OSError) as error:
        raise LandingError(f"{path.name} cannot be read to its end: {error}", _AGAIN) from error
    except csv.Error as error:
        raise LandingError(f"{path.name}, header: {error}", _AGAIN) from error
    if any("\udc80" <= character <= "\udcff" for name in header for character in name):
        raise LandingError(f"{path.name}, line 1: not UTF-8", _AGAIN)
    if len(header) == 1:
        for other in ",;|\t":
            if other != extract.delimiter and len(header[0].split(other)) > 1:
                raise LandingError(
                    f"{path.name} is delimited by {other!r}; portfolio.yml declares {extract.delimiter!r}",
                    f"export it with {extract.delimiter!r}, or set extracts.{extract.name}.delimiter",
                )
    return header


def _check_columns(extract: Extract, name: str, header: list[str]) -> None:
    expected = set(extract.columns) | {"load_date"}
    repeated = sorted({c for c in header if header.count(c) > 1})
    missing = [c for c in extract.columns if c not in header and c != "load_date"]
    extra = [c for c in header if c not in expected]
    faults = [
        f"{what} {', '.join(repr(c) for c in columns)}"
        for what, columns in (("missing column", missing), ("unknown column", extra), ("repeated column", repeated))
        if columns
    ]
    if faults:
        raise LandingError(
            f"{name}: {'; '.join(faults)}",
            f"deliver the columns declared under extracts.{extract.name} in portfolio.yml, or change them there",
        )


def _define(
    con: duckdb.DuckDBPyConnection, extract: Extract, file: ExtractFile, raw: dict[str, str], load_date: date
) -> None:
    """Check every value against its declared type, then define the typed view under the extract's name."""
    types = {n: t for n, t in canonical_types(con, extract).items() if n in raw}
    if "load_date" in raw:
        types["load_date"] = "DATE"
    faults = {n: bad for n, t in types.items() if (bad := _unreadable(n, raw[n].upper(), t))}
    if faults:
        first = ", ".join(f"min(_row) FILTER ({bad})" for bad in faults.values())
        rows = con.execute(f"SELECT {first} FROM {ident(_raw(extract))}").fetchone()
        assert rows is not None
        hits = sorted((row, name) for row, name in zip(rows, faults, strict=True) if row is not None)
        if hits:
            row, name = hits[0]
            value = con.execute(f"SELECT {ident(name)} FROM {ident(_raw(extract))} WHERE _row = {row}").fetchone()
            shown = form(value[0]) if value else "?"
            others = f" (and {len(hits) - 1} more columns)" if len(hits) > 1 else ""
            raise LandingError(
                f"{file.path.name}, row {row}, column {name!r}: {shown} is not a {types[name]}{others}", _AGAIN
            )
    columns = ", ".join(f"CAST({_clean(n, raw[n])} AS {types[n]}) AS {ident(n)}" for n in types if n != "load_date")
    row_load_date = "CAST(load_date AS DATE)" if "load_date" in raw else literal(load_date)
    con.execute(
        f"""CREATE OR REPLACE TEMP VIEW {ident(extract.name)} AS SELECT {columns},
        CAST({{'file': {literal(file.path.name)}, 'sha256': {literal(file.sha256)}, 'row': _row,
               'load_date': {row_load_date}}} AS {_SOURCE_TYPE}) AS source
        FROM {ident(_raw(extract))}"""
    )


def canonical_types(con: duckdb.DuckDBPyConnection, extract: Extract) -> dict[str, str]:
    """The declared types as DuckDB spells them: INT is INTEGER, NUMERIC(9,2) is DECIMAL(9,2)."""
    found = {}
    for name, declared in extract.columns.items():
        try:
            found[name] = str(con.execute(f"DESCRIBE SELECT CAST(NULL AS {declared}) AS c").fetchall()[0][1])
        except duckdb.Error as error:
            raise LandingError(
                f"portfolio.yml, extracts.{extract.name}.columns.{name}: {declared!r} is not a type",
                "declare one of DuckDB's types, for example BIGINT, VARCHAR, DATE or DECIMAL(18,2)",
            ) from error
    return found


def _clean(name: str, raw_type: str) -> str:
    return f"trim({ident(name)})" if raw_type == "VARCHAR" else ident(name)


def _unreadable(name: str, raw_type: str, declared: str) -> str:
    """SQL that is true where a value cannot be read as declared without loss; empty when it always can.

    A cast alone would round '12.7' to 13 and 1.239 to 1.24 without a word.
    """
    if raw_type == declared or declared == "VARCHAR":
        return ""
    column = ident(name)
    if raw_type != "VARCHAR":
        # A typed file: the value must survive the way there and back.
        there_and_back = f"TRY_CAST(TRY_CAST({column} AS {declared}) AS {raw_type})"
        return f"{column} IS NOT NULL AND {there_and_back} IS DISTINCT FROM {column}"
    text = f"trim({column})"
    lossy = ""
    if declared in _INTEGERS:
        lossy = f" OR NOT regexp_full_match({text}, '[+-]?[0-9]+')"
    elif decimal := re.fullmatch(r"DECIMAL\((\d+),\s*(\d+)\)", declared):
        lossy = f" OR NOT regexp_full_match({text}, '[+-]?[0-9]*([.][0-9]{{0,{decimal[2]}}}0*)?')"
    return f"{column} IS NOT NULL AND (TRY_CAST({text} AS {declared}) IS NULL{lossy})"


def _reader_message(text: str) -> str:
    """What a DuckDB reader says of the file: the line and the fault, to be put after the file's name.

    Without its advice, and without the line itself: that is a customer's record, and messages are kept.
    """
    kept = [line.strip() for line in text.partition("\nPossible")[0].splitlines() if line.strip()]
    found = re.match(r"(?:[\w ]+ Error: )?CSV Error on Line: (\d+)", text)
    if not found:
        said = [line for line in kept if not re.match(r"LINE \d+:|\^", line)]
        return ": " + re.sub(r"^[\w ]+ Error: ", "", " ".join(said))[:400]
    counts = re.search(r"^Expected Number of Columns: (\d+) Found: (\d+)$", text, re.MULTILINE)
    if counts:
        fault = f"{counts[2]} columns where the header has {counts[1]}"
    elif "not utf-8 encoded" in text:
        fault = "not UTF-8"
    elif "unterminated quote" in text:
        fault = "a quote that is not closed where its value ends"
    else:
        fault = kept[-1]
    return f", line {found[1]}: {fault}"
