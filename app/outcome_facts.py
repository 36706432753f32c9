"""Outcomes as fragments of a page: months, grades with their verdict, groups, estimates that came true. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from app import formats, markup
from app.markup import Cell, Column, Html, Table
from pipeline.monitoring.outcome_reads import (
    Foreseen,
    Holdout,
    StoredBin,
    StoredGrade,
    StoredGroup,
    StoredPerformance,
    StoredVintage,
)

ALPHA = 0.05
"""Chance of a false verdict on one grade."""
FEWEST = 30
"""Rows of a grade that a good verdict takes."""


MONTHS_BY = "months_by"  # the part of the URL that orders the table of months
MONTH_ORDERS: Mapping[str, Callable[[StoredPerformance], Any]] = {
    "month": lambda r: r.month,
    "rows": lambda r: r.n,
    "expected": lambda r: r.mean_pd,
    "came_true": lambda r: r.observed_rate,
    "auc": lambda r: r.auc,
    "ks": lambda r: r.ks,
    "brier": lambda r: r.brier,
    "ece": lambda r: r.ece,
    "slope": lambda r: r.calibration_slope,
}


def month_table(rows: Sequence[StoredPerformance], caption: str, order: str) -> Table:
    """Cohorts with their figures, in the order given."""
    columns = [
        Column("month", order="-month"),
        Column("version"),
        Column("figures"),
        Column("scored"),
        Column("rows", "number", order="-rows"),
        Column("events", "number"),
        Column("mean PD", "number", order="-expected"),
        Column("came true", "number", order="-came_true"),
        Column("AUC", "number", order="auc"),
        Column("95%", "number", "interval of the AUC"),
        Column("KS", "number", order="ks"),
        Column("Brier", "number", "mean squared error of the PD", order="-brier"),
        Column("ECE", "number", "expected calibration error", order="-ece"),
        Column("slope", "number", "of the calibration; 1 is right", order="slope"),
        Column("HL p", "number", "Hosmer and Lemeshow's test of the calibration"),
    ]
    cells: list[list[Cell]] = [
        [
            f"{r.month:%b %Y}",
            f"v{r.model_version}",
            kind(r),
            r.origin,
            formats.count(r.n),
            formats.count(r.events),
            formats.probability(r.mean_pd),
            formats.probability(r.observed_rate),
            _number(r.auc),
            f"{_number(r.auc_low)}–{_number(r.auc_high)}" if r.auc_low is not None else formats.MISSING,
            _number(r.ks),
            _number(r.brier, 4),
            _number(r.ece, 4),
            _number(r.calibration_slope, 2),
            _number(r.hosmer_lemeshow_p),
        ]
        for r in rows
    ]
    return markup.table(columns, cells, caption, order=order)


def kind(row: StoredPerformance) -> Html:
    """Matured figures are facts; estimates say so."""
    if row.kind == "matured":
        return markup.status("ok", "matured")
    return markup.status("none", f"estimated until {formats.day(row.matures_on)}")


def figures(row: StoredPerformance, holdout: Holdout | None) -> Html:
    """One month's figures side by side, the holdout's under them."""
    reached = holdout.metrics if holdout else {}

    def holdout_of(figure: str, places: int) -> list[Cell]:
        return [f"holdout {_number(reached[figure], places)}"] if figure in reached else []

    def within(low: float | None, high: float | None, places: int = 3) -> str:
        return "no interval" if low is None else f"{_number(low, places)} to {_number(high, places)}"

    came = (
        [] if row.rate_low is None else [f"{formats.probability(row.rate_low)} to {formats.probability(row.rate_high)}"]
    )
    events = formats.plural(row.events, "event") if row.events is not None else "not known yet"
    return markup.facts(
        [
            ("Month of scores", f"{row.month:%B %Y}", kind(row)),
            ("Rows", formats.count(row.n), f"v{row.model_version}, scored {row.origin}"),
            ("Came true", formats.probability(row.observed_rate), markup.join([events, *came], "; ")),
            ("Expected", formats.probability(row.mean_pd), f"{formats.decimal(row.expected, 1)} events"),
            ("AUC", _number(row.auc), markup.join([within(row.auc_low, row.auc_high), *holdout_of("auc", 3)], "; ")),
            ("KS", _number(row.ks), markup.join([within(row.ks_low, row.ks_high), *holdout_of("ks", 3)], "; ")),
            (
                "Brier",
                _number(row.brier, 4),
                markup.join([within(row.brier_low, row.brier_high, 4), *holdout_of("brier", 4)], "; "),
            ),
            (
                "Calibration slope",
                _number(row.calibration_slope, 2),
                f"intercept {_number(row.calibration_intercept, 2)}",
            ),
        ]
    )


def look_back(row: StoredPerformance, holdout: Holdout | None) -> Html | None:
    """That a version scored a month of before it was trained: it may have learnt from what came true of it."""
    if holdout is None or row.month >= holdout.trained_as_of.replace(day=1):
        return None
    told = (
        f"v{row.model_version} was trained with what was known on {formats.day(holdout.trained_as_of)}: of many of "
        "these accounts it knew what came true. That its figures are those of the holdout is no second proof."
    )
    return markup.alarm("watch", "a look back, scored after the fact", told)


def bin_table(rows: Sequence[StoredBin], caption: str) -> Table:
    """The reliability curve's bins: what was expected, what came true, and the interval of that."""
    columns = [
        Column("PD above"),
        Column("up to"),
        Column("rows", "number"),
        Column("mean PD", "number"),
        Column("came true", "number"),
        Column("95 % interval", "number"),
        Column("events", "number"),
    ]
    cells: list[list[Cell]] = [
        [
            formats.probability(r.pd_from),
            formats.probability(r.pd_to),
            formats.count(r.n),
            formats.probability(r.mean_pd),
            formats.probability(r.observed_rate),
            f"{formats.probability(r.rate_low)} to {formats.probability(r.rate_high)}"
            if r.rate_low is not None
            else formats.MISSING,
            formats.count(r.events),
        ]
        for r in rows
    ]
    return markup.table(columns, cells, caption)


def grade_table(rows: Sequence[StoredGrade], caption: str) -> Table:
    """Grades with observed against expected and the Jeffreys verdict: is the PD too low?"""
    columns = [
        Column("grade"),
        Column("rows", "number"),
        Column("expected", "number"),
        Column("came true", "number"),
        Column("events", "number"),
        Column("expected events", "number"),
        Column(
            "Jeffreys p", "number", "chance of so many events, or more, if the PD were right; below 5% it is too low"
        ),
        Column("PD", "fill"),
    ]
    cells: list[list[Cell]] = [
        [
            r.grade,
            formats.count(r.n),
            formats.probability(r.mean_pd),
            formats.probability(r.observed_rate),
            formats.count(r.events),
            formats.decimal(r.expected, 1),
            formats.MISSING if r.jeffreys_p is None else "<0.001" if r.jeffreys_p < 0.001 else _number(r.jeffreys_p),
            grade_verdict(r),
        ]
        for r in rows
    ]
    return markup.table(columns, cells, caption)


def grade_verdict(row: StoredGrade) -> Html:
    """The Jeffreys test of "the PD is not understated" as a status; with few rows it could not find it was."""
    if row.jeffreys_p is None:
        return markup.status("none", "not known yet")
    if row.n < FEWEST and row.jeffreys_p >= ALPHA:
        return markup.status("none", "too few to judge")
    return markup.status("stop", "too low") if row.jeffreys_p < ALPHA else markup.status("ok", "not understated")


def group_table(rows: Sequence[StoredGroup], caption: str) -> Table:
    """Protected groups with their approval ratio against the policy line."""
    columns = [
        Column("attribute"),
        Column("group"),
        Column("rows", "number"),
        Column("approved", "number"),
        Column("ratio", "number", "share approved, over the reference group's"),
        Column("four fifths", hint="whether the ratio is at least 0.8, the policy line"),
        Column("mean points", "number"),
        Column(
            "score difference, pooled SD",
            "number",
            "mean points less the reference group's, in pooled standard deviations",
        ),
    ]
    cells: list[list[Cell]] = [
        [
            r.attribute,
            markup.hint(f"{r.group_name} ●", "the group that the others are compared with")
            if r.group_name == r.reference
            else r.group_name,
            formats.count(r.n),
            formats.share(r.rate),
            _number(r.ratio, 2),
            _four_fifths(r),
            formats.decimal(r.mean_points, 1),
            formats.signed(r.smd),
        ]
        for r in rows
    ]
    return markup.table(columns, cells, caption)


def _four_fifths(row: StoredGroup) -> Html:
    if row.too_small:
        return markup.status("none", "too small")
    if row.passes is None:
        return markup.status("none", "no decision")
    return markup.status("ok", "pass") if row.passes else markup.status("stop", "under")


def foreseen_table(rows: Sequence[Foreseen], caption: str) -> Table:
    """Estimates beside what came true."""
    columns = [
        Column("month"),
        Column("version"),
        Column("estimated on"),
        Column("AUC estimated", "number"),
        Column("AUC came true", "number"),
        Column("events expected", "number"),
        Column("events", "number"),
    ]
    cells: list[list[Cell]] = [
        [
            f"{f.matured.month:%b %Y}",
            f"v{f.matured.model_version}",
            formats.day(f.estimated.as_of_date),
            _number(f.estimated.auc),
            _number(f.matured.auc),
            formats.decimal(f.estimated.expected, 1),
            formats.count(f.matured.events),
        ]
        for f in rows
    ]
    return markup.table(columns, cells, caption, fit=True)


def vintage_table(rows: Sequence[StoredVintage], caption: str) -> Table:
    """The grid in figures: a line a vintage, newest first, with the rate to date at each number of months on book."""
    ages = sorted({r.months_on_book for r in rows})
    at = {(r.vintage, r.months_on_book): r for r in rows}
    born = {r.vintage: r for r in rows}
    columns = [
        Column("opened"),
        Column("accounts", "number"),
        *(Column(str(age), "number", f"{formats.plural(age, 'month')} on book: rate to date") for age in ages),
    ]
    cells: list[list[Cell]] = [
        [
            f"{vintage:%b %Y}",
            formats.count(born[vintage].accounts),
            *(_to_date(at.get((vintage, age))) for age in ages),
        ]
        for vintage in sorted(born, reverse=True)
    ]
    return markup.table(columns, cells, caption, fit=True)


def _to_date(found: StoredVintage | None) -> Cell:
    """A vintage's rate; its events on hover."""
    if found is None:
        return formats.MISSING
    events = formats.plural(found.events_to_date, "event")
    return markup.hint(formats.probability(found.rate_to_date), f"{events} of {formats.count(found.accounts)}")


def _number(value: float | None, places: int = 3) -> str:
    return (
        formats.MISSING
        if value is None
        else formats.decimal(value, places)
        if value != int(value)
        else f"{value:.{places}f}"
    )
