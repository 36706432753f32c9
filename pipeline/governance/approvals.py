"""Promotions in action: each step asks who may, asks the rules, and becomes a record of the audit log, or is refused.

A refusal is a record too. The state that a rule is asked about is read under the log's own lock, so two people who act
at once act one after the other.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from pipeline import clock, ledger
from pipeline.config import Settings
from pipeline.errors import ModelRefused, NotFound, PromotionRefused, ScoretraceError
from pipeline.governance import audit, canonical_json, coverage, dsse, keys, users
from pipeline.governance import promotion_checks as checks
from pipeline.governance import promotion_rules as rules
from pipeline.governance.access import RULES, Actor, may, require
from pipeline.governance.manifest import manifest_of, sha256, training_of
from pipeline.governance.promotion_log import book_of
from pipeline.governance.promotion_state import Book, Promotion
from pipeline.governance.signatures import SIGNATURE_TYPE, sound
from pipeline.governance.texts import shown
from pipeline.portfolio import Portfolio
from pipeline.registry import Registry

REVIEW_OWED = timedelta(days=5)
Step = Callable[[Book], tuple[str, str, Mapping[str, Any]]]
"""Given the book under the lock: (action, subject, detail) of the record to write. Raises PromotionRefused."""


@dataclass(frozen=True)
class Approvals:
    """The promotions of one home. ``now`` is the clock."""

    settings: Settings
    engine: Engine
    registry: Registry
    portfolio: Portfolio
    now: Callable[[], datetime] = lambda: datetime.now(UTC)

    # -- reading

    def book(self) -> Book:
        """All promotions as they stand."""
        return book_of(self.engine)

    def promotion(self, id_: str) -> Promotion:
        """One promotion. Raises NotFound."""
        return checks.found(self.book(), id_)

    def named(self, text: str) -> str:
        """The id of a promotion that is called by its id, or as MODEL/VERSION: the newest of that version."""
        model, _, version = text.partition("/")
        found = [p.id for p in self.book().of_model(model) if str(p.version) == version]
        return found[-1] if found else text

    def disabled(self) -> frozenset[str]:
        """Users whose pending signatures do not count: who are disabled, may not sign any more, or stand as the audit
        log does not have them."""
        signers = set(RULES["promotion.sign"].roles)
        known = users.all_users(self.engine).values()
        with self.engine.begin() as connection:
            gone = (u.disabled or not signers & set(u.roles) or coverage.of_user(connection, u.name) for u in known)
            return frozenset(u.name for u, out in zip(known, gone, strict=True) if out)

    def trainer_unknown(self, p: Promotion) -> str | None:
        """Where users exist: that the trainer on record is none of them, so that no rule can hold that person to it."""
        known = {name.casefold() for name in users.known_names(self.engine)}
        if not known or p.trainer.casefold() in known:
            return None
        return (
            "no user of this home: that the same person does not sign cannot be told. "
            "A scheduler's account is fine; people train with retrain --as NAME"
        )

    # -- the request and its review

    def request(
        self, actor: Actor, model: str, version: int, reason: str, *, external_reference: str | None = None
    ) -> Promotion:
        """Ask that a registered version may score. Its bytes are checked; the manifest is made and kept."""
        id_ = f"{model}-{version}-{secrets.token_hex(3)}"

        def step(book: Book) -> tuple[str, str, Mapping[str, Any]]:
            spec = self.portfolio.model(model)
            found = self.registry.get(model, version)
            self.registry.text(found)
            policy = self.portfolio.governance[spec.materiality]
            manifest = manifest_of(self.engine, self.portfolio, found, policy)
            trainer = str(training_of(self.engine, found)["actor"])
            for p in book.of_model(model):
                if p.version == version and not p.closed:
                    raise PromotionRefused(
                        f"{found} is requested already, as {p.id} by {p.requester}",
                        f"`scoretrace promotions show {p.id}`",
                    )
            held = book.in_force.get(model)
            elsewhere = external_reference
            if elsewhere is not None:
                elsewhere = checks.words(elsewhere, "an approval elsewhere", "its reference")
            return (
                "promotion.requested",
                f"promotion:{id_}",
                {
                    "manifest": manifest,
                    "manifest_sha256": sha256(manifest),
                    "trainer": trainer,
                    "reason": checks.words(reason, "a request", "why this version"),
                    "replaces": book.promotions[held.promotion].version if held else None,
                    "external_reference": elsewhere,
                },
            )

        self._act(actor, "promotion.request", f"model:{model}/{version}", step)
        return self.promotion(id_)

    def raise_finding(
        self, actor: Actor, id_: str, text: str, *, owner: str, due: date, blocking: bool = False
    ) -> Promotion:
        """Put a shortcoming on record, with who owes what by when: a person who is known, and a day to come."""
        owner = owner.strip()

        def check(p: Promotion) -> None:
            if due < self.now().date():
                raise PromotionRefused(f"{due} is past: nothing can be due by then", "give a date from today on")
            if owner not in {p.requester, p.trainer} | users.known_names(self.engine):
                raise PromotionRefused(
                    f"{owner!r} cannot own a finding: no such user may sign in, and nobody of that name ever has",
                    "name a user, as `scoretrace user list` has them",
                )

        def detail() -> Mapping[str, Any]:
            said = checks.words(text, "a finding", "what is wrong")
            return {"text": said, "blocking": blocking, "owner": owner, "due": due.isoformat()}

        return self._step(actor, "finding.raise", id_, "finding_raised", detail, mark="F", check=check)

    def close_finding(self, actor: Actor, id_: str, finding: str, note: str) -> Promotion:
        """Accept what was done about a finding. Its owner cannot, nor, of one that blocks, who made the version."""

        def check(p: Promotion) -> None:
            known = next((f for f in p.findings if f.id == finding and f.open), None)
            if known is None:
                raise NotFound(f"promotion {id_} has no open finding {finding}", f"`scoretrace promotions show {id_}`")
            if actor.name == known.owner:
                raise PromotionRefused(
                    f"{actor.name} owns finding {finding}; another person accepts what was done", "ask a reviewer"
                )
            if known.blocking:
                checks.somebody_else(p, actor, f"finding {finding} blocks, and is closed by somebody else")

        def detail() -> Mapping[str, Any]:
            return {"id": finding, "note": checks.words(note, "closing a finding", "what was done")}

        return self._step(actor, "finding.close", id_, "finding_closed", detail, check=check, open_only=False)

    def ask(self, actor: Actor, id_: str, text: str) -> Promotion:
        """Put a question to whoever requested."""

        def detail() -> Mapping[str, Any]:
            return {"text": checks.words(text, "a question", "what")}

        return self._step(actor, "promotion.review", id_, "asked", detail, mark="Q")

    def answer(self, actor: Actor, id_: str, question: str, text: str) -> Promotion:
        """Answer a question of the review."""

        def check(p: Promotion) -> None:
            if question not in {q.id for q in p.questions}:
                raise NotFound(f"promotion {id_} has no question {question}", f"`scoretrace promotions show {id_}`")

        def detail() -> Mapping[str, Any]:
            return {"id": question, "text": checks.words(text, "an answer", "the answer")}

        return self._step(actor, "finding.answer", id_, "answered", detail, check=check)

    def challenge(self, actor: Actor, id_: str, *, expertise: str, independence: str, changed: str) -> Promotion:
        """Record effective challenge: by whose expertise, how independent, and what changed through it."""

        def check(p: Promotion) -> None:
            checks.somebody_else(p, actor, "challenge is somebody else's")

        def detail() -> Mapping[str, Any]:
            return {
                "expertise": checks.words(expertise, "challenge", "whose expertise"),
                "independence": checks.words(independence, "challenge", "how independent"),
                "changed": checks.words(changed, "challenge", "what changed"),
            }

        return self._step(actor, "promotion.review", id_, "challenged", detail, check=check)

    def approve_elsewhere(self, actor: Actor, id_: str, reference: str) -> Promotion:
        """Record the reference of an approval in another system, such as a change ticket; signatures cover it."""

        def detail() -> Mapping[str, Any]:
            return {"reference": checks.words(reference, "an approval elsewhere", "its reference")}

        return self._step(actor, "promotion.review", id_, "external_approved", detail, check=checks.unsigned)

    def condition(
        self, actor: Actor, id_: str, *, ends: date | None = None, max_subjects: int | None = None
    ) -> Promotion:
        """Make the approval conditional. Whoever signs, signs these limits; under a signature they cannot change."""
        newest = ledger.latest_publication(self.engine)

        def check(p: Promotion) -> None:
            checks.somebody_else(p, actor, "its conditions are set by somebody else")
            checks.unsigned(p)
            if ends is not None and newest is not None and ends <= newest.as_of:
                raise PromotionRefused(
                    f"{ends} would let nothing score: the night of {newest.as_of} is published",
                    "give a later as-of date",
                )

        def detail() -> Mapping[str, Any]:
            return {"ends": ends.isoformat() if ends else None, "max_subjects": max_subjects}

        return self._step(actor, "promotion.review", id_, "conditioned", detail, check=check)

    def reject(self, actor: Actor, id_: str, reason: str) -> Promotion:
        def detail() -> Mapping[str, Any]:
            return {"reason": checks.words(reason, "a rejection", "why")}

        return self._step(actor, "promotion.reject", id_, "rejected", detail)

    def withdraw(self, actor: Actor, id_: str, reason: str) -> Promotion:
        """Take one's own open request back, or as an approver or administrator end a promotion, also one in force:
        scoring then refuses."""
        asked = self.book().promotions.get(id_)
        own = asked is not None and not asked.promoted_at and asked.requester == actor.name
        permission = "promotion.withdraw" if own and may(actor, "promotion.withdraw") else "promotion.end"

        def check(p: Promotion) -> None:
            if ended := p.withdrawn or p.rejected:
                raise PromotionRefused(
                    f"promotion {id_} was ended by {ended[0]} already: {ended[2]}", "ask for a new one"
                )
            if p.promoted_at and permission != "promotion.end":
                raise PromotionRefused(f"promotion {id_} took effect meanwhile", "ask an approver to end it")

        def detail() -> Mapping[str, Any]:
            return {"reason": checks.words(reason, "a withdrawal", "why")}

        return self._step(actor, permission, id_, "withdrawn", detail, check=check, open_only=False)

    # -- signing, and what follows from it

    def ask_login(self, actor: Actor, id_: str) -> Promotion:
        """Record that somebody is sent to the identity provider to sign this: only a login after this moment counts."""
        return self._step(actor, "promotion.sign", id_, "login_asked", dict)

    def sign(self, actor: Actor, id_: str, *, meaning: str, reason: str) -> Promotion:
        """Sign a promotion; with the last signature that it lacks it takes effect and the alias moves.

        Raises AccessDenied or PromotionRefused, naming the rule. The actor must have signed in within five minutes;
        through an identity provider, after ``ask_login`` for this promotion.
        """

        def step(book: Book) -> tuple[str, str, Mapping[str, Any]]:
            p, now = checks.found(book, id_), self.now()
            if against := rules.against_signing(p, actor, now, self.disabled()):
                raise PromotionRefused(f"{actor.name} may not sign promotion {id_}: {against}", checks.who_signs(p))
            if against := rules.against_meaning(meaning):
                raise PromotionRefused(against, "sign without words of your own, or raise a finding instead")
            self._require_same_bytes(p)
            said = {
                "promotion": id_,
                "manifest": dict(p.manifest),
                "conditions": {"ends": p.conditions.ends, "max_subjects": p.conditions.max_subjects},
                "external_reference": p.external_reference,
                "signer": actor.name,
                "roles": sorted(actor.roles),
                "method": actor.method,
                "authenticated_at": actor.authenticated_at.isoformat(),
                "signed_at": now.isoformat(),
                "meaning": checks.words(meaning, "a signature", "what it means"),
                "reason": checks.words(reason, "a signature", "why"),
            }
            envelope = dsse.seal(SIGNATURE_TYPE, canonical_json.encode(said), keys.signing_key(self.settings.keys_dir))
            detail = {k: said[k] for k in ("roles", "meaning", "reason", "signed_at")}
            return "promotion.signed", f"promotion:{id_}", {**detail, "envelope": json.loads(envelope)}

        self._act(actor, "promotion.sign", f"promotion:{id_}", step)
        self.finish()
        return self.promotion(id_)

    def finish(self) -> tuple[str, ...]:
        """Let every complete promotion take effect, and move every alias that is not where its promotion has put it.

        Safe to call at any time and by anyone: it only carries out what the records have decided. An alias that
        somebody moved or removed by hand is put back while the promotion lets its version score. Returns what it did.
        Raises MachineRefused when the clock was set back.
        """
        clock.require(self.engine)
        done = []
        for id_, p in self.book().promotions.items():
            if not p.closed and self._take_effect(id_):
                done.append(f"promotion {id_} took effect")
        for model in self.book().in_force:
            try:
                done += self._follow(model)
            except (ModelRefused, NotFound) as lost:
                # A version that is gone from the registry keeps no other model from what was decided of it.
                done.append(f"{model} stays without the version that is in force: {lost.message}")
        return tuple(done)

    def rollback(self, actor: Actor, id_: str, reason: str) -> Promotion:
        """Break glass: put a formerly approved version back at once. A review is owed within five days."""

        def step(book: Book) -> tuple[str, str, Mapping[str, Any]]:
            p = checks.found(book, id_)
            if against := rules.against_rollback(book, self._sound(p), self._newest_night(), self.now()):
                raise PromotionRefused(against, "`scoretrace promotions list` shows what was approved before")
            self.registry.text(self.registry.get(p.model, p.version))
            due = (self.now() + REVIEW_OWED).date().isoformat()
            detail = {"promotion": id_, "reason": checks.words(reason, "a rollback", "why"), "review_due": due}
            return "promotion.rolled_back", f"model:{p.model}", detail

        self._act(actor, "promotion.rollback", f"promotion:{id_}", step)
        self.finish()
        return self.promotion(id_)

    def freeze(self, actor: Actor, model: str, reason: str) -> None:
        """Stop changes of one model, or of all (``*``): nothing takes effect until it is lifted."""

        def step(_: Book) -> tuple[str, str, Mapping[str, Any]]:
            return "promotion.frozen", f"model:{model}", {"reason": checks.words(reason, "a freeze", "why")}

        self._act(actor, "promotion.freeze", f"model:{model}", step)

    def unfreeze(self, actor: Actor, model: str, reason: str) -> tuple[str, ...]:
        """Allow changes again; what had become complete takes effect now."""

        def step(book: Book) -> tuple[str, str, Mapping[str, Any]]:
            if model not in book.frozen:
                others = ", ".join("all models" if m == "*" else m for m in book.frozen) or "nothing"
                raise PromotionRefused(
                    f"changes of {'all models' if model == '*' else model} are not frozen; frozen now: {others}",
                    "lift what is frozen: `scoretrace promotions freeze --lift`, with --model for one model's",
                )
            return "promotion.unfrozen", f"model:{model}", {"reason": checks.words(reason, "lifting a freeze", "why")}

        self._act(actor, "promotion.freeze", f"model:{model}", step)
        return self.finish()

    # -- inside

    def _step(
        self,
        actor: Actor,
        permission: str,
        id_: str,
        what: str,
        detail: Callable[[], Mapping[str, Any]],
        *,
        check: Callable[[Promotion], None] = lambda _: None,
        mark: str = "",
        open_only: bool = True,
    ) -> Promotion:
        def step(book: Book) -> tuple[str, str, Mapping[str, Any]]:
            p = checks.found(book, id_)
            if open_only and p.closed:
                raise PromotionRefused(f"promotion {id_} is closed", f"`scoretrace promotions show {id_}` says how")
            check(p)
            number = len(p.findings if mark == "F" else p.questions) + 1
            return f"promotion.{what}", f"promotion:{id_}", {**detail(), **({"id": f"{mark}{number}"} if mark else {})}

        self._act(actor, permission, f"promotion:{id_}", step)
        return self.promotion(id_)

    def _act(self, actor: Actor, permission: str, about: str, step: Step) -> None:
        """Who may, then the rules under the lock, then the record; a refusal is recorded and raised.

        With a clock that was set back nothing is recorded at all: every validity hangs on it.
        """
        clock.require(self.engine)
        try:
            require(actor, permission)
            with self.engine.begin() as connection:
                audit.hold_off_others(connection)
                action, subject, detail = step(book_of(connection))
                audit.append(connection, actor=actor.name, action=action, subject=subject, detail=detail)
        except ScoretraceError as refused:
            detail = {"asked": permission, "rule": shown(refused.message), "roles": sorted(actor.roles)}
            kind, _, name = about.partition(":")
            subject = f"{kind}:{shown(' '.join(name.split()), most=200) or '(no name)'}"
            audit.append(self.engine, actor=actor.name, action="promotion.refused", subject=subject, detail=detail)
            raise

    def _sound(self, p: Promotion) -> Promotion:
        return sound(p, keys.PublicKeys(self.settings.keys_dir))

    def _newest_night(self) -> date:
        """The as-of date that readers see; where none is published yet, today."""
        newest = ledger.latest_publication(self.engine)
        return newest.as_of if newest else self.now().date()

    def _take_effect(self, id_: str) -> bool:
        with self.engine.begin() as connection:
            audit.hold_off_others(connection)
            book = book_of(connection)
            p = self._sound(checks.found(book, id_))
            if rules.against_promoting(book, p, self.now(), self.disabled()):
                return False
            signers = [s.signer for s in rules.counted(p, self.now(), self.disabled())]
            audit.append(
                connection,
                actor="scoretrace",
                action="promotion.promoted",
                subject=f"promotion:{id_}",
                detail={"model": p.model, "version": p.version, "model_sha256": p.digest, "signers": signers},
            )
        return True

    def _follow(self, model: str) -> tuple[str, ...]:
        """Put a model's alias where the records have it, under their lock: whoever decides meanwhile, decides after.

        Killed before the record is written, the alias is moved again to where it is.
        """
        with self.engine.begin() as connection:
            audit.hold_off_others(connection)
            book = book_of(connection)
            if (held := book.in_force.get(model)) is None:
                return ()
            p, detail = book.promotions[held.promotion], {}
            if not held.alias_moved:
                action, did = "promotion.alias_moved", f"{model} is at version {p.version}"
            else:
                at = self.registry.production_version(model)
                if at == p.version or rules.against_scoring(p, self._newest_night(), self.now()):
                    return ()
                action, detail = "promotion.alias_restored", {"was": at}
                did = f"{model} is back at version {p.version}: the alias had been moved by hand"
            self.registry.set_production(model, p.version)
            audit.append(
                connection, actor="scoretrace", action=action, subject=f"model:{model}",
                detail={"version": p.version, "promotion": p.id, **detail},
            )  # fmt: skip
        return (did,)

    def _require_same_bytes(self, p: Promotion) -> None:
        """What would be signed is what the registry and the records still hold."""
        found = self.registry.get(p.model, p.version)
        self.registry.text(found)
        policy = p.policy
        now = manifest_of(self.engine, self.portfolio, found, policy)
        # The portfolio may have moved on since the request; what the request was judged by has not.
        changed = [k for k in p.manifest if k != "portfolio_sha256" and now.get(k) != p.manifest[k]]
        if changed or sha256(dict(p.manifest)) != p.manifest_sha256:
            raise PromotionRefused(
                f"promotion {p.id} is not what was requested any more: {', '.join(changed) or 'its manifest'} changed",
                "reject it and have it requested anew",
            )
