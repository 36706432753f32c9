"""The validation report: everything on record stands in it, nothing in it acts, and a fault of the records is said."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime
from html.parser import HTMLParser
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from pipeline import archive, booster
from pipeline.errors import NotFound
from pipeline.governance import audit, inventory, inventory_edits
from pipeline.governance.approvals import Approvals
from pipeline.governance.validation.facts import gather
from pipeline.governance.validation.page import page
from tests.pipeline import small_book
from tests.pipeline.small_book import ACCOUNT_MODEL, Book
from tests.signing_off import person

NASTY = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\"> & \"quoted\" 'text'"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
OPEN = {"auc": 0.0, "ks": 0.0, "calibration": 9.0, "psi": 9.0}


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """Version 2 of a model against version 1, in force after a review in which somebody typed markup everywhere."""
    book = small_book.copy(small_book.promoted(tmp_path_factory), tmp_path_factory.mktemp("reviewed") / "home")
    spec = replace(ACCOUNT_MODEL, name="pd_weak", cutoff_pd=0.2)
    entry = inventory.parse("pd_weak", {"purpose": NASTY, "limits": [NASTY], "assumptions": ["One cycle"]})
    other = inventory.parse("pd_default", {"assumptions": ["One cycle"]})
    models = (spec, *book.portfolio.models)
    declared = {"pd_weak": entry, "pd_default": other}
    book = replace(book, portfolio=replace(book.portfolio, models=models, inventory=declared, title=NASTY))
    small_book.train(book, spec, floors=OPEN, parameters={"rounds": 1, "num_leaves": 2, "feature_fraction": 0.2})
    small_book.approve(book, "pd_weak", 1)
    second = small_book.train(book, spec, tolerances={"calibration": 1.0, "psi": 1.0})
    assert second.version is not None
    desk = Approvals(book.settings, book.engine, book.registry, book.portfolio)
    avery, blake = person("avery", "approver"), person("blake", "approver")
    p = desk.request(person("dana", "data_scientist"), "pd_weak", 2, NASTY)
    desk.raise_finding(avery, p.id, NASTY, owner="dana", due=date(2199, 4, 1))
    desk.ask(avery, p.id, NASTY)
    desk.answer(person("dana", "data_scientist"), p.id, "Q1", NASTY)
    desk.challenge(avery, p.id, expertise=NASTY, independence="none shared", changed="a cohort more")
    desk.condition(avery, p.id, ends=date(2027, 3, 31), max_subjects=50_000)
    desk.approve_elsewhere(avery, p.id, "CHG0012345")
    for who in (avery, blake):
        desk.sign(who, p.id, meaning="I approve this version", reason=NASTY)
    inventory_edits.edit(book.engine, book.portfolio, person("ana", "analyst"), "pd_weak", {"owner": NASTY}, "moved")
    return book


def html(book: Book, version: int = 2) -> str:
    now = datetime.now(UTC)
    return page(gather(book.settings, book.engine, book.registry, book.portfolio, "pd_weak", version, now))


class Text(HTMLParser):
    """The words of a page, and its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.attributes: set[str] = set()

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attrs}


def read(content: str) -> Text:
    parser = Text()
    parser.feed(content)
    return parser


def test_everything_on_record_stands_in_it(reviewed: Book) -> None:
    words = " ".join(read(html(reviewed)).words)
    desk = Approvals(reviewed.settings, reviewed.engine, reviewed.registry, reviewed.portfolio)
    p = desk.promotion(desk.named("pd_weak/2"))
    version = reviewed.registry.get("pd_weak", 2)
    hashes = [value for key, value in p.manifest.items() if key.endswith("_sha256") and value]
    assert len(hashes) == 8
    for sha256 in (*hashes, p.manifest_sha256, version.training_set, audit.head(reviewed.engine).sha256):
        assert sha256 in words
    for record in audit.records(reviewed.engine, subject=f"promotion:{p.id}"):
        assert record.sha256 in words and record.action in words
    for name in booster.features(reviewed.registry.load(version)):
        assert name in words
    for said in (
        "CHG0012345", "scores up to and including 2027-03-31; at most 50,000 subjects a night", "✓ in force",
        "One cycle (shared with pd_default)", "▲ open", "a cohort more", "I approve this version", "2024-04-30",
        "rows change grade", "Largest movers", "aligned with it, not a statement of compliance",
    ):  # fmt: skip
        assert said in words, said
    assert words.count("✓ genuine") == 2 and words.count("✓ the same") == 10 and "✕" not in words


def test_no_id_of_a_subject_stands_in_it(reviewed: Book) -> None:
    from pipeline.comparison import store

    _, comparison = store.between(reviewed.settings, reviewed.engine, "pd_weak", 1, 2)
    words = " ".join(read(html(reviewed)).words)
    assert comparison.movers
    for mover in comparison.movers:
        assert not re.search(rf"\b{mover.subject}\b", words)


def test_markup_that_people_typed_is_text(reviewed: Book) -> None:
    found = read(html(reviewed))
    assert "script" not in found.tags and not {a for a in found.attributes if a.startswith("on")}
    assert found.tags.count("img") == 4  # the plots
    assert "".join(found.words).count(NASTY) >= 9


def test_a_first_version_says_that_it_has_no_champion_and_has_been_superseded(reviewed: Book) -> None:
    words = " ".join(read(html(reviewed, 1)).words)
    assert "No champion: a first model: there is no champion." in words
    assert "▲ superseded" in words and "Migration of grades" not in words


def test_what_is_not_whole_is_said(reviewed: Book, tmp_path: Path) -> None:
    own = small_book.copy(reviewed, tmp_path / "home")
    own = replace(own, portfolio=reviewed.portfolio)
    version = own.registry.get("pd_weak", 2)
    path = own.registry.artifact_path(version)
    path.write_bytes(path.read_bytes() + b" ")
    desk = Approvals(own.settings, own.engine, own.registry, own.portfolio)
    kept = desk.promotion(desk.named("pd_weak/2")).manifest["comparison_sha256"]
    archive.path_of(own.settings, kept).unlink()
    words = " ".join(read(html(own)).words)
    assert "The records are not whole" in words
    assert "has been changed since it was registered" in words and f"the archive has no file {kept}" in words


def test_a_version_that_is_not_there_is_named(reviewed: Book) -> None:
    with pytest.raises(NotFound, match="pd_weak has no version 9"):
        html(reviewed, 9)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine: `apt-get install chromium`")
    with sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield made
        made.close()


@pytest.mark.parametrize("width", [1000, 420])
def test_in_a_browser_it_stands_by_itself(reviewed: Book, browser: Browser, tmp_path: Path, width: int) -> None:
    file = tmp_path / "report.html"
    file.write_text(html(reviewed), encoding="utf-8")
    opened = browser.new_page(viewport={"width": width, "height": 900})
    asked: list[str] = []
    said: list[str] = []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.goto(file.as_uri())
    assert opened.title() == "pd_weak version 2: validation report"
    assert [url for url in asked if not url.startswith("data:")] == [file.as_uri()] and said == []
    assert opened.locator("h2").count() == 13
    assert all(opened.locator("img").evaluate_all("images => images.map(image => image.naturalWidth > 0)"))
    # Wide tables scroll in themselves: the page never sideways.
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    opened.close()
