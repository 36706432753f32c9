"""Replay: a published night comes out again bit for bit, and a value changed by hand is found and named."""

from __future__ import annotations

import gzip
import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from lineage.replay import replay, replay_night
from lineage.retraining import replay_model
from pipeline import home, lake
from pipeline.config import REPOSITORY, SHIPPED_PORTFOLIOS, Settings
from pipeline.errors import NotFound
from pipeline.land import land
from pipeline.nightly import run_night
from pipeline.registry import Registry
from pipeline.retrain import run_retrain
from tests.conftest import FIRST, SECOND
from tests.lineage.conftest import Story, point_publication_at
from tests.signing_off import at_the_home, sign_off

UCI = REPOSITORY.parent / "shared" / "data" / "uci_credit_card"
UCI_KNOWN, UCI_NIGHT = date(2005, 10, 31), date(2005, 9, 30)  # the defaults are of the month after the statements
UCI_CLIENTS = 3_000


def command(settings: Settings, *words: str) -> tuple[int, Any]:
    """Exit code and JSON of a command."""
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", *words, "--json"],
        env=os.environ | {"SCORETRACE_HOME": str(settings.home)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


@pytest.mark.parametrize("night", [FIRST, SECOND])
@pytest.mark.parametrize("kind", ["account", "application"])
def test_a_whole_night_comes_out_again(story: Story, night: date, kind: str) -> None:
    found = replay_night(story.settings, story.engine, night, kind, actor=at_the_home())
    assert (found.different, found.missing, found.extra, found.columns) == (0, 0, 0, {})
    assert found.features_compared
    with story.lake_on(night) as con:
        stored = con.execute(f"SELECT count(*) FROM scores.{kind}_scores WHERE as_of_date = ?", [night]).fetchone()
    assert stored == (found.equal,)
    assert found.equal > (3_000 if kind == "account" else 0)


def test_a_night_in_parts_is_the_night_at_once(story: Story) -> None:
    whole = replay_night(story.settings, story.engine, FIRST, "account", actor=at_the_home())
    parts = replay_night(story.settings, story.engine, FIRST, "account", actor=at_the_home(), at_once=1_500)
    assert (parts.equal, parts.different, parts.missing, parts.extra) == (whole.equal, 0, 0, 0)


def test_one_subject_comes_out_again(story: Story) -> None:
    for kind in ("account", "application"):
        subject = story.ids(SECOND, kind, 1)[0]
        found = replay(story.settings, story.engine, story.portfolio, str(subject), SECOND, actor=at_the_home())
        assert found.equal and found.differences == ()
        assert found.rows > 0


def test_what_is_changed_in_the_lake_is_found_and_named(own_story: Story) -> None:
    feature, points, doubled, gone = own_story.ids(SECOND, "account", 4)
    scores, features = "scores.account_scores", "features.account_features"
    with closing(lake.connect(own_story.settings, read_only=False)) as con:
        at = f"as_of_date = DATE '{SECOND}' AND account_id"
        con.execute(f"UPDATE {features} SET balance_last_1 = balance_last_1 + 0.01 WHERE {at} = {feature}")
        con.execute(f"UPDATE {scores} SET score_points = score_points + 1 WHERE {at} = {points}")
        con.execute(f"INSERT INTO {scores} SELECT * FROM {scores} WHERE {at} = {doubled}")
        con.execute(f"DELETE FROM {scores} WHERE {at} = {gone}")
        snapshot = lake.current_snapshot(con)
    point_publication_at(own_story, SECOND, snapshot)
    code, (accounts, applications) = command(own_story.settings, "replay", "--all", "--as-of", str(SECOND))
    assert code == 1
    assert (accounts["different"], accounts["missing"], accounts["extra"]) == (2, 1, 1)
    assert accounts["columns"] == {"balance_last_1": 1, "score_points": 1}
    assert {(e["subject"], e["what"]) for e in accounts["examples"]} == {
        (str(feature), "balance_last_1"),
        (str(points), "score_points"),
        (str(doubled), "missing"),
        (str(gone), "extra"),
    }
    assert (applications["different"], applications["missing"], applications["extra"]) == (0, 0, 0)
    code, one = command(own_story.settings, "replay", str(feature), "--as-of", str(SECOND))
    assert code == 1
    [difference] = one["differences"]
    assert difference["name"] == "balance_last_1"
    assert difference["stored"] == pytest.approx(difference["replayed"] + 0.01)
    code, traced = command(own_story.settings, "trace", str(feature), "--as-of", str(SECOND))
    assert code == 1
    assert [f["name"] for f in traced["features"] if not f["proved"]] == ["balance_last_1"]


def test_a_data_file_written_over_is_found(own_story: Story) -> None:
    """One PD in a Parquet file of the lake, behind the catalog's back but for the file's size."""
    subject = own_story.ids(FIRST, "account", 1)[0]
    with own_story.lake_on(FIRST) as con:
        listed = con.execute(
            "SELECT data_file FROM ducklake_list_files('lake', 'account_scores', schema => 'scores')"
        ).fetchall()
    changed = None
    for file in (Path(row[0]) for row in listed):
        table = pq.read_table(file)
        rows = table.column("account_id").to_pylist()
        if subject in rows and table.column("as_of_date")[0].as_py() == FIRST:
            pds = table.column("pd").to_pylist()
            pds[rows.index(subject)] *= 1.0001
            at = table.schema.get_field_index("pd")
            pq.write_table(table.set_column(at, table.schema.field(at), [pds]), file)
            changed = file
    assert changed is not None
    content = changed.read_bytes()
    catalog = own_story.settings.lake_catalog.removeprefix("sqlite:")
    with closing(sqlite3.connect(catalog)) as db, db:
        db.execute(
            "UPDATE ducklake_data_file SET file_size_bytes = ?, footer_size = ? WHERE path LIKE ?",
            (len(content), int.from_bytes(content[-8:-4], "little"), f"%{changed.name}"),
        )
    found = replay_night(own_story.settings, own_story.engine, FIRST, "account", actor=at_the_home())
    assert (found.different, found.missing, found.extra) == (1, 0, 0)
    assert found.columns == {"pd": 1}
    assert found.examples == ((str(subject), "pd"),)
    parts = replay_night(own_story.settings, own_story.engine, FIRST, "account", actor=at_the_home(), at_once=1_500)
    assert (parts.different, parts.missing, parts.extra, parts.examples) == (1, 0, 0, found.examples)


def test_a_model_trained_again_has_the_same_bytes(story: Story) -> None:
    found = replay_model(story.settings, "pd_application", 1, actor=at_the_home())
    assert found.equal and found.same_training_set
    assert found.digest == found.version.digest
    with pytest.raises(NotFound, match="without the recipe"):
        replay_model(story.settings, "pd_default", 2, actor=at_the_home())
    with pytest.raises(NotFound):
        replay_model(story.settings, "pd_default", 9, actor=at_the_home())


def test_replay_takes_one_subject_or_all(story: Story) -> None:
    for words in (["--as-of", str(FIRST)], ["17", "--all", "--as-of", str(FIRST)]):
        done = subprocess.run(
            [sys.executable, "-m", "app.cli", "replay", *words],
            env=os.environ | {"SCORETRACE_HOME": str(story.settings.home)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == 1
        assert "replay takes one subject, or --all" in done.stderr


@pytest.mark.skipif(not UCI.is_dir(), reason="the UCI file does not lie beside the repository")
def test_a_night_of_another_lender_comes_out_again(tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_PORTFOLIOS / "uci_credit_card", tmp_path / "portfolio")
    yml = tmp_path / "portfolio" / "portfolio.yml"
    # Some clients of the file, and floors that so few can be held to.
    yml.write_text(re.sub(r"floors: \{.*\}", "floors: {auc: 0.6, ks: 0.1}", yml.read_text()))
    with gzip.open(UCI / "UCI_Credit_Card.csv.gz", "rt", encoding="utf-8") as handle:
        lines = [line for line, _ in zip(handle, range(UCI_CLIENTS + 1), strict=False)]
    (tmp_path / "extracts").mkdir()
    (tmp_path / "extracts" / "UCI_Credit_Card.csv.gz").write_bytes(gzip.compress("".join(lines).encode()))
    settings = Settings.at(tmp_path / "home")
    home.init(settings, tmp_path / "portfolio")
    portfolio, engine = home.open_home(settings)
    with closing(lake.connect(settings, read_only=False)) as con:
        land(con, portfolio, UCI_KNOWN, tmp_path / "extracts")
    outcome = run_retrain(settings, portfolio, engine, portfolio.models[0], UCI_KNOWN, actor=at_the_home("trainer"))
    assert outcome.version is not None, [vars(c) for c in outcome.checks]
    sign_off(settings, engine, Registry(settings), portfolio, "pd_default", 1)
    run_night(settings, portfolio, engine, UCI_NIGHT, actor=at_the_home())
    found = replay_night(settings, engine, UCI_NIGHT, "account", actor=at_the_home())
    assert (found.different, found.missing, found.extra) == (0, 0, 0)
    assert found.equal > UCI_CLIENTS / 2
