"""The four-fifths rule to the last fraction, small groups, and the standardised difference of scores."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.monitoring.fairness import Moments, adverse_impact, moments, standardized_mean_difference


def test_the_published_example_passes_and_one_less_fails() -> None:
    """45 of 60 against 60 of 80: equal rates. 0.80 itself passes, the next smaller fraction does not."""
    equal = adverse_impact({"a": 45, "b": 60}, {"a": 60, "b": 80})
    assert (equal.reference, equal.lowest, equal.passes) == ("b", 1.0, True)
    even = adverse_impact({"a": 36, "b": 60}, {"a": 60, "b": 80})
    assert (even.lowest, even.passes, even.adverse) == (0.8, True, ())
    under = adverse_impact({"a": 35, "b": 60}, {"a": 60, "b": 80})
    assert (under.passes, under.adverse) == (False, ("a",))
    assert under.lowest == pytest.approx(35 / 45, rel=1e-15)


@given(st.integers(1, 400), st.integers(1, 10), st.integers(1, 10))
def test_four_fifths_exactly_always_passes(size: int, more: int, part: int) -> None:
    """Rates r and 0.8·r: in floats 0.8·r / r falls on either side of 0.8; as fractions it is 0.8."""
    base, people = min(part, more), max(part, more)
    total = {"low": people * size * 5, "high": people * size}
    even = adverse_impact({"low": base * size * 4, "high": base * size}, total, smallest=1)
    assert even.reference == "high"
    assert even.passes is True
    assert adverse_impact({"low": base * size * 4 - 1, "high": base * size}, total, smallest=1).passes is False


def test_small_groups_are_named_and_not_judged() -> None:
    found = adverse_impact({"few": 29, "many": 50, "others": 30}, {"few": 29, "many": 100, "others": 100, "none": 0})
    assert found.reference == "many"
    assert found.too_small == ("few", "none")
    few, many, none, others = found.groups
    assert (few.rate, few.ratio, few.passes) == (1.0, None, None)
    assert (none.rate, none.ratio, none.passes) == (None, None, None)
    assert (many.ratio, many.passes) == (1.0, True)
    assert (others.ratio, others.passes) == (0.6, False)


def test_no_comparison_is_no_verdict() -> None:
    alone = adverse_impact({"a": 5}, {"a": 40, "b": 10})
    assert (alone.reference, alone.lowest, alone.passes) == ("a", None, None)
    tiny = adverse_impact({"a": 5}, {"a": 10})
    assert (tiny.reference, tiny.passes, tiny.too_small) == (None, None, ("a",))
    nobody = adverse_impact({}, {"a": 40, "b": 40})
    assert (nobody.lowest, nobody.passes) == (None, None)


def test_a_chosen_reference() -> None:
    found = adverse_impact({"a": 20, "b": 40}, {"a": 40, "b": 40}, reference="a")
    assert [g.ratio for g in found.groups] == [1.0, 2.0]
    with pytest.raises(ValueError, match="'c' is none of"):
        adverse_impact({}, {"a": 40}, reference="c")
    with pytest.raises(ValueError, match="'a' has 10 people, under 30"):
        adverse_impact({}, {"a": 10, "b": 50}, reference="a")


@pytest.mark.parametrize(
    ("selected", "total", "says"),
    [
        ({}, {}, "at least one group"),
        ({"a": 41}, {"a": 40}, "41 selected of 40"),
        ({"a": -1}, {"a": 40}, "cannot be"),
        ({"b": 1}, {"a": 40}, r"\['b'\]"),
    ],
)
def test_counts_that_cannot_be(selected: dict[str, int], total: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        adverse_impact(selected, total)


def test_smd_by_hand() -> None:
    """Means 2 and 5, variances 1 and 4 of three rows each: pooled sd √2.5."""
    group, reference = moments([1, 2, 3]), moments([3, 5, 7])
    assert (group, reference) == (Moments(3, 2.0, 1.0), Moments(3, 5.0, 4.0))
    assert standardized_mean_difference(group, reference) == pytest.approx(-3 / math.sqrt(2.5), rel=1e-12)


def test_smd_of_constants_and_of_too_few() -> None:
    assert standardized_mean_difference(moments([2, 2]), moments([2, 2])) == 0.0
    assert standardized_mean_difference(moments([1, 1]), moments([2, 2])) == -math.inf
    with pytest.raises(ValueError, match="two rows"):
        standardized_mean_difference(moments([1]), moments([1, 2]))
    for scores, says in (([], "empty"), ([1, math.nan], "NaN"), ([1, math.inf], "infinite")):
        with pytest.raises(ValueError, match=says):
            moments(scores)


scores = st.lists(st.integers(-50, 50), min_size=2, max_size=20)


@given(scores, scores, st.integers(1, 9), st.integers(-9, 9))
def test_smd_has_no_unit_and_changes_sign_with_its_arguments(
    a: list[int], b: list[int], scale: int, shift: int
) -> None:
    first, second = moments(a), moments(b)
    value = standardized_mean_difference(first, second)
    assert value == -standardized_mean_difference(second, first)
    if np.ptp(a) or np.ptp(b):
        moved = (moments([scale * v + shift for v in group]) for group in (a, b))
        assert standardized_mean_difference(*moved) == pytest.approx(value, rel=1e-9, abs=1e-9)
