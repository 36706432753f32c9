"""The pages that explain, over a home that the real pipeline made: two nights, a restated statement, two models."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from contextlib import closing
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import parse_qs

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from app import data, exports, filters, formats, session
from app.auditing import record
from app.password_sessions import SESSIONS
from app.reports import published_scores
from lineage.explained import explained
from lineage.personal_data import MASK, personal_features
from lineage.recording import recording
from pipeline import archive, lake, ledger
from pipeline import home as homes
from pipeline.contracts import PRODUCTS
from pipeline.errors import AccessDenied, NotFound
from pipeline.governance import audit, identity, users
from pipeline.governance.access import Actor
from tests.app.conftest import Open, html_of
from tests.app.test_portal_pages import links_of, number, rows_of
from tests.conftest import FIRST, SECOND
from tests.lineage.conftest import Story
from tests.signing_off import at_the_home

FEATURE = "utilization_3m_avg"
NODE = f"features.account_features.{FEATURE}"


def account(story: Story) -> str:
    return str(story.restated)


# ── a score, explained ───────────────────────────────────────────────────────────────────────────────────────


def test_the_contributions_shown_add_up_to_the_score(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "scores", account=account(story))
    portfolio, engine = homes.open_home(story.settings)
    found = explained(story.settings, engine, portfolio, account(story), SECOND, actor=at_the_home())
    total = found.base + sum(f.contribution or 0.0 for f in found.features)
    assert total == pytest.approx(found.log_odds, abs=1e-9)
    alt = next(c.proto.alt for c in app.get("plotly_chart") if c.proto.alt.startswith("Log-odds from the base rate"))
    bars = [number(v) for v in re.findall(r"[+−]\d+\.\d\d", alt)]
    assert bars[0] + sum(bars[2:]) == pytest.approx(bars[1], abs=0.005 * len(bars))
    strongest = rows_of(app, "Strongest features")
    assert [row[0] for row in strongest] == [f.name for f in found.features[:12]]
    assert strongest[0][4] == found.features[0].description, "a definition from the dbt docs"
    pages = [portal(story.settings.home, "scores", account=account(story), page=str(n)) for n in range(1, 8)]
    others = {row[0] for page in pages for row in rows_of(page, "Other features")}
    assert others == {f.name for f in found.features[12:]}
    by_name = portal(story.settings.home, "scores", account=account(story), by="feature")
    assert [row[0] for row in rows_of(by_name, "Other features")] == sorted(others)[:25]


def test_prove_it_shows_the_verdict_and_is_an_address(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "scores", account=account(story))
    assert "Proved:" not in html_of(app)
    app.button(key=f"prove {story.restated} {SECOND}").click().run()
    assert app.query_params["prove"] == "1"
    page = html_of(app)
    assert "✓ Proved:" in page and re.search(r"(\d+) of \1 features and the score computed again from \d+ source", page)
    assert "equal bit for bit" in page


def test_a_feature_opens_its_path_and_its_very_rows(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "scores", account=account(story), feature=FEATURE)
    page = html_of(app)
    assert f"Where {FEATURE} came from" in page and "✓ these rows give it again" in page
    rows = rows_of(app, "Rows of raw.loan_servicing")
    assert len(rows) == 3 and all(row[0] == account(story) for row in rows)
    assert all(row[-2].endswith(".parquet") and row[-1] for row in rows), "file and record"
    path = next(c.proto.alt for c in app.get("plotly_chart") if c.proto.alt.startswith("Lineage of"))
    assert "loan_servicing feeds stg_servicing__statements" in path and "account_scores" in path


def test_a_value_without_rows_or_not_a_feature(portal: Open, story: Story) -> None:
    page = html_of(portal(story.settings.home, "scores", account=account(story), feature="no_such"))
    assert "✕ not found" in page and "no_such" in page and "Strongest features" not in page


def test_why_it_moved_adds_up_twice(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "scores", account=account(story), since=FIRST.isoformat())
    parts = rows_of(app, "Why the score moved, in parts that add up")
    assert [row[0] for row in parts] == ["model", "definition", "restated", "went", "came", "time", "all"]
    changes = [number(row[1]) for row in parts]
    assert changes[0] != 0 and changes[2] != 0, "version 2 scored, and a statement was restated"
    assert sum(changes[:-1]) == pytest.approx(changes[-1], abs=0.0005)
    by_feature = rows_of(app, "Why the score moved, by feature")
    moved = [number(row[4]) for row in by_feature]
    assert {"days", "ratio"} & {row[1] for row in by_feature}, "values have their units"
    assert sum(moved[:-1]) == pytest.approx(moved[-1], abs=0.001)
    opened = [label for label, query in links_of(app) if "since=" in query and "feature=" in query]
    names = [row[0] for row in by_feature if re.fullmatch("[a-z0-9_]+", row[0]) and row[0] != "all"]
    assert names == [name.replace("\\", "") for name in opened[: len(names)]], "each opens its path and rows"
    assert rows_of(app, "Rows of raw.loan_servicing that make the part restated")
    bad = html_of(portal(story.settings.home, "scores", account=account(story), since="2025-01-01"))
    assert "✕ not found" in bad and FIRST.isoformat() in bad


def test_personal_data_is_masked_until_somebody_who_may_asks_and_that_is_on_record(
    portal: Open, own_story: Story
) -> None:
    settings, engine = own_story.settings, own_story.engine
    subject = next(iter(own_story.ids(SECOND, "application", 1)))
    app = portal(settings.home, "scores", application=str(subject), prove="1")
    assert "Masked:" in html_of(app) and "stated_income" in html_of(app)
    everything = dict(row[:2] for t in ("Strongest features", "Other features") for row in rows_of(app, t))
    hidden = {name for name, value in everything.items() if value == MASK}
    assert hidden and "masked features, together" in html_of(app) and "withheld" in html_of(app)
    app.button(key="show personal").click().run()
    everything = dict(row[:2] for t in ("Strongest features", "Other features") for row in rows_of(app, t))
    assert all(everything[name] != MASK for name in hidden)
    (read,) = audit.records(engine, action="personal_data.read")
    assert read.subject == f"application:{subject}" and set(hidden) <= set(json.loads(read.detail)["names"])


def test_a_stored_reason_that_is_personal_data_is_masked_for_who_may_not_take_a_score_apart_too(
    portal: Open, own_story: Story, monkeypatch: pytest.MonkeyPatch
) -> None:
    personal = sorted(personal_features(recording(own_story.settings, own_story.engine, SECOND, "application")))
    with own_story.lake_on(SECOND) as con:
        found = con.execute(
            "SELECT application_id, feature, value, list(feature) OVER (PARTITION BY application_id) "
            "FROM scores.application_reasons WHERE as_of_date = ? "
            "QUALIFY list_contains(?, feature) AND value IS NOT NULL ORDER BY 1 LIMIT 1",
            [SECOND, personal],
        ).fetchone()
    assert found, "no application of the night has a personal feature among its reasons"
    subject, feature, value, every = found
    for app in (
        portal(own_story.settings.home, "scores", application=str(subject)),
        as_role(monkeypatch, own_story, "viewer", "scores", application=str(subject)),
    ):
        reasons = {row[0]: row[1:3] for row in rows_of(app, "What raised this score most")}
        (withheld,) = (name for name in reasons if "masked feature" in name)
        assert reasons.pop(withheld) == [MASK, MASK], "neither a value nor what it contributes"
        assert reasons.keys() == set(every) - set(personal) and feature not in reasons
        assert formats.decimal(value) not in [shown for shown, _ in reasons.values()]


def as_role(monkeypatch: pytest.MonkeyPatch, story: Story, role: str, page: str, **query: str) -> AppTest:
    """The page as somebody signed in with one role sees it."""
    now = datetime.now(UTC)
    admin = Actor("root", frozenset({"admin"}), "home", now)
    if not users.exist(story.engine):
        users.add(
            story.engine, admin, "kim", [role], identity.hash_password("kim", "correct horse battery"), now, record
        )
    monkeypatch.setenv("SCORETRACE_HOME", str(story.settings.home))
    app = AppTest.from_file(str(Path(__file__).parents[2] / "app" / "main.py"), default_timeout=60)
    app.session_state["signed in"] = SESSIONS.begin(Actor("kim", frozenset({role}), "password", now), now)
    app.run()
    app.switch_page(f"views/{page}.py")
    for key, value in query.items():
        app.query_params[key] = value
    return app.run()


def test_a_viewer_sees_the_score_and_is_told_who_may_take_it_apart(
    portal: Open, monkeypatch: pytest.MonkeyPatch, own_story: Story
) -> None:
    subject = account(own_story)
    page = html_of(as_role(monkeypatch, own_story, "viewer", "scores", account=subject))
    assert f"<h1>Account {subject}</h1>" in page and "not for your roles" in page and "analyst" in page
    assert "Strongest features" not in page and not audit.records(own_story.engine, action="access.refused")
    refused = html_of(as_role(monkeypatch, own_story, "viewer", "scores", account=subject, feature=FEATURE))
    assert "✕ not allowed" in refused and "trace.read needs the role analyst" in refused
    assert len(audit.records(own_story.engine, action="access.refused")) == 1
    for name in ("columns", "runs"):
        assert "not allowed" not in html_of(as_role(monkeypatch, own_story, "viewer", name))


# ── Lineage ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_lineage_opens_on_a_column_with_its_neighbours(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "columns", column=NODE)
    page = html_of(app)
    assert "Mean of balance over limit" in page and "share of the limit" in page and "risk-features" in page
    assert rows_of(app, "Directly upstream")[0][0] == f"features.feat_utilization.{FEATURE}"
    assert rows_of(app, "Tests of this column")
    assert "<dt>Freshness</dt><dd>that night</dd>" in page
    landed = html_of(portal(story.settings.home, "columns", column="raw.loan_servicing.balance"))
    assert re.search(r"<dt>Freshness</dt><dd>\d+ days? old</dd><dd><span class='status ok'>✓ pass", landed)
    (chart,) = app.get("plotly_chart")
    assert chart.proto.alt.startswith(f"Lineage of {FEATURE}")
    hops = {label: parse_qs(query) for label, query in links_of(app) if label.startswith("one hop")}
    assert hops["one hop more upstream"]["up"] == ["2"] and "one hop less upstream" not in hops
    published = ledger.latest_publication(story.engine)
    assert published
    results = ledger.dbt_results(story.engine, published.run_id)
    (ran,) = {r.definition_sha256 for r in results if r.resource_type == "model" and r.model == "account_features"}
    assert ran and archive.read_text(story.settings, ran).strip() in [c.value.strip() for c in app.code]


def test_the_impact_of_a_raw_column_names_features_by_importance(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "columns", column="raw.loan_servicing.balance")
    rows = rows_of(app, "Features downstream")
    shares = [number(row[2]) for row in rows if row[2] != "–"]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0
    page = html_of(app)
    assert "marts.regulatory_features" in page and "<b>Pages</b> Drift, Outcomes, Scores, Tonight" in page
    assert re.search(r"<b>Scores by</b> pd_default version \d", page) and "<b>dbt models</b> stg_servicing" in page


def test_lineage_begins_with_the_path_of_what_the_models_lean_on_most(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "columns")
    first = rows_of(app, "Most important features")[0][0]
    assert re.search(rf"{re.escape(first)} *<small>what the models lean on most", html_of(app))
    (chart,) = app.get("plotly_chart")
    assert chart.proto.alt.startswith(f"Lineage of {first.rpartition('.')[2]}")


def test_a_drifted_feature_has_its_definition_and_a_way_to_its_lineage(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "drift", feature=FEATURE)
    assert "<p>Mean of balance over limit" in html_of(app)
    assert ("its lineage", f"as_of={FIRST}&column={NODE}") in links_of(app)


def test_lineage_is_searched_by_words(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "columns", q="utilization 3m_avg account_features")
    assert rows_of(app, "Columns named utilization 3m_avg account_features")[0][0] == NODE
    assert "✕ not found" in html_of(portal(story.settings.home, "columns", q="no such words"))
    start = portal(story.settings.home, "columns")
    assert rows_of(start, "Most important features")


def test_a_landed_column_has_its_unit_its_owner_and_its_loads_down_to_their_rows(portal: Open, story: Story) -> None:
    home, column = story.settings.home, "raw.loan_servicing.days_past_due"
    app = portal(home, "columns", column=column)
    page = html_of(app)
    assert "<dt>Unit</dt><dd>days</dd>" in page and "<dt>Owner</dt><dd>loan-servicing</dd>" in page
    loads = rows_of(app, "Loads, newest first")
    with story.lake_on(SECOND) as con:
        known = con.execute(
            "SELECT load_id, state FROM raw.loads WHERE table_name = 'loan_servicing' AND load_date <= ? "
            "ORDER BY load_date DESC, landed_at DESC",
            [SECOND],
        ).fetchall()
        newest = known[0][0]
        stored = con.execute(
            "SELECT account_id, days_past_due, source_row FROM raw.loan_servicing WHERE load_id = ? "
            "ORDER BY source_file, source_row LIMIT 15",
            [newest],
        ).fetchall()
    assert [(row[0], row[2].split()[1]) for row in loads] == known[:8]
    opened = next(parse_qs(query) for label, query in links_of(app) if label.replace("\\", "") == newest)
    assert opened["load"] == [newest] and opened["column"] == [column]
    rows = rows_of(portal(home, "columns", column=column, load=newest), f"Rows of load {newest}")
    assert [(row[0], row[3], row[-1]) for row in rows] == [(str(a), str(d), str(n)) for a, d, n in stored]
    none = portal(home, "columns", column=column, load="payments_ledger.20260312.x.1")
    assert "✕ not found" in html_of(none) and rows_of(none, "Loads, newest first"), "and there is one to choose"
    income = "raw.applications.stated_income"
    masked = rows_of(portal(home, "columns", column=income), "Loads, newest first")[0][0]
    rows = rows_of(portal(home, "columns", column=income, load=masked), f"Rows of load {masked}")
    assert rows and {row[1] for row in rows} <= {MASK, "–"}, "personal data stays masked"


def test_a_row_of_a_load_stands_beside_the_one_before_it(portal: Open, story: Story) -> None:
    home, column = story.settings.home, "raw.loan_servicing.balance"
    with story.lake_on(SECOND) as con:
        load, row, again = con.execute(
            "SELECT load_id, source_row, balance FROM raw.loan_servicing WHERE account_id = ? AND load_date <= ? "
            "ORDER BY load_date DESC, source_row DESC LIMIT 1",
            [story.restated, SECOND],
        ).fetchone() or ("", 0, 0)
        (was,) = con.execute(
            "SELECT balance FROM raw.loan_servicing WHERE account_id = ? AND load_id <> ? AND load_date <= ? "
            "ORDER BY statement_date DESC, load_date DESC LIMIT 1",
            [story.restated, load, SECOND],
        ).fetchone() or (0,)
    page = str((row - 1) // 15 + 1)
    shown = rows_of(portal(home, "columns", column=column, load=load, rows_page=page), f"Rows of load {load}")
    (mine,) = [line for line in shown if line[0] == str(story.restated)]
    assert (number(mine[2]), number(mine[3])) == (float(was), float(again)) and was != again


def test_a_load_counts_on_an_earlier_night_with_the_rows_it_had(portal: Open, story: Story) -> None:
    """The first night was published before the second one's rows landed; the history has rows of many days."""
    home, column = story.settings.home, "raw.loan_servicing.balance"
    with story.lake_on(FIRST) as con:
        (known,) = con.execute("SELECT count(*) FROM raw.loan_servicing WHERE load_date <= ?", [FIRST]).fetchone() or (
            0,
        )
    app = portal(home, "columns", as_of=FIRST.isoformat(), column=column)
    accepted = [row for row in rows_of(app, "Loads, newest first") if row[2] == "✓ accepted"]
    assert sum(number(row[3].replace("\u202f", "")) for row in accepted) == known
    assert f"<dt>Rows</dt><dd>{formats.count(known)}</dd>" in html_of(app)


def test_the_rows_of_a_load_are_for_who_may_take_a_score_apart(
    portal: Open, monkeypatch: pytest.MonkeyPatch, own_story: Story
) -> None:
    column = "raw.loan_servicing.balance"
    seen = as_role(monkeypatch, own_story, "viewer", "columns", column=column)
    load = rows_of(seen, "Loads, newest first")[0][0]
    assert not [query for _, query in links_of(seen) if "load=" in query]
    refused = html_of(as_role(monkeypatch, own_story, "viewer", "columns", column=column, load=load))
    assert (
        "✕ not allowed" in refused and "trace.read needs the role analyst" in refused and "Rows of load" not in refused
    )


@pytest.mark.parametrize("bad", ["features.account_features.nope", "'; DROP", "<b>x</b>"])
def test_a_column_that_is_none_is_not_found(portal: Open, story: Story, bad: str) -> None:
    page = html_of(portal(story.settings.home, "columns", column=bad))
    assert "✕ not found" in page and "<b>x</b>" not in page


def test_the_lineage_of_two_nights_differs_in_what_was_done_and_not_in_the_date(portal: Open, story: Story) -> None:
    page = html_of(portal(story.settings.home, "columns", column=NODE, **{"with": FIRST.isoformat()}))
    assert "no difference; SQL that differs in the night" in page or "way changed" in page
    assert "tables with other SQL" not in page
    bad = html_of(portal(story.settings.home, "columns", **{"with": "x"}))
    assert "✕ not found" in bad


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_run_has_its_tasks_gates_tests_models_and_environment(portal: Open, story: Story) -> None:
    run_id = story.runs_of(SECOND)[-1]
    app = portal(story.settings.home, "runs", run=run_id)
    page = html_of(app)
    assert f"<h1>Run {run_id}</h1>" in page and "✓ succeeded" in page
    (chart,) = app.get("plotly_chart")
    for task in ("land", "gate", "features", "score", "publish"):
        assert f"{task} attempt 1 succeeded" in chart.proto.alt
    assert {row[0] for row in rows_of(app, "Models built")} >= {"account_features", "feat_utilization"}
    assert re.search(r"Data tests<small>3\d\d of 3\d\d passed, worst first", page)
    assert rows_of(app, "Environment of the run")
    other = story.runs_of(FIRST)[-1]
    said = [row[1] for row in rows_of(app, "What the run said, oldest first")]
    assert said[0].startswith("[1/") and any("features ✓" in line for line in said)
    beside = portal(story.settings.home, "runs", run=run_id, **{"with": other})
    assert rows_of(beside, "Two runs side by side")[0][1:3] == ["12 Mar 2026", "13 Mar 2026"]
    assert "SQL of dbt models beyond its dates: <span class='status ok'>" in html_of(beside)
    assert ledger.run(story.engine, run_id).actor in page


def test_a_runs_gates_and_tests_are_paged_and_ordered_by_their_heads(portal: Open, story: Story) -> None:
    run_id = story.runs_of(SECOND)[-1]
    tests = [r for r in ledger.dbt_results(story.engine, run_id) if r.resource_type == "test"]
    slowest = max(tests, key=lambda r: r.seconds)
    app = portal(story.settings.home, "runs", run=run_id, tests_by="-took")
    first = rows_of(app, "Data tests")
    assert len(first) == 12 and first[0][1] == (
        f"{slowest.model}.{slowest.column}" if slowest.column else slowest.model
    )
    second = rows_of(portal(story.settings.home, "runs", run=run_id, tests_by="-took", tests_page="2"), "Data tests")
    assert number(first[-1][4].split()[0]) >= number(second[0][4].split()[0]) and first != second
    gates = [g for g in ledger.gate_verdicts(story.engine, run_id) if g.observed is not None]
    app = portal(story.settings.home, "runs", run=run_id, gates_by="-observed")
    largest = max(gates, key=lambda g: g.observed or 0.0)
    assert rows_of(app, "Gate verdicts")[0][:2] == [largest.gate, largest.subject]
    names = {button.proto.label for button in app.get("download_button")}
    assert "Download as CSV" in names
    assert "✕ not found" in html_of(portal(story.settings.home, "runs", run=run_id, gates_by="height"))
    app = portal(story.settings.home, "runs", run=run_id, words="UTILIZATION_3M mean")
    assert [row[1] for row in rows_of(app, "Data tests")] == [f"account_features.{FEATURE}"]
    assert "1 with “UTILIZATION_3M mean”" in html_of(app), "and no gate has them"


def test_a_feature_on_a_card_says_what_it_is_and_opens_its_lineage(portal: Open, story: Story) -> None:
    app = portal(story.settings.home, "models", model="pd_default", version="1")
    first = rows_of(app, "Features")[0]
    links = [
        label.replace("\\", "")
        for label, query in links_of(app)
        if f"column=features.account_features.{first[0]}" in query
    ]
    assert links == [first[0]] and len(first[6].split()) > 2


# ── the list of scores ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("subject", "code"), [("account", "product_code_last"), ("application", "application_product_code")]
)
def test_a_product_is_what_the_nights_features_say(portal: Open, story: Story, subject: str, code: str) -> None:
    with story.lake_on(SECOND) as con:
        found = con.execute(
            f"SELECT {code}, count(*) FROM scores.{subject}_scores JOIN features.{subject}_features "
            f"USING ({subject}_id, as_of_date) WHERE as_of_date = ? GROUP BY 1 ORDER BY 2 DESC",
            [SECOND],
        ).fetchall()
    whole = sum(n for _, n in found)
    for kind, count in found:
        app = portal(story.settings.home, "scores", of=subject, product=PRODUCTS[kind])
        assert f"{formats.count(count)} of {formats.plural(whole, subject)}" in html_of(app)


def test_a_segment_of_the_book_is_listed_as_monitoring_splits_it(
    portal: Open, monkeypatch: pytest.MonkeyPatch, story: Story, own_story: Story
) -> None:
    with story.lake_on(SECOND) as con:
        new, whole = con.execute(
            "SELECT count(*) FILTER (statement_age_days_last < 1), count(*) FROM scores.account_scores "
            "JOIN features.account_features USING (account_id, as_of_date) WHERE as_of_date = ?",
            [SECOND],
        ).fetchone() or (0, 0)
    app = portal(story.settings.home, "scores", segment="arrival=new")
    assert 0 < new < whole and f"{formats.count(new)} of {formats.plural(whole, 'account')}" in html_of(app)
    for bad in ("arrival", "moon=full", "state=", "arrival=new=x", "grade=<i>Z"):
        page = html_of(portal(story.settings.home, "scores", segment=bad))
        assert "✕ not found" in page and "<i>Z" not in page
    refused = html_of(as_role(monkeypatch, own_story, "admin", "scores", segment="state=CA"))
    assert "✕ not allowed" in refused and "drift.read needs the role" in refused


def test_a_score_whose_archived_sql_is_gone_still_shows_what_is_stored_of_it(portal: Open, own_story: Story) -> None:
    def lose(night: date) -> None:
        published = ledger.publication_for(own_story.engine, night)
        assert published
        for ran in ledger.dbt_results(own_story.engine, published.run_id):
            if ran.model == "account_features" and ran.definition_sha256:
                archive.path_of(own_story.settings, ran.definition_sha256).unlink()

    def shown(**asked: str) -> str:
        page = html_of(portal(own_story.settings.home, "scores", account=str(own_story.restated), **asked))
        assert f"<h1>Account {own_story.restated}</h1>" in page and "<h2>Every published score" in page
        return page

    lose(FIRST)
    assert "✕ why it moved cannot be told" in shown(since=str(FIRST))
    lose(SECOND)
    page = shown(prove="1")
    assert "✕ it cannot be proved" in page and "the archive has no file" in page


def test_a_list_is_taken_by_who_may_and_on_record(own_story: Story) -> None:
    home = session.Home(
        "test",
        own_story.settings,
        own_story.portfolio,
        own_story.engine,
        tuple(ledger.published_dates(own_story.engine)),
        ledger.attempts_ended(own_story.engine, "monitor"),
    )
    reader = session.Reader(home, ledger.publication_for(own_story.engine, SECOND))  # type: ignore[arg-type]
    chosen = filters.Filter(decile=10, product="card")
    analyst, viewer = (Actor(role, frozenset({role}), "password", datetime.now(UTC)) for role in ("analyst", "viewer"))
    content = exports.scores(reader, chosen, "-pd", analyst)
    lines = list(csv.DictReader(io.StringIO(content.decode())))
    assert lines[0]["previous_pd"] and all(
        float(x["pd_change"]) == float(x["pd"]) - float(x["previous_pd"]) for x in lines if x["previous_pd"]
    ), "what the list shows of the night before is in the file"
    assert chosen.words() == ["decile-10", "product-card"]
    scores = data.page(reader, chosen, "-pd", 1)
    assert len(lines) == data.matching(reader, chosen) > 0
    assert [(x["account_id"], float(x["pd"])) for x in lines[:50]] == [(str(s.id), s.pd) for s in scores]
    (taken,) = audit.records(own_story.engine, action="scores.exported")
    assert (taken.actor, taken.subject) == ("analyst", f"night:{SECOND}")
    assert taken.facts["rows"] == len(lines) and taken.facts["filter"]["product"] == "card"
    assert taken.facts["file_sha256"] == hashlib.sha256(content).hexdigest()
    asked = [lines[3]["account_id"], "7", lines[1]["account_id"]]
    found = list(csv.DictReader(io.StringIO(exports.found_scores(reader, "account", asked, analyst).decode())))
    assert [x["id"] for x in found] == [asked[0], asked[2]], "in the order asked for; what has no score is left out"
    taken = audit.records(own_story.engine, action="scores.exported", order="-record")[0]
    assert (taken.facts["rows"], taken.facts["ids"]) == (2, 3)
    for take in (
        lambda: exports.scores(reader, chosen, "-pd", viewer),
        lambda: exports.found_scores(reader, "account", asked, viewer),
    ):
        with pytest.raises(AccessDenied, match=r"scores\.export"):
            take()


# ── a night whose replay has ended ───────────────────────────────────────────────────────────────────────────


def test_a_night_whose_replay_ended_shows_the_scores_it_published_and_no_others(portal: Open, own_story: Story) -> None:
    home, subject = own_story.settings.home, account(own_story)
    night = ledger.publication_for(own_story.engine, FIRST)
    assert night is not None
    before = published_scores(own_story.settings, FIRST, "account", 5)
    shown = rows_of(portal(home, "scores", as_of=str(FIRST)), "Accounts")
    assert "cannot be computed again" not in html_of(portal(home, "scores", as_of=str(FIRST)))
    with closing(lake.connect(own_story.settings, read_only=False)) as con:
        con.execute(f"CALL ducklake_expire_snapshots('lake', versions => [{night.snapshot_id}])")
    st.cache_resource.clear()  # as a server that is started after the maintenance
    assert published_scores(own_story.settings, FIRST, "account", 5) == before
    page = portal(home, "scores", as_of=str(FIRST))
    assert "cannot be computed again" in html_of(page)
    assert rows_of(page, "Accounts") == shown
    page = portal(home, "scores", as_of=str(FIRST), account=subject)
    assert "cannot be computed again" in html_of(page) and "has been expired" in html_of(page)
    assert "Evidence pack: none any more" in html_of(page)
    assert [b.proto.label for b in page.get("download_button")] == ["Download as CSV"]

    with closing(lake.connect(own_story.settings, read_only=False)) as con:
        con.execute(
            "UPDATE scores.account_scores SET pd = pd / 2 WHERE as_of_date = ? AND account_id = ?", [FIRST, subject]
        )
        gone = list(range(night.snapshot_id, lake.current_snapshot(con)))
        con.execute(f"CALL ducklake_expire_snapshots('lake', versions => {gone})")
    st.cache_resource.clear()
    with pytest.raises(NotFound, match="is not what it published"):
        published_scores(own_story.settings, FIRST, "account", 5)
    assert "is not what it published" in html_of(portal(home, "scores", as_of=str(FIRST)))
