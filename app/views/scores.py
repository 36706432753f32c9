"""Scores: find one by id or by browsing the published book; then its page: the score, its origin, its history."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial

import streamlit as st

from app import (
    charts,
    connections,
    controls,
    data,
    explanations,
    exports,
    filters,
    formats,
    markup,
    orders,
    score_explained,
    score_facts,
    session,
    shell,
)
from app.data import Score
from app.filters import Filter
from app.markup import Html
from app.session import Reader
from pipeline import ledger
from pipeline.errors import NotFound, ScoretraceError
from pipeline.governance import access
from pipeline.governance.access import Actor
from pipeline.ledger import ScoredModel

SHOWN_NIGHTS = 14  # each is a link, and links are what a page of tables waits for
NIGHTS_BY, NIGHTS_PAGE = f"nights_{controls.BY}", f"nights_{controls.PAGE}"
DECILES = {"": "any", **{str(k): f"{k}{', lowest PD' if k == 1 else ', highest PD' if k == 10 else ''}"
                         for k in range(10, 0, -1)}}  # fmt: skip
_ASKED = "q"
_SEPARATORS = re.compile(r"[\s,;]+")


def page() -> None:
    access.require(session.actor(), "scores.read")
    reader = session.reader(session.open_home())
    if reader is None:
        shell.nothing_published(session.open_home())
        return
    if connections.has_ended(reader):
        st.html(
            markup.block(
                markup.alarm(
                    "none",
                    f"the night of {formats.day(reader.as_of)} cannot be computed again",
                    "Retention ended its snapshot. The scores are those that were published: their content hash is the "
                    "same. Features and rows are as the lake has them since.",
                )
            )
        )
    for subject in filters.SUBJECTS:
        if subject_id := st.query_params.get(subject):
            _subject(reader, subject, subject_id)
            return
    shell.remember_list(shell.SCORES)
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        st.html(markup.block(Html(f"<h1>Scores of {formats.day(reader.as_of)}</h1>")), width="content")
        asked = [i for i in _SEPARATORS.split(_search_box(reader)) if i]
    if asked:
        _found(reader, asked)
    else:
        _browse(reader)


# ── search ───────────────────────────────────────────────────────────────────────────────────────────────────


def _search_box(reader: Reader) -> str:
    """What was asked for; one id that names one score opens that score's page at once."""
    asked = st.query_params.get(_ASKED, "")
    key = f"search@{asked}"

    def ask() -> None:
        ids = [i for i in _SEPARATORS.split(st.session_state[key]) if i]
        one = ids if len(ids) == 1 else []
        found = [(s, score.id) for s in filters.SUBJECTS for score in data.find(reader, s, one)]
        if one and not found:
            found = [(s, score.id) for s, score in _earlier(reader, ids)]
        if len(found) == 1:
            subject, subject_id = found[0]
            st.query_params.from_dict({**session.address(), subject: str(subject_id)})
        else:
            controls.new_list(**{_ASKED: " ".join(ids)})

    st.text_input(
        "Find by id",
        value=asked,
        key=key,
        on_change=ask,
        type="search",
        width=560,
        label_visibility="collapsed",
        placeholder="account or application id; paste several, apart by space or comma",
    )
    return asked


def _found(reader: Reader, asked: Sequence[str]) -> None:
    """Every id that was asked for: its score, or that it has none. Never another's."""
    unique = list(dict.fromkeys(asked))
    if len(unique) > data.MAX_IDS:
        st.html(
            markup.block(
                markup.alarm(
                    "watch",
                    f"only the first {data.MAX_IDS} of {len(unique)} ids are looked up",
                    "Ask in smaller lists.",
                )
            )
        )
        unique = unique[: data.MAX_IDS]
    named: set[str] = set()
    for subject in filters.SUBJECTS:
        scores = data.find(reader, subject, unique)
        named.update(str(s.id) for s in scores)
        if scores:
            _score_table(reader, subject, scores, f"{subject.capitalize()}s found", f"found-{subject}")
            content = partial(exports.found_scores, reader, subject, unique)
            _take(f"{subject}s-found-{reader.as_of}", len(scores), "Download as CSV", content)
    missing = [i for i in unique if _canonical(reader, i) not in named]
    if earlier := _earlier(reader, missing):
        named.update(str(s.id) for _, s in earlier)
        head = markup.heading("Scored on an earlier night", f"and not on {formats.day(reader.as_of)}")
        links = [(str(s.id), session.address(**{subject: str(s.id)})) for subject, s in earlier]
        table = score_facts.earlier_table(earlier, "Scored on an earlier night")
        shell.linked_table("found-earlier", head, table, shell.SCORES, links)
    if missing := [i for i in missing if _canonical(reader, i) not in named]:
        st.html(
            markup.block(
                markup.alarm(
                    "stop",
                    "not found",
                    f"No score up to {formats.day(reader.as_of)} has the id {', '.join(missing[:20])}"
                    f"{f' or {len(missing) - 20} more' if len(missing) > 20 else ''}.",
                    "Next: check the id, or choose a later night above.",
                )
            )
        )


def _earlier(reader: Reader, ids: Sequence[str]) -> list[tuple[str, Score]]:
    """The last score up to the night of ids that it has none of: an application is scored once, an account may end."""
    return [(subject, score) for subject in filters.SUBJECTS for score in data.last(reader, subject, ids)]


def _canonical(reader: Reader, asked: str) -> str:
    """How the id is written in the book: a number without leading zeros, a text as it is."""
    if reader.home.portfolio.id_type == "BIGINT" and re.fullmatch(r"[+-]?\d{1,19}", asked):
        return str(int(asked))
    return asked


# ── browse ───────────────────────────────────────────────────────────────────────────────────────────────────


def _browse(reader: Reader) -> None:
    chosen, order = _filters(reader)
    count = data.matching(reader, chosen)
    whole = sum(data.grade_counts(reader, chosen.subject).values())
    if not whole:
        st.html(
            markup.block(
                markup.alarm(
                    "none",
                    f"no {chosen.subject} was scored on {formats.day(reader.as_of)}",
                    "The other subject, or another night above, may have scores.",
                )
            )
        )
        return
    if not count:
        st.html(
            markup.block(
                markup.alarm("none", "no score passes these filters", "Next: widen the PD range or clear a filter.")
            )
        )
        return
    shown = controls.pages(count, data.PAGE_SIZE)
    scores = data.page(reader, chosen, order, shown.start // data.PAGE_SIZE + 1)
    note = (
        f"{formats.count(count)} of {formats.plural(whole, chosen.subject)} · {formats.count(shown.start + 1)} to "
        f"{formats.count(shown.stop)} by {filters.ORDERS[orders.name(order)][0]}, {orders.way(order)}"
    )
    _score_table(reader, chosen.subject, scores, f"{chosen.subject.capitalize()}s", "browse", note, order)
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        controls.pager(count, data.PAGE_SIZE)
        _export(reader, chosen, order, count)


def _export(reader: Reader, chosen: Filter, order: str, count: int) -> None:
    rows = min(count, exports.MOST)
    label = "Download as CSV" if count <= exports.MOST else f"Download the first {formats.count(rows)} as CSV"
    name = "-".join([f"{chosen.subject}s", str(reader.as_of), *chosen.words()])
    _take(name, rows, label, partial(exports.scores, reader, chosen, order))


def _take(name: str, rows: int, label: str, content: Callable[[Actor], bytes]) -> None:
    """A list of scores as a file, for who may take one."""
    actor = session.actor()
    if not access.may(actor, "scores.export"):
        st.html(markup.block(markup.quiet(f"The list as a file: for {shell.roles_of('scores.export')}")))
        return
    told = f"{formats.count(rows)} rows; that you took them is put on record"
    shell.csv_button(name, lambda: content(actor), label, told)


def _filters(reader: Reader) -> tuple[Filter, str]:
    """The filters and the order, read from the URL; each control writes its own part of it."""
    query = st.query_params
    subject = controls.one_of("of", dict.fromkeys(filters.SUBJECTS, ""), "subject")
    counts, products = data.grade_counts(reader, subject), filters.products(reader, subject)
    grades = reader.home.grades
    for grade in filter(None, query.get("grade", "").split(",")):
        if grade not in grades:
            raise NotFound(f"there is no grade {grade!r} here", f"take some of: {', '.join(grades)}")
    segments = _segments(reader, subject)
    segment = controls.one_of("segment", segments, f"segment of {subject}s")
    chosen = Filter(
        subject,
        tuple(g for g in grades if g in query.get("grade", "").split(",")),
        int(controls.one_of("decile", DECILES, "decile") or 0) or None,
        controls.one_of("product", dict.fromkeys(("", *products), ""), "product among these scores"),
        _percent("from"),
        _percent("to"),
        controls.one_of("move", filters.MOVES, "move between grades"),
        segment,
    )
    order = controls.order(filters.ORDERS, filters.HIGHEST_PD)
    with st.container(key="filters", horizontal=True, vertical_alignment="bottom", gap="small"):
        _choice("Of", "of", filters.SUBJECTS, subject, lambda s: f"{s.capitalize()}s")
        key = f"grade@{chosen.grades}{subject}"
        st.pills(
            "Grade",
            grades,
            selection_mode="multi",
            default=list(chosen.grades),
            key=key,
            format_func=lambda g: f"{g} :gray[{formats.count(counts.get(g, 0))}]",
            on_change=lambda: controls.new_list(grade=",".join(g for g in grades if g in st.session_state[key])),
        )
        _bound("PD from %", "from", chosen.pd_from)
        _bound("to %", "to", chosen.pd_to)
        controls.select("Decile", "decile", DECILES, str(chosen.decile or ""), 100)
        if len(products) > 1:
            words = {p: p.replace("_", " ") for p in products}
            controls.select("Product", "product", {"": "any", **words}, chosen.product, 130)
        if reader.previous:  # the night before it, which need not be the day before
            this_year = reader.previous.year == reader.as_of.year
            since = f"Since {formats.day(reader.previous, year=not this_year)}"
            controls.select(since, "move", filters.MOVES, chosen.move, 150)
        if segment:  # Drift leads here with one
            controls.select("Segment", "segment", segments, segment, 150)
    return chosen, order


def _segments(reader: Reader, subject: str) -> dict[str, str]:
    """The whole book, and the parts of the split that the URL names, as it writes them and in words. Raises NotFound,
    and AccessDenied where monitoring's view of the book is not for this reader."""
    split, _, _ = st.query_params.get("segment", "").partition("=")
    if not split:
        return {"": "whole book"}
    access.require(session.actor(), "drift.read")
    known = filters.splits(reader, subject)
    if split not in known:
        raise NotFound(
            f"{subject}s are not split by {split!r} here", f"take one of these, and its part: {', '.join(known)}"
        )
    named = filters.parts(reader, subject, split)
    return {"": "whole book"} | {f"{split}={part}": f"{split} {part}" for part in named}


def _choice(label: str, part: str, options: Sequence[str], value: str, words) -> None:  # type: ignore[no-untyped-def]
    key = f"{part}@{value}"
    st.segmented_control(
        label,
        options,
        default=value,
        key=key,
        format_func=words,
        required=True,
        on_change=lambda: controls.new_list(
            **{part: "" if st.session_state[key] == options[0] else st.session_state[key], "product": "", "segment": ""}
        ),
    )


def _bound(label: str, part: str, value: float | None) -> None:
    key = f"{part}@{value}"

    def write() -> None:
        entered = st.session_state[key]
        controls.new_list(**{part: "" if entered is None else f"{entered:g}"})

    shown = None if value is None else value * 100
    st.number_input(
        label,
        min_value=0.0,
        max_value=100.0,
        value=shown,
        step=None,
        format="%.2f",
        key=key,
        on_change=write,
        width=70,
        placeholder="any",
    )


def _percent(part: str) -> float | None:
    """A bound of the URL as a PD. Raises NotFound for what is no percentage."""
    if not (asked := st.query_params.get(part, "")):
        return None
    try:
        number = float(asked)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 100:
        raise NotFound(f"{asked!r} is no percentage", "write a PD from 0 to 100, as 2.5")
    return number / 100


def _score_table(
    reader: Reader,
    subject: str,
    scores: Sequence[Score],
    title: str,
    key: str,
    note: str = "",
    order: str | None = None,
) -> None:
    head = markup.heading(title, note or f"{len(scores)} of {formats.day(reader.as_of)}")
    table = score_facts.score_table(subject, scores, reader.home.grades, reader.zone, reader.previous, title, order)
    links = [(str(s.id), session.address(**{subject: str(s.id)})) for s in scores]
    shell.linked_table(key, head, table, shell.SCORES, links)


# ── one subject ──────────────────────────────────────────────────────────────────────────────────────────────


def _subject(reader: Reader, subject: str, subject_id: str) -> None:
    """A subject's page: its score of the night, where that came from, every score before it."""
    scores = data.history(reader, subject, subject_id)
    if not scores:
        raise NotFound(
            f"no {subject} {subject_id!r} has a published score up to {formats.day(reader.as_of)}",
            "search for the id, or choose another night above",
        )
    score, zone = scores[-1], reader.zone
    model = ScoredModel(score.model_name, score.model_version, score.model_digest, subject, 0)
    promotion = ledger.promotion_of(reader.home.engine, model, score.scored_at)
    before = scores[-2].as_of if len(scores) > 1 else None
    _title(reader, subject, score, promotion.id if promotion else None, before)
    shell.printed(reader.home, session.actor())
    if score.as_of != reader.as_of:
        title = f"not scored on {formats.day(reader.as_of)}"
        told = f"This {subject} was last scored on {formats.day(score.as_of)}; what follows is that score."
        st.html(markup.block(markup.alarm("watch", title, told)))
    origin = score_facts.origin(score, promotion, zone)
    st.html(markup.block(score_facts.figures(score, reader.home.grades, zone, before), markup.GAP, origin))
    score_explained.show(reader, subject, scores)
    if stored := data.reasons(reader, subject, score):
        head = markup.heading("Reasons", "what raised this score most, in log-odds, as the night stored it")
        try:
            personal = explanations.personal_of(reader.home, subject, score)
        except ScoretraceError as error:  # what may be shown of them is not known
            shell.sentence(error, "the reasons cannot be told")
        else:
            says = explanations.meanings(reader.home, score.run_id, f"features.{subject}_features")
            st.html(markup.block(head, score_facts.reason_table(stored, personal, says)))
    if len(scores) > 1:  # one night is a point, and the table tells it
        _history(reader, scores)
    _history_table(reader, subject, scores)


def _title(reader: Reader, subject: str, score: Score, promotion: str | None, before: date | None) -> None:
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.html(markup.block(Html(f"<h1>{subject.capitalize()} {markup.html(str(score.id))}</h1>")), width="content")
        with st.container(key="actions", horizontal=True, vertical_alignment="center", gap="small", width="content"):
            shell.list_link(shell.SCORES, "scores")
            st.page_link(shell.RUNS, label="the run", query_params=session.address(run=score.run_id), icon="")
            of_model = session.address(model=score.model_name, version=str(score.model_version))
            st.page_link(shell.MODELS, label="the model", query_params=of_model, icon="")
            if promotion:
                approval = session.address(promotion=promotion)
                st.page_link(shell.PROMOTIONS, label="its approval", query_params=approval, icon="")
            if before and access.may(session.actor(), "trace.read"):
                moved = score_explained.here(score, subject, **{score_explained.SINCE: before.isoformat()})
                st.page_link(shell.SCORES, label="why did it move", query_params=moved, icon="")
            score_explained.evidence_button(reader, subject, score)


def _history(reader: Reader, scores: Sequence[Score]) -> None:
    frame = score_facts.history_frame(scores)
    changes = len(charts.model_changes(frame))
    note = f"{formats.plural(len(scores), 'night')}, {formats.plural(changes, 'change')} of model"
    figure = charts.score_history(frame, reader.home.portfolio.grades)
    st.html(markup.block(markup.heading("PD by night", note)))
    st.plotly_chart(figure, key="history", alt=charts.score_history_words(frame), config={"displayModeBar": False})


def _history_table(reader: Reader, subject: str, scores: Sequence[Score]) -> None:
    order = controls.order(score_facts.HISTORY_ORDERS, "-night", NIGHTS_BY)
    place = controls.pages(len(scores), SHOWN_NIGHTS, NIGHTS_PAGE)
    newest_first = score_facts.history(scores)[::-1]
    shown = orders.arranged(newest_first, order, score_facts.HISTORY_ORDERS)[place.start : place.stop]
    head = markup.heading("Every published score", "a date opens the score of that night")
    table = score_facts.history_table(shown, reader.home.grades, reader.zone, "Published scores", order)
    links = [
        (formats.day(x.score.as_of), {session.AS_OF: x.score.as_of.isoformat(), subject: str(x.score.id)})
        for x in shown
    ]
    shell.linked_table("history", head, table, shell.SCORES, links, by=NIGHTS_BY, pages=(NIGHTS_PAGE,))
    with st.container(horizontal=True, vertical_alignment="center", gap="large"):
        controls.pager(len(scores), SHOWN_NIGHTS, NIGHTS_PAGE)
        name, content = f"{subject}-{scores[-1].id}-scores", partial(exports.history, reader, subject, scores)
        _take(name, len(scores), "Download as CSV", content)


if __name__ == "__main__":
    page()
