"""Promotion is the record; the alias only follows it."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

from pipeline import control, promotion
from pipeline.errors import ModelRefused, NotFound
from tests.pipeline import small_book
from tests.pipeline.small_book import Book


@pytest.fixture
def book(tmp_path_factory: pytest.TempPathFactory, tmp_path: Path) -> Book:
    return small_book.copy(small_book.promoted(tmp_path_factory), tmp_path / "home")


def second_version(book: Book) -> int:
    text = book.registry.text(book.registry.production("pd_default"))
    return small_book.register(book, text, training_set="4" * 64).version


def records(book: Book) -> int:
    with book.engine.connect() as connection:
        return len(connection.execute(select(control.promotions)).all())


def test_who_when_and_why_are_recorded(book: Book) -> None:
    new = second_version(book)
    done = small_book.approve(book, "pd_default", new, "  fresher cohorts ")
    assert (done.actor, done.reason, done.replaces_version) == ("Ada Approver", "fresher cohorts", 1)
    assert done.promoted_at.tzinfo is not None
    assert done.model_digest == book.registry.get("pd_default", new).digest
    version, standing = promotion.require_approved(book.engine, book.registry, "pd_default")
    assert (version.version, standing) == (new, done)
    assert [p.model_version for p in promotion.history(book.engine, "pd_default")] == [2, 1]


def test_promoting_again_changes_nothing(book: Book) -> None:
    before = records(book)
    again = small_book.approve(book, "pd_default", 1, "once more")
    assert records(book) == before
    assert again.reason == "passed its gate"


def test_a_promotion_killed_before_the_alias_moved_is_finished_by_the_same_command(book: Book) -> None:
    new = second_version(book)
    small_book.approve(book, "pd_default", new)
    book.registry.set_production("pd_default", 1)  # as if the alias had not moved yet
    before = records(book)
    with pytest.raises(ModelRefused, match="promotion in force is of version 2"):
        promotion.require_approved(book.engine, book.registry, "pd_default")
    small_book.approve(book, "pd_default", new)
    assert records(book) == before
    assert book.registry.production("pd_default").version == new


@pytest.mark.parametrize("reason", ["", "  \n "])
def test_a_promotion_needs_a_reason(book: Book, reason: str) -> None:
    before = records(book)
    with pytest.raises(ModelRefused, match="needs a reason") as refused:
        small_book.approve(book, "pd_default", 1, reason)
    assert "--reason" in refused.value.next_step
    assert records(book) == before


def test_an_unknown_version_is_not_promoted(book: Book) -> None:
    before = records(book)
    with pytest.raises(NotFound, match="version 9"):
        small_book.approve(book, "pd_default", 9)
    assert records(book) == before


def test_changed_bytes_are_not_promoted(book: Book) -> None:
    new = book.registry.get("pd_default", second_version(book))
    path = book.registry.artifact_path(new)
    path.write_bytes(path.read_bytes() + b"\n")
    before = records(book)
    with pytest.raises(ModelRefused, match="has been changed"):
        small_book.approve(book, "pd_default", new.version)
    assert records(book) == before
    assert book.registry.production("pd_default").version == 1


def test_an_alias_moved_by_hand_gains_nothing(book: Book) -> None:
    new = second_version(book)
    book.registry._client.set_registered_model_alias("pd_default", "production", str(new))
    with pytest.raises(ModelRefused, match="promotion in force is of version 1") as refused:
        promotion.require_approved(book.engine, book.registry, "pd_default")
    assert "scoretrace promote pd_default 1" in refused.value.next_step


def test_a_digest_rewritten_in_mlflow_gains_nothing(book: Book) -> None:
    """Whoever changes the file and its recorded digest together still has no promotion for those bytes."""
    version = book.registry.production("pd_default")
    book.registry._client.set_model_version_tag("pd_default", "1", "scoretrace.digest", "5" * 64)
    assert book.registry.production("pd_default").digest != version.digest
    with pytest.raises(ModelRefused, match="promotion in force"):
        promotion.require_approved(book.engine, book.registry, "pd_default")


def test_an_alias_without_any_promotion_is_refused(book: Book) -> None:
    text = book.registry.text(book.registry.production("pd_default"))
    small_book.register(book, text, training_set="6" * 64, name="pd_side")
    book.registry.set_production("pd_side", 1)
    with pytest.raises(ModelRefused, match="no promotion approves it"):
        promotion.require_approved(book.engine, book.registry, "pd_side")
