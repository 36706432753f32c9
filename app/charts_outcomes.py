"""Figures of outcomes, from stored facts. Pure: facts in, a figure or its words out; no Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import plotly.graph_objects as go

from app import formats, style
from pipeline.monitoring.outcome_reads import StoredBin, StoredGrade, StoredGroup, StoredPerformance, StoredVintage

FOUR_FIFTHS = 0.8


def came_true(
    x: Sequence[Any], rows: Sequence[StoredPerformance | StoredGrade], size: int, hover: str, **more: Any
) -> dict[str, Any]:
    """Points of what came true with their intervals, beside what was expected."""
    ends = [r.observed_rate for r in rows], [r.rate_low for r in rows], [r.rate_high for r in rows]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": x,
        "y": [r.observed_rate for r in rows],
        "name": "came true",
        "marker": {"color": style.ACCENT, "size": size},
        "hovertemplate": hover,
        "error_y": interval(*ends),
        **more,
    }


def reliability(bins: Sequence[StoredBin]) -> go.Figure:
    """Observed rate against mean PD by bin, with intervals; on the diagonal the PDs are right."""
    there = [b for b in bins if b.observed_rate is not None and b.n]
    top = max([b.mean_pd for b in there] + [b.rate_high or b.observed_rate or 0.0 for b in there] + [0.01]) * 1.05
    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [0, top],
            "y": [0, top],
            "hoverinfo": "skip",
            "line": {"color": style.MUTED, "width": 1, "dash": "dot"},
        },
        {
            "type": "scatter",
            "mode": "lines+markers",
            "x": [b.mean_pd for b in there],
            "y": [b.observed_rate for b in there],
            "error_y": interval(
                [b.observed_rate for b in there], [b.rate_low for b in there], [b.rate_high for b in there]
            ),
            "line": {"color": style.ACCENT, "width": 1},
            "marker": {"size": 6},
            "customdata": [[b.n, b.events] for b in there],
            "hovertemplate": "mean PD %{x:.2%}, %{y:.2%} came true; %{customdata[1]:,} events of "
            "%{customdata[0]:,}<extra></extra>",
        },
    ]
    return style.figure(
        300,
        traces,
        y_format=".0%",
        x_axis={
            "tickformat": ".0%",
            "range": [0, top],
            "title": {"text": "mean PD", "font": {"size": 11}},
            "fixedrange": True,
        },
        y_axis={"range": [0, top], "title": {"text": "came true", "font": {"size": 11}}, "fixedrange": True},
        hovermode="closest",
        margin={"l": 56, "r": 10, "t": 8, "b": 44},
    )


def reliability_words(bins: Sequence[StoredBin]) -> str:
    """How many bins hold their PD within the interval."""
    there = [b for b in bins if b.rate_low is not None and b.rate_high is not None]
    if not there:
        return "No bin has an observed rate yet."
    within = sum(
        b.rate_low <= b.mean_pd <= b.rate_high for b in there if b.rate_low is not None and b.rate_high is not None
    )
    return (
        f"Reliability curve: in {within} of {len(there)} bins the mean PD lies within the interval of what came true."
    )


def grades(rows: Sequence[StoredGrade]) -> go.Figure:
    """Expected beside observed rate by grade, with intervals, the safest first."""
    names = [r.grade for r in rows]
    there = [r for r in rows if r.observed_rate is not None]
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "x": names,
            "y": [r.mean_pd for r in rows],
            "name": "expected",
            "marker": {"color": style.MUTED, "opacity": 0.45},
            "hovertemplate": "grade %{x}: %{y:.2%} expected<extra></extra>",
        },
    ]
    if there:
        hover = "grade %{x}: %{y:.2%} came true<extra></extra>"
        traces.append(came_true([r.grade for r in there], there, 8, hover))
    return style.figure(
        300,
        traces,
        y_format=".0%",
        x_axis={"type": "category", "fixedrange": True},
        y_axis={"rangemode": "tozero", "fixedrange": True},
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "y": 1.1, "x": 0, "yanchor": "top"},
        margin={"l": 44, "r": 10, "t": 30, "b": 26},
    )


def grades_words(rows: Sequence[StoredGrade]) -> str:
    """Each grade's expected and observed rate as a sentence."""
    return (
        "By grade, expected and came true: "
        + "; ".join(f"{r.grade} {formats.probability(r.mean_pd)}, {formats.probability(r.observed_rate)}" for r in rows)
        + "."
    )


def vintage_grid(rows: Sequence[StoredVintage], most: int = 40) -> go.Figure:
    """Events to date as a share of the accounts opened, by vintage and months on book; one scale from faint to full."""
    born = sorted({r.vintage for r in rows})[-most:]
    ages = sorted({r.months_on_book for r in rows if r.vintage in born})
    at = {(r.vintage, r.months_on_book): r for r in rows}
    grid = [[at.get((v, m)) for m in ages] for v in born]
    trace = {
        "type": "heatmap",
        "x": ages,
        "y": [f"{v:%b %Y}" for v in born],
        "z": [[c.rate_to_date if c else None for c in line] for line in grid],
        "customdata": [[[c.events_to_date, c.accounts] if c else [0, 0] for c in line] for line in grid],
        "zmin": 0,
        "colorscale": [[0, "rgba(31, 111, 165, 0.05)"], [1, "rgba(31, 111, 165, 1)"]],
        "xgap": 1,
        "ygap": 1,
        "hoverongaps": False,
        "showscale": True,
        "colorbar": {"thickness": 8, "tickformat": ".0%", "len": 0.9, "outlinewidth": 0, "tickfont": {"size": 10}},
        "hovertemplate": "opened %{y}, month %{x}: %{z:.2%}, %{customdata[0]:,} events of "
        "%{customdata[1]:,}<extra></extra>",
    }
    return style.figure(
        60 + 16 * max(6, len(born)),
        [trace],
        y_format="",
        x_axis={
            "title": {"text": "months on book", "font": {"size": 11}},
            "tickformat": "d",
            "showline": False,
            "fixedrange": True,
        },
        y_axis={"type": "category", "autorange": "reversed", "showgrid": False, "fixedrange": True},
        hovermode="closest",
        margin={"l": 70, "r": 4, "t": 6, "b": 42},
    )


def vintage_words(rows: Sequence[StoredVintage]) -> str:
    """How far the curves go, and the worst of them."""
    last: dict[date, StoredVintage] = {r.vintage: r for r in rows}
    worst = max(last.values(), key=lambda r: r.rate_to_date)
    return (
        f"{formats.plural(len(last), 'vintage')} from {min(last):%b %Y} to {max(last):%b %Y}, followed through "
        f"{formats.day(rows[0].through)}; the highest rate to date is {formats.probability(worst.rate_to_date)}, of "
        f"the accounts opened in {worst.vintage:%B %Y}."
    )


def fairness(rows: Sequence[StoredGroup], bound: float = FOUR_FIFTHS) -> go.Figure:
    """Approval rate of each group over that of its reference, with the policy line; too small groups are left out."""
    there = [r for r in rows if r.ratio is not None]
    names = [f"{r.attribute} {r.group_name}" for r in there]
    under = [r.passes is False for r in there]
    trace = {
        "type": "scatter",
        "mode": "markers",
        "x": [r.ratio for r in there],
        "y": names,
        "marker": {
            "size": 9,
            "color": [style.RAISES if u else style.ACCENT for u in under],
            "symbol": ["x" if u else "circle" for u in under],
        },
        "customdata": [[r.rate, r.n] for r in there],
        "hovertemplate": "%{y}: ratio %{x:.2f}, %{customdata[0]:.1%} of %{customdata[1]:,} approved<extra></extra>",
    }
    low = min([r.ratio for r in there if r.ratio is not None] + [bound])
    high = max([r.ratio for r in there if r.ratio is not None] + [1.0])
    shapes = [
        {
            "type": "line",
            "yref": "paper",
            "y0": 0,
            "y1": 1,
            "x0": at,
            "x1": at,
            "line": {"color": colour, "width": 1, "dash": dash},
        }
        for at, colour, dash in ((bound, style.RAISES, "dash"), (1.0, style.MUTED, "dot"))
    ]
    return style.figure(
        60 + 22 * max(2, len(names)),
        [trace],
        y_format="",
        x_axis={
            "range": [low - 0.08, high + 0.08],
            "tickformat": ".2f",
            "showgrid": True,
            "gridcolor": style.RULE,
            "fixedrange": True,
        },
        y_axis={"type": "category", "autorange": "reversed", "fixedrange": True},
        shapes=shapes,
        annotations=[
            {
                "x": bound,
                "y": 1,
                "yref": "paper",
                "yanchor": "bottom",
                "showarrow": False,
                "text": f"policy {bound:g}",
                "font": {"size": 10},
            }
        ],
        hovermode="closest",
        margin={"l": min(220, 20 + 6.4 * max((len(n) for n in names), default=8)), "r": 8, "t": 20, "b": 26},
    )


def fairness_words(rows: Sequence[StoredGroup], bound: float = FOUR_FIFTHS) -> str:
    """Which groups fall under the line."""
    judged = [r for r in rows if r.passes is not None]
    under = ", ".join(f"{r.attribute} {r.group_name} {r.ratio:.2f}" for r in judged if not r.passes)
    passed = sum(bool(r.passes) for r in judged)
    return (
        f"Approval ratio to the reference group, policy line {bound:g}: {passed} of "
        f"{formats.plural(len(judged), 'judged group')} pass{f'; under it {under}' if under else ''}."
    )


def interval(
    values: Sequence[float | None], lows: Sequence[float | None], highs: Sequence[float | None], *, faint: bool = False
) -> dict[str, Any]:
    """Error bars from limits; none where a limit is missing."""
    ends = list(zip(values, lows, highs, strict=True))
    return {
        "type": "data",
        "symmetric": False,
        "thickness": 0.8 if faint else 1.3,
        "width": 3,
        "array": [h - v if v is not None and h is not None else 0 for v, _, h in ends],
        "arrayminus": [v - low if v is not None and low is not None else 0 for v, low, _ in ends],
    }
