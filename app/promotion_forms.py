"""The decision on a promotion's page: sign, reject, withdraw.

Each form is shown to who may use it; to others a sentence says who may, and why they may not. What a form does is
done before the page is made anew, through ``Approvals``, which asks the rules again.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import streamlit as st

from app import acting, desk, markup, promotion_facts
from app.auditing import record
from app.forms import form, sentence, words
from app.markup import Html
from app.session import Home
from pipeline.errors import PromotionRefused
from pipeline.governance import access, identity
from pipeline.governance import promotion_rules as rules
from pipeline.governance.access import Actor
from pipeline.governance.approvals import Approvals
from pipeline.governance.promotion_state import Promotion

MEANINGS = (
    "I approve this version for scoring",
    "I approve this version for scoring under the conditions on record",
    "I have reviewed the evidence and approve this version",
)


def decide(home: Home, at: Approvals, actor: Actor, p: Promotion, now: datetime, gone: frozenset[str]) -> None:
    """Sign or reject, where this person may now; otherwise why not."""
    if p.closed:
        _end(home, at, actor, p)
        return
    st.html(markup.block(markup.heading("Decide")))
    # What else stands against it: the password is asked for in the form, and the login at the provider below.
    against = rules.against_signing(p, replace(actor, authenticated_at=now, method="password"), now, gone)
    if not desk.signed_in(actor):
        sentence("Nobody is signed in here: add users with `scoretrace user add`, then sign in to decide.")
        return
    if against:
        who = " or ".join(p.policy.roles)
        sentence(f"You may not sign: {against}. The policy asks for {p.policy.quorum} of {who}.", "none")
    elif actor.method == "oidc" and (stale := rules.against_signing(p, actor, now, gone)):
        _again(home, at, p, stale)
    else:
        _sign(home, at, actor, p)
    if access.may(actor, "promotion.reject"):
        with st.popover("Reject"):
            form(
                home, f"reject {p.id}", "Reject", lambda: (words("Why it may not score"),),
                lambda who, why: at.reject(who, p.id, why), f"{p.id} is rejected",
            )  # fmt: skip
    _withdraw(home, at, actor, p, "Withdraw the request")


def _end(home: Home, at: Approvals, actor: Actor, p: Promotion) -> None:
    """Of a promotion in force: the way to end it."""
    if p.rejected or p.withdrawn or not desk.signed_in(actor):
        return
    _withdraw(home, at, actor, p, "End this promotion")


def _withdraw(home: Home, at: Approvals, actor: Actor, p: Promotion, label: str) -> None:
    own = actor.name == p.requester and not p.promoted_at and access.may(actor, "promotion.withdraw")
    if own or access.may(actor, "promotion.end"):
        with st.popover(label):
            if p.promoted_at:
                sentence("Scoring then refuses this version until another promotion is in force.", "watch")
            form(
                home, f"withdraw {p.id}", label, lambda: (words("Why"),),
                lambda who, why: at.withdraw(who, p.id, why), f"{p.id} is withdrawn",
            )  # fmt: skip


def _again(home: Home, at: Approvals, p: Promotion, stale: str) -> None:
    """Through an identity provider a fresh sign-in is made there, after it was put on record that one is wanted."""
    sentence(f"You may not sign yet: {stale}. Then open this page again.", "watch")
    if st.button("Sign in again at your identity provider", type="primary"):

        def go(who: Actor) -> str:
            at.ask_login(who, p.id)
            acting.login_for_signing()
            return f"sign in at your identity provider, then open {p.id} again"

        if not desk.attempt(home, go):
            st.rerun()


def _sign(home: Home, at: Approvals, actor: Actor, p: Promotion) -> None:
    """The one form that signs. What it shows is what is signed: should it change meanwhile, nothing is signed."""
    key = f"sign {p.id}"
    by_password = actor.method == "password"
    shown = _terms(p)

    def sign() -> None:
        meaning, reason = st.session_state[f"{key} meaning"], st.session_state[f"{key} reason"]
        password = st.session_state.get(f"{key} password", "")
        if by_password:
            st.session_state[f"{key} password"] = ""

        def act(who: Actor) -> str:
            if _terms(at.promotion(p.id)) != shown:
                raise PromotionRefused(
                    f"promotion {p.id} has changed since you opened it; nothing was signed", "read it again, then sign"
                )
            if not reason.strip() or (by_password and not password):  # no attempt, and none is counted
                wanted = "a reason and your password" if by_password else "a reason"
                raise PromotionRefused(f"to sign takes {wanted}; nothing was signed", "fill in what is empty")
            now = datetime.now(UTC)
            fresh = (
                identity.reauthenticate(home.engine, who, password, now, record=record)
                if who.method == "password"
                else who
            )
            found = at.sign(fresh, p.id, meaning=meaning, reason=reason)
            named = promotion_facts.named(found)
            return f"signed; {named} is in force" if found.promoted_at else f"signed; {named} needs more to take effect"

        if desk.attempt(home, act):
            st.session_state[f"{key} reason"] = ""

    with st.form(key, border=True):
        manifest = Html(f"<code class='whole'>{markup.html(p.manifest_sha256)}</code>")
        terms = f" for {promotion_facts.named(p)}, conditions: {promotion_facts.conditions(p)}."
        shown_ = markup.join(["You approve the manifest ", manifest, terms], "")
        st.html(markup.block(Html("<p class='signing'>"), shown_, Html("</p>")))
        st.selectbox("Meaning", MEANINGS, key=f"{key} meaning")
        st.text_area(
            "Reason", key=f"{key} reason", height=70, max_chars=2000, placeholder="kept for ever, as you write it"
        )
        if by_password:
            st.text_input(
                f"Password of {actor.name}", type="password", key=f"{key} password", max_chars=256,
                autocomplete="current-password",
            )  # fmt: skip
        st.form_submit_button("Sign", type="primary", on_click=sign)


def _terms(p: Promotion) -> tuple[object, ...]:
    """What a signature covers."""
    return p.manifest_sha256, p.conditions.ends, p.conditions.max_subjects, p.external_reference
