"""Controls whose value is a part of the URL: each shows what the URL says and writes what is chosen there."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import date

import streamlit as st

from app import formats, orders
from pipeline.errors import NotFound

# The parts of most pages: how a table is ordered, which page of a list is shown, and the words that its rows have.
BY, PAGE, WORDS = "by", "page", "words"


def one_of(part: str, options: Mapping[str, str], what: str) -> str:
    """The part's value, or the first option where the URL has none. Raises NotFound for a value that is no option."""
    asked = st.query_params.get(part, "")
    if not asked:
        return next(iter(options))
    if asked not in options:
        some = [str(o) for o in options if o]
        known = (", ".join(some[:12]) or "none") + (f", or one of {len(some) - 12} more" if len(some) > 12 else "")
        raise NotFound(f"there is no {what} {asked!r} here", f"take one of: {known}")
    return asked


def day(part: str, default: date | None = None) -> date:
    """A date of the URL, or the default where it has none. Raises NotFound for what is no date."""
    asked = st.query_params.get(part, "")
    try:
        return default if default is not None and not asked else date.fromisoformat(asked)
    except ValueError:
        raise NotFound(f"{asked!r} is not a date", "write it as 2026-03-14") from None


def order(names: Collection[str], default: str, part: str = BY) -> str:
    """How the URL asks a table to be ordered: one of the names, with ``-`` before it for the largest first. Raises
    NotFound for what is no order."""
    asked = st.query_params.get(part, "")
    if asked and orders.name(asked) not in names:
        raise NotFound(f"nothing here is ordered by {orders.name(asked)!r}", f"take one of: {', '.join(names)}")
    return asked or default


def pages(count: int, size: int, part: str = PAGE) -> range:
    """The places of a list of ``count`` that the page of it shows which the URL asks for, ``size`` a page; of a page
    beyond the last, the last."""
    asked = st.query_params.get(part, "")
    number = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else 1
    first = min(max(number, 1) - 1, max(-(-count // size) - 1, 0)) * size
    return range(first, min(first + size, count))


_PAGER_ENDS, _PAGER_NUMBER = 72, 33  # pixels: both arrows, and a number with its gap


def pager(count: int, size: int, part: str = PAGE) -> None:
    """The choice among a list's pages, where there is more than one."""
    if count <= size:
        return
    last, number = -(-count // size), pages(count, size, part).start // size + 1
    key = f"{part}@{number}/{last}"
    # In a row with other things it would shrink to one number: it is given the room that its numbers need.
    width = _PAGER_ENDS + _PAGER_NUMBER * min(last, 7)
    st.pagination(
        last, default=number, key=key, width=width, on_change=lambda: to_url(**{part: str(st.session_state[key])})
    )


def select(
    label: str,
    part: str,
    options: Mapping[str, str],
    value: str,
    width: int,
    *,
    first: bool = True,
    clears: Sequence[str] = (),
) -> None:
    """A choice by its words. first: the first option is what an URL without this part means. clears: parts that
    another choice makes meaningless."""
    names = list(options)
    key = f"{part}@{value}"

    def write() -> None:
        chosen = st.session_state[key]
        meaningless = dict.fromkeys(clears, "")
        new_list(**meaningless, **{part: "" if first and chosen == names[0] else chosen})

    st.selectbox(
        label, names, index=names.index(value), key=key, format_func=options.__getitem__, width=width, on_change=write
    )


def night(label: str, part: str, nights: Sequence[date], value: date, *, clears: Sequence[str] = ()) -> None:
    """A choice among stored nights, the newest first. clears: as ``select``'s."""
    cleared = dict.fromkeys(clears, "")
    key = f"{part}@{value}"
    st.selectbox(
        label,
        nights[::-1],
        index=nights[::-1].index(value) if value in nights else None,
        key=key,
        format_func=formats.day,
        width=140,
        on_change=lambda: new_list(
            **cleared, **{part: st.session_state[key].isoformat() if st.session_state[key] else ""}
        ),
    )


def words(label: str, placeholder: str, *, pages: Sequence[str], part: str = WORDS) -> str:
    """What the URL asks a list to have, in the field that asks for it. pages: the parts that hold the list's place."""
    asked = st.query_params.get(part, "")
    key = f"{part}@{asked}"

    def write() -> None:
        st.query_params.from_dict(from_first_page(*pages, **{part: st.session_state[key].strip()}))

    st.text_input(
        label, value=asked, key=key, on_change=write, type="search", width=380, label_visibility="collapsed",
        placeholder=placeholder,
    )  # fmt: skip
    return asked


def to_url(**parts: str) -> None:
    """Write parts of the URL in one step of the browser's history; an empty value takes its part out."""
    st.query_params.from_dict(query(**parts))


def new_list(**parts: str) -> None:
    """``to_url`` where the parts ask for another list: it is read from its start."""
    st.query_params.from_dict(from_first_page(PAGE, **parts))


def from_first_page(*pages: str, **parts: str) -> dict[str, str]:
    """``query`` where the parts ask for another list, without the page that the one before was at. pages: the parts
    of the query that hold it."""
    return query(**dict.fromkeys(pages, ""), **parts)


def query(**parts: str) -> dict[str, str]:
    """This page's query with some parts changed, for a link to it; an empty value takes its part out."""
    changed = {**st.query_params.to_dict(), **parts}
    return {k: v for k, v in changed.items() if v}
