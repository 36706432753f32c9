"""One score's contributions as a waterfall in log-odds. Pure: facts in, a figure or its words out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import plotly.graph_objects as go

from app import formats, style

STRONGEST = 12


@dataclass(frozen=True)
class Step:
    """One bar: a name and what it adds to the log-odds."""

    name: str
    adds: float


def steps(parts: Sequence[tuple[str, float]], most: int = STRONGEST) -> tuple[Step, ...]:
    """The strongest parts, in the order given, and the rest as one; parts that add nothing are left out."""
    moving = [Step(name, adds) for name, adds in parts if adds]
    shown, rest = moving[:most], moving[most:]
    if rest:
        shown.append(Step(f"{len(rest)} others", sum(s.adds for s in rest)))
    return tuple(shown)


def waterfall(base: float, parts: Sequence[Step], total: float) -> go.Figure:
    """From the base rate's log-odds to the score's, a bar a feature: right raises risk, left lowers it."""
    names = ["base rate", *(s.name for s in parts), "score"]
    values = [base, *(s.adds for s in parts), total]
    levels = [0.0, base]
    for step in parts:
        levels.append(levels[-1] + step.adds)
    # The bars of a log-odds start far from 0: the axis shows where they move, and the two totals reach its edge.
    low, high = min(*levels[1:], total), max(*levels[1:], total)
    room = max((high - low) * 0.22, 0.05)
    edge = low - room
    colours = [style.MUTED, *(style.RAISES if s.adds > 0 else style.LOWERS for s in parts), style.MUTED]
    starts = [edge, *levels[1:-1], edge]
    widths = [base - edge, *(s.adds for s in parts), total - edge]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": names,
        "base": starts,
        "x": widths,
        "marker": {"color": colours},
        "customdata": [formats.signed(v, 4) for v in values],
        "hovertemplate": "%{y}: %{customdata} log-odds<extra></extra>",
    }
    labels = [
        {
            "x": max(start, start + width),
            "y": name,
            "text": formats.signed(value),
            "showarrow": False,
            "xanchor": "left",
            "xshift": 4,
            "font": {"size": 11},
        }
        for name, start, width, value in zip(names, starts, widths, values, strict=True)
    ]
    return style.figure(
        52 + 24 * len(names),
        [bars],
        y_format="",
        x_axis={"range": [edge, high + room], "tickformat": ".1f", "title": {"text": "log-odds", "standoff": 8}},
        y_axis={"autorange": "reversed", "showgrid": False, "automargin": True, "tickformat": None},
        annotations=labels,
        hovermode="closest",
        margin={"l": 10, "r": 10, "t": 4, "b": 40},
    )


def waterfall_words(base: float, parts: Sequence[Step], total: float) -> str:
    """The same as a sentence."""
    told = ", ".join(f"{s.name} {formats.signed(s.adds)}" for s in parts)
    return f"Log-odds from the base rate {formats.signed(base)} to the score {formats.signed(total)}: {told}."
