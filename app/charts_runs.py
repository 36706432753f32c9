"""A run as bars on a time line: each attempt of each task. Pure: facts in, a figure or its words out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import plotly.graph_objects as go

from app import formats, style
from pipeline.ledger import TaskAttempt

_COLOUR = {"succeeded": style.ACCENT, "failed": style.RAISES, "abandoned": style.RAISES}


def timeline(started: datetime, attempts: Sequence[TaskAttempt]) -> go.Figure:
    """One row a task in the order it began, one bar an attempt, in seconds since the run began.

    An attempt that failed is hatched; one that still runs is drawn as a thin mark.
    """
    tasks = list(dict.fromkeys(a.task for a in attempts))
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": [a.task for a in attempts],
        "base": [(a.started_at - started).total_seconds() for a in attempts],
        "x": [max(a.seconds or 0.0, 0.05) for a in attempts],
        "marker": {
            "color": [_COLOUR.get(a.status, style.MUTED) for a in attempts],
            "pattern": {"shape": ["" if a.status == "succeeded" else "/" for a in attempts]},
        },
        "customdata": [[a.attempt, a.status, formats.duration(a.seconds)] for a in attempts],
        "hovertemplate": "%{y}, attempt %{customdata[0]}: %{customdata[1]}, %{customdata[2]}<extra></extra>",
    }
    last = {a.task: a for a in attempts}
    labels = [
        {
            "x": (a.started_at - started).total_seconds() + (a.seconds or 0.0),
            "y": task,
            "text": formats.duration(sum(t.seconds or 0.0 for t in attempts if t.task == task)),
            "showarrow": False,
            "xanchor": "left",
            "xshift": 5,
            "font": {"size": 11},
        }
        for task, a in last.items()
    ]
    end = max(((a.started_at - started).total_seconds() + (a.seconds or 0.0) for a in attempts), default=1.0)
    return style.figure(
        52 + 26 * len(tasks),
        [bars],
        y_format="",
        x_axis={"range": [0, end * 1.1 or 1], "tickformat": ",.0f", "title": {"text": "seconds", "standoff": 4}},
        y_axis={"autorange": "reversed", "showgrid": False, "automargin": True, "tickformat": None},
        annotations=labels,
        barmode="overlay",
        hovermode="closest",
        margin={"l": 10, "r": 10, "t": 4, "b": 34},
    )


def timeline_words(attempts: Sequence[TaskAttempt]) -> str:
    """The same as a sentence."""
    told = "; ".join(
        f"{a.task} attempt {a.attempt} {a.status}{'' if a.seconds is None else f' in {formats.duration(a.seconds)}'}"
        for a in attempts
    )
    return f"Attempts in the order they began: {told}." if told else "No task was attempted."
