"""A score taken apart: the rows behind each value, the proof from those rows alone, and nights that are not there."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import date
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from lineage import rescore, sandbox, sources, subject_sandbox
from lineage.recording import Recording, recording
from lineage.sources import ROWID, SourceRows
from lineage.trace import Trace, trace
from pipeline import lake
from pipeline.errors import NotFound
from pipeline.nightly import run_night
from pipeline.registry import Registry
from tests.conftest import FIRST, SECOND, THIRD
from tests.lineage.conftest import Story, column
from tests.signing_off import at_the_home
from tests.untested import Untested

# What is behind a value, by hand: the statements that say which month is the latest (slot 1), those of the months that
# the feature looks at, the payments due in them; all reports of a bureau, among which the latest is the latest.
_ANCHOR = f"(SELECT max(date_trunc('month', statement_date)) FROM raw.loan_servicing WHERE account_id = $id\
 AND load_date <= DATE '{FIRST}' AND statement_date <= DATE '{FIRST}')"
_MONTHS = {
    "statements": f"""SELECT rowid FROM raw.loan_servicing WHERE account_id = $id AND load_date <= DATE '{FIRST}'
        AND statement_date <= DATE '{FIRST}' AND (
            date_diff('month', statement_date, {_ANCHOR}) IN (SELECT unnest($slots))
            OR statement_date >= date_trunc('month', DATE '{FIRST}') - INTERVAL 1 MONTH)""",
    "payments": f"""SELECT rowid FROM raw.payments_ledger WHERE account_id = $id AND load_date <= DATE '{FIRST}'
        AND coalesce(paid_on, due_date) <= DATE '{FIRST}'
        AND date_diff('month', due_date, {_ANCHOR}) IN (SELECT unnest($slots))""",
    "reports": f"""SELECT rowid FROM raw.bureau_pull WHERE subject_type = 'account' AND subject_id = $id
        AND load_date <= DATE '{FIRST}' AND pulled_on <= DATE '{FIRST}'""",
}
_TABLE = {"statements": "loan_servicing", "payments": "payments_ledger", "reports": "bureau_pull"}
BEHIND: dict[str, tuple[tuple[str, ...], list[int]]] = {
    # feature: what is behind it, of which slots (0 is the latest)
    "dpd_max_3m": (("statements",), [0, 1, 2]),
    "dpd_last_2": (("statements",), [0, 1]),
    "utilization_3m_avg": (("statements",), [0, 1, 2]),
    "balance_growth_1m": (("statements",), [0, 1]),
    "paid_last_1": (("statements", "payments"), [0]),
    "payment_missed_count_3m": (("statements", "payments"), [0, 1, 2]),
    "bureau_score_last": (("statements", "reports"), [0]),
    "bureau_own_share_last": (("statements", "reports"), [0]),
    "tenure_months_last": (("statements",), [0]),
    "apr_change_12m": (("statements",), [0, 12]),
}


def told(story: Story, subject: int, as_of: date = FIRST, **asked: Any) -> Trace:
    return trace(story.settings, story.engine, story.portfolio, str(subject), as_of, actor=at_the_home(), **asked)


@pytest.fixture(scope="module")
def account(story: Story) -> int:
    """An account with two years of statements, payments up to the latest, and bureau reports: every theme has rows."""
    with story.lake_on(FIRST) as con:
        return column(
            con,
            f"""SELECT account_id FROM scores.account_scores WHERE as_of_date = DATE '{FIRST}' AND account_id IN (
                SELECT account_id FROM raw.loan_servicing GROUP BY 1 HAVING count(*) >= 24) AND account_id IN (
                SELECT account_id FROM raw.payments_ledger GROUP BY 1 HAVING count(*) >= 24) AND account_id IN (
                SELECT subject_id FROM raw.bureau_pull WHERE subject_type = 'account' GROUP BY 1 HAVING count(*) >= 3)
            AND account_id IN (SELECT account_id FROM raw.payments_ledger JOIN (
                SELECT account_id, max(statement_date) AS latest FROM raw.loan_servicing GROUP BY 1) USING (account_id)
                WHERE date_trunc('month', due_date) = date_trunc('month', latest))
            ORDER BY md5(account_id::VARCHAR) LIMIT 1""",
        )[0]


@pytest.fixture(scope="module")
def whole(story: Story, account: int) -> Trace:
    return told(story, account)


@pytest.mark.parametrize("feature", BEHIND)
def test_the_rows_behind_a_feature_are_those_found_by_hand(
    feature: str, whole: Trace, account: int, first_night: duckdb.DuckDBPyConnection
) -> None:
    kinds, slots = BEHIND[feature]
    by_hand = {}
    for kind in kinds:
        given: dict[str, Any] = {"id": account} | ({} if kind == "reports" else {"slots": slots})
        by_hand[_TABLE[kind]] = sorted(r[0] for r in first_night.execute(_MONTHS[kind], given).fetchall())
    found = whole.feature(feature)
    assert {s.table: list(s.rowids) for s in found.sources} == by_hand
    assert all(by_hand.values()), "the account was chosen to have rows of each kind"
    assert found.proved
    assert not found.population
    for source in found.sources:
        table = first_night.execute(
            f"SELECT rowid, * FROM raw.{source.table} WHERE rowid IN ({', '.join(map(str, source.rowids))}) ORDER BY 1"
        ).to_arrow_table()
        assert list(source.rows) == table.to_pylist(), "the rows are shown as they are"


def test_an_applications_rows_are_those_found_by_hand(story: Story, first_night: duckdb.DuckDBPyConnection) -> None:
    subject = story.ids(FIRST, "application", 1)[0]
    found = told(story, subject)
    application = first_night.execute(
        "SELECT rowid FROM raw.applications WHERE application_id = ? AND load_date <= ?", [subject, FIRST]
    ).fetchall()
    reports = first_night.execute(
        "SELECT rowid FROM raw.bureau_pull WHERE subject_type = 'application' AND subject_id = ? AND load_date <= ?",
        [subject, FIRST],
    ).fetchall()
    asked = {"applications": sorted(i for (i,) in application)}
    assert {s.table: list(s.rowids) for s in found.feature("requested_amount").sources} == asked
    with_bureau = asked | ({"bureau_pull": sorted(i for (i,) in reports)} if reports else {})
    assert {s.table: list(s.rowids) for s in found.feature("bureau_score_at_application").sources} == with_bureau
    assert found.feature("requested_amount").value == float(
        found.feature("requested_amount").sources[0].rows[-1]["amount"]
    )
    assert all(f.proved for f in found.features)


def test_contributions_and_base_add_up_to_the_score(story: Story) -> None:
    for kind in ("account", "application"):
        for subject in story.ids(FIRST, kind, 3):
            found = told(story, subject)
            total = found.base + sum(f.contribution or 0.0 for f in found.features)
            assert total == pytest.approx(found.score["log_odds"], abs=1e-9)
            assert found.proof.features_equal and found.proof.score_equal
            assert [f.name for f in found.features if not f.proved] == []
            assert {f.name for f in found.features} == set(found.recorded.features)


@pytest.fixture(scope="module")
def known(story: Story, account: int) -> Iterator[tuple[Recording, SourceRows, dict[str, sources.RowIds]]]:
    """The recording; all raw rows of the account, behind it or not; what is behind some features."""
    recorded = recording(story.settings, story.engine, FIRST, "account")
    own = dict.fromkeys(("loan_servicing", "payments_ledger", "account_events"), "account_id = $id")
    own["bureau_pull"] = "subject_type = 'account' AND subject_id = $id"
    with story.lake_on(FIRST) as con:
        tables = {
            name: con.execute(f"SELECT rowid, * FROM raw.{name} WHERE {own_rows}", {"id": account}).to_arrow_table()
            for name, own_rows in own.items()
        }
        chosen = [*random.Random(7).sample(recorded.features, 5), "dpd_max_3m", "paid_last_1", "bureau_score_last"]
        yield recorded, SourceRows(tables), sources.rows_by_feature(con, recorded, account, list(dict.fromkeys(chosen)))


def computed(recorded: Recording, tables: dict[str, pa.Table]) -> dict[str, Any]:
    with subject_sandbox.of_rows(recorded.models, tables, "BIGINT") as box:
        return next(iter(rescore.rows_of(box, recorded.target.relation)), {})


def measures_changed(table: pa.Table, untouched: tuple[int, ...]) -> pa.Table:
    """Every amount and number of the rows that are not ``untouched``, one more than it was."""
    keep = pc.is_in(table[ROWID], pa.array(untouched, pa.int64()))
    for i, field in enumerate(table.schema):
        measured = pa.types.is_decimal(field.type) or field.type == pa.int32()
        if measured:
            table = table.set_column(
                i, field, pc.if_else(keep, table[field.name], pc.add(table[field.name], 1).cast(field.type))
            )
    return table


def test_a_row_that_is_not_behind_a_value_may_be_anything(
    story: Story, account: int, whole: Trace, known: tuple[Recording, SourceRows, dict[str, sources.RowIds]]
) -> None:
    recorded, everything, by_feature = known
    moved = set()
    for feature, behind in by_feature.items():
        changed = {t: measures_changed(rows, behind.get(t, ())) for t, rows in everything.tables.items()}
        again = computed(recorded, {t: rows.drop_columns([ROWID]) for t, rows in changed.items()})
        assert rescore.same(whole.feature(feature).value, again.get(feature)), feature
        moved |= {name for name in recorded.features if again.get(name) != whole.feature(name).value}
    assert len(moved) > 50, "the changed rows do carry other features"


def test_without_the_rows_behind_it_a_value_is_another(
    whole: Trace, known: tuple[Recording, SourceRows, dict[str, sources.RowIds]]
) -> None:
    recorded, everything, by_feature = known
    for feature, behind in by_feature.items():
        value = whole.feature(feature).value
        for name in behind:
            without = {
                t: rows.filter(pc.invert(pc.is_in(rows[ROWID], pa.array(behind[t] if t == name else (), pa.int64()))))
                for t, rows in everything.tables.items()
            }
            again = computed(recorded, {t: rows.drop_columns([ROWID]) for t, rows in without.items()})
            if value is not None:
                assert again.get(feature) != value, f"{feature} without {name}"


def test_copies_keep_the_order_of_ids() -> None:
    copies = sources.Copies([3, 10, 700], "BIGINT")
    for number in (0, 1, 5):
        renamed = [copies.renamed(number, v) for v in (3, 10, 700)]
        assert renamed == sorted(renamed)
        assert max(renamed) < 0
    names = {copies.renamed(n, v) for n in range(4) for v in (3, 10, 700, 11)}
    assert len(names) == 16, "no two copies share an id, one that no row has included"
    texts = sources.Copies(["A", "B"], "VARCHAR")
    assert texts.renamed(0, "A") < texts.renamed(0, "B")


def test_a_feature_without_a_value_says_why(whole: Trace) -> None:
    empty = next(f for f in whole.features if f.value is None)
    assert empty.as_dict()["note"] == f"NULL: {empty.declared['null_policy']}"
    assert empty.proved


def test_only_the_features_asked_for(story: Story, account: int, whole: Trace) -> None:
    found = told(story, account, features=["paid_last_1", "dpd_max_3m"])
    assert {f.name for f in found.features} == {"paid_last_1", "dpd_max_3m"}
    assert found.proof.score_equal and found.proof.features == len(whole.recorded.features)
    with pytest.raises(NotFound, match="paid_lost_1 is not a feature"):
        told(story, account, features=["paid_lost_1"])


def test_the_promotion_told_is_the_one_in_force_that_night(story: Story, whole: Trace) -> None:
    assert whole.promotion is not None
    assert (whole.promotion.actor, whole.promotion.reason) == ("ada approver, ben approver", "first of the tests")
    later = told(story, story.ids(SECOND, "account", 1)[0], SECOND)
    assert later.promotion is not None
    assert (later.promotion.model_version, later.promotion.reason) == (2, "fewer <b>trees</b>")


def test_an_id_without_a_score_is_told_why(story: Story, first_night: duckdb.DuckDBPyConnection) -> None:
    def why_not(subject: int, **asked: Any) -> str:
        with pytest.raises(NotFound) as raised:
            told(story, subject, **asked)
        return raised.value.message

    assert "no statement and no application of that id was known by then" in why_not(17)
    [gone] = column(
        first_night,
        "SELECT account_id FROM raw.account_events WHERE event_type = 'closed' ORDER BY account_id LIMIT 1",
    )
    assert f"account or application {gone} has no score on {FIRST}: the account had ended on" in why_not(gone)
    [old] = column(
        first_night,
        "SELECT application_id FROM raw.applications WHERE load_date < DATE '2026-03-01' ORDER BY load_date LIMIT 1",
    )
    assert "scored in the period in which it was first known" in why_not(old)
    scored = story.ids(FIRST, "account", 1)[0]
    assert why_not(scored, kind="application").endswith("it is an account")
    with pytest.raises(NotFound, match="'x7' is not an id of cascade"):
        trace(story.settings, story.engine, story.portfolio, "x7", FIRST, actor=at_the_home())


def test_a_date_without_a_night_names_the_nights_beside_it(story: Story, account: int) -> None:
    with pytest.raises(NotFound, match=f"nothing is published for {THIRD}") as raised:
        told(story, account, THIRD)
    assert str(SECOND) in raised.value.next_step
    with pytest.raises(NotFound, match="published nothing"):
        told(story, account, FIRST, run_id="20260312-nightly-00000000")


def test_an_accounts_first_night(story: Story) -> None:
    with story.lake_on(SECOND) as con:
        new = column(
            con,
            f"""SELECT account_id FROM scores.account_scores WHERE as_of_date = DATE '{SECOND}' AND account_id NOT IN (
                SELECT account_id FROM scores.account_scores WHERE as_of_date = DATE '{FIRST}') ORDER BY 1""",
        )
    assert new, "the lender opens accounts every day"
    found = told(story, new[0], SECOND)
    assert found.proof.features_equal and found.proof.score_equal
    assert all(f.proved for f in found.features)


def test_a_model_deleted_after_it_scored_is_still_replayed(own_story: Story, account: int, whole: Trace) -> None:
    registry = Registry(own_story.settings)
    registry._client.delete_model_version("pd_default", "1")
    with pytest.raises(NotFound):
        registry.get("pd_default", 1)
    found = told(own_story, account)
    assert found.proof.score_equal
    assert found.score["log_odds"] == whole.score["log_odds"]


def test_an_expired_snapshot_is_said_plainly(own_story: Story, account: int, whole: Trace) -> None:
    snapshot = whole.recorded.publication.snapshot_id
    with closing(lake.connect(own_story.settings, read_only=False)) as con:
        con.execute(f"CALL ducklake_expire_snapshots('{lake.ALIAS}', versions => [{snapshot}])")
    with pytest.raises(NotFound, match=f"snapshot {snapshot} has been expired") as raised:
        told(own_story, account)
    assert "backup" in raised.value.next_step


def test_both_runs_of_a_date_that_was_published_twice(own_story: Story) -> None:
    portfolio = own_story.portfolio
    run_night(
        own_story.settings, portfolio, own_story.engine, FIRST, actor=at_the_home(),
        extracts=own_story.settings.extracts_dir, warehouse=Untested(own_story.settings, own_story.portfolio),
    )  # fmt: skip
    earlier, later = own_story.runs_of(FIRST)
    before = told(own_story, own_story.restated, FIRST, run_id=earlier)
    after = told(own_story, own_story.restated, FIRST)
    assert (before.recorded.run.run_id, before.recorded.superseded) == (earlier, True)
    assert (after.recorded.run.run_id, after.recorded.superseded) == (later, False)
    assert any("published this date again" in note for note in before.notes)
    for found in (before, after):
        assert found.proof.features_equal and found.proof.score_equal
    # The second run of the date saw the statement as it was delivered again.
    assert after.feature("balance_last_1").value == before.feature("balance_last_1").value * 2


def test_the_command_line_prints_what_a_program_needs(story: Story, account: int) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "app.cli", "trace", str(account), "--as-of", str(FIRST), "--json"],
        env=os.environ | {"SCORETRACE_HOME": str(story.settings.home)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {"subject", "as_of", "score", "model", "run", "features", "proof"} <= found.keys()
    assert (found["subject"], found["as_of"]) == (str(account), str(FIRST))
    assert {"features_equal", "score_equal", "seconds"} <= found["proof"].keys()
    keys = {"name", "value", "contribution", "dbt_model", "sql_sha256", "sources", "proved"}
    assert all(keys <= f.keys() for f in found["features"])
    assert all(s.keys() == {"table", "rowids", "rows"} for f in found["features"] for s in f["sources"])
    total = found["base"] + sum(f["contribution"] or 0.0 for f in found["features"])
    assert total == pytest.approx(found["score"]["log_odds"], abs=1e-9)


def test_own_rows_and_the_lake_give_the_same_rows_behind_every_feature(story: Story, account: int) -> None:
    application = story.ids(FIRST, "application", 1)[0]
    for kind, subject in (("account", account), ("application", application)):
        recorded = recording(story.settings, story.engine, FIRST, kind)
        with story.lake_on(FIRST) as con:
            own = sources.own_rows(con, recorded, subject)
            from_lake = sources.rows_by_feature(con, recorded, subject, recorded.features)
            assert sources.rows_behind(con, recorded, subject, own) == sources.rows_behind(con, recorded, subject)
        # A lake that cannot be asked shows that the subject's own rows were enough.
        assert sources.rows_by_feature(con, recorded, subject, recorded.features, own) == from_lake


def test_one_subject_after_another_is_computed_as_if_it_were_the_first(story: Story) -> None:
    recorded = recording(story.settings, story.engine, FIRST, "account")
    with story.lake_on(FIRST) as con:
        given = {i: sources.own_rows(con, recorded, i).everything() for i in story.ids(FIRST, "account", 4)}
    first = {i: computed(recorded, rows) for i, rows in given.items()}
    assert [again["account_id"] for again in first.values()] == list(given), "nothing of the one before is left"
    with pytest.raises(ZeroDivisionError), subject_sandbox.of_rows(recorded.models, {}, "BIGINT"):
        raise ZeroDivisionError  # what fails inside takes its catalog with it
    assert {i: computed(recorded, rows) for i, rows in reversed(given.items())} == first
    with sandbox.of_raw(given[next(iter(given))], "BIGINT") as con:
        sandbox.build(con, recorded.models)
        assert rescore.rows_of(con, recorded.target.relation) == [first[next(iter(given))]]
