"""Alerts: what stands, what did it, and who answers for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta

import streamlit as st

from app import (
    alert_facts,
    cause_view,
    controls,
    drift_facts,
    exports,
    formats,
    markup,
    orders,
    session,
    shell,
    watch_data,
)
from app.markup import Html
from app.session import Home
from pipeline import ledger
from pipeline.errors import AccessDenied, NotFound, ScoretraceError
from pipeline.governance import access, audit
from pipeline.governance.access import Actor
from pipeline.governance.event import event_of
from pipeline.monitoring.alert_rules import DRIFT
from pipeline.monitoring.alert_state import ACKNOWLEDGED, RESOLVED, Alert
from pipeline.monitoring.alerts import acknowledge, alerts_of
from pipeline.monitoring.bins import WHOLE

_SAID = "alert answered"
PAGE_SIZE = 20


def page() -> None:
    actor = session.actor()
    access.require(actor, "drift.read")
    home = session.open_home()
    found = alerts_of(home.engine)
    if asked := st.query_params.get("alert"):
        if asked not in found:
            raise NotFound(f"there is no alert {asked!r}", "open one from the list of alerts")
        _alert(home, actor, found[asked])
    else:
        _list(home, list(found.values()))


# ── the list ─────────────────────────────────────────────────────────────────────────────────────────────────


def _list(home: Home, found: Sequence[Alert]) -> None:
    standing = alert_facts.standing_first([a for a in found if a.state != RESOLVED])
    is_open = [a for a in standing if a.state != ACKNOWLEDGED]
    answered = [a for a in standing if a.state == ACKNOWLEDGED]
    resolved = alert_facts.standing_first([a for a in found if a.state == RESOLVED])
    high = any(a.level == "high" for a in is_open)
    said = (
        markup.status("stop" if high else "watch", f"{len(is_open)} open")
        if is_open
        else markup.status("ok", "none open")
    )
    st.html(markup.block(Html(f"<h1>Alerts <span class='answer'>{said}</span></h1>")))
    if not found:
        st.html(
            markup.block(
                markup.alarm(
                    "none",
                    "no alert was ever raised",
                    "Each night's monitor task raises them: drift that is large, beyond chance and on a feature that "
                    "matters, late or short loads, failed tests, restatements, outcomes that are not as expected.",
                    "Next: `scoretrace nightly --as-of YYYY-MM-DD` runs a night, `scoretrace monitor --as-of "
                    "YYYY-MM-DD` watches a published one again.",
                )
            )
        )
        return
    shell.remember_list(shell.ALERTS)
    order = controls.order(alert_facts.ORDERS, "-level")
    parts = {title: f"{title.lower()}_{controls.PAGE}" for title in ("Open", "Acknowledged", "Resolved")}
    words = controls.words("Find alerts", "words of an alert: drift, a feature, a table", pages=tuple(parts.values()))
    found, is_open, answered, resolved = (
        orders.having(alerts, words, alert_facts.words) for alerts in (found, is_open, answered, resolved)
    )
    if not found:
        st.html(markup.block(markup.quiet(f"No alert has the words “{words}”: look for fewer of them.")))
        return
    sections = (
        ("Open", is_open, ""),
        ("Acknowledged", answered, "somebody answers for them until a date; then, or when they get worse, they reopen"),
        ("Resolved", resolved, "no longer found"),
    )
    for title, alerts, note in sections:
        if not alerts:
            continue
        part = parts[title]
        place = controls.pages(len(alerts), PAGE_SIZE, part)
        shown = orders.arranged(alerts, order, alert_facts.ORDERS)[place.start : place.stop]
        links = [(a.id, session.address(alert=a.id)) for a in shown]
        table = alert_facts.alert_table(shown, f"{title} alerts", order)
        head = markup.heading(title, ", ".join(filter(None, [formats.count(len(alerts)), note])))
        shell.linked_table(title.lower(), head, table, shell.ALERTS, links, pages=tuple(parts.values()))
        controls.pager(len(alerts), PAGE_SIZE, part)
    listed = orders.arranged(found, order, alert_facts.ORDERS)
    shell.csv_button("alerts", lambda: exports.as_csv(map(asdict, listed)))


# ── one alert ────────────────────────────────────────────────────────────────────────────────────────────────


def _alert(home: Home, actor: Actor, alert: Alert) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        title = f"<h1>{markup.html(alert.id)} <span class='answer'>{alert_facts.state(alert)}</span></h1>"
        st.html(markup.block(Html(title)), width="content")
        with st.container(key="actions-back", horizontal=True, gap="small", width="content"):
            shell.list_link(shell.ALERTS, "alerts")
            if access.may(actor, "run.read"):
                st.page_link(shell.RUNS, label="the run", query_params=session.address(run=alert.run_id), icon="")
    if said := st.session_state.pop(_SAID, None):
        st.html(markup.block(markup.status("ok", said)))
    st.html(
        markup.block(
            Html(f"<p>{markup.html(formats.sentence(alert.message))}</p>"), markup.GAP, alert_facts.figures(alert)
        )
    )
    with st.container(key="pair-alert"):
        left, right = st.columns([11, 9], gap="medium")
        with left:
            st.html(markup.block(markup.heading("Likely causes", "the likeliest first, as the night recorded them")))
            if alert.causes:
                cause_view.show(alert.causes, alert.id, alert.as_of, home.dates)
            else:
                st.html(markup.block(markup.quiet("Nothing upstream of it stood out in that night's run.")))
            _members(home, alert)
        with right:
            _acknowledge(home, actor, alert)
    events = [
        event_of(r) for r in audit.records(home.engine, action="alert.", subject=f"alert:{alert.id}", order="-record")
    ]
    head = markup.heading("History", "newest first, as the audit log has it")
    # Each opens its record, for who may read those.
    records = [(str(e.seq), session.address(record=str(e.seq))) for e in events if access.may(actor, "audit.read")]
    st.html(markup.block(markup.GAP))
    shell.linked_table(
        "history", head, alert_facts.event_table(events, home.zone), shell.ALERTS, records, to=shell.AUDIT
    )


def _members(home: Home, alert: Alert) -> None:
    """What the alert groups; a drifted feature opens its drift on the night that told of it."""
    if not alert.members:
        return
    st.html(markup.block(markup.GAP, markup.heading("It groups", formats.plural(len(alert.members), "member"))))
    if alert.kind != DRIFT:
        st.html(markup.block(markup.join(alert.members, " · ")))
        return
    model = alert.id.split("/")[1]
    with st.container(key="actions-members", horizontal=True, gap="small"):
        for feature in alert.members:
            query = {session.AS_OF: alert.as_of.isoformat(), "model": model, "feature": feature}
            query |= _where(home, alert, model, feature)
            st.page_link(shell.DRIFT, label=shell.plain(feature), query_params=query, icon="")


def _where(home: Home, alert: Alert, model: str, feature: str) -> dict[str, str]:
    """The watched segment in which a feature drifted most, as Drift is asked for it; nothing where the whole book
    drifted. Segments of other splits raise no alert."""
    policy, night = home.portfolio.monitoring, alert.as_of
    whole = watch_data.history(home, night, night, model, None, WHOLE, feature)
    if not whole or drift_facts.drifted(whole, policy):
        return {}
    parts = drift_facts.drifted(watch_data.by_segment(home, night, model, whole[0].version, feature), policy)
    worst = max((d for d in parts if d.dimension in policy.watched), key=lambda d: d.psi or 0, default=None)
    return {"segment": f"{worst.dimension}={worst.segment}"} if worst else {}


def _acknowledge(home: Home, actor: Actor, alert: Alert) -> None:
    st.html(markup.block(markup.heading("Acknowledge", "answer for it until a date")))
    if alert.state == RESOLVED:
        st.html(markup.block(markup.quiet("It is resolved: there is nothing to answer for.")))
        return
    try:
        access.require(actor, "drift.acknowledge")
    except AccessDenied as error:
        st.html(markup.block(markup.quiet(f"{error.message}. {error.next_step or ''}")))
        return
    today, policy = _today(home), home.portfolio.monitoring
    with st.form(f"acknowledge@{alert.id}{alert.state}", border=False):
        why = st.text_area("Why it may stand", height=80, placeholder="what you found, and what is being done")
        until = st.date_input(
            "Until, an as-of date",
            value=today + timedelta(days=min(7, policy.acknowledge_days)),
            min_value=today,
            max_value=today + timedelta(days=policy.acknowledge_days),
            format="YYYY-MM-DD",
            width=200,
        )
        st.caption(f"Recorded as {actor.name} in the audit log. It reopens after that night, or when it gets worse.")
        sent = st.form_submit_button("Acknowledge", type="primary")
    if not sent:
        return
    try:
        if not isinstance(until, date):
            raise NotFound("no date is chosen", "choose the last as-of date that you answer for")
        acknowledge(home.engine, actor, alert.id, why=why, until=until, today=today, policy=policy)
    except ScoretraceError as error:
        shell.sentence(error, "not acknowledged")
        return
    st.session_state[_SAID] = f"acknowledged until {formats.day(until)}"
    st.rerun()


def _today(home: Home) -> date:
    """Alerts live by as-of dates: a book that is months behind the calendar answers by its own."""
    published = ledger.latest_publication(home.engine)
    return published.as_of if published else datetime.now(UTC).date()


if __name__ == "__main__":
    page()
