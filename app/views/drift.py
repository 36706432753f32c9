"""Drift: what moved, does it matter, where did it come from?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import streamlit as st

from app import charts_drift, controls, drift_facts, formats, markup, session, shell, watch_data
from app.markup import Html
from app.session import Home
from pipeline import calendar, ledger
from pipeline.errors import NotFound, ScoretraceError
from pipeline.governance import access
from pipeline.monitoring.alert_state import RESOLVED, Alert
from pipeline.monitoring.alerts import alerts_of
from pipeline.monitoring.bins import WHOLE
from pipeline.monitoring.drift import Drift
from pipeline.monitoring.drift_reads import Filled, Watched
from pipeline.monitoring.segments import SCORE
from pipeline.monitoring.stability import judged_psi

SHOWN_NIGHTS = 30
SHOWN_FEATURES = 20
SHOWN_SEGMENTS = 14
_STILL = {"displayModeBar": False}
_INK = {"light": "#1a1f24", "dark": "#e3e7eb"}  # the text colours of the themes


@dataclass(frozen=True)
class Asked:
    """What the URL asks to see. version: None is each night against the version that scored it."""

    model: str
    version: int | None
    key: tuple[str, str]
    nights: tuple[date, ...]
    night: date
    feature: str


def page() -> None:
    access.require(session.actor(), "drift.read")
    home = session.open_home()
    reader = session.reader(home)
    if reader is None:
        shell.nothing_published(home)
        return
    order = {m.name: i for i, m in enumerate(home.portfolio.models)}
    stored = sorted(
        (w for w in watch_data.watched(home) if w.model in order and w.nights[0] <= reader.as_of),
        key=lambda w: (order[w.model], w.version),
    )
    if not stored:
        _nothing_stored(reader.as_of)
        return
    st.html(
        markup.block(
            Html("<h1>Drift <span class='answer quiet'>what moved, does it matter, where did it come from</span></h1>")
        )
    )
    asked = _controls(home, stored, reader.as_of)
    rows = watch_data.history(home, asked.nights[0], asked.nights[-1], asked.model, asked.version, asked.key)
    tonight = [d for d in rows if d.as_of == asked.night]
    if not rows:
        raise NotFound(
            f"no drift of {asked.model} is stored for {_segment_words(asked.key)} between "
            f"{formats.day(asked.nights[0])} and {formats.day(asked.nights[-1])}",
            "choose another segment, other nights or another baseline",
        )
    if asked.feature and asked.feature not in {d.feature for d in rows}:
        raise NotFound(
            f"{asked.model} has no feature {asked.feature!r}", "choose one in the heatmap or in the list of features"
        )
    _heatmap(home, asked, rows, tonight)
    if asked.feature:
        found = next((d for d in tonight if d.feature == asked.feature), None)
        if found is None:
            raise NotFound(
                f"no drift of {asked.feature} is stored for {formats.day(asked.night)}", "choose another night"
            )
        _feature(home, asked, found, rows)
    _score_drift(home, asked)


def _nothing_stored(as_of: date) -> None:
    st.html(
        markup.block(
            markup.alarm(
                "none",
                f"no drift is stored up to {formats.day(as_of)}",
                "A night's monitor task counts its features against the training set of the model that scored it.",
                f"Next: run `scoretrace monitor --as-of {as_of}` for a night that is published.",
            )
        )
    )


# ── the controls ─────────────────────────────────────────────────────────────────────────────────────────────


def _controls(home: Home, stored: Sequence[Watched], as_of: date) -> Asked:
    """One line of controls, read from the URL and written to it."""
    model = controls.one_of("model", {w.model: w.model for w in stored}, "model with stored drift")
    mine = [w for w in stored if w.model == model]
    baselines = {"": "training set of the version that scored"} | {
        str(w.version): f"training set of v{w.version}" for w in mine
    }
    baseline = controls.one_of("baseline", baselines, "stored baseline")
    version = int(baseline) if baseline else None
    every = tuple(
        sorted({d for w in mine for d in (w.nights if w.version == version else w.own if not version else ())})
    )
    until = [d for d in every if d <= as_of]
    if not until:
        raise NotFound(
            f"no drift of {model} against this baseline is stored up to {formats.day(as_of)}",
            f"run `scoretrace monitor --as-of {as_of}`, or choose another baseline",
        )
    start, end = controls.day("from", _first(home, until[-1])), controls.day("to", until[-1])
    shown = tuple(d for d in until if start <= d <= end)
    if not shown:
        raise NotFound(
            f"no drift of {model} is stored from {formats.day(start)} to {formats.day(end)}",
            f"nights are stored from {formats.day(every[0])} to {formats.day(every[-1])}",
        )
    night = controls.day("night", shown[-1])
    if night not in shown:
        raise NotFound(f"no drift of {model} is stored for {formats.day(night)}", "choose a night of the heatmap")
    segments = {"": "whole book"} | {f"{d}={s}": f"{d} {s}" for d, s in watch_data.segments(home, model, night)}
    segment = controls.one_of("segment", segments, "segment")
    order = controls.one_of("order", drift_facts.ORDERS, "order")
    with st.container(key="filters", horizontal=True, vertical_alignment="bottom", gap="small"):
        controls.select("Model", "model", {w.model: w.model for w in stored}, model, 150, first=False)
        controls.select("Compared with", "baseline", baselines, baseline, 260)
        controls.select("Segment", "segment", segments, segment, 160)
        controls.night("Nights from", "from", tuple(until), shown[0])
        controls.night("to", "to", tuple(until), shown[-1])
        controls.select("Order", "order", drift_facts.ORDERS, order, 165)
    dimension, _, part = segment.partition("=")
    return Asked(
        model, version, (dimension, part) if segment else WHOLE, shown, night, st.query_params.get("feature", "")
    )


def _first(home: Home, last: date) -> date:
    """Where the heatmap starts unless the URL says: the last month of nights, or the last year of months."""
    if home.portfolio.calendar == "daily":
        return last - timedelta(days=SHOWN_NIGHTS - 1)
    return calendar.add_months(calendar.month_end(last), -11)


# ── what moved ───────────────────────────────────────────────────────────────────────────────────────────────


def _heatmap(home: Home, asked: Asked, rows: Sequence[Drift], tonight: Sequence[Drift]) -> None:
    policy = home.portfolio.monitoring
    bands = (policy.moderate, policy.high)
    cells = drift_facts.frame(rows, policy.minimum_rows)
    order = drift_facts.ordered(cells, st.query_params.get("order", ""))
    every = st.query_params.get("all") == "1"
    features = order if every else order[:SHOWN_FEATURES]
    if asked.feature and asked.feature not in features:
        features = [*features, asked.feature]
    far = [
        d
        for d in tonight
        if d.psi is not None and d.psi >= policy.moderate and drift_facts.stands(d, policy.minimum_rows)
    ]
    versions = sorted({d.version for d in tonight})
    against = f"training set of {', '.join(f'v{v}' for v in versions)}"
    said = (
        markup.status("watch" if far else "ok", f"{len(far)} of {len(tonight)} drifted")
        if tonight
        else markup.status("none", "nothing stored")
    )
    note = markup.join(
        [
            f"{formats.day(asked.night)}, {_segment_words(asked.key)}, against the {against}",
            said,
            f"PSI {policy.moderate:g} moderate, {policy.high:g} high; hatched: chance or too few rows",
        ]
    )
    st.html(markup.block(markup.heading("PSI by feature and night", note)))
    ink = _INK.get(str(st.context.theme.type), _INK["light"])
    figure = charts_drift.heatmap(cells, features, asked.nights, bands, asked.feature, ink)
    words = charts_drift.heatmap_words(cells, asked.night, bands)
    key = f"heatmap@{st.query_params.to_dict()}"

    def open_cell() -> None:
        points = st.session_state[key].selection.points
        if points and (said := points[0].get("customdata")):
            night = said[1] if said[1] != asked.nights[-1].isoformat() else ""
            controls.to_url(feature=said[0], night=night)

    st.plotly_chart(figure, key=key, alt=words, config=_STILL, on_select=open_cell, selection_mode="points")
    with st.container(key="actions-under", horizontal=True, vertical_alignment="bottom", gap="small"):
        names = {"": "choose a feature"} | {d: d for d in order}
        controls.select("Feature", "feature", names, asked.feature, 320)
        controls.night("Night", "night", asked.nights, asked.night)
        if len(order) > SHOWN_FEATURES:
            label = f"the first {SHOWN_FEATURES} only" if every else f"all {len(order)} features"
            st.page_link(shell.DRIFT, label=label, icon="", query_params=_with(all="" if every else "1"))
    with st.expander("The heatmap as tables"):
        by_name = {d.feature: d for d in tonight}
        listed = [by_name[f] for f in order if f in by_name]
        st.html(
            markup.block(
                drift_facts.night_table(listed, f"Drift of {formats.day(asked.night)}", policy.minimum_rows),
                markup.GAP,
                drift_facts.heat_table(cells, features, asked.nights),
            )
        )


def _with(**parts: str) -> dict[str, str]:
    return {k: v for k, v in {**st.query_params.to_dict(), **parts}.items() if v}


# ── one feature ──────────────────────────────────────────────────────────────────────────────────────────────


def _feature(home: Home, asked: Asked, d: Drift, rows: Sequence[Drift]) -> None:
    about = markup.join([formats.day(d.as_of), _segment_words(asked.key), f"against the training set of v{d.version}"])
    st.html(
        markup.block(
            markup.GAP,
            markup.heading(d.feature, about),
            markup.GAP,
            drift_facts.figures(d, home.portfolio.monitoring.minimum_rows),
        )
    )
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
            note = f"{len(found)} of {formats.day(d.as_of)}, the most drifted first"
            st.html(markup.block(markup.heading("By segment", note)))
            if found:
                st.html(
                    markup.block(
                        drift_facts.segment_table(
                            found, f"{d.feature} by segment", home.portfolio.monitoring.minimum_rows, SHOWN_SEGMENTS
                        )
                    )
                )
            else:
                st.html(markup.block(markup.quiet("No segment of this night is stored.")))


def _distribution(home: Home, asked: Asked, d: Drift, filled: Filled) -> None:
    """The night's bins beside the baseline's, or beside another night's where the URL names one."""
    others = {"": f"training set of v{d.version}"} | {
        o.isoformat(): f"night of {formats.day(o)}" for o in asked.nights[::-1] if o != d.as_of
    }
    chosen = controls.one_of("with", others, "night to compare with")
    before, name = filled.baseline, "baseline"
    extra: Html | None = None
    if chosen:
        other = watch_data.filled(home, asked.model, d.version, d.feature, date.fromisoformat(chosen), asked.key)
        if other is None:
            raise NotFound(
                f"no rows by bin of {d.feature} against v{d.version} are stored for {chosen}", "choose another night"
            )
        before, name = other.night, formats.day(date.fromisoformat(chosen), year=False)
        if sum(before) and sum(filled.night):
            psi = judged_psi(before, filled.night, alpha=home.portfolio.monitoring.alpha)
            word = "beyond chance" if psi.significant else "chance alone reaches it"
            extra = markup.quiet(f"PSI between the two nights {psi.value:.3f}, critical {psi.critical:.3f}: {word}.")
    names = (name, formats.day(d.as_of, year=False))
    st.html(markup.block(markup.heading("Distribution", "share of rows by bin; above each pair its part of the PSI")))
    controls.select("Compared with", "with", others, chosen, 260)
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
        charts_drift.by_night(nights, "missing_rate", ".1%"),
        key="missing",
        alt=charts_drift.by_night_words(nights, "missing_rate", f"Missing rate of {feature}", ".1%"),
        config=_STILL,
    )


def _cause(home: Home, asked: Asked, d: Drift) -> None:
    """What stands behind it: an alert's causes as they were recorded, or a search on a click."""
    told = [a for a in alerts_of(home.engine).values() if d.feature in a.members and asked.model in a.id]
    st.html(markup.block(markup.heading("Likely source", "the likeliest first")))
    for alert in sorted(told, key=lambda a: (a.state == RESOLVED, -a.as_of.toordinal())):
        _told(alert)
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
    if st.button("Look for causes in this night's run", key=f"causes@{d.feature}{d.as_of}"):
        spec = home.portfolio.model(asked.model)
        column = f"features.{spec.subject}_features.{d.feature}"
        with st.spinner(f"Walking the column lineage of run {publication.run_id}, weighing its loads, gates and tests"):
            try:
                found = watch_data.causes(home.identity, publication.run_id, column, home)
            except ScoretraceError as error:
                shell.sentence(error, "no causes can be looked for")
                return
        if found:
            st.html(markup.block(drift_facts.cause_list(found)))
        else:
            st.html(markup.block(markup.status("ok", "nothing upstream of it stood out in this night's run")))
    elif not told:
        st.html(
            markup.block(
                markup.quiet(
                    "No alert was raised on it. A click searches its loads, gates, tests and "
                    "definitions; it takes some seconds."
                )
            )
        )


def _told(alert: Alert) -> None:
    head = markup.join([markup.quiet(f"alert told {formats.day(alert.as_of)}, {alert.state}")])
    st.html(markup.block(head, drift_facts.cause_list(alert.causes)))
    with st.container(key=f"actions-{alert.id}"):
        st.page_link(shell.ALERTS, label="open the alert ▸", icon="", query_params=session.address(alert=alert.id))


# ── what it did to the scores ────────────────────────────────────────────────────────────────────────────────


def _score_drift(home: Home, asked: Asked) -> None:
    stored = watch_data.contribution_nights(home, asked.model)
    before = tuple(d for d in stored if d < asked.night)
    head = "Why the mean score moved"
    if asked.night not in stored or not before:
        note = "contributions of two nights are needed; `scoretrace monitor --as-of DATE` computes a night's"
        st.html(markup.block(markup.GAP, markup.heading(head), Html(markup.with_code(note))))
        return
    start = controls.day("since", before[-1])
    if start not in stored or start == asked.night:
        raise NotFound(
            f"no contributions of {asked.model} are stored for {formats.day(start)}",
            "choose another night to start from",
        )
    moved = watch_data.moved(home, asked.model, start, asked.night, asked.key)
    st.html(markup.block(markup.GAP, markup.heading(head, "exact in log-odds, on the sample")))
    controls.night("Since the night of", "since", tuple(d for d in stored if d != asked.night), start)
    if moved is None:
        st.html(markup.block(markup.quiet(f"No contributions are stored for {_segment_words(asked.key)}.")))
        return
    left, right = st.columns([13, 6], gap="medium")
    with left:
        st.plotly_chart(
            charts_drift.waterfall(moved), key="waterfall", alt=charts_drift.waterfall_words(moved), config=_STILL
        )
    with right:
        st.html(markup.block(_moved_words(moved.rows, charts_drift.waterfall_words(moved))))


def _moved_words(rows: tuple[int, int], words: str) -> Html:
    sample = (
        f"Contributions of {formats.count(rows[0])} and {formats.count(rows[1])} subjects, the same ones while they "
        "are scored: they add up to each score's log-odds without a remainder, and stand for the book as a sample does."
    )
    return Html(f"<p>{markup.html(words)}</p><p class='quiet'>{sample}</p>")


def _segment_words(key: tuple[str, str]) -> str:
    return f"{key[0]} {key[1]}" if key != WHOLE else "whole book"


if __name__ == "__main__":
    page()
