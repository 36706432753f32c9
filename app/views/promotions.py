"""Promotions: may this model score customers? The inbox, then one promotion with all that its decision rests on."""

from __future__ import annotations

from datetime import UTC, date, datetime

import streamlit as st

from app import (
    comparison_view,
    controls,
    desk,
    exports,
    formats,
    inbox,
    markup,
    orders,
    promotion_facts,
    promotion_forms,
    review_forms,
    session,
    shell,
)
from app.markup import Html, Table
from app.promotion_reads import Evidence, evidence
from app.session import Home
from pipeline.governance import access
from pipeline.governance import promotion_rules as rules
from pipeline.governance.access import Actor
from pipeline.governance.approvals import Approvals
from pipeline.governance.promotion_state import Book, Promotion

PAGE_SIZE = 20
_PARTS = {state: f"{state}_{controls.PAGE}" for state in promotion_facts.STATES}
FINDINGS_BY, FINDINGS_PAGE = f"findings_{controls.BY}", f"findings_{controls.PAGE}"


def page() -> None:
    actor = session.actor()
    access.require(actor, "promotion.read")
    home = session.open_home()
    at = desk.approvals(home)
    desk.say()
    if asked := st.query_params.get("promotion"):
        _promotion(home, at, actor, at.promotion(at.named(asked)))
    else:
        _inbox(home, at, actor)


# ── the inbox ────────────────────────────────────────────────────────────────────────────────────────────────


def _inbox(home: Home, at: Approvals, actor: Actor) -> None:
    """What waits for whoever looks, then every promotion by its state."""
    book, now, gone = at.book(), datetime.now(UTC), at.disabled()
    st.html(markup.block(markup.title("Promotions", "may this model score customers")))
    if not book.promotions:
        following = 'Next: train a version, then `scoretrace promotions request MODEL VERSION --reason "…"`.'
        told = "Nobody has asked yet that a version may score."
        st.html(markup.block(markup.alarm("none", "no promotion was requested", told, following)))
        return
    for model, (who, why) in book.frozen.items():
        title = f"changes of {'all models' if model == '*' else model} are frozen by {who}"
        st.html(markup.block(markup.alarm("watch", title, why)))
    waiting = inbox.waiting_for(book, actor, now, gone)
    today = now.astimezone(home.zone).date()
    head = markup.heading("Waits for you", f"as {', '.join(sorted(actor.roles)) or 'nobody in particular'}")
    if waiting:
        table = promotion_facts.waiting_table(waiting, home.zone, today)
        _linked("waiting", head, table, [w.promotion for w in waiting])
    else:
        st.html(markup.block(head, markup.quiet("Nothing waits for you.")))
    shell.remember_list(shell.PROMOTIONS)
    order = controls.order(promotion_facts.ORDERS, "-requested")
    words = controls.words(
        "Find promotions", "words of a model, a person, a reason", pages=(*_PARTS.values(), FINDINGS_PAGE)
    )
    newest_first = orders.having(reversed(tuple(book.promotions.values())), words, promotion_facts.words)
    if not newest_first:
        st.html(markup.block(markup.quiet(f"No promotion has the words “{words}”: look for fewer of them.")))
    every = orders.arranged(newest_first, order, promotion_facts.ORDERS)
    for state, title in promotion_facts.STATES.items():
        if not (found := [p for p in every if rules.status(p, now, gone) == state]):
            continue
        part = _PARTS[state]
        place = controls.pages(len(found), PAGE_SIZE, part)
        shown = found[place.start : place.stop]
        table = promotion_facts.promotion_table(book, shown, home.zone, now, gone, title, order)
        _linked(state, markup.heading(title, formats.count(len(found))), table, shown)
        controls.pager(len(found), PAGE_SIZE, part)
    if every:
        shell.csv_button("promotions", lambda: exports.as_csv(promotion_facts.promotion_rows(every, now, gone)))
    _findings(home, book, words, today)


def _findings(home: Home, book: Book, words: str, today: date) -> None:
    """What reviews found of all promotions, the open and the blocking first."""
    order = controls.order(promotion_facts.FINDING_ORDERS, "-standing", FINDINGS_BY)
    every = [(p, f) for p in book.promotions.values() for f in p.findings]
    found = orders.arranged(
        orders.having(every, words, promotion_facts.finding_words), order, promotion_facts.FINDING_ORDERS
    )
    if not found:
        return
    place = controls.pages(len(found), PAGE_SIZE, FINDINGS_PAGE)
    shown = found[place.start : place.stop]
    head = markup.heading("Findings", f"{formats.count(sum(f in p.owed for p, f in found))} of {len(found)} open")
    table = promotion_facts.register_table(shown, home.zone, today, order)
    links = [(p.id, session.address(promotion=p.id)) for p, _ in shown]
    shell.linked_table("findings", head, table, shell.PROMOTIONS, links, by=FINDINGS_BY, pages=(FINDINGS_PAGE,))
    shell.list_foot(
        len(found), PAGE_SIZE, "findings", lambda: exports.as_csv(promotion_facts.register_rows(found)), FINDINGS_PAGE
    )


def _linked(key: str, head: Html, table: Table, found: list[Promotion]) -> None:
    links = [(p.id, session.address(promotion=p.id)) for p in found]
    shell.linked_table(key, head, table, shell.PROMOTIONS, links, pages=tuple(_PARTS.values()))


# ── one promotion ────────────────────────────────────────────────────────────────────────────────────────────


def _promotion(home: Home, at: Approvals, actor: Actor, p: Promotion) -> None:
    """The evidence on the left, the decision on the right."""
    book, now, gone = at.book(), datetime.now(UTC), at.disabled()
    e = evidence(at, p)
    _title(home, book, p, now, gone)
    shell.printed(home, actor)
    for fault in e.faults:
        st.html(markup.block(markup.alarm("stop", "the records are not whole", fault)))
    st.html(markup.block(promotion_facts.figures(p, e, home.zone, now, gone), markup.GAP))
    with st.container(key="pair"):
        left, right = st.columns([13, 9], gap="medium")
        with left:
            _evidence(home, p, e)
        with right:
            _decision(home, at, actor, p, e, now, gone)
    _comparison(home, actor, e)
    _review(home, at, actor, p, now)


def _title(home: Home, book: Book, p: Promotion, now: datetime, gone: frozenset[str]) -> None:
    replaced = f" replaces {p.replaces}" if p.replaces else ""
    answer = promotion_facts.standing(book, p, now, gone)
    title = Html(f"<h1>{markup.html(promotion_facts.named(p))}{replaced} <span class='answer'>{answer}</span></h1>")
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.html(markup.block(title), width="content")
        with st.container(key="actions", horizontal=True, vertical_alignment="center", gap="small", width="content"):
            if (record := st.query_params.get("record", "")).isdecimal():
                query = session.address(record=record)
                st.page_link(shell.AUDIT, label=f"‹ record {record}", query_params=query, icon="")
            shell.list_link(shell.PROMOTIONS, "promotions")
            query = session.address(model=p.model, version=str(p.version))
            st.page_link(shell.MODELS, label="the version’s card", query_params=query, icon="")


def _evidence(home: Home, p: Promotion, e: Evidence) -> None:
    passed = sum(bool(c["passed"]) for c in e.checks)
    st.html(
        markup.block(
            markup.heading("Request", p.id),
            promotion_facts.request(p, home.zone, e.trainer_unknown),
            markup.GAP,
            markup.heading("Evidence", "each hash of the manifest against the records of this moment"),
            promotion_facts.evidence_table(e.hashes),
            markup.GAP,
            markup.heading("Gates", f"{passed} of {len(e.checks)} passed when it was trained"),
            promotion_facts.gate_table(e.checks) if e.checks else markup.quiet("No gate is on record."),
        )
    )


def _decision(
    home: Home, at: Approvals, actor: Actor, p: Promotion, e: Evidence, now: datetime, gone: frozenset[str]
) -> None:
    counted = frozenset(s.signer for s in rules.counted(p, now, gone))
    lacks = () if p.closed else rules.missing(p, now, gone)
    shown = promotion_facts.signature_table(p, e, home.zone, counted, lacks)
    st.html(markup.block(markup.heading("Signatures", f"{len(counted)} of {p.policy.quorum}"), shown))
    for verb, closing in (("rejected", p.rejected), ("withdrawn", p.withdrawn)):
        if closing:
            who, when, why = closing
            told = markup.join([f"{why} (", markup.at(when, home.zone), ")"], "")
            st.html(markup.block(markup.alarm("stop" if verb == "rejected" else "none", f"{verb} by {who}", told)))
    with st.container(key="deciding"):
        promotion_forms.decide(home, at, actor, p, now, gone)


def _comparison(home: Home, actor: Actor, e: Evidence) -> None:
    c = e.comparison
    if c is None:
        none = markup.quiet("The training run made no comparison.")
        st.html(markup.block(markup.heading("Champion against challenger"), none))
        return
    note = f"{formats.plural(c.rows, 'held-out row')}, {formats.plural(c.events, 'event')}"
    head = markup.heading("Champion against challenger", note)
    comparison_view.found(head, c)
    if e.kept:
        comparison_view.movers(home, actor, e.kept, c)


def _review(home: Home, at: Approvals, actor: Actor, p: Promotion, now: datetime) -> None:
    """Findings, questions and challenge, and the forms that add to them."""
    today = now.astimezone(home.zone).date()
    open_ = sum(f.open for f in p.findings)
    with st.container(key="review"):
        left, right = st.columns([13, 9], gap="medium")
        with left:
            found = (
                promotion_facts.finding_table(p.findings, home.zone, today)
                if p.findings
                else markup.quiet("None was raised.")
            )
            st.html(markup.block(markup.heading("Findings", f"{open_} open"), found))
            answered = sum(q.answer is not None for q in p.questions)
            said = (
                promotion_facts.dialogue(p, home.zone)
                if p.questions or p.challenges
                else markup.quiet("Nobody has asked anything.")
            )
            questions, challenges = len(p.questions), formats.plural(len(p.challenges), "challenge")
            note = f"{formats.plural(questions, 'question')}, {answered} answered; {challenges} on record"
            st.html(markup.block(markup.GAP, markup.heading("Effective challenge", note), said))
        with right, st.container(key="reviewing"):
            review_forms.review(home, at, actor, p, today)


if __name__ == "__main__":
    page()
