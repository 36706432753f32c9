"""The command line: parses arguments, calls the pipeline, prints. No decision is taken here."""

from __future__ import annotations

import os
import sys
import tempfile
import traceback
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from app.cli_audit import audit
from app.cli_care import care
from app.cli_drift import alerts, watch
from app.cli_explain import explain
from app.cli_hooks import hooks
from app.cli_maintain import maintenance
from app.cli_models import models
from app.cli_outcomes import outcomes
from app.cli_promotions import promotions
from app.cli_users import users
from app.console import DAY, Day, JsonFlag, actor, out, plain, print_json, print_table, progress, say_error
from app.hooks import after_command
from app.sign_in import As, PasswordFile, signed_in
from pipeline.config import Settings, prepare_process
from pipeline.errors import ConfigError, NotFound, ScoretraceError, redacted
from pipeline.faults import explained

cli = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Score a consumer loan book every night, and prove every score afterwards.",
    epilog="All state lives under SCORETRACE_HOME (default ./var).",
)
cli.add_typer(explain)
cli.add_typer(watch)
cli.add_typer(outcomes)
cli.add_typer(maintenance)
cli.add_typer(care)
cli.add_typer(audit, name="audit")
cli.add_typer(alerts, name="alerts")
cli.add_typer(hooks, name="hooks")
cli.add_typer(models, name="models")
cli.add_typer(promotions, name="promotions")
cli.add_typer(users, name="user")


def main() -> None:
    """Entry point: every known fault is a message and a next step; every other one goes to a log file."""
    prepare_process()
    try:
        cli()
    except ScoretraceError as error:
        _say(error)
        sys.exit(1)
    except KeyboardInterrupt:
        say_error("stopped by hand", "run the same command again; what was half done is done over")
        sys.exit(130)
    except Exception as error:  # noqa: BLE001 - the outermost edge: logged whole, told in one line
        path = _log_traceback()
        if plain_error := explained(error, _home()):
            _say(plain_error)
            sys.exit(1)
        say_error(
            redacted(f"unexpected {type(error).__name__}: {str(error).partition(chr(10))[0]}"),
            f"the details are in {path}",
        )
        sys.exit(70)
    finally:
        if fault := after_command(sys.argv[1:]):
            say_error(f"webhooks: {fault}", "`scoretrace hooks list`; what waits stays until it is delivered")


@cli.command()
def init(
    portfolio: Annotated[str, typer.Option(help="A shipped portfolio's name, or a folder with a portfolio.yml.")],
) -> None:
    """Make a home for a lender: lake, control store, registry. Run it again after changing the portfolio."""
    from pipeline import home
    from pipeline.portfolio import resolve

    def taken(rows: Mapping[str, int]) -> None:
        found = ", ".join(f"{count:,} {table.replace('_', ' ')}" for table, count in rows.items())
        out.print(f"▲ taken on record as they stand, from before the audit log covered them: {found}")
        out.print("  look through them once: `scoretrace user list`, `scoretrace audit search --action coverage`")

    settings = Settings.load()
    made = home.init(settings, resolve(portfolio), actor=actor().name, taken_on_record=taken)
    out.print(f"{settings.home} is a home for {made.title} ({made.name}): {', '.join(m.name for m in made.models)}")


@cli.command()
def generate(
    out_dir: Annotated[Path, typer.Option("--out", help="Folder to write the extracts to.")],
    accounts: Annotated[int, typer.Option(min=100, help="Accounts in the book.")] = 20_000,
    months: Annotated[int, typer.Option(min=3, help="Months of history before the first night.")] = 30,
    nights: Annotated[int, typer.Option(min=0, help="Nights after the history, one folder each.")] = 7,
    end: Annotated[datetime | None, typer.Option(help="Date of the last night.", **DAY)] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same lender.")] = 20260314,
    incident: Annotated[list[str] | None, typer.Option(help="KIND@DATE, repeatable.")] = None,
) -> None:
    """Write the extracts of Cascade Lending, the synthetic lender."""
    from pipeline import synth

    incidents = [synth.Incident.parse(text) for text in incident or []]
    options: dict[str, Any] = {"end": end.date()} if end else {}
    report = synth.generate(
        accounts, months, out_dir, nights=nights, seed=seed, incidents=incidents, progress=progress, **options
    )
    out.print(str(report))


@cli.command()
def land(
    load_date: Day,
    extracts: Annotated[
        Path | None, typer.Option(help="Folder with the files, or with a subfolder per load date.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Land one load date's extracts in the raw tables: all of them, or none. The gates decide at the next run."""
    from pipeline.home import open_home
    from pipeline.land import land as land_extracts
    from pipeline.writing import writer

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    with writer(settings, engine, f"land --load-date {load_date.date()} by {actor().name}") as con:
        loads = land_extracts(con, portfolio, load_date.date(), extracts or settings.extracts_dir, progress)
    if as_json:
        print_json([vars(load) for load in loads])
    else:
        print_table(
            ("table", "rows", "outcome", "files", "load"),
            [(x.table, f"{x.rows:,}", x.outcome, ", ".join(x.files), x.load_id) for x in loads],
        )


@cli.command()
def nightly(
    as_of: Day,
    extracts: Annotated[
        Path | None, typer.Option(help="Folder with the files, or with a subfolder per load date.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Run the night of one as-of date: land, gate, features, score, publish, monitor. Safe to run again."""
    from lineage.causes import explainer
    from lineage.events import EventListener
    from pipeline.home import open_home
    from pipeline.nightly import run_night

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    with EventListener(settings, engine, progress) as listener:
        report = run_night(
            settings, portfolio, engine, as_of.date(), actor=actor(), extracts=extracts, progress=progress,
            listeners=[listener], explain=explainer(settings, engine, portfolio),
        )  # fmt: skip
    if as_json:
        print_json(vars(report))
    else:
        out.print(
            f"published {report.as_of}: {report.accounts:,} accounts and {report.applications:,} applications, "
            f"run {report.run_id}, content {report.content_sha256[:12]}"
        )


@cli.command()
def backfill(
    start: Annotated[datetime, typer.Option("--from", **DAY)],
    end: Annotated[datetime, typer.Option("--to", **DAY)],
    extracts: Annotated[Path | None, typer.Option(help="Folder with a subfolder per load date.")] = None,
) -> None:
    """Run every night of the portfolio's calendar between two dates, oldest first; stops at the first that fails."""
    from lineage.causes import explainer
    from lineage.events import EventListener
    from pipeline import calendar
    from pipeline.home import open_home
    from pipeline.nightly import run_night
    from pipeline.transform import Warehouse

    if start > end:
        raise ConfigError(f"--from {start.date()} is after --to {end.date()}", "swap the two dates")
    settings = Settings.load()
    portfolio, engine = open_home(settings)
    warehouse = Warehouse(settings, portfolio)
    days = list(calendar.nights(portfolio.calendar, start.date(), end.date()))
    for number, day in enumerate(days, start=1):
        progress(f"night {day} ({number} of {len(days)})")
        with EventListener(settings, engine, progress) as listener:
            report = run_night(
                settings, portfolio, engine, day, actor=actor(), extracts=extracts, progress=progress,
                warehouse=warehouse, listeners=[listener], explain=explainer(settings, engine, portfolio),
            )  # fmt: skip
        out.print(f"published {day}: {report.accounts:,} accounts, {report.applications:,} applications")
    if not days:
        raise ConfigError(f"no {portfolio.calendar} night lies between the two dates", "widen the range")


@cli.command()
def scores(
    as_of: Day,
    limit: Annotated[int, typer.Option(min=1, help="Rows to print.")] = 20,
    subject: Annotated[str, typer.Option(help="account or application.")] = "account",
    as_json: JsonFlag = False,
) -> None:
    """Print published scores of an as-of date, in id order."""
    from app.reports import published_scores

    rows = published_scores(Settings.load(), as_of.date(), subject, limit)
    if as_json:
        print_json(rows)
    else:
        print_table(tuple(rows[0]) if rows else ("no scores",), [tuple(str(v) for v in r.values()) for r in rows])


@cli.command()
def retrain(
    model: Annotated[str, typer.Option(help="Name of the model, as in portfolio.yml.")],
    as_of: Day,
    sign_in_as: As = None,
    password_file: PasswordFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Train a candidate with what was known at the date; register it if it passes. Its trainer never signs it."""
    from lineage.events import EventListener
    from pipeline.governance import users as known_users
    from pipeline.home import open_home
    from pipeline.retrain import run_retrain

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    # Who trains is whom the rules keep from signing: where there are users, it is one of them.
    who = signed_in(settings, engine, sign_in_as, password_file) if sign_in_as or known_users.exist(engine) else actor()
    with EventListener(settings, engine, progress) as listener:
        outcome = run_retrain(
            settings, portfolio, engine, portfolio.model(model), as_of.date(), actor=who, progress=progress,
            listeners=[listener],
        )  # fmt: skip
    if as_json:
        print_json(outcome.as_dict())
        return
    print_table(
        ("check", "", "observed", "bound"),
        [(c.check, "✓ pass" if c.passed else "✕ fail", f"{c.observed:.4f}", c.bound) for c in outcome.checks],
    )
    if outcome.version is None:
        out.print(f"{model}: {outcome.outcome}; nothing was registered")
    else:
        out.print(f"{model} version {outcome.version.version} registered, digest {outcome.version.digest[:12]}")
        out.print(f'next: scoretrace promotions request {model} {outcome.version.version} --reason "…" --as NAME')


@cli.command()
def status(as_json: JsonFlag = False) -> None:
    """What is published, by which model, with which gates and tests, and was it in time."""
    from app.reports import status as status_report

    report = status_report(Settings.load())
    if as_json:
        print_json(report)
        return
    for key, value in report.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else value
        if key == "models":
            shown = "; ".join(f"{m['name']} v{m['version']} {m['digest'][:12]}, {m['rows']:,} rows" for m in value)
        out.print(f"{key.replace('_', ' '):19} {'–' if shown is None else plain(str(shown))}")


@cli.command()
def log(
    run: Annotated[str | None, typer.Argument(help="Id of a run; the newest when none is given.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """What a run said while it went, line by line, and how it ended."""
    from pipeline import ledger, run_log
    from pipeline.governance.access import require
    from pipeline.home import open_home

    settings = Settings.load()
    portfolio, engine = open_home(settings)
    require(actor(), "run.read")
    newest = ledger.runs(engine, limit=1)
    if run is None and not newest:
        raise NotFound("no run is on record", "run `scoretrace nightly --as-of YYYY-MM-DD`")
    lines = run_log.read(settings, ledger.run(engine, run or newest[0].run_id).run_id)
    if as_json:
        print_json([{"at": at.isoformat(), "said": said} for at, said in lines])
        return
    for at, said in lines:
        out.print(f"[dim]{at.astimezone(ZoneInfo(portfolio.timezone)):%Y-%m-%d %H:%M:%S %Z}[/dim] {plain(said)}")


@cli.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the portal.")] = 8501,
    address: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
) -> None:
    """Open the portal. It reads what the nights have published and writes nothing."""
    from app.serve import require_sign_in, serve_portal

    require_sign_in(Settings.load(), address)
    sys.exit(serve_portal(port, address))


@cli.command()
def demo(
    accounts: Annotated[int, typer.Option(min=1, help="Accounts in the book, 3,000 or more.")] = 20_000,
    serve_portal: Annotated[bool, typer.Option("--serve/--no-serve", help="Open the portal at the end.")] = True,
) -> None:
    """The whole way with the synthetic lender: history, first models, six nights, the portal."""
    from app.demo import run_demo

    run_demo(Settings.load(), accounts, actor=actor(), progress=progress)
    if serve_portal:
        serve()


def _say(error: ScoretraceError) -> None:
    known = explained(error, _home()) or error
    say_error(known.message, known.next_step)
    for note in dict.fromkeys([*getattr(error, "__notes__", ()), *getattr(known, "__notes__", ())]):
        say_error(note, "")


def _home() -> Path:
    try:
        return Settings.load().home
    except ScoretraceError:
        return Path("var")


def _log_traceback() -> Path:
    name = f"error-{datetime.now(UTC):%Y%m%dT%H%M%S}.log"
    for folder in (_home() / "logs", Path(tempfile.gettempdir())):  # the home itself may be what is wrong
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(redacted(traceback.format_exc()), encoding="utf-8")
            return folder / name
    return Path(os.devnull)


if __name__ == "__main__":
    main()
