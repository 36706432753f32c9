"""Thirty quiet nights, then each of the generator's incidents on a night of its own: ``make bench-watch``.

Prints what each night told and the likeliest cause it named; ends with 1 when a quiet night told anything, or an
incident's night anything but its own alerts, or when what is named first is not the source. Thirty-six whole nights.
"""

from __future__ import annotations

import argparse
import sys
import time
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.config import SHIPPED_PORTFOLIOS, Settings, prepare_process

END = date(2026, 3, 14)
# A shift stays, so it comes last; what stops a night leaves a gap, so that comes late too.
# Incident → what its night's alerts begin with, and the source that each names first.
INCIDENTS = {
    "restated_statement": ("restatement/loan_servicing", "raw.loan_servicing"),
    "duplicate_load": ("volume/loan_servicing", "raw.loan_servicing"),
    "bureau_format": ("schema/bureau_pull", "raw.bureau_pull"),
    "empty_file": ("volume/payments_ledger", "raw.payments_ledger"),
    "late_file": ("freshness/loan_servicing", "raw.loan_servicing"),
    "population_shift": ("drift/", "raw.loan_servicing"),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=20_000)
    parser.add_argument("--months", type=int, default=30)
    parser.add_argument("--quiet", type=int, default=30, help="nights before the first incident")
    arguments = parser.parse_args()
    prepare_process()
    with TemporaryDirectory(prefix="scoretrace-watch-") as folder:
        return _run(Path(folder), arguments)


def _run(folder: Path, arguments: argparse.Namespace) -> int:
    from lineage.causes import explainer
    from pipeline import home, lake, synth
    from pipeline.errors import ScoretraceError
    from pipeline.land import land
    from pipeline.monitoring.alerts import alerts_of
    from pipeline.monitoring.segments import SCORE
    from pipeline.nightly import run_night
    from pipeline.registry import Registry
    from pipeline.retrain import run_retrain
    from pipeline.transform import Warehouse
    from tests.signing_off import at_the_home, sign_off

    settings = Settings.at(folder / "home")
    portfolio = home.init(settings, SHIPPED_PORTFOLIOS / "cascade")
    _, engine = home.open_home(settings)
    nights = [END - timedelta(days=n) for n in reversed(range(arguments.quiet + len(INCIDENTS)))]
    wrong = dict(zip(nights[arguments.quiet :], INCIDENTS, strict=True))
    synth.generate(
        arguments.accounts, arguments.months, settings.extracts_dir, nights=len(nights), end=END,
        incidents=[synth.Incident(kind, day) for day, kind in wrong.items()],
    )  # fmt: skip
    eve = nights[0] - timedelta(days=1)
    with closing(lake.connect(settings, read_only=False)) as con:
        land(con, portfolio, eve, settings.extracts_dir / "history")
    warehouse, registry = Warehouse(settings, portfolio), Registry(settings)
    for spec in portfolio.models:
        outcome = run_retrain(settings, portfolio, engine, spec, eve, actor=at_the_home(), warehouse=warehouse)
        if outcome.version is None:
            raise SystemExit(f"{spec.name} did not reach its floors on so small a book; give more --accounts")
        sign_off(settings, engine, registry, portfolio, spec.name, outcome.version.version)
    faults = 0
    for day in nights:
        started, stopped = time.monotonic(), ""
        try:
            run_night(
                settings, portfolio, engine, day, actor=at_the_home(), extracts=settings.extracts_dir,
                warehouse=warehouse, explain=explainer(settings, engine, portfolio),
            )  # fmt: skip
        except ScoretraceError as error:
            stopped = f", stopped: {error.message[:80]}"
        told = [a for a in alerts_of(engine).values() if a.as_of == day and a.state == "open"]
        kind = wrong.get(day, "quiet")
        alert, source = INCIDENTS.get(kind, ("", ""))
        right = bool(told) == (kind != "quiet") and all(
            a.id.startswith(alert) and (a.members == (SCORE,) or a.causes[0].source.startswith(source)) for a in told
        )
        faults += not right
        print(f"{'✓' if right else '✕'} {day} {kind}{stopped} ({time.monotonic() - started:.0f} s)", flush=True)
        for a in told:
            first = f"{a.causes[0].source}: {a.causes[0].reason}" if a.causes else "no cause found"
            print(f"    {a.id} ({a.level}) ← {first[:150]}", flush=True)
    print(f"{len(nights)} nights, {faults} told wrongly")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
