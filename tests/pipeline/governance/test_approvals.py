"""Promotion for real: on a home with trained models, through the audit log, to what may score."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from sqlalchemy import text

from app.auditing import record
from pipeline.comparison import store
from pipeline.control import audit_log
from pipeline.errors import AccessDenied, MachineRefused, ModelRefused, NotFound, PromotionRefused, RecordRefused
from pipeline.governance import audit, canonical_json, chain, checkpoints, dsse, keys, users
from pipeline.governance import promotion_rules as rules
from pipeline.governance.access import Actor
from pipeline.governance.approvals import Approvals
from pipeline.governance.approved import require_approved
from pipeline.governance.promotion_log import let_score
from pipeline.governance.promotion_state import Promotion
from pipeline.governance.signatures import SIGNATURE_TYPE, genuine
from tests.pipeline import small_book
from tests.pipeline.small_book import NIGHT, Book
from tests.signing_off import APPROVERS, at_the_home, person


@pytest.fixture
def book(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Book:
    return small_book.copy(small_book.promoted(tmp_path_factory), tmp_path / "home")


def desk(book: Book, now: datetime | None = None) -> Approvals:
    clock = (lambda: now) if now else (lambda: datetime.now(UTC))
    return Approvals(book.settings, book.engine, book.registry, book.portfolio, clock)


def in_a_month() -> date:
    return datetime.now(UTC).date() + timedelta(days=30)


def second(book: Book) -> int:
    version = book.registry.production("pd_default")
    return small_book.register(book, book.registry.text(version), training_set="4" * 64).version


def asked(book: Book) -> Promotion:
    return desk(book).request(person("dana", "data_scientist"), "pd_default", second(book), "fresher cohorts")


def sign(book: Book, promotion: Promotion, name: str) -> Promotion:
    return desk(book).sign(person(name, "approver"), promotion.id, meaning="I approve", reason="reviewed")


def approved(book: Book, as_of: date = NIGHT, now: datetime | None = None) -> int:
    return require_approved(book.settings, book.engine, book.registry, "pd_default", as_of, now=now)[0].version


def test_the_second_signature_moves_the_alias_and_all_of_it_is_on_record(book: Book) -> None:
    p = asked(book)
    assert sign(book, p, "avery").promoted_at is None
    assert approved(book) == 1
    done = sign(book, p, "blake")
    assert done.promoted_at and (done.replaces, done.requester) == (1, "dana")
    assert approved(book) == 2
    found = [r.action for r in audit.records(book.engine, action="promotion.") if r.subject in (f"promotion:{p.id}",)]
    assert found == ["promotion.requested", "promotion.signed", "promotion.signed", "promotion.promoted"]
    assert audit.records(book.engine)[-1].action == "promotion.alias_moved"
    assert audit.verify(book.engine).ok
    small_book.night(book)


def test_a_refusal_names_the_rule_and_is_on_record(book: Book) -> None:
    p = asked(book)
    with pytest.raises(AccessDenied, match="needs the role approver"):
        desk(book).sign(person("dana", "data_scientist"), p.id, meaning="m", reason="r")
    assert audit.records(book.engine)[-1].action == "promotion.refused"
    sign(book, p, "avery")
    with pytest.raises(PromotionRefused, match="avery has signed it already") as refused:
        sign(book, p, "avery")
    assert "approver" in refused.value.next_step
    last = audit.records(book.engine)[-1]
    assert (last.action, last.actor) == ("promotion.refused", "avery")
    with pytest.raises(NotFound, match="no promotion"):
        desk(book).sign(person("avery", "approver"), "nothing", meaning="m", reason="r")


def test_an_open_blocking_finding_blocks_until_somebody_else_closes_it(book: Book) -> None:
    p = asked(book)
    reviewer = person("avery", "approver")
    desk(book).raise_finding(reviewer, p.id, "no fairness figures", owner="dana", due=in_a_month(), blocking=True)
    with pytest.raises(PromotionRefused, match="finding F1 blocks it: no fairness figures"):
        sign(book, p, "blake")
    with pytest.raises(PromotionRefused, match="owns finding F1"):
        desk(book).close_finding(person("dana", "approver"), p.id, "F1", "added")
    desk(book).close_finding(reviewer, p.id, "F1", "figures added to the card")
    desk(book).ask(reviewer, p.id, "why now?")
    found = desk(book).answer(person("dana", "data_scientist"), p.id, "Q1", "drift since January")
    assert (found.questions[0].answer, found.questions[0].answered_by) == ("drift since January", "dana")
    sign(book, p, "avery")
    assert sign(book, p, "blake").promoted_at
    with pytest.raises(PromotionRefused, match="took effect on") as closed:
        sign(book, p, "cleo")
    assert "somebody else" not in closed.value.next_step, "nobody can"


def test_words_are_text_and_must_be_there(book: Book) -> None:
    p = asked(book)
    with pytest.raises(PromotionRefused, match="needs words"):
        desk(book).reject(person("avery", "approver"), p.id, "   ")
    script = "<script>alert(1)</script> =cmd|' /C calc'!A0"
    rejected = desk(book).reject(person("avery", "approver"), p.id, script).rejected
    assert rejected is not None and rejected[2] == script
    with pytest.raises(RecordRefused):
        desk(book).request(person("dana", "data_scientist"), "pd_default", 2, "bell \x07")
    with pytest.raises(RecordRefused):
        desk(book).request(person("dana", "data_scientist"), "pd_default", 2, "x" * 200_000)


def test_two_who_sign_at_once_both_count_once_each(book: Book) -> None:
    for _ in range(200 if hypothesis.settings.default.max_examples >= 3_000 else 50):  # --hypothesis-profile=long
        p = desk(book).request(person("dana", "data_scientist"), "pd_default", second(book), "again")
        both = threading.Barrier(4)
        errors: list[BaseException] = []

        def go(name: str, at: threading.Barrier = both, to: Promotion = p, seen: list[BaseException] = errors) -> None:
            at.wait()
            try:
                sign(book, to, name)
            except PromotionRefused as error:
                seen.append(error)

        threads = [threading.Thread(target=go, args=(name,)) for name in ("avery", "blake", "avery", "blake")]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        found = desk(book).promotion(p.id)
        assert sorted(s.signer for s in found.signatures) == ["avery", "blake"]
        assert len(errors) == 2 and found.promoted_at
        promoted = [r for r in audit.records(book.engine, subject=f"promotion:{p.id}") if r.action.endswith("promoted")]
        assert len(promoted) == 1
    assert audit.verify(book.engine).ok


def test_killed_between_record_and_alias_it_is_finished_once(book: Book, monkeypatch: pytest.MonkeyPatch) -> None:
    p = asked(book)
    sign(book, p, "avery")

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(type(book.registry), "set_production", die)
        with pytest.raises(KeyboardInterrupt):
            sign(book, p, "blake")
    with pytest.raises(ModelRefused, match="approves version 2"):
        approved(book)
    assert desk(book).finish() == ("pd_default is at version 2",)
    assert desk(book).finish() == ()
    assert approved(book) == 2


def test_an_alias_moved_by_hand_gains_nothing_and_is_put_back(book: Book) -> None:
    small_book.night(book)
    book.registry.set_production("pd_default", second(book))
    with pytest.raises(ModelRefused, match="which is in force, approves version 1"):
        small_book.night(book, run_id="night-2")


def test_withdrawn_expired_and_conditional_approvals_end(book: Book) -> None:
    p = asked(book)
    desk(book).condition(person("avery", "approver"), p.id, ends=NIGHT, max_subjects=3)
    sign(book, p, "avery")
    with pytest.raises(PromotionRefused, match="terms cannot change"):
        desk(book).condition(person("avery", "approver"), p.id, max_subjects=9_999_999)
    sign(book, p, "blake")
    with pytest.raises(ModelRefused, match="at most 3 subjects"):
        small_book.night(book)
    with pytest.raises(ModelRefused, match="conditional approval ended"):
        approved(book, NIGHT + timedelta(days=1))
    with pytest.raises(ModelRefused, match="expired on"):
        approved(book, NIGHT, datetime.now(UTC) + timedelta(days=366))
    with pytest.raises(AccessDenied, match=r"promotion\.end needs the role approver or admin"):
        desk(book).withdraw(person("dana", "data_scientist"), p.id, "a fault in a feature")
    desk(book).withdraw(person("avery", "approver"), p.id, "a fault in a feature")
    with pytest.raises(ModelRefused, match=r"no signed promotion .* it was withdrawn by avery: a fault in a feature"):
        approved(book)


def test_a_freeze_holds_back_and_a_rollback_owes_a_review(book: Book) -> None:
    first = desk(book).book().in_force["pd_default"].promotion
    desk(book).freeze(person("avery", "approver"), "*", "year end")
    p = asked(book)
    sign(book, p, "avery")
    assert sign(book, p, "blake").promoted_at is None
    assert desk(book).unfreeze(person("avery", "approver"), "*", "over")
    assert approved(book) == 2
    desk(book).rollback(person("avery", "approver"), first, "scores of 14 March look wrong")
    assert approved(book) == 1
    held = desk(book).book().in_force["pd_default"]
    assert held.rolled_back_by == "avery" and held.review_due
    with pytest.raises(PromotionRefused, match="in force already"):
        desk(book).rollback(person("avery", "approver"), first, "again")


def test_a_rotated_key_still_verifies_and_a_deleted_model_is_said(book: Book) -> None:
    keys.rotate(book.settings.keys_dir)
    assert approved(book) == 1
    book.registry._client.delete_model_version("pd_default", "1")
    with pytest.raises((ModelRefused, NotFound)):
        approved(book)


def _forge(book: Book, change: Any) -> None:
    """Rewrite the newest signature's record past the triggers, as somebody with the file would."""
    with book.engine.begin() as connection:
        names = connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all()
        for name in names:
            connection.execute(text(f'DROP TRIGGER "{name}"'))
        row = connection.execute(
            text(
                "SELECT seq, detail FROM audit_log WHERE action = 'promotion.signed' "
                "AND subject LIKE 'promotion:pd_default-%' ORDER BY seq DESC LIMIT 1"
            )
        ).one()
        detail = json.loads(row.detail)
        change(detail)
        connection.execute(
            text("UPDATE audit_log SET detail = :d WHERE seq = :s"), {"d": json.dumps(detail), "s": row.seq}
        )


def _flip(detail: dict[str, Any], field: str, at: int) -> None:
    raw = bytearray(base64.b64decode(detail["envelope"][field]))
    raw[at % len(raw)] ^= 1
    detail["envelope"][field] = base64.b64encode(bytes(raw)).decode()


@pytest.mark.parametrize("at", [0, 57, 211, 640, -1])
def test_any_changed_byte_of_an_envelope_voids_the_signature(book: Book, at: int) -> None:
    _forge(book, lambda detail: _flip(detail, "payload", at))
    with pytest.raises(ModelRefused, match=f"1 more signature .* on record of {APPROVERS[1]} is not genuine"):
        approved(book)
    assert not audit.verify(book.engine).ok


def test_a_signature_for_one_promotion_is_none_for_another(book: Book) -> None:
    p = asked(book)
    other = desk(book).book().promotions[desk(book).book().in_force["pd_default"].promotion].signatures[0]
    mine = keys.signing_key(book.settings.keys_dir)
    payload = dsse.opened(
        json.dumps(dict(other.envelope)), keys.PublicKeys(book.settings.keys_dir), payload_type=SIGNATURE_TYPE
    )
    assert p.id.encode() not in payload
    sign(book, p, "avery")
    sign(book, p, "blake")
    _forge(book, lambda detail: detail.update(envelope=json.loads(dsse.seal(SIGNATURE_TYPE, payload, mine))))
    with pytest.raises(ModelRefused, match="1 more signature"):
        approved(book)


def required_elsewhere(book: Book) -> Book:
    """The same home, whose policy asks for an approval elsewhere."""
    tiers = {tier: replace(p, external_reference=True) for tier, p in book.portfolio.governance.items()}
    return replace(book, portfolio=replace(book.portfolio, governance=tiers))


def test_an_approval_elsewhere_is_asked_for_before_anyone_signs(book: Book) -> None:
    book = required_elsewhere(book)
    p = asked(book)
    with pytest.raises(PromotionRefused, match=rf"none is on record: `scoretrace promotions review {p.id} --external"):
        sign(book, p, "avery")
    assert "the reference of an approval elsewhere is not on record" in rules.missing(p, datetime.now(UTC))
    with pytest.raises(AccessDenied):
        desk(book).approve_elsewhere(person("dana", "data_scientist"), p.id, "CHG0012345")
    with pytest.raises(PromotionRefused, match="needs words"):
        desk(book).approve_elsewhere(person("avery", "approver"), p.id, " ")
    found = desk(book).approve_elsewhere(person("avery", "approver"), p.id, "CHG0012345")
    assert (found.external_reference, found.external_by) == ("CHG0012345", "avery")
    sign(book, p, "avery")
    with pytest.raises(PromotionRefused, match="terms cannot change"):
        desk(book).approve_elsewhere(person("avery", "approver"), p.id, "CHG0099999")
    assert sign(book, p, "blake").promoted_at
    assert approved(book) == 2


def test_a_signature_covers_the_approval_elsewhere(book: Book) -> None:
    book = required_elsewhere(book)
    p = asked(book)
    desk(book).approve_elsewhere(person("avery", "approver"), p.id, "CHG0012345")
    sign(book, p, "avery")
    sign(book, p, "blake")
    assert approved(book) == 2
    with book.engine.begin() as connection:
        for name in connection.execute(text("SELECT name FROM sqlite_master WHERE type = 'trigger'")).scalars().all():
            connection.execute(text(f'DROP TRIGGER "{name}"'))
        connection.execute(
            text("UPDATE audit_log SET detail = :d WHERE action = 'promotion.external_approved'"),
            {"d": json.dumps({"reference": "CHG0099999"})},
        )
    with pytest.raises(ModelRefused, match="2 more signatures"):
        approved(book)


def test_the_manifest_covers_the_comparison(book: Book) -> None:
    first = next(iter(desk(book).book().promotions.values()))
    kept = store.of_model(book.engine, first.model)[-1]
    assert first.manifest["comparison_sha256"] == kept.sha256
    version = book.registry.get("pd_default", 1)
    p = desk(book).request(person("dana", "data_scientist"), "pd_default", version.version, "again")
    # Another comparison of the same bytes by the same run: not what was requested any more.
    other = replace(store.load(book.settings, kept.sha256), model="pd_default", rows=1)
    other = replace(other, challenger=replace(other.challenger, digest=version.digest))
    with book.engine.begin() as connection:
        store.record(connection, small_book.RUN, other, store.keep(book.settings, other))
    with pytest.raises(PromotionRefused, match="comparison_sha256 changed"):
        sign(book, p, "avery")


def test_a_request_from_before_comparisons_can_still_be_signed(book: Book) -> None:
    with book.engine.begin() as connection:
        connection.execute(text("DROP TRIGGER comparisons_no_delete"))
        connection.execute(text("DELETE FROM comparisons"))
    p = asked(book)
    assert p.manifest["comparison_sha256"] == ""
    sign(book, p, "avery")


def test_an_alias_that_was_moved_or_removed_by_hand_is_put_back(book: Book) -> None:
    p = asked(book)
    sign(book, p, "avery")
    assert sign(book, p, "blake").promoted_at
    assert desk(book).finish() == ()
    book.registry.set_production("pd_default", 1)
    assert desk(book).finish() == ("pd_default is back at version 2: the alias had been moved by hand",)
    assert book.registry.production_version("pd_default") == 2
    book.registry._client.delete_registered_model_alias("pd_default", "production")
    assert desk(book).finish() and book.registry.production_version("pd_default") == 2
    restored = audit.records(book.engine, action="promotion.alias_restored")
    assert [r.facts["was"] for r in restored] == [1, None]


def test_a_request_ends_once(book: Book) -> None:
    p = asked(book)
    desk(book).withdraw(person("dana", "data_scientist"), p.id, "a fault")
    with pytest.raises(PromotionRefused, match="was ended by dana already: a fault"):
        desk(book).withdraw(person("dana", "data_scientist"), p.id, "another reason")


def test_a_signature_of_who_may_sign_no_more_does_not_count(book: Book) -> None:
    now = datetime.now(UTC)
    root = person("root", "admin")
    users.add(book.engine, root, "avery", ["approver"], "long enough a password", now, record)
    p = asked(book)
    sign(book, p, "avery")
    users.set_roles(book.engine, root, "avery", ["viewer"], now, record)
    assert not sign(book, p, "blake").promoted_at
    users.set_roles(book.engine, root, "avery", ["approver"], now, record)
    assert desk(book).finish()


def test_a_signature_that_did_not_count_does_not_come_to_count_once_it_is_in_force(book: Book) -> None:
    now, root = datetime.now(UTC), person("root", "admin")
    users.add(book.engine, root, "avery", ["approver"], "long enough a password", now, record)
    p = asked(book)
    sign(book, p, "avery")
    users.add(book.engine, root, "reserve", ["admin"], "long enough a password", now, record)
    users.set_disabled(book.engine, root, "avery", True, now, record)
    sign(book, p, "blake")
    done = sign(book, p, "cleo")
    assert done.promoted_at
    assert [s.signer for s in rules.counted(done, datetime.now(UTC))] == ["blake", "cleo"]
    let = let_score(book.engine, "pd_default", 2)
    assert let is not None and let.actor == "blake, cleo"


def test_every_refusal_is_on_record_whatever_it_was_for(book: Book) -> None:
    before = audit.head(book.engine).seq
    with pytest.raises(AccessDenied):
        desk(book).request(person("quinn", "analyst"), "pd_default", 99, "x")
    with pytest.raises(NotFound):
        desk(book).request(person("dana", "data_scientist"), "pd_default", 99, "x")
    with pytest.raises(RecordRefused):
        desk(book).request(person("dana", "data_scientist"), "pd_default", second(book), "bell \x07")
    refused = [r for r in audit.records(book.engine, action="promotion.refused") if r.seq > before]
    assert [r.actor for r in refused] == ["quinn", "dana", "dana"]


def test_an_essay_and_an_empty_text_are_refused_on_record_by_every_step(book: Book) -> None:
    p, avery, dana = asked(book), person("avery", "approver"), person("dana", "data_scientist")
    at, essay, in_time = desk(book), "x" * 100_000, in_a_month()
    at.raise_finding(avery, p.id, "no figures", owner="dana", due=in_time)
    at.ask(avery, p.id, "why now?")
    steps: list[Callable[[str], object]] = [
        lambda text: at.raise_finding(avery, p.id, text, owner="dana", due=in_time),
        lambda text: at.close_finding(avery, p.id, "F1", text),
        lambda text: at.ask(avery, p.id, text),
        lambda text: at.answer(dana, p.id, "Q1", text),
        lambda text: at.challenge(avery, p.id, expertise=text, independence="i", changed="c"),
        lambda text: at.approve_elsewhere(avery, p.id, text),
        lambda text: at.request(dana, "pd_default", 1, "again", external_reference=text),
        lambda text: at.reject(avery, p.id, text),
        lambda text: at.withdraw(dana, p.id, text),
        lambda text: at.freeze(avery, "*", text),
    ]
    for step in steps:
        for bad, said in ((essay, "100,000 characters"), ("  ", "needs words")):
            with pytest.raises((RecordRefused, PromotionRefused), match=said):
                step(bad)
            last = audit.records(book.engine)[-1]
            assert last.action == "promotion.refused" and said in last.facts["rule"]


def test_without_an_id_a_step_says_that_there_is_no_such_promotion(book: Book) -> None:
    with pytest.raises(NotFound, match="there is no promotion"):
        desk(book).sign(person("avery", "approver"), "", meaning="I approve", reason="reviewed")
    assert audit.records(book.engine)[-1].action == "promotion.refused"


def test_only_what_is_frozen_is_lifted(book: Book) -> None:
    avery = person("avery", "approver")
    with pytest.raises(PromotionRefused, match="all models are not frozen; frozen now: nothing"):
        desk(book).unfreeze(avery, "*", "over")
    desk(book).freeze(avery, "*", "year end")
    with pytest.raises(PromotionRefused, match="pd_default are not frozen; frozen now: all models"):
        desk(book).unfreeze(avery, "pd_default", "over")
    assert desk(book).book().freeze_on("pd_default")


def test_a_version_lost_from_the_registry_holds_up_no_other_command(book: Book) -> None:
    p = asked(book)
    book.registry._client.delete_model_version("pd_default", "1")  # it is in force
    sign(book, p, "avery")
    (said,) = desk(book).finish()
    assert "pd_default stays without the version that is in force" in said and "no version 1" in said
    sign(book, p, "blake")
    assert approved(book) == 2 and desk(book).finish() == ()


def test_an_alias_follows_the_records_also_when_they_move_meanwhile(
    book: Book, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = desk(book).book().in_force["pd_default"].promotion
    p = asked(book)
    sign(book, p, "avery")
    move, rolled_back = type(book.registry).set_production, list[threading.Thread]()

    def slowly(registry: Any, name: str, version: int) -> None:
        """Somebody puts the old version back while the new one is about to be set."""
        if version == 2 and not rolled_back:
            back = desk(book, None)
            act = threading.Thread(target=back.rollback, args=(person("cleo", "approver"), first, "wrong scores"))
            rolled_back.append(act)
            act.start()
            act.join(1.0)  # under the lock it waits until this is through
        move(registry, name, version)

    with monkeypatch.context() as patch:
        patch.setattr(type(book.registry), "set_production", slowly)
        sign(book, p, "blake")
        rolled_back[0].join()
    assert desk(book).book().in_force["pd_default"].promotion == first
    assert book.registry.production_version("pd_default") == 1 and approved(book) == 1


def test_the_requester_does_not_vouch_for_the_approval_elsewhere(book: Book) -> None:
    book = required_elsewhere(book)
    p = desk(book).request(
        person("dana", "data_scientist"), "pd_default", second(book), "better", external_reference="CHG1"
    )
    with pytest.raises(PromotionRefused, match="no reviewer has recorded it"):
        sign(book, p, "avery")
    desk(book).approve_elsewhere(person("avery", "approver"), p.id, "CHG1")
    sign(book, p, "avery")
    assert sign(book, p, "blake").promoted_at


@pytest.mark.parametrize("role", ["approver", "admin"])
def test_an_open_request_is_taken_back_by_its_requester_or_ended_by_who_may(book: Book, role: str) -> None:
    p = asked(book)
    with pytest.raises(AccessDenied, match=r"promotion\.end"):
        desk(book).withdraw(person("dora", "data_scientist"), p.id, "not hers")
    assert desk(book).withdraw(person("xaver", role), p.id, "stop").withdrawn


def test_a_finding_has_an_owner_who_is_known_and_a_day_to_come(book: Book) -> None:
    p, reviewer = asked(book), person("avery", "approver")
    with pytest.raises(PromotionRefused, match="'nobody' cannot own a finding"):
        desk(book).raise_finding(reviewer, p.id, "no figures", owner="nobody", due=in_a_month())
    with pytest.raises(PromotionRefused, match="2020-01-01 is past"):
        desk(book).raise_finding(reviewer, p.id, "no figures", owner="dana", due=date(2020, 1, 1))
    assert audit.records(book.engine)[-1].action == "promotion.refused"
    users.add(book.engine, person("root", "admin"), "nora", ["analyst"], "hash", datetime.now(UTC), record)
    today = datetime.now(UTC).date()
    assert desk(book).raise_finding(reviewer, p.id, "no figures", owner="nora", due=today).findings


def test_who_made_or_requested_a_version_neither_unblocks_it_nor_sets_its_conditions(book: Book) -> None:
    p, reviewer, dana = asked(book), person("avery", "approver"), person("dana", "approver", "data_scientist")
    users.add(book.engine, person("root", "admin"), "nora", ["analyst"], "hash", datetime.now(UTC), record)
    for blocking in (True, False):
        desk(book).raise_finding(reviewer, p.id, "no figures", owner="nora", due=in_a_month(), blocking=blocking)
    with pytest.raises(PromotionRefused, match="dana made or requested this version; finding F1 blocks"):
        desk(book).close_finding(dana, p.id, "F1", "fine by me")
    with pytest.raises(PromotionRefused, match="dana made or requested this version; its conditions"):
        desk(book).condition(dana, p.id, max_subjects=10)
    desk(book).close_finding(dana, p.id, "F2", "it does not block")
    assert [f.open for f in desk(book).promotion(p.id).findings] == [True, False]


def test_a_signature_that_approves_nothing_counts_for_nothing(book: Book) -> None:
    p = asked(book)
    for meaning in ("I object", "I do not approve", "reviewed", "I approve nothing of it"):
        with pytest.raises(PromotionRefused, match="a signature says “I approve"):
            desk(book).sign(person("avery", "approver"), p.id, meaning=meaning, reason="r")
    assert desk(book).promotion(p.id).signatures == ()


def test_who_trained_is_who_the_log_says_whatever_the_run_s_row_says(book: Book) -> None:
    version = second(book)
    with book.engine.begin() as connection:
        row = text("SELECT run_id FROM training_runs WHERE model_version = :v ORDER BY id DESC LIMIT 1")
        run_id = connection.scalar(row, {"v": version})
    audit.append(book.engine, actor="tess", action="run.started", subject=f"run:{run_id}", detail={})
    with book.engine.begin() as connection:
        connection.execute(text("UPDATE runs SET actor = 'nobody' WHERE run_id = :r"), {"r": run_id})
    p = desk(book).request(person("dana", "data_scientist"), "pd_default", version, "fresher cohorts")
    assert p.trainer == "tess"
    with pytest.raises(PromotionRefused, match="tess trained"):
        sign(book, p, "tess")


def test_a_version_made_by_hand_in_the_registry_has_no_training_run_whatever_its_tags_say(book: Book) -> None:
    known = book.registry.production("pd_default")
    client = book.registry._client
    source = client.get_model_version("pd_default", "1")
    client.create_model_version("pd_default", source=source.source, run_id=source.run_id, tags=dict(known.tags))
    dana = person("dana", "data_scientist")
    with pytest.raises(ModelRefused, match="no training run on record registered pd_default version 2"):
        desk(book).request(dana, "pd_default", 2, "a copy")
    client.set_model_version_tag("pd_default", "1", "scoretrace.training_set", "0" * 64)
    with pytest.raises(ModelRefused, match="with these bytes and this training set"):
        desk(book).request(dana, "pd_default", 1, "another training set")


def test_scoring_names_the_promotion_whose_version_is_gone_from_the_registry(book: Book) -> None:
    held = desk(book).book().in_force["pd_default"].promotion
    book.registry._client.delete_model_version("pd_default", "1")
    with pytest.raises(ModelRefused, match=f"no version of pd_default .* {held}, which is in force, approves"):
        approved(book)


def test_a_stolen_key_signs_nothing_once_it_is_replaced(book: Book) -> None:
    p = asked(book)
    sign(book, p, "avery")
    stolen = keys.signing_key(book.settings.keys_dir)
    checkpoints.rotate_key(book.settings, book.engine, actor=at_the_home())
    (given,) = desk(book).promotion(p.id).signatures
    said = json.loads(base64.b64decode(given.envelope["payload"])) | {
        "signer": "blake", "signed_at": datetime.now(UTC).isoformat()
    }  # fmt: skip
    envelope = json.loads(dsse.seal(SIGNATURE_TYPE, canonical_json.encode(said), stolen))
    detail = {k: said[k] for k in ("roles", "meaning", "reason", "signed_at")} | {"envelope": envelope}
    audit.append(book.engine, actor="blake", action="promotion.signed", subject=f"promotion:{p.id}", detail=detail)
    assert desk(book).finish() == ()
    assert desk(book).promotion(p.id).promoted_at is None and approved(book) == 1
    public = keys.PublicKeys(book.settings.keys_dir)
    p = desk(book).promotion(p.id)
    assert [s.signer for s in p.signatures if genuine(p, s, public)] == ["avery"], "given while its key was in force"
    assert sign(book, p, "cleo").promoted_at
    assert approved(book) == 2


def test_with_a_clock_that_was_set_back_nothing_is_decided(book: Book) -> None:
    p = asked(book)
    [last] = audit.records(book.engine)[-1:]
    ahead = chain.sealed(
        seq=last.seq + 1, at=(datetime.now(UTC) + timedelta(days=3)).isoformat(), actor="x", action="test.ahead",
        subject="clock:x", detail="{}", prev_sha256=last.sha256,
    )  # fmt: skip
    with book.engine.begin() as connection:
        connection.execute(audit_log.insert().values(**vars(ahead)))
    for act in (lambda: sign(book, p, "avery"), desk(book).finish):
        with pytest.raises(MachineRefused, match="set back"):
            act()
    assert audit.records(book.engine)[-1].seq == ahead.seq, "not even a refusal is written"


def test_a_trainer_who_is_no_user_is_told_of(book: Book) -> None:
    p = asked(book)
    assert desk(book).trainer_unknown(p) is None, "without users there is nobody to tell apart"
    now, admin = datetime.now(UTC), Actor("root", frozenset({"admin"}), "home", datetime.now(UTC))
    users.add(book.engine, admin, "dana", ["data_scientist"], "$argon2", now, record)
    assert "no user of this home" in (desk(book).trainer_unknown(p) or "")
    assert desk(book).trainer_unknown(replace(p, trainer="Dana")) is None
