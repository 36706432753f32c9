"""Figures and their words, from frames."""

from __future__ import annotations

from datetime import date

import pandas as pd
import pytest

from app import charts, charts_drift, formats
from pipeline.portfolio import Grade

GRADES = (Grade("A", 0.02), Grade("B", 0.05), Grade("C", 1.0))


@pytest.fixture
def nights() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "as_of": pd.to_datetime(["2026-03-12", "2026-03-13", "2026-03-14"]),
            "pd": [0.019, 0.021, 0.030],
            "grade": ["A", "B", "B"],
            "points": [640, 636, 620],
            "model": ["pd_default v30", "pd_default v31", "pd_default v31"],
        }
    )


def test_the_history_draws_the_grade_bounds_in_sight_and_the_change_of_model(nights: pd.DataFrame) -> None:
    figure = charts.score_history(nights, GRADES)
    bounds = [s.y0 for s in figure.layout.shapes if s.xref == "paper"]
    changes = [s.x0 for s in figure.layout.shapes if s.yref == "paper"]
    assert bounds == [0.02]
    assert changes == [pd.Timestamp("2026-03-12 12:00")]
    assert [a.text for a in figure.layout.annotations] == ["v31", "A", "B"]


def test_the_history_in_words(nights: pd.DataFrame) -> None:
    assert charts.score_history_words(nights) == (
        "PD over 3 nights: 1.90% (grade A) on 12 Mar 2026, 3.00% (grade B) on 14 Mar 2026; lowest 1.90%, highest "
        "3.00%. Model changes: pd_default v31 from 13 Mar 2026."
    )


def test_mean_and_shares_come_from_the_counts_by_grade() -> None:
    summary = pd.DataFrame(
        {
            "as_of": pd.to_datetime(["2026-03-13", "2026-03-13", "2026-03-14"]),
            "grade": ["A", "B", "B"],
            "accounts": [3, 1, 4],
            "pd_sum": [0.03, 0.05, 0.16],
            "model": ["m v1", "m v1", "m v1"],
        }
    )
    figure = charts.mean_pd(charts.mean_by_night(summary), date(2026, 2, 13))
    assert figure.layout.xaxis.range[0] < pd.Timestamp("2026-02-13"), "few nights stand at the end of the whole span"
    assert charts.mean_by_night(summary)["mean_pd"].tolist() == pytest.approx([0.02, 0.04])
    shares = charts.shares_by_night(summary, ["A", "B", "C"])
    assert shares[["A", "B", "C"]].to_numpy().tolist() == [[0.75, 0.25, 0.0], [0.0, 1.0, 0.0]]
    assert [trace.name for trace in charts.grade_shares(shares, ["A", "B", "C"], date(2026, 3, 1)).data] == [
        "A",
        "B",
        "C",
    ]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.probability(0.0342), "3.42%"),
        (formats.probability(0.00002), "<0.01%"),
        (formats.probability(0.0), "0.00%"),
        (formats.probability(float("nan")), "–"),
        (formats.sentence("19,819 rows of 2,000,000: 3,4"), "19\u202f819 rows of 2\u202f000\u202f000: 3,4"),
        (formats.sentence("limit (-0.0050) of 2026-03-14, v-1"), "limit (\u22120.0050) of 14 Mar 2026, v-1"),
        (formats.sentence("extracts/2026-03-13: late; 2026-02-30"), "extracts/2026-03-13: late; 2026-02-30"),
        (formats.count(20_000), "20\u202f000"),
        (formats.count(None), "–"),
        (formats.points_change(-0.0132), "−1.32 pp"),
        (formats.points_change(0.00001), "0.00 pp"),
        (formats.duration(4.2), "4.2\u202fs"),
        (formats.duration(59.7), "1\u202fmin 00\u202fs"),
        (formats.duration(3 * 86400), "3\u202fd 0\u202fh"),
        (formats.decimal(-0.2), "−0.200"),
        (formats.decimal(1243.0), "1\u202f243"),
        (formats.short("60c1d869902b1abcca28"), "60c1d869902b"),
    ],
)
def test_numbers_are_written_one_way(written: str, expected: str) -> None:
    assert written == expected


def test_a_year_without_a_night_is_a_column_of_nothing() -> None:
    nights = [date(2025, 3, 8), date(2026, 3, 13), date(2026, 3, 14)]
    cells = pd.DataFrame(
        {"feature": "dpd", "as_of": nights, "psi": [0.3, 0.0, 0.3], "critical": 0.1, "significant": True, "n": 500}
    )
    figure = charts_drift.heatmap(cells, ["dpd"], nights, (0.1, 0.25))
    (heat,) = [trace for trace in figure.data if trace.type == "heatmap"]
    assert list(heat.x) == ["2025-03-08", "2025-03-09", "2026-03-13", "2026-03-14"]
    assert [value is None for value in heat.z[0]] == [False, True, False, False]
    assert dict(zip(figure.layout.xaxis.tickvals, figure.layout.xaxis.ticktext, strict=True)) == {
        "2025-03-08": "8 Mar 2025", "2026-03-13": "13 Mar 2026", "2026-03-14": "14 Mar 2026", "2025-03-09": "⋯",
    }  # fmt: skip
