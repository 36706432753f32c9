"""``make kill-nights TIMES=200``: kill the night so many times, over all tasks; each time it must come out the same."""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import Counter
from pathlib import Path

from tests.conftest import SECOND, make_cascade
from tests.faults.killing import Nights, drawn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--seed", type=int, default=20260314)
    parser.add_argument("--skip", type=int, default=0, help="draws to pass over: go on where a run was stopped")
    parser.add_argument("--prepared", type=Path, help="a folder made before (it holds a folder `home`)")
    parser.add_argument("--tests", action="store_true", help="with dbt's data tests: twice the time, the same writes")
    parser.add_argument("--points", action="store_true", help="only once at the worst moment of each task, in one home")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(
        prefix="scoretrace-kill-", dir=options.prepared and options.prepared.parent
    ) as scratch:
        prepared = options.prepared or _made(Path(scratch) / "prepared")
        nights = Nights(prepared / "home", Path(scratch), SECOND, tests=options.tests)
        expected = nights.undisturbed()
        took = ", ".join(f"{t} {s:.1f} s" for t, s in nights.seconds.items())
        print(f"undisturbed: content {expected[:12]}; {took}", flush=True)
        if options.points:
            print(f"killed in {', '.join(nights.at_points())}: the same bytes")
            return
        killed, over, reads, began = Counter[str](), Counter[str](), 0, time.monotonic()
        # A night that was over before it could be killed is drawn again: as many kills as were asked for.
        for number, (task, share) in enumerate(drawn(options.seed, 2 * options.times), start=1):
            if number <= options.skip:
                continue
            if sum(killed.values()) == options.times:
                break
            found = nights.trial(task, share)
            (over if found.survived else killed)[task] += 1
            reads += found.reads
            when = f"over before {found.after:.2f} s" if found.survived else f"killed at {found.after:.2f} s"
            print(f"{number:4} {task:9} {when}: the same bytes; {found.reads} reads", flush=True)
        if sum(killed.values()) < options.times:
            raise SystemExit(f"only {sum(killed.values())} nights were killed: the others were over before their kill")
        counts = ", ".join(f"{t} {killed[t]}" for t in nights.seconds)
        print(
            f"killed {sum(killed.values())} times ({counts}), over before the kill {sum(over.values())}; every night "
            f"then published {expected[:12]}; {reads:,} reads, each a whole night; {time.monotonic() - began:,.0f} s"
        )


def _made(folder: Path) -> Path:
    import multiprocessing

    folder.mkdir()
    # In a process of its own: it opens DuckDB, which a process that forks must not have done.
    maker = multiprocessing.get_context("spawn").Process(target=make_cascade, args=(folder,))
    maker.start()
    maker.join()
    assert maker.exitcode == 0
    return folder


if __name__ == "__main__":
    main()
