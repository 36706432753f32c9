"""Outcomes by as-of month: AUC, KS, Brier score and calibration as the four panels of one figure. Pure.

One figure, because each chart of its own costs a page as much as all its words.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Any

import plotly.graph_objects as go

from app import formats, style
from app.charts_outcomes import came_true, interval
from pipeline.monitoring.outcome_reads import StoredPerformance

_FIGURES = (("auc", "AUC", ".3f"), ("ks", "KS", ".3f"), ("brier", "Brier score", ".4f"))
_CALIBRATION = "Calibration: ● came true, ─ mean PD"
_ACROSS = ((0.0, 0.455), (0.545, 1.0))
_UP = ((0.57, 0.955), (0.0, 0.385))


def by_month(rows: Sequence[StoredPerformance], holdout: Mapping[str, float]) -> go.Figure:
    """Each figure by month with its interval where one is stored; estimates hollow, matured filled.

    rows: one cohort a month and version, oldest first. holdout: figure → what the version reached when it was trained.
    """
    traces: list[dict[str, Any]] = []
    axes: dict[str, Any] = {}
    shapes, annotations = [], []
    for number in range(len(_FIGURES) + 1):
        across, up = _ACROSS[number % 2], _UP[number // 2]
        suffix = "" if number == 0 else str(number + 1)
        if number < len(_FIGURES):
            figure, title, written = _FIGURES[number]
            line = holdout.get(figure)
            panel, y_axis = _figure(rows, figure, written, line)
            if line is not None:
                shapes.append(_level(line, f"x{suffix} domain", f"y{suffix}"))
                label = style.beside(line, "holdout", style.MUTED)
                inside = {"xanchor": "right", "yanchor": "bottom", "xshift": 0}  # beside it the next panel begins
                annotations.append(
                    {**label, **inside, "xref": f"x{suffix} domain", "yref": f"y{suffix}", "font": {"size": 10}}
                )
        else:
            title, written = _CALIBRATION, ".1%"
            panel, y_axis = _calibration(rows)
        traces += [{**t, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}"} for t in panel]
        axes[f"xaxis{suffix}"] = {**style.X_AXIS, **_months(rows), "domain": across, "anchor": f"y{suffix}"}
        axes[f"yaxis{suffix}"] = {
            **style.Y_AXIS, "tickformat": written, "nticks": 5, "fixedrange": True, **y_axis, "domain": up,
            "anchor": f"x{suffix}",
        }  # fmt: skip
        annotations.append(_title(title, across[0], up[1]))
    return style.figure(
        430,
        traces,
        y_format="",
        shapes=shapes,
        annotations=annotations,
        hovermode="closest",
        margin={"l": 46, "r": 46, "t": 8, "b": 26},
        **axes,
    )


def words(rows: Sequence[StoredPerformance]) -> str:
    """The first and the last month of each figure as sentences."""
    figures = (*_FIGURES, ("observed_rate", "Observed rate", ".2%"))
    return " ".join(_words(rows, *figure) for figure in figures)


def _words(rows: Sequence[StoredPerformance], figure: str, name: str, written: str) -> str:
    there = [r for r in rows if getattr(r, figure) is not None]
    if not there:
        return f"{name}: no month has it yet."
    first, last = there[0], there[-1]
    estimates = sum(r.kind == "estimated" for r in there)
    return (
        f"{name} by as-of month: {_said(first, figure, written)}; {_said(last, figure, written)}; "
        f"{estimates} of {formats.plural(len(there), 'point')} estimated."
    )


def _said(row: StoredPerformance, figure: str, written: str) -> str:
    kind = ", estimated" if row.kind == "estimated" else ""
    return f"{getattr(row, figure):{written}} in {row.month:%B %Y}{kind}"


def _figure(
    rows: Sequence[StoredPerformance], figure: str, written: str, line: float | None
) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One figure's points, and an axis with room for them, their intervals and the line to compare with."""
    traces, shown = [], [] if line is None else [line]
    for kind in ("matured", "estimated"):
        if there := [r for r in rows if r.kind == kind and getattr(r, figure) is not None]:
            traces.append(_points(there, figure, written, kind))
    for row in rows:
        values = (getattr(row, name) for name in (figure, f"{figure}_low", f"{figure}_high"))
        shown += [v for v in values if v is not None]
    low, high = (min(shown), max(shown)) if shown else (0.0, 1.0)
    room = max((high - low) * 0.2, abs(high) * 0.03, 1e-4)
    return traces, {"range": [max(0.0, low - room), high + room]}


def _calibration(rows: Sequence[StoredPerformance]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The mean PD beside the rate that came true, with its interval; a line for each version and way of scoring."""
    lines: dict[tuple[int, str], list[StoredPerformance]] = {}
    for row in rows:
        lines.setdefault((row.model_version, row.origin), []).append(row)
    traces: list[dict[str, Any]] = [
        {
            **style.line(
                [r.month for r in line],
                [r.mean_pd for r in line],
                hover=f"%{{x|%b %Y}}, v{version} scored {origin}: mean PD %{{y:.2%}}<extra></extra>",
                said=[],
            ),
            "line": {"color": style.MUTED, "width": 1.2},
            "marker": {"size": 5, "color": style.MUTED, "symbol": "line-ew-open", "line": {"width": 2}},
        }
        for (version, origin), line in lines.items()
    ]
    if matured := [r for r in rows if r.observed_rate is not None]:
        hover = (
            "%{x|%b %Y}: %{y:.2%} came true, %{customdata[0]:,} events, %{customdata[1]:,.1f} expected<extra></extra>"
        )
        months, said = [r.month for r in matured], [[r.events, r.expected] for r in matured]
        traces.append(came_true(months, matured, 7, hover, customdata=said))
    tops = [v for r in rows for v in (r.mean_pd, r.observed_rate, r.rate_high) if v is not None]
    return traces, {"range": [0, 1.12 * max(tops, default=1.0)]}


def _points(rows: Sequence[StoredPerformance], figure: str, written: str, kind: str) -> dict[str, Any]:
    hollow = kind == "estimated"
    values, lows, highs = ([getattr(r, n) for r in rows] for n in (figure, f"{figure}_low", f"{figure}_high"))
    bars = {"error_y": interval(values, lows, highs, faint=hollow)} if any(v is not None for v in lows) else {}
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [r.month for r in rows],
        "y": values,
        **bars,
        "marker": {
            "size": 8,
            "color": style.MUTED if hollow else style.ACCENT,
            "symbol": "circle-open" if hollow else "circle",
        },
        "customdata": [[f"v{r.model_version}", r.kind, r.n, r.origin] for r in rows],
        "hovertemplate": f"%{{x|%b %Y}} %{{customdata[0]}}: %{{y:{written}}}, %{{customdata[1]}}, "
        "%{customdata[2]:,} rows, scored %{customdata[3]}<extra></extra>",
    }


def _months(rows: Sequence[StoredPerformance]) -> dict[str, Any]:
    months = sorted({r.month for r in rows})
    axis: dict[str, Any] = {"tickformat": "%b %y", "fixedrange": True, "nticks": 8}
    if 0 < len(months) <= 6:
        axis["tickvals"] = months
    if len(months) == 1:
        axis["range"] = [_shifted(months[0], -20), _shifted(months[0], 20)]
    return axis


def _shifted(day: date, days: int) -> date:
    return date.fromordinal(day.toordinal() + days)


def _level(value: float, across: str, up: str) -> dict[str, Any]:
    line = {"color": style.MUTED, "width": 1, "dash": "dot"}
    return {"type": "line", "xref": across, "yref": up, "x0": 0, "x1": 1, "y0": value, "y1": value, "line": line}


def _title(text: str, left: float, top: float) -> dict[str, Any]:
    return {
        "xref": "paper", "yref": "paper", "x": left, "y": top, "xanchor": "left", "yanchor": "bottom", "text": text,
        "showarrow": False, "font": {"size": 13}, "xshift": -40,
    }  # fmt: skip
