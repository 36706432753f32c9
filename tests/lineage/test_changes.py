"""Why a score moved: parts that add up, each cause under its own name; a night's SQL asked on a later date."""

from __future__ import annotations

import re
from contextlib import closing
from dataclasses import replace
from datetime import date

import pytest
from sqlalchemy import select, update

from lineage.changes import PARTS, Why, why
from lineage.definitions import undated
from lineage.recording import RecordedModel, Recording, recording
from lineage.rolling_on import rolled_on
from pipeline import archive, control, lake
from pipeline.errors import NotFound
from tests.conftest import FIRST, SECOND
from tests.lineage.conftest import Story, column, point_publication_at
from tests.signing_off import at_the_home


def moved(story: Story, subject: int, start: date = FIRST, end: date = SECOND) -> Why:
    return why(story.settings, story.engine, story.portfolio, str(subject), start, end, actor=at_the_home())


def on_both_nights(story: Story, more: str, most: int) -> list[int]:
    with story.lake_on(SECOND) as con:
        return column(
            con,
            f"""SELECT a.account_id FROM scores.account_scores a JOIN scores.account_scores b USING (account_id)
            WHERE a.as_of_date = DATE '{FIRST}' AND b.as_of_date = DATE '{SECOND}' AND {more}
            ORDER BY md5(account_id::VARCHAR) LIMIT {most}""",
        )


def part(found: Why, name: str) -> float:
    return next(p.change for p in found.parts if p.name == name)


def test_the_parts_add_up_to_the_change_for_any_account(story: Story) -> None:
    with_news = "a.account_id IN (SELECT account_id FROM raw.loan_servicing WHERE load_date = DATE '2026-03-13')"
    subjects = [*on_both_nights(story, "true", 3), *on_both_nights(story, with_news, 2), story.restated]
    for subject in subjects:
        found = moved(story, subject)
        assert tuple(p.name for p in found.parts) == PARTS
        assert sum(p.change for p in found.parts) == pytest.approx(found.change, abs=1e-9)
        features = sum(sum(parts.values()) for parts in found.by_feature.values())
        assert features == pytest.approx(found.change, abs=1e-9)
        for p in found.parts:
            assert sum(p.by_feature.values()) == pytest.approx(p.change, abs=1e-9)
        with story.lake_on(SECOND) as con:
            stored = dict(
                con.execute(
                    "SELECT as_of_date, log_odds FROM scores.account_scores WHERE account_id = ?", [subject]
                ).fetchall()
            )
        assert (found.before.log_odds, found.after.log_odds) == (stored[FIRST], stored[SECOND])
        assert found.notes == ()
        assert part(found, "definition") == 0.0


def test_a_statement_that_came_is_counted_under_came(story: Story) -> None:
    with_news = "a.account_id IN (SELECT account_id FROM raw.loan_servicing WHERE load_date = DATE '2026-03-13')"
    [subject] = on_both_nights(story, with_news, 1)
    came = next(p for p in moved(story, subject).parts if p.name == "came")
    assert {str(r["load_date"]) for rows in came.rows.values() for r in rows} == {str(SECOND)}
    assert len(came.rows["loan_servicing"]) == 1
    assert came.change != 0.0


def test_a_statement_delivered_again_is_counted_under_restated(story: Story) -> None:
    found = moved(story, story.restated)
    restated = next(p for p in found.parts if p.name == "restated")
    old, new = restated.rows["loan_servicing"]
    assert (old["account_id"], old["statement_date"]) == (new["account_id"], new["statement_date"])
    assert new["balance"] == old["balance"] * 2
    assert {old["load_date"], new["load_date"]} == {FIRST}
    assert restated.change != 0.0
    assert all(p.rows == {} for p in found.parts if p.name in ("time", "definition", "model", "went"))


def test_another_model_is_counted_under_model_and_nothing_else_is(story: Story) -> None:
    quiet = (
        f"a.account_id NOT IN (SELECT account_id FROM raw.payments_ledger WHERE load_date = DATE '{SECOND}') AND {{}}"
    )
    still = quiet.format(
        f"a.account_id NOT IN (SELECT account_id FROM raw.loan_servicing WHERE load_date >= '{FIRST}')"
    )
    for subject in on_both_nights(story, still, 2):
        found = moved(story, subject)
        assert (found.first.scored.version, found.second.scored.version) == (1, 2)
        assert part(found, "model") != 0.0
        assert [part(found, p) for p in ("restated", "went", "came", "definition")] == [0.0] * 4
        assert part(found, "time") + part(found, "model") == pytest.approx(found.change, abs=1e-12)


def test_between_two_nights_in_one_order_only(story: Story) -> None:
    for start, end in ((SECOND, FIRST), (FIRST, FIRST)):
        with pytest.raises(NotFound, match="is not before"):
            moved(story, story.restated, start, end)


def test_an_account_that_was_not_scored_on_one_of_them(story: Story) -> None:
    with story.lake_on(SECOND) as con:
        [new, *_] = column(
            con,
            f"""SELECT account_id FROM scores.account_scores WHERE as_of_date = DATE '{SECOND}' AND account_id NOT IN (
                SELECT account_id FROM scores.account_scores WHERE as_of_date = DATE '{FIRST}') ORDER BY 1""",
        )
    with pytest.raises(NotFound, match=f"{new} has no score on {FIRST}"):
        moved(story, new)


def test_a_row_taken_out_is_counted_under_went(own_story: Story) -> None:
    [subject] = on_both_nights(own_story, "true", 1)
    with closing(lake.connect(own_story.settings, read_only=False)) as con:
        con.execute("DELETE FROM raw.loan_servicing WHERE account_id = ? AND statement_date = ("
                    "SELECT max(statement_date) - INTERVAL 0 DAY FROM raw.loan_servicing WHERE account_id = ?)",
                    [subject, subject])  # fmt: skip
        snapshot = lake.current_snapshot(con)
    point_publication_at(own_story, SECOND, snapshot)
    found = moved(own_story, subject)
    went = next(p for p in found.parts if p.name == "went")
    assert len(went.rows["loan_servicing"]) == 1
    assert any("does not come out as stored" in n or "there is no score" in n for n in found.notes)


def redefine(story: Story, name: str, pattern: str, text: str) -> None:
    """Record another definition of a model for the second night, as if the project had changed before it."""
    [run_id] = story.runs_of(SECOND)
    results = control.dbt_results
    with story.engine.begin() as db:
        rows = db.execute(select(results).where(results.c.run_id == run_id, results.c.model == name)).all()
        [was] = [r for r in rows if r.resource_type == "model"]
        sql, count = re.subn(pattern, text, archive.read_text(story.settings, was.definition_sha256))
        assert count == 1
        sha256 = archive.keep(story.settings, sql.encode())
        db.execute(update(results).where(results.c.id == was.id).values(definition_sha256=sha256))


def test_a_changed_definition_is_counted_under_definition(own_story: Story) -> None:
    subject = own_story.restated
    before = moved(own_story, subject)
    redefine(own_story, "feat_utilization", r"(utilization_1) as utilization_last_1", r"\1 + 0.4 as utilization_last_1")
    redefine(own_story, "feat_delinquency", r"(days_past_due_1) as dpd_last_1", r"\1 + 60 as dpd_last_1")
    found = moved(own_story, subject)
    definition = next(p for p in found.parts if p.name == "definition")
    assert definition.change != 0.0
    assert [part(found, p) for p in ("time", "restated", "went", "came")] == [
        part(before, p) for p in ("time", "restated", "went", "came")
    ]
    assert sum(p.change for p in found.parts) == pytest.approx(found.change, abs=1e-9)
    assert (found.before.features["dpd_last_1"], found.after.features["dpd_last_1"]) == (0, 60)
    assert any(f"the score of {SECOND} does not come out as stored" in note for note in found.notes)


def test_a_feature_that_the_later_definition_dropped_is_said(own_story: Story) -> None:
    """The first night's model cannot score what the second night's definition gives; the question is answered still."""
    redefine(own_story, "account_features", r"delinquency\.dpd_last_1,", "")
    found = moved(own_story, own_story.restated)
    assert any("after definition alone there is no score" in note for note in found.notes)
    assert sum(p.change for p in found.parts) == pytest.approx(found.change, abs=1e-9)


# -- a night's SQL on a later date


def model(name: str, sql: str) -> RecordedModel:
    return RecordedModel(name, f'"lake"."staging"."{name}"', "staging", True, sql, "0" * 64, {})


@pytest.fixture(scope="module")
def two(story: Story) -> tuple[Recording, Recording]:
    return tuple(recording(story.settings, story.engine, d, "account") for d in (FIRST, SECOND))  # type: ignore[return-value]


def rolled(
    two: tuple[Recording, Recording], first: list[RecordedModel], second: list[RecordedModel]
) -> tuple[list[str], list[str]]:
    models, notes = rolled_on(replace(two[0], models=tuple(first)), replace(two[1], models=tuple(second)))
    return [m.sql for m in models], notes


def test_an_unchanged_definition_on_the_later_date_is_the_later_nights(two: tuple[Recording, Recording]) -> None:
    models, notes = rolled_on(*two)
    assert notes == []
    assert [m.sql for m in models] == [m.sql for m in two[1].models]
    assert [undated(m.sql) for m in two[0].models] == [undated(m.sql) for m in two[1].models]


def test_a_changed_definition_keeps_its_text_and_takes_the_later_dates(two: tuple[Recording, Recording]) -> None:
    plain = "select 1 where d <= date '{}' and d > date '{}'"
    first = [
        model("a", plain.format(FIRST, "2026-02-01")),
        model("b", f"select v * 2 where d > date '2026-02-01' and d <= DATE '{FIRST}'"),
    ]
    second = [model("a", plain.format(SECOND, "2026-02-02")), model("b", f"select v * 3 where d <= date '{SECOND}'")]
    texts, notes = rolled(two, first, second)
    assert notes == []
    assert texts == [second[0].sql, f"select v * 2 where d > date '2026-02-02' and d <= date '{SECOND}'"]


def test_a_date_that_nothing_tells_counts_the_definition_with_time(two: tuple[Recording, Recording]) -> None:
    first, second = [model("a", "select 1 where d > date '2025-01-01'")], [model("a", "select 2")]
    texts, notes = rolled(two, first, second)
    assert texts == ["select 2"]
    assert len(notes) == 1 and "the definition of a changed" in notes[0] and "under time" in notes[0]


def test_a_date_that_became_two_cannot_be_told(two: tuple[Recording, Recording]) -> None:
    pair = "select 1 where d > date '{}' and e > date '{}'"
    first = [model("a", pair.format("2026-02-01", "2026-02-01")), model("b", "select 1 where d > date '2026-02-01'")]
    second = [model("a", pair.format("2026-02-02", "2026-02-03")), model("b", "select 2")]
    texts, notes = rolled(two, first, second)
    assert texts[1] == "select 2"
    assert len(notes) == 1


def test_a_model_that_is_gone_on_the_later_night_is_rolled_on(two: tuple[Recording, Recording]) -> None:
    texts, notes = rolled(two, [model("a", f"select date '{FIRST}'")], [model("z", "select 1")])
    assert (texts, notes) == ([f"select date '{SECOND}'"], [])


def test_a_definition_is_the_same_whatever_its_dates_and_its_layout() -> None:
    night = "select a\nfrom t\nwhere d = date '2026-02-28'\n    and a > 1\ngroup by a"
    month_later = "select a\nfrom t\nwhere d = DATE '2026-03-01'\n    and a > 1\n\n\ngroup by a\n"
    assert undated(night) == undated(month_later)
    assert undated(night) != undated(night.replace("a > 1", "a > 2"))
