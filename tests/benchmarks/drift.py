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
from contextlib import closing
from datetime import date, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

FEATURES, NIGHTS = 140, 90
LAST = date(2026, 3, 14)

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
        print(json.dumps({"make": _make, "count": _count, "read": _read}[arguments.stage](arguments)))
        return
    print(f"{arguments.rows:,} rows, {FEATURES} features, {platform.machine()}, {os.cpu_count()} cores")
    with TemporaryDirectory(prefix="scoretrace-drift-") as folder:
        arguments.folder = Path(folder)
        for stage in ("make", "count", "read"):
            command = [
                sys.executable, "-m", "tests.benchmarks.drift", "--rows", str(arguments.rows), "--stage", stage,
                "--folder", folder,
            ]  # fmt: skip
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            for name, (seconds, peak) in found.items():
                print(f"{name:58} {seconds:9.2f} s {peak:9,.0f} MiB peak", flush=True)
                if name.startswith("count, compare"):
                    ours = (seconds, peak)
        if arguments.evidently:
            seconds, peak = _evidently(Path(folder))
            print(f"{'Evidently, PSI preset, frames in memory':58} {seconds:9.2f} s {peak:9,.0f} MiB peak")
            print(f"ours is {seconds / ours[0]:,.0f} times as fast, with {ours[1] / peak:.2f} of its memory")


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


def _count(arguments: argparse.Namespace) -> dict[str, tuple[float, float]]:
    """The baseline is read first and stored, as a version's is; what a night costs is then counted and written."""
    from pipeline.monitoring import baselines, drift
    from pipeline.monitoring.bins import Segment, count_bins, read_bins
    from pipeline.monitoring.policy import DriftPolicy

    features = [f"f{k}" for k in range(FEATURES)]
    splits = (Segment("product", "p"), Segment("state", "s", wide=True))
    found = {}
    _, opened = _made(arguments.folder)
    with opened as con:
        started = time.perf_counter()
        sample = "SELECT * FROM features.before LIMIT 300000"
        bins = read_bins(con, sample, features)
        counts = count_bins(con, sample, bins, splits)
        baseline = baselines.Baseline("bench", 1, counts, {name: i for i, name in enumerate(features, start=1)})
        found["baseline frozen (a version's, once)"] = _spent(started)
        for segments, said in (((), "the whole book"), (splits, "and by product and state")):
            started = time.perf_counter()
            tonight = count_bins(con, "SELECT * FROM features.tonight", bins, segments)
            drift.write_night(con, DriftPolicy(), baseline, tonight, LAST, 1)
            found[f"count, compare and store, {said}"] = _spent(started)
        started = time.perf_counter()
        for back in range(1, NIGHTS):
            drift.write_night(con, DriftPolicy(), baseline, tonight, LAST - timedelta(days=back), 1)
        found[f"store {NIGHTS - 1} more nights from their counts"] = _spent(started)
    return found


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


if __name__ == "__main__":
    main()
