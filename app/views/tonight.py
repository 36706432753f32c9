"""Tonight: is this morning's book right, and what needs me?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import pandas as pd
import streamlit as st

from app import (
    charts,
    data,
    desk,
    exports,
    formats,
    inbox,
    markup,
    model_reads,
    night_facts,
    orders,
    session,
    shell,
)
from app.markup import Column, Html
from app.night_facts import Evidence
from app.session import Home, Reader
from pipeline import calendar, ledger
from pipeline.governance import access
from pipeline.ledger import GateVerdict, Publication, Run
from pipeline.monitoring.alerts import open_alerts, telling_runs

SHOWN_DAYS = 30
SHOWN_MONTHS = 12
SHOWN_GATES = 12
_STILL = {"displayModeBar": False}
_LEGEND = {"ok": "landed", "watch": "to look at", "stop": "failed", "none": "not run"}
_COLOUR = {"ok": "green", "watch": "orange", "stop": "red", "none": "gray"}


def page() -> None:
    access.require(session.actor(), "scores.read")
    home = session.open_home()
    newest = ledger.latest_publication(home.engine)
    failure = ledger.failure_since(home.engine, newest)
    trouble = failure is not None
    if failure:
        _failure(home, failure, _stands(newest))
    elif session.asked_date() in (None, *(d.isoformat() for d in home.dates[:1])):
        trouble = _overdue(home)
    if stopped := _asked_failure(home):
        if failure is None or stopped.run_id != failure.run_id:
            _failure(home, stopped, "Nothing was published for this night, then or since.")
        return
    waiting = _needs_you(home)
    reader = session.reader(home)
    if reader is None:
        shell.nothing_published(home)
        return
    _night(reader, waiting, trouble)


def _needs_you(home: Home) -> int:
    """What waits for whoever looks, and the findings due this week, each a link; returns how many wait."""
    actor, now = session.actor(), datetime.now(UTC)
    today = now.astimezone(home.zone).date()
    links: list[tuple[str, str, dict[str, str]]] = []
    waiting = 0
    if access.may(actor, "inventory.edit"):
        late = inbox.models_late(model_reads.standing(home), today)
        links += [(shell.MODELS, *link) for link in night_facts.model_links(late)]
        waiting += len(late)
    if access.may(actor, "promotion.read"):
        at = desk.approvals(home)
        book = at.book()
        mine = inbox.waiting_for(book, actor, now, at.disabled())
        due = inbox.findings_due(book, today)
        of_promotions = [*night_facts.waiting_links(mine), *night_facts.finding_links(due, today)]
        links += [(shell.PROMOTIONS, *link) for link in of_promotions]
        waiting += len(mine)
    if links:
        with st.container(key="needs", horizontal=True, vertical_alignment="center", gap="small"):
            st.html(
                markup.block(markup.status("watch", "needs you") if waiting else markup.quiet("in review")),
                width="content",
            )
            for page, label, query in links:
                st.page_link(page, label=label, query_params=session.address(**query), icon="")
    return waiting


def _night(reader: Reader, waiting: int, trouble: bool) -> None:
    """The published night, from the answer to its evidence. trouble: something above it wants somebody already."""
    home, evidence, first = reader.home, _evidence(reader), _first_shown(reader)
    summary = data.nightly_summary(reader, first)
    means = charts.mean_by_night(summary)
    mean = float(means["mean_pd"].iloc[-1]) if len(means) else None
    change = float(means["mean_pd"].diff().iloc[-1]) if len(means) > 1 else None
    before = means["as_of"].iloc[-2].date() if len(means) > 1 else None
    watches = access.may(session.actor(), "drift.read")
    alerts = open_alerts(home.engine) if watches else ()
    newest = reader.as_of == home.dates[0]  # what is open today says nothing of an old night
    clear = newest and watches and not (waiting or trouble)
    told = night_facts.answer(evidence, alerts if newest else (), clear=clear)
    title = Html(f"<h1>{formats.day(reader.as_of)} <span class='answer'>{told}</span></h1>")
    strip = night_facts.task_strip(evidence.run, evidence.attempts)
    st.html(markup.block(title))
    figures = night_facts.figures(evidence, reader.zone, mean, change, before)
    shell.linked_facts("night", figures, _figure_links(reader))
    with st.container(key="actions-needs", horizontal=True, gap="medium"):
        if watches:
            label = night_facts.alerts_line(alerts, newest=newest)
            st.page_link(shell.ALERTS, label=label, icon="", query_params=session.address())
        query = session.address(run=reader.publication.run_id)
        st.page_link(shell.RUNS, label="the night’s run ▸", icon="", query_params=query)
    st.html(markup.block(strip))
    with st.container(key="book"):
        left, middle, right = st.columns([5, 7, 7], gap="medium")
        with left:
            _calendar(reader, first)
        if summary.empty:
            middle.html(markup.block(markup.heading("Mean PD"), markup.quiet("This portfolio scores no accounts.")))
        else:
            shares = charts.shares_by_night(summary, home.grades)
            with middle:
                _mean_pd(means, first)
            with right:
                _grades(shares, home.grades, first)
            with middle:
                _book_table(means, shares, home.grades)
    with st.container(key="pair"):
        left, right = st.columns([11, 9], gap="medium")
        with left:
            _gates(evidence.gates)
        with right:
            models = night_facts.model_table(
                reader.publication.models,
                lambda m: ledger.promotion_of(home.engine, m, evidence.publication.published_at),
                reader.zone,
            )
            links = [(m.name, session.address(model=m.name, version=str(m.version))) for m in reader.publication.models]
            shell.linked_table("scored", markup.heading("Models that scored"), models, shell.MODELS, links)
            _tests(home, evidence)


def _figure_links(reader: Reader) -> dict[str, tuple[str, str, dict[str, str]]]:
    """What the night's figures were counted from, where whoever looks may see it."""
    actor, night, run = session.actor(), session.address(), session.address(run=reader.publication.run_id)
    found = {"Accounts scored": (shell.SCORES, "the scores", night)}
    if access.may(actor, "drift.read"):
        found["Mean PD"] = (shell.DRIFT, "what moved it", night)
    if access.may(actor, "run.read"):
        told = {"Landed": "the run", "SLA": "the run’s tasks", "Gates passed": "every gate",
                "Data tests passed": "every test"}  # fmt: skip
        found |= {label: (shell.RUNS, words, run) for label, words in told.items()}
        found["Features"] = (shell.LINEAGE, "where they come from", night)
    return found


def _evidence(reader: Reader) -> Evidence:
    engine, publication = reader.home.engine, reader.publication
    (night,) = ledger.nights(engine, publication.as_of, publication.as_of)
    return Evidence(
        publication,
        night,
        ledger.run(engine, publication.run_id),
        ledger.task_attempts(engine, publication.run_id),
        ledger.gate_verdicts(engine, publication.run_id),
        ledger.dbt_totals(engine, publication.run_id),
        ledger.last_attempt(engine, "monitor", publication.as_of),
    )


def _first_shown(reader: Reader) -> date:
    if reader.home.portfolio.calendar == "daily":
        return reader.as_of - timedelta(days=SHOWN_DAYS - 1)
    return calendar.add_months(calendar.month_end(reader.as_of), 1 - SHOWN_MONTHS)


# ── what needs you ───────────────────────────────────────────────────────────────────────────────────────────


def _asked_failure(home: Home) -> Run | None:
    """The failed run of the night that the URL asks for, where that night has a run and no publication."""
    try:
        asked = date.fromisoformat(session.asked_date() or "")
    except ValueError:
        return None
    night = next(iter(ledger.nights(home.engine, asked, asked)), None)
    return night.run if night and night.publication is None and night.run and night.run.failed else None


def _stands(newest: Publication | None) -> str:
    if newest is None:
        return "No night was ever published."
    return f"The scores of {formats.day(newest.as_of)} still stand: readers see them and nothing of the failed night."


def _failure(home: Home, failed: Run, stands: str) -> None:
    """A night failed: say so above everything, with the way on and what readers see."""
    attempts = ledger.task_attempts(home.engine, failed.run_id)
    task = next((a.task for a in reversed(attempts) if a.status != "succeeded"), "its start")
    when = markup.join([f"Run {failed.run_id} stopped at {task}, ", markup.at(failed.ended_at, home.zone), "."], "")
    following = failed.next_step or f"run `scoretrace nightly --as-of {failed.as_of}` again"
    title = f"the night of {formats.day(failed.as_of)} failed"
    st.html(markup.block(markup.alarm("stop", title, failed.message, f"Next: {following}.", when, stands)))
    with st.container(key=f"actions-failed-{failed.run_id}"):
        query = session.address(run=failed.run_id)
        st.page_link(shell.RUNS, label="the failed run, with its log ▸", icon="", query_params=query)
    gates = [g for g in ledger.gate_verdicts(home.engine, failed.run_id) if g.verdict != "pass"]
    with st.expander("What that run did"):
        shown = night_facts.gate_table(gates, "Gates of the failed night that did not pass") if gates else Html("")
        st.html(markup.block(markup.strip(night_facts.steps(attempts)), markup.GAP, shown))


def _overdue(home: Home) -> bool:
    """A night that runs now, or that is due and has not run: what no finished run can tell. Whether there is one."""
    newest = ledger.runs(home.engine, kinds=ledger.NIGHT_KINDS, limit=1)
    if newest and newest[0].status == "running":
        since = markup.join(["since ", markup.at(newest[0].started_at, home.zone)], "")
        title = f"the night of {formats.day(newest[0].as_of)} is on record as running"
        st.html(markup.block(markup.alarm("watch", title, since)))
        return True
    if not home.dates:
        return False
    now, due, last = datetime.now(UTC), home.portfolio.due, home.dates[0]
    missed = night_facts.missed_nights(home.portfolio, last, now)
    if missed is None:
        told = f"no night runs on schedule here: the newest published night is {formats.day(last)}."
        st.html(markup.block(Html("<p class='quiet'>"), markup.status("none", told), Html("</p>")))
        return False
    if not missed:
        return False
    detail: list[markup.Cell] = [
        f"The scores of {formats.day(missed[-1])} were due ",
        markup.at(due(missed[-1]), home.zone),
        f"; the newest published night is {formats.day(last)}.",
    ]
    title = f"the night of {formats.day(missed[0])} has not landed"
    following = f"Next: run `scoretrace nightly --as-of {missed[0]}`."
    if len(missed) > 1:
        title = f"{len(missed)} nights have not landed, that of {formats.day(missed[0])} the first"
        following = f"Next: run `scoretrace backfill --from {missed[0]} --to {missed[-1]}`."
    st.html(markup.block(markup.alarm("watch", title, markup.join(detail, ""), following)))
    return True


# ── the nights before ────────────────────────────────────────────────────────────────────────────────────────


def _calendar(reader: Reader, first: date) -> None:
    """The last nights as signs, a week a row; each that ran is a link to it."""
    portfolio, now = reader.home.portfolio, datetime.now(UTC)
    daily = portfolio.calendar == "daily"
    nights = {n.as_of: n for n in ledger.nights(reader.home.engine, first, reader.as_of)}
    start = first - timedelta(days=first.weekday()) if daily else first
    days = list(calendar.nights(portfolio.calendar, start, reader.as_of))
    published = [n.publication.run_id for n in nights.values() if n.publication]
    warned = ledger.warned_runs(reader.home.engine, published)
    telling = telling_runs(reader.home.engine) if access.may(session.actor(), "drift.read") else frozenset()
    levels = {
        day: night_facts.status_of(nights.get(day), day, portfolio, now, warned, telling)
        for day in days
        if day >= first
    }
    st.html(markup.block(markup.heading(f"Last {SHOWN_DAYS} nights" if daily else f"Last {SHOWN_MONTHS} months")))
    with st.container(key="calendar"):
        if daily:
            names = "".join(f"<span class='quiet'>{name}</span>" for name in ("Mo", "Tu", "We", "Th", "Fr", "Sa", "Su"))
            st.html(f"<div class='st weekdays'>{names}</div>")
        for day in days:
            if day not in levels:
                st.html("<div class='st day'>&nbsp;</div>")
                continue
            level, word = levels[day]
            label = str(day.day) if daily else f"{day:%b}"
            told, sign = f"{formats.day(day)}: {word}", markup.SIGNS[level]
            if day in nights:
                text = f":{_COLOUR[level]}[{sign}] {f'**{label}**' if day == reader.as_of else label}"
                query = {session.AS_OF: day.isoformat()}
                # A tooltip is the dearest part of a link; the nights that are well need none.
                st.page_link(
                    shell.TONIGHT, label=text, icon="", query_params=query, help=told if level != "ok" else None
                )
            else:
                mark = f"<span class='{level}'>{sign}</span> <span class='quiet'>{label}</span>"
                st.html(f"<div class='st day' title='{told}'>{mark}</div>")
    counts = {k: sum(level == k for level, _ in levels.values()) for k in _LEGEND}
    legend = [markup.status(k, f"{n} {_LEGEND[k]}") for k, n in counts.items() if n]
    st.html(markup.block(Html("<p class='legend'>"), markup.join(legend, " &ensp;"), Html("</p>")))


def _mean_pd(means: pd.DataFrame, first: date) -> None:
    st.html(markup.block(markup.heading("Mean PD", "of the book, by night")))
    st.plotly_chart(charts.mean_pd(means, first), key="mean_pd", alt=charts.mean_pd_words(means), config=_STILL)


def _grades(shares: pd.DataFrame, grades: Sequence[str], first: date) -> None:
    st.html(markup.block(markup.heading("Grades", "share of accounts, by night")))
    words = charts.grade_shares_words(shares, grades)
    st.plotly_chart(charts.grade_shares(shares, grades, first), key="grades", alt=words, config=_STILL)


def _book_table(means: pd.DataFrame, shares: pd.DataFrame, grades: Sequence[str]) -> None:
    """Both charts' figures, newest night first."""
    columns = [Column("night"), Column("mean PD", "number"), *(Column(g, "number") for g in grades), Column("model")]
    rows = [
        [
            formats.day(mean.as_of.date()),
            formats.probability(float(mean.mean_pd)),
            *(formats.share(float(share[g])) for g in grades),
            str(mean.model),
        ]
        for mean, (_, share) in zip(means.itertuples(), shares.iterrows(), strict=True)
    ]
    with st.expander("Both charts as a table"):
        st.html(markup.block(markup.table(columns, reversed(rows), "Mean PD and grade shares by night")))
        listed = [
            {"as_of": mean.as_of.date(), "mean_pd": float(mean.mean_pd), **share.to_dict(), "model": str(mean.model)}
            for mean, (_, share) in zip(means.itertuples(), shares.iterrows(), strict=True)
        ]
        shell.csv_button("nights", lambda: exports.as_csv(listed))


# ── the evidence ─────────────────────────────────────────────────────────────────────────────────────────────


def _gates(gates: Sequence[GateVerdict]) -> None:
    """Every verdict with its figure and bound, worst first."""
    passed = sum(g.verdict == "pass" for g in gates)
    head = markup.heading("Gates", f"{passed} of {len(gates)} passed, worst first" if gates else "none ran")
    if not gates:
        st.html(markup.block(head, markup.quiet("This run recorded no gate verdict: it landed nothing of its own.")))
        return
    st.html(markup.block(head, night_facts.gate_table(gates[:SHOWN_GATES], "Gate verdicts, worst first")))
    if len(gates) > SHOWN_GATES:
        with st.expander(f"{len(gates) - SHOWN_GATES} more"):
            st.html(markup.block(night_facts.gate_table(gates[SHOWN_GATES:], "The other gate verdicts")))
            shell.csv_button(f"gates-{gates[0].run_id}", lambda: exports.as_csv(map(asdict, gates)))


def _tests(home: Home, evidence: Evidence) -> None:
    """dbt's tests: those that did not pass, and the count of those that did."""
    dbt = evidence.dbt
    tests = dbt.passed + dbt.warned + dbt.failed + dbt.skipped
    note = f"{formats.count(dbt.passed)} of {formats.count(tests)} passed · {formats.duration(dbt.seconds)} in dbt"
    head = markup.heading("Data tests", note if tests else "none ran")
    found = ledger.dbt_results(home.engine, evidence.run.run_id, ("fail", "error", "warn"))
    if found:
        worst_first = orders.arranged(found, "-result", night_facts.TEST_ORDERS)
        st.html(markup.block(head, night_facts.test_table(worst_first)))
        return
    st.html(
        markup.block(head, markup.quiet("No test failed or warned." if tests else "The run recorded no dbt result."))
    )


if __name__ == "__main__":
    page()
