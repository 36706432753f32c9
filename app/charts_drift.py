"""Figures of drift, from small frames. Pure: a frame in, a figure or its words out; no Streamlit here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from html import escape
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from app import formats, style
from pipeline.monitoring.score_drift import BASE, Moved
from pipeline.monitoring.stability import SHARE_FLOOR

ROW_HEIGHT = 21
MOST_PARTS = 12
_CLEAR: dict[str, object] = {"symbol": "square", "color": "rgba(0,0,0,0)", "line": {"width": 0}}
_HATCHED: dict[str, object] = {"symbol": "line-ne-open", "line": {"width": 1}}


def heatmap(
    cells: pd.DataFrame,
    features: Sequence[str],
    nights: Sequence[date],
    bands: tuple[float, float],
    chosen: str = "",
    ink: str = "#1a1f24",
) -> go.Figure:
    """PSI of feature × night: one scale with a step at each band, hatched where chance alone could have done it.

    cells: feature, as_of, psi, critical, significant, n; a night that is not stored is a gap. features: from the top
    down. bands: PSI from which on a feature has drifted, and has drifted much. Each cell's customdata is
    [feature, night], for whoever clicks it. ink: the colour of the page's text.
    """
    moderate, high = bands
    top = high * 1.6
    empty = style.gaps(nights)  # a year without a night is a column of nothing, so that its ends are no neighbours
    places = sorted([*nights, *empty])
    days = [d.isoformat() for d in places]
    # What chance alone could have done stays pale, however large: colour is for findings.
    depth = cells["psi"].where(cells["significant"].astype(bool), cells["psi"].clip(upper=moderate * 0.99))
    grid = (
        cells.assign(depth=depth)
        .pivot(index="feature", columns="as_of", values="depth")
        .reindex(index=list(features), columns=places)
    )
    values = [[None if math.isnan(v) else min(v, top) for v in row] for row in grid.to_numpy().tolist()]
    shown = cells[cells["feature"].isin(features) & cells["psi"].notna()]
    sure = shown["significant"].astype(bool)
    written, far = sure & (shown["psi"] >= moderate), sure & (shown["psi"] >= high)
    # One trace of a kind: plotly looks at each entry of a list of symbols or colours, and draws each empty text.
    kinds = (
        (~sure, {**_HATCHED, "color": style.MUTED}, None),
        (sure & ~written, _CLEAR, None),
        (written & ~far, _CLEAR, ink),
        (far, _CLEAR, "#ffffff"),
    )
    traces = [
        {
            "type": "heatmap",
            "x": days,
            "y": [_text(f) for f in features],
            "z": values,
            "zmin": 0,
            "zmax": top,
            "colorscale": _steps(moderate / top, high / top),
            "showscale": False,
            "xgap": 1,
            "ygap": 1,
            "hoverinfo": "skip",
        },
        # Plotly does not tell which cell of a heatmap was clicked: a point on each one does, and carries its words.
        *(_marks(shown[mask], marker, written_in) for mask, marker, written_in in kinds if mask.any()),
    ]
    named = nights[::-1][:: max(1, math.ceil(len(days) / 16))][::-1]
    ticks = dict(zip(named, formats.heads(named), strict=True)) | dict.fromkeys(empty, "⋯")
    longest = max((len(f) for f in features), default=10)
    frames = []
    if chosen in features:
        at = list(features).index(chosen)
        frames = [
            {
                "type": "rect",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": at - 0.5,
                "y1": at + 0.5,
                "line": {"color": style.ACCENT, "width": 1.5},
            }
        ]
    return style.figure(
        46 + ROW_HEIGHT * len(features),
        traces,
        y_format="",
        x_axis={
            "type": "category",
            "range": [-0.5, len(days) - 0.5],
            "side": "top",
            "tickvals": [d.isoformat() for d in ticks],
            "showline": False,
            "ticks": "",
            "fixedrange": True,
            "ticktext": list(ticks.values()),
        },
        y_axis={
            "type": "category",
            "range": [len(features) - 0.5, -0.5],
            "showgrid": False,
            "fixedrange": True,
            "tickfont": {"size": 11},
        },
        shapes=frames,
        hovermode="closest",
        hoverdistance=-1,  # a click anywhere in a cell is one on its middle
        dragmode=False,
        clickmode="event+select",
        margin={"l": min(290, 14 + 6.4 * longest), "r": 4, "t": 26, "b": 6},
    )


def heatmap_words(cells: pd.DataFrame, night: date, bands: tuple[float, float]) -> str:
    """The last night of the heatmap as a sentence."""
    last = cells[(cells["as_of"] == night) & cells["psi"].notna()].sort_values("psi", ascending=False)
    if last.empty:
        return f"No PSI is stored for {formats.day(night)}."
    far = last[(last["psi"] >= bands[0]) & last["significant"]]
    named = ", ".join(f"{r.feature} {r.psi:.3f}" for r in far.head(5).itertuples())
    worst = last.iloc[0]
    return (
        f"PSI of {formats.plural(len(last), 'feature')} on {formats.day(night)}: {len(far)} drifted by {bands[0]:g} or "
        f"more and beyond chance{f': {named}' if named else ''}; the largest is {worst['feature']} {worst['psi']:.3f}."
    )


def bin_terms(baseline: Sequence[int], night: Sequence[int]) -> list[float]:
    """What each bin adds to the PSI, with the floor that the stored figure has; NaN where a side is empty."""
    n, m = sum(baseline), sum(night)
    if not n or not m:
        return [math.nan] * len(night)
    shares = [(max(e / n, SHARE_FLOOR), max(a / m, SHARE_FLOOR)) for e, a in zip(baseline, night, strict=True)]
    return [(a - e) * math.log(a / e) for e, a in shares]


def distribution(
    labels: Sequence[str], baseline: Sequence[int], night: Sequence[int], names: tuple[str, str]
) -> go.Figure:
    """Shares by bin of the baseline beside those of the night, above each pair what it adds to the PSI."""
    n, m = sum(baseline) or 1, sum(night) or 1
    sides = [[rows / n for rows in baseline], [rows / m for rows in night]]
    terms = bin_terms(baseline, night)
    said = [f"{t:.3f}" if not math.isnan(t) and abs(t) >= 0.0005 else "" for t in terms]
    at = list(range(len(labels)))
    traces: list[dict[str, Any]] = [
        {
            "type": "bar",
            "x": at,
            "y": share,
            "name": name,
            "marker": {"color": colour},
            "customdata": [
                [label, rows, formats.decimal(t, 4)] for label, rows, t in zip(labels, counts, terms, strict=True)
            ],
            "hovertemplate": "%{customdata[0]}: %{y:.2%}, %{customdata[1]:,} rows; term %{customdata[2]}"
            f"<extra>{name}</extra>",
        }
        for share, name, colour, counts in zip(
            sides, names, (style.MUTED, style.ACCENT), (baseline, night), strict=True
        )
    ]
    traces.append(
        {
            "type": "scatter",
            "mode": "text",
            "x": at,
            "y": [max(pair) for pair in zip(*sides, strict=True)],
            "text": said,
            "textposition": "top center",
            "textfont": {"size": 10},
            "hoverinfo": "skip",
            "showlegend": False,
            "cliponaxis": False,
        }
    )
    return style.figure(
        282,
        traces,
        y_format=".0%",
        x_axis={"tickvals": at, "ticktext": [_short(label) for label in labels], "tickangle": -32, "fixedrange": True},
        y_axis={"rangemode": "tozero", "fixedrange": True, "nticks": 5},
        barmode="group",
        bargap=0.25,
        hovermode="closest",
        showlegend=True,
        legend={"orientation": "h", "y": 1.16, "x": 0, "yanchor": "top"},
        margin={"l": 40, "r": 4, "t": 34, "b": 84},
    )


def distribution_words(labels: Sequence[str], baseline: Sequence[int], night: Sequence[int]) -> str:
    """The bin that moved the PSI most, as a sentence."""
    terms = [0.0 if math.isnan(t) else t for t in bin_terms(baseline, night)]
    worst = max(range(len(terms)), key=terms.__getitem__)
    before, after = (rows[worst] / (sum(rows) or 1) for rows in (baseline, night))
    return (
        f"{len(labels)} bins, the last of missing values. The bin {labels[worst]} adds most: {formats.share(before)} "
        f"of the rows before, {formats.share(after)} now, {terms[worst]:.3f} of a PSI of {sum(terms):.3f}."
    )


def by_night(nights: pd.DataFrame, column: str, y_format: str, bounds: Sequence[float] = ()) -> go.Figure:
    """One figure of one feature by night, with dotted lines at ``bounds``. nights: as_of and the column."""
    there = nights[nights[column].notna()]
    least = 0.01 if "%" in y_format else 1e-4  # an axis of nothing has marks that differ
    hover = f"%{{y:{y_format}}}<extra></extra>"
    top = max([float(there[column].max()) * 1.15 if len(there) else 0.0, *(b * 1.15 for b in bounds), least])
    lines = [
        {
            "type": "line",
            "xref": "paper",
            "x0": 0,
            "x1": 1,
            "y0": b,
            "y1": b,
            "line": {"color": style.MUTED, "width": 1, "dash": "dot"},
        }
        for b in bounds
    ]
    beside = _beside_bounds(bounds, 0.12 * top)
    return style.figure(
        150,
        [style.line(there["as_of"], there[column], hover=hover, said=[])],
        y_format=y_format,
        x_axis={**style.nights(list(there["as_of"]), 6), "fixedrange": True},
        y_axis={"range": [0, top], "nticks": 4, "fixedrange": True},
        shapes=lines,
        annotations=[style.beside(at, words, style.MUTED) for at, words in beside],
        margin={"l": 44, "r": 60 if any("," in words for _, words in beside) else 36, "t": 8, "b": 24},
    )


def _beside_bounds(bounds: Sequence[float], room: float) -> list[tuple[float, str]]:
    """Each bound's words and height; of those that would be written over each other, one line with both."""
    found: list[tuple[float, str]] = []
    for b in bounds:
        if found and b - found[-1][0] <= room:
            _, words = found.pop()
            found.append((b, f"{words}, {b:g}"))
        else:
            found.append((b, f"{b:g}"))
    return found


def by_night_words(nights: pd.DataFrame, column: str, name: str, written: str) -> str:
    """The same as a sentence; ``written`` is a format such as ``.1%``."""
    there = nights[nights[column].notna()]
    if there.empty:
        return f"{name}: no night is stored."
    first, last = there.iloc[0], there.iloc[-1]
    return (
        f"{name} over {formats.plural(len(there), 'night')}: {first[column]:{written}} on "
        f"{formats.day(first['as_of'])}, {last[column]:{written}} on {formats.day(last['as_of'])}; "
        f"highest {there[column].max():{written}}."
    )


def moved_parts(moved: Moved) -> list[tuple[str, float]]:
    """The parts of a change, largest first, small ones added up: they still sum to the change."""
    parts = [("model's constant" if name == BASE else name, value) for name, value in moved.by_feature.items() if value]
    shown, small = parts[:MOST_PARTS], parts[MOST_PARTS:]
    if small:
        shown.append((f"{len(small)} others", sum(value for _, value in small)))
    return shown


def waterfall(moved: Moved) -> go.Figure:
    """How the change of the mean log-odds adds up, feature by feature from nothing to all of it."""
    parts = moved_parts(moved)
    names = [*(name for name, _ in parts), "all of it"]
    running, ends = 0.0, [0.0]
    for _, value in parts:
        running += value
        ends.append(running)
    room = max((max(ends) - min(ends)) * 0.22, 0.002)
    trace = {
        "type": "waterfall",
        "orientation": "h",
        "y": [_text(name) for name in names],
        "x": [*(value for _, value in parts), moved.change],
        "measure": [*("relative" for _ in parts), "total"],
        "increasing": {"marker": {"color": style.RAISES}},
        "decreasing": {"marker": {"color": style.LOWERS}},
        "totals": {"marker": {"color": style.MUTED}},
        "connector": {"line": {"color": style.RULE, "width": 1}},
        "text": [*(formats.signed(value, 4) for _, value in parts), formats.signed(moved.change, 4)],
        "textposition": "outside",
        "cliponaxis": False,
        "hoverinfo": "skip",
    }
    grid = {"showgrid": True, "gridcolor": style.RULE, "zeroline": True, "zerolinecolor": style.MUTED}
    return style.figure(
        50 + 21 * len(names),
        [trace],
        y_format="",
        x_axis={"range": [min(ends) - room, max(ends) + room], "tickformat": "+.2~g", "fixedrange": True, **grid},
        y_axis={"autorange": "reversed", "showgrid": False, "type": "category", "fixedrange": True},
        hovermode=False,
        margin={"l": min(260, 20 + 6.2 * max(map(len, names))), "r": 40, "t": 6, "b": 26},
    )


def waterfall_words(moved: Moved) -> str:
    """The change and its largest parts as a sentence."""
    parts = ", ".join(f"{name} {formats.signed(value, 4)}" for name, value in moved_parts(moved)[:4])
    return (
        f"Mean log-odds of the sample: {formats.decimal(moved.before, 4)} on {formats.day(moved.start)}, "
        f"{formats.decimal(moved.after, 4)} on {formats.day(moved.end)}, a change of {formats.signed(moved.change, 4)}"
        f"{f': {parts}' if parts else ''}."
    )


def of_the_book(moved: Moved) -> str:
    """What the whole book did meanwhile, and whether the sample tells of it; empty of a segment."""
    if moved.book is None:
        return ""
    before, after = moved.book
    told = (
        f"Of the whole book: {formats.decimal(before, 4)} to {formats.decimal(after, 4)}, a change of "
        f"{formats.signed(after - before, 4)}"
    )
    if moved.mostly_noise:
        return f"{told}: the sample's own noise is larger than that, so its parts tell no cause."
    return f"{told}."


def of_the_model(moved: Moved) -> str:
    """That the two nights had two versions of the model, and what that means for the parts; empty for one."""
    first, second = moved.versions
    if first == second:
        return ""
    return (
        f"The model changed between them, from v{first} to v{second}: a part is what a feature says in another model "
        "as well as another value of it. An account's own page tells the two apart."
    )


def _steps(moderate: float, high: float) -> list[list[object]]:
    """One colour from faint to full, for light and dark: a step up at each band."""
    r, g, b = 31, 111, 165

    def tone(alpha: float) -> str:
        return f"rgba({r}, {g}, {b}, {alpha})"

    return [
        [0, tone(0.05)],
        [moderate, tone(0.17)],
        [moderate, tone(0.42)],
        [high, tone(0.55)],
        [high, tone(0.88)],
        [1, tone(1)],
    ]


def _marks(cells: pd.DataFrame, marker: dict[str, object], written_in: str | None) -> dict[str, object]:
    """The points of cells, all of one marker; their figures too, where there is a colour to write them in."""
    figures = list(zip(cells["feature"], cells["as_of"], cells["psi"], cells["critical"], cells["n"], strict=True))
    chance = ", not significant" if marker is not _CLEAR else ""
    return {
        "type": "scatter",
        "mode": "markers" if written_in is None else "markers+text",
        "x": [d.isoformat() for d in cells["as_of"]],
        "y": [_text(f) for f in cells["feature"]],
        "text": None if written_in is None else [f"{v:.2f}" for v in cells["psi"]],
        "textfont": {"size": 10, "color": written_in},
        "customdata": [[f, d.isoformat()] for f, d, *_ in figures],
        "marker": {"size": 15, "opacity": 0.45, **marker},
        "selected": {"marker": {"opacity": 0.45}},
        "unselected": {"marker": {"opacity": 0.45}},
        "hovertext": [
            f"{_text(f)} on {formats.day(d)}<br>PSI {v:.3f} (critical {c:.3f}, n {formats.count(int(n))}){chance}"
            for f, d, v, c, n in figures
        ],
        "hovertemplate": "%{hovertext}<extra></extra>",
    }


def _text(name: str) -> str:
    """A name as Plotly writes it: it would read markup in it."""
    return escape(name, quote=False)


def _short(label: str) -> str:
    label = formats.sentence(label)
    return label if len(label) <= 24 else f"{label[:23]}…"
