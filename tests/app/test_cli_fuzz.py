"""Whatever a command is given, it answers with a result or a sentence: exit code 0, 1 or 2, never a traceback."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from app import cli
from pipeline import home as homes
from pipeline import ledger
from pipeline.config import Settings
from pipeline.doctor.examine import examine
from pipeline.portfolio import resolve
from tests.conftest import copy_home, examples

WRITING = {"retrain", "replay-model", "nightly", "init", "maintain", "doctor", "backup", "restore", "rotate-key"}
"""Commands of the pipeline and of care: run on a home of the test's own, in which nothing has landed."""
ENDLESS = {"serve", "demo", "generate", "backfill"}
"""Commands that may rightly take minutes of any home: their arguments are read, and the command is not run."""
WORDS = st.one_of(
    st.sampled_from(
        ["pd_default", "pd_default/1", "pd_default/99", "1", "0", "-1", "2026-03-14", "2026-02-30", "0001-01-01",
         "1048000", "account", "application", "product=card", "=", "a/b/c", "'; DROP TABLE runs; --", "%", "*", "", " ",
         "[bold]", "../../etc/passwd", "9" * 40, "é", "\u202e", "utilization_3m_avg", "promotion.",
         "model:pd_default/1"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=20),
)  # fmt: skip


def leaves(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    for name, found in sorted(command.commands.items()):
        if hasattr(found, "commands"):
            yield from leaves(found, (*path, name))
        else:
            yield (*path, name), found


EVERY = list(leaves(typer.main.get_command(cli.cli)))
COMMANDS = [c for c in EVERY if c[0][-1] not in WRITING | ENDLESS]
WRITERS = [c for c in EVERY if c[0][-1] in WRITING]
ONLY_READ = [c for c in EVERY if c[0][-1] in WRITING | ENDLESS]


@st.composite
def lines(draw: st.DrawFn, commands: list[tuple[tuple[str, ...], Any]]) -> list[str]:
    path, command = draw(st.sampled_from(commands))
    return [*path, *draw(arguments_of(command))]


@st.composite
def arguments_of(draw: st.DrawFn, command: Any) -> list[str]:
    """Arguments in number and options as a command declares them, and any words in their places."""
    arguments: list[str] = []
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            arguments += [draw(WORDS)] if draw(st.integers(0, 9)) else []
        elif parameter.name != "help" and (parameter.required or draw(st.booleans())):
            option = draw(st.sampled_from(parameter.opts))
            arguments += [option] if parameter.is_flag else [option, draw(_value(parameter))]
    if not draw(st.integers(0, 9)):
        arguments.append(draw(WORDS))
    return arguments


def _value(parameter: Any) -> st.SearchStrategy[str]:
    if "path" in str(parameter.bare_type()).lower():  # below the test's own folder, which is where it runs
        return st.sampled_from(["here", "no/such/folder/file", ".", "a b", "é.zip", "here/"])
    if "date" in str(parameter.bare_type()).lower():
        return st.one_of(st.dates().map(str), WORDS)
    return WORDS


USAGE_ERROR = typer.BadParameter.__mro__[1]  # typer brings a click of its own, and does not export this


@pytest.mark.parametrize(("path", "command"), ONLY_READ, ids=[" ".join(path) for path, _ in ONLY_READ])
@examples(20)
@given(data=st.data())
def test_any_arguments_are_read_or_refused_in_a_sentence(
    path: tuple[str, ...], command: Any, data: st.DataObject
) -> None:
    try:
        command.make_context(" ".join(path), data.draw(arguments_of(command)))
    except typer.Exit:
        pass
    except USAGE_ERROR as refused:
        assert refused.format_message()


@pytest.fixture(scope="module")
def own_history(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: most of these commands read, but a refused `monitor` is a run too, and others look at the shared home."""
    return copy_home(history, tmp_path_factory.mktemp("own") / "home")


@examples(60)
@given(line=lines(COMMANDS))
def test_any_arguments(
    line: list[str],
    own_history: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    answers_in_words(line, own_history, tmp_path, monkeypatch, capfd)


@pytest.fixture(scope="module")
def nothing_landed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    settings = Settings.at(tmp_path_factory.mktemp("new") / "home")
    homes.init(settings, resolve("cascade"))
    return settings.home


@pytest.mark.timeout(900)
@examples(30)
@given(line=lines(WRITERS))
def test_any_arguments_of_what_writes_leave_the_home_whole(
    line: list[str],
    nothing_landed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    answers_in_words(line, nothing_landed, tmp_path, monkeypatch, capfd)
    assert {c.check: c.faults for c in examine(Settings.at(nothing_landed)) if not c.ok} == {}, line
    assert ledger.published_dates(ledger.open_ledger(Settings.at(nothing_landed))) == ()


def answers_in_words(
    line: list[str], home: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SCORETRACE_HOME", str(home))
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["scoretrace", *line])
    try:
        cli.main()
        code: Any = 0
    except SystemExit as done:
        code = done.code
    told = capfd.readouterr()
    assert code in (0, 1, 2, None), f"{line}: {code}\n{told.err}"
    assert "Traceback" not in told.err + told.out, line


def test_every_command_but_the_long_ones_is_tried() -> None:
    assert len(COMMANDS) > 30
    assert len(WRITERS) >= len(WRITING)
