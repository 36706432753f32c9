"""The evidence pack: verified by Python alone, refused for one changed byte, silent about personal data."""

from __future__ import annotations

import base64
import csv
import json
import math
import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from lineage.evidence import Pack, write_pack
from lineage.personal_data import MASK, TOGETHER, personal_features
from lineage.rescore import Difference
from lineage.trace import Trace, trace
from pipeline.errors import ConfigError
from pipeline.governance import keys
from tests.conftest import FIRST, SECOND
from tests.lineage.conftest import Story
from tests.signing_off import at_the_home

PACKED = datetime(2026, 3, 20, 9, 0, tzinfo=UTC)


def packed(story: Story, found: Trace, out: Path, **how: Any) -> Pack:
    return write_pack(
        story.settings, story.engine, story.portfolio, found, out, actor=at_the_home(), packed_at=PACKED, **how
    )


def unpacked(pack: Pack, folder: Path) -> Path:
    with zipfile.ZipFile(pack.path) as archive:
        archive.extractall(folder)
    return folder


def verify(folder: Path, *flags: str, options: Sequence[str] = (), **environment: str) -> tuple[int, str]:
    """Exit code and all output of the pack's own verifier, run by a Python without any package."""
    done = subprocess.run(
        [sys.executable, *(flags or ("-I", "-S")), str(folder / "verify.py"), *options],
        capture_output=True, text=True, encoding="utf-8", errors="replace", env=os.environ | environment,
    )  # fmt: skip
    return done.returncode, done.stdout + done.stderr


@pytest.fixture(scope="module")
def of_account(story: Story) -> Trace:
    """Scored by the version that was promoted for a reason with markup in it."""
    subject = str(story.ids(SECOND, "account", 1)[0])
    return trace(story.settings, story.engine, story.portfolio, subject, SECOND, actor=at_the_home())


@pytest.fixture(scope="module")
def of_application(story: Story) -> Trace:
    """An application with an income."""
    for subject in story.ids(FIRST, "application", 20):
        found = trace(story.settings, story.engine, story.portfolio, str(subject), FIRST, actor=at_the_home())
        if found.feature("amount_to_income").value is not None:
            return found
    raise AssertionError("no application states an income")


@pytest.fixture(scope="module")
def account_pack(story: Story, of_account: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("account")
    return unpacked(packed(story, of_account, folder / "pack.zip"), folder / "pack")


@pytest.fixture(scope="module")
def application_pack(story: Story, of_application: Trace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("application")
    return unpacked(packed(story, of_application, folder / "pack.zip"), folder / "pack")


def files_of(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def test_python_alone_computes_the_score_again(account_pack: Path, of_account: Trace) -> None:
    code, said = verify(account_pack)
    assert code == 0, said
    assert f"the score comes out again: log-odds {of_account.score['log_odds']!r}" in said
    assert "DuckDB is not installed" in said
    assert said.endswith("FILES VERIFIED; not computed again: features, signatures\n")


def test_with_duckdb_the_features_come_out_again(account_pack: Path, of_account: Trace) -> None:
    code, said = verify(account_pack, "-I")
    assert code == 0, said
    assert f"{len(of_account.recorded.features)} features come out again" in said
    assert said.endswith("\nVERIFIED\n")


def test_a_console_without_the_signs_is_no_fault_of_the_pack(account_pack: Path) -> None:
    code, said = verify(account_pack, "-S", PYTHONIOENCODING="ascii")
    assert code == 0, said


def test_one_changed_byte_in_any_file_is_named(application_pack: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(application_pack, tmp_path / "pack")
    for path in files_of(folder):
        content = path.read_bytes()
        for place in (0, len(content) // 2, len(content) - 1):
            path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
            code, said = verify(folder)
            assert code == 1, (path.name, place, said)
            assert path.relative_to(folder).as_posix() in said, (path.name, place, said)
        path.write_bytes(content)
    assert verify(folder)[0] == 0


def test_no_single_changed_byte_of_the_verifier_makes_it_pass(application_pack: Path, tmp_path: Path) -> None:
    """Where the exit code is decided and here and there elsewhere, as a comment from there on and as a flipped bit."""
    folder = shutil.copytree(application_pack, tmp_path / "pack")
    path = folder / "verify.py"
    content = path.read_bytes()
    deciding = [
        content.index(b"    problems = check_files()"),
        content.index(b"    try:\n        listed"),
        content.index(b"\ncode = main()"),
    ]
    places = [p for start in deciding for p in range(start, min(start + 60, len(content)))] + list(
        range(5, len(content), 211)
    )
    for place in places:
        for byte in (ord("#"), content[place] ^ 1):
            if byte == content[place]:
                continue
            path.write_bytes(content[:place] + bytes([byte]) + content[place + 1 :])
            code, said = verify(folder)
            assert code != 0, (place, chr(byte), content[place - 20 : place + 20], said)


def test_a_missing_and_an_added_file_are_named(application_pack: Path, tmp_path: Path) -> None:
    for name in [p.relative_to(application_pack) for p in files_of(application_pack) if p.name != "verify.py"]:
        folder = shutil.copytree(application_pack, tmp_path / "pack")
        (folder / name).unlink()
        code, said = verify(folder)
        assert (code, f"{name} is missing" in said) == (1, True), said
        shutil.rmtree(folder)
    folder = shutil.copytree(application_pack, tmp_path / "pack")
    for added in ("more.txt", "rows/applications.csv.bak", "rows/__pycache__/hidden.csv"):
        (folder / added).parent.mkdir(exist_ok=True)
        (folder / added).write_text("x")
        code, said = verify(folder)
        assert (code, f"{added} was not packed" in said) == (1, True), said
        (folder / added).unlink()
    # A module of this name in the folder is not what Python's own is taken from.
    (folder / "csv.py").write_text("raise SystemExit(0)")
    code, said = verify(folder, "-S")
    assert (code, "csv.py was not packed" in said) == (1, True), said


def test_forged_facts_with_a_manifest_of_their_own_are_found_by_the_trees(account_pack: Path, tmp_path: Path) -> None:
    import hashlib

    folder = shutil.copytree(account_pack, tmp_path / "pack")
    facts = json.loads((folder / "facts.json").read_text())
    facts["score"]["log_odds"] -= 0.5
    (folder / "facts.json").write_text(json.dumps(facts))
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["facts.json"] = hashlib.sha256((folder / "facts.json").read_bytes()).hexdigest()
    content = json.dumps(manifest).encode()
    (folder / "manifest.json").write_bytes(content)
    envelope = json.loads((folder / "manifest.dsse.json").read_text())
    forged = json.dumps(envelope | {"payload": base64.b64encode(content).decode()}).encode()
    (folder / "manifest.dsse.json").write_bytes(forged)
    sums = {"manifest.json": content, "manifest.dsse.json": forged}
    (folder / "manifest.sha256").write_text(
        "".join(f"{hashlib.sha256(c).hexdigest()}  {name}\n" for name, c in sums.items())
    )
    code, said = verify(folder)
    assert code == 1
    assert "log-odds:" in said and "stored" in said
    code, said = verify(folder, "-I")
    assert (code, "manifest.dsse.json: the signature does not match" in said) == (1, True), said


def test_the_pack_its_approvals_and_the_log_are_signed(story: Story, account_pack: Path, of_account: Trace) -> None:
    approval = json.loads((account_pack / "approval.json").read_text(encoding="utf-8"))
    assert approval["manifest"]["model_sha256"] == of_account.recorded.scored.digest
    signers = [s["signer"] for s in approval["signatures"]]
    assert of_account.promotion is not None and ", ".join(signers) == of_account.promotion.actor
    key_id = keys.signing_key(story.settings.keys_dir).key_id
    code, said = verify(account_pack, "-I", options=("--key", key_id))
    assert code == 0, said
    assert f"{len(signers) + 2} signatures match; the pack is signed by key {key_id}" in said
    code, said = verify(account_pack, "-I", options=("--key", "0" * 16))
    assert (code, f"is signed by key {key_id}, and {'0' * 16} is wanted" in said) == (1, True), said
    chain = [json.loads(line) for line in (account_pack / "audit" / "chain.jsonl").read_text().splitlines()]
    told = {record["subject"] for record in chain if "subject" in record}
    model = of_account.recorded.scored
    run, promotion = f"run:{of_account.recorded.run.run_id}", f"promotion:{of_account.promotion.id}"
    assert {run, promotion} <= told <= {run, promotion, f"model:{model.name}/{model.version}"}
    assert len(chain) > sum("subject" in record for record in chain), "of other records there are the hashes alone"


def test_personal_data_is_masked_and_cannot_be_worked_out(application_pack: Path, of_application: Trace) -> None:
    [row] = of_application.feature("amount_to_income").sources[0].rows
    income = row["stated_income"]
    with (application_pack / "rows" / "applications.csv").open(encoding="utf-8", newline="") as handle:
        assert {r["stated_income"] for r in csv.DictReader(handle)} == {MASK}
    facts = json.loads((application_pack / "facts.json").read_text(encoding="utf-8"))
    values = {f["name"]: f["value"] for f in facts["features"]}
    assert values["requested_amount"] == float(row["amount"])
    assert (
        values["stated_income_yearly"]
        == values["amount_to_income"]
        == values["total_debt_to_income_at_application"]
        == MASK
    )
    assert "stated_income" in facts["masked"]
    parts = {f["name"]: f["contribution"] for f in facts["features"]}
    apart = [f for f in of_application.features if values[f.name] == MASK and f.contribution is not None]
    assert len(apart) > 1 and all(parts[f.name] is None for f in apart), "one alone would narrow its value"
    assert facts["masked_contribution"] == math.fsum(f.contribution or 0.0 for f in apart)
    total = math.fsum((facts["base"], facts["masked_contribution"], *(p for p in parts.values() if p is not None)))
    assert total == pytest.approx(of_application.score["log_odds"], abs=1e-9)
    report = (application_pack / "report.html").read_text(encoding="utf-8")
    assert TOGETHER in report and "sha256sum verify.py" in report
    for path in files_of(application_pack):
        content = path.read_bytes()
        for shown in (
            str(income),
            repr(float(income)),
            repr(of_application.feature("amount_to_income").value),
            f"{float(income):.6g}",
        ):
            # A number of its own: five digits inside a digest or a moment's microseconds say nothing.
            alone = re.compile(rb"(?<![0-9A-Za-z])" + re.escape(shown.encode()) + rb"(?![0-9A-Za-z])")
            assert path.suffix in (".lgb", ".parquet") or not alone.search(content), (path.name, shown)


def test_which_features_are_personal_follows_from_their_sql(of_application: Trace, of_account: Trace) -> None:
    assert personal_features(of_account.recorded) == frozenset()
    found = personal_features(of_application.recorded)
    assert {"stated_income_yearly", "amount_to_income", "interest_to_income"} <= found
    assert not found & {"requested_amount", "debt_to_income_stated", "bureau_score_at_application"}


def test_a_difference_of_personal_data_is_masked(story: Story, of_application: Trace, tmp_path: Path) -> None:
    differing = (Difference("stated_income_yearly", 41234.5, 51234.5), Difference("requested_amount", 1.0, 2.0))
    found = replace(of_application, proof=replace(of_application.proof, differences=differing))
    folder = unpacked(packed(story, found, tmp_path / "pack.zip"), tmp_path / "pack")
    for name in ("facts.json", "report.html"):
        text = (folder / name).read_text(encoding="utf-8")
        assert "41234.5" not in text and "51234.5" not in text
    assert f"stated_income_yearly (stored {MASK}" in (folder / "report.html").read_text(encoding="utf-8")
    assert found.proof.differences[0].stored == 41234.5, "packing leaves the trace as it was"


def test_personal_data_is_there_when_it_is_asked_for(story: Story, of_application: Trace, tmp_path: Path) -> None:
    pack = packed(story, of_application, tmp_path / "pack.zip", personal_data=True)
    assert pack.masked == ()
    folder = unpacked(pack, tmp_path / "pack")
    assert MASK.encode() not in (folder / "rows" / "applications.csv").read_bytes()
    code, said = verify(folder, "-I")
    assert code == 0, said
    assert "the score comes out again" in said and "features come out again" in said


def test_the_same_score_packed_twice_is_the_same_bytes(story: Story, of_account: Trace, tmp_path: Path) -> None:
    again = trace(
        story.settings, story.engine, story.portfolio, str(of_account.subject_id), SECOND, actor=at_the_home()
    )
    one, two = packed(story, of_account, tmp_path / "one.zip"), packed(story, again, tmp_path / "two.zip")
    assert one.manifest_sha256 == two.manifest_sha256
    assert one.path.read_bytes() == two.path.read_bytes()


def test_the_report_escapes_what_people_wrote(
    story: Story, of_account: Trace, account_pack: Path, tmp_path: Path
) -> None:
    page = (account_pack / "report.html").read_text(encoding="utf-8")
    assert "fewer &lt;b&gt;trees&lt;/b&gt;" in page and "fewer <b>" not in page
    assert of_account.promotion is not None
    hostile = replace(
        of_account,
        promotion=replace(of_account.promotion, reason="<script>alert(1)</script>", actor='"><img src=x>'),
        notes=("<script>",),
        features=tuple(replace(f, description="<script>", value="<script>") for f in of_account.features),
        proof=replace(of_account.proof, differences=(Difference("<script>", "<script>", "<script>"),)),
    )
    folder = unpacked(packed(story, hostile, tmp_path / "pack.zip"), tmp_path / "pack")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in page
    assert "<script" not in page and "<img" not in page
    assert "http://" not in page and "https://" not in page, "nothing is fetched from anywhere"


def test_a_pack_is_never_overwritten_and_never_half_written(story: Story, of_account: Trace, tmp_path: Path) -> None:
    packed(story, of_account, tmp_path / "pack.zip")
    with pytest.raises(ConfigError, match="is there already"):
        packed(story, of_account, tmp_path / "pack.zip")
    with pytest.raises(ConfigError, match="cannot be written"):
        packed(story, of_account, tmp_path / "nowhere" / "pack.zip")
    assert [p.name for p in tmp_path.iterdir()] == ["pack.zip"]


def test_the_command_line_writes_a_pack_that_verifies(story: Story, of_application: Trace, tmp_path: Path) -> None:
    out = tmp_path / "pack [1].zip"
    words = ["evidence", str(of_application.subject_id), "--as-of", str(FIRST), "--out", str(out)]
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *words],
        env=os.environ | {"SCORETRACE_HOME": str(story.settings.home)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{out}: ")
    assert "masked: amount_to_income, " in done.stdout
    with zipfile.ZipFile(out) as archive:
        archive.extractall(tmp_path / "pack")
    code, said = verify(tmp_path / "pack")
    assert code == 0, said
