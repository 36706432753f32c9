"""Scores as fragments of a page: tables, figures of one score, where it came from, why. Pure; no Streamlit."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd

from app import formats, markup, style
from app.data import Reason, Score
from app.markup import Cell, Column, Html, Table
from app.night_facts import promoted_by
from lineage.personal_data import MASK
from pipeline.governance.promotion_log import LetScore


def earlier_table(scores: Sequence[tuple[str, Score]], caption: str) -> Table:
    """(kind of subject, its last score) of several nights; the first column holds the ids."""
    columns = [Column("id"), Column("of"), Column("last scored"), Column("PD", "number"), Column("grade"),
               Column("points", "number"), Column("model", "fill")]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            str(s.id),
            subject,
            formats.day(s.as_of),
            formats.probability(s.pd),
            s.grade,
            formats.count(s.points),
            model(s),
        ]
        for subject, s in scores
    ]
    return markup.table(columns, rows, caption)


def score_table(
    subject: str,
    scores: Sequence[Score],
    grades: Sequence[str],
    zone: ZoneInfo,
    previous: date | None,
    caption: str,
    order: str | None = None,
) -> Table:
    """Scores of one night beside the night before's; the first column holds the ids."""
    before = formats.heads((previous, scores[0].as_of))[0] if previous and scores else "before"
    columns = [
        Column(subject, order="id"),
        Column("PD", "number", order="-pd"),
        Column(f"PD {before}", "number", order="-before"),
        Column("change", "number", order="-change"),
        Column("grade"),
        Column("points", "number", order="-points"),
        Column("model", order="-model"),
        Column("scored", "fill"),
    ]
    rows: list[list[Cell]] = [
        [
            str(s.id),
            formats.probability(s.pd),
            formats.probability(s.previous_pd),
            change(s),
            grade(s, grades),
            formats.count(s.points),
            model(s),
            markup.at(s.scored_at, zone, seconds=True),
        ]
        for s in scores
    ]
    return markup.table(columns, rows, caption, fit=True, order=order)


@dataclass(frozen=True)
class Scored:
    """A published score among those of one subject. new_model: the score before it was another model's."""

    score: Score
    new_model: bool


HISTORY_ORDERS: Mapping[str, Callable[[Scored], Any]] = {
    "night": lambda s: s.score.as_of,
    "pd": lambda s: s.score.pd,
    "change": lambda s: None if s.score.previous_pd is None else s.score.pd - s.score.previous_pd,
    "points": lambda s: s.score.points,
    "model": lambda s: (s.score.model_name, s.score.model_version),
    "scored": lambda s: s.score.scored_at,
}


def history(scores: Sequence[Score]) -> list[Scored]:
    """One subject's scores, oldest first, each with whether it begins another model."""
    before = [None, *scores]
    return [Scored(s, older is not None and model(older) != model(s)) for older, s in zip(before, scores, strict=False)]


def history_table(shown: Sequence[Scored], grades: Sequence[str], zone: ZoneInfo, caption: str, order: str) -> Table:
    """Scores of one subject, as they are given; the first column holds the dates."""
    columns = [
        Column("as of", order="-night"),
        Column("PD", "number", order="-pd"),
        Column("change", "number", order="-change"),
        Column("grade"),
        Column("points", "number", order="points"),
        Column("model", order="-model"),
        Column("digest"),
        Column("run"),
        Column("scored", "fill", order="-scored"),
    ]
    rows: list[list[Cell]] = [
        [
            formats.day(x.score.as_of),
            formats.probability(x.score.pd),
            change(x.score),
            grade(x.score, grades),
            formats.count(x.score.points),
            Html(f"{markup.html(model(x.score))} <b>new</b>") if x.new_model else model(x.score),
            markup.digest(x.score.model_digest),
            x.score.run_id,
            markup.at(x.score.scored_at, zone, seconds=True),
        ]
        for x in shown
    ]
    return markup.table(columns, rows, caption, fit=True, order=order)


def figures(score: Score, grades: Sequence[str], zone: ZoneInfo, before: date | None = None) -> Html:
    """One score's figures side by side. before: the night of the score before it."""
    since = "first score on record"
    if score.previous_pd is not None:
        on = f" on {formats.day(before, year=before.year != score.as_of.year)}" if before else ""
        since = f"{change(score)}; was {formats.probability(score.previous_pd)}{on}"
    place = f"{grades.index(score.grade) + 1} of {len(grades)}, {grades[0]} is best" if score.grade in grades else ""
    scored = markup.join(["scored ", markup.at(score.scored_at, zone, seconds=True)], "")
    return markup.facts(
        [
            ("PD", formats.probability(score.pd), since),
            ("Grade", grade(score, grades), place),
            ("Points", formats.count(score.points), "more is safer"),
            ("Log-odds", formats.signed(score.log_odds, 4), "ln(PD / (1 − PD))"),
            ("As of", formats.day(score.as_of), scored),
        ]
    )


def origin(score: Score, promotion: LetScore | None, zone: ZoneInfo) -> Html:
    """Which bytes scored it, who let them, in which run, over which features."""
    by = Html(f"by <b>{markup.html(model(score))}</b> {markup.digest(score.model_digest)}")
    let = promoted_by(promotion, zone)
    parts: list[Cell] = [
        by,
        Html(f"promoted by {let}") if promotion else let,
        f"run {score.run_id}",
        f"features of snapshot {score.feature_snapshot}",
    ]
    return Html(f"<p>{markup.join(parts)}</p>")


def reason_table(stored: Sequence[Reason], personal: frozenset[str], says: Mapping[str, str]) -> Table:
    """What raised a score most, as the night stored it, each with its sign in words and colour.

    personal: features whose values are masked. What they contribute is not shown either: these are a few of them, and
    one alone, or the rest of a sum, narrows its value. says: feature → what it is.
    """
    told = [(r.feature, formats.decimal(r.value), r.contribution) for r in stored if r.feature not in personal]
    withheld = sum(r.feature in personal for r in stored)
    longest = max((abs(contribution) for *_, contribution in told), default=0.0) or 1.0
    columns = [
        Column("feature"),
        Column("value", "number"),
        Column("log-odds", "number"),
        Column("", "bar-cell"),
        Column("effect", "fill"),
    ]
    rows: list[list[Cell]] = [
        [
            markup.named(name, says),
            value,
            formats.signed(contribution),
            markup.bar(abs(contribution) / longest, style.RAISES if contribution > 0 else style.LOWERS),
            "raises risk" if contribution > 0 else "lowers risk",
        ]
        for name, value, contribution in told
    ]
    if withheld:
        rows.append([formats.plural(withheld, "masked feature"), MASK, MASK, "", "withheld: personal data"])
    return markup.table(columns, rows, "What raised this score most", fit=True)


def history_frame(scores: Sequence[Score]) -> pd.DataFrame:
    """What the history's figure reads: as_of, pd, grade, points, model; one row a score, in the order given."""
    return pd.DataFrame(
        {
            "as_of": pd.to_datetime([s.as_of for s in scores]),
            "pd": [s.pd for s in scores],
            "grade": [s.grade for s in scores],
            "points": [s.points for s in scores],
            "model": [model(s) for s in scores],
        }
    )


def model(score: Score) -> str:
    return f"{score.model_name} v{score.model_version}"


def change(score: Score) -> str:
    """The PD's change since the night before, in percentage points."""
    return formats.points_change(score.pd - score.previous_pd) if score.previous_pd is not None else formats.MISSING


def grade(score: Score, grades: Sequence[str]) -> Html:
    """The grade, and where it came from if it moved."""
    before = score.previous_grade
    if before is None or before == score.grade or before not in grades or score.grade not in grades:
        return Html(markup.html(score.grade))
    worse = grades.index(score.grade) > grades.index(before)
    level, sign, word = ("watch", "▲", "worse") if worse else ("ok", "▼", "better")
    moved = f"<small class='{level}'>{sign} {word}, was {markup.html(before)}</small>"
    return Html(f"{markup.html(score.grade)} {moved}")
