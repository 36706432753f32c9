"""Each page over real stores: what it says, what it says when there is nothing, what a bad link gets."""

from __future__ import annotations

import csv
import io
import re
import shutil
from contextlib import closing
from datetime import date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import update
from streamlit.testing.v1 import AppTest

from app import exports, formats, night_facts, score_facts
from app.data import Reason
from lineage.personal_data import MASK
from pipeline import control, lake, ledger
from pipeline.portfolio import load
from tests.app.conftest import Open, html_of
from tests.published_home import ACCOUNTS, FIRST_ID, GATE_FAILED_ON, LAST, LATE_ON, NIGHTS, settings_for

APPLICATION = LAST.toordinal() * 100
PAGES = ("tonight", "scores", "columns")  # that show a night


def number(text: str) -> float:
    """A figure as a page writes it; a percentage as its number."""
    return float(text.replace("−", "-").replace("\u202f", "").rstrip("%"))


def rows_of(app: AppTest, caption: str) -> list[list[str]]:
    """The cells of the table with this caption, as text."""
    table = re.search(rf"<table class='[a-z]*' aria-label='{re.escape(caption)}'>.*?<tbody>(.*?)</tbody>", html_of(app))
    assert table, f"no table {caption!r}; alarms: {re.findall(r'<div class=.alarm.*?</div>', html_of(app), re.DOTALL)}"
    rows = re.findall(r"<tr>(.*?)</tr>", table[1])
    return [[re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)] for row in rows]


def links_of(app: AppTest) -> list[tuple[str, str]]:
    return [(link.proto.label, link.proto.query_string) for link in app.get("page_link")]


# ── Tonight ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_tonight_tells_the_latest_night(portal: Open, history: Path) -> None:
    page = html_of(portal(history))
    assert "14 Mar 2026" in page
    assert "04:53 CET" in page and "2026-03-15 03:53:25 UTC" in page, "local time with its zone, UTC on hover"
    assert "✓ met" in page and "before it was due" in page
    assert "1 gate warned, 1 data test warned" in page
    assert "59 of 60" in page and "5 of 6" in page
    assert "pd_default" in page and "v31" in page and "m.okafor" in page
    assert "2 attempts" in page, "a task that was tried twice says so"


def test_tonight_lists_the_worst_gate_first(portal: Open, history: Path) -> None:
    rows = rows_of(portal(history), "Gate verdicts, worst first")
    assert [row[2] for row in rows] == ["▲ warn"] + ["✓ pass"] * 5
    figures = {row[0]: row[3] for row in rows}
    assert figures == {
        "nulls": "0.40%", "fresh": "0 days", "volume": "1\u202f243 rows", "unique": "0 repeats", "categories": "0.00%",
        "known_account": "0 rows",
    }, "with their units"  # fmt: skip


def test_tonight_shows_twelve_characters_of_a_digest_and_carries_all(portal: Open, history: Path) -> None:
    page = html_of(portal(history))
    digests = re.findall(r"<code class='hash' title='([0-9a-f]+)'>([0-9a-f]+)</code>", page)
    assert digests and all(len(title) == 64 and title == text for title, text in digests)


def test_tonight_of_another_night(portal: Open, history: Path) -> None:
    app = portal(history, as_of=LATE_ON.isoformat())
    page = html_of(app)
    assert "6 Mar 2026" in page and "▲ missed" in page and "landed late" in page
    assert app.selectbox[0].value == LATE_ON


def test_a_run_after_the_due_time_is_a_backfill_not_a_miss(portal: Open, history: Path) -> None:
    page = html_of(portal(history, as_of=(LAST - timedelta(days=32)).isoformat()))
    assert "✓ backfilled" in page and "after it was due" in page and "▲ missed" not in page


def test_the_calendar_has_a_sign_for_each_night_and_links_those_that_ran(portal: Open, history: Path) -> None:
    links = [(label, query) for label, query in links_of(portal(history)) if label.startswith(":")]
    assert len(links) == 30
    signs = {query.removeprefix("as_of="): label for label, query in links}
    assert signs[LATE_ON.isoformat()].startswith(":orange[▲]")
    assert signs[GATE_FAILED_ON.isoformat()].startswith(":red[✕]")
    assert signs[LAST.isoformat()] == ":orange[▲] **14**", "a gate and a test warned"
    assert any(sign.startswith(":green[✓]") for sign in signs.values())


def test_a_failed_night_after_the_last_good_one_is_said_first(portal: Open, failed_last: Path) -> None:
    app = portal(failed_last)
    page = html_of(app)
    alarm = page.index("✕ the night of 15 Mar 2026 failed")
    assert "nothing needs you" not in page and "the failed run, with its log ▸" in dict(links_of(app))
    assert alarm < page.index("<h1>14 Mar 2026")
    assert "118 rows, 0.09 of the trailing median" in page
    assert "<code>scoretrace nightly --as-of 2026-03-15</code>" in page
    assert "The scores of 14 Mar 2026 still stand" in page
    assert rows_of(app, "Gates of the failed night that did not pass")[0][2] == "✕ fail"


def test_the_night_that_failed_has_its_own_address(portal: Open, history: Path) -> None:
    page = html_of(portal(history, as_of=GATE_FAILED_ON.isoformat()))
    assert "✕ the night of 23 Feb 2026 failed" in page and "Nothing was published for this night" in page
    assert "<h1>" not in page, "no other night's figures beside it"


def test_both_charts_have_words_and_a_table(portal: Open, history: Path) -> None:
    app = portal(history)
    words = [chart.proto.alt for chart in app.get("plotly_chart")]
    assert words[0].startswith("Mean PD of the book over 29 nights") and "pd_default v31 from 2 Mar 2026" in words[0]
    assert words[1].startswith("Shares of the book by grade on 14 Mar 2026: A ")
    assert len(rows_of(app, "Mean PD and grade shares by night")) == 29


# ── Scores ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_browsing_shows_a_page_of_the_book_with_the_highest_pd_first(portal: Open, history: Path) -> None:
    app = portal(history, "scores")
    rows = rows_of(app, "Accounts")
    assert len(rows) == 50
    figures = [float(row[1].rstrip("%")) for row in rows]
    assert figures == sorted(figures, reverse=True)
    with closing(lake.connect(settings_for(history))) as con:
        best = con.execute(
            "SELECT account_id FROM scores.account_scores WHERE as_of_date = ? ORDER BY pd DESC, account_id LIMIT 50",
            [LAST],
        ).fetchall()
    assert [row[0] for row in rows] == [str(i) for (i,) in best]
    opened = [query for label, query in links_of(app) if label == rows[0][0]]
    assert opened == [f"account={rows[0][0]}"], "the id opens its own page"


def test_pages_do_not_overlap_and_end_with_the_rest(portal: Open, history: Path) -> None:
    seen = [row[0] for n in range(1, 7) for row in rows_of(portal(history, "scores", by="id", page=str(n)), "Accounts")]
    assert seen == [str(FIRST_ID + i) for i in range(ACCOUNTS)]


_DECILE = "(SELECT quantile_disc(log_odds, {}) FROM scores.account_scores WHERE as_of_date = s.as_of_date)"


@pytest.mark.parametrize(
    ("query", "condition"),
    [
        ({"grade": "E,F"}, "s.grade IN ('E', 'F')"),
        ({"from": "5", "to": "10"}, "s.pd BETWEEN 0.05 AND 0.10"),
        ({"move": "moved"}, "s.grade <> p.grade"),
        ({"move": "worse"}, "s.grade > p.grade"),
        ({"move": "better"}, "s.grade < p.grade"),
        ({"grade": "D", "move": "worse", "by": "-change"}, "s.grade = 'D' AND p.grade < 'D'"),
        ({"decile": "10"}, f"s.log_odds > {_DECILE.format(0.9)}"),
        ({"decile": "1", "grade": "A,B,C"}, f"s.log_odds <= {_DECILE.format(0.1)} AND s.grade <= 'C'"),
        ({"decile": "4"}, f"s.log_odds > {_DECILE.format(0.3)} AND s.log_odds <= {_DECILE.format(0.4)}"),
    ],
)
def test_filters_count_what_the_database_counts(
    portal: Open, history: Path, query: dict[str, str], condition: str
) -> None:
    with closing(lake.connect(settings_for(history))) as con:
        row = con.execute(
            f"SELECT count(*) FROM scores.account_scores s JOIN scores.account_scores p USING (account_id) "
            f"WHERE s.as_of_date = ? AND p.as_of_date = ? AND {condition}",
            [LAST, LAST - timedelta(days=1)],
        ).fetchone()
    assert row and row[0] > 0, "the fixture holds such scores"
    assert f"{row[0]} of 300 accounts" in html_of(portal(history, "scores", **query))


def test_the_search_keeps_every_id_apart(portal: Open, history: Path) -> None:
    app = portal(history, "scores", q=f"{FIRST_ID} {FIRST_ID + 7},{APPLICATION} 42 x'; DROP")
    assert [row[0] for row in rows_of(app, "Accounts found")] == [str(FIRST_ID), str(FIRST_ID + 7)]
    assert [row[0] for row in rows_of(app, "Applications found")] == [str(APPLICATION)]
    assert "has the id 42, x&#x27;, DROP" in html_of(app)


def test_the_search_finds_what_was_scored_on_an_earlier_night(portal: Open, history: Path) -> None:
    """An application is scored once: whoever asks for it seldom knows the night."""
    with closing(lake.connect(settings_for(history))) as con:
        found = con.execute(
            "SELECT application_id, as_of_date FROM scores.application_scores WHERE as_of_date < ? LIMIT 1", [LAST]
        ).fetchone()
    assert found
    app = portal(history, "scores", q=f"{found[0]} {FIRST_ID} 42")
    (row,) = rows_of(app, "Scored on an earlier night")
    assert row[:3] == [str(found[0]), "application", formats.day(found[1])]
    assert (str(found[0]), f"application={found[0]}") in links_of(app)
    assert "No score up to 14 Mar 2026 has the id 42." in html_of(app)
    app = portal(history, "scores")
    app.text_input[0].set_value(str(found[0])).run()
    assert app.query_params["application"] == str(found[0])


def test_a_step_to_a_night_takes_out_what_it_would_be_compared_with(portal: Open, history: Path) -> None:
    before = LAST - timedelta(days=1)
    app = portal(history, "scores", account=str(FIRST_ID), since=before.isoformat())
    assert ("‹", f"account={FIRST_ID}&as_of={before}") in links_of(app)


def test_nights_that_have_not_landed_are_told_for_a_month(history: Path) -> None:
    lender = load(settings_for(history).portfolio_dir)
    last, day = LAST, timedelta(days=1)

    def missed(now: datetime) -> tuple[date, ...] | None:
        return night_facts.missed_nights(lender, last, now)

    due = lender.due(last + day)
    assert missed(due - timedelta(seconds=1)) == () and missed(due) == (last + day,)
    assert missed(lender.due(last + 9 * day)) == tuple(last + n * day for n in range(1, 10))
    assert missed(lender.due(last + 40 * day)) is None, "a book that nobody runs"


def test_searching_one_id_opens_it(portal: Open, history: Path) -> None:
    app = portal(history, "scores")
    app.text_input[0].set_value(f" {FIRST_ID + 3} ").run()
    assert app.query_params["account"] == str(FIRST_ID + 3)
    assert f"<h1>Account {FIRST_ID + 3}</h1>" in html_of(app)


def test_an_account_has_its_score_its_origin_and_every_score_before(portal: Open, history: Path) -> None:
    app = portal(history, "scores", account=str(FIRST_ID))
    page = html_of(app)
    with closing(lake.connect(settings_for(history))) as con:
        found = con.execute(
            "SELECT pd, score_points, grade, model_digest, run_id FROM scores.account_scores "
            "WHERE account_id = ? AND as_of_date = ?",
            [FIRST_ID, LAST],
        ).fetchone()
    assert found is not None
    pd, points, grade, digest, run_id = found
    assert f"<dd>{pd * 100:.2f}%</dd>" in page and f"<dd>{points}</dd>" in page and f"<dd>{grade}" in page
    assert digest in page and f"run {run_id}" in page and "promoted by" in page and "04:53:14 CET" in page
    nights = rows_of(app, "Published scores")
    assert len(nights) == 14 and nights[0][0] == "14 Mar 2026"
    rest = [rows_of(portal(history, "scores", account=str(FIRST_ID), nights_page=n), "Published scores") for n in "23"]
    assert [len(rows) for rows in rest] == [14, 6]
    every = [*nights, *rest[0], *rest[1]]
    assert len({row[0] for row in every}) == 34
    highest = portal(history, "scores", account=str(FIRST_ID), nights_by="-pd")
    of_pd = [number(row[1]) for row in rows_of(highest, "Published scores")]
    assert of_pd == sorted((number(row[1]) for row in every), reverse=True)[:14]
    assert "Download as CSV" in [b.proto.label for b in highest.get("download_button")]
    assert [row[0] for row in nights if row[5].endswith(" new")] == ["2 Mar 2026"], "the change of model is marked"
    (chart,) = app.get("plotly_chart")
    assert "Model changes: pd_default v31 from 2 Mar 2026." in chart.proto.alt
    assert ("13 Mar 2026", f"as_of=2026-03-13&account={FIRST_ID}") in links_of(app)


def test_a_permalink_shows_what_was_known_then(portal: Open, history: Path) -> None:
    day = LAST - timedelta(days=5)
    app = portal(history, "scores", account=str(FIRST_ID), as_of=day.isoformat())
    assert rows_of(app, "Published scores")[0][0] == "9 Mar 2026"
    assert app.code[0].value.endswith(f"?as_of=2026-03-09&account={FIRST_ID}")


def test_stored_reasons_have_signs_and_words_and_personal_ones_are_withheld() -> None:
    stored = [
        Reason(1, "dti", 0.44, 0.41), Reason(2, "stated_income", 41_234.5, 0.25), Reason(3, "age", 33.5, 0.125),
        Reason(4, "recent", None, -0.2),
    ]  # fmt: skip
    says = {"dti": "Debt to income", "age": "Age in years"}
    table = str(score_facts.reason_table(stored, frozenset({"stated_income", "age"}), says))
    assert "<span title='Debt to income'>dti</span>" in table
    rows = [
        [re.sub(r"<[^>]+>", "", cell) for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", table.partition("<tbody>")[2])
    ]
    assert rows[0][:3] == ["dti", "0.440", "+0.41"] and rows[0][4] == "raises risk"
    assert rows[1][:3] == ["recent", "–", "−0.20"] and rows[1][4] == "lowers risk", "a missing value is a dash"
    assert rows[2][:3] == ["2 masked features", MASK, MASK] and "withheld" in rows[2][4]
    assert "41" not in table.replace("0.41", "") and "33.5" not in table
    assert not re.search(r"0\.25|0\.13|0\.12|0\.38|0\.37", table), "nor what they contribute, alone or together"


def test_reasons_of_a_night_without_its_record_are_not_told(portal: Open, history: Path) -> None:
    """What of them is personal is not known."""
    page = html_of(portal(history, "scores", application=str(APPLICATION)))
    assert "the reasons cannot be told" in page and "What raised this score most" not in page


def test_an_application_of_an_earlier_night_says_that_it_is_not_of_tonight(portal: Open, history: Path) -> None:
    earlier = (LAST - timedelta(days=2)).toordinal() * 100
    page = html_of(portal(history, "scores", application=str(earlier)))
    assert "not scored on 14 Mar 2026" in page and "last scored on 12 Mar 2026" in page


def test_the_night_control_writes_the_url_and_keeps_the_subject(portal: Open, history: Path) -> None:
    app = portal(history, "scores", account=str(FIRST_ID))
    app.selectbox[0].set_value(LAST - timedelta(days=3)).run()
    assert (app.query_params["as_of"], app.query_params["account"]) == ("2026-03-11", str(FIRST_ID))
    assert rows_of(app, "Published scores")[0][0] == "11 Mar 2026"


def test_a_link_names_the_night_that_is_shown_and_what_is_open(portal: Open, history: Path) -> None:
    app = portal(history, "scores", account=str(FIRST_ID))
    assert app.code[0].value.endswith(f"?as_of=2026-03-14&account={FIRST_ID}"), "also of the newest night"
    run_id = rows_of(portal(history, "runs"), "Runs")[0][0]
    app = portal(history, "runs", run=run_id)
    assert app.code[0].value.endswith(f"?run={run_id}")
    assert "As of" not in [s.label for s in app.selectbox], "a run is of one night for ever"


def test_another_night_keeps_the_filters(portal: Open, history: Path) -> None:
    app = portal(history, "scores", **{"from": "5", "to": "90", "grade": "E"})
    app.selectbox[0].set_value(LAST - timedelta(days=3)).run()
    kept = {k: app.query_params[k] for k in ("as_of", "from", "to", "grade")}
    assert {k: v if isinstance(v, str) else v[0] for k, v in kept.items()} == {
        "as_of": (LAST - timedelta(days=3)).isoformat(), "from": "5", "to": "90", "grade": "E",
    }  # fmt: skip


# ── nothing there, or a bad link ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", PAGES)
def test_without_a_home_the_page_names_the_command(portal: Open, tmp_path: Path, page: str) -> None:
    text = html_of(portal(tmp_path / "nowhere", page))
    assert "<code>scoretrace init --portfolio cascade</code>" in text
    assert not (tmp_path / "nowhere").exists(), "a reader makes nothing"


@pytest.mark.parametrize("page", PAGES)
def test_without_a_night_the_page_names_the_command(portal: Open, without_nights: Path, page: str) -> None:
    text = html_of(portal(without_nights, page))
    assert "no night is published yet" in text and "<code>scoretrace nightly --as-of" in text


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("bad", ["2026-13-45", "yesterday", "2031-01-01", "<b>x</b>"])
def test_a_bad_date_is_not_found(portal: Open, history: Path, page: str, bad: str) -> None:
    text = html_of(portal(history, page, as_of=bad))
    assert "✕ not found" in text and "<h1>" not in text and "<b>x</b>" not in text


@pytest.mark.parametrize("subject", ["account", "application"])
@pytest.mark.parametrize(
    "bad", ["7", "0", "-1", "1048000.0", "10480001048000104800010480", "abc", "' OR 1=1 --", "<i>"]
)
def test_a_bad_id_is_not_found_and_shows_no_other(portal: Open, history: Path, subject: str, bad: str) -> None:
    app = portal(history, "scores", **{subject: bad})
    text = html_of(app)
    assert "✕ not found" in text and "<h1>" not in text and "<i>" not in text
    assert "aria-label" not in text, "no table of anything"
    assert "all of Scores ▸" in [label for label, _ in links_of(app)]


@pytest.mark.parametrize(
    "query",
    [{"grade": "A,Z"}, {"from": "x"}, {"to": "900"}, {"from": "nan"}, {"by": "nothing"}, {"move": "?"},
     {"decile": "11"}, {"product": "card"}, {"of": "people"}],
)  # fmt: skip
def test_a_filter_that_means_nothing_is_said_and_shows_no_list(
    portal: Open, history: Path, query: dict[str, str]
) -> None:
    said = html_of(portal(history, "scores", **query))
    assert "✕ not found" in said and "aria-label" not in said


def test_a_page_after_the_last_is_the_last(portal: Open, history: Path) -> None:
    assert "251 to 300" in html_of(portal(history, "scores", page="99999"))


def test_every_page_has_the_header_and_the_navigation(portal: Open, history: Path) -> None:
    for page in (*PAGES, "runs"):
        app = portal(history, page, as_of="2026-03-10")
        text = html_of(app)
        assert "Scoretrace" in text and "Harbour Lending" in text and "embedded, not signed in" in text
        side = [link.proto.query_string for link in app.sidebar.get("page_link")]
        assert side == ["as_of=2026-03-10"] * len(side), "the night goes along"


# ── Runs ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_runs_are_listed_newest_first_a_page_at_a_time(portal: Open, history: Path) -> None:
    app = portal(history, "runs")
    rows = rows_of(app, "Runs")
    assert rows[0][2] == "14 Mar 2026" and rows[0][4] == "yes" and len(rows) == NIGHTS
    (failed,) = [row for row in rows if row[3] == "✕ failed"]
    assert failed[2] == "23 Feb 2026" and failed[4] == "–" and "0.09 of the trailing median" in failed[8]
    assert f"run={rows[0][0]}" in [query for _, query in links_of(app)]


def test_runs_are_ordered_by_the_database_and_any_other_order_is_not_found(portal: Open, history: Path) -> None:
    newest = portal(history, "runs", kind="nightly", page="2")
    by_night = rows_of(portal(history, "runs", by="as_of"), "Runs")
    assert by_night == rows_of(portal(history, "runs", by="-as_of"), "Runs")[::-1] != rows_of(newest, "Runs")
    assert rows_of(portal(history, "runs", by="-status"), "Runs")[0][3] == "✕ failed"
    assert rows_of(portal(history, "runs", by="status"), "Runs")[-1][3] == "✕ failed"
    heads = {label: query for label, query in links_of(newest) if label.startswith("sort by")}
    assert heads["sort by started, ascending"] == "kind=nightly&by=started", (
        "the chosen head turns, from the first page"
    )
    assert heads["sort by as of, descending"] == "kind=nightly&by=-as_of"
    for no_order in ("colour", "-", "--started", "started,run"):
        assert "✕ not found" in html_of(portal(history, "runs", by=no_order))


@pytest.mark.parametrize(
    ("by", "column"), [("pd", 1), ("-pd", 1), ("before", 2), ("-change", 3), ("-points", 5), ("-id", 0)]
)
def test_each_head_of_the_scores_orders_the_whole_book(portal: Open, history: Path, by: str, column: int) -> None:
    pages = [rows_of(portal(history, "scores", by=by, page=str(n)), "Accounts") for n in range(1, 7)]
    assert len({row[0] for rows in pages for row in rows}) == ACCOUNTS, "each once, also where many are alike"
    shown = [row[column] for rows in pages for row in rows]
    figures = [float(re.sub(r"[^\d.−]", "", text).replace("−", "-")) for text in shown if text != "–"]
    assert figures == sorted(figures, reverse=by.startswith("-"))
    assert "–" not in shown[: len(figures)], "what has no figure stands last"


def test_a_failed_run_says_what_failed_and_what_comes_next(portal: Open, history: Path) -> None:
    listed = rows_of(portal(history, "runs"), "Runs")
    run_id = next(row[0] for row in listed if row[3] == "✕ failed")
    app = portal(history, "runs", run=run_id)
    page = html_of(app)
    assert "✕ the run failed" in page and "<code>scoretrace nightly --as-of 2026-02-23</code>" in page
    assert rows_of(app, "Gate verdicts")[0][2] == "✕ fail"
    assert [row[2] for row in rows_of(app, "Attempts of the run&#x27;s tasks")] == ["✓ succeeded", "✕ failed"]


def test_a_run_that_built_nothing_changed_no_sql(portal: Open, history: Path) -> None:
    listed = rows_of(portal(history, "runs"), "Runs")
    failed = next(row[0] for row in listed if row[3] == "✕ failed")
    good = next(row[0] for row in listed if row[3] == "✓ succeeded" and row[1] == "nightly")
    page = html_of(portal(history, "runs", run=failed, **{"with": good}))
    assert "No dbt model was built by both runs" in page and "what is another" not in page.partition("No dbt model")[0]
    assert f"built by {good} alone" in page


def test_how_long_a_run_took_whose_process_died_is_not_made_up(portal: Open, history: Path, tmp_path: Path) -> None:
    home = tmp_path / "died"
    shutil.copytree(history, home)
    engine = ledger.open_ledger(settings_for(home))
    run_id = next(r.run_id for r in ledger.runs(engine) if r.status == "failed")
    for table in (control.runs, control.task_attempts):
        with engine.begin() as connection:
            connection.execute(update(table).where(table.c.run_id == run_id).values(status="abandoned"))
    engine.dispose()
    page = html_of(portal(home, "runs", run=run_id))
    assert re.search(r"<dt>Took</dt><dd>–</dd><dd>process gone, found ", page)


@pytest.mark.parametrize("query", [{"run": "none"}, {"run": "<b>x</b>"}])
def test_a_run_that_is_none_is_not_found(portal: Open, history: Path, query: dict[str, str]) -> None:
    page = html_of(portal(history, "runs", **query))
    assert "✕ not found" in page and "<h1>" not in page and "<b>x</b>" not in page


def test_a_home_without_runs_says_what_to_do(portal: Open, without_nights: Path, tmp_path: Path) -> None:
    assert "<code>scoretrace nightly --as-of YYYY-MM-DD</code>" in html_of(portal(without_nights, "runs"))
    assert "scoretrace init" in html_of(portal(tmp_path / "nowhere", "runs"))


def test_a_fault_of_the_portal_is_a_sentence_and_a_log_entry(
    portal: Open, history: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(history, broken)
    for file in (broken / "lake" / "data").rglob("*.parquet"):
        file.write_bytes(b"not Parquet")
    app = portal(broken, "scores")
    assert not app.exception
    text = "".join(element.proto.body for element in app.get("html"))
    assert "✕ this page broke" in text and "Traceback" not in text
    assert "page scores broke" in caplog.text


def test_a_table_as_a_file_keeps_bits_and_runs_no_formula() -> None:
    content = exports.as_csv(
        [
            {
                "pd": 0.1 + 0.2,
                "name": "=1+1",
                "at": date(2026, 3, 14),
                "nothing": None,
                "parts": ("a", date(2026, 3, 1)),
            },
            {"pd": 1e-17, "name": 'says "no", twice', "at": date(2026, 3, 15), "nothing": "x", "parts": ()},
        ]
    )
    head, *lines = csv.reader(io.StringIO(content.decode()))
    assert head == ["pd", "name", "at", "nothing", "parts"]
    assert [float(line[0]) for line in lines] == [0.1 + 0.2, 1e-17]
    assert lines[0][1:] == ["'=1+1", "2026-03-14", "", '["a", "2026-03-01"]']
    assert lines[1][1] == 'says "no", twice'
    assert exports.as_csv([]) == b""


def test_what_a_page_lists_can_be_taken(portal: Open, history: Path) -> None:
    for page in ("scores", "runs"):
        assert [b.proto.label for b in portal(history, page).get("download_button")] == ["Download as CSV"], page
