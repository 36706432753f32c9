"""What a step of a promotion asks before any rule: that there is such a promotion, words, and another person."""

from __future__ import annotations

from pipeline.errors import NotFound, PromotionRefused
from pipeline.governance import texts
from pipeline.governance.access import Actor
from pipeline.governance.promotion_state import Book, Promotion


def found(book: Book, id_: str) -> Promotion:
    if id_ not in book.promotions:
        raise NotFound(f"there is no promotion {id_}", "`scoretrace promotions list` names them")
    return book.promotions[id_]


def somebody_else(p: Promotion, actor: Actor, why: str) -> None:
    if actor.name in (p.trainer, p.requester):
        raise PromotionRefused(f"{actor.name} made or requested this version; {why}", "ask a reviewer")


def unsigned(p: Promotion) -> None:
    if p.signatures:
        raise PromotionRefused(
            f"promotion {p.id} has signatures already; its terms cannot change under them",
            "withdraw it and request it anew",
        )


def words(text: str, what: str, wanted: str) -> str:
    if not text.strip():
        raise PromotionRefused(f"{what} needs words: {wanted}", "give them and try again")
    return texts.reason(what, text)


def who_signs(p: Promotion) -> str:
    if p.closed:
        return f"`scoretrace promotions show {p.id}` shows how it ended"
    who = f"somebody else who is {' or '.join(p.policy.roles)} can"
    return f"{who}; `scoretrace promotions show {p.id}` shows what is missing"
