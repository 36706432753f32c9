"""Maintenance takes nothing that was promised: a replay before and after gives the same bits, and what ends is told."""

from __future__ import annotations

import dataclasses
import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from datetime import date, timedelta

import pytest
from sqlalchemy import select

from lineage.replay import replay_night
from pipeline import control, lake, lake_files, ledger, maintain
from pipeline.errors import AccessDenied, LeaseHeld, NotFound
from pipeline.governance.access import Actor
from pipeline.lease import writer_lease
from pipeline.nightly import run_night
from pipeline.retention import Plan, Retention
from tests.conftest import FIRST, SECOND, THIRD
from tests.lineage.conftest import Story
from tests.signing_off import at_the_home, person
from tests.untested import Untested

TABLES = (
    "raw.loan_servicing",
    "raw.payments_ledger",
    "raw.loads",
    "features.account_features",
    "scores.account_scores",
    "intermediate.int_account_slots",
    "features.feat_balance",
    "drift.statistics",
)


def plan(story: Story, policy: Retention) -> Plan:
    portfolio = dataclasses.replace(story.portfolio, retention=policy)
    return maintain.plan(story.settings, story.engine, portfolio, recent=timedelta(0))


def run(story: Story, ending: Plan, actor: Actor | None = None) -> maintain.Maintained:
    return maintain.maintain(
        story.settings, story.engine, story.portfolio, ending, actor=actor or at_the_home(), grace=timedelta(0)
    )


def content(story: Story, as_of: date) -> dict[str, object]:
    """Every value of a night's lake, with the rows' permanent names, whatever order they lie in."""
    with story.lake_on(as_of) as con:
        return {
            table: con.execute(f"SELECT count(*), sum(hash(t.rowid, t)::HUGEINT) FROM {table} t").fetchone()
            for table in TABLES
        }


def in_the_catalog(story: Story, schema: str) -> int:
    """Rows of a schema's tables that lie in the catalog and in no file."""
    with closing(sqlite3.connect(story.settings.lake_catalog.removeprefix("sqlite:"))) as catalog:
        names = catalog.execute(
            "SELECT d.table_name FROM ducklake_inlined_data_tables d JOIN ducklake_table USING (table_id) "
            "JOIN ducklake_schema s USING (schema_id) WHERE s.schema_name = ?", [schema]
        ).fetchall()  # fmt: skip
        return sum(catalog.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0] for (name,) in names)


def months_ago(day: date) -> int:
    today = date.today()
    return (today.year - day.year) * 12 + today.month - day.month


def test_a_promised_night_keeps_its_bits_and_one_that_is_not_ends(own_story: Story) -> None:
    # A third night after a quiet day: it carried over what the second had made.
    run_night(
        own_story.settings, own_story.portfolio, own_story.engine, THIRD, actor=at_the_home(),
        extracts=own_story.settings.extracts_dir, warehouse=Untested(own_story.settings, own_story.portfolio),
    )  # fmt: skip
    before = {night: content(own_story, night) for night in (FIRST, SECOND, THIRD)}
    assert in_the_catalog(own_story, "drift")

    everything = plan(own_story, Retention())
    assert everything.ending == ()
    assert everything.expire
    first = run(own_story, everything)
    assert first.files_after < first.files_before
    assert {night: content(own_story, night) for night in (FIRST, SECOND, THIRD)} == before
    assert lake_files.damaged(own_story.settings, own_story.engine) == ()
    assert not in_the_catalog(own_story, "drift") and not in_the_catalog(own_story, "outcomes")

    # Of the month only the last night stays.
    short = plan(own_story, Retention(1, months_ago(THIRD) + 1))
    assert {p.as_of for p in short.ending} == {FIRST, SECOND}
    run(own_story, short)
    assert content(own_story, THIRD) == before[THIRD]
    found = replay_night(own_story.settings, own_story.engine, THIRD, "account", actor=at_the_home())
    assert found.equal > 1_000
    assert (found.different, found.missing, found.extra) == (0, 0, 0)
    with pytest.raises(NotFound, match="has been expired"):
        replay_night(own_story.settings, own_story.engine, FIRST, "account", actor=at_the_home())
    with closing(lake.connect(own_story.settings)) as con:
        stay = con.execute("SELECT count(DISTINCT as_of_date) FROM scores.account_scores").fetchone()
        assert stay == (3,)
    # What training was done on is promised as long as the home.
    with own_story.engine.connect() as connection:
        trained_on = list(connection.execute(select(control.training_runs.c.snapshot_id)).scalars())
    for snapshot in trained_on:
        lake.connect(own_story.settings, snapshot=snapshot).close()
    # The records of all three stay, and what has ended does not end again.
    assert {p.as_of for p in ledger.publications(own_story.engine)} == {FIRST, SECOND, THIRD}
    assert plan(own_story, Retention(1, months_ago(THIRD) + 1)).ending == ()


def test_a_night_that_was_published_again_is_promised_as_it_was_first(own_story: Story) -> None:
    """What the customer got before a correction is what an examiner asks for."""
    first = ledger.publication_for(own_story.engine, SECOND)
    assert first is not None
    run_night(
        own_story.settings, own_story.portfolio, own_story.engine, SECOND, actor=at_the_home(),
        extracts=own_story.settings.extracts_dir, warehouse=Untested(own_story.settings, own_story.portfolio),
    )  # fmt: skip
    again = ledger.publication_for(own_story.engine, SECOND)
    assert again is not None and again.snapshot_id > first.snapshot_id
    promised = plan(own_story, Retention())
    assert not {first.snapshot_id, again.snapshot_id} & set(promised.expire) and promised.ending == ()
    ended = {p.id for p in plan(own_story, Retention(1, 1)).ending}
    assert not {first.id, again.id} & ended, "the newest night stays, as it was and as it is"


def test_files_that_a_killed_run_left_are_removed(own_story: Story) -> None:
    data = own_story.settings.lake_data
    named = {lake_files.path_of(own_story.settings, f) for f in lake_files.named_in(own_story.settings.lake_catalog)}
    left = next(iter(named)).with_name("ducklake-00000000-0000-0000-0000-000000000000.parquet")
    left.write_bytes(next(iter(named)).read_bytes())
    run(own_story, Plan((), (), 0))
    assert not left.exists()
    there = {lake_files.path_of(own_story.settings, f) for f in lake_files.named_in(own_story.settings.lake_catalog)}
    assert there <= set(data.rglob("*.parquet"))
    assert lake_files.damaged(own_story.settings, own_story.engine) == ()


def test_it_is_refused_beside_a_night_and_to_whoever_may_not(own_story: Story) -> None:
    ending = plan(own_story, Retention())
    before = content(own_story, FIRST)
    with (
        writer_lease(own_story.settings, own_story.engine, "nightly by hand"),
        pytest.raises(LeaseHeld, match="nightly by hand"),
    ):
        run(own_story, ending)
    with pytest.raises(AccessDenied, match=r"run\.maintain"):
        run(own_story, ending, person("quinn", "analyst"))
    assert content(own_story, FIRST) == before


def test_the_command_tells_what_would_end_and_asks_for_a_yes(own_story: Story) -> None:
    home = own_story.settings.home
    yml = home / "portfolio" / "portfolio.yml"
    yml.write_text(yml.read_text(encoding="utf-8") + "\nretention: {nights: 1, month_ends: 1}\n", encoding="utf-8")
    # As if the lake had lain for a month: nothing of it is younger than the days that stay in any case.
    with closing(sqlite3.connect(home / "lake" / "catalog.sqlite")) as catalog, catalog:
        catalog.execute("UPDATE ducklake_snapshot SET snapshot_time = '2026-03-15 08:00:00+00'")
    before = content(own_story, FIRST)

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "app.cli", "maintain", *arguments],
            env=os.environ | {"SCORETRACE_HOME": str(home)}, capture_output=True, text=True,
        )  # fmt: skip

    dry = command("--dry-run")
    assert dry.returncode == 0
    assert str(FIRST) in dry.stdout
    assert str(SECOND) not in dry.stdout, "the scores that stand"
    refused = command()
    assert refused.returncode == 1
    assert "nothing was done" in refused.stderr
    assert "maintain --yes" in refused.stderr
    assert content(own_story, FIRST) == before
    done = command("--yes", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (told["nights_days"], told["nights_that_end"], told["done"]) == (1, [str(FIRST)], True)
    assert content(own_story, SECOND)
    with pytest.raises(NotFound):
        content(own_story, FIRST)
