"""What every page shares: the header with the as-of control, the side navigation, errors as sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime
from pathlib import Path
from urllib.parse import urlencode

import streamlit as st
from streamlit.navigation.page import Page

from app import acting, controls, formats, markup, orders, session
from app.markup import Cell, Html, Table
from app.session import AS_OF, Home
from pipeline.errors import ScoretraceError
from pipeline.governance import access
from pipeline.governance.access import Actor

STYLE_SHEET = Path(__file__).resolve().parent / "portal.css"
TONIGHT = "views/tonight.py"
SCORES = "views/scores.py"
LINEAGE = "views/columns.py"
RUNS = "views/runs.py"
MODELS = "views/models.py"
PROMOTIONS = "views/promotions.py"
AUDIT = "views/audit.py"
DRIFT = "views/drift.py"
OUTCOMES = "views/outcomes.py"
ALERTS = "views/alerts.py"
_OF_A_NIGHT = ("Tonight", "Drift", "Outcomes", "Scores", "Lineage")
_NIGHTS = ("night", "from", "to", "with", "since")  # parts of a query that name a night
_BESIDE = ("with", "since")  # those of them that a night is compared with
_MONTHS = ("month", "groups")  # parts that begin with the month of some scores
_ABOUT = ("account", "application", "run", "promotion", "alert", "feature", "column", "model", "record")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()#+\-.!|<>~:$])")


def side_navigation(groups: dict[str, list[Page]]) -> None:
    """The pages by job. A link keeps the night that the URL names."""
    with st.sidebar:
        for group, pages in groups.items():
            st.html(markup.block(Html(f"<p class='nav'>{group}</p>")))
            for page in pages:
                st.page_link(page, query_params=session.address())


def header(home: Home | None, page: Page, actor: Actor | None) -> None:
    """Product and portfolio; to somebody who may see it the night that is shown, and who looks at it and as what."""
    left, middle, right = st.columns([4, 6, 4], vertical_alignment="center")
    lender = home.portfolio.title if home else "no home yet"
    left.html(
        markup.block(
            Html("<div class='brand'>"),
            Html("<b>Scoretrace</b>"),
            markup.quiet(lender),
            Html("</div>"),
        )
    )
    with middle:
        if home and home.dates and actor:
            of_a_night = page.title in _OF_A_NIGHT
            with st.container(
                key="nights", horizontal=True, vertical_alignment="center", gap="small", horizontal_alignment="right"
            ):
                if of_a_night:
                    _night_control(home.dates, page)
                with st.popover("Link", type="tertiary"):
                    st.code(permalink(home.dates[0] if of_a_night else None), language=None)
    if actor:
        with right:
            _who(actor)


def _who(actor: Actor) -> None:
    """The name and the roles; the way out, or, where nobody signs in, how to have people do so."""
    if actor.method == "none":
        how = Html("<br><span class='quiet'>add users: <code>scoretrace user add</code></span></p>")
        st.html(markup.block(Html("<p class='actor'>"), f"{actor.name} ", markup.quiet("embedded, not signed in"), how))
        return
    roles = ", ".join(sorted(role.replace("_", " ") for role in actor.roles)) or "no role"
    with st.container(
        key="who", horizontal=True, horizontal_alignment="right", vertical_alignment="center", gap="small"
    ):
        name = markup.hint(actor.name, f"{actor.name}: {roles}")
        st.html(markup.block(Html("<p class='actor'>"), name, Html("<br>"), markup.quiet(roles), Html("</p>")))
        st.button("Sign out", type="tertiary", on_click=acting.sign_out)
    _watch()


@st.fragment(run_every=60)
def _watch() -> None:
    """Take the page away when the session has ended, though nobody does anything."""
    try:
        session.actor()
    except ScoretraceError:
        st.rerun()


def _night_control(dates: tuple[date, ...], page: Page) -> None:
    """One night back, a choice of any, one night on. What is chosen goes to the URL and is read from there."""
    asked = session.asked_date()
    shown = next((d for d in dates if d.isoformat() == asked), None) if asked else dates[0]
    key = f"as of@{asked}"

    def choose() -> None:
        if chosen := st.session_state[key]:
            st.query_params.from_dict(_at_night(chosen))

    position = dates.index(shown) if shown else None
    _step("‹", dates[position + 1] if position is not None and position + 1 < len(dates) else None, page)
    st.selectbox(
        "As of",
        dates,
        index=position,
        key=key,
        on_change=choose,
        format_func=_label,
        placeholder="choose a night",
        label_visibility="collapsed",
        width=190,
    )
    _step("›", dates[position - 1] if position else None, page)


def permalink(newest: date | None = None) -> str:
    """The address of what is shown, to keep: with its night, also where that is the newest one only today."""
    query = st.query_params.to_dict()
    if newest is not None:
        query = {AS_OF: newest.isoformat(), **query}
    address = (st.context.url or "").partition("?")[0]
    return f"{address}?{urlencode(query)}" if query else address


def printed(home: Home, actor: Actor) -> None:
    """What stands on paper alone: when it was read, by whom, and where it is."""
    told = f"As the records stood on {formats.moment(datetime.now(UTC), home.zone)}, read by {actor.name}. "
    st.html(markup.block(Html(f"<p class='printed quiet'>{markup.html(told + permalink())}</p>")))


def _at_night(night: date) -> dict[str, str]:
    """What this page shows, at another night: without the nights it names that are later than that one, without those
    to compare with that are that one, and without what takes seconds and was asked of this night."""
    later = {"causes"} | {
        k
        for k in _NIGHTS
        if _is_later(value := st.query_params.get(k, ""), night) or (k in _BESIDE and value == night.isoformat())
    }
    later |= {k for k in _MONTHS if st.query_params.get(k, "")[:7] > f"{night:%Y-%m}"}
    return {**{k: v for k, v in st.query_params.to_dict().items() if k not in later}, AS_OF: night.isoformat()}


def _is_later(part: str, night: date) -> bool:
    """Whether a part names a later night. Pages have other parts of these names: the bounds of a PD are no nights."""
    try:
        return date.fromisoformat(part) > night
    except ValueError:
        return False


def _label(day: date) -> str:
    return f"as of {formats.day(day)}"


def _step(sign: str, to: date | None, page: Page) -> None:
    query = _at_night(to) if to else None
    help_text = f"the night of {formats.day(to)}" if to else "no published night on this side"
    st.page_link(page, label=sign, query_params=query, disabled=to is None, help=help_text, icon="")


def linked_table(
    key: str,
    head: Html,
    table: Table,
    page: str,
    links: Sequence[tuple[str, dict[str, str]]] = (),
    *,
    by: str = controls.BY,
    pages: Sequence[str] = (controls.PAGE,),
    to: str = "",
) -> None:
    """A table with links: the portal's own page links, so that a click stays in the session.

    page: where the table stands. links: the text of each row's first cell and the query of its link, in row order;
    none where rows open nothing. by, pages: the parts of the query that say how the table is ordered and at which page
    it is, for heads that order it. to: the page that its rows open, where it is another one.
    """
    st.html(markup.block(head))
    with st.container(key=f"{'linked' if links else 'listed'}-{key}"):
        st.html(markup.block(table))
        if table.heads:
            with st.container(key=f"heads-{key}"):
                for (name, order), hint in zip(table.heads, table.hints, strict=True):
                    label = f"sort by {name}, {orders.way(order)}"
                    query = controls.from_first_page(*pages, **{by: order})
                    st.page_link(page, label=plain(label), query_params=query, icon="", help=hint or None)
        if links:
            with st.container(key=f"openers-{key}"):
                for label, query in links:
                    st.page_link(to or page, label=plain(label), query_params=query, icon="")


def linked_facts(
    key: str, items: Sequence[tuple[str, Cell, Cell]], opens: Mapping[str, tuple[str, str, dict[str, str]]]
) -> None:
    """Figures side by side, as ``markup.facts``; each that can be questioned is a link to what it was counted from.

    opens: by a figure's label, the page that it opens, what that shows, in words, and the query.
    """
    with st.container(key=f"facts-{key}", horizontal=True):
        for place, (label, figure, note) in enumerate(items):
            with st.container(key=f"fact-{key}-{place}", width="content"):
                st.html(markup.block(markup.facts([(label, figure, note)])), width="content")
                if to := opens.get(label):
                    page, words, query = to
                    st.page_link(page, label=plain(f"{label}: {words}"), query_params=query, icon="")


def remember_list(page: str) -> None:
    """Note that a page shows its list, as the URL asks for it: ``list_link`` leads there again."""
    st.session_state[f"list of {page}"] = st.query_params.to_dict()


def list_link(page: str, what: str) -> None:
    """The way from one thing back to the list of them as it was last seen here: filtered, ordered, at its page; at the
    night that is shown now."""
    left = {k: v for k, v in st.session_state.get(f"list of {page}", {}).items() if k != AS_OF}
    label = f"‹ the {what} as listed" if left else f"‹ all {what}"
    st.page_link(page, label=label, query_params={**left, **session.address()}, icon="")


def csv_button(
    name: str, content: Callable[[], bytes], label: str = "Download as CSV", told: str | None = None
) -> None:
    """What a page lists as a file; ``content`` is asked when somebody clicks. told: what hovering says of it."""
    st.download_button(
        label, content, f"{name}.csv", "text/csv", key=f"csv {name}", type="tertiary", on_click="ignore", help=told
    )


def list_foot(count: int, size: int, name: str, content: Callable[[], bytes], part: str = controls.PAGE) -> None:
    """What stands below a list: the choice among its pages, and the whole of it as a file. Arguments as
    ``controls.pager``'s and ``csv_button``'s."""
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        controls.pager(count, size, part)
        csv_button(name, content)


def window_title(page: Page) -> str:
    """What a tab and the history call a page: what it is about, where the URL names one, and the night."""
    query = st.query_params
    about = next((f"{part.capitalize()} {query[part]}" for part in _ABOUT if part in query), page.title)
    return " · ".join([about, *([query[AS_OF]] if AS_OF in query else []), "Scoretrace"])


def plain(text: str) -> str:
    """Text as the label of a control or a link, where Streamlit would read Markdown."""
    return _MARKDOWN.sub(r"\\\1", text)


def roles_of(right: str) -> str:
    """The roles of people that have a right, in words."""
    return ", ".join(r.replace("_", " ") for r in access.RULES[right].roles if r in access.PERSONAL_ROLES)


def sentence(error: ScoretraceError, title: str = "this cannot be shown") -> None:
    """An error as what failed and what comes next."""
    following = f"Next: {error.next_step}." if error.next_step else ""
    st.html(markup.block(markup.alarm("stop", title, error.message, following)))


def nothing_published(home: Home) -> None:
    """The empty state of every page that shows a night."""
    st.html(
        markup.block(
            markup.alarm(
                "none",
                "no night is published yet",
                f"{home.portfolio.title} has a home, but no night has reached its end: there are no scores to show.",
                "Next: land the first extracts, train and promote a model, then run `scoretrace nightly --as-of "
                "YYYY-MM-DD`; `scoretrace demo` does it all with a synthetic lender.",
            )
        )
    )
