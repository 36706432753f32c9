"""A lake with scores and events written by hand: what outcomes are measured of, without models or dbt."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import duckdb

from pipeline import lake
from pipeline.config import Settings
from pipeline.portfolio import Portfolio
from tests.pipeline import small_book

PORTFOLIO: Portfolio = replace(
    small_book.portfolio("BIGINT", (small_book.ACCOUNT_MODEL, small_book.APPLICATION_MODEL)), timezone="UTC"
)
GRADES = PORTFOLIO.grades


class Book:
    """The lease holder's connection to a lake of its own. Every write is one landed or scored fact."""

    def __init__(self, home: Path) -> None:
        self.settings = Settings.at(home)
        lake.create(self.settings, "BIGINT")
        self.con: duckdb.DuckDBPyConnection = lake.connect(self.settings, read_only=False)
        self._row = 0

    def __enter__(self) -> Book:
        return self

    def __exit__(self, *_: object) -> None:
        self.con.close()

    def reader(self) -> closing[duckdb.DuckDBPyConnection]:
        return closing(lake.connect(self.settings))

    def score(
        self,
        as_of: date,
        log_odds: Mapping[int, float],
        *,
        subject: str = "account",
        version: int = 1,
        run_id: str | None = None,
        scored_at: datetime | None = None,
    ) -> None:
        """Replace the partition of scores of a date; by default made before they were due."""
        model = "pd_default" if subject == "account" else "pd_application"
        moment = scored_at or datetime.combine(as_of + timedelta(days=1), time(5), UTC)
        rows: list[tuple[Any, ...]] = []
        for key, z in log_odds.items():
            pd = 1 / (1 + math.exp(-z))
            grade = next(g.name for g in GRADES if pd <= g.pd_up_to)
            points = round(600 - 40 * z)
            rows.append((key, as_of, pd, z, points, grade, model, version, "d", run_id or f"night-{as_of}", 0, moment))
        self.con.execute(f"DELETE FROM lake.scores.{subject}_scores WHERE as_of_date = ?", [as_of])
        self._insert(f"lake.scores.{subject}_scores", rows)

    def event(self, account: int, day: date, known: date, kind: str = "default") -> None:
        self._land("account_events", [{"account_id": account, "event_date": day, "event_type": kind}], known)

    def statement(self, account: int, day: date, opened: date | None, product: str = "card") -> None:
        facts = {"account_id": account, "statement_date": day, "product": product, "opened_on": opened}
        self._land("loan_servicing", [facts | {"days_past_due": 0, "status": "current"}], day)

    def application(self, number: int, day: date, account: int | None, known: date, product: str = "card") -> None:
        facts = {"application_id": number, "account_id": account, "applied_on": day, "product": product}
        self._land("applications", [facts | {"channel": "online", "state": "NY"}], known)

    def protected(self, groups: Mapping[str, Iterable[int]], day: date, subject: str = "application") -> None:
        facts = [
            {"subject_id": number, "subject_type": subject, "recorded_on": day, "sex": sex}
            for sex, numbers in groups.items()
            for number in numbers
        ]
        self._land("applicant_protected", facts, day)

    def _land(self, table: str, facts: Sequence[Mapping[str, Any]], known: date) -> None:
        rows = []
        for fact in facts:
            self._row += 1
            rows.append((*fact.values(), known, f"load-{known}", "f.csv", "0" * 64, self._row))
        columns = (*facts[0], "load_date", "load_id", "source_file", "source_sha256", "source_row")
        self._insert(f"lake.raw.{table} ({', '.join(columns)})", rows)

    def _insert(self, target: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """All rows in one statement: each is a commit of the lake."""
        marks = ", ".join(f"({', '.join('?' * len(row))})" for row in rows)
        self.con.execute(f"INSERT INTO {target} VALUES {marks}", [value for row in rows for value in row])

    def stored(self, table: str) -> list[dict[str, Any]]:
        """Every stored row of an outcome table, in the order it was written, without the run's name."""
        cursor = self.con.execute(f"SELECT * EXCLUDE (run_id) FROM lake.outcomes.{table}")
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
