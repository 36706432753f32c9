"""The demonstration: Cascade Lending from an empty folder to six published nights, and one of a year before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from time import monotonic

from app import demo_users
from lineage.causes import explainer
from lineage.events import EventListener
from pipeline import calendar, home, synth
from pipeline.config import Settings
from pipeline.errors import ConfigError, ModelRefused
from pipeline.governance.access import Actor
from pipeline.governance.approvals import Approvals
from pipeline.land import land
from pipeline.nightly import run_night
from pipeline.portfolio import ModelSpec, resolve
from pipeline.registry import Registry
from pipeline.retrain import run_retrain
from pipeline.train import TrainingOutcome
from pipeline.transform import Warehouse
from pipeline.writing import writer

SMALLEST = 3_000
"""With fewer accounts the year of applications holds a single default or none, and no model is learnt from that."""
MONTHS, NIGHTS, LAST_NIGHT = 45, 6, date(2026, 3, 14)
"""Twelve months of outcomes follow the eight training cohorts, and two years of history lead up to the first: with less
of it the features of 24 months would be others at training than they are now."""


def run_demo(settings: Settings, accounts: int, *, actor: Actor, progress: Callable[[str], None]) -> None:
    """Make the lender, land its history, train and promote its models, run six nights. Safe to run again.

    A night of a year before is made up for first: what it scored has come true by now, and Outcomes can show it. In
    what lands for the last night limits and balances have moved, and its alerts say so. Of the first model a second
    version, with a month of outcomes more, waits to be decided on.

    Raises ConfigError, before anything is made, for a book too small to train both models on.
    """
    if accounts < SMALLEST:
        raise ConfigError(
            f"a book of {accounts:,} accounts has too few defaults among its applications to train pd_application on",
            f"run `scoretrace demo --accounts {SMALLEST}` or more",
        )
    started = monotonic()
    portfolio = home.init(settings, resolve("cascade"), actor=actor.name)
    _, engine = home.open_home(settings)
    if not (settings.extracts_dir / "history").is_dir():
        progress(f"generating {accounts:,} accounts, {MONTHS} months and {NIGHTS} nights")
        synth.generate(
            accounts,
            MONTHS,
            settings.extracts_dir,
            nights=NIGHTS,
            end=LAST_NIGHT,
            incidents=[synth.Incident("population_shift", LAST_NIGHT)],
            progress=lambda s: progress(f"      {s}"),
        )
    nights = [LAST_NIGHT - timedelta(days=NIGHTS - 1 - i) for i in range(NIGHTS)]
    eve = nights[0] - timedelta(days=1)
    with writer(settings, engine, f"demo by {actor.name}") as con:
        progress("landing the history")
        land(con, portfolio, eve, settings.extracts_dir / "history", lambda s: progress(f"      {s}"))
    warehouse = Warehouse(settings, portfolio)
    desk = Approvals(settings, engine, Registry(settings), portfolio)
    people = demo_users.make(settings, engine)
    desk.finish()

    def train(spec: ModelSpec, as_of: date) -> TrainingOutcome:
        progress(f"training {spec.name} as dana, with what was known on {as_of}")
        dana = demo_users.person(engine, people, "dana")
        with EventListener(settings, engine, progress) as listener:
            return run_retrain(
                settings, portfolio, engine, spec, as_of, actor=dana, progress=progress, warehouse=warehouse,
                listeners=[listener],
            )  # fmt: skip

    lead = portfolio.models[0]
    for spec in portfolio.models:
        if spec.name in desk.book().in_force:
            continue
        outcome = train(spec, calendar.add_months(eve, -1) if spec is lead else eve)
        waiting = [p for p in desk.book().of_model(spec.name) if not p.closed]
        if outcome.version is None and not waiting:
            raise ModelRefused(
                f"the first {spec.name} did not reach its floors: {outcome.outcome}",
                "look at the checks of `scoretrace retrain`; a larger --accounts helps",
            )
        version = outcome.version.version if outcome.version else waiting[0].version
        progress(f"signing {spec.name} version {version} as dana, avery and blake")
        demo_users.sign_off(desk, people, spec.name, version)
    if all(p.version == 1 for p in desk.book().of_model(lead.name)):
        outcome = train(lead, eve)  # a month of outcomes more: a candidate, and somebody has to decide
        if outcome.version is None:
            progress(f"no candidate for {lead.name}: {outcome.outcome}")
        else:
            demo_users.ask(desk, people, lead.name, outcome.version.version)
    a_year_before = eve.replace(year=eve.year - 1)
    for day in (a_year_before, *nights):
        progress(f"night {day}")
        with EventListener(settings, engine, progress) as listener:
            run_night(
                settings, portfolio, engine, day, actor=actor, progress=progress, warehouse=warehouse,
                extracts=None if day == a_year_before else settings.extracts_dir,  # it landed with the history
                listeners=[listener], explain=explainer(settings, engine, portfolio),
            )  # fmt: skip
    progress(f"done in {monotonic() - started:.0f} s")
    progress(f"sign in to the portal as {', '.join(demo_users.PEOPLE)}; their passwords are in {people}")
