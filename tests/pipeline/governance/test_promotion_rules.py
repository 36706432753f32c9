"""The rules of promotion as a law: whatever people do in whatever order, none takes effect without its quorum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.governance import policy
from pipeline.governance import promotion_rules as rules
from pipeline.governance.access import Actor
from pipeline.governance.event import Event
from pipeline.governance.policy import Policy
from pipeline.governance.promotion_state import Book, fold

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
PEOPLE = {
    "tess": {"data_scientist", "approver"},  # trained it
    "rita": {"developer", "approver"},  # requested it
    "ada": {"approver"},
    "ben": {"approver"},
    "vic": {"viewer"},
}
STEPS = (
    "sign",
    "sign",
    "sign",
    "blocking",
    "close",
    "challenge",
    "freeze",
    "lift",
    "reject",
    "withdraw",
    "disable",
    "wait",
)


def requested(asked: Policy, **more: Any) -> Event:
    manifest = {"model": "pd", "version": 2, "model_sha256": "d" * 64, "policy": asked.as_dict()}
    detail = {
        "manifest": manifest, "manifest_sha256": "m" * 64, "trainer": "tess", "reason": "better", "replaces": 1,
        "external_reference": None, **more,
    }  # fmt: skip
    return Event(1, START, "rita", "promotion.requested", "promotion:p", detail)


class Desk:
    """Does what the service does, in memory: asks the rules, and writes an event when nothing stands against it."""

    def __init__(self, asked: Policy, **more: Any) -> None:
        self.now = START
        self.events = [requested(asked, **more)]
        self.disabled: set[str] = set()

    @property
    def book(self) -> Book:
        return fold(self.events)

    def event(self, actor: str, action: str, detail: Mapping[str, Any], subject: str = "promotion:p") -> None:
        self.events.append(Event(len(self.events) + 1, self.now, actor, f"promotion.{action}", subject, detail))

    def sign(self, name: str) -> str | None:
        p = self.book.promotions["p"]
        actor = Actor(name, frozenset(PEOPLE[name]), "password", self.now)
        against = rules.against_signing(p, actor, self.now, self.disabled)
        if against is None:
            said = {"roles": sorted(PEOPLE[name]), "meaning": "I approve", "reason": "r", "envelope": {}}
            self.event(name, "signed", said)
            self.finish()
        return against

    def finish(self) -> None:
        if rules.against_promoting(self.book, self.book.promotions["p"], self.now, self.disabled) is None:
            self.event("scoretrace", "promoted", {"model": "pd", "version": 2})

    def do(self, step: str, name: str) -> None:
        p = self.book.promotions["p"]
        if step == "sign":
            if name not in self.disabled:
                self.sign(name)
        elif step == "wait":
            self.now += timedelta(days=9)
            self.finish()
        elif step == "disable":
            self.disabled.add(name)
        elif step == "freeze":
            self.event(name, "frozen", {"reason": "year end"}, "model:*")
        elif step == "lift":
            self.event(name, "unfrozen", {"reason": "over"}, "model:*")
            self.finish()
        elif p.closed:
            return
        elif step == "blocking":
            detail = {
                "id": f"F{len(p.findings) + 1}",
                "text": "t",
                "blocking": True,
                "owner": "rita",
                "due": "2026-03-09",
            }
            self.event(name, "finding_raised", detail)
        elif step == "close":
            for f in p.blocking:
                self.event(name, "finding_closed", {"id": f.id, "note": "done"})
            self.finish()
        elif step == "challenge":
            self.event(name, "challenged", {"expertise": "e", "independence": "i", "changed": "c"})
            self.finish()
        elif step in ("reject", "withdraw"):
            self.event(name, f"{step}ed" if step == "reject" else "withdrawn", {"reason": "no"})


@given(
    st.sampled_from([Policy(), Policy(quorum=1), Policy(quorum=2, challenge=True), Policy(quorum=2, waiting_hours=48)]),
    st.lists(st.tuples(st.sampled_from(STEPS), st.sampled_from(sorted(PEOPLE))), max_size=14),
)
def test_nothing_takes_effect_without_its_quorum_or_by_its_maker(asked: Policy, steps: list[tuple[str, str]]) -> None:
    desk = Desk(asked)
    for step, name in steps:
        frozen_before = desk.book.freeze_on("pd")
        effective_before = desk.book.promotions["p"].promoted_at
        desk.do(step, name)
        p = desk.book.promotions["p"]
        if p.promoted_at and not effective_before:
            who = {s.signer for s in p.signatures if s.at >= p.promoted_at - timedelta(days=asked.signature_days)}
            assert len(who - {"tess", "rita", "vic"} - desk.disabled) >= asked.quorum
            assert not p.blocking
            assert p.challenges or not asked.challenge
            assert p.promoted_at >= START + timedelta(hours=asked.waiting_hours)
            assert not (frozen_before and step != "lift")
            assert not p.rejected and not p.withdrawn
    p = desk.book.promotions["p"]
    assert not {s.signer for s in p.signatures} & {"tess", "rita", "vic"}
    assert (desk.book.in_force.get("pd") is not None) == bool(p.promoted_at and not p.withdrawn)


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("tess", "trained"),
        ("rita", "requested this promotion"),
        ("vic", "asks for approver; vic is viewer"),
    ],
)
def test_who_may_not_sign_is_told_the_rule(name: str, rule: str) -> None:
    assert rule in (Desk(Policy()).sign(name) or "")


def test_one_person_counts_once_and_a_second_one_completes_it() -> None:
    desk = Desk(Policy())
    assert desk.sign("ada") is None
    assert "has signed it already" in (desk.sign("ada") or "")
    assert rules.missing(desk.book.promotions["p"], desk.now) == ("1 more signature of approver (1 of 2)",)
    assert desk.sign("ben") is None
    assert desk.book.in_force["pd"].promotion == "p"
    assert "took effect" in (desk.sign("ada") or "")


def test_a_signature_expires_and_may_be_given_again() -> None:
    desk = Desk(Policy())
    desk.sign("ada")
    desk.now += timedelta(days=15)
    desk.sign("ben")
    assert desk.book.promotions["p"].promoted_at is None
    desk.sign("ada")
    assert desk.book.promotions["p"].promoted_at == desk.now


def test_a_sign_in_must_be_fresh_and_no_clock_may_run_ahead() -> None:
    p = Desk(Policy()).book.promotions["p"]
    for away, stands in ((timedelta(minutes=6), True), (timedelta(0), False), (timedelta(minutes=-3), True)):
        actor = Actor("ada", frozenset({"approver"}), "password", START - away)
        assert (rules.against_signing(p, actor, START) is not None) == stands


def test_a_user_disabled_after_signing_counts_no_more_until_it_was_complete() -> None:
    desk = Desk(Policy())
    desk.sign("ada")
    desk.disabled.add("ada")
    desk.sign("ben")
    assert desk.book.promotions["p"].promoted_at is None
    whole = Desk(Policy())
    whole.sign("ada")
    whole.sign("ben")
    assert rules.against_scoring(whole.book.promotions["p"], date(2026, 3, 3), whole.now) is None


def test_an_approval_and_its_conditions_end() -> None:
    desk = Desk(Policy(approval_days=30))
    desk.event("ada", "conditioned", {"ends": "2026-03-20", "max_subjects": 100})
    desk.sign("ada")
    desk.sign("ben")
    p = desk.book.promotions["p"]
    assert rules.against_scoring(p, date(2026, 3, 20), desk.now) is None
    assert "ended on 2026-03-20" in (rules.against_scoring(p, date(2026, 3, 21), desk.now) or "")
    assert "expired" in (rules.against_scoring(p, date(2026, 3, 20), desk.now + timedelta(days=31)) or "")
    assert rules.status(p, desk.now + timedelta(days=31)) == "expired"


def test_only_what_was_in_force_is_put_back() -> None:
    desk = Desk(Policy())
    assert "never in force" in (
        rules.against_rollback(desk.book, desk.book.promotions["p"], START.date(), desk.now) or ""
    )
    desk.sign("ada")
    desk.sign("ben")
    p = desk.book.promotions["p"]
    assert "in force already" in (rules.against_rollback(desk.book, p, START.date(), desk.now) or "")
    gone = replace(p, withdrawn=("ada", START, "x"))
    assert "was withdrawn" in (rules.against_rollback(desk.book, gone, START.date(), desk.now) or "")
    other = replace(p, id="another")
    assert rules.against_rollback(desk.book, other, START.date(), desk.now) is None
    late = desk.now + timedelta(days=p.policy.approval_days + 1)
    assert "let nothing score: it expired" in (rules.against_rollback(desk.book, other, START.date(), late) or "")


def test_a_policy_is_checked_when_it_is_read() -> None:
    assert policy.parse({"high": {"quorum": 3}})["high"] == Policy(quorum=3)
    for wrong in ({"top": {}}, {"high": {"quorum": 0}}, {"high": {"quorums": 2}}, {"low": {"roles": []}}):
        with pytest.raises(ValueError, match="governance"):
            policy.parse(wrong)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("roles", "approver"),  # a text is no list: its letters would be the roles
        ("roles", ["aprover"]),
        ("roles", ["analyst"]),  # may not sign anything
        ("quorum", "2"),
        ("quorum", True),
        ("quorum", 1.5),
        ("waiting_hours", "24"),
        ("approval_days", 10**9),
        ("challenge", "no"),
    ],
)
def test_a_policy_that_nobody_could_keep_is_refused_by_its_key(key: str, value: object) -> None:
    with pytest.raises(ValueError, match=rf"governance\.high\.{key} is"):
        policy.parse({"high": {key: value}})


def test_a_tier_of_the_policy_is_a_section() -> None:
    with pytest.raises(ValueError, match=r"governance\.high is a section"):
        policy.parse({"high": None})  # type: ignore[dict-item]


def test_through_a_provider_only_a_login_asked_for_here_and_made_since_signs() -> None:
    desk = Desk(Policy(quorum=1))
    later = START + timedelta(minutes=10, microseconds=700_000)

    def against(name: str, login: datetime, now: datetime = later + timedelta(minutes=1)) -> str:
        actor = Actor(name, frozenset({"approver"}), "oidc", login)
        return rules.against_signing(desk.book.promotions["p"], actor, now) or ""

    assert "for this signature" in against("ada", later), "it was fresh, and nobody had asked for it"
    desk.now = later
    desk.event("ada", "login_asked", {})
    assert "for this signature" in against("ada", later - timedelta(seconds=1))
    assert "for this signature" in against("ben", later + timedelta(seconds=30)), "another person asked"
    assert against("ada", later.replace(microsecond=0)) == "", "a provider tells whole seconds"
    assert "within the last 5 minutes" in against("ada", later, later + timedelta(minutes=6))
    desk.now = later + timedelta(minutes=2)
    desk.event("ada", "login_asked", {})
    assert "for this signature" in against("ada", later), "asked anew, signed in anew"


def test_a_request_that_another_version_overtook_is_made_anew() -> None:
    desk = Desk(Policy(quorum=1))
    other = requested(Policy(quorum=1))
    desk.events.append(replace(other, seq=2, subject="promotion:q"))
    desk.event("scoretrace", "promoted", {"model": "pd", "version": 3}, "promotion:q")
    p = desk.book.promotions["p"]
    assert p.superseded == "q" and rules.status(p, desk.now) == "open"
    assert "promotion q came into force since" in (desk.sign("ada") or "")
    assert any("request it anew" in lack for lack in rules.missing(p, desk.now))
    desk.events.append(replace(other, seq=4, subject="promotion:r"))
    assert desk.book.promotions["r"].superseded is None
    desk.event("ada", "rolled_back", {"promotion": "q", "review_due": "2026-03-09"}, "model:pd")
    assert desk.book.promotions["r"].superseded == "q"
    assert desk.book.promotions["q"].superseded is None, "what took effect is not overtaken, it is replaced"


def test_a_key_is_worth_nothing_to_what_comes_after_its_replacement() -> None:
    desk = Desk(Policy())
    said = {"roles": ["approver"], "meaning": "I approve", "reason": "r"}
    sealed = {"signatures": [{"keyid": "k1", "sig": ""}]}
    desk.event("ada", "signed", {**said, "envelope": sealed})
    rotated = Event(len(desk.events) + 1, desk.now, "root", "key.rotated", "key:k2", {"replaces": "k1"})
    desk.events.append(rotated)
    desk.event("ben", "signed", {**said, "envelope": sealed})
    assert [s.retired for s in desk.book.promotions["p"].signatures] == [(), ("k1",)]


def test_a_name_in_other_letters_is_still_the_trainers() -> None:
    desk = Desk(Policy(quorum=1), trainer="ADA")
    assert "trained pd version 2" in (desk.sign("ada") or "")
    desk = Desk(Policy(quorum=1), trainer="ADA")
    desk.event("ada", "signed", {"roles": ["approver"], "meaning": "I approve", "reason": "r", "envelope": {}})
    assert rules.counted(desk.book.promotions["p"], desk.now) == ()
