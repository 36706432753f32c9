"""What the README says of security, held by the code: no pickle, one place that quotes, no secret elsewhere."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
import yaml

from pipeline.config import REPOSITORY, Settings
from tests.conftest import FIRST, SECOND, Cascade

SOURCES = sorted(p for folder in ("app", "lineage", "pipeline") for p in (REPOSITORY / folder).rglob("*.py"))
PICKLES = {"pickle", "cloudpickle", "joblib", "dill", "marshal", "shelve"}
SCORETRACE = Path(sys.executable).with_name("scoretrace")


@cache
def walked(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))


def nodes(kind: type[ast.AST]) -> Iterator[tuple[Path, ast.AST]]:
    return ((path, node) for path in SOURCES for node in walked(path) if isinstance(node, kind))


def test_no_module_reads_or_writes_a_pickle() -> None:
    for kind in (ast.Import, ast.ImportFrom):
        for path, node in nodes(kind):
            named = {a.name for a in node.names} | {getattr(node, "module", None) or ""}  # type: ignore[attr-defined]
            assert not {n.partition(".")[0] for n in named} & PICKLES, path
    for path, node in nodes(ast.Call):
        name = ast.unparse(node.func)  # type: ignore[attr-defined]
        assert not re.search(r"read_pickle|to_pickle|yaml\.(unsafe_|full_)load$|^eval$|^exec$", name), f"{path}: {name}"
        if name == "yaml.load":  # with a loader of ours, which makes plain values only
            (loader,) = (ast.unparse(k.value) for k in node.keywords if k.arg == "Loader")  # type: ignore[attr-defined]
            assert issubclass(getattr(import_module("pipeline.portfolio"), loader), yaml.SafeLoader), path
        assert not any(k.arg == "allow_pickle" for k in node.keywords), path  # type: ignore[attr-defined]


def test_no_file_of_a_home_is_a_pickle(published: Settings) -> None:
    files = [p for p in published.home.rglob("*") if p.is_file()]
    assert any(p.name == "MLmodel" for p in files)
    for path in files:
        assert path.suffix not in (".pkl", ".pickle", ".joblib"), path
        with path.open("rb") as handle:
            start = handle.read(2)
        assert not (start[:1] == b"\x80" and start[1:] in (b"\x02", b"\x03", b"\x04", b"\x05")), path
        if path.name == "MLmodel":
            assert "python_function" not in path.read_text() and "pickle" not in path.read_text(), path


SQL = re.compile(r"\b(SELECT|INSERT|UPDATE|DELETE FROM|WHERE|ATTACH|COPY|CREATE (OR|TABLE|VIEW|TEMP)|SET)\b")


def test_values_enter_sql_through_pipeline_sql_alone() -> None:
    """No module escapes quotes by itself, and no value is put between quotes within SQL text."""
    for path in SOURCES:
        if path.name not in ("sql.py", "verify.py"):  # the verifier runs without us, and has a function of its own
            text = path.read_text(encoding="utf-8")
            assert not re.search(r"""replace\(\s*["']'["'],\s*["']''["']\s*\)""", text), f"{path} quotes by itself"
            assert not re.search(r"""replace\(\s*['"]"['"],\s*['"]""['"]\s*\)""", text), f"{path} quotes by itself"
    for path, node in nodes(ast.JoinedStr):
        parts = node.values  # type: ignore[attr-defined]
        whole = "".join(p.value if isinstance(p, ast.Constant) else "{}" for p in parts)
        if not SQL.search(whole):
            continue
        for number, part in enumerate(parts[1:-1], start=1):
            before, after = parts[number - 1], parts[number + 1]
            if (
                isinstance(part, ast.FormattedValue)
                and isinstance(before, ast.Constant)
                and isinstance(after, ast.Constant)
            ):
                quoted = str(before.value)[-1:] == str(after.value)[:1] and str(before.value)[-1:] in ("'", '"')
                assert not quoted, f"{path}:{node.lineno}: {ast.unparse(part)} between quotes"  # type: ignore[attr-defined]


def test_no_secret_is_found_where_it_does_not_belong(cascade: Cascade, tmp_path: Path) -> None:
    """Canaries as password, webhook secret, address token and signing key; then the home and all output is searched."""
    settings = cascade.copy(tmp_path / "it's a lender; -- home")  # a path is a value that enters SQL too
    password, hook, token = "canary-7f3a-password", "canary-91cc-hook-secret", "canary-44de-token"
    store = "canary-b0e2-store-password"
    (tmp_path / "ada").write_text(password)
    (tmp_path / "ada").chmod(0o600)
    (settings.keys_dir / "hook.secret").write_text(hook)
    (settings.keys_dir / "hook.secret").chmod(0o600)
    receiver = {
        "name": "tickets", "url": f"http://127.0.0.1:9/hook?token={token}", "events": ["user.", "run.", "night."],
        "since": "2020-01-01", "secret_file": "keys/hook.secret",
    }  # fmt: skip
    settings.hooks_file.write_text(json.dumps({"portal": "https://portal.example", "receivers": [receiver]}))
    said = []

    def call(*line: str, allowed: tuple[int, ...] = (0,), **more: str) -> None:
        environment = {**os.environ, "SCORETRACE_HOME": str(settings.home), **more}
        done = subprocess.run([str(SCORETRACE), *line], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode in allowed, done.stderr
        said.append(done.stdout + done.stderr)

    from app import reports
    from app.auditing import record
    from pipeline.governance import identity, users
    from pipeline.home import open_home
    from tests.signing_off import person

    _, engine = open_home(settings)
    hashed = identity.hash_password("ada", password)
    users.add(engine, person("first", "admin"), "ada", ["admin", "analyst"], hashed, datetime.now(UTC), record)
    as_ada = ("--as", "ada", "--password-file", str(tmp_path / "ada"))
    call("user", "list", *as_ada)
    call("nightly", "--as-of", str(SECOND))  # its log, its events and its archive come after the canaries
    call("nightly", "--as-of", str(SECOND + timedelta(days=400)), allowed=(1,))
    call("hooks", "deliver", allowed=(1,))  # nobody listens
    call("hooks", "list")
    call("scores", "--as-of", str(FIRST), "--limit", "1")
    subject = str(reports.published_scores(settings, SECOND, "account", 1)[0]["account_id"])
    call("evidence", subject, "--as-of", str(SECOND), "--out", str(tmp_path / "pack.zip"))
    with zipfile.ZipFile(tmp_path / "pack.zip") as pack:
        pack.extractall(tmp_path / "out-pack")
    elsewhere = f"postgresql+psycopg://x:{store}@127.0.0.1:9/x", f"postgres:host=127.0.0.1 port=9 password={store}"
    for name, value in zip(("SCORETRACE_CONTROL_URL", "SCORETRACE_LAKE_CATALOG"), elsewhere, strict=True):
        call("scores", "--as-of", str(FIRST), allowed=(1,), **{name: value})
        call("nightly", "--as-of", str(FIRST), allowed=(1,), **{name: value})
    call("audit", "export", "--out", str(tmp_path / "out-audit.jsonl"))
    call("doctor", allowed=(0, 1))
    key = "".join((settings.keys_dir / "signing.pem").read_text().splitlines()[1:-1])
    kept_in = {settings.keys_dir / "hook.secret", settings.keys_dir / "signing.pem", settings.hooks_file}
    written = (*settings.home.rglob("*"), tmp_path / "out-audit.jsonl", *(tmp_path / "out-pack").rglob("*"))
    searched = [p for p in written if p.is_file() and p not in kept_in]
    for canary in (password, hook, token, store, key):
        assert not [p for p in searched if canary.encode() in p.read_bytes()], canary
        assert not [s for s in said if canary in s], canary
    assert len(searched) > 100


@pytest.mark.parametrize("name", ["signing.pem"])
def test_a_secret_that_others_may_read_is_not_used(own_home: Settings, name: str) -> None:
    from pipeline.errors import ConfigError
    from pipeline.governance import keys

    (own_home.keys_dir / name).chmod(0o640)
    with pytest.raises(ConfigError, match="640"):
        keys.signing_key(own_home.keys_dir)
