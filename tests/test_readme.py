"""The README is tested: its lender comes aboard by its own words, its commands exist, its files are there."""

from __future__ import annotations

import csv
import os
import random
import re
import shlex
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup

from app.cli import cli
from pipeline.calendar import add_months, month_end
from pipeline.config import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```(?P<info>[^\n]+)\n(?P<body>.*?)^```$", re.MULTILINE | re.DOTALL)
SCORETRACE = Path(sys.executable).with_name("scoretrace")


def blocks(prefix: str) -> list[tuple[str, str]]:
    return [(m["info"], m["body"]) for m in BLOCK.finditer(README) if m["info"].startswith(prefix)]


def scoretrace(line: str, folder: Path) -> str:
    arguments = shlex.split(line, comments=True)
    assert arguments[0] == "scoretrace"
    done = subprocess.run(
        [str(SCORETRACE), *arguments[1:]],
        cwd=folder,
        env={**os.environ, "SCORETRACE_HOME": str(folder / "home")},
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_every_command_of_the_readme_is_there_with_its_options() -> None:
    lines = [line for _, body in blocks("sh") for line in body.splitlines() if line.startswith("scoretrace ")]
    assert len(lines) >= 12
    root = typer.main.get_command(cli)
    for line in lines:
        named, command = iter(shlex.split(line, comments=True)[1:]), root
        while isinstance(command, TyperGroup):
            command = command.commands[next(named)]
        options = {o for p in command.params for o in (*p.opts, *p.secondary_opts)}
        assert {a for a in named if a.startswith("--")} <= options, line


def test_what_the_readme_points_to_is_there() -> None:
    for target in re.findall(r"\]\((?!https:)([^)#]+)\)", README):
        assert (REPOSITORY / target).exists(), target


def write_harbor(folder: Path, accounts: int = 700, months: int = 20) -> None:
    """Twenty months of a lender whose late payers pay late again: enough for a model to find."""
    random_ = random.Random(7)
    first = date(2024, 6, 30)
    header, *_ = README.split("```csv\n", 1)[1].splitlines()
    statements: dict[date, list[list[str]]] = {}
    defaults: dict[date, list[list[str]]] = {}
    for number in range(accounts):
        risk = random_.betavariate(1.2, 9)
        late, alive = 0, True
        for index in range(months + 1):
            day = month_end(add_months(first, index))
            if not alive:
                break
            late = late + 31 if random_.random() < risk * (1 + 2 * (late > 0)) else 0
            owed = round(3000 * min(1.0, 0.15 + risk * 2 + random_.random() * 0.2), 2)
            row = [f"H{number:04}", str(day), "2020-01-15", "3000.00", f"{owed:.2f}", f"{owed / 20:.2f}", str(late)]
            statements.setdefault(day, []).append(row)
            if late >= 93:
                defaults.setdefault(day, []).append([f"H{number:04}", str(day), f"{owed:.2f}"])
                alive = False

    def write(path: Path, head: str, rows: list[list[str]]) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", newline="", encoding="utf-8") as handle:
            csv.writer(handle, delimiter=";").writerows([head.split(";"), *rows])

    last = max(statements)
    for name, head, by_day in (("statements", header, statements), ("defaults", "acct;day;owed", defaults)):
        history = [[*row, str(day)] for day, rows in sorted(by_day.items()) if day < last for row in rows]
        write(folder / "history" / f"{name}.csv", f"{head};load_date", history)
        write(folder / str(last) / f"{name}.csv", head, by_day.get(last, []))


@pytest.mark.timeout(900)
def test_harbor_comes_aboard_by_the_readmes_own_words(tmp_path: Path) -> None:
    for info, body in [*blocks("yaml file="), *blocks("sql file=")]:
        path = tmp_path / info.partition("file=")[2]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(body, encoding="utf-8")
    write_harbor(tmp_path / "harbor-files")
    ((_, commands),) = blocks("sh harbor")
    printed = [scoretrace(line, tmp_path) for line in commands.splitlines()]
    assert "version 1 registered" in printed[5]
    assert "published 2026-02-28" in printed[8]
    assert re.search(r"^H0\d{3}\s+2026-02-28\s+0\.\d+", printed[9], re.MULTILINE)
    assert "✓ proved" in printed[10] and "statements.csv" in printed[10]
    assert " 0 different, 0 missing, 0 extra" in printed[11]
