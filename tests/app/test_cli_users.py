"""``scoretrace user`` as it is typed: the first administrator, then only who signs in; no password in an argument."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from threading import Barrier, Thread

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from app import serve
from app.auditing import record
from app.cli import cli
from app.sign_in import read_password, signed_in
from pipeline import control, ledger
from pipeline.errors import AccessDenied, ConfigError, IdentityRefused, NotFound, ScoretraceError
from pipeline.governance import audit, users
from pipeline.governance.access import Actor
from tests import published_home
from tests.published_home import settings_for

Run = Callable[..., Result]
CODE = re.compile(r"^password: (\S+)$", re.MULTILINE)


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    published_home.build(folder, nights=0)
    monkeypatch.setenv("SCORETRACE_HOME", str(folder))
    return folder


@pytest.fixture
def user(home: Path) -> Run:
    def run(*arguments: str) -> Result:
        return CliRunner().invoke(cli, ["user", *arguments])

    return run


@pytest.fixture
def root(user: Run, tmp_path: Path) -> tuple[str, ...]:
    """The options of anna, the administrator, who signs in from her file."""
    made = user("add", "anna", "--role", "admin", "--generate")
    assert made.exit_code == 0, made.output
    path = tmp_path / "anna"
    path.touch(0o600)
    path.write_text(CODE.findall(made.stdout)[0] + "\n", encoding="utf-8")
    return ("--as", "anna", "--password-file", str(path))


def failure(result: Result, kind: type[ScoretraceError]) -> str:
    assert isinstance(result.exception, kind), result.output
    return str(result.exception)


def test_the_first_administrator_is_made_by_the_homes_owner(user: Run, home: Path) -> None:
    made = user("add", "anna", "--role", "admin", "--generate")
    (password,) = CODE.findall(made.stdout)
    settings = settings_for(home)
    engine = control.open_store(settings)
    events = users.events_of(engine)
    assert [(e.kind, e.user_name) for e in events] == [("added", "anna"), ("password_set", "anna")]
    assert all(e.by.endswith("(owner of the home)") for e in events)
    assert password not in repr(events)


def test_from_then_on_it_takes_an_administrator(user: Run, root: tuple[str, ...], tmp_path: Path) -> None:
    for words in (
        ("add", "ben", "--role", "admin", "--generate"),
        ("list",),
        ("disable", "anna"),
        ("enable", "anna"),
        ("roles", "anna", "--role", "viewer"),
        ("passwd", "anna", "--generate"),
    ):
        assert "--as NAME" in failure(user(*words), IdentityRefused)
    made = user("add", "ben", "--role", "viewer", "--generate", *root)
    ben = tmp_path / "ben"
    ben.touch(0o600)
    ben.write_text(CODE.findall(made.stdout)[0], encoding="utf-8")
    as_ben = ("--as", "ben", "--password-file", str(ben))
    assert "user.manage" in failure(user("list", *as_ben), AccessDenied)
    assert "user.manage" in failure(user("roles", "ben", "--role", "admin", *as_ben), AccessDenied)
    assert "user.manage" in failure(user("passwd", "anna", "--generate", *as_ben), AccessDenied)
    assert user("passwd", "ben", "--generate", *as_ben).exit_code == 0, "one's own"
    failure(user("passwd", "ben", "--generate", *as_ben), IdentityRefused)


def test_who_tries_to_manage_users_and_may_not_is_on_record(
    user: Run, root: tuple[str, ...], home: Path, tmp_path: Path
) -> None:
    made = user("add", "ben", "--role", "viewer", "--generate", *root)
    ben = tmp_path / "ben"
    ben.touch(0o600)
    ben.write_text(CODE.findall(made.stdout)[0], encoding="utf-8")
    for words in (
        ("add", "eve", "--role", "admin", "--generate"),
        ("list",),
        ("disable", "anna"),
        ("enable", "anna"),
        ("roles", "ben", "--role", "admin"),
        ("passwd", "anna", "--generate"),
    ):
        failure(user(*words, "--as", "ben", "--password-file", str(ben)), AccessDenied)
    refused = audit.records(control.open_store(settings_for(home)), action="access.refused")
    assert [(r.actor, r.subject) for r in refused] == [
        ("ben", f"user:{whom}") for whom in ("eve", "all", "anna", "anna", "ben", "anna")
    ]


def test_what_an_administrator_is_refused_is_on_record(user: Run, root: tuple[str, ...], home: Path) -> None:
    failure(user("disable", "anna", *root), IdentityRefused)
    failure(user("roles", "nina", "--role", "viewer", *root), NotFound)
    failure(user("add", "A b\x07", "--role", "viewer", "--generate", *root), IdentityRefused)
    refused = audit.records(control.open_store(settings_for(home)), action="user.refused")
    assert [(r.actor, r.subject, r.facts["asked"]) for r in refused] == [
        ("anna", "user:anna", "user.disable"),
        ("anna", "user:nina", "user.roles"),
        ("anna", "user:A b\\x07", "user.add"),
    ]


def test_two_administrators_do_not_end_each_other_at_once(user: Run, root: tuple[str, ...], home: Path) -> None:
    user("add", "bert", "--role", "admin", "--generate", *root)
    engine, now, both = control.open_store(settings_for(home)), datetime.now(UTC), Barrier(2)

    def end(by: str, whom: str) -> None:
        actor = Actor(by, frozenset({"admin"}), "password", now)
        both.wait()
        with suppress(IdentityRefused):
            users.set_disabled(engine, actor, whom, True, now, record)

    for _ in range(10):
        threads = [Thread(target=end, args=pair) for pair in (("anna", "bert"), ("bert", "anna"))]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        (left,) = [u.name for u in users.all_users(engine).values() if not u.disabled]
        other = {"anna": "bert", "bert": "anna"}[left]
        users.set_disabled(engine, Actor(left, frozenset({"admin"}), "password", now), other, False, now, record)


def test_the_list_tells_standing_and_no_hash(user: Run, root: tuple[str, ...]) -> None:
    user("add", "ben", "--role", "approver", "--role", "analyst", "--generate", *root)
    user("disable", "ben", *root)
    listed = json.loads(user("list", "--json", *root).stdout)
    assert [(u["name"], u["roles"], u["standing"]) for u in listed] == [
        ("anna", ["admin"], "active"),
        ("ben", ["analyst", "approver"], "disabled"),
    ]
    assert "argon2" not in json.dumps(listed)
    user("enable", "ben", *root)
    user("roles", "ben", "--role", "viewer", *root)
    text = user("list", *root).stdout
    assert re.search(r"^ben\s+viewer\s+active\s+–", text, re.MULTILINE)


@pytest.mark.parametrize("words", [("disable", "nina"), ("roles", "nina", "--role", "viewer"), ("enable", "nina")])
def test_an_unknown_user_is_named(user: Run, root: tuple[str, ...], words: tuple[str, ...]) -> None:
    assert "there is no user 'nina'" in failure(user(*words, *root), NotFound)


def test_without_a_terminal_nothing_waits_for_a_password(user: Run, root: tuple[str, ...]) -> None:
    assert "--password-file" in failure(user("list", "--as", "anna"), IdentityRefused)
    assert "--generate" in failure(user("add", "ben", "--role", "viewer", *root), IdentityRefused)


def test_no_command_takes_a_password_as_an_argument() -> None:
    group = typer.main.get_command(cli).commands["user"]  # type: ignore[attr-defined]
    options = {option for command in group.commands.values() for p in command.params for option in p.opts}
    assert "--password-file" in options and not {o for o in options if "password" in o} - {"--password-file"}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602, 0o700])
def test_a_password_file_that_others_could_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "password"
    path.write_text("correct horse battery\n", encoding="utf-8")
    path.chmod(mode)
    with pytest.raises(IdentityRefused, match=f"mode {mode:04o}"):
        read_password(path)
    path.chmod(0o600)
    assert read_password(path) == "correct horse battery"
    path.write_text("\n", encoding="utf-8")
    with pytest.raises(IdentityRefused, match="is empty"):
        read_password(path)
    with pytest.raises(IdentityRefused):
        read_password(tmp_path)
    with pytest.raises(IdentityRefused, match="cannot be read"):
        read_password(tmp_path / "missing")


def test_other_commands_sign_in_the_same_way(home: Path, root: tuple[str, ...]) -> None:
    settings = settings_for(home)
    engine = ledger.open_ledger(settings)
    actor = signed_in(settings, engine, "anna", Path(root[3]))
    assert (actor.name, actor.roles, actor.method) == ("anna", {"admin"}, "password")
    assert (datetime.now(UTC) - actor.authenticated_at).total_seconds() < 60
    with pytest.raises(IdentityRefused, match="somebody who signs in"):
        signed_in(settings, engine, None, None)


@pytest.mark.parametrize("address", ["0.0.0.0", "::", "192.0.2.7", "portal.lender.example"])
def test_a_portal_without_users_is_served_to_this_machine_alone(home: Path, address: str) -> None:
    settings = settings_for(home)
    for own in ("127.0.0.1", "::1", "localhost"):
        serve.require_sign_in(settings, own)
    with pytest.raises(ConfigError, match="other machines could read"):
        serve.require_sign_in(settings, address)
    CliRunner().invoke(cli, ["user", "add", "anna", "--role", "admin", "--generate"])
    serve.require_sign_in(settings, address)
