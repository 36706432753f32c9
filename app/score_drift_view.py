"""Why the mean score moved between two nights, by feature."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from app import charts_drift, controls, drift_facts, exports, formats, markup, shell, watch_data
from app.drift_asked import Asked
from app.markup import Html
from app.session import Home
from pipeline.errors import NotFound
from pipeline.monitoring.score_drift import Moved

_STILL = {"displayModeBar": False}


def show(home: Home, asked: Asked, says: Mapping[str, str]) -> None:
    """The parts of the change as figure, table and words. says: feature → what it is. Raises NotFound."""
    stored = watch_data.contribution_nights(home, asked.model)
    before = tuple(d for d in stored if d < asked.night)
    head = "Why the mean score moved"
    if asked.night not in stored or not before:
        note = (
            f"Next: `scoretrace monitor --as-of {asked.night}` computes what each feature contributed that night."
            if asked.night not in stored
            else f"{formats.day(asked.night)} is the first night with contributions: a later one is compared with it."
        )
        st.html(markup.block(markup.GAP, markup.heading(head), Html(f"<p>{markup.with_code(note)}</p>")))
        return
    start = controls.day("since", before[-1])
    start = before[-1] if start == asked.night else start  # a night is not compared with itself
    if start not in before:
        raise NotFound(
            f"no contributions of {asked.model} are stored for {formats.day(start)}, before {formats.day(asked.night)}",
            f"choose one of: {', '.join(map(str, before[:-6:-1]))}{' …' if len(before) > 5 else ''}",
        )
    moved = watch_data.moved(home, asked.model, start, asked.night, asked.key)
    st.html(markup.block(markup.GAP, markup.heading(head, "exact in log-odds, on the sample")))
    controls.night("Since the night of", "since", before, start)
    if moved is None:
        st.html(markup.block(markup.quiet(f"No contributions are stored for {asked.part}.")))
        return
    if told := charts_drift.of_the_model(moved):
        st.html(markup.block(markup.alarm("watch", "not the same model on both nights", told)))
    left, right = st.columns([13, 6], gap="medium")
    with left:
        st.plotly_chart(
            charts_drift.waterfall(moved), key="waterfall", alt=charts_drift.waterfall_words(moved), config=_STILL
        )
        with st.expander("Every part as a table"):
            st.html(markup.block(drift_facts.moved_table(moved, says)))
    with right:
        st.html(markup.block(_moved_words(moved, asked.part, home.portfolio.monitoring.minimum_rows)))
        named = f"score-drift-{asked.model}-{moved.start}-{moved.end}"
        shell.csv_button(named, lambda: exports.as_csv(drift_facts.moved_rows(moved)))


def _moved_words(moved: Moved, part: str, least: int) -> Html:
    """The parts in words, and how far they can be trusted. part: of the book. least: subjects that a finding takes."""
    rows = moved.rows
    book = charts_drift.of_the_book(moved)
    standing = f"<p>{markup.html(book)}</p>" if book else ""
    if moved.mostly_noise:
        standing = markup.alarm("watch", "no cause can be read from it", book).text
    if min(rows) < least:
        of = part if moved.book is None else "the whole book"
        told = f"Of {of} the sample has fewer than {formats.count(least)} subjects on one of the nights."
        standing = markup.alarm("watch", "no cause can be read from it", told).text
    who = (
        "the same ones while they are scored"
        if moved.book is not None
        else "those that the segment had on either night: not the same ones where subjects come and go"
    )
    sample = (
        f"Contributions of {formats.count(rows[0])} and {formats.count(rows[1])} subjects, {who}. They add up to each "
        f"score's log-odds without a remainder, and stand for all of them as a sample does."
    )
    words = markup.html(charts_drift.waterfall_words(moved))
    return Html(f"<p>{words}</p>{standing}<p class='quiet'>{sample}</p>")
