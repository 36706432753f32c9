"""Drift in one scan, against a stored baseline, and reading ninety nights of it: ``make bench-drift ROWS=200000``.

Run by hand and never by the tests. ``--evidently`` runs Evidently's PSI preset on the same frame in a throwaway
environment of its own (installed from the package index), to compare seconds and peak memory.
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
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

FEATURES, NIGHTS = 140, 90
LAST = date(2026, 3, 14)
OURS, THEIRS = "count, compare and store the whole book", "Evidently, PSI preset, frames in memory"

EVIDENTLY = """
import resource, sys, time
import pandas as pd
from evidently import Report
from evidently.presets import DataDriftPreset
reference, current = (pd.read_parquet(p) for p in sys.argv[1:3])
started = time.perf_counter()
Report([DataDriftPreset(method="psi")]).run(current, reference).dict()
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--evidently", action="store_true", help="beside Evidently, in an environment made for it")
    parser.add_argument("--stage", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.stage:
        print(json.dumps(STAGES[arguments.stage](arguments)))
        return
    print(f"{arguments.rows:,} rows, {FEATURES} features, {platform.machine()}, {os.cpu_count()} cores")
    found: dict[str, tuple[float, float]] = {}
    for name, seconds, peak in measured(arguments.rows, evidently=arguments.evidently):
        print(f"{name:58} {seconds:9.2f} s {peak:9,.0f} MiB peak", flush=True)
        found[name] = seconds, peak
    if THEIRS in found:
        (seconds, peak), (theirs, their_peak) = found[OURS], found[THEIRS]
        print(f"ours is {theirs / seconds:,.0f} times as fast, with {peak / their_peak:.2f} of its memory")


def measured(rows: int, *, evidently: bool) -> Iterator[tuple[str, float, float]]:
    """What is measured, seconds, peak MiB; each stage in a process of its own, so that its memory is its own."""
    with TemporaryDirectory(prefix="scoretrace-drift-") as folder:
        for stage in STAGES:
            command = [
                sys.executable, "-m", "tests.benchmarks.drift", "--rows", str(rows), "--stage", stage,
                "--folder", folder, *(("--evidently",) if evidently else ()),
            ]  # fmt: skip
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            for name, (seconds, peak) in json.loads(done.stdout.splitlines()[-1]).items():
                yield name, seconds, peak
        if evidently:
            yield THEIRS, *_evidently(Path(folder))


def _frame(rows: int, seed: int) -> str:
    """Features of many shapes: continuous, counts, with nulls, one constant."""
    columns = []
    for k in range(FEATURES):
        unit = f"(hash(i * {2 * k + 1} + {seed}) % 1000003) / 1000003.0::DOUBLE"
        value = f"floor({unit} * 12)" if k % 5 == 1 else f"-ln(1 - {unit})" if k % 5 == 2 else "1.0" if k == 5 else unit
        columns.append(f"CASE WHEN {unit} < {0.1 if k % 7 == 3 else 0} THEN NULL ELSE {value} END AS f{k}")
    splits = "(hash(i) % 4)::VARCHAR AS p, (hash(i + 1) % 50)::VARCHAR AS s"
    return f"SELECT {', '.join(columns)}, {splits} FROM range({rows}) r(i)"


def _made(folder: Path):  # type: ignore[no-untyped-def]
    from pipeline import lake
    from pipeline.config import Settings

    settings = Settings.at(folder / "home")
    lake.create(settings, "BIGINT")
    return settings, closing(lake.connect(settings, read_only=False))


def _make(arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    started = time.perf_counter()
    _, opened = _made(arguments.folder)
    with opened as con:
        for seed, name in ((1, "before"), (2, "tonight")):
            con.execute(f"CREATE TABLE lake.features.{name} AS {_frame(arguments.rows, seed)}")
            if arguments.evidently or arguments.rows <= 500_000:
                named = ", ".join(f"f{k}" for k in range(FEATURES))
                con.execute(f"COPY (SELECT {named} FROM features.{name}) TO '{arguments.folder / name}.parquet'")
    return {"two nights made": _spent(started)}


def _freeze(arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """Once in a version's life; what the nights then cost is in processes of their own, and so is their memory."""
    from pipeline.monitoring import baselines
    from pipeline.monitoring.bins import count_bins, read_bins

    _, opened = _made(arguments.folder)
    with opened as con:
        started = time.perf_counter()
        sample = "SELECT * FROM features.before LIMIT 300000"
        baselines.write(con, _version(), count_bins(con, sample, read_bins(con, sample, _names()), _segments()))
        return {"baseline frozen (a version's, once)": _spent(started)}


def _count(arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    return _night(arguments.folder, OURS, segmented=False)


def _split(arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    return _night(arguments.folder, f"{OURS}, product and state", segmented=True)


def _night(folder: Path, said: str, *, segmented: bool) -> dict[str, tuple[float, float]]:
    """What a night's monitor does: read the frozen baseline, count, compare, write."""
    from pipeline.monitoring import drift
    from pipeline.monitoring.bins import count_bins
    from pipeline.monitoring.policy import DriftPolicy

    _, opened = _made(folder)
    with opened as con:
        started = time.perf_counter()
        baseline = _baseline(con)
        tonight = count_bins(con, "SELECT * FROM features.tonight", baseline.bins, _segments() if segmented else ())
        drift.write_night(con, DriftPolicy(), baseline, tonight, LAST, 1)
        return {said: _spent(started)}


def _store(arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    from pipeline.monitoring import drift
    from pipeline.monitoring.bins import count_bins
    from pipeline.monitoring.policy import DriftPolicy

    _, opened = _made(arguments.folder)
    with opened as con:
        baseline = _baseline(con)
        tonight = count_bins(con, "SELECT * FROM features.tonight", baseline.bins, _segments())
        started = time.perf_counter()
        for back in range(1, NIGHTS):
            drift.write_night(con, DriftPolicy(), baseline, tonight, LAST - timedelta(days=back), 1)
        return {f"store {NIGHTS - 1} more nights from their counts": _spent(started)}


def _read(arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    from pipeline.monitoring.drift import history

    _, opened = _made(arguments.folder)
    found = {}
    with opened as con:
        for said in ("first", "again"):
            started = time.perf_counter()
            rows = history(con, LAST - timedelta(days=NIGHTS - 1), LAST)
            found[f"read {NIGHTS} nights × {FEATURES} features, {said} ({len(rows):,} rows)"] = _spent(started)
    return found


def _names() -> list[str]:
    return [f"f{k}" for k in range(FEATURES)]


def _segments():  # type: ignore[no-untyped-def]
    from pipeline.monitoring.bins import Segment

    return (Segment("product", "p"), Segment("state", "s", wide=True))


def _version():  # type: ignore[no-untyped-def]
    from pipeline.registry import ModelVersion

    return ModelVersion("bench", 1, "", "", "", 0, "", datetime.now(UTC), "", {})


def _baseline(con):  # type: ignore[no-untyped-def]
    from pipeline.monitoring import baselines

    counts = baselines.kept(con, _version(), _names())
    assert counts is not None
    importance = {name: i for i, name in enumerate(_names(), start=1)}
    return baselines.Baseline("bench", 1, counts, importance, LAST - timedelta(days=NIGHTS))


def _evidently(folder: Path) -> tuple[float, float]:
    environment = folder / "evidently"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    python = environment / "bin" / "python"
    subprocess.run([str(python), "-m", "pip", "install", "--quiet", "evidently", "pandas<3", "pyarrow"], check=True)
    files = [str(folder / f"{name}.parquet") for name in ("before", "tonight")]
    done = subprocess.run([str(python), "-c", EVIDENTLY, *files], stdout=subprocess.PIPE, text=True, check=True)
    seconds, peak = map(float, done.stdout.split()[-2:])
    return seconds, peak


def _spent(started: float) -> tuple[float, float]:
    return time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


STAGES = {"make": _make, "freeze": _freeze, "count": _count, "split": _split, "store": _store, "read": _read}


if __name__ == "__main__":
    main()
