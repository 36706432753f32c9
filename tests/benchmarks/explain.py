"""How long a question takes: trace, replay of one, replay of a night. ``make bench-explain ACCOUNTS=100000``.

Run by hand and never by the tests. Reads as ratios within one run: a replayed night against that night's own features
and scoring, and a trace after all nights against one after the first few.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.config import Settings, prepare_process
from tests.signing_off import at_the_home

LAST_NIGHT = date(2026, 3, 14)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=100_000)
    parser.add_argument("--months", type=int, default=26)
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--early", type=int, default=10, help="nights after which the first questions are asked")
    parser.add_argument("--untested", action="store_true", help="nights without dbt's data tests, which write nothing")
    parser.add_argument("--questions", type=int, default=40)
    parser.add_argument("--home", type=Path, help="keep the home here, or ask the one that is there already")
    arguments = parser.parse_args()
    prepare_process()
    with TemporaryDirectory(prefix="scoretrace-bench-") as folder:
        _bench(Settings.at(arguments.home or Path(folder) / "home"), arguments)


def _bench(settings: Settings, arguments: argparse.Namespace) -> None:
    from pipeline import home, lake, ledger, synth
    from pipeline.land import land
    from pipeline.nightly import run_night
    from pipeline.portfolio import resolve
    from pipeline.registry import Registry
    from pipeline.retrain import run_retrain
    from pipeline.transform import Warehouse
    from tests.signing_off import sign_off
    from tests.untested import Untested

    nights = [LAST_NIGHT - timedelta(days=n) for n in reversed(range(arguments.nights))]
    portfolio = home.init(settings, resolve("cascade"))
    _, engine = home.open_home(settings)
    if not (settings.extracts_dir / "history").is_dir():
        synth.generate(arguments.accounts, arguments.months, settings.extracts_dir, nights=len(nights), end=LAST_NIGHT)
    eve = nights[0] - timedelta(days=1)
    with closing(lake.connect(settings, read_only=False)) as con:
        land(con, portfolio, eve, settings.extracts_dir / "history")
    warehouse = (Untested if arguments.untested else Warehouse)(settings, portfolio)
    registry = Registry(settings)
    for spec in portfolio.models:
        if registry.has_production(spec.name):
            continue
        outcome = run_retrain(settings, portfolio, engine, spec, eve, actor=at_the_home("bench"), warehouse=warehouse)
        assert outcome.version is not None, outcome
        sign_off(settings, engine, registry, portfolio, spec.name, outcome.version.version)
    early = 0.0
    for number, night in enumerate(nights, start=1):
        if ledger.publication_for(engine, night) is not None:
            continue
        run_night(
            settings,
            portfolio,
            engine,
            night,
            actor=at_the_home("bench"),
            extracts=settings.extracts_dir,
            warehouse=warehouse,
        )
        print(f"night {number} of {len(nights)}: {night}", file=sys.stderr)
        if number == arguments.early:
            early = _questions(settings, night, arguments.questions)
    last = _questions(settings, nights[-1], arguments.questions)
    if early:
        print(f"trace after {len(nights)} nights / after {arguments.early}: {last / early:.2f}")
    _replay(settings, nights[-1])


def _questions(settings: Settings, night: date, count: int) -> float:
    """Ask about random accounts of one night; prints seconds, returns the median of a trace."""
    from lineage.replay import replay
    from lineage.trace import trace
    from pipeline import home, lake, ledger

    portfolio, engine = home.open_home(settings)
    publication = ledger.publication_for(engine, night)
    assert publication is not None
    with closing(lake.connect(settings, snapshot=publication.snapshot_id)) as con:
        found = con.execute(
            "SELECT account_id FROM scores.account_scores WHERE as_of_date = ? ORDER BY hash(account_id) LIMIT ?",
            [night, count + 1],
        ).fetchall()
        subjects = [str(row[0]) for row in found]
        medians = []
        for name, ask in (("trace", trace), ("replay of one", replay)):
            seconds = []
            for subject in subjects:
                started = time.perf_counter()
                answer = ask(settings, engine, portfolio, subject, night, actor=at_the_home("bench"), con=con)
                seconds.append(time.perf_counter() - started)
                proved = answer.proof.differences if name == "trace" else answer.differences  # type: ignore[union-attr]
                assert not proved, (subject, proved)
            first, warm = seconds[0], sorted(seconds[1:])
            medians.append(statistics.median(warm))
            p95 = warm[int(0.95 * (len(warm) - 1))]
            print(
                f"{night} {name:14} first {first:.2f} s, warm median {medians[-1]:.2f} s, p95 {p95:.2f} s", flush=True
            )
    return medians[0]


def _replay(settings: Settings, night: date) -> None:
    from lineage.replay import replay_night
    from pipeline import home, ledger

    _, engine = home.open_home(settings)
    publication = ledger.publication_for(engine, night)
    assert publication is not None
    took = {
        a.task: (a.ended_at - a.started_at).total_seconds()
        for a in ledger.task_attempts(engine, publication.run_id)
        if a.ended_at is not None
    }
    own = took["features"] + took["score"]
    found = [replay_night(settings, engine, night, m.subject, actor=at_the_home("bench")) for m in publication.models]
    again = sum(sum(f.seconds.values()) for f in found)
    equal, other = sum(f.equal for f in found), sum(f.different + f.missing + f.extra for f in found)
    print(f"replay of the night: {equal:,} equal, {other} not, {again:.1f} s")
    print(f"the night's own features and scoring: {own:.1f} s; replay / night: {again / own:.2f}")


if __name__ == "__main__":
    main()
