"""What can be added to a promotion's review, one thing at a time; what this person may not add is said with who may."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta

import streamlit as st

from app import desk, markup
from app.forms import form, sentence, words
from app.session import Home
from pipeline.governance import access
from pipeline.governance.access import PERSONAL_ROLES, RULES, Actor
from pipeline.governance.approvals import Approvals
from pipeline.governance.promotion_state import Promotion

_FINDING_DAYS = timedelta(days=30)


def review(home: Home, at: Approvals, actor: Actor, p: Promotion, today: date) -> None:
    """The forms that this person may use now."""
    st.html(markup.block(markup.heading("Add to the review")))
    if not desk.signed_in(actor):
        sentence("Nobody is signed in here: add users with `scoretrace user add`, then sign in to review.")
        return
    unanswered = [q.id for q in p.questions if q.answer is None]
    own, alive = actor.name in (p.trainer, p.requester), not p.closed
    unsigned = alive and not p.signatures
    open_findings = [f.id for f in p.findings if f.open and f.owner != actor.name and not (own and f.blocking)]
    steps: list[tuple[str, str, bool, Callable[[], None]]] = [
        ("finding.answer", "Answer a question", alive and bool(unanswered), lambda: _answer(home, at, p, unanswered)),
        ("finding.close", "Close a finding", bool(open_findings), lambda: _close(home, at, p, open_findings)),
        ("finding.raise", "Raise a finding", alive, lambda: _finding(home, at, p, today)),
        ("promotion.review", "Ask a question", alive, lambda: _ask(home, at, p)),
        ("promotion.review", "Record effective challenge", alive and not own, lambda: _challenge(home, at, p)),
        ("promotion.review", "Set conditions", unsigned and not own, lambda: _condition(home, at, p, today)),
        ("promotion.review", "Record an approval elsewhere", unsigned, lambda: _elsewhere(home, at, p)),
    ]
    offered = [step for step in steps if step[2] and access.may(actor, step[0])]
    for _, label, _, show in offered:
        with st.expander(label):
            show()
    refused: dict[tuple[str, ...], list[str]] = {}
    for action, label, possible, _ in steps:
        if possible and not access.may(actor, action):
            people = tuple(role.replace("_", " ") for role in RULES[action].roles if role in PERSONAL_ROLES)
            refused.setdefault(people, []).append(label.lower())
    for people, labels in refused.items():
        sentence(f"To {', '.join(labels)}: ask {' or '.join(people)}.")
    if own and alive and access.may(actor, "promotion.review"):
        sentence(
            "You made or requested this version: effective challenge, conditions and the closing of what blocks are "
            "for others."
        )
    if not offered and not refused:
        sentence("This promotion is closed; nothing can be added.")


def _finding(home: Home, at: Approvals, p: Promotion, today: date) -> None:
    form(
        home, f"finding {p.id}", "Raise",
        lambda: (
            words("What is wrong"),
            st.text_input("Owner: a user's name", value=p.requester, max_chars=200),
            st.date_input("Due", value=today + _FINDING_DAYS, min_value=today),
            st.checkbox("It blocks: nobody signs before it is closed"),
        ),
        lambda who, text, owner, due, blocks: at.raise_finding(
            who, p.id, text, owner=owner.strip() or p.requester, due=due, blocking=blocks
        ),
        "the finding is on record",
    )  # fmt: skip


def _close(home: Home, at: Approvals, p: Promotion, open_findings: list[str]) -> None:
    form(
        home, f"close {p.id}", "Close",
        lambda: (st.selectbox("Finding", open_findings), words("What was done")),
        lambda who, finding, note: at.close_finding(who, p.id, finding, note), "the finding is closed",
    )  # fmt: skip


def _ask(home: Home, at: Approvals, p: Promotion) -> None:
    form(
        home, f"ask {p.id}", "Ask", lambda: (words("Question"),),
        lambda who, text: at.ask(who, p.id, text), f"the question waits for {p.requester}",
    )  # fmt: skip


def _answer(home: Home, at: Approvals, p: Promotion, unanswered: list[str]) -> None:
    form(
        home, f"answer {p.id}", "Answer",
        lambda: (st.selectbox("Question", unanswered), words("Answer")),
        lambda who, question, text: at.answer(who, p.id, question, text), "the answer is on record",
    )  # fmt: skip


def _challenge(home: Home, at: Approvals, p: Promotion) -> None:
    form(
        home, f"challenge {p.id}", "Record",
        lambda: (
            st.text_input("Whose expertise", max_chars=500),
            st.text_input("How independent of the makers", max_chars=500),
            words("What changed through it"),
        ),
        lambda who, expertise, independence, changed: at.challenge(
            who, p.id, expertise=expertise, independence=independence, changed=changed
        ),
        "the challenge is on record",
    )  # fmt: skip


def _condition(home: Home, at: Approvals, p: Promotion, today: date) -> None:
    """Filled in with what is set already: what is sent takes its place as a whole."""
    ends = date.fromisoformat(p.conditions.ends) if p.conditions.ends else None
    form(
        home, f"condition {p.id}", "Set",
        lambda: (
            st.date_input("Scores up to and including", value=ends, min_value=min(today, ends or today)),
            st.number_input(
                "At most so many subjects a night", min_value=1, value=p.conditions.max_subjects, step=1,
                placeholder="any",
            ),
        ),
        lambda who, ends, most: at.condition(who, p.id, ends=ends, max_subjects=most),
        "the conditions are on record; whoever signs, signs them",
    )  # fmt: skip


def _elsewhere(home: Home, at: Approvals, p: Promotion) -> None:
    form(
        home, f"elsewhere {p.id}", "Record",
        lambda: (st.text_input("Reference, such as a change ticket", max_chars=500),),
        lambda who, reference: at.approve_elsewhere(who, p.id, reference), "the reference is on record",
    )  # fmt: skip
