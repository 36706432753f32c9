"""Outcomes: was the model right?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import streamlit as st

from app import (
    charts_months,
    charts_outcomes,
    controls,
    exports,
    formats,
    markup,
    orders,
    outcome_facts,
    session,
    shell,
    watch_data,
)
from app.markup import Html
from app.session import Reader
from app.watch_data import Outcomes
from pipeline.errors import NotFound
from pipeline.governance import access
from pipeline.monitoring.outcome_reads import Holdout, StoredGroup, StoredPerformance

_STILL = {"displayModeBar": False}


def page() -> None:
    access.require(session.actor(), "drift.read")
    home = session.open_home()
    reader = session.reader(home)
    if reader is None:
        shell.nothing_published(home)
        return
    models = {m.name: m.name for m in home.portfolio.models}
    model = controls.one_of("model", models, "model of this lender")
    known = watch_data.outcomes(home, reader.as_of, model)
    st.html(
        markup.block(
            Html(f"<h1>Outcomes <span class='answer quiet'>was the model right? as known on "
                 f"{formats.day(reader.as_of)}</span></h1>")
        )
    )  # fmt: skip
    if not (known.performance or known.fairness or known.vintages):
        _nothing_stored(reader, models, model)
        return
    row = _controls(models, model, known.performance)
    if row is not None:
        holdout = next((h for h in reversed(known.holdout) if h.model_version == row.model_version), None)
        st.html(markup.block(outcome_facts.figures(row, holdout)))
        if note := outcome_facts.look_back(row, holdout):
            st.html(markup.block(note))
        _months(known, holdout)
        _foreseen(known)
        _one_month(known, row)
    else:
        told = f"No score of {model} that was published has rows to measure up to {formats.day(reader.as_of)}."
        st.html(markup.block(markup.alarm("none", "no month of scores is measured yet", told)))
    if known.vintages:
        _vintages(known)
    _fairness(known.fairness)


def _nothing_stored(reader: Reader, models: dict[str, str], model: str) -> None:
    if len(models) > 1:
        controls.select("Model", "model", models, model, 190)
    st.html(
        markup.block(
            markup.alarm(
                "none",
                f"no outcomes of {model} are stored up to {formats.day(reader.as_of)}",
                "A night's monitor task measures them: what came true, estimates for months that are not yet mature, "
                "fairness by group, vintages.",
                f"Next: run `scoretrace monitor --as-of {reader.as_of}` for a night that is published.",
            )
        )
    )


def _controls(models: dict[str, str], model: str, performance: Sequence[StoredPerformance]) -> StoredPerformance | None:
    """The model and the month of scores to look at: by default the newest that has matured, else the newest."""
    rows = {_cohort(r): r for r in _whole(performance)}
    newest = next((i for i, r in reversed(rows.items()) if r.kind == "matured"), next(reversed(rows), ""))
    asked = st.query_params.get("month", "")
    chosen = asked if asked in rows else newest
    with st.container(key="filters", horizontal=True, vertical_alignment="bottom", gap="small"):
        if len(models) > 1:
            controls.select("Model", "model", models, model, 190, clears=("month", "groups"))
        if rows:
            listed = {i: _name(r) for i, r in reversed(rows.items())}
            controls.select("Month of scores", "month", listed, chosen, 320, first=False)
    if asked and asked != chosen:
        raise NotFound(f"no month of scores {asked!r} is measured here", "choose one of the list above")
    return rows[chosen] if rows else None


def _whole(performance: Sequence[StoredPerformance]) -> list[StoredPerformance]:
    return [r for r in performance if r.segment == "all"]


def _cohort(row: StoredPerformance | StoredGroup) -> str:
    return f"{row.month:%Y-%m}-v{row.model_version}-{row.origin}"


def _cohort_words(row: StoredPerformance | StoredGroup) -> str:
    return f"{row.month:%b %Y}, v{row.model_version}, scored {row.origin}"


def _name(row: StoredPerformance) -> str:
    return f"{_cohort_words(row)}, {row.kind}"


def _months(known: Outcomes, holdout: Holdout | None) -> None:
    """The figures by as-of month, the holdout's as a line to compare with."""
    rows, reached = _whole(known.performance), holdout.metrics if holdout else {}
    note = "● matured, ○ estimated from the PDs alone; bars: 95% intervals"
    note += f"; dotted: the holdout of v{holdout.model_version}" if holdout else ""
    st.html(markup.block(markup.GAP, markup.heading("By as-of month", note)))
    st.plotly_chart(charts_months.by_month(rows, reached), key="by month", alt=charts_months.words(rows), config=_STILL)
    by = controls.order(outcome_facts.MONTH_ORDERS, "-month", outcome_facts.MONTHS_BY)
    asked = outcome_facts.MONTHS_BY in st.query_params
    fold = st.expander("All months as a table", expanded=asked, key="months-table", on_change="rerun")
    if not fold.open:
        return
    with fold:
        listed = orders.arranged(rows, by, outcome_facts.MONTH_ORDERS)
        table = outcome_facts.month_table(listed, "Outcomes by as-of month", by)
        shell.linked_table("months", Html(""), table, shell.OUTCOMES, by=outcome_facts.MONTHS_BY, pages=())
        shell.csv_button("outcomes", lambda: exports.as_csv(map(asdict, known.performance)))


def _foreseen(known: Outcomes) -> None:
    """What was estimated of a month before anybody could know, beside what then came true."""
    if not known.foreseen:
        return
    head = markup.heading("Estimated against realised", formats.plural(len(known.foreseen), "month that matured"))
    st.html(markup.block(markup.GAP, head, outcome_facts.foreseen_table(known.foreseen, "Estimates that matured")))


def _one_month(known: Outcomes, row: StoredPerformance) -> None:
    """One cohort: its reliability curve and its grades."""
    bins = [b for b in known.reliability if _same(b, row)]
    grades = [g for g in known.grades if _same(g, row)]
    with st.container(key="pair-month"):
        left, right = st.columns(2, gap="medium")
        with left:
            st.html(markup.block(markup.heading("Reliability", f"{_name(row)}; dotted: as it should be")))
            if any(b.observed_rate is not None for b in bins):
                words = charts_outcomes.reliability_words(bins)
                st.plotly_chart(charts_outcomes.reliability(bins), key="reliability", alt=words, config=_STILL)
                with st.expander("Its bins as a table"):
                    st.html(markup.block(outcome_facts.bin_table(bins, "Reliability by bin of PD")))
                    shell.csv_button(f"reliability-{_cohort(row)}", lambda: exports.as_csv(map(asdict, bins)))
            else:
                st.html(markup.block(markup.quiet(f"Not known before {formats.day(row.matures_on)}: until then nobody "
                                                  "can say what came true.")))  # fmt: skip
        with right:
            st.html(markup.block(markup.heading("Grades", f"{_name(row)}; bars: expected")))
            if grades:
                st.plotly_chart(charts_outcomes.grades(grades), key="grades", alt=charts_outcomes.grades_words(grades),
                                config=_STILL)  # fmt: skip
    if grades:
        note = "Jeffreys test of “the PD is not understated”, at 5%"
        table = outcome_facts.grade_table(grades, "Grades, observed against expected")
        st.html(markup.block(markup.heading("Observed against expected by grade", note), table))
        shell.csv_button(f"grades-{_cohort(row)}", lambda: exports.as_csv(map(asdict, grades)))
    if row.reversed_grades:
        pairs = ", ".join(f"{safer} above {riskier}" for safer, riskier in row.reversed_grades)
        st.html(markup.block(markup.status("watch", f"grades out of order beyond chance: {pairs}")))


def _same(part: object, row: StoredPerformance) -> bool:
    names = ("model_version", "month", "origin", "kind")
    return all(getattr(part, n) == getattr(row, n) for n in names)


def _fairness(groups: Sequence[StoredGroup]) -> None:
    st.html(markup.block(markup.GAP, markup.heading("Fairness by group", _fairness_note(groups))))
    if not groups:
        st.html(markup.block(markup.quiet("No protected attribute is stored for this model's subjects.")))
        return
    newest_first = sorted(groups, key=lambda g: (g.month, g.model_version, g.origin), reverse=True)
    cohorts = {_cohort(g): _cohort_words(g) for g in newest_first}
    asked = st.query_params.get("groups", "")
    chosen = asked if asked in cohorts else next(iter(cohorts))
    if len(cohorts) > 1:
        controls.select("Scores of", "groups", cohorts, chosen, 260)
    else:
        st.html(markup.block(markup.quiet(cohorts[chosen])))
    if asked and asked != chosen:
        raise NotFound(f"no fairness of {asked!r} is measured here", "choose one of the list above")
    shown = [g for g in groups if _cohort(g) == chosen]
    table = outcome_facts.group_table(shown, "Fairness by group")
    if any(g.ratio is not None for g in shown):
        with st.container(key="pair-fair"):
            left, right = st.columns([9, 11], gap="medium")
            with left:
                words = charts_outcomes.fairness_words(shown)
                st.plotly_chart(charts_outcomes.fairness(shown), key="fairness", alt=words, config=_STILL)
            right.html(markup.block(table))
    else:
        st.html(markup.block(table))
    shell.csv_button("fairness", lambda: exports.as_csv(map(asdict, groups)))


def _fairness_note(groups: Sequence[StoredGroup]) -> str:
    cut = next((g.cut_off for g in groups if g.cut_off is not None), None)
    if not groups:
        return "none stored"
    if cut is None:
        return "mean points alone: nothing is approved or refused until the model has a cutoff_pd in portfolio.yml"
    return f"approved: PD up to {formats.probability(cut)}; ratio to the reference group, four-fifths line at 0.8"


def _vintages(known: Outcomes) -> None:
    note = (
        "events to date of the accounts opened in a month, whichever model scored them, followed through "
        f"{formats.day(known.vintages[0].through)}"
    )
    st.html(markup.block(markup.GAP, markup.heading("Vintages by months on book", note)))
    words = charts_outcomes.vintage_words(known.vintages)
    st.plotly_chart(charts_outcomes.vintage_grid(known.vintages), key="vintages", alt=words, config=_STILL)
    fold = st.expander("As a table", key="vintages-table", on_change="rerun")
    if not fold.open:
        return
    with fold:
        st.html(markup.block(outcome_facts.vintage_table(known.vintages, "Rate to date by months on book")))
        shell.csv_button("vintages", lambda: exports.as_csv(map(asdict, known.vintages)))


if __name__ == "__main__":
    page()
