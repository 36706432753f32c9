"""Seconds, rows and peak memory of each stage, on the synthetic lender: ``make bench ACCOUNTS=410000``.

Run by hand and never by the tests: machines differ, so read the figures as ratios within one run.
Each stage is a process of its own, so that its peak memory (resident, from the kernel) is its own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.config import Settings, prepare_process
from tests.signing_off import at_the_home

LAST_NIGHT = date(2026, 3, 14)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=41_000)
    parser.add_argument("--months", type=int, default=26)
    parser.add_argument("--nights", type=int, default=2)
    parser.add_argument("--home", type=Path, help="keep the home here instead of in a temporary folder")
    parser.add_argument("--json", type=Path, help="write the table here too")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        _stage(arguments)
        return
    with TemporaryDirectory(prefix="scoretrace-bench-") as folder:
        _bench(arguments, arguments.home or Path(folder) / "home")


def _bench(arguments: argparse.Namespace, home: Path) -> None:
    nights = [LAST_NIGHT - timedelta(days=n) for n in reversed(range(arguments.nights))]
    stages = ["generate", "init", "history", "train", *(f"night:{d}" for d in nights)]
    rows = []
    print(f"{arguments.accounts:,} accounts, {arguments.months} months, {platform.machine()}, {os.cpu_count()} cores")
    print(f"{'stage':34} {'seconds':>9} {'rows':>13} {'rows/s':>12} {'peak MiB':>9} {'home MiB':>9}")
    for stage in stages:
        command = [
            sys.executable, "-m", "tests.benchmarks.night", "--accounts", str(arguments.accounts),
            "--months", str(arguments.months), "--nights", str(arguments.nights), "--stage", stage,
        ]  # fmt: skip
        environment = {**os.environ, "SCORETRACE_HOME": str(home)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        for line in json.loads(done.stdout.splitlines()[-1]):
            line["home_mib"] = _size(home) / 2**20
            rows.append(line)
            per_second = f"{line['rows'] / line['seconds']:,.0f}" if line["rows"] else "–"
            count = f"{line['rows']:,}" if line["rows"] else "–"
            print(
                f"{line['stage']:34} {line['seconds']:9.1f} {count:>13} {per_second:>12} "
                f"{line['peak_mib']:9,.0f} {line['home_mib']:9,.0f}",
                flush=True,
            )
    if arguments.json:
        machine = {"cores": os.cpu_count(), "machine": platform.machine(), "at": datetime.now(UTC).isoformat()}
        arguments.json.write_text(json.dumps({"machine": machine, "stages": rows}, indent=2), encoding="utf-8")


def _stage(arguments: argparse.Namespace) -> None:
    prepare_process()
    from pipeline import home

    settings = Settings.load()
    lines: list[dict[str, object]] = []
    first_night = LAST_NIGHT - timedelta(days=arguments.nights - 1)
    started = time.monotonic()
    if arguments.stage == "generate":
        from pipeline import synth

        settings.extracts_dir.mkdir(parents=True, exist_ok=True)
        synth.generate(
            arguments.accounts, arguments.months, settings.extracts_dir, nights=arguments.nights, end=LAST_NIGHT
        )
        lines.append(_line("generate", started, None))
    elif arguments.stage == "init":
        from pipeline.portfolio import resolve

        home.init(settings, resolve("cascade"))
        lines.append(_line("init", started, None))
    elif arguments.stage == "history":
        from contextlib import closing

        from pipeline import lake
        from pipeline.land import land

        portfolio, _ = home.open_home(settings)
        with closing(lake.connect(settings, read_only=False)) as con:
            loads = land(con, portfolio, first_night - timedelta(days=1), settings.extracts_dir / "history")
        lines.append(_line("land the history", started, sum(x.rows for x in loads)))
    elif arguments.stage == "train":
        lines += _train(settings, first_night - timedelta(days=1))
    else:
        lines += _night(settings, date.fromisoformat(arguments.stage.partition(":")[2]))
    print(json.dumps(lines))


def _train(settings: Settings, as_of: date) -> list[dict[str, object]]:
    from pipeline import home
    from pipeline.registry import Registry
    from pipeline.retrain import run_retrain
    from tests.signing_off import sign_off

    portfolio, engine = home.open_home(settings)
    registry = Registry(settings)
    lines = []
    for spec in portfolio.models:
        started = time.monotonic()
        outcome = run_retrain(settings, portfolio, engine, spec, as_of, actor=at_the_home("bench"), progress=_say)
        assert outcome.version is not None, outcome
        sign_off(settings, engine, registry, portfolio, spec.name, outcome.version.version)
        lines.append(_line(f"train {spec.name}", started, None))
    return lines


def _night(settings: Settings, as_of: date) -> list[dict[str, object]]:
    from pipeline import home, ledger
    from pipeline.nightly import run_night

    portfolio, engine = home.open_home(settings)
    started = time.monotonic()
    report = run_night(
        settings, portfolio, engine, as_of, actor=at_the_home("bench"), extracts=settings.extracts_dir, progress=_say
    )
    lines = []
    for attempt in ledger.task_attempts(engine, report.run_id):
        assert attempt.ended_at is not None
        seconds = (attempt.ended_at - attempt.started_at).total_seconds()
        line = _line(f"  {attempt.task}", started, attempt.rows)
        lines.append({**line, "seconds": seconds})
    return [*lines, _line(f"night of {as_of}", started, report.accounts)]


def _line(stage: str, started: float, rows: int | None) -> dict[str, object]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"stage": stage, "seconds": time.monotonic() - started, "rows": rows, "peak_mib": peak}


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


if __name__ == "__main__":
    main()
