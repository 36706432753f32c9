"""What a run said is kept with it: task by task as it went, the reason where it failed, and never at the run's cost."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest

from pipeline import home, ledger, run_log
from pipeline.config import Settings
from pipeline.errors import NotFound, ScoretraceError
from pipeline.nightly import run_night
from tests.conftest import FIRST, SECOND
from tests.signing_off import at_the_home


def test_a_night_keeps_what_it_said_in_the_order_it_was_said(published: Settings) -> None:
    _, engine = home.open_home(published)
    publication = ledger.publication_for(engine, FIRST)
    assert publication is not None
    run = ledger.run(engine, publication.run_id)
    lines = run_log.read(published, run.run_id)
    moments = [at for at, _ in lines]
    assert moments == sorted(moments) and run.ended_at is not None
    assert run.started_at - timedelta(seconds=1) <= moments[0] and moments[-1] >= run.started_at
    ended = [said.split()[1] for _, said in lines if said.startswith("[") and " ✓ " in said]
    assert ended == list(dict.fromkeys(a.task for a in ledger.task_attempts(engine, run.run_id)))
    assert lines[-1][1].startswith("checkpoint of the audit log"), "what comes after the tasks is the night's too"


def test_a_night_that_fails_says_why_in_its_log(own_home: Settings, tmp_path: Path) -> None:
    portfolio, engine = home.open_home(own_home)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ScoretraceError) as stopped:
        run_night(own_home, portfolio, engine, SECOND, actor=at_the_home(), extracts=tmp_path / "empty")
    (run,) = ledger.runs(engine, limit=1)
    said = [line for _, line in run_log.read(own_home, run.run_id)]
    assert any(line.startswith("✕ ") and stopped.value.message.splitlines()[0][:60] in line for line in said)


def test_a_log_that_cannot_be_written_is_said_once_and_costs_nothing(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    settings.run_logs_dir.write_text("a file where the folder should be", encoding="utf-8")
    heard: list[str] = []
    say = run_log.kept(settings, "run", heard.append)
    for line in ("one", "two"):
        say(line)
    assert heard[0] == "one" and heard[2:] == ["two"]
    assert "cannot be written" in heard[1] and "run.log" in heard[1]


def test_lines_are_text_and_a_line_cut_off_is_left_out(tmp_path: Path) -> None:
    settings = Settings.at(tmp_path)
    say = run_log.kept(settings, "run", lambda _: None)
    say("two\nlines")
    say("\x1b[31mred")
    with run_log.path(settings, "run").open("a", encoding="utf-8") as log:
        log.write("2026-03-14T05:00")
    assert [said for _, said in run_log.read(settings, "run")] == ["two", "lines", "\\x1b[31mred"]
    with pytest.raises(NotFound, match="other left no log"):
        run_log.read(settings, "other")
