"""Drift, Alerts and Outcomes over a home as its monitor leaves it: what they say, to whom, and of nothing."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path

import pytest
import streamlit as st
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from app import drift_facts, formats, outcome_facts
from pipeline import control, lake, ledger
from pipeline.governance import audit
from pipeline.governance.access import PERSONAL_ROLES
from pipeline.monitoring import drift, drift_reads, outcome_reads
from pipeline.monitoring.alert_rules import MODERATE, VOLUME, Finding
from pipeline.monitoring.alerts import alerts_of, judge
from pipeline.portfolio import load
from pipeline.runs import SUCCEEDED, RunLedger
from tests.app.conftest import Open, html_of
from tests.app.test_portal_pages import links_of, number, rows_of
from tests.app.test_sign_in import sign_in
from tests.conftest import copy_home
from tests.published_home import LAST, settings_for
from tests.watched_home import DRIFT_ALERT, DRIFTED, DRIFTS_FROM, MODEL, OLD_ALERT, VOLUME_ALERT

PAGES = ("drift", "alerts", "outcomes")


@pytest.fixture
def own_watched(watched: Path, tmp_path: Path) -> Path:
    return copy_home(watched, tmp_path / "own")


# ── Drift ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_link_of_an_alert_opens_its_feature_on_its_night(portal: Open, watched: Path) -> None:
    """The header's night and the page's are the same one then: two controls, each with a name of its own."""
    query = {"as_of": "2026-03-11", "model": MODEL, "feature": DRIFTED}
    assert f"<h2>{DRIFTED}" in html_of(portal(watched, "drift", **query))


def test_drift_tells_what_moved_and_how_far_it_is_from_chance(portal: Open, watched: Path) -> None:
    app = portal(watched, "drift")
    page = html_of(app)
    assert "1 of 28 features drifted" in page and "against the training set of v31" in page
    words = app.get("plotly_chart")[0].proto.alt
    assert "PSI of 29 features on 14 Mar 2026: 1 drifted by 0.1 or more" in words and DRIFTED in words
    assert "Mean log-odds of the sample" in page, "the waterfall in words"
    assert "not the same model" not in page
    assert ("1 alert of drift open, of the book or a segment ▸", "") in links_of(app)
    other = html_of(portal(watched, "drift", as_of="2026-03-02", since="2026-03-01"))
    assert "not the same model on both nights" in other and "from v30 to v31" in other
    *parts, whole = [float(row[1].replace("−", "-")) for row in rows_of(app, "Parts of the change")]
    assert whole == pytest.approx(sum(parts), abs=0.001)
    assert "Drift of 14 Mar 2026" not in page, "the tables are written once somebody opens them"
    app.session_state["heatmap-tables"] = True
    rows = rows_of(app.run(), "Drift of 14 Mar 2026")
    assert [row[0] for row in rows[:2]] == ["score", DRIFTED], "the score leads, then importance × PSI"
    with closing(lake.connect(settings_for(watched))) as con:
        (stored,) = drift.history(con, LAST, LAST, model=MODEL, feature=DRIFTED)
    assert rows[1][2] == f"{stored.psi:.3f}" and rows[1][5] == "✕ high"
    cells = rows_of(app, "PSI by feature and night")
    assert cells[1][0] == DRIFTED and cells[1][-1] == f"{stored.psi:.3f}"


@pytest.mark.parametrize("order", drift_facts.HEATMAP_ORDERS)
def test_the_heatmap_stands_in_its_order_whatever_else_drifted(portal: Open, watched: Path, order: str) -> None:
    def drawn(**query: str) -> list[str]:
        app = portal(watched, "drift", segment="product=card", order=order, **query)
        traces = json.loads(app.get("plotly_chart")[0].proto.spec)["data"]
        return next(trace["y"] for trace in traces if trace["type"] == "heatmap")  # type: ignore[no-any-return]

    names, every = drawn(), drawn(all="1")
    assert names[0] == "score" and DRIFTED in names and len(names) < len(every)
    assert names == [name for name in every if name in names]


def test_drift_is_read_again_when_a_night_was_watched_and_not_for_every_snapshot(
    portal: Open, own_watched: Path
) -> None:
    """A night makes a snapshot a second: pages that read all drift again for each would stand still meanwhile."""
    settings = settings_for(own_watched)
    engine = ledger.open_ledger(settings)
    assert "1 of 28 features drifted" in html_of(portal(own_watched, "drift"))
    with closing(lake.connect(settings, read_only=False)) as con:
        con.execute("UPDATE drift.statistics SET psi = 0 WHERE feature = ? AND as_of_date = ?", [DRIFTED, LAST])
    assert "1 of 28 features drifted" in html_of(portal(own_watched, "drift")), "nobody has watched a night since"
    lender = load(settings.portfolio_dir)
    run = RunLedger.start(engine, kind="monitor", as_of=LAST, actor="night-batch", portfolio=lender, snapshot=1)
    run.start_attempt("monitor", 1, 1)
    run.finish_attempt("monitor", 1, SUCCEEDED, snapshot=2)
    assert "0 of 28 features drifted" in html_of(portal(own_watched, "drift"))
    engine.dispose()


def test_a_feature_opens_with_its_bins_its_segments_and_its_cause(portal: Open, watched: Path) -> None:
    app = portal(watched, "drift", feature=DRIFTED)
    page = html_of(app)
    assert "Without missing" in page and "critical 0.00" in page
    by_night = rows_of(app, f"{DRIFTED} by night")
    assert by_night[0][0] == "14 Mar 2026" and len(by_night) > 15
    bins = rows_of(app, "Rows by bin")
    assert bins[-1][0] == "missing" and len(bins) == 11
    terms = sum(float(row[5].replace("−", "-")) for row in bins)
    with closing(lake.connect(settings_for(watched))) as con:
        (stored,) = drift.history(con, LAST, LAST, model=MODEL, feature=DRIFTED)
    assert stored.psi is not None and terms == pytest.approx(stored.psi, abs=0.002), "the terms add up to the PSI"
    segments = rows_of(app, f"{DRIFTED} by segment")
    assert segments[0][0] == "product card" and segments[0][3] == "✕ high"
    assert next(row for row in segments if row[0] == "arrival new")[3] == "◌ high, under 100 rows"
    assert "raw.loan_servicing.credit_limit" in page and "&lt;b&gt;model" in page and "<b>model" not in page


def test_a_nights_figures_and_segments_are_ordered_by_their_heads(portal: Open, watched: Path) -> None:
    def shown(caption: str, **query: str) -> list[list[str]]:
        return rows_of(portal(watched, "drift", feature=DRIFTED, **query), caption)

    night, segments = f"Drift of {formats.day(LAST)}", f"{DRIFTED} by segment"
    by_psi = [float(row[2]) for row in shown(night, table_by="psi")]
    assert by_psi == sorted(by_psi) != sorted(by_psi, reverse=True)
    names = [row[0] for row in shown(segments, by="name")]
    assert names == sorted(names) and [row[0] for row in shown(segments, by="-name")] == names[::-1]
    real = [row for row in shown(segments) if "by chance" not in row[3] and "under" not in row[3]]
    urgent = [min(float(psi) for psi in row[1:3] if psi != "–") for row in real]
    assert urgent == sorted(urgent, reverse=True)
    heads = links_of(portal(watched, "drift", feature=DRIFTED, by="name", page="1", table_by="psi"))
    assert ("sort by segment, descending", f"feature={DRIFTED}&by=-name&table_by=psi") in heads
    assert ("sort by feature, ascending", f"feature={DRIFTED}&by=name&page=1&table_by=name") in heads, "no other list's"
    for bad in ({"by": "rank"}, {"table_by": "luck"}):
        assert "✕ not found" in html_of(portal(watched, "drift", feature=DRIFTED, **bad))


def test_a_search_for_causes_is_asked_in_the_address_and_stays_when_a_fold_is_opened(
    portal: Open, watched: Path
) -> None:
    app = portal(watched, "drift", feature=DRIFTED)
    next(b for b in app.button if b.label.startswith("Look for causes")).click().run()
    assert app.query_params["causes"] == "1"
    told = "✕ no causes can be looked for"  # this home's runs are on record without their manifests
    assert told in html_of(app)
    app.session_state["heatmap-tables"] = True
    assert told in html_of(app.run())
    assert told in html_of(portal(watched, "drift", feature=DRIFTED, causes="1"))


def test_a_night_that_has_no_drift_is_not_answered_with_another_ones(portal: Open, own_watched: Path) -> None:
    settings = settings_for(own_watched)
    with closing(lake.connect(settings, read_only=False)) as con:
        con.execute("DELETE FROM drift.statistics WHERE as_of_date = ?", [LAST])
    page = html_of(portal(own_watched, "drift"))
    assert "▲ no drift of 14 Mar 2026 is stored here" in page and "What follows is 13 Mar 2026." in page
    assert "no drift of" not in html_of(portal(own_watched, "drift", night="2026-03-13")), "it was asked for"
    engine = ledger.open_ledger(settings)
    with engine.begin() as db:
        monitors = control.task_attempts.c.task == "monitor"
        failed = update(control.task_attempts).where(monitors).values(status="failed", error="disk full\n  next: room")
        db.execute(failed)
    engine.dispose()
    assert "The night is not watched: its monitor failed (disk full)." in html_of(portal(own_watched, "drift"))
    told = "✕ published, but 1 gate warned, 1 data test warned, 2 alerts open, not watched: its monitor failed"
    assert told in html_of(portal(own_watched)), "one of the alerts is of the highest level"


def test_only_nights_of_the_same_version_are_compared(portal: Open, watched: Path) -> None:
    """A night is stored against the version that scored it; it is not compared with itself either."""
    settings = settings_for(watched)
    with closing(lake.connect(settings)) as con:
        (stored,) = [w for w in drift_reads.watched(con) if w.model == MODEL and w.version == 31]
    app = portal(watched, "drift", feature=DRIFTED)
    offered = next(s for s in app.selectbox if str(s.key).startswith("with@"))
    assert len(offered.options) == 1 + len([d for d in stored.nights if d < LAST and d >= LAST - timedelta(days=29)])
    for part in ("with", "since"):
        assert "not found" not in html_of(portal(watched, "drift", feature=DRIFTED, **{part: LAST.isoformat()}))


def test_two_nights_are_compared_bin_by_bin(portal: Open, watched: Path) -> None:
    app = portal(watched, "drift", feature=DRIFTED, **{"with": (LAST - timedelta(days=10)).isoformat()})
    assert "PSI between the two nights 0." in html_of(app) and "beyond chance" in html_of(app)


def test_a_segment_and_a_baseline_are_chosen_in_the_url(portal: Open, watched: Path) -> None:
    page = html_of(portal(watched, "drift", segment="product=loan"))
    assert "product loan, against the training set of v31" in page and "0 of 28 features drifted" in page
    app = portal(watched, "drift", baseline="31", to=(LAST - timedelta(days=13)).isoformat())
    assert "against the training set of v31" in html_of(app), "a night that v30 scored, against v31"


def choose(app: AppTest, label: str, value: object) -> AppTest:
    next(b for b in app.selectbox if b.label == label).set_value(value)
    return app.run()


def test_no_choice_leads_to_a_page_that_is_not_found(portal: Open, watched: Path) -> None:
    """One control after another: each takes out of the URL what its choice makes meaningless."""
    early, later = LAST - timedelta(days=9), LAST - timedelta(days=2)
    app = portal(watched, "drift", feature=DRIFTED, night=later.isoformat(), segment="product=card")
    app = choose(app, "to", early)
    assert "night" not in app.query_params and "✕ not found" not in html_of(app)
    starts = next(b for b in app.selectbox if b.label == "Nights from").options
    assert starts[0] == formats.day(early), "no span begins after its end"
    app = choose(app, "As of", early - timedelta(days=3))
    assert "to" not in app.query_params and "✕ not found" not in html_of(app), "the end of the span was later"
    app = choose(portal(watched, "drift", segment="arrival=new", **{"with": later.isoformat()}), "Compared with", "31")
    assert not {"segment", "with"} & set(app.query_params) and "✕ not found" not in html_of(app)
    page = portal(watched, "outcomes", month="2020-01-v30-live")
    assert "✕ not found" in html_of(page) and [b for b in page.selectbox if b.label == "Month of scores"]


def test_a_control_writes_the_url(portal: Open, watched: Path) -> None:
    app = portal(watched, "drift")
    box = next(b for b in app.selectbox if b.label == "Feature")
    box.set_value(DRIFTED).run()
    assert app.query_params["feature"] == DRIFTED
    assert f"<h2>{DRIFTED}" in html_of(app)


def test_a_search_without_lineage_says_so_and_the_page_goes_on(portal: Open, watched: Path) -> None:
    app = portal(watched, "drift", feature="dpd_30_rollup")
    next(b for b in app.button if b.label.startswith("Look for causes")).click().run()
    page = html_of(app)
    assert "✕ no causes can be looked for" in page and "Why the mean score moved" in page


@pytest.mark.parametrize(
    "query",
    [
        {"model": "nobody"}, {"feature": "<i>x"}, {"segment": "product=yacht"}, {"baseline": "99"}, {"from": "soon"},
        {"from": "2031-01-01"}, {"night": "2026-01-01"}, {"feature": DRIFTED, "with": "2020-01-01"}, {"since": "x"},
    ],
)  # fmt: skip
def test_a_bad_link_to_drift_is_not_found(portal: Open, watched: Path, query: dict[str, str]) -> None:
    page = html_of(portal(watched, "drift", **query))
    assert "✕ not found" in page and "<i>x" not in page


# ── Alerts ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_alerts_list_what_stands_with_the_likeliest_cause(portal: Open, watched: Path) -> None:
    app = portal(watched, "alerts")
    assert "✕ 2 open" in html_of(app)
    rows = rows_of(app, "Open alerts")
    assert [row[0] for row in rows] == [DRIFT_ALERT, VOLUME_ALERT], "high first"
    assert rows[0][4].startswith("raw.loan_servicing.credit_limit: its values tonight")
    assert [row[0] for row in rows_of(app, "Resolved alerts")] == [OLD_ALERT]
    assert any(query == f"alert={DRIFT_ALERT.replace('/', '%2F')}" for _, query in links_of(app))


def test_alerts_are_ordered_by_their_heads_and_read_a_page_at_a_time(portal: Open, own_watched: Path) -> None:
    engine = ledger.open_ledger(settings_for(own_watched))
    run = ledger.latest_publication(engine)
    assert run is not None
    names = [f"volume/table_{n:02}" for n in range(30)]
    found = [Finding(name, VOLUME, MODERATE, f"{name}: 0 rows", (name,), ()) for name in names]
    for night, findings in ((LAST + timedelta(days=1), found), (LAST + timedelta(days=2), [])):
        judge(engine, findings, night, run_id=run.run_id, actor="pipeline", covered=(VOLUME,))
    engine.dispose()
    ended = sorted([*names, OLD_ALERT, VOLUME_ALERT])
    pages = [
        [row[0] for row in rows_of(portal(own_watched, "alerts", by="alert", resolved_page=n), "Resolved alerts")]
        for n in ("1", "2", "3")
    ]
    assert pages == [ended[:20], ended[20:], ended[20:]], "beyond the last page is the last"
    turned = portal(own_watched, "alerts", by="-alert")
    assert [row[0] for row in rows_of(turned, "Resolved alerts")] == ended[::-1][:20]
    assert [row[0] for row in rows_of(portal(own_watched, "alerts"), "Open alerts")] == [DRIFT_ALERT]
    heads = dict(links_of(portal(own_watched, "alerts", by="alert", resolved_page="2")))
    assert heads["sort by since, descending"] == "by=-since", "another order is read from its start"


def test_an_alert_is_acknowledged_with_a_reason_and_until_a_date(portal: Open, own_watched: Path) -> None:
    app = portal(own_watched, "alerts", alert=DRIFT_ALERT)
    assert "raised" in html_of(app) and any(f"feature={DRIFTED}" in query for _, query in links_of(app))
    app.button[-1].click().run()
    assert "✕ not acknowledged" in html_of(app), "a reason is needed"
    engine = ledger.open_ledger(settings_for(own_watched))
    assert alerts_of(engine)[DRIFT_ALERT].state == "open"
    app.text_area[0].set_value("limits are loaded late; asked for them <b>again</b>")
    app.button[-1].click().run()
    page = html_of(app)
    assert "✓ acknowledged until 21 Mar 2026" in page and "&lt;b&gt;again" in page
    found = alerts_of(engine)[DRIFT_ALERT]
    assert found.state == "acknowledged" and found.acknowledgement is not None
    assert found.acknowledgement.until == LAST + timedelta(days=7)
    assert audit.records(engine, action="alert.acknowledged")[-1].actor == "local reader"
    engine.dispose()


def test_who_may_not_acknowledge_reads_who_may(portal: Open, guarded_watch: Path) -> None:
    app = sign_in(portal(guarded_watch, "alerts", alert=DRIFT_ALERT), "viewer")
    page = html_of(app)
    assert "analyst" in page and "data_scientist" in page.replace(" ", "_") and not app.text_area


def test_what_a_cause_is_about_opens_its_lineage(portal: Open, watched: Path) -> None:
    app = portal(watched, "alerts", alert=f"drift/{MODEL}/feat_utilization")
    found = [(label.replace("\\", ""), query) for label, query in links_of(app) if label.endswith("in Lineage ▸")]
    load = "20260314-1"
    assert found == [
        ("raw.loan_servicing.credit_limit in Lineage ▸", f"column=raw.loan_servicing.credit_limit&as_of={DRIFTS_FROM}"),
        (f"load {load} in Lineage ▸", f"column=raw.loan_servicing.account_id&load={load}&as_of={DRIFTS_FROM}"),
    ], "a column with the loads of its table, a load with its rows; a model of a name that none has opens nothing"


def test_a_bad_alert_is_not_found(portal: Open, watched: Path) -> None:
    page = html_of(portal(watched, "alerts", alert="drift/<i>nothing"))
    assert "✕ not found" in page and "<i>nothing" not in page


def test_tonight_counts_the_open_alerts(portal: Open, watched: Path, history: Path) -> None:
    app = portal(watched)
    assert "2 alerts open" in html_of(app)
    assert "Alerts: :red[✕ 2 open] ▸" in [label for label, _ in links_of(app)]
    signs = {query: label for label, query in links_of(app) if label.startswith(":")}
    assert signs[f"as_of={DRIFTS_FROM}"].startswith(":orange[▲]"), "a good night that raised an alert"
    assert signs[f"as_of={DRIFTS_FROM + timedelta(days=1)}"].startswith(":green[✓]"), "which stood on the next"
    older = portal(watched, as_of="2026-03-02")
    assert "Alerts: :red[✕ 2 open today] ▸" in [label for label, _ in links_of(older)], "and not of that night"
    st.cache_data.clear()
    st.cache_resource.clear()
    assert "Alerts: :green[✓ none open] ▸" in [label for label, _ in links_of(portal(history))]


# ── Outcomes ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_alerts_are_found_by_their_words(portal: Open, watched: Path) -> None:
    app = portal(watched, "alerts", words="volume PAYMENTS")
    assert [row[0] for row in rows_of(app, "Open alerts")] == [VOLUME_ALERT] and "Resolved" not in html_of(app)
    assert "No alert has the words “xyzzy”" in html_of(portal(watched, "alerts", words="xyzzy"))


def test_outcomes_open_at_the_newest_month_that_matured(portal: Open, watched: Path) -> None:
    app = portal(watched, "outcomes")
    page = html_of(app)
    assert "March 2025" in page and "✓ matured" in page and "20\u202f000" in page
    assert "Outcomes by as-of month" not in page, "a table that is folded away is not written"
    for fold in ("months-table", "vintages-table"):
        app.session_state[fold] = True
    months = rows_of(app.run(), "Outcomes by as-of month")
    assert len(months) == 18 and months[0][0] == "Mar 2026" and months[0][7] == "–", "an estimate has no rate"
    assert sum("matured" in row[2] for row in months) == 6
    grades = rows_of(app, "Grades, observed against expected")
    assert [row[0] for row in grades if row[7] == "✕ too low"] == ["D"]
    groups = rows_of(app, "Fairness by group")
    assert [(row[1], row[5]) for row in groups] == [
        ("female", "✓ pass"), ("male ●", "✓ pass"), ("other", "✕ under"), ("unknown", "◌ too small"),
    ]  # fmt: skip
    alts = [c.proto.alt for c in app.get("plotly_chart")]
    assert any(alt.startswith("AUC by as-of month: ") and "12 of 18 points estimated" in alt for alt in alts)
    assert any("under it sex other 0.74" in alt for alt in alts)
    assert rows_of(app, "Estimates that matured")[0][0] == "Mar 2025"
    vintages = rows_of(app, "Rate to date by months on book")
    assert len(vintages) == 12 and vintages[0][0] == "Dec 2025"
    assert [sum(cell != "–" for cell in row) for row in vintages] == sorted(
        sum(cell != "–" for cell in row) for row in vintages
    ), "an older vintage is followed for longer"


def test_the_months_are_ordered_by_their_heads(portal: Open, watched: Path) -> None:
    app = portal(watched, "outcomes", months_by="came_true")
    rates = [row[7] for row in rows_of(app, "Outcomes by as-of month")]
    known = [number(rate) for rate in rates if rate != "–"]
    assert known == sorted(known) and set(rates[len(known) :]) == {"–"}, "what is not known yet stands last"
    assert "✕ not found" in html_of(portal(watched, "outcomes", months_by="height"))


def test_a_month_of_before_the_training_is_a_look_back(watched: Path) -> None:
    with closing(lake.connect(settings_for(watched))) as con:
        row = next(r for r in outcome_reads.performance(con, LAST) if r.month == date(2025, 3, 1))
    trained = {day: outcome_reads.Holdout(MODEL, row.model_version, day, {}) for day in (date(2026, 3, 7), row.month)}
    told = outcome_facts.look_back(row, trained[date(2026, 3, 7)])
    assert told is not None and "trained with what was known on 7 Mar 2026" in told.text
    assert outcome_facts.look_back(row, trained[row.month]) is None and outcome_facts.look_back(row, None) is None


def test_an_immature_month_says_until_when(portal: Open, watched: Path) -> None:
    page = html_of(portal(watched, "outcomes", month="2026-03-v30-live"))
    assert "estimated until 31 Mar 2027" in page and "Not known before 31 Mar 2027" in page


@pytest.mark.parametrize("query", [{"model": "nobody"}, {"month": "1999-01-v1-live"}, {"groups": "1999-01"}])
def test_a_bad_link_to_outcomes_is_not_found(portal: Open, watched: Path, query: dict[str, str]) -> None:
    assert "✕ not found" in html_of(portal(watched, "outcomes", **query))


# ── nothing there, or not for everybody ──────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("page", "said"), [
    ("drift", "no drift is stored up to 14 Mar 2026"), ("outcomes", "no outcomes of pd_default are stored"),
    ("alerts", "no alert was ever raised"),
])  # fmt: skip
def test_an_empty_page_names_the_command(portal: Open, history: Path, page: str, said: str) -> None:
    text = html_of(portal(history, page))
    assert said in text and "<code>scoretrace monitor --as-of" in text


@pytest.mark.parametrize("page", PAGES)
def test_who_may_not_read_drift_is_told_who_may(portal: Open, guarded_watch: Path, page: str) -> None:
    text = html_of(sign_in(portal(guarded_watch, page), "admin"))
    assert "✕ not allowed" in text and "<table" not in text


@pytest.mark.parametrize("role", [r for r in PERSONAL_ROLES if r != "admin"])
def test_every_other_role_reads_the_pages(portal: Open, guarded_watch: Path, role: str) -> None:
    app = sign_in(portal(guarded_watch, "drift"), role)
    for page in PAGES:
        app.switch_page(f"views/{page}.py").run()
        text = html_of(app)
        assert f"<h1>{page.capitalize()} " in text and "✕ not allowed" not in text
