"""One value, one sequence of bytes."""

from __future__ import annotations

import json
from datetime import date
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.governance import canonical_json

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


def reversed_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: reversed_keys(value[key]) for key in reversed(list(value))}
    return [reversed_keys(item) for item in value] if isinstance(value, list) else value


@given(VALUES)
def test_the_bytes_say_the_value_and_do_not_depend_on_the_order_of_keys(value: Any) -> None:
    written = canonical_json.encode(value)
    assert json.loads(written) == value
    assert canonical_json.encode(reversed_keys(value)) == written
    assert canonical_json.encode(json.loads(written)) == written


def test_the_form() -> None:
    assert canonical_json.encode({"b": [True, None, 1e22, -0.0], "a": 'é"\n'}) == (
        '{"a":"é\\"\\n","b":[true,null,1e+22,-0.0]}'.encode()
    )


@pytest.mark.parametrize(
    ("value", "error", "named"),
    [
        ({"a": {"b": float("nan")}}, ValueError, "value.a.b is nan"),
        ([1, float("inf")], ValueError, r"value\[1\] is inf"),
        ({"day": date(2026, 3, 14)}, TypeError, "value.day is a date"),
        (Decimal("1.0"), TypeError, "a Decimal"),
        ((1, 2), TypeError, "a tuple"),
        (b"x", TypeError, "a bytes"),
        ({1: "x"}, TypeError, "the key 1"),
        ({"a": "\ud800"}, ValueError, "value.a holds half a surrogate"),
        ({"\udfff": 1}, ValueError, "a key of value"),
    ],
)
def test_what_has_no_canonical_form_is_refused_by_place(value: Any, error: type[Exception], named: str) -> None:
    with pytest.raises(error, match=named):
        canonical_json.encode(value)


def test_nesting_without_end_is_refused() -> None:
    value: Any = 1
    for _ in range(60):
        value = [value]
    with pytest.raises(ValueError, match="nested deeper than 50"):
        canonical_json.encode(value)
