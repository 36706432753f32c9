"""Champion against challenger as a figure and in words. Pure."""

from __future__ import annotations

import plotly.graph_objects as go

from app import formats, style
from pipeline.comparison.facts import Migration

_WORSE, _BETTER, _STAY = "#B5442E", "#2B6CA3", "#7C858D"


def migration(m: Migration, text_colour: str) -> go.Figure:
    """Rows by the champion's grade (down) and the challenger's (across): red moves to a worse grade, blue to a better.

    The colour's depth is the share of the champion's grade that moved there; the number is of rows.
    text_colour: of the page that it lies on.
    """
    grades, size = list(m.grades), len(m.grades)
    depth, text, hover = [], [], []
    for i, line in enumerate(m.counts):
        total = sum(line) or 1
        shares = [n / total for n in line]
        # One scale around 0: worse above, better below; what stays has a grey of its own, drawn as the ground.
        depth.append([(s if j > i else -s) if j != i and s else None for j, s in enumerate(shares)])
        text.append([formats.count(n) if n else "·" for n in line])
        hover.append([f"{grades[i]} → {grades[j]}: {formats.count(n)} rows, {formats.share(s)} of {grades[i]}"
                      for j, (s, n) in enumerate(zip(shares, line, strict=True))])  # fmt: skip
    deepest = max((abs(v) for line in depth for v in line if v is not None), default=0.0) or 1.0

    def ink(value: float | None) -> str:
        """White on the deep cells; else the page's own text."""
        return "#FFFFFF" if value is not None and abs(value) > 0.5 * deepest else text_colour

    cells = {
        "type": "heatmap",
        "x": list(range(size)),
        "y": list(range(size)),
        "z": depth,
        "zmin": -deepest,
        "zmax": deepest,
        "colorscale": [[0, _rgba(_BETTER, 0.75)], [0.5, _rgba(_STAY, 0.04)], [1, _rgba(_WORSE, 0.75)]],
        "showscale": False,
        "hoverongaps": False,
        "customdata": hover,
        "hovertemplate": "%{customdata}<extra></extra>",
        "xgap": 2,
        "ygap": 2,
    }
    numbers = [
        {"x": j, "y": i, "text": text[i][j], "showarrow": False, "font": {"size": 11, "color": ink(depth[i][j])}}
        for i in range(size)
        for j in range(size)
    ]
    stays = [
        {"type": "rect", "x0": i - 0.48, "x1": i + 0.48, "y0": i - 0.47, "y1": i + 0.47, "layer": "below",
         "line": {"width": 0}, "fillcolor": _rgba(_STAY, 0.22)}
        for i in range(size)
    ]  # fmt: skip
    ticks = {"tickvals": list(range(size)), "ticktext": grades, "tickformat": "", "showgrid": False, "ticks": ""}
    return style.figure(
        46 + 34 * size,
        [cells],
        y_format="",
        x_axis={**ticks, "side": "top", "showline": False, "range": [-0.5, size - 0.5]},
        y_axis={**ticks, "range": [size - 0.5, -0.5]},
        annotations=numbers,
        shapes=stays,
        hovermode="closest",
        margin={"l": 26, "r": 6, "t": 26, "b": 6},
    )


def migration_words(m: Migration) -> str:
    """The same as a sentence."""
    steps = ", ".join(
        f"{formats.count(n)} by {abs(step)} to a {'worse' if step > 0 else 'better'} grade"
        for step, n in m.steps.items()
        if step
    )
    return (
        f"{formats.count(m.moved)} of {formats.count(m.rows)} rows change grade: {formats.count(m.worse)} to a worse "
        f"one, {formats.count(m.better)} to a better one{f' ({steps})' if steps else ''}."
    )


def _rgba(colour: str, alpha: float) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, {alpha})"
