"""One drifted feature: its bins beside the baseline's, its nights, its segments, and what likely moved it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from datetime import date

import streamlit as st

from app import (
    cause_view,
    charts_drift,
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
from app.drift_asked import CAUSES, Asked
from app.markup import Html
from app.session import Home
from pipeline import ledger
from pipeline.errors import ScoretraceError
from pipeline.monitoring.alert_state import RESOLVED, Alert
from pipeline.monitoring.alerts import alerts_of
from pipeline.monitoring.bins import WHOLE
from pipeline.monitoring.drift import Drift
from pipeline.monitoring.drift_reads import Filled
from pipeline.monitoring.policy import DriftPolicy
from pipeline.monitoring.segments import SCORE
from pipeline.monitoring.stability import judged_psi

SHOWN_SEGMENTS = 14
_STILL = {"displayModeBar": False}


def show(home: Home, asked: Asked, d: Drift, rows: Sequence[Drift], definition: str) -> None:
    """``definition``: what the project says of the feature; empty where it says nothing."""
    about = markup.join([formats.day(d.as_of), asked.part, f"against the training set of v{d.version}"])
    st.html(
        markup.block(
            markup.GAP,
            markup.heading(d.feature, about),
            Html(f"<p>{markup.html(definition)}</p>") if definition else "",
            markup.GAP,
            drift_facts.figures(d, home.portfolio.monitoring.minimum_rows),
        )
    )
    at = {session.AS_OF: d.as_of.isoformat()}
    with st.container(key="actions-feature", horizontal=True, gap="medium"):
        if d.feature != SCORE:
            query = {**at, "column": f"features.{asked.subject}_features.{d.feature}"}
            st.page_link(shell.LINEAGE, label="its lineage", query_params=query, icon="")
        if asked.key != WHOLE:
            query = {**at, "of": asked.subject, "segment": "=".join(asked.key)}
            label = shell.plain(f"the {asked.subject}s of {asked.part}")
            st.page_link(shell.SCORES, label=label, query_params=query, icon="")
    filled = watch_data.filled(home, asked.model, d.version, d.feature, d.as_of, asked.key)
    with st.container(key="pair-feature"):
        left, right = st.columns([11, 9], gap="medium")
        with left:
            if filled is None:
                st.html(markup.block(markup.heading("Distribution"), markup.quiet("No rows by bin are stored.")))
            else:
                _distribution(home, asked, d, filled)
        with right:
            _by_night(asked, d.feature, rows, home)
    with st.container(key="pair-cause"):
        left, right = st.columns([11, 9], gap="medium")
        with left:
            _cause(home, asked, d)
        with right:
            found = watch_data.by_segment(home, d.as_of, asked.model, d.version, d.feature)
            _by_segment(home, d, found)


def _by_segment(home: Home, d: Drift, found: Sequence[Drift]) -> None:
    """The night in segments, a page at a time, in the order that the heads choose."""
    head = markup.heading("By segment", f"{len(found)} of {formats.day(d.as_of)}")
    if not found:
        st.html(markup.block(head, markup.quiet("No segment of this night is stored.")))
        return
    least = home.portfolio.monitoring.minimum_rows
    keys = drift_facts.figure_orders(least)
    order = controls.order(drift_facts.SEGMENT_ORDERS, "-urgency")
    place = controls.pages(len(found), SHOWN_SEGMENTS)
    named = sorted(found, key=keys["name"])
    shown = orders.arranged(named, order, keys)[place.start : place.stop]
    table = drift_facts.segment_table(shown, f"{d.feature} by segment", least, order)
    links = [
        (f"{x.dimension} {x.segment}", controls.from_first_page(segment=f"{x.dimension}={x.segment}")) for x in shown
    ]
    shell.linked_table("segments", head, table, shell.DRIFT, links)
    name = f"segments-{d.feature}-{d.as_of}"
    shell.list_foot(len(found), SHOWN_SEGMENTS, name, lambda: exports.as_csv(map(asdict, found)))


def _distribution(home: Home, asked: Asked, d: Drift, filled: Filled) -> None:
    """The night's bins beside the baseline's, or beside another night's where the URL names one."""
    others = {"": f"training set of v{d.version}"} | {
        o.isoformat(): f"night of {formats.day(o)}" for o in asked.comparable(d.version)
    }
    # A link may name this very night, or one that another version scored: there is nothing to compare with then.
    named = st.query_params.get("with", "")
    chosen = named if named in others else ""
    before, name, here = filled.baseline, "baseline", formats.day(d.as_of, year=False)
    extra: Html | None = None
    other = (
        watch_data.filled(home, asked.model, d.version, d.feature, date.fromisoformat(chosen), asked.key)
        if chosen
        else None
    )
    if named not in ("", d.as_of.isoformat()) and other is None:
        told = f"{named} is none of the nights shown that are stored against v{d.version}; here is the training set."
        extra = markup.alarm("stop", "not found", told, "Next: choose another night to compare with.")
    if other is not None:
        before = other.night
        name, here = formats.heads((date.fromisoformat(chosen), d.as_of))
        if sum(before) and sum(filled.night):
            psi = judged_psi(before, filled.night, alpha=home.portfolio.monitoring.alpha)
            word = "beyond chance" if psi.significant else "chance alone reaches it"
            extra = markup.quiet(f"PSI between the two nights {psi.value:.3f}, critical {psi.critical:.3f}: {word}.")
    names = (name, here)
    st.html(markup.block(markup.heading("Distribution", "share of rows by bin; above each pair its part of the PSI")))
    controls.select("Compared with", "with", others, chosen, 260, clears=(CAUSES,))
    if extra:
        st.html(markup.block(extra))
    st.plotly_chart(
        charts_drift.distribution(filled.labels, before, filled.night, names),
        key="distribution",
        alt=charts_drift.distribution_words(filled.labels, before, filled.night),
        config=_STILL,
    )
    with st.expander("As a table"):
        terms = charts_drift.bin_terms(before, filled.night)
        st.html(markup.block(drift_facts.bin_table(filled.labels, before, filled.night, terms, names)))
        rows = drift_facts.bin_rows(filled.labels, before, filled.night, terms, names)
        shell.csv_button(f"bins-{d.feature}-{d.as_of}", lambda: exports.as_csv(rows))


def _by_night(asked: Asked, feature: str, rows: Sequence[Drift], home: Home) -> None:
    policy = home.portfolio.monitoring
    nights = drift_facts.frame([d for d in rows if d.feature == feature], policy.minimum_rows)
    st.html(markup.block(markup.heading("PSI by night", "dotted: the bands")))
    st.plotly_chart(
        charts_drift.by_night(nights, "psi", ".3f", (policy.moderate, policy.high)),
        key="psi",
        alt=charts_drift.by_night_words(nights, "psi", f"PSI of {feature}", ".3f"),
        config=_STILL,
    )
    st.html(markup.block(markup.heading("Missing by night", "share of rows")))
    st.plotly_chart(
        charts_drift.by_night(nights, "missing_rate", ".2~%"),
        key="missing",
        alt=charts_drift.by_night_words(nights, "missing_rate", f"Missing rate of {feature}", ".1%"),
        config=_STILL,
    )
    with st.expander("Both as a table"):
        st.html(markup.block(drift_facts.night_by_night(nights, feature)))
        shell.csv_button(f"nights-{feature}", lambda: exports.as_csv(nights.to_dict("records")))


def _cause(home: Home, asked: Asked, d: Drift) -> None:
    """What stands behind it: an alert's causes as they were recorded, or a search on a click."""
    of_feature = [a for a in alerts_of(home.engine).values() if d.feature in a.members and asked.model in a.id]
    told = [a for a in of_feature if a.since <= d.as_of]  # what began later says nothing of this night
    st.html(markup.block(markup.heading("Likely source", "the likeliest first")))
    for alert in sorted(told, key=lambda a: (a.state == RESOLVED, -a.as_of.toordinal())):
        _told(alert, home.dates)
    if d.feature == SCORE:
        st.html(
            markup.block(
                markup.quiet("The score moves with its features: see them above and what each did to it below.")
            )
        )
        return
    publication = ledger.publication_for(home.engine, d.as_of)
    if publication is None:
        st.html(markup.block(markup.quiet("The night has no publication, so there is no run to look in.")))
        return
    if st.query_params.get(CAUSES) != "1":
        if st.button("Look for causes in this night's run", key=f"causes@{d.feature}{d.as_of}"):
            controls.to_url(**{CAUSES: "1"})
            st.rerun()
        if not told:
            why = _why_not(d, home.portfolio.monitoring)
            search = "A click searches its loads, gates, tests and definitions; it takes some seconds."
            st.html(markup.block(markup.quiet(f"No alert was raised on it{why}. {search}")))
    else:
        spec = home.portfolio.model(asked.model)
        column = f"features.{spec.subject}_features.{d.feature}"
        with st.spinner(f"Walking the column lineage of run {publication.run_id}, weighing its loads, gates and tests"):
            try:
                found = watch_data.causes(home.identity, publication.run_id, column, home)
            except ScoretraceError as error:
                shell.sentence(error, "no causes can be looked for")
                return
        if found and any(found == a.causes for a in told):
            st.html(markup.block(markup.quiet("A search of this night finds the same.")))
        elif found:
            cause_view.show(found, d.feature, d.as_of, home.dates)
        else:
            st.html(markup.block(markup.status("ok", "nothing upstream of it stood out in this night's run")))


def _why_not(d: Drift, policy: DriftPolicy) -> str:
    """Which of the rule's conditions a drift does not meet, where that is seen in its own figures."""
    if d.band not in ("moderate", "high"):
        return ""
    if d.importance is None or not 0 < d.importance <= policy.importance:
        return f": alerts are about the {policy.importance} features that weigh most"
    if d.launch_psi is not None and d.launch_psi < policy.moderate:
        return ": it was so on the version's first nights"
    return ""


def _told(alert: Alert, published: Sequence[date]) -> None:
    head = markup.join([markup.quiet(f"alert told {formats.day(alert.as_of)}, {alert.state}")])
    st.html(markup.block(head))
    cause_view.show(alert.causes, alert.id, alert.as_of, published)
    with st.container(key=f"actions-{alert.id}"):
        st.page_link(shell.ALERTS, label="open the alert ▸", icon="", query_params=session.address(alert=alert.id))
