"""A layered graph of boxes: what feeds what, from left to right. Pure: boxes and lines in, a figure out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Any

import plotly.graph_objects as go

from app import formats, style

_HALF = 0.41  # of the step between two layers that a box takes to each side
_ROW = 46  # pixels
_LETTERS = 136  # of all layers together that a page of 1024 pixels has room for; pointing at a box tells its whole name
FILL = "rgba(124, 133, 141, 0.13)"
CHOSEN = "rgba(58, 134, 184, 0.30)"


@dataclass(frozen=True)
class Box:
    """One node. layer: its column, from the left; title and note: its two lines; chosen: the one that was asked for."""

    id: str
    layer: int
    title: str
    note: str
    chosen: bool = False


@dataclass(frozen=True)
class Line:
    """One edge, from box to box. direct: a value flows along it; else it only decides."""

    source: str
    target: str
    direct: bool


def ordered(boxes: Iterable[Box], lines: Sequence[Line]) -> tuple[Box, ...]:
    """The boxes layer by layer, each layer in the order that crosses few lines: by the mean place of the neighbours
    that are placed already, going outwards from the layer with the fewest boxes."""
    layers: dict[int, list[Box]] = {}
    for box in boxes:
        layers.setdefault(box.layer, []).append(box)
    if not layers:
        return ()
    place: dict[str, float] = {}
    neighbours: dict[str, list[str]] = {}
    for line in lines:
        neighbours.setdefault(line.source, []).append(line.target)
        neighbours.setdefault(line.target, []).append(line.source)

    def weight(box: Box) -> tuple[float, str]:
        near = [place[n] for n in neighbours.get(box.id, ()) if n in place]
        return (sum(near) / len(near) if near else 0.0, box.title)

    first = min(layers, key=lambda layer: (len(layers[layer]), layer))
    for layer in sorted(layers, key=lambda layer: abs(layer - first)):
        layers[layer].sort(key=weight)
        middle = (len(layers[layer]) - 1) / 2
        place.update({box.id: i - middle for i, box in enumerate(layers[layer])})
    return tuple(box for layer in sorted(layers) for box in layers[layer])


def graph(boxes: Sequence[Box], lines: Sequence[Line], *, says: Mapping[str, str] | None = None) -> go.Figure:
    """Boxes in layers, lines between them: solid where a value flows, dashed where a column only decides.

    boxes: in the order of each layer (see ``ordered``). says: box → what pointing at it tells beside its id.
    """
    layers: dict[int, list[Box]] = {}
    for box in boxes:
        layers.setdefault(box.layer, []).append(box)
    place = {
        box.id: (float(layer), (len(column) - 1) / 2 - i)
        for layer, column in layers.items()
        for i, box in enumerate(column)
    }
    letters = min(_LETTERS // max(len(layers), 1), 34)
    tallest = max((len(column) for column in layers.values()), default=1)
    xs = [place[b.id][0] for b in boxes]
    ys = [place[b.id][1] for b in boxes]
    bars = {
        "type": "bar",
        "orientation": "h",
        "y": ys,
        "base": [x - _HALF for x in xs],
        "x": [2 * _HALF] * len(boxes),
        "width": 0.78,
        "marker": {
            "color": [CHOSEN if b.chosen else FILL for b in boxes],
            "line": {"color": [style.ACCENT if b.chosen else style.RULE for b in boxes], "width": 1},
        },
        "customdata": [b.id for b in boxes],
        "hovertext": ["<br>".join([f"<b>{b.id}</b>", *wrap((says or {}).get(b.id, ""), 70)]) for b in boxes],
        "hoverinfo": "text",
        "selected": {"marker": {"opacity": 1}},
        "unselected": {"marker": {"opacity": 1}},
    }
    words = {
        "type": "scatter",
        "mode": "text",
        "x": xs,
        "y": ys,
        "text": [f"<b>{_cut(b.title, letters)}</b><br>{_cut(b.note, letters + 2)}" for b in boxes],
        "textfont": {"size": 11},
        "hoverinfo": "skip",
    }
    edge = {"showgrid": False, "showline": False, "showticklabels": False, "ticks": "", "fixedrange": True}
    return style.figure(
        max(tallest, 2) * _ROW + 12,
        [bars, words],
        y_format="",
        x_axis={**edge, "range": [min(layers, default=0) - 0.5, max(layers, default=0) + 0.5]},
        y_axis={**edge, "range": [-max(tallest, 2) / 2, max(tallest, 2) / 2]},
        shapes=[_curve(place[line.source], place[line.target], line.direct) for line in lines],
        hovermode="closest",
        dragmode=False,
        margin={"l": 0, "r": 0, "t": 4, "b": 4},
    )


def graph_words(boxes: Sequence[Box], lines: Sequence[Line]) -> str:
    """The graph as a sentence: how many boxes and lines, and every line by its two ends while they are few."""
    title = {b.id: b.title for b in boxes}
    chosen = ", ".join(b.title for b in boxes if b.chosen)
    told = "; ".join(
        f"{title[line.source]} {'feeds' if line.direct else 'decides over'} {title[line.target]}" for line in lines[:20]
    )
    more = f"; and {len(lines) - 20} more" if len(lines) > 20 else ""
    start = f"Lineage of {chosen}" if chosen else "Lineage"
    return f"{start}: {formats.plural(len(boxes), 'node')}, {formats.plural(len(lines), 'edge')}. {told}{more}."


def layered(nodes: Iterable[str], lines: Sequence[Line]) -> dict[str, int]:
    """Node → its layer: one more than the deepest of what feeds it."""
    feeds: dict[str, list[str]] = {}
    for line in lines:
        feeds.setdefault(line.target, []).append(line.source)
    layer: dict[str, int] = {}

    def depth(node: str) -> int:
        if node not in layer:
            layer[node] = 0  # a cycle, which SQL cannot make, would end here
            layer[node] = 1 + max((depth(n) for n in feeds.get(node, ())), default=-1)
        return layer[node]

    for node in nodes:
        depth(node)
    return layer


def _curve(start: tuple[float, float], end: tuple[float, float], direct: bool) -> dict[str, Any]:
    x0, y0, x1, y1 = start[0] + _HALF, start[1], end[0] - _HALF, end[1]
    middle = (x0 + x1) / 2
    return {
        "type": "path",
        "path": f"M {x0},{y0} C {middle},{y0} {middle},{y1} {x1},{y1}",
        "line": {"color": style.MUTED, "width": 1.1, "dash": "solid" if direct else "dash"},
        "layer": "below",
    }


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
