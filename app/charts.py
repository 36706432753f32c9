"""Figures from small frames. Pure: a frame in, a figure or its words out; no Streamlit here.

Frames hold probabilities as shares (0.0342) and dates as datetimes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import formats, style
from pipeline.portfolio import Grade


def mean_by_night(summary: pd.DataFrame) -> pd.DataFrame:
    """as_of, mean_pd, model: one row a night, oldest first. summary: as_of, grade, accounts, pd_sum, model."""
    if summary.empty:
        return pd.DataFrame(columns=["as_of", "mean_pd", "model"])
    by_night = summary.groupby("as_of", as_index=False).agg(
        pd_sum=("pd_sum", "sum"), accounts=("accounts", "sum"), model=("model", "max")
    )
    by_night["mean_pd"] = by_night["pd_sum"] / by_night["accounts"]
    return by_night[["as_of", "mean_pd", "model"]]


def shares_by_night(summary: pd.DataFrame, grades: Sequence[str]) -> pd.DataFrame:
    """as_of, then the share of each grade: one row a night, oldest first."""
    counts = summary.pivot(index="as_of", columns="grade", values="accounts").reindex(columns=list(grades)).fillna(0)
    return counts.div(counts.sum(axis=1), axis=0).reset_index()


def mean_pd(nights: pd.DataFrame, since: date) -> go.Figure:
    """Mean PD of the book by night, a dotted line where another model version took over.

    nights: as_of, mean_pd, model; one row a night, oldest first. The axis starts at ``since``, however few there are.
    """
    hover = "%{y:.2%} · %{customdata}<extra></extra>"
    trace = style.line(nights["as_of"], nights["mean_pd"], hover=hover, said=nights["model"])
    shapes, annotations = _marks(nights)
    low, high = float(nights["mean_pd"].min()), float(nights["mean_pd"].max())
    room = max((high - low) * 0.15, high * 0.03)
    return style.figure(
        190,
        [trace],
        y_format=".2%",
        x_axis={"range": _span(nights, since)},
        y_axis={"range": [low - room, high + room], "nticks": 5},
        shapes=shapes,
        annotations=annotations,
    )


def mean_pd_words(nights: pd.DataFrame) -> str:
    """The same as a sentence."""
    if nights.empty:
        return "No nights to show."
    first, last = nights.iloc[0], nights.iloc[-1]
    return (
        f"Mean PD of the book over {formats.plural(len(nights), 'night')}: {formats.probability(first.mean_pd)} on "
        f"{formats.day(first.as_of)}, {formats.probability(last.mean_pd)} on {formats.day(last.as_of)}; lowest "
        f"{formats.probability(nights['mean_pd'].min())}, highest {formats.probability(nights['mean_pd'].max())}."
        f"{_changes_words(nights)}"
    )


def grade_shares(shares: pd.DataFrame, grades: Sequence[str], since: date) -> go.Figure:
    """Share of the book in each grade by night, stacked, the best grade at the bottom.

    shares: as_of, then one column a grade. The axis starts at ``since``, however few nights there are.
    """
    width = _bar_width(shares["as_of"], since)
    traces = [
        {
            "type": "bar",
            "width": width,
            "x": list(shares["as_of"]),
            "y": list(shares[grade]),
            "name": grade,
            "marker": {"color": colour, "line": {"width": 0}},
            "hovertemplate": f"{grade} %{{y:.1%}}<extra></extra>",
        }
        for grade, colour in zip(grades, style.risk_scale(len(grades)), strict=True)
    ]
    labels, top = [], 0.0
    for grade in grades if len(shares) else ():
        part = float(shares.iloc[-1][grade])
        if part >= 0.03:  # a thinner band has no room for its letter
            labels.append(style.beside(top + part / 2, grade))
        top += part
    return style.figure(
        190,
        traces,
        y_format=".0%",
        x_axis={"range": _span(shares, since)},
        y_axis={"range": [0, 1], "tickvals": [0, 0.5, 1], "showgrid": False},
        annotations=labels,
        barmode="stack",
        margin={"l": 40, "r": 30, "t": 10, "b": 26},
    )


def grade_shares_words(shares: pd.DataFrame, grades: Sequence[str]) -> str:
    """The last night's shares as a sentence."""
    if shares.empty:
        return "No nights to show."
    last = shares.iloc[-1]
    parts = ", ".join(f"{g} {formats.share(float(last[g]))}" for g in grades)
    return f"Shares of the book by grade on {formats.day(last['as_of'])}: {parts}."


def score_history(scores: pd.DataFrame, grades: Sequence[Grade]) -> go.Figure:
    """One subject's PD by night, the bounds of the grades behind it, a dotted line at each change of model.

    scores: as_of, pd, grade, points, model; oldest first.
    """
    low, high = float(scores["pd"].min()), float(scores["pd"].max())
    room = max((high - low) * 0.25, high * 0.12, 0.0005)
    bottom, top = max(0.0, low - room), min(1.0, high + room)
    shapes, annotations = _marks(scores)
    floor = 0.0
    for grade in grades:
        if floor < top and grade.pd_up_to > bottom:
            low_end, high_end = max(floor, bottom), min(grade.pd_up_to, top)
            if high_end - low_end >= 0.06 * (top - bottom):  # a thinner band has no room for its letter
                annotations.append(style.beside((low_end + high_end) / 2, grade.name, style.MUTED))
            if bottom < grade.pd_up_to < top:
                at = {"y0": grade.pd_up_to, "y1": grade.pd_up_to, "x0": 0, "x1": 1, "xref": "paper"}
                shapes.append({"type": "line", "line": {"color": style.RULE, "width": 1}, **at})
        floor = grade.pd_up_to
    hover = "%{y:.2%} · grade %{customdata[0]} · %{customdata[1]} points · %{customdata[2]}<extra></extra>"
    said = scores[["grade", "points", "model"]].to_numpy().tolist()
    return style.figure(
        230,
        [style.line(scores["as_of"], scores["pd"], hover=hover, said=said, size=5)],
        y_format=".2%",
        x_axis=style.nights(list(scores["as_of"])),
        y_axis={"range": [bottom, top], "showgrid": False},
        shapes=shapes,
        annotations=annotations,
        margin={"l": 40, "r": 30, "t": 10, "b": 26},
    )


def score_history_words(scores: pd.DataFrame) -> str:
    """The same as a sentence."""
    first, last = scores.iloc[0], scores.iloc[-1]
    return (
        f"PD over {formats.plural(len(scores), 'night')}: {formats.probability(first.pd)} (grade {first.grade}) on "
        f"{formats.day(first.as_of)}, {formats.probability(last.pd)} (grade {last.grade}) on "
        f"{formats.day(last.as_of)}; lowest {formats.probability(scores['pd'].min())}, highest "
        f"{formats.probability(scores['pd'].max())}.{_changes_words(scores)}"
    )


def model_changes(nights: pd.DataFrame) -> pd.DataFrame:
    """The rows at which ``model`` is another than in the row before."""
    before = nights["model"].shift()
    return nights[(nights["model"] != before) & before.notna()]


def _span(nights: pd.DataFrame, since: date) -> list[pd.Timestamp]:
    """The x axis from ``since`` to the last night, with room for half a bar at each end."""
    last = pd.Timestamp(nights["as_of"].max())
    room = pd.Timedelta(days=0.7) * max(1, round((last - pd.Timestamp(since)).days / 45))
    return [pd.Timestamp(since) - room, last + room]


def _bar_width(days: pd.Series, since: date) -> float:
    """Four fifths of the shortest step between nights, in milliseconds; a lone night gets that of a full span."""
    steps = days.diff().dropna()
    span = pd.Timestamp(days.max()) - pd.Timestamp(since)
    step = steps.min() if len(steps) else max(pd.Timedelta(days=1), span / 30)
    return float(step / pd.Timedelta(milliseconds=1)) * 0.8


def _marks(nights: pd.DataFrame) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """A dotted line before each night with another model, and the version beside it: (shapes, annotations)."""
    shapes: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for _, row in model_changes(nights).iterrows():
        at = row["as_of"] - pd.Timedelta(hours=12)
        dotted = {"color": style.MUTED, "width": 1, "dash": "dot"}
        shapes.append({"type": "line", "x0": at, "x1": at, "y0": 0, "y1": 1, "yref": "paper", "line": dotted})
        place = {"x": at, "y": 1, "yref": "paper", "yanchor": "top", "xanchor": "right", "xshift": -3}
        font = {"size": 10, "color": style.MUTED}
        annotations.append({"text": row["model"].split(" ")[-1], "showarrow": False, "font": font, **place})
    return shapes, annotations


def _changes_words(nights: pd.DataFrame) -> str:
    changes = [f"{row.model} from {formats.day(row.as_of)}" for row in model_changes(nights).itertuples()]
    return f" Model changes: {'; '.join(changes)}." if changes else ""
