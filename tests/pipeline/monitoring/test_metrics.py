"""The Prometheus text file: the format, and what it says of a finished and of a failed night."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

from pipeline import ledger
from pipeline.monitoring import metrics
from pipeline.monitoring.metrics import Metric
from tests import published_home
from tests.published_home import LAST

LINE = re.compile(r'scoretrace_[a-z_]+(\{[a-z]+="[^"\n]*"(,[a-z]+="[^"\n]*")*\})? -?[0-9.e+]+(inf|nan)?')


def test_labels_are_escaped_and_a_metric_without_samples_is_left_out() -> None:
    text = metrics.render(
        [Metric("a", "Says a.", (({"task": 'x"\\\n'}, 1.5), ({}, 2.0))), Metric("b", "Says nothing.")]
    )
    assert text == (
        "# HELP scoretrace_a Says a.\n# TYPE scoretrace_a gauge\n"
        'scoretrace_a{task="x\\"\\\\\\n"} 1.5\nscoretrace_a 2.0\n'
    )


@pytest.mark.parametrize("failed", [False, True])
def test_the_file_of_a_night(tmp_path: Path, failed: bool) -> None:
    settings = published_home.build(tmp_path / "home", nights=2, failed_last=failed)
    engine = ledger.open_ledger(settings)
    run = ledger.runs(engine, limit=1)[0]
    path = metrics.after_run(settings, engine, run.run_id)
    assert path == settings.home / "metrics" / "scoretrace.prom"
    assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing half written is left"
    lines = path.read_text(encoding="utf-8").splitlines()
    assert all(line.startswith("# ") or LINE.fullmatch(line) for line in lines), lines
    found = dict(line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    midnight = datetime.combine(LAST, datetime.min.time(), UTC).timestamp()
    assert float(found["scoretrace_published_as_of_timestamp_seconds"]) == midnight
    assert float(found["scoretrace_night_succeeded"]) == (0.0 if failed else 1.0)
    assert float(found['scoretrace_gates{verdict="fail"}']) == (1.0 if failed else 0.0)
    assert float(found['scoretrace_task_seconds{task="gate"}']) == pytest.approx(2.2 if failed else 3.1)
    assert ('scoretrace_task_rows{task="publish"}' in found) is not failed
    published = ledger.latest_publication(engine)
    assert published is not None
    sla = ledger.sla_of(published, ledger.run(engine, published.run_id))
    in_time = {ledger.Sla.MET: "1.0", ledger.Sla.MISSED: "0.0"}
    assert found.get("scoretrace_published_sla_met") == in_time.get(sla)
    engine.dispose()
