"""The commands that explain a score: trace, replay, replay-model, why. They read; nothing is changed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.console import DAY, Day, JsonFlag, actor, out, plain, print_json, print_table
from pipeline.config import Settings
from pipeline.errors import ConfigError
from pipeline.governance.access import require

if TYPE_CHECKING:
    from lineage.changes import Why
    from lineage.replay import NightReplay
    from lineage.trace import Trace, TracedFeature

explain = typer.Typer()

Subject = Annotated[str, typer.Argument(help="Id of an account or an application.")]
Kind = Annotated[str | None, typer.Option("--subject", help="account or application, where an id is both.")]
RunId = Annotated[str | None, typer.Option("--run", help="An earlier run of the date; by default the newest.")]
_SHOWN = 12


@explain.command()
def trace(
    subject: Subject,
    as_of: Day,
    feature: Annotated[list[str] | None, typer.Option(help="Only this feature, with its rows; repeatable.")] = None,
    personal_data: Annotated[bool, typer.Option(help="Show personal data in clear; that is recorded.")] = False,
    kind: Kind = None,
    run: RunId = None,
    as_json: JsonFlag = False,
) -> None:
    """Why this score: its run, model, contributions, features and source rows, and the proof that they give it."""
    from lineage.personal_data import masked, personal_names, record_read
    from lineage.trace import trace as trace_score
    from pipeline.home import open_home

    who = actor()
    if personal_data:
        require(who, "personal_data.read")
    settings = Settings.load()
    portfolio, engine = open_home(settings)
    found = trace_score(
        settings, engine, portfolio, subject, as_of.date(), actor=who, kind=kind, features=feature or (), run_id=run
    )
    if not personal_data:
        found = masked(found)
    elif names := personal_names(found):
        record_read(engine, who, found, names)
    if as_json:
        print_json(found.as_dict())
    else:
        _print_trace(found, with_rows=bool(feature))
    if not (found.proof.features_equal and found.proof.score_equal and all(f.proved for f in found.features)):
        raise typer.Exit(1)


@explain.command()
def replay(
    as_of: Day,
    subject: Annotated[str | None, typer.Argument(help="Id of an account or an application.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every subject of the night.")] = False,
    kind: Kind = None,
    run: RunId = None,
    as_json: JsonFlag = False,
) -> None:
    """Compute a published score, or with --all the whole night, again and compare bit by bit. Exit 1 unless equal."""
    from lineage.personal_data import masked_replay
    from lineage.recording import published
    from lineage.replay import replay as replay_subject
    from lineage.replay import replay_night
    from pipeline.home import open_home

    if everything == (subject is not None):
        raise ConfigError(
            "replay takes one subject, or --all", f"`scoretrace replay --all --as-of {as_of.date()}` replays the night"
        )
    settings = Settings.load()
    portfolio, engine = open_home(settings)
    if subject is not None:
        one = masked_replay(
            replay_subject(settings, engine, portfolio, subject, as_of.date(), actor=actor(), kind=kind, run_id=run)
        )
        if as_json:
            print_json(one.as_dict())
        else:
            verdict = "✓ equal bit for bit" if one.equal else f"✕ {len(one.differences)} values differ"
            out.print(
                f"{one.recorded.subject} {plain(subject)} as of {as_of.date()}: {one.features} features and the score "
                f"computed again from {one.rows} rows in {one.seconds:.2f} s: {verdict}"
            )
            if not one.equal:
                lines = [(d.name, _value(d.stored), _value(d.replayed)) for d in one.differences]
                print_table(("column", "stored", "replayed"), lines)
        if not one.equal:
            raise typer.Exit(1)
        return
    publication = published(engine, as_of.date(), run)
    subjects = [m.subject for m in publication.models if kind in (None, m.subject)]
    nights = [replay_night(settings, engine, as_of.date(), s, actor=actor(), run_id=run) for s in subjects]
    if as_json:
        print_json([n.as_dict() for n in nights])
    else:
        for night in nights:
            _print_night(night)
    if not all(n.all_equal for n in nights):
        raise typer.Exit(1)


@explain.command("replay-model")
def replay_model(
    name: Annotated[str, typer.Argument(help="Model name.")],
    version: Annotated[int, typer.Argument(help="Model version.")],
    as_json: JsonFlag = False,
) -> None:
    """Train a registered version again from its recorded recipe and compare the digests. Exit 1 unless equal."""
    from lineage.retraining import replay_model as train_again
    from pipeline.home import open_home

    settings = Settings.load()
    open_home(settings)
    found = train_again(settings, name, version, actor=actor())
    if as_json:
        print_json(found.as_dict())
    else:
        out.print(
            f"training set: {'✓ the same' if found.same_training_set else '✕ not the same'}, {found.rows:,} rows, "
            f"{found.training_set[:12]}"
        )
        out.print(
            f"model bytes: {'✓ the same' if found.equal else '✕ not the same'}, digest {found.digest[:12]}, registered "
            f"{found.version.digest[:12]} (LightGBM {found.lightgbm[1]}, then {found.lightgbm[0]})"
        )
    if not found.equal:
        raise typer.Exit(1)


@explain.command()
def why(
    subject: Subject,
    start: Annotated[datetime, typer.Option("--from", **DAY)],
    end: Annotated[datetime, typer.Option("--to", **DAY)],
    kind: Kind = None,
    as_json: JsonFlag = False,
) -> None:
    """Why a score moved between two nights: model, definition, data and time, then by feature; the parts add up.
    Personal data is masked."""
    from lineage.changes import why as explain_change
    from lineage.personal_data import masked_change
    from pipeline.home import open_home

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    found = masked_change(
        explain_change(settings, engine, portfolio, subject, start.date(), end.date(), actor=actor(), kind=kind)
    )
    if as_json:
        print_json(found.as_dict())
    else:
        _print_why(found)


@explain.command()
def evidence(
    subject: Subject,
    as_of: Day,
    out_file: Annotated[Path, typer.Option("--out", help="The zip to write; never overwritten.")],
    personal_data: Annotated[bool, typer.Option(help="Leave personal data readable in the pack.")] = False,
    kind: Kind = None,
    run: RunId = None,
    as_json: JsonFlag = False,
) -> None:
    """One zip that answers for one score: report, facts, rows, SQL, model, and a verifier that runs anywhere."""
    from lineage.evidence import write_pack
    from lineage.trace import trace as trace_score
    from pipeline.home import open_home

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    found = trace_score(settings, engine, portfolio, subject, as_of.date(), actor=actor(), kind=kind, run_id=run)
    pack = write_pack(settings, engine, portfolio, found, out_file, actor=actor(), personal_data=personal_data)
    if as_json:
        print_json(vars(pack))
        return
    out.print(f"{plain(str(pack.path))}: {pack.files} files, manifest {pack.manifest_sha256[:12]}, key {pack.key_id}")
    if pack.masked:
        out.print(f"masked: {', '.join(pack.masked)} (--personal-data leaves them readable)")
    out.print(f"next: unpack it anywhere and run python verify.py --key {pack.key_id}")


def _print_trace(found: Trace, *, with_rows: bool) -> None:
    recorded, score = found.recorded, found.score
    model, promoted = recorded.scored, found.promotion
    out.print(
        f"{recorded.subject} {plain(str(found.subject_id))} as of {recorded.as_of}: PD {score['pd']:.4%}, "
        f"grade {score['grade']}, {score['score_points']} points, log-odds {score['log_odds']:+.4f}"
    )
    by = (
        f"promoted by {plain(promoted.actor)} on {promoted.promoted_at:%Y-%m-%d}"
        if promoted
        else "no promotion on record"
    )
    out.print(
        f"scored {score['scored_at']:%Y-%m-%d %H:%M:%S %Z}, {model.name} v{model.version} ({model.digest[:12]}), {by}"
    )
    out.print(f"run {recorded.run.run_id}, snapshot {recorded.publication.snapshot_id}")
    proof = found.proof
    if proof.features_equal and proof.score_equal:
        out.print(
            f"[green]✓ proved[/green]: {proof.features} features and the score computed again from {proof.rows} source "
            f"rows, equal bit for bit, in {proof.seconds:.2f} s"
        )
    else:
        names = ", ".join(d.name for d in proof.differences[:10])
        out.print(f"[red]✕ not proved[/red]: {len(proof.differences)} values do not come out as stored: {names}")
    for note in found.notes:
        out.print(plain(f"▲ {note}"))
    out.print()
    from lineage.personal_data import MASK, TOGETHER

    shown = found.features if with_rows else [f for f in found.features if f.contribution][:_SHOWN]
    rest = sum(f.contribution or 0.0 for f in found.features) - sum(f.contribution or 0.0 for f in shown)
    lines = [_feature_line(f) for f in shown]
    if not with_rows:
        others = sum(1 for f in found.features if f.contribution) - len(shown)
        lines += [(f"{others} others", "", f"{rest:+.4f}", "", "", "")]
        lines = [("base", "", f"{found.base:+.4f}", "", "", ""), *lines]
    if found.together is not None:
        lines += [(TOGETHER, MASK, f"{found.together:+.4f}", "", "", "")]
    print_table(("feature", "value", "log-odds", "dbt model", "source rows", "proved"), lines)
    if with_rows:
        for feature in shown:
            _print_rows(feature)


def _feature_line(f: TracedFeature) -> tuple[str, ...]:
    rows = ", ".join(f"{len(s.rowids)} {s.table}" for s in f.sources) or "none"
    from lineage.personal_data import MASK

    unread = "withheld" if f.value == MASK else "not read"
    part = unread if f.contribution is None else f"{f.contribution:+.4f}"
    return f.name, _value(f.value), part, f.model.name, rows, "✓" if f.proved else "✕"


def _print_rows(feature: TracedFeature) -> None:
    out.print(f"\n[bold]{plain(feature.name)}[/bold]: {plain(feature.description)}")
    out.print(plain(f"{feature.model.name}, SQL {feature.model.sha256[:12]}; tests: " + _tests(feature)))
    for source in feature.sources:
        out.print(f"raw.{source.table}")
        columns = [c for c in source.rows[0] if c not in ("load_id", "source_sha256", "load_date")]
        print_table(tuple(columns), [tuple(_value(row[c]) for c in columns) for row in source.rows])


def _tests(feature: TracedFeature) -> str:
    if not feature.tests:
        return "none on this column"
    passed = sum(t["status"] == "pass" for t in feature.tests)
    return f"{passed} of {len(feature.tests)} passed that night"


def _print_night(night: NightReplay) -> None:
    verdict = "[green]✓ equal bit for bit[/green]" if night.all_equal else "[red]✕ not equal[/red]"
    out.print(
        f"{night.recorded.subject}s of {night.recorded.as_of}: {night.equal:,} equal, {night.different:,} different, "
        f"{night.missing:,} missing, {night.extra:,} extra, in {sum(night.seconds.values()):.1f} s: {verdict}"
    )
    if night.columns:
        print_table(("column", "subjects that differ"), [(n, f"{c:,}") for n, c in night.columns.items()])
    if night.examples:
        print_table((night.recorded.subject, "what differs"), list(night.examples))
    if not night.features_compared:
        out.print("the night's features are no longer kept: scores alone were compared")


def _print_why(found: Why) -> None:
    def side(recorded: Any, state: Any) -> str:
        return f"{state.log_odds:+.4f} on {recorded.as_of} ({recorded.scored.name} v{recorded.scored.version})"

    out.print(
        f"{found.first.subject} {plain(str(found.subject_id))}: log-odds {side(found.first, found.before)} → "
        f"{side(found.second, found.after)}, {found.change:+.4f}"
    )
    print_table(("part", "log-odds", "rows"), [(p.name, f"{p.change:+.4f}", _counts(p.rows)) for p in found.parts])
    moved = list(found.by_feature.items())
    print_table(
        ("feature", "from", "to", "log-odds", "through"),
        [
            (
                name,
                _value(found.before.features.get(name)),
                _value(found.after.features.get(name)),
                f"{sum(parts.values()):+.4f}",
                ", ".join(f"{p} {v:+.4f}" for p, v in parts.items()),
            )
            for name, parts in moved[:_SHOWN]
        ],
    )
    if len(moved) > _SHOWN:
        rest = sum(sum(parts.values()) for _, parts in moved[_SHOWN:])
        out.print(f"{len(moved) - _SHOWN} others: {rest:+.4f}")
    for note in found.notes:
        out.print(plain(f"▲ {note}"))


def _counts(rows: Mapping[str, Any]) -> str:
    return ", ".join(f"{len(r)} {t}" for t, r in rows.items())


def _value(value: Any) -> str:
    if value is None:
        return "–"
    return f"{value:.6g}" if isinstance(value, float) else str(value)
