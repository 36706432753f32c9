"""Colours and figure defaults: the one place that decides how a chart looks in light and dark."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, timedelta
from itertools import pairwise, zip_longest
from typing import Any

import plotly.graph_objects as go

from app import formats

# Okabe and Ito (2008), readable with any colour vision and on both backgrounds.
CATEGORIES = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
ACCENT = "#3A86B8"
RAISES = "#B5442E"
LOWERS = "#2B6CA3"
MUTED = "#7C858D"
RULE = "rgba(124, 133, 141, 0.28)"
_INK = {"light": "#1a1f24", "dark": "#e3e7eb"}  # the text colours of the themes
# Grades are ordered: one scale from pale to deep, low risk to high, its middle legible on both backgrounds.
_RISK = ("#C9DCE8", "#A3C4DA", "#7BA9C9", "#E5BE8A", "#D6935A", "#BF6140", "#8F3029")

_LONGEST_LINE = 45  # days

_AXIS: dict[str, Any] = {"zeroline": False, "ticklen": 3, "tickcolor": RULE}
X_AXIS: dict[str, Any] = {**_AXIS, "showgrid": False, "showline": True, "linecolor": RULE, "ticks": "outside"}
Y_AXIS: dict[str, Any] = {**_AXIS, "showgrid": True, "gridcolor": RULE, "gridwidth": 1, "ticks": ""}


def ink(scheme: str) -> str:
    """The colour of text in a figure, for text whose ground the figure colours itself. scheme: light or dark."""
    return _INK.get(scheme, _INK["light"])


def risk_scale(steps: int) -> list[str]:
    """``steps`` colours from low to high risk."""
    if steps <= 1:
        return [_RISK[0]]
    return [_RISK[round(i * (len(_RISK) - 1) / (steps - 1))] for i in range(steps)]


def figure(
    height: int,
    traces: Sequence[dict[str, Any]],
    *,
    y_format: str,
    x_axis: dict[str, Any] | None = None,
    y_axis: dict[str, Any] | None = None,
    annotations: Sequence[dict[str, Any]] = (),
    shapes: Sequence[dict[str, Any]] = (),
    **layout: Any,
) -> go.Figure:
    """A figure in the house style: no frame, thin rules, tabular ticks.

    It is made in one call: plotly checks each later change of a figure again, which costs more than the page.
    """
    return go.Figure(
        list(traces),
        {
            "height": height,
            "margin": {"l": 40, "r": 10, "t": 10, "b": 26},
            "paper_bgcolor": "rgba(0,0,0,0)",
            "plot_bgcolor": "rgba(0,0,0,0)",
            "font": {"size": 11},
            "separators": f".{formats.THIN}",
            "hovermode": "x unified",
            "showlegend": False,
            "bargap": 0.2,
            "xaxis": {**X_AXIS, "tickformat": "%-d %b", **(x_axis or {})},
            "yaxis": {**Y_AXIS, "tickformat": y_format, **(y_axis or {})},
            "annotations": list(annotations),
            "shapes": list(shapes),
            **layout,
        },
    )


def nights(days: Sequence[date], ticks: int = 8) -> dict[str, Any]:
    """An axis of nights. Of a few, each is named once: Plotly would divide the days into hours of the same name. Over
    more than half a year, months with their years. A long time without a night takes no room. days: in order."""
    hidden = [(a + timedelta(days=1), b - timedelta(days=1)) for a, b in _apart(days)]
    span = (days[-1] - days[0]).days - sum((b - a).days for a, b in hidden) if len(days) else ticks + 1
    several = len({d.year for d in days}) > 1
    axis: dict[str, Any] = {"dtick": 86_400_000} if span <= ticks else {"nticks": ticks}
    if hidden:
        axis["rangebreaks"] = [{"bounds": [f"{a:%Y-%m-%d}", f"{b:%Y-%m-%d}"]} for a, b in hidden]
    if span > 180:
        axis["tickformat"] = "%b %Y"
    elif several:
        axis["tickformat"] = "%-d %b %Y"
    return axis


def gaps(days: Sequence[date]) -> list[date]:
    """For each longer time without a night, its first day. days: in order."""
    return [a + timedelta(days=1) for a, _ in _apart(days)]


def _apart(days: Sequence[date]) -> list[tuple[date, date]]:
    """Nights that follow each other with more than ``_LONGEST_LINE`` between them."""
    return [(a, b) for a, b in pairwise(days) if (b - a).days > _LONGEST_LINE]


def line(x: Sequence[date], y: Sequence[float], *, hover: str, said: Sequence[Any], size: int = 4) -> dict[str, Any]:
    """The one line of a chart, with its points; ``said`` is what the hover text may name as customdata. From month to
    month it is drawn, but over no longer time without a night."""
    points: list[tuple[date, float | None, Any]] = []
    for at, value, words in zip_longest(x, y, said):
        if points and (at - points[-1][0]).days > _LONGEST_LINE:
            points.append((at, None, words))
        points.append((at, value, words))
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "x": [p[0] for p in points],
        "y": [p[1] for p in points],
        "customdata": [p[2] for p in points] if len(said) else [],
        "line": {"color": ACCENT, "width": 1.8},
        "marker": {"size": size},
        "hovertemplate": hover,
    }


def beside(y: float, text: str, colour: str | None = None) -> dict[str, Any]:
    """A label at the right edge, level with ``y``."""
    font = {"size": 11, **({"color": colour} if colour else {})}
    return {
        "x": 1,
        "xref": "paper",
        "xanchor": "left",
        "xshift": 6,
        "y": y,
        "text": text,
        "showarrow": False,
        "font": font,
    }
