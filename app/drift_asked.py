"""What the Drift page is asked to show: its controls, read from the URL and written to it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

import streamlit as st

from app import controls, drift_facts, formats, watch_data
from app.session import Home
from pipeline import calendar
from pipeline.errors import NotFound
from pipeline.monitoring.bins import WHOLE
from pipeline.monitoring.drift_reads import Watched

SHOWN_NIGHTS = 30
CAUSES = "causes"  # the part of the URL that asks for a search of them


@dataclass(frozen=True)
class Asked:
    """What the URL asks to see. version: None is each night against the version that scored it."""

    model: str
    subject: str
    version: int | None
    key: tuple[str, str]
    nights: tuple[date, ...]
    night: date
    feature: str
    stored: tuple[Watched, ...]

    def comparable(self, version: int) -> tuple[date, ...]:
        """The other nights shown whose bins are stored against a version's baseline, the newest first."""
        against = {d for w in self.stored if w.version == version for d in w.nights}
        return tuple(d for d in self.nights[::-1] if d != self.night and d in against)

    @property
    def part(self) -> str:
        """The part of the book, in words."""
        return f"{self.key[0]} {self.key[1]}" if self.key != WHOLE else "whole book"


def asked_for(home: Home, stored: Sequence[Watched], as_of: date) -> Asked:
    """One line of controls, read from the URL and written to it."""
    model = controls.one_of("model", {w.model: w.model for w in stored}, "model with stored drift")
    mine = [w for w in stored if w.model == model]
    baselines = {"": "training set of the version that scored"} | {
        str(w.version): f"training set of v{w.version}" for w in mine
    }
    baseline = controls.one_of("baseline", baselines, "stored baseline")
    version = int(baseline) if baseline else None
    every = tuple(
        sorted({d for w in mine for d in (w.nights if w.version == version else w.own if not version else ())})
    )
    until = [d for d in every if d <= as_of]
    if not until:
        raise NotFound(
            f"no drift of {model} against this baseline is stored up to {formats.day(as_of)}",
            f"run `scoretrace monitor --as-of {as_of}`, or choose another baseline",
        )
    start, end = controls.day("from", _first(home, until[-1])), controls.day("to", until[-1])
    shown = tuple(d for d in until if start <= d <= end)
    if not shown:
        raise NotFound(
            f"no drift of {model} is stored from {formats.day(start)} to {formats.day(end)}",
            f"nights are stored from {formats.day(every[0])} to {formats.day(every[-1])}",
        )
    night = controls.day("night", shown[-1])
    if night not in shown:
        raise NotFound(f"no drift of {model} is stored for {formats.day(night)}", "choose a night of the heatmap")
    segments = {"": "whole book"} | {f"{d}={s}": f"{d} {s}" for d, s in watch_data.segments(home, model, night)}
    asked = st.query_params.get("segment", "")
    if asked.partition("=")[1]:  # one that this night lacks is told below, with the controls to choose another
        segments.setdefault(asked, asked.replace("=", " ", 1))
    segment = controls.one_of("segment", segments, "segment")
    order = controls.one_of("order", drift_facts.HEATMAP_ORDERS, "order")
    with st.container(key="filters", horizontal=True, vertical_alignment="bottom", gap="small"):
        of_nights = ("night", "with", CAUSES)
        of_model = ("baseline", "segment", "feature", "since", *of_nights)
        models = {w.model: w.model for w in stored}
        controls.select("Model", "model", models, model, 150, first=False, clears=of_model)
        controls.select("Compared with", "baseline", baselines, baseline, 260, clears=("segment", *of_nights))
        controls.select("Segment", "segment", segments, segment, 160)
        controls.night("Nights from", "from", [d for d in until if d <= shown[-1]], shown[0], clears=of_nights)
        controls.night("to", "to", [d for d in until if d >= shown[0]], shown[-1], clears=of_nights)
        controls.select("Order", "order", drift_facts.HEATMAP_ORDERS, order, 165, clears=(drift_facts.TABLE_BY,))
    dimension, _, part = segment.partition("=")
    subject = next(m.subject for m in home.portfolio.models if m.name == model)
    key = (dimension, part) if segment else WHOLE
    return Asked(model, subject, version, key, shown, night, st.query_params.get("feature", ""), tuple(mine))


def _first(home: Home, last: date) -> date:
    """Where the heatmap starts unless the URL says: the last month of nights, or the last year of months."""
    if home.portfolio.calendar == "daily":
        return last - timedelta(days=SHOWN_NIGHTS - 1)
    return calendar.add_months(calendar.month_end(last), -11)
