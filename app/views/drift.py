"""Drift: what moved, does it matter, where did it come from?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

import streamlit as st

from app import (
    charts_drift,
    controls,
    drift_facts,
    drift_feature_view,
    explanations,
    exports,
    formats,
    markup,
    night_facts,
    orders,
    score_drift_view,
    session,
    shell,
    style,
    watch_data,
)
from app.drift_asked import CAUSES, Asked, asked_for
from app.markup import Html
from app.session import Home
from pipeline import ledger
from pipeline.errors import NotFound
from pipeline.governance import access
from pipeline.monitoring.alert_rules import DRIFT
from pipeline.monitoring.alerts import open_alerts
from pipeline.monitoring.drift import Drift
from pipeline.monitoring.segments import SCORE

SHOWN_FEATURES, BESIDE_ONE = 20, 8  # rows of the heatmap; fewer above a feature that is open, which is the answer
_STILL = {"displayModeBar": False}


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
        _nothing_stored(home, reader.as_of)
        return
    st.html(markup.block(markup.title("Drift", "what moved, does it matter, where did it come from")))
    asked = asked_for(home, stored, reader.as_of)
    if asked.night < reader.as_of and not {"night", "to"} & set(st.query_params):
        title = f"no drift of {formats.day(reader.as_of)} is stored here"
        told = f"{_why_unstored(home, reader.as_of)} What follows is {formats.day(asked.night)}."
        st.html(markup.block(markup.alarm("watch", title, told)))
    rows = watch_data.history(home, asked.nights[0], asked.nights[-1], asked.model, asked.version, asked.key)
    tonight = [d for d in rows if d.as_of == asked.night]
    if not rows:
        raise NotFound(
            f"no drift of {asked.model} is stored for {asked.part} between "
            f"{formats.day(asked.nights[0])} and {formats.day(asked.nights[-1])}",
            "choose another segment, other nights or another baseline",
        )
    if asked.feature and asked.feature not in {d.feature for d in rows}:
        raise NotFound(
            f"{asked.model} has no feature {asked.feature!r}", "go back to Drift and choose one in its list of features"
        )
    says = _definitions(home, asked)
    _heatmap(home, asked, rows, tonight, says)
    if asked.feature:
        found = next((d for d in tonight if d.feature == asked.feature), None)
        if found is None:
            raise NotFound(
                f"no drift of {asked.feature} is stored for {formats.day(asked.night)}", "choose another night"
            )
        drift_feature_view.show(home, asked, found, rows, says.get(asked.feature, ""))
    score_drift_view.show(home, asked, says)


def _why_unstored(home: Home, as_of: date) -> str:
    """Why a published night has no drift, as its monitor left it on record; a sentence."""
    monitor = ledger.last_attempt(home.engine, "monitor", as_of)
    if unwatched := night_facts.not_watched(monitor):
        why = monitor.error.partition("\n")[0] if monitor and monitor.error else ""
        return f"The night is {unwatched}{f' ({why})' if why else ''}."
    without = (monitor.detail or {}).get("without_baseline", ()) if monitor else ()
    return f"Its monitor said: {'; '.join(without)}." if without else "Nothing of it is stored against this baseline."


def _nothing_stored(home: Home, as_of: date) -> None:
    st.html(
        markup.block(
            markup.alarm(
                "none",
                f"no drift is stored up to {formats.day(as_of)}",
                "A night's monitor task counts its features against the training set of the model that scored it. "
                + _why_unstored(home, as_of),
                f"Next: run `scoretrace monitor --as-of {as_of}` for a night that is published.",
            )
        )
    )


# ── what moved ───────────────────────────────────────────────────────────────────────────────────────────────


def _definitions(home: Home, asked: Asked) -> Mapping[str, str]:
    """Feature → what the project said of it that night."""
    published = ledger.publication_for(home.engine, asked.night)
    if published is None:
        return {}
    return explanations.meanings(home, published.run_id, f"features.{asked.subject}_features")


def _heatmap(
    home: Home, asked: Asked, rows: Sequence[Drift], tonight: Sequence[Drift], says: Mapping[str, str]
) -> None:
    policy = home.portfolio.monitoring
    bands = (policy.moderate, policy.high)
    cells = drift_facts.frame(rows, policy.minimum_rows)
    order = drift_facts.ordered(cells, st.query_params.get("order", ""))
    every = st.query_params.get("all") == "1"
    features = order if every else order[: BESIDE_ONE if asked.feature else SHOWN_FEATURES]
    of_features = [d for d in tonight if d.feature != SCORE]
    far = drift_facts.drifted(of_features, policy)
    # What the head counts is in the picture, whatever its importance, unless one feature is what is looked at.
    drawn = {*features, asked.feature} if asked.feature else {*features, *(d.feature for d in far)}
    features = [f for f in order if f in drawn]
    versions = sorted({d.version for d in tonight})
    against = f"training set of {', '.join(f'v{v}' for v in versions)}"
    said = (
        markup.status(
            "stop" if any((d.psi or 0) >= policy.high for d in far) else "watch" if far else "ok",
            f"{len(far)} of {len(of_features)} features drifted",
        )
        if of_features
        else markup.status("none", "nothing stored")
    )
    note = markup.join(
        [
            f"{formats.day(asked.night)}, {asked.part}, against the {against}",
            said,
            f"PSI {policy.moderate:g} moderate, {policy.high:g} high; hatched: chance or too few rows",
        ]
    )
    st.html(markup.block(markup.heading("PSI by feature and night", note)))
    standing = [a for a in open_alerts(home.engine) if a.kind == DRIFT and asked.model in a.id]
    if told := [a for a in standing if a.since <= asked.night]:
        label = f"{formats.plural(len(told), 'alert')} of drift open, of the book or a segment ▸"
        with st.container(key="actions-alerts"):
            st.page_link(shell.ALERTS, label=label, query_params=session.address(), icon="")
    ink = style.ink(str(st.context.theme.type))
    figure = charts_drift.heatmap(cells, features, asked.nights, bands, asked.feature, ink)
    words = charts_drift.heatmap_words(cells, asked.night, bands)
    key = f"heatmap@{st.query_params.to_dict()}"

    def open_cell() -> None:
        points = st.session_state[key].selection.points
        if points and (said := points[0].get("customdata")):
            night = said[1] if said[1] != asked.nights[-1].isoformat() else ""
            controls.new_list(feature=said[0], night=night, **{CAUSES: ""})

    st.plotly_chart(figure, key=key, alt=words, config=_STILL, on_select=open_cell, selection_mode="points")
    with st.container(key="actions-under", horizontal=True, vertical_alignment="bottom", gap="small"):
        names = {"": "choose a feature"} | {d: d for d in order}
        controls.select("Feature", "feature", names, asked.feature, 320, clears=(CAUSES,))
        controls.night("Night", "night", asked.nights, asked.night, clears=(CAUSES,))
        if len(order) > SHOWN_FEATURES:
            label = f"the first {SHOWN_FEATURES} only" if every else f"all {sum(f != SCORE for f in order)} features"
            st.page_link(shell.DRIFT, label=label, icon="", query_params=controls.query(all="" if every else "1"))
    keys = drift_facts.figure_orders(policy.minimum_rows)
    by = controls.order(keys, "", drift_facts.TABLE_BY)
    # Two thousand cells that few ask for: they are written once somebody opens them.
    fold = st.expander("The heatmap as tables", expanded=bool(by), key="heatmap-tables", on_change="rerun")
    if not fold.open:
        return
    with fold:
        by_name = {d.feature: d for d in tonight}
        listed = [by_name[f] for f in order if f in by_name]
        if by:
            listed = orders.arranged(listed, by, keys)
        caption = f"Drift of {formats.day(asked.night)}"
        table = drift_facts.night_table(listed, caption, policy.minimum_rows, says, by)
        shell.linked_table("night", Html(""), table, shell.DRIFT, by=drift_facts.TABLE_BY, pages=())
        st.html(markup.block(drift_facts.heat_table(cells, features, asked.nights)))
        name = f"drift-{asked.model}-{asked.nights[0]}-{asked.nights[-1]}"
        shell.csv_button(name, lambda: exports.as_csv(map(Drift.as_dict, rows)))


if __name__ == "__main__":
    page()
