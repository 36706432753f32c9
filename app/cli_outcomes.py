"""The command that prints what became of published scores, as the nights have measured it. It reads."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from app.console import Day, JsonFlag, out, plain, print_json, print_table
from pipeline.config import Settings
from pipeline.errors import NotFound

if TYPE_CHECKING:
    from pipeline.monitoring.outcome_reads import Foreseen, Holdout, StoredGroup, StoredPerformance

outcomes = typer.Typer()


@outcomes.command("outcomes")
def show(
    as_of: Day,
    model: Annotated[str | None, typer.Option(help="Only this model, by its name in portfolio.yml.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """How published scores came true, as known at the date: matured months, estimates for the rest, fairness."""
    from pipeline import lake
    from pipeline.home import open_home
    from pipeline.monitoring import outcome_reads

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    if model is not None:
        portfolio.model(model)
    day = as_of.date()
    with closing(lake.connect(settings)) as con:
        every = outcome_reads.performance(con, day, model=model, segment=None)
        foreseen = outcome_reads.foreseen(con, day, model=model)
        grades = outcome_reads.grades(con, day, model=model)
        groups = outcome_reads.fairness(con, day, model=model)
        vintages = outcome_reads.vintages(con, day) if model is None else ()
    holdout = outcome_reads.holdout(engine, day, model=model)
    if not (every or groups or vintages):
        raise NotFound(
            f"no outcomes{f' of {model}' if model else ''} were measured up to {day}",
            f"a published night measures them; for a past one run `scoretrace monitor --as-of {day}`",
        )
    if as_json:
        print_json(
            {
                "as_of": day,
                "performance": [asdict(r) for r in every],
                "grades": [asdict(r) for r in grades],
                "foreseen": [asdict(r) for r in foreseen],
                "holdout": [asdict(r) for r in holdout],
                "fairness": [asdict(r) for r in groups],
                "vintages": [asdict(r) for r in vintages],
            }
        )
        return
    whole = [r for r in every if r.segment == "all"]
    _print_performance(whole)
    _print_holdout(holdout)
    _print_foreseen([f for f in foreseen if f.matured.segment == "all"])
    _print_fairness(groups)
    if vintages:
        born = {v.vintage for v in vintages}
        out.print(
            f"vintages: {len(born)} opened {min(born):%Y-%m} to {max(born):%Y-%m}, followed through "
            f"{vintages[0].through}; --json gives the curves"
        )


def _print_performance(rows: Sequence[StoredPerformance]) -> None:
    if not rows:
        out.print("no score that was published has rows to measure yet")
        return
    print_table(
        ("month", "model", "scored", "figures", "rows", "events", "mean PD", "observed", "AUC", "95%", "KS", "Brier",
         "ECE", "slope", "HL p"),
        [
            (
                f"{r.month:%Y-%m}", f"{r.model_name} v{r.model_version}", r.origin, r.kind, f"{r.n:,}",
                "–" if r.events is None else f"{r.events:,}", _number(r.mean_pd), _number(r.observed_rate),
                _number(r.auc), "–" if r.auc_low is None else f"{_number(r.auc_low)}–{_number(r.auc_high)}",
                _number(r.ks), _number(r.brier), _number(r.ece), _number(r.calibration_slope, 2),
                _number(r.hosmer_lemeshow_p, 3),
            )
            for r in rows
        ],
    )  # fmt: skip
    for r in rows:
        named = f"{r.month:%Y-%m} {r.model_name} v{r.model_version}"
        if r.reversed_grades:
            pairs = ", ".join(f"{safer} above {riskier}" for safer, riskier in r.reversed_grades)
            out.print(plain(f"▲ {named}: grades out of order beyond chance: {pairs}"))
        if r.left_out_training:
            out.print(plain(f"{named}: {r.left_out_training:,} rows left out that the model learnt from"))
    if any(r.kind == "estimated" for r in rows):
        out.print("estimated: from the PDs alone, as if they were right; the figures are replaced as labels mature")


def _print_holdout(rows: Sequence[Holdout]) -> None:
    for h in rows:
        m = h.metrics
        out.print(
            f"{plain(h.model_name)} v{h.model_version} reached on its holdout, trained {h.trained_as_of}: "
            f"AUC {_number(m.get('auc'))} ({_number(m.get('auc_low'))}–{_number(m.get('auc_high'))}), "
            f"KS {_number(m.get('ks'))}, Brier {_number(m.get('brier'))}, {m.get('holdout_rows', 0):,.0f} rows"
        )


def _print_foreseen(rows: Sequence[Foreseen]) -> None:
    for f in rows:
        e, m = f.estimated, f.matured
        out.print(
            f"{m.month:%Y-%m} {plain(m.model_name)} v{m.model_version}: estimated {e.as_of_date} AUC {_number(e.auc)}, "
            f"{e.expected:,.1f} events; came true AUC {_number(m.auc)}, {m.events or 0:,} events"
        )


def _print_fairness(rows: Sequence[StoredGroup]) -> None:
    decided = [r for r in rows if r.cut_off is not None]
    if rows:
        print_table(
            ("month", "model", "attribute", "group", "rows", "approved", "ratio", "four fifths", "score difference"),
            [(f"{r.month:%Y-%m}", f"{r.model_name} v{r.model_version}", *_group(r)) for r in rows],
        )
    if decided:
        out.print(
            f"approved: PD up to {decided[0].cut_off:g}; ratio: to the group marked ●; score difference in pooled "
            "standard deviations of points, higher is safer"
        )


def _group(r: StoredGroup) -> tuple[str, ...]:
    verdict = "–" if r.passes is None else "✓ pass" if r.passes else "✕ under"
    mark = "● " if r.group_name == r.reference else ""
    return (
        r.attribute,
        f"{mark}{r.group_name}",
        f"{r.n:,}",
        "–" if r.rate is None else f"{r.rate:.1%}",
        _number(r.ratio, 2),
        "too small" if r.too_small else verdict,
        _number(r.smd, 2),
    )


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None else f"{value:.{digits}f}"
