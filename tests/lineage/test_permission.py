"""Who may not ask is refused before anything is read, and the refusal is on record."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest
from sqlalchemy import Engine

from lineage.changes import why
from lineage.personal_data import MASK, masked, personal_names, record_read
from lineage.replay import replay, replay_night
from lineage.trace import trace
from pipeline.errors import AccessDenied
from pipeline.governance import audit, checkpoints
from pipeline.governance.chain import Record
from pipeline.governance.export import export
from pipeline.nightly import run_night
from pipeline.retrain import run_retrain
from tests.conftest import FIRST
from tests.lineage.conftest import Story
from tests.signing_off import at_the_home, person

VIEWER = person("vera", "viewer")
DAY = date(2026, 3, 14)
Ask = Callable[[Story, Path], object]
ASKED: dict[str, tuple[str, Ask]] = {
    "trace": ("trace.read", lambda s, _: trace(s.settings, s.engine, s.portfolio, "1", DAY, actor=VIEWER)),
    "replay": ("trace.read", lambda s, _: replay(s.settings, s.engine, s.portfolio, "1", DAY, actor=VIEWER)),
    "replay --all": ("trace.read", lambda s, _: replay_night(s.settings, s.engine, DAY, "account", actor=VIEWER)),
    "why": ("trace.read", lambda s, _: why(s.settings, s.engine, s.portfolio, "1", FIRST, DAY, actor=VIEWER)),
    "nightly": ("run.night", lambda s, _: run_night(s.settings, s.portfolio, s.engine, DAY, actor=VIEWER)),
    "retrain": (
        "run.retrain",
        lambda s, _: run_retrain(s.settings, s.portfolio, s.engine, s.portfolio.models[0], DAY, actor=VIEWER),
    ),
    "audit export": ("audit.export", lambda s, out: export(s.engine, out / "log.jsonl", by=VIEWER)),
    "audit checkpoint": (
        "audit.verify",
        lambda s, out: checkpoints.write(s.settings, s.engine, out / "c.json", actor=VIEWER),
    ),
    "audit rotate-key": ("key.rotate", lambda s, _: checkpoints.rotate_key(s.settings, s.engine, actor=VIEWER)),
}


def test_a_viewer_is_refused_and_that_is_recorded(own_story: Story, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    for what, (rule, ask) in ASKED.items():
        before = audit.head(own_story.engine).seq
        with pytest.raises(AccessDenied, match=rule.replace(".", r"\.")):
            ask(own_story, out)
        [record] = _after(own_story.engine, before)
        told = (record.actor, record.action, record.facts)
        assert told == ("vera", "access.refused", {"rule": rule, "roles": ["viewer"]}), what
    assert list(out.iterdir()) == [], "nothing was written"


def test_personal_data_is_masked_and_its_reading_is_recorded(own_story: Story) -> None:
    subject = str(own_story.ids(FIRST, "application", 1)[0])
    found = trace(own_story.settings, own_story.engine, own_story.portfolio, subject, FIRST, actor=at_the_home())
    names = personal_names(found)
    assert "stated_income" in names
    hidden = masked(found)
    assert {f.value for f in hidden.features if f.name in names} == {MASK}
    assert not any(f.contribution for f in hidden.features if f.name in names)
    told = math.fsum((hidden.base, hidden.together or 0.0, *(f.contribution or 0.0 for f in hidden.features)))
    assert hidden.together is not None and told == pytest.approx(found.score["log_odds"], abs=1e-9)
    rows = [row for f in hidden.features for s in f.sources if s.table == "applications" for row in s.rows]
    assert {row["stated_income"] for row in rows} == {MASK}
    kept = [(f.name, f.value, f.proved) for f in hidden.features if f.name not in names]
    assert kept == [(f.name, f.value, f.proved) for f in found.features if f.name not in names]
    before = audit.head(own_story.engine).seq
    record_read(own_story.engine, person("ana", "analyst"), found, names)
    [record] = _after(own_story.engine, before)
    assert (record.actor, record.action, record.subject) == ("ana", "personal_data.read", f"application:{subject}")
    with pytest.raises(AccessDenied, match=r"personal_data\.read"):
        record_read(own_story.engine, VIEWER, found, names)


def _after(engine: Engine, seq: int) -> list[Record]:
    return [r for r in audit.records(engine) if r.seq > seq]
