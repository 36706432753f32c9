"""Seconds, rows, peak memory and bytes on disk of each stage, on the synthetic lender: ``make bench ACCOUNTS=410000``.

Run by hand and never by the tests: machines differ, so read the figures as ratios within one run. Each stage is a
process of its own, so that its peak memory (resident, from the kernel) is its own. After the nights come what they are
compared with: the floor of the same SQL and the same booster, pandas (tests/benchmarks/floor.py), and Evidently.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import resource
import shutil
import subprocess
import sys
import time
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

from pipeline.config import Settings, prepare_process
from tests.benchmarks import drift
from tests.signing_off import at_the_home

LAST_NIGHT = date(2026, 3, 14)
EVIDENTLY_ROWS = 200_000
PANDAS, DUCKDB = "a window feature in pandas", "a window feature in DuckDB"
STAGES = ("generate", "init", "history", "train", "nights", "explain", "floor", "pandas", "drift", "maintain")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=41_000)
    parser.add_argument("--months", type=int, default=26)
    parser.add_argument("--nights", type=int, default=2)
    parser.add_argument(
        "--cohorts", type=int, help="train on so many cohorts (shipped: 6 and 8); the nights are the same"
    )
    parser.add_argument("--stages", default=",".join(STAGES), help="some of: " + ", ".join(STAGES))
    parser.add_argument("--home", type=Path, help="keep the home here instead of in a temporary folder")
    parser.add_argument("--json", type=Path, help="write the table here too")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        _stage(arguments)
        return
    if unknown := set(arguments.stages.split(",")) - set(STAGES):
        parser.error(f"no such stage: {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    with TemporaryDirectory(prefix="scoretrace-bench-") as folder:
        _bench(arguments, arguments.home or Path(folder) / "home")


def _bench(arguments: argparse.Namespace, home: Path) -> None:
    nights = [f"night:{LAST_NIGHT - timedelta(days=n)}" for n in reversed(range(arguments.nights))]
    stages = [s for name in arguments.stages.split(",") for s in (nights if name == "nights" else [name])]
    rows: list[dict[str, float]] = []
    ran_on = _ran_on()
    print(f"{arguments.accounts:,} accounts, {arguments.months} months")
    print(", ".join(f"{name} {value}" for name, value in ran_on.items()))
    print(f"{'stage':34} {'seconds':>9} {'rows':>13} {'rows/s':>12} {'peak MiB':>9} {'home MiB':>9}")
    for stage in stages:
        command = [
            sys.executable, "-m", "tests.benchmarks.night", "--accounts", str(arguments.accounts),
            "--months", str(arguments.months), "--nights", str(arguments.nights), "--stage", stage,
            *(("--cohorts", str(arguments.cohorts)) if arguments.cohorts else ()),
        ]  # fmt: skip
        environment = {**os.environ, "SCORETRACE_HOME": str(home)}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
        for line in json.loads(done.stdout.splitlines()[-1]):
            line["home_mib"] = _size(home) / 2**20
            rows.append(line)
            per_second = f"{line['rows'] / line['seconds']:,.0f}" if line["rows"] else "–"
            count = f"{line['rows']:,}" if line["rows"] else "–"
            print(
                f"{line['stage']:34} {line['seconds']:9.2f} {count:>13} {per_second:>12} "
                f"{line['peak_mib']:9,.0f} {line['home_mib']:9,.0f}",
                flush=True,
            )
    ratios = _ratios({str(line["stage"]): line["seconds"] for line in rows}, nights[0], nights[-1])
    for name, ratio in ratios.items():
        print(f"{name:58} {ratio:9.2f}")
    if arguments.json:
        asked = {"accounts": arguments.accounts, "months": arguments.months, "nights": arguments.nights}
        arguments.json.write_text(
            json.dumps({"ran_on": ran_on, "asked": asked, "stages": rows, "ratios": ratios}, indent=2), encoding="utf-8"
        )


def _ran_on() -> dict[str, str]:
    """What the figures hang on: machine, limits, versions, and the commit, marked where files differ from it."""
    settings = Settings.load()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    git = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    described = subprocess.run(git, capture_output=True, text=True, check=False)
    return {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": platform.machine(),
        "cores": str(os.cpu_count()),
        "memory": f"{memory:.1f} GiB",
        "DuckDB's memory limit": settings.memory_limit or "its own default, 80 %",
        "DuckDB's threads": str(settings.threads or "one a core"),
        "commit": described.stdout.strip() or "unknown",
        "Python": platform.python_version(),
        **{name: version(name) for name in ("duckdb", "dbt-core", "dbt-duckdb", "lightgbm", "mlflow")},
    }


def _ratios(seconds: dict[str, float], first_night: str, last_night: str) -> dict[str, float]:
    """What a figure is worth only beside another of the same run. The floor makes every account anew, as the first
    night does; the last one carries over those that nothing came for."""
    found = {}

    def path_of(night: str) -> list[float | None]:
        day = night.partition(":")[2]
        return [seconds.get(f"{day} {task}") for task in ("features", "score", "publish")]

    path, anew = path_of(last_night), path_of(first_night)
    floor = [seconds.get(name) for name in ("floor: the same SQL", "floor: the same booster")]
    if None not in path + anew + floor:
        found["first night's path, every account anew / floor"] = sum(anew) / sum(floor)  # type: ignore[arg-type]
        found["last night's path / floor (at most 1.5)"] = sum(path) / sum(floor)  # type: ignore[arg-type]
        replayed = seconds.get("replay of the night")
        if replayed:
            found["replay of the night / its features and score (at most 1.3)"] = replayed / (path[0] + path[1])  # type: ignore[operator]
    if {PANDAS, DUCKDB} <= seconds.keys():
        found["pandas / DuckDB, a window feature"] = seconds[PANDAS] / seconds[DUCKDB]
    if {drift.OURS, drift.THEIRS} <= seconds.keys():
        found[f"Evidently / ours, drift of {drift.FEATURES} features"] = seconds[drift.THEIRS] / seconds[drift.OURS]
    return found


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

        home.init(settings, _fewer_cohorts(resolve("cascade"), arguments.cohorts, settings.home))
        lines.append(_line("init", started, None))
    elif arguments.stage == "history":
        from pipeline.land import land
        from pipeline.writing import writer

        portfolio, engine = home.open_home(settings)
        with writer(settings, engine, "history") as con:
            loads = land(con, portfolio, first_night - timedelta(days=1), settings.extracts_dir / "history")
        lines.append(_line("land the history", started, sum(x.rows for x in loads)))
    elif arguments.stage == "train":
        lines += _train(settings, first_night - timedelta(days=1))
    elif arguments.stage == "explain":
        lines += _explain(settings, LAST_NIGHT)
    elif arguments.stage == "floor":
        from tests.benchmarks.floor import booster_floor, sql_floor

        in_sql = sum(sql_floor(settings, LAST_NIGHT).values())
        lines.append(_line("floor: the same SQL", started, arguments.accounts) | {"seconds": in_sql})
        rows, seconds = booster_floor(settings, LAST_NIGHT)
        scored = _scored(settings)
        lines.append(_line("floor: the same booster", started, scored) | {"seconds": seconds / rows * scored})
    elif arguments.stage == "pandas":
        from tests.benchmarks.floor import pandas_instead

        rows, *found = pandas_instead(settings, LAST_NIGHT)
        for name, (seconds, features) in zip((PANDAS, DUCKDB), found, strict=True):
            lines.append(_line(name, started, rows) | {"seconds": seconds / features})
    elif arguments.stage == "drift":
        for name, seconds, peak in drift.measured(EVIDENTLY_ROWS, evidently=True):
            if name in (drift.OURS, drift.THEIRS):
                lines.append({"stage": name, "seconds": seconds, "rows": EVIDENTLY_ROWS, "peak_mib": peak})
    elif arguments.stage == "maintain":
        from pipeline import maintain

        portfolio, engine = home.open_home(settings)
        ending = maintain.plan(settings, engine, portfolio)
        maintain.maintain(settings, engine, portfolio, ending, actor=at_the_home("bench"), progress=_say)
        lines.append(_line("maintain", started, None))
    else:
        lines += _night(settings, date.fromisoformat(arguments.stage.partition(":")[2]))
    print(json.dumps(lines))


def _fewer_cohorts(portfolio: Path, cohorts: int | None, beside: Path) -> Path:
    """The portfolio itself, or a copy of it whose models train on so many cohorts."""
    if cohorts is None:
        return portfolio
    copied = Path(shutil.copytree(portfolio, beside.with_name(f"{beside.name}-portfolio"), dirs_exist_ok=True))
    yml = copied / "portfolio.yml"
    yml.write_text(re.sub(r"cohorts: \d+", f"cohorts: {cohorts}", yml.read_text(encoding="utf-8")), encoding="utf-8")
    return copied


def _scored(settings: Settings) -> int:
    from pipeline import home, ledger

    publication = ledger.latest_publication(home.open_home(settings)[1])
    assert publication is not None
    return publication.accounts


def _explain(settings: Settings, as_of: date) -> list[dict[str, object]]:
    """A trace and a replay of one, warm, and a replay of the night."""
    from lineage.replay import replay, replay_night
    from lineage.trace import trace
    from pipeline import home, lake, ledger

    portfolio, engine = home.open_home(settings)
    publication = ledger.publication_for(engine, as_of)
    assert publication is not None
    lines = []
    with closing(lake.connect(settings, snapshot=publication.snapshot_id)) as con:
        subjects = [
            str(row[0])
            for row in con.execute(
                "SELECT account_id FROM scores.account_scores WHERE as_of_date = ? ORDER BY hash(account_id) LIMIT 41",
                [as_of],
            ).fetchall()
        ]
        for name, ask in (("trace with rows and proof", trace), ("replay of one", replay)):
            seconds = []
            for subject in subjects:
                started = time.monotonic()
                ask(settings, engine, portfolio, subject, as_of, actor=at_the_home("bench"), con=con)
                seconds.append(time.monotonic() - started)
            warm = sorted(seconds[1:])
            for what, share in (("median", 0.5), ("95th percentile", 0.95)):
                lines.append(_line(f"{name}, {what}", started, None) | {"seconds": warm[int(share * (len(warm) - 1))]})
    started = time.monotonic()
    found = replay_night(settings, engine, as_of, "account", actor=at_the_home("bench"))
    assert (found.different, found.missing, found.extra) == (0, 0, 0), found
    lines.append(_line("replay of the night", started, found.equal))
    return lines


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
        line = _line(f"{as_of} {attempt.task}", started, attempt.rows)
        lines.append({**line, "seconds": seconds})
    return [*lines, _line(f"{as_of} the night", started, report.accounts)]


def _line(stage: str, started: float, rows: int | None) -> dict[str, object]:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"stage": stage, "seconds": time.monotonic() - started, "rows": rows, "peak_mib": peak}


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _size(folder: Path) -> int:
    return sum(p.stat().st_size for p in folder.rglob("*") if p.is_file())


if __name__ == "__main__":
    main()
