"""Drift as fragments of a page: a feature's figures, its segments, the night as a table. Pure; no Streamlit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

import pandas as pd

from app import formats, markup
from app.markup import Cell, Column, Html, Table
from pipeline.monitoring.alert_state import Cause
from pipeline.monitoring.drift import Drift
from pipeline.monitoring.policy import ARRIVAL, DriftPolicy
from pipeline.monitoring.score_drift import BASE, Moved
from pipeline.monitoring.segments import SCORE

TABLE_BY = "table_by"  # the part of the URL that orders the table below the heatmap
HEATMAP_ORDERS = {"": "importance × PSI", "importance": "importance", "psi": "largest PSI", "name": "name"}
_BANDS = {"high": ("stop", "high"), "moderate": ("watch", "moderate"), "stable": ("ok", "stable")}


def stands(d: Drift, least: int) -> bool:
    """Whether a PSI says something: chance does not explain it, and there are ``least`` rows."""
    return d.significant and d.n >= least


def drifted(found: Sequence[Drift], policy: DriftPolicy) -> list[Drift]:
    """Those whose PSI is moderate at least and says something."""
    return [d for d in found if (d.psi or 0) >= policy.moderate and stands(d, policy.minimum_rows)]


def frame(rows: Sequence[Drift], least: int) -> pd.DataFrame:
    """One row a feature and night, as the figures take it; too few rows are never significant."""
    names = ("feature", "as_of", "psi", "critical", "significant", "n", "missing_rate", "importance")
    return pd.DataFrame(
        [[stands(d, least) if n == "significant" else getattr(d, n) for n in names] for d in rows], columns=list(names)
    ).astype({"psi": float, "critical": float, "missing_rate": float})


def ordered(cells: pd.DataFrame, by: str) -> list[str]:
    """The features, the one to look at first on top; the score itself leads.

    importance × PSI: the largest PSI that chance does not explain, over log2(1 + rank), the discount that ranked
    lists have (Järvelin and Kekäläinen 2002): the first few ranks weigh most, later ones still count.
    """
    sure = cells["psi"].where(cells["significant"].astype(bool), 0.0).fillna(0.0)
    by_feature = cells.assign(sure=sure).groupby("feature").agg(rank=("importance", "max"), largest=("sure", "max"))
    weights: dict[str, tuple[float, ...]] = {}
    for feature, found, largest in by_feature.itertuples():
        rank = math.inf if pd.isna(found) or not found else float(found)
        weights[str(feature)] = {
            "": (-largest / math.log2(1 + rank) if rank < math.inf else 0.0, rank),
            "importance": (rank,),
            "psi": (-largest, rank),
            "name": (),
        }[by]
    return sorted(weights, key=lambda f: (f != SCORE, weights[f], f))


def verdict(d: Drift, least: int) -> Html:
    """Band and significance as one status: a large PSI of few rows or of chance is not a finding."""
    if d.psi is None:
        return markup.status("none", "no rows")
    level, word = _BANDS.get(d.band, ("none", d.band))
    if d.n < least:
        return markup.status("none", f"{word}, under {least} rows")
    if d.band != "stable" and not d.significant:
        return markup.status("none", f"{word}, by chance")
    return markup.status(level, word)


def figures(d: Drift, least: int) -> Html:
    """One feature's stored figures of a night, side by side."""
    against = "its own part of the baseline" if d.against == "segment" else "the whole baseline"
    over = "beyond chance" if d.significant else "chance alone reaches it"
    rank = "not used by the model" if not d.importance else "rank by gain, 1 the most"
    new = d.new_category_rate is not None
    return markup.facts(
        [
            ("PSI", markup.join([_figure(d.psi), verdict(d, least)], " "), f"critical {_figure(d.critical)}, {over}"),
            ("Without missing", _figure(d.psi_without_missing), "PSI of the rows that have a value"),
            ("Rows", formats.count(d.n), f"in {d.bins} bins{', floor used' if d.floored else ''}; {against}"),
            ("Missing", formats.share(d.missing_rate), "of the rows"),
            *([("New categories", formats.share(d.new_category_rate), "of the rows")] if new else []),
            ("First nights", _figure(d.launch_psi), _launch_note(d)),
            ("Jensen–Shannon", _figure(d.jensen_shannon), f"bits; Wasserstein {_number(d.wasserstein)}"),
            ("Importance", f"{d.importance}" if d.importance else formats.MISSING, rank),
        ]
    )


def _launch_note(d: Drift) -> str:
    same = ", at the same time of the month" if d.dimension == ARRIVAL else ""
    return f"PSI against the version's first nights{same}"


def figure_orders(least: int) -> Mapping[str, Callable[[Drift], Any]]:
    """What stored figures of a night are ordered by. ``urgency``: what chance explains below what it does not, and
    then by how far it is from the training set and from the version's first nights: what was so from the start is no
    news."""
    return {
        "urgency": lambda d: (stands(d, least), min(d.psi or 0.0, math.inf if d.launch_psi is None else d.launch_psi)),
        "launch": lambda d: d.launch_psi,
        "name": lambda d: (d.feature, d.dimension, d.segment),
        "rank": lambda d: d.importance or None,
        "psi": lambda d: d.psi,
        "critical": lambda d: d.critical,
        "without": lambda d: d.psi_without_missing,
        "rows": lambda d: d.n,
        "bins": lambda d: d.bins,
        "missing": lambda d: d.missing_rate,
    }


SEGMENT_ORDERS = ("name", "psi", "launch", "urgency", "rows", "missing")


def night_table(rows: Sequence[Drift], caption: str, least: int, says: Mapping[str, str], order: str) -> Table:
    """A night's features with their figures, in the order given; the first column is the feature.

    says: feature → its definition, for whoever points at its name.
    """
    columns = [
        Column("feature", order="name"),
        Column("importance rank", "number", order="rank"),
        Column("PSI", "number", order="-psi"),
        Column("critical", "number", order="-critical"),
        Column("without missing", "number", order="-without"),
        Column("verdict", order="-urgency"),
        Column("rows", "number", order="-rows"),
        Column("bins", "number", order="-bins"),
        Column("missing", "number", order="-missing"),
        Column("floor", "fill"),
    ]
    cells = [[_name(d.feature, says), *_cells(d, least)] for d in rows]
    return markup.table(columns, cells, caption, order=order)


def _name(feature: str, says: Mapping[str, str]) -> Cell:
    return markup.hint(feature, says[feature]) if says.get(feature) else feature


def _cells(d: Drift, least: int) -> list[Cell]:
    return [
        str(d.importance) if d.importance else formats.MISSING,
        _figure(d.psi),
        _figure(d.critical),
        _figure(d.psi_without_missing),
        verdict(d, least),
        formats.count(d.n),
        str(d.bins),
        formats.share(d.missing_rate),
        "used" if d.floored else formats.MISSING,
    ]


def segment_table(rows: Sequence[Drift], caption: str, least: int, order: str) -> Table:
    """One feature in segments of a night, in the order given."""
    columns = [
        Column("segment", order="name"),
        Column("PSI", "number", order="-psi"),
        Column("first nights", "number", "PSI against the version's first nights", order="-launch"),
        Column("verdict", order="-urgency"),
        Column("rows", "number", order="-rows"),
        Column("missing", "number", order="-missing"),
        Column("against", "fill"),
    ]
    cells: list[list[Cell]] = [
        [
            f"{d.dimension} {d.segment}",
            _figure(d.psi),
            _figure(d.launch_psi),
            verdict(d, least),
            formats.count(d.n),
            formats.share(d.missing_rate),
            markup.quiet("itself" if d.against == "segment" else "whole book"),
        ]
        for d in rows
    ]
    return markup.table(columns, cells, caption, order=order)


def cause_list(causes: Sequence[Cause]) -> Html:
    """Causes in their order, the likeliest first."""
    items = "".join(
        f"<li><b>{markup.html(c.source)}</b> <span>{markup.html(formats.sentence(c.reason))}</span></li>"
        for c in causes
    )
    return Html(f"<ol class='causes'>{items}</ol>")


def bin_table(
    labels: Sequence[str], before: Sequence[int], after: Sequence[int], terms: Sequence[float], names: tuple[str, str]
) -> Table:
    """The distribution's figures: rows and shares by bin, and what each adds to the PSI."""
    columns = [
        Column("bin"),
        Column(f"{names[0]}, rows", "number"),
        Column("share", "number"),
        Column(f"{names[1]}, rows", "number"),
        Column("share", "number"),
        Column("PSI term", "number"),
    ]
    n, m = sum(before) or 1, sum(after) or 1
    rows: list[list[Cell]] = [
        [label, formats.count(e), formats.share(e / n), formats.count(a), formats.share(a / m), _number(t, 4)]
        for label, e, a, t in zip(labels, before, after, terms, strict=True)
    ]
    return markup.table(columns, rows, "Rows by bin", fit=True)


def bin_rows(
    labels: Sequence[str], before: Sequence[int], after: Sequence[int], terms: Sequence[float], names: tuple[str, str]
) -> list[dict[str, object]]:
    """The same for a file."""
    return [
        {"bin": label, f"rows_{names[0]}": b, f"rows_{names[1]}": a, "psi": None if math.isnan(t) else t}
        for label, b, a, t in zip(labels, before, after, terms, strict=True)
    ]


def moved_table(moved: Moved, says: Mapping[str, str]) -> Table:
    """Every feature's part of the change of the mean log-odds, the largest first; they add up to the last row.
    says: feature → what it is."""
    rows: list[list[Cell]] = [
        ["model's constant" if name == BASE else markup.named(name, says), formats.signed(value, 4)]
        for name, value in moved.by_feature.items()
        if value
    ]
    rows.append(["all of it", formats.signed(moved.change, 4)])
    return markup.table([Column("feature"), Column("log-odds", "number")], rows, "Parts of the change", fit=True)


def moved_rows(moved: Moved) -> list[dict[str, object]]:
    """The same for a file, to the last bit."""
    of = {"model": moved.model, "since": moved.start, "as_of": moved.end, "dimension": moved.dimension,
          "segment": moved.segment}  # fmt: skip
    return [of | {"feature": name, "log_odds": value} for name, value in moved.by_feature.items() if value]


def night_by_night(cells: pd.DataFrame, feature: str) -> Table:
    """One feature's PSI and missing share of each night, the newest first."""
    columns = [Column("night"), Column("PSI", "number"), Column("critical", "number"), Column("missing", "number")]
    rows: list[list[Cell]] = [
        [formats.day(r.as_of), _heat_cell(r), _number(float(r.critical)), formats.share(float(r.missing_rate))]
        for r in cells.sort_values("as_of", ascending=False).itertuples()
    ]
    return markup.table(columns, rows, f"{feature} by night", fit=True)


def heat_table(cells: pd.DataFrame, features: Sequence[str], nights: Sequence[date]) -> Table:
    """The heatmap's figures; what is not significant stands in brackets."""
    by: dict[tuple[Any, Any], Any] = {
        (r.feature, r.as_of): r for r in cells[cells["feature"].isin(features)].itertuples()
    }
    columns = [Column("feature"), *(Column(head, "number") for head in formats.heads(nights))]
    rows = [[f, *(_heat_cell(by.get((f, d))) for d in nights)] for f in features]
    return markup.table(columns, rows, "PSI by feature and night")


def _heat_cell(row: Any) -> str:
    if row is None or math.isnan(row.psi):
        return formats.MISSING
    return f"{row.psi:.3f}" if row.significant else f"({row.psi:.3f})"


def _figure(value: float | None) -> str:
    return formats.MISSING if value is None else f"{value:.3f}"


def _number(value: float | None, places: int = 3) -> str:
    return formats.decimal(value, places)
