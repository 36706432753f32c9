"""The commands that watch: monitor, drift, and ``scoretrace alerts``."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.console import DAY, Day, JsonFlag, actor, out, plain, print_json, print_table, progress
from app.sign_in import As, PasswordFile, signed_in
from pipeline.config import Settings
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.monitoring.alert_state import Alert
    from pipeline.monitoring.drift import Drift

_BANDS = {"high": "✕ high", "moderate": "▲ moderate", "stable": "✓ stable"}

watch = typer.Typer()
alerts = typer.Typer(no_args_is_help=True, help="What the nights found that somebody should know: list, acknowledge.")

BaselineVersion = Annotated[
    int | None, typer.Option("--baseline", help="Compare with this version's baseline, not with that of the night.")
]
Model = Annotated[str | None, typer.Option("--model", help="One model; by default all, or the first with --baseline.")]


@watch.command()
def monitor(as_of: Day, model: Model = None, baseline: BaselineVersion = None, as_json: JsonFlag = False) -> None:
    """Count a published night's drift again, for any past night; with --baseline, against another version as well."""
    from lineage.causes import explainer
    from pipeline.home import open_home
    from pipeline.nightly import run_monitor

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    named = portfolio.model(model).name if model else portfolio.models[0].name
    said = run_monitor(
        settings, portfolio, engine, as_of.date(), actor=actor(), progress=progress,
        baseline_version={named: baseline} if baseline else None, explain=explainer(settings, engine, portfolio),
    )  # fmt: skip
    if as_json:
        print_json(said)
        return
    print_table(
        ("model", "baseline", "rows", "features", "segments", "stable", "moderate", "high", "largest PSI"),
        [
            (
                w["model"], f"v{w['version']}", f"{w['rows']:,}", str(w["features"]), str(w["segments"]),
                *(str(w["bands"][b]) for b in ("stable", "moderate", "high")), f"{w['largest']:.3f}",
            )
            for w in said["watched"]
        ],
    )  # fmt: skip
    for line in said["without_baseline"] + said["alerts"]:
        out.print(plain(f"▲ {line}"))


@watch.command()
def drift(
    start: Annotated[datetime, typer.Option("--from", **DAY)],
    end: Annotated[datetime, typer.Option("--to", **DAY)],
    feature: Annotated[str | None, typer.Option(help="One feature, or score.")] = None,
    segment: Annotated[
        str | None, typer.Option(help="A split such as product, or one part of it: product=card.")
    ] = None,
    model: Model = None,
    baseline: BaselineVersion = None,
    limit: Annotated[int, typer.Option(min=1, help="Features to print a night and model, the most drifted.")] = 15,
    as_json: JsonFlag = False,
) -> None:
    """Stored drift of the nights between two dates, the whole book unless a segment is named."""
    from app.drift_report import drift_between

    if start > end:
        raise ConfigError(f"--from {start.date()} is after --to {end.date()}", "swap the two dates")
    found = drift_between(
        Settings.load(), start.date(), end.date(), feature=feature, segment=segment, model=model, version=baseline
    )
    if as_json:
        print_json([d.as_dict() for d in found])
        return
    shown: Counter[Any] = Counter()
    rows = []
    for d in found:
        shown[d.as_of, d.model, d.version] += 1
        if shown[d.as_of, d.model, d.version] <= limit:
            rows.append(_row(d))
    print_table(
        ("as of", "model", "feature", "segment", "PSI", "without missing", "critical", "band", "rows", "bins", "",
         "missing"),
        rows,
    )  # fmt: skip
    left = sum(n - limit for n in shown.values() if n > limit)
    if left:
        out.print(f"{left:,} less drifted are not shown; --feature, --limit or --json show more")


@watch.command("score-drift")
def score_drift(
    start: Annotated[datetime, typer.Option("--from", **DAY)],
    end: Annotated[datetime, typer.Option("--to", **DAY)],
    model: Annotated[str | None, typer.Option("--model", help="One model; by default the portfolio's first.")] = None,
    segment: Annotated[str | None, typer.Option(help="One part of a split: product=card.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="Features to print, the largest parts first.")] = 15,
    as_json: JsonFlag = False,
) -> None:
    """Why the mean score of two nights differs: by feature, exact in log-odds on the nights' samples."""
    from app.charts_drift import of_the_book, of_the_model
    from app.drift_report import scores_moved

    if start >= end:
        raise ConfigError(f"--from {start.date()} is not before --to {end.date()}", "give the earlier night first")
    moved = scores_moved(Settings.load(), start.date(), end.date(), model=model, segment=segment)
    if as_json:
        print_json(vars(moved) | {"change": moved.change, "unit": "log-odds, mean of the sample"})
        return
    out.print(
        f"{moved.model}: mean log-odds of the sample {moved.before:+.4f} → {moved.after:+.4f}, {moved.change:+.4f} "
        f"({moved.rows[0]:,} and {moved.rows[1]:,} subjects)"
    )
    for line in (of_the_book(moved), of_the_model(moved)):
        if line:
            out.print(plain(line))
    shown = list(moved.by_feature.items())[:limit]
    lines = [(name, f"{part:+.4f}") for name, part in shown]
    rest = list(moved.by_feature.values())[limit:]
    print_table(("feature", "log-odds"), [*lines, *([(f"{len(rest)} others", f"{sum(rest):+.4f}")] if rest else [])])


@alerts.command("list")
def list_alerts(
    every: Annotated[bool, typer.Option("--all", help="Resolved ones too.")] = False, as_json: JsonFlag = False
) -> None:
    """The alerts that stand, with the likeliest cause of each first."""
    from pipeline import ledger
    from pipeline.monitoring.alert_state import RESOLVED
    from pipeline.monitoring.alerts import alerts_of

    found = [a for a in alerts_of(ledger.open_ledger(Settings.load())).values() if every or a.state != RESOLVED]
    if as_json:
        print_json([_as_dict(a) for a in found])
        return
    if not found:
        out.print("✓ no alert stands")
    for a in found:
        sign = {"open": "✕" if a.level == "high" else "▲", "acknowledged": "◌"}.get(a.state, "✓")
        out.print(plain(f"{sign} {a.id}  {a.level}, {a.state}, since {a.since}, told {a.as_of}"))
        out.print(plain(f"  {a.message}"))
        for number, cause in enumerate(a.causes, start=1):
            out.print(plain(f"  {number}. {cause.source}: {cause.reason}"))
        if a.acknowledgement and a.state == "acknowledged":
            answer = a.acknowledgement
            out.print(plain(f"  {answer.by} answers for it until {answer.until}: {answer.why}"))


@alerts.command()
def ack(
    id_: Annotated[str, typer.Argument(help="Id of the alert, as the list prints it.")],
    reason: Annotated[str, typer.Option(help="Why it may stand; kept for ever.")],
    until: Annotated[datetime, typer.Option(help="Up to which as-of date; then it reopens.", **DAY)],
    sign_in_as: As = None,
    password_file: PasswordFile = None,
) -> None:
    """Answer for an alert until a date. It reopens by itself after that, or when it gets worse."""
    from pipeline import ledger
    from pipeline.home import open_home
    from pipeline.monitoring.alerts import acknowledge

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    who = signed_in(settings, engine, sign_in_as, password_file)
    published = ledger.latest_publication(engine)
    # Alerts live by as-of dates: a book that is months behind the calendar acknowledges by its own.
    today = published.as_of if published else datetime.now(UTC).date()
    found = acknowledge(engine, who, id_, why=reason, until=until.date(), today=today, policy=portfolio.monitoring)
    out.print(plain(f"◌ {found.id}: {who.name} answers for it until {until.date()}"))


def _row(d: Drift) -> tuple[str, ...]:
    chance = d.band in ("moderate", "high") and not d.significant
    return (
        str(d.as_of),
        f"{d.model} v{d.version}",
        d.feature,
        f"{d.dimension}={d.segment}" if d.dimension else "",
        _figure(d.psi),
        _figure(d.psi_without_missing),
        _figure(d.critical),
        _BANDS.get(d.band, "–") + (", by chance" if chance else ""),
        f"{d.n:,}",
        str(d.bins),
        "floored" if d.floored else "",
        _figure(d.missing_rate),
    )


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _as_dict(a: Alert) -> dict[str, Any]:
    return vars(a) | {
        "causes": [vars(c) for c in a.causes],
        "acknowledgement": vars(a.acknowledgement) if a.acknowledgement else None,
    }
