"""Promotions, Models and Audit as each role sees them, over a real home with a request under review."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import inbox, night_facts
from app.comparison_charts import migration, migration_words
from pipeline.comparison.facts import Migration
from pipeline.governance import access, audit, checkpoints, inventory_log
from tests import governed_home
from tests.app.conftest import Open, html_of
from tests.app.test_portal_pages import links_of, rows_of
from tests.conftest import copy_home
from tests.governed_home import MODEL, PASSWORD
from tests.signing_off import person

PAGES = ("promotions", "models", "audit")


@pytest.fixture(scope="module")
def governed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A home where version 2 is under review, read by these tests; and the promotion's id."""
    return governed_home.shared(tmp_path_factory)


@pytest.fixture
def own(governed: tuple[Path, str], tmp_path: Path) -> tuple[Path, str]:
    """The same home to be changed."""
    copy_home(governed[0], tmp_path / "own")
    return tmp_path / "own", governed[1]


def as_(portal: Open, user: str, home: Path, name: str, /, **query: str) -> AppTest:
    """A page after signing in as one of the home's users."""
    app = portal(home, name, **query)
    app.text_input[0].set_value(user)
    app.text_input[1].set_value(PASSWORD)
    app.button[0].click()
    return app.run()


def field(app: AppTest, label: str) -> object:
    fields = (*app.text_area, *app.text_input, *app.date_input, *app.number_input)
    return next(f for f in fields if f.label.startswith(label))


def press(app: AppTest, label: str) -> AppTest:
    next(b for b in app.button if b.label == label).click()
    return app.run()


def sign(app: AppTest, reason: str = "evidence is whole", password: str = PASSWORD) -> AppTest:
    field(app, "Reason").set_value(reason)  # type: ignore[attr-defined]
    field(app, "Password of").set_value(password)  # type: ignore[attr-defined]
    return press(app, "Sign")


# ── every page, every role ───────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("page", PAGES)
@pytest.mark.parametrize("who", ["vera", "ana", "dana", "avery", "root"])
def test_a_page_opens_for_who_may_see_it_and_says_who_may_to_others(
    portal: Open, governed: tuple[Path, str], page: str, who: str
) -> None:
    action = {"promotions": "promotion.read", "models": "model.read", "audit": "audit.read"}[page]
    text = html_of(as_(portal, who, governed[0], page))
    allowed = access.may(person(who, *governed_home.USERS[who]), action)
    assert ("<h1>" in text) == allowed
    assert ("✕ not allowed" in text and f"{action} needs the role" in text) != allowed


def test_without_users_the_local_reader_reads_and_decides_nothing(portal: Open, history: Path) -> None:
    app = portal(history, "promotions")
    promotion = rows_of(app, "Took effect")[0][0]
    page = portal(history, "promotions", promotion=promotion)
    assert "Nobody is signed in here" in html_of(page) and not page.text_area
    assert [row[0] for row in rows_of(portal(history, "models"), "Model inventory")] == ["pd_default", "pd_application"]


def test_without_a_promotion_the_inbox_names_the_command(portal: Open, tmp_path: Path) -> None:
    from tests import published_home

    home = tmp_path / "home"
    settings = published_home.settings_for(home)
    settings.portfolio_dir.mkdir(parents=True)
    (settings.portfolio_dir / "portfolio.yml").write_text(published_home._PORTFOLIO, encoding="utf-8")
    (settings.portfolio_dir / "loan_servicing.sql").write_text("SELECT 1", encoding="utf-8")
    from pipeline import control

    control.create(settings).dispose()
    assert "<code>scoretrace promotions request MODEL VERSION" in html_of(portal(home, "promotions"))
    assert "no version is registered" in html_of(portal(home, "models", model="pd_default"))
    assert "nothing is on record yet" in html_of(portal(home, "audit"))


@pytest.mark.parametrize(
    ("page", "query"),
    [
        ("promotions", {"promotion": "nothing"}),
        ("promotions", {"promotion": "<i>x</i>"}),
        ("promotions", {"promotion": f"{MODEL}/9"}),
        ("models", {"model": "pd_weak"}),
        ("models", {"model": "<i>x</i>"}),
        ("models", {"model": MODEL, "version": "9"}),
        ("models", {"model": MODEL, "version": "-1"}),
        ("models", {"model": MODEL, "version": "two"}),
        ("models", {"model": MODEL, "version": "2", "against": "7"}),
        ("models", {"model": MODEL, "version": "2", "against": "2"}),
        ("audit", {"record": "0"}),
        ("audit", {"record": "999999"}),
        ("audit", {"record": "-1"}),
        ("audit", {"record": "²"}),
        ("audit", {"record": "<i>x</i>"}),
    ],
)
def test_a_bad_link_is_not_found_and_shows_no_other(
    portal: Open, governed: tuple[Path, str], page: str, query: dict[str, str]
) -> None:
    text = html_of(as_(portal, "ana", governed[0], page, **query))
    assert "✕ not found" in text and "<h1>" not in text and "<table" not in text and "<i>" not in text


# ── promotions ───────────────────────────────────────────────────────────────────────────────────────────────


def test_the_inbox_begins_with_what_waits_for_whoever_looks(portal: Open, governed: tuple[Path, str]) -> None:
    home, id_ = governed
    assert rows_of(as_(portal, "avery", home, "promotions"), "What waits for you")[0][:3] == [
        id_, "pd_default version 2", "your signature",
    ]  # fmt: skip
    waits = [row[2] for row in rows_of(as_(portal, "dana", home, "promotions"), "What waits for you")]
    assert waits == ["finding F1, which is yours", "your answer to Q2 of ana"]
    vera = as_(portal, "vera", home, "promotions")
    assert "Nothing waits for you." in html_of(vera)
    assert [row[0] for row in rows_of(vera, "Under review")] == [id_]
    assert rows_of(vera, "Took effect")[0][2] == "✓ in force"
    assert f"promotion={id_}" in [query for _, query in links_of(vera)]


def test_promotions_are_ordered_by_their_heads_and_read_a_page_at_a_time(portal: Open, own: tuple[Path, str]) -> None:
    home, id_ = own
    at = governed_home.desk(governed_home.reopen(home))
    dana = governed_home.person("dana", "data_scientist")
    at.withdraw(dana, id_, "asked anew")
    asked = [id_]
    for number in range(22):
        asked.append(at.request(dana, "pd_default", 2, f"attempt {number}").id)
        at.withdraw(dana, asked[-1], "asked anew")

    def withdrawn(**query: str) -> list[str]:
        return [row[0] for row in rows_of(as_(portal, "ana", home, "promotions", **query), "Withdrawn")]

    assert withdrawn() == asked[::-1][:20] and withdrawn(withdrawn_page="2") == asked[::-1][20:]
    assert withdrawn(by="requested") == asked[:20]
    assert withdrawn(by="-findings")[0] == id_, "the one with a finding"
    (found,) = rows_of(as_(portal, "ana", home, "promotions"), "Findings of every promotion")
    assert (found[0], found[2], found[3]) == (id_, "F1", "◌ ended with its promotion")
    assert "✕ not found" in html_of(as_(portal, "ana", home, "promotions", by="luck"))


def test_findings_of_every_promotion_are_one_list(portal: Open, governed: tuple[Path, str]) -> None:
    home, id_ = governed

    def listed(**query: str) -> list[str]:
        app = as_(portal, "ana", home, "promotions", **query)
        return [" ".join(row[i] for i in (0, 2, 3, 4)) for row in rows_of(app, "Findings of every promotion")]

    assert listed() == listed(findings_by="due") == [f"{id_} F1 ▲ open dana"]
    assert listed(words="F1") == listed(), "though no promotion has this word"
    assert "✕ not found" in html_of(as_(portal, "ana", home, "promotions", findings_by="luck"))


def test_a_promotion_shows_all_that_its_decision_rests_on(portal: Open, governed: tuple[Path, str]) -> None:
    home, id_ = governed
    app = as_(portal, "avery", home, "promotions", promotion=id_)
    page, p = html_of(app), governed_home.desk(governed_home.reopen(home)).promotion(id_)
    hashes = rows_of(app, "Hashes of the manifest")
    assert len(hashes) == 10 and {row[2] for row in hashes} == {"✓ the same"}
    assert hashes[0][1] == p.manifest_sha256 and hashes[1][1] == p.digest
    assert {row[3] for row in rows_of(app, "Gate of the training run")} == {"✓ passed"}
    assert rows_of(app, "Findings")[0][:3] == ["F1", "▲ open", "dana"]
    assert "Why was months_on_book left free" in page and "◌ no answer yet" in page and "credit risk, 12 years" in page
    assert "2 more signatures of approver (0 of 2)" in page
    (chart,) = app.get("plotly_chart")
    assert "rows change grade" in chart.proto.alt
    assert "<script>" not in page and "&lt;script&gt;" in page, "what people typed is text"


@pytest.mark.parametrize(
    ("who", "why"),
    [
        ("vera", "You may not sign: the policy asks for approver; vera is viewer"),
        ("ana", "You may not sign: the policy asks for approver"),
        ("dana", "You may not sign: the policy asks for approver; dana is data_scientist"),
    ],
)
def test_who_may_not_sign_is_told_why(portal: Open, governed: tuple[Path, str], who: str, why: str) -> None:
    app = as_(portal, who, governed[0], "promotions", promotion=f"{MODEL}/2")
    assert why in html_of(app)
    assert "Sign" not in [b.label for b in app.button] and "Reject" not in [b.label for b in app.button]


def test_who_requested_it_may_not_sign_whatever_their_role(portal: Open, own: tuple[Path, str]) -> None:
    from app.auditing import record
    from pipeline.governance import users

    home, id_ = own
    book = governed_home.reopen(home)
    root = person("root", "admin")
    users.set_roles(book.engine, root, "dana", ["approver", "data_scientist"], datetime.now(UTC), record)
    page = html_of(as_(portal, "dana", home, "promotions", promotion=id_))
    assert "You may not sign: dana requested this promotion; another person must sign" in page
    assert "effective challenge, conditions and the closing of what blocks are for others" in page


def test_two_sign_with_their_passwords_and_it_takes_effect(portal: Open, own: tuple[Path, str]) -> None:
    home, id_ = own
    desk = governed_home.desk(governed_home.reopen(home))
    first = as_(portal, "avery", home, "promotions", promotion=id_)
    assert desk.promotion(id_).manifest_sha256 in html_of(first)
    page = html_of(sign(first, "the evidence <b>holds</b>"))
    assert "signed; pd_default version 2 needs more" in page and "holds&lt;/b&gt;" in page
    assert "avery has signed it already" in page and "Sign" not in [b.label for b in first.button]
    page = html_of(sign(as_(portal, "blake", home, "promotions", promotion=id_)))
    assert "pd_default version 2 is in force" in page and page.count("✓ genuine") == 2
    assert desk.registry.production_version(MODEL) == 2


@pytest.mark.parametrize(
    ("reason", "password", "said"),
    [
        ("evidence is whole", "wrong horse battery", "the name or the password is wrong"),
        ("evidence is whole", "", "to sign takes a reason and your password"),
        ("  ", PASSWORD, "to sign takes a reason and your password"),
        ("", "", "to sign takes a reason and your password"),
    ],
)
def test_a_wrong_password_or_no_reason_signs_nothing(
    portal: Open, own: tuple[Path, str], reason: str, password: str, said: str
) -> None:
    home, id_ = own
    app = sign(as_(portal, "avery", home, "promotions", promotion=id_), reason, password)
    assert f"✕ {said}" in html_of(app)
    assert field(app, "Password of").value == "", "it is not kept"  # type: ignore[attr-defined]
    assert field(app, "Reason").value == reason, "what was written stays"  # type: ignore[attr-defined]
    assert governed_home.desk(governed_home.reopen(home)).promotion(id_).signatures == ()


def test_terms_that_change_under_the_form_are_not_signed(portal: Open, own: tuple[Path, str]) -> None:
    home, id_ = own
    app = as_(portal, "avery", home, "promotions", promotion=id_)
    desk = governed_home.desk(governed_home.reopen(home))
    desk.condition(person("ana", "analyst"), id_, max_subjects=7)
    page = html_of(sign(app))
    assert "has changed since you opened it; nothing was signed" in page and "at most 7 subjects a night" in page
    assert desk.promotion(id_).signatures == ()


def test_the_form_of_conditions_shows_what_is_set_so_that_nothing_is_lifted_unseen(
    portal: Open, own: tuple[Path, str]
) -> None:
    home, id_ = own
    desk = governed_home.desk(governed_home.reopen(home))
    desk.condition(person("avery", "approver"), id_, ends=date(2999, 12, 31), max_subjects=7)
    app = as_(portal, "ana", home, "promotions", promotion=id_)
    assert field(app, "Scores up to").value == date(2999, 12, 31)  # type: ignore[attr-defined]
    assert field(app, "At most so many").value == 7  # type: ignore[attr-defined]


def test_a_changed_model_is_seen_and_cannot_be_signed(portal: Open, own: tuple[Path, str]) -> None:
    home, id_ = own
    desk = governed_home.desk(governed_home.reopen(home))
    path = desk.registry.artifact_path(desk.registry.get(MODEL, 2))
    path.write_bytes(path.read_bytes() + b" ")
    app = as_(portal, "avery", home, "promotions", promotion=id_)
    assert "✕ the records are not whole" in html_of(app) and "has been changed since it was registered" in html_of(app)
    assert "has been changed since it was registered" in html_of(sign(app))
    assert desk.promotion(id_).signatures == ()


def test_a_review_is_held_on_the_page(portal: Open, own: tuple[Path, str]) -> None:
    home, id_ = own
    desk = governed_home.desk(governed_home.reopen(home))
    ana = as_(portal, "ana", home, "promotions", promotion=id_)
    field(ana, "What is wrong").set_value("No reject inference.")  # type: ignore[attr-defined]
    ana.checkbox[0].check()
    press(ana, "Raise")
    (finding,) = desk.promotion(id_).blocking
    assert (finding.id, finding.owner, finding.raised_by) == ("F2", "dana", "ana")
    assert "You may not sign: finding F2 blocks it" in html_of(as_(portal, "avery", home, "promotions", promotion=id_))
    field(ana, "Question").set_value("Why not?")  # type: ignore[attr-defined]
    assert "the question waits for dana" in html_of(press(ana, "Ask"))
    dana = as_(portal, "dana", home, "promotions", promotion=id_)
    field(dana, "Answer").set_value("Nobody was rejected.")  # type: ignore[attr-defined]
    press(dana, "Answer")
    assert [q.answer for q in desk.promotion(id_).questions][1] == "Nobody was rejected."
    assert "ask analyst or approver" in html_of(dana)
    next(s for s in ana.selectbox if s.label == "Finding").set_value("F2")
    field(ana, "What was done").set_value("Inferred.")  # type: ignore[attr-defined]
    press(ana, "Close")
    assert desk.promotion(id_).blocking == ()
    avery = as_(portal, "avery", home, "promotions", promotion=id_)
    field(avery, "Reference, such as").set_value("CHG0012345")  # type: ignore[attr-defined]
    next(b for b in avery.button if b.form_id.startswith(f"elsewhere {id_}")).click()
    assert "CHG0012345, recorded by avery" in html_of(avery.run())


def test_a_rejection_closes_it(portal: Open, own: tuple[Path, str]) -> None:
    home, id_ = own
    app = as_(portal, "avery", home, "promotions", promotion=id_)
    field(app, "Why it may not score").set_value("Too few cohorts.")  # type: ignore[attr-defined]
    page = html_of(press(app, "Reject"))
    assert "✕ rejected by avery" in page and "Too few cohorts." in page
    assert "Sign" not in [b.label for b in app.button]


def test_whose_scores_moved_is_for_who_may_know_and_is_recorded(portal: Open, own: tuple[Path, str]) -> None:
    home, id_ = own
    book = governed_home.reopen(home)
    app = as_(portal, "avery", home, "promotions", promotion=id_)
    assert "Whose scores these are is for analyst." in html_of(app)
    assert [row[0] for row in rows_of(app, "Largest movers")] == [str(i) for i in range(1, 11)]
    app = press(as_(portal, "ana", home, "promotions", promotion=id_), "Show whose scores these are")
    ids = [row[0] for row in rows_of(app, "Largest movers")]
    assert all(int(i) >= 1000 for i in ids) and (ids[0], f"q={ids[0]}") in links_of(app)
    (seen,) = audit.records(book.engine, action="personal_data.read")
    assert seen.actor == "ana"


# ── models ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_inventory_says_what_runs_and_until_when(portal: Open, governed: tuple[Path, str]) -> None:
    app = as_(portal, "vera", governed[0], "models")
    first, second = rows_of(app, "Model inventory")
    assert first[:3] == [MODEL, "high", "high"] and first[5] == "v1" and first[-1] == "Consumer credit risk"
    assert first[8] == "1" and second[5] == "◌ none" and f"model={MODEL}" in [query for _, query in links_of(app)]


def test_a_model_has_its_entry_its_versions_and_its_promotions(portal: Open, governed: tuple[Path, str]) -> None:
    app = as_(portal, "vera", governed[0], "models", model=MODEL)
    assert [row[0] for row in rows_of(app, "Registered versions")] == ["v2", "v1"]
    assert dict(rows_of(app, "Inventory entry"))["limits"] == "Not for decisions on new applicants."
    assert rows_of(app, "Monitoring triggers")[0][:2] == ["drift", "◌ has not fired"]
    assert len(rows_of(app, "Promotions of this model")) == 2 and rows_of(app, "Findings")[0][0] == "F1"


def test_a_card_has_features_figures_and_the_report(portal: Open, own: tuple[Path, str]) -> None:
    home, _ = own
    app = as_(portal, "ana", home, "models", model=MODEL, version="2")
    assert {row[0] for row in rows_of(app, "Features")} >= {"dpd_30_rollup", "utilization_3m_avg"}
    assert rows_of(app, "Features")[0][3] == "only rise"
    assert "the records are not whole" not in html_of(app)
    press(app, "Validation report")
    (taken,) = audit.records(governed_home.reopen(home).engine, action="report.exported")
    assert taken.facts["sha256"] in html_of(app)
    assert app.get("download_button")[0].proto.label.startswith("Download the report of ")
    refused = html_of(as_(portal, "vera", home, "models", model=MODEL, version="2"))
    assert "The validation report is for analyst or approver to take." in refused


def test_two_versions_side_by_side_show_what_differs(portal: Open, governed: tuple[Path, str]) -> None:
    app = as_(portal, "vera", governed[0], "models", model=MODEL, version="1", against="2")
    differs = {row[0] for row in rows_of(app, "What differs in their making")}
    assert {"rounds", "num_leaves"} <= differs and "seed" not in differs
    assert rows_of(app, "Metrics side by side")[0][0] == "AUC"
    assert "version 1 beside version 2" in html_of(app) and len(app.get("plotly_chart")) == 1


# ── audit ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_search_narrows_by_who_what_about_and_when(portal: Open, governed: tuple[Path, str]) -> None:
    home, id_ = governed
    caption = "Records"
    found = rows_of(as_(portal, "ana", home, "audit", what="promotion", about=f"promotion:{id_}"), caption)
    assert [row[3] for row in found][-1] == "promotion.requested" and len(found) >= 5
    assert {row[2] for row in rows_of(as_(portal, "ana", home, "audit", who="dana"), caption)} == {"dana"}
    oldest = rows_of(as_(portal, "ana", home, "audit", by="record"), caption)
    assert oldest[0][0] == "1"
    without = as_(portal, "ana", home, "audit", what="!user.sign_in")
    assert not any(row[3].startswith("user.sign_in") for row in rows_of(without, caption))
    tomorrow = (datetime.now(UTC).date() + timedelta(days=2)).isoformat()
    assert "no record fits" in html_of(as_(portal, "ana", home, "audit", since=tomorrow))
    assert "no record fits" in html_of(as_(portal, "ana", home, "audit", who="' OR 1=1 --"))
    assert rows_of(as_(portal, "ana", home, "audit", page="x"), caption)
    for bad in ({"since": "soon"}, {"until": "2026-13-01"}):
        page = html_of(as_(portal, "ana", home, "audit", **bad))
        assert "✕ not found" in page and caption not in page, "no filter is dropped in silence"


def test_a_record_says_what_happened_before_the_hashes_that_it_covers(portal: Open, governed: tuple[Path, str]) -> None:
    home, _ = governed
    (added, *_) = audit.records(governed_home.reopen(home).engine, action="user.add")
    assert "covers" in added.facts and len(added.facts) > 1
    rows = rows_of(as_(portal, "ana", home, "audit", what="user.add"), "Records")
    assert rows and all(not row[5].startswith('{"covers') and "role" in row[5] for row in rows)


@pytest.mark.parametrize(("by", "column"), [("who", 2), ("-what", 3), ("about", 4)])
def test_each_head_orders_the_records(portal: Open, governed: tuple[Path, str], by: str, column: int) -> None:
    caption, fixed = "Records", {"by": by, "what": "!user."}  # who looks signs in, which is a record
    count = audit.count(governed_home.reopen(governed[0]).engine, action="!user.")
    pages = range(1, -(-count // 50) + 1)
    found = [rows_of(as_(portal, "ana", governed[0], "audit", page=str(n), **fixed), caption) for n in pages]
    shown = [row[column] for rows in found for row in rows]
    assert shown == sorted(shown, reverse=by.startswith("-")) and len(shown) == count


def test_promotions_are_found_by_their_words(portal: Open, governed: tuple[Path, str]) -> None:
    def ids(words: str) -> list[str]:
        return re.findall(
            r">(pd_default-\d-[0-9a-f]{6})<", html_of(as_(portal, "ana", governed[0], "promotions", words=words))
        )

    assert governed[1] in ids("PD_DEFAULT version 2") and not ids("xyzzy")


def test_a_versions_features_are_ordered_by_their_heads(portal: Open, governed: tuple[Path, str]) -> None:
    def shown(**query: str) -> list[list[str]]:
        return rows_of(as_(portal, "ana", governed[0], "models", model="pd_default", version="2", **query), "Features")

    first = shown()
    gains = [float(row[1].rstrip("%")) for row in first]
    assert gains == sorted(gains, reverse=True) and len(gains) > 1
    assert [row[0] for row in shown(by="feature")] == sorted(row[0] for row in first)
    does = [row[4] for row in shown(by="-does")]
    known = [d for d in does if d != "–"]
    assert does[: len(known)] == sorted(known, reverse=True), "what is not known stands last either way"


def test_a_field_writes_the_url(portal: Open, governed: tuple[Path, str]) -> None:
    app = as_(portal, "ana", governed[0], "audit")
    next(f for f in app.text_input if f.label == "What").set_value("candidate").run()
    assert app.query_params["what"] == "candidate"
    assert {row[3] for row in rows_of(app, "Records")} == {"candidate.registered"}


def test_pages_are_cut_in_the_database(portal: Open, own: tuple[Path, str]) -> None:
    home, _ = own
    engine = governed_home.reopen(home).engine
    for number in range(120):
        audit.append(engine, actor="robot", action="test.made", subject=f"thing:{number}", detail={"n": number})
    seen = [
        row[4]
        for page in "123"
        for row in rows_of(as_(portal, "ana", home, "audit", who="robot", page=page), "Records")
    ]
    assert seen == [f"thing:{n}" for n in range(119, -1, -1)]
    assert audit.count(engine, actor="robot") == 120


def test_a_record_shows_its_hash_and_its_neighbours(portal: Open, governed: tuple[Path, str]) -> None:
    home, _ = governed
    one, two, three = audit.records(governed_home.reopen(home).engine, limit=3)
    app = as_(portal, "ana", home, "audit", record="2")
    facts = dict(rows_of(app, "Record 2"))
    assert facts["hash before it"] == f"{one.sha256} ✓ record 1 has it"
    assert facts["its own hash"] == f"{two.sha256} ✓ fits its fields"
    assert facts["hash that the next one names"] == f"{three.prev_sha256} ✓ record 3 names it"
    first = dict(rows_of(as_(portal, "ana", home, "audit", record="1"), "Record 1"))
    assert first["hash before it"].endswith("✓ the log begins here")


def test_the_chain_is_verified_and_a_changed_record_is_named(portal: Open, own: tuple[Path, str]) -> None:
    home, _ = own
    book = governed_home.reopen(home)
    page = html_of(press(as_(portal, "ana", home, "audit"), "Verify the chain"))
    assert "✓" not in page.split("There is no checkpoint")[0][-200:] and "▲ the chain is sound" in page
    checkpoints.write(
        book.settings, book.engine, book.settings.checkpoints_dir / "000000000099.json", actor=person("ana", "analyst")
    )
    page = html_of(press(as_(portal, "ana", home, "audit"), "Verify the chain"))
    assert "✓ the chain is sound" in page and "signed by key" in page
    with book.engine.begin() as db:
        db.exec_driver_sql("DROP TRIGGER audit_log_no_update")
        db.exec_driver_sql("UPDATE audit_log SET actor = 'nobody' WHERE seq = 3")
    app = press(as_(portal, "ana", home, "audit"), "Verify the chain")
    assert "✕ record 3: record 3 has been changed" in html_of(app)
    facts = dict(rows_of(as_(portal, "ana", home, "audit", record="3"), "Record 3"))
    assert facts["its own hash"].endswith("✕ does not fit its fields")


def test_an_export_is_for_who_may_and_is_recorded(portal: Open, own: tuple[Path, str]) -> None:
    home, _ = own
    app = as_(portal, "avery", home, "audit")
    assert "Exports are for analyst, admin." in html_of(app)
    app = press(as_(portal, "ana", home, "audit", what="candidate"), "Prepare the file")
    _, name, content, facts = app.session_state["export ready"]
    assert name.endswith(".jsonl") and len(content.splitlines()) == facts["records"] == 2
    assert len(app.get("download_button")) == 1
    (taken,) = audit.records(governed_home.reopen(home).engine, action="audit.exported")
    assert (taken.actor, taken.facts["file_sha256"]) == ("ana", facts["file_sha256"])


# ── tonight, and what is pure ────────────────────────────────────────────────────────────────────────────────


def test_tonight_says_what_needs_whoever_looks(portal: Open, governed: tuple[Path, str]) -> None:
    home, id_ = governed
    avery = as_(portal, "avery", home, "tonight")
    assert ("1 promotion waits for your signature ›", f"promotion={id_}") in links_of(avery)
    assert "▲ needs you" in html_of(avery) and "nothing needs you" not in html_of(avery)
    labels = [label for label, _ in links_of(as_(portal, "dana", home, "tonight"))]
    assert "2 things of a review for you ›" in labels and "1 finding due this week ›" in labels
    vera = as_(portal, "vera", home, "tonight")
    assert "no gate and no data test ran" in html_of(vera) and "▲ needs you" not in html_of(vera)


def test_a_review_that_is_overdue_waits_for_who_keeps_the_inventory(governed: tuple[Path, str]) -> None:
    book = governed_home.reopen(governed[0])
    listed = inventory_log.listed(book.settings, book.engine, book.portfolio)
    dates = [m.review.due for m in listed if m.review.due]
    assert inbox.models_late(listed, min(dates)) == (), "on its day a review is not late yet"
    late = inbox.models_late(listed, max(dates) + timedelta(days=1))
    assert sorted(late) == sorted((m.name, "review") for m in listed if m.review.due)
    ((label, query),) = night_facts.model_links(late)
    one = len(late) == 1
    assert label == ("1 model review overdue ›" if one else f"{len(late)} model reviews overdue ›")
    assert query == ({"model": late[0][0]} if one else {})


def test_what_waits_goes_by_role_and_by_what_was_done(own: tuple[Path, str]) -> None:
    home, id_ = own
    desk = governed_home.desk(governed_home.reopen(home))
    now = datetime.now(UTC)
    avery = person("avery", "approver", at=now - timedelta(hours=7))

    def waits() -> list[str]:
        return [w.what for w in inbox.waiting_for(desk.book(), avery, now)]

    assert waits() == [inbox.SIGNATURE], "a sign-in of this morning does not take it off the list"
    desk.raise_finding(person("ana", "analyst"), id_, "wrong", owner="avery", due=date(2199, 1, 1), blocking=True)
    assert waits() == ["finding F2, which is yours"], "nobody is asked to sign what is blocked"
    assert [f.id for _, f in inbox.findings_due(desk.book(), now.date())] == ["F1"]
    desk.reject(person("blake", "approver"), id_, "no")
    assert waits() == [] and inbox.findings_due(desk.book(), now.date()) == ()


def test_a_migration_is_drawn_with_its_numbers() -> None:
    m = Migration(("A", "B"), ((8, 2), (1, 9)))
    figure = migration(m, "#123456")
    inks = [a.font.color for a in figure.layout.annotations]
    assert inks == ["#123456", "#FFFFFF", "#123456", "#123456"], "white on the deepest cell"
    assert [a.text for a in figure.layout.annotations] == ["8", "2", "1", "9"]
    assert [list(line) for line in figure.data[0].z] == [[None, 0.2], [-0.1, None]], "share of the champion's grade"
    assert re.match("3 of 20 rows change grade: 2 to a worse one, 1 to a better one", migration_words(m))


def test_signing_through_a_provider_takes_a_login_made_for_it(
    portal: Open, own: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streamlit's own redirect needs a browser: here is what the page asks of it, and what it takes back."""
    home, id_ = own
    sent: list[str] = []
    monkeypatch.setattr("streamlit.login", sent.append)
    (home / "oidc_groups.json").write_text('{"risk": "approver"}', encoding="utf-8")
    now = datetime.now(UTC).timestamp()
    app = portal(home)
    keys = {"client_id": "c", "client_secret": "s", "server_metadata_url": "http://127.0.0.1:9/none"}
    auth = {"redirect_uri": "http://localhost/oauth2callback", "cookie_secret": "x" * 32, **keys}
    app.secrets["auth"] = auth
    eva = {"is_logged_in": True, "sub": "42", "email": "eva@lender.example", "groups": ["risk"], "iat": now - 9}
    app.user = {**eva, "exp": now + 900}
    app.switch_page("views/promotions.py")
    app.query_params["promotion"] = id_
    page = html_of(app.run())
    assert "has not signed in at the identity provider for this signature" in page
    assert not any("Password of" in (e.label or "") for e in app.text_input)
    page = html_of(press(app, "Sign in again at your identity provider"))
    assert "[auth.signing]" in page and "prompt" in page, "a section that makes the provider ask anew is missing"
    app.secrets["auth"] = {**auth, "signing": {**keys, "client_kwargs": {"prompt": "login"}}}
    press(app, "Sign in again at your identity provider")
    assert sent == ["signing"]
    desk = governed_home.desk(governed_home.reopen(home))
    asked = desk.promotion(id_).logins_asked["eva@lender.example"]
    assert "for this signature" in html_of(app.run()), "the login of before does not count"
    app.user = {**app.user, "auth_time": asked.timestamp() + 1}
    assert "for this signature" not in html_of(app.run())
    field(app, "Reason").set_value("evidence is whole")  # type: ignore[attr-defined]
    press(app, "Sign")
    (given,) = desk.promotion(id_).signatures
    assert given.signer == "eva@lender.example"
