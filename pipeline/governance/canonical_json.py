"""Canonical JSON: one value, one sequence of bytes. What is hashed and signed goes through here.

Keys sorted by code point, no spaces, UTF-8, floats as Python's shortest ``repr``. Nothing is converted on the way: a
date is given as ISO text with its zone, a decimal as text.
"""

from __future__ import annotations

import json
import math
from typing import Any

_DEEPEST = 50
_encode = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode


def encode(value: Any) -> bytes:
    """The canonical bytes of text, whole numbers, booleans, None, finite floats, and lists and dicts of these.

    >>> encode({"b": [1, 0.1, None], "a": "é"})
    b'{"a":"\\xc3\\xa9","b":[1,0.1,null]}'

    Raises TypeError for any other type and for keys that are not text, ValueError for NaN, infinities, text that is
    not Unicode and nesting deeper than 50; each names the place.
    """
    _check(value, "value", 0)
    return _encode(value).encode()


def _check(value: Any, place: str, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError(f"{place} is nested deeper than {_DEEPEST}")
    if value is None or isinstance(value, bool | int):
        return
    if isinstance(value, str):
        _check_text(value, place)
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{place} is {value}, which JSON cannot say")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            _check(item, f"{place}[{index}]", depth + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            if not isinstance(key, str):
                raise TypeError(f"{place} has the key {key!r}, which is not text")
            _check_text(key, f"a key of {place}")
            _check(item, f"{place}.{key}", depth + 1)
    else:
        raise TypeError(f"{place} is a {type(value).__name__}, which has no canonical JSON")


def _check_text(text: str, place: str) -> None:
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise ValueError(f"{place} holds half a surrogate pair, which is not Unicode text")
