"""Which texts a record may hold: none that a terminal, a page or a spreadsheet would obey instead of showing.

What a person gives is refused when it breaks the rule, so that nobody signs a text other than the one typed. What a
machine reports (a row of a broken file, a compiler's colours) must never keep an event from the record: ``shown``
makes it fit.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from pipeline.errors import RecordRefused

LONGEST_NAME = 500
"""Characters of an actor, an action or a subject."""
LONGEST_REASON = 10_000
"""Characters of a reason, a note, a question."""
LARGEST = 100_000
"""Bytes of a record's detail as canonical JSON."""

# Controls, line separators, marks that turn the reading direction, halves of surrogate pairs.
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
_CONTROL_BUT_LINES = re.compile(f"(?![\n\t]){_CONTROL.pattern}")


def name(field: str, text: str) -> str:
    """One line of text without its outer spaces. Raises RecordRefused: empty, too long, or with controls."""
    text = text.strip()
    if not text:
        raise RecordRefused(f"an audit record needs {field}", f"give {field} in a few words")
    if len(text) > LONGEST_NAME:
        raise RecordRefused(
            f"{field} of an audit record has {len(text):,} characters; {LONGEST_NAME} are the most",
            "put the longer text in the detail",
        )
    if found := _CONTROL.search(text):
        raise _refused(field, found)
    return text


def reason(what: str, text: str) -> str:
    """What a person says, without its outer spaces. Raises RecordRefused, naming what and the limit, for an essay."""
    text = text.strip()
    if len(text) > LONGEST_REASON:
        raise RecordRefused(
            f"the words of {what} have {len(text):,} characters; {LONGEST_REASON:,} are the most",
            "say it shorter, and name the document that holds the rest",
        )
    return text


def detail(value: Any, place: str = "detail") -> Any:
    """The same JSON value with line ends as ``\\n``. Raises RecordRefused for a text with other control characters."""
    if isinstance(value, str):
        text = value.replace("\r\n", "\n")
        if found := _CONTROL_BUT_LINES.search(text):
            raise _refused(place, found)
        return text
    if isinstance(value, Mapping):
        return {detail(key, f"a key of {place}"): detail(item, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [detail(item, f"{place}[{index}]") for index, item in enumerate(value)]
    return value


def shown(text: str, most: int = 2000) -> str:
    """A text as a record can hold it: control characters written out (``\\x1b``), and no longer than ``most``."""
    fitting = _CONTROL_BUT_LINES.sub(lambda m: _written_out(m[0]), text.replace("\r\n", "\n"))
    return fitting if len(fitting) <= most else f"{fitting[:most]}… ({len(fitting) - most:,} characters more)"


def _refused(place: str, found: re.Match[str]) -> RecordRefused:
    letter, position = _written_out(found[0]), found.start() + 1
    return RecordRefused(
        f"{place} of an audit record has the control character {letter} at position {position}",
        "type the text again without it",
    )


def _written_out(letter: str) -> str:
    code = ord(letter)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
