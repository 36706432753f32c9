"""The log as a file: to be verified by anyone, harmless in a spreadsheet."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from pipeline.errors import ConfigError
from pipeline.governance import audit
from pipeline.governance.export import export, harmless
from tests.signing_off import at_the_home


@pytest.fixture
def log(engine: Engine) -> Engine:
    for n, actor in enumerate(('=HYPERLINK("http://x")', "+1", "-1", "@SUM(A1)", "Ada, of Łódź", 'with "quotes"')):
        detail = {"reason": "=1+1", "n": n}
        audit.append(engine, actor=actor, action="run.started", subject=f"run:{n % 2}", detail=detail)
    return engine


def by_hand(record: dict[str, Any]) -> str:
    fields = {k: v for k, v in record.items() if k != "sha256"}
    return hashlib.sha256(
        json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    ).hexdigest()


def test_json_lines_verify_without_us(log: Engine, tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    facts = export(log, out, by=at_the_home())
    lines = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    previous = "0" * 64
    for line in lines:
        assert line["prev_sha256"] == previous
        assert line["sha256"] == by_hand(line)
        previous = line["sha256"]
    assert (facts["seq"], facts["sha256"], facts["records"]) == (6, previous, 6)
    assert facts["file_sha256"] == hashlib.sha256(out.read_bytes()).hexdigest()
    assert json.loads((tmp_path / "log.jsonl.head.json").read_text()) == facts
    assert sorted(p.name for p in tmp_path.iterdir() if p.name.startswith(("log", "."))) == [
        "log.jsonl",
        "log.jsonl.head.json",
    ]


def test_csv_cells_are_no_formulas(log: Engine, tmp_path: Path) -> None:
    export(log, tmp_path / "log.csv", by=at_the_home(), form="csv")
    with (tmp_path / "log.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["actor"] for row in rows] == [
        "'=HYPERLINK(\"http://x\")", "'+1", "'-1", "'@SUM(A1)", "Ada, of Łódź", 'with "quotes"',
    ]  # fmt: skip
    assert [row["seq"] for row in rows] == list("123456")
    assert not any(value.startswith(("=", "+", "-", "@")) for row in rows for value in row.values())


@pytest.mark.parametrize("cell", ["=1", "+1", "-1", "@x", "\tx", "\rx"])
def test_what_a_spreadsheet_obeys_gets_an_apostrophe(cell: str) -> None:
    assert harmless(cell) == f"'{cell}"


def test_a_part_of_the_log_still_names_the_whole_ones_head(log: Engine, tmp_path: Path) -> None:
    facts = export(log, tmp_path / "part.jsonl", by=at_the_home(), subject="run:1")
    assert (facts["records"], facts["seq"]) == (3, 6)


def test_what_cannot_be_written_is_refused(log: Engine, tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("mine")
    for out, form, message in (
        (tmp_path / "a.jsonl", "jsonl", "is there already"),
        (tmp_path / "a.jsonl" / "b", "jsonl", "cannot be written"),
        (tmp_path / "no folder" / "b", "jsonl", "cannot be written"),
        (tmp_path / "b", "xlsx", "no export as 'xlsx'"),
    ):
        with pytest.raises(ConfigError, match=message):
            export(log, out, by=at_the_home(), form=form)
    assert (tmp_path / "a.jsonl").read_text() == "mine"


def test_an_export_is_on_record_whatever_its_file_is_called(log: Engine, tmp_path: Path) -> None:
    export(log, tmp_path / "a\x1b[31m\n.jsonl", by=at_the_home())
    last = audit.records(log)[-1]
    assert (last.action, last.subject) == ("audit.exported", "export:a\\x1b[31m .jsonl")
