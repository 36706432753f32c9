"""The inventory: what a portfolio declares, what people change, and when a review is due, and why then."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, insert

from pipeline import control, lake
from pipeline import portfolio as portfolios
from pipeline.errors import AccessDenied, ConfigError, InventoryRefused, RecordRefused
from pipeline.governance import audit, exposure, inventory, inventory_edits, inventory_rules, policy
from pipeline.governance.access import ROLES, RULES
from pipeline.governance.event import Event
from pipeline.governance.inventory import EDITABLE, Entry
from pipeline.governance.inventory_log import standings
from pipeline.governance.inventory_state import Standing, fold
from pipeline.governance.policy import Policy
from pipeline.governance.promotion_state import Conditions, InForce, Promotion
from pipeline.portfolio import Portfolio
from tests.pipeline import small_book
from tests.signing_off import person

START = datetime(2026, 3, 2, 9, tzinfo=UTC)
DECLARED: dict[str, Any] = {
    "purpose": "Rank accounts by risk.",
    "owner": "Consumer credit risk",
    "inherent_risk": "high",
    "limits": ["Not for applicants."],
    "data": ["Bureau reports", "Statements"],
    "assumptions": ["A default is the lender's own event"],
    "triggers": [
        {"name": "drift", "when": "An alert is raised.", "response": "Find the source.", "owner": "Monitoring",
         "within_days": 10, "on": "alert.raised", "matching": {"kind": ["drift", "performance"]}},
        {"name": "policy change", "when": "Cut-offs change.", "response": "Restate limits.", "owner": "Credit",
         "within_days": 30},
    ],
}  # fmt: skip
ANALYST = person("ana", "analyst")


def entry() -> Entry:
    return inventory.parse("pd_default", DECLARED)


def portfolio() -> Portfolio:
    other = inventory.parse("pd_application", {"data": ["Bureau reports"], "owner": "Underwriting"})
    book = small_book.portfolio("BIGINT", (small_book.ACCOUNT_MODEL, small_book.APPLICATION_MODEL))
    return replace(book, inventory={"pd_default": entry(), "pd_application": other})


# Declared


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"porpose": "x"}, "unknown key porpose"),
        ({"purpose": "  "}, "purpose is '  '; it is a text"),
        ({"purpose": 3}, "purpose is 3; it is a text"),
        ({"purpose": "x" * 4001}, "4,001 characters"),
        ({"inherent_risk": "huge"}, "one of high, medium, low"),
        ({"limits": "none"}, "limits is a list"),
        ({"limits": []}, "limits is a list of 1 to 50"),
        ({"data": ["a", None]}, r"data\[1\] is None"),
        ({"triggers": {}}, "triggers is a list"),
        ({"triggers": [{"name": "drift"}]}, r"triggers\[0\] says no when"),
        ({"triggers": [{**DECLARED["triggers"][1], "within": 3}]}, "unknown key within"),
        ({"triggers": [{**DECLARED["triggers"][1], "within_days": 0}]}, "within_days is 0"),
        ({"triggers": [{**DECLARED["triggers"][1], "within_days": True}]}, "within_days is True"),
        ({"triggers": [{**DECLARED["triggers"][1], "matching": {"kind": "psi"}}]}, "matching is a section"),
        ({"triggers": [DECLARED["triggers"][1]] * 2}, "two have the same name"),
        ({"triggers": ["drift"]}, r"triggers\[0\] is a section"),
    ],
)
def test_a_slip_in_the_portfolio_is_named(change: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said) as refused:
        inventory.parse("pd_default", DECLARED | change)
    assert "models.pd_default.inventory" in str(refused.value)


def test_what_is_not_stated_is_a_gap_and_a_tier_is_no_field() -> None:
    assert entry().gaps == ("intended_use", "inherent_risk_reason")
    assert set(inventory.parse("m", {}).gaps) == {*EDITABLE, "triggers"}
    with pytest.raises(ValueError, match="no field of the inventory"):
        inventory.checked("materiality", "low")


@pytest.mark.parametrize("given_", [0, 121, "12", True, 1.5])
def test_review_months_are_whole_and_of_a_tier(given_: object) -> None:
    assert policy.review_months({}) == {"high": 12, "medium": 18, "low": 24}
    assert policy.review_months({"high": {"review_months": 6}})["high"] == 6
    with pytest.raises(ValueError, match=r"governance\.high\.review_months"):
        policy.review_months({"high": {"review_months": given_}})


def test_an_external_approval_is_written_as_a_word() -> None:
    assert policy.parse({"high": {"external_approval": "required", "review_months": 6}})["high"].external_reference
    assert not policy.parse({"high": {"external_approval": "none"}})["high"].external_reference
    with pytest.raises(ValueError, match=r"governance\.high\.external_approval is required or none"):
        policy.parse({"high": {"external_approval": "maybe"}})


# Edited, in both stores


def test_edits_are_events_and_the_last_one_counts(engine: Engine) -> None:
    book = portfolio()
    inventory_edits.edit(engine, book, ANALYST, "pd_default", {"owner": "a.berg", "limits": ["One", "Two"]}, "moved")
    inventory_edits.edit(engine, book, ANALYST, "pd_default", {"owner": "m.okafor"}, "on leave")
    found = standings(engine, book)
    assert (found["pd_default"].entry.owner, found["pd_default"].entry.limits) == ("m.okafor", ("One", "Two"))
    assert found["pd_default"].edits["owner"].reason == "on leave" and found["pd_default"].edits["limits"].by == "ana"
    assert found["pd_application"].entry.owner == "Underwriting"
    assert found["pd_default"].entry.purpose == "Rank accounts by risk."
    assert [r.action for r in audit.records(engine)] == ["inventory.edited"] * 2
    assert audit.verify(engine).ok


@pytest.mark.parametrize("role", ROLES)
def test_who_may_edit_is_what_the_table_says(sqlite_engine: Engine, role: str) -> None:
    actor = person("pat", role)
    if role in RULES["inventory.edit"].roles:
        inventory_edits.edit(sqlite_engine, portfolio(), actor, "pd_default", {"owner": "x"}, "r")
        return
    with pytest.raises(AccessDenied, match="needs the role analyst"):
        inventory_edits.edit(sqlite_engine, portfolio(), actor, "pd_default", {"owner": "x"}, "r")
    (record,) = audit.records(sqlite_engine)
    assert (record.action, record.subject) == ("inventory.refused", "model:pd_default")
    assert standings(sqlite_engine, portfolio())["pd_default"].entry == entry()


def test_refused_edits_name_the_rule_and_change_nothing(engine: Engine) -> None:
    book = portfolio()
    for changes, said in (
        ({"materiality": "low"}, "no field of the inventory"),
        ({"inherent_risk": "none"}, "one of high, medium, low"),
        ({"owner": "Consumer credit risk"}, "nothing would change"),
    ):
        with pytest.raises(InventoryRefused, match=said):
            inventory_edits.edit(engine, book, ANALYST, "pd_default", changes, "r")
    with pytest.raises(InventoryRefused, match="needs words"):
        inventory_edits.edit(engine, book, ANALYST, "pd_default", {"owner": "x"}, "  ")
    with pytest.raises(InventoryRefused, match="no trigger 'flood'; it has: drift, policy change"):
        inventory_edits.fire(engine, book, ANALYST, "pd_default", "flood", "r")
    with pytest.raises(InventoryRefused, match="owes no response"):
        inventory_edits.respond(engine, book, ANALYST, "pd_default", "drift", "r")
    with pytest.raises(ConfigError, match="no model"):
        inventory_edits.edit(engine, book, ANALYST, "nothing", {"owner": "x"}, "r")
    assert {r.action for r in audit.records(engine)} == {"inventory.refused"}
    with pytest.raises(RecordRefused, match="control character"):
        inventory_edits.edit(engine, book, ANALYST, "pd_default", {"owner": "a\x1bb"}, "r")
    with pytest.raises(RecordRefused, match="100,000 characters"):
        inventory_edits.reviewed(engine, book, ANALYST, "pd_default", "x" * 100_000)
    refused = audit.records(engine)[-2:]
    assert [r.action for r in refused] == ["inventory.refused"] * 2
    assert ["control character" in refused[0].detail, "100,000 characters" in refused[1].detail] == [True, True]
    assert standings(engine, book)["pd_default"].entry == entry()


def test_an_alert_fires_its_trigger_and_owes_a_response_until_it_is_given(engine: Engine) -> None:
    book = portfolio()
    for model, kind in (("pd_default", "drift"), ("pd_default", "volume"), ("pd_application", "drift")):
        detail = {"kind": kind, "message": f"{kind} of {model}"}
        audit.append(engine, actor="pipeline", action="alert.raised", subject=f"alert:{kind}/{model}/x", detail=detail)
    (fired,) = standings(engine, book)["pd_default"].fired
    assert (fired.trigger, fired.owed, fired.why) == ("drift", True, "alert.raised by pipeline: drift of pd_default")
    assert standings(engine, book)["pd_application"].fired == ()
    (owed,) = inventory_rules.responses_owed(standings(engine, book)["pd_default"])
    assert (owed.owner, owed.due) == ("Monitoring", (fired.at + timedelta(days=10)).date())
    inventory_edits.respond(engine, book, ANALYST, "pd_default", "drift", "a late bureau file; scores fit for use")
    found = standings(engine, book)["pd_default"]
    assert inventory_rules.responses_owed(found) == () and found.fired[0].responded_by == "ana"


# Reviews: pure


def approved(**changes: Any) -> Promotion:
    made = Promotion(
        id="p", model="pd_default", version=2, digest="d", replaces=1, trainer="t", requester="r",
        requested_at=START, reason="", policy=Policy(approval_days=700), manifest={}, manifest_sha256="m",
        promoted_at=START,
    )  # fmt: skip
    return replace(made, **changes)


def happened(action: str, after_days: float, detail: dict[str, Any], actor: str = "ana") -> Event:
    return Event(1, START + timedelta(days=after_days), actor, action, "model:pd_default", detail)


def standing(*events: Event) -> Standing:
    return fold({"pd_default": entry()}, events)["pd_default"]


def due(s: Standing, promotion: Promotion | None = None, held: InForce | None = None) -> inventory_rules.ReviewDue:
    return inventory_rules.review_due(s, "high", 12, promotion or approved(), held)


def test_a_review_is_due_the_tiers_months_after_the_approval() -> None:
    found = due(standing())
    assert (found.due, found.last) == (date(2027, 3, 2), START.date())
    assert found.why == "12 months after the last one, tier high"
    assert found.overdue(date(2027, 3, 3)) and not found.overdue(date(2027, 3, 2))


def test_without_an_approval_or_a_review_there_is_no_date_and_it_is_said() -> None:
    found = inventory_rules.review_due(standing(), "high", 12, None, None)
    assert (found.due, found.why) == (None, "no version of it was ever approved or reviewed")


def test_a_trigger_pulls_the_date_forward_until_a_review_answers_it() -> None:
    fired = happened("inventory.trigger_fired", 100, {"trigger": "policy change", "why": "cut-off lowered"})
    found = due(standing(fired))
    assert found.due == (START + timedelta(days=130)).date()
    assert found.why == "trigger “policy change” fired on 2026-06-10: cut-off lowered"
    again = due(standing(fired, happened("inventory.reviewed", 110, {"note": "still fits"})))
    assert again.due == date(2027, 6, 20) and again.last == (START + timedelta(days=110)).date()


def test_a_rollback_a_condition_and_an_expiry_pull_the_date_forward() -> None:
    held = InForce("p", START + timedelta(days=50), 9, rolled_back_by="avery", review_due="2026-04-26")
    assert due(standing(), held=held).why == "avery put an earlier version back on 2026-04-21"
    assert due(standing(), held=held).due == date(2026, 4, 26)
    reviewed = standing(happened("inventory.reviewed", 51, {"note": "agreed"}))
    assert due(reviewed, held=held).due == date(2027, 4, 22)
    ends = approved(conditions=Conditions(ends="2026-09-30"))
    assert due(standing(), ends).why == "the conditional approval p ends on 2026-09-30"
    short = approved(policy=Policy(approval_days=90))
    assert due(standing(), short).due == (START + timedelta(days=90)).date()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["fire", "review"]), st.integers(1, 2_000), st.sampled_from(["drift", "policy change"])
        ),
        max_size=12,
    )
)
def test_no_history_puts_a_review_later_than_the_tier_allows(steps: list[tuple[str, int, str]]) -> None:
    events = [
        happened("inventory.reviewed", day, {"note": "n"})
        if what == "review"
        else happened("inventory.trigger_fired", day, {"trigger": name, "why": "w"})
        for what, day, name in sorted(steps, key=lambda step: step[1])
    ]
    found = due(standing(*events), approved(policy=Policy(approval_days=100_000)))
    last = max([START, *(e.at for e in events if e.action == "inventory.reviewed")])
    assert found.last == last.date() and found.due is not None
    assert found.due <= date(last.year + 1, last.month, min(last.day, 28)) + timedelta(days=3)
    after = [e for e in events if e.action == "inventory.trigger_fired" and e.at > last]
    assert len(found.causes) == 2 + len(after)  # the tier's months and the approval's end
    assert found.due == min(c.due for c in found.causes)


@pytest.mark.parametrize(
    ("subject", "detail", "concerns"),
    [
        ("alert:drift/pd_default/int_account_slots", {}, True),
        ("alert:drift/pd_application/stg_bureau", {}, False),
        ("alert:performance/account_scores", {}, True),  # names no model: all of them
        ("alert:drift/x", {"model": "pd_application"}, False),
        ("model:pd_default", {}, True),
        ("model:pd_default/3", {}, True),
        ("model:pd_default_2", {}, False),
        ("run:1", {"model": "pd_default"}, True),
        ("run:1", {}, False),
    ],
)
def test_which_records_concern_a_model(subject: str, detail: dict[str, Any], concerns: bool) -> None:
    event = Event(1, START, "pipeline", "alert.raised", subject, {"kind": "drift", **detail})
    found = fold({"pd_default": entry(), "pd_application": Entry()}, [event])
    assert bool(found["pd_default"].fired) is concerns


# Exposure, and what is shipped


def test_exposure_is_the_published_nights_and_without_a_mart_it_is_the_count(tmp_path: Path) -> None:
    book = small_book.make(tmp_path / "home", accounts=60)
    assert exposure.exposures(book.settings, book.engine, book.portfolio) == {}
    with book.writer() as con:
        con.execute(
            "CREATE TABLE lake.marts.provisions AS SELECT DATE '2024-07-31' AS as_of_date, 'card' AS product, "
            "g AS grade, 40::BIGINT AS accounts, 1234567.05::DECIMAL(38,2) AS exposure_at_default "
            "FROM (VALUES ('A'), ('B')) v(g)"
        )
        con.execute("INSERT INTO lake.marts.provisions SELECT DATE '2024-07-30', 'card', 'A', 9, 9")
        snapshot = lake.current_snapshot(con)
        con.execute("INSERT INTO lake.marts.provisions SELECT DATE '2024-07-31', 'auto_loan', 'A', 9, 9")
    models = [
        {"name": name, "version": 1, "digest": "d", "subject": subject, "rows": rows}
        for name, subject, rows in (("pd_default", "account", 80), ("pd_application", "application", 7))
    ]
    with book.engine.begin() as connection:
        connection.execute(
            insert(control.publications).values(
                as_of=date(2024, 7, 31), run_id=small_book.RUN, snapshot_id=snapshot, published_at=START, accounts=80,
                applications=7, content_sha256="c" * 64, models=models, features=8,
            )
        )  # fmt: skip
    found = exposure.exposures(book.settings, book.engine, book.portfolio)
    # As the night was published, not as the mart is now.
    assert (found["pd_default"].subjects, found["pd_default"].amount) == (80, Decimal("2469134.10"))
    assert (found["pd_default"].currency, found["pd_default"].what) == ("EUR", "exposure at default")
    assert (found["pd_application"].subjects, found["pd_application"].amount) == (7, None)
    assert "no underwriting_queue" in found["pd_application"].what


@pytest.mark.parametrize("name", ["cascade", "uci_credit_card"])
def test_the_shipped_portfolios_state_everything(name: str) -> None:
    shipped = portfolios.load(portfolios.resolve(name))
    for spec in shipped.models:
        assert shipped.inventory[spec.name].gaps == ()
        assert spec.cutoff_pd is not None
    words = (shipped.folder / "portfolio.yml").read_text(encoding="utf-8")
    assert "complian" not in words


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("cutoff_pd: 1.5", "cutoff_pd is 1.5; it is a PD between 0 and 1"),
        ("cutoff_pd: high", "cutoff_pd is 'high'"),
        ("references: {postcode: a}", "must be one of age_band, sex, marital_status"),
        ("inventory: {owner: [a]}", "inventory: owner is"),
        ("inventory: none", "inventory is a section"),
    ],
)
def test_a_slip_in_portfolio_yml_names_file_and_key(tmp_path: Path, line: str, said: str) -> None:
    folder = tmp_path / "portfolio"
    shutil.copytree(portfolios.resolve("uci_credit_card"), folder)
    yml = folder / "portfolio.yml"
    content = yml.read_text(encoding="utf-8")
    without = re.sub(r"    inventory:\n(      .*\n)+", "", content).replace("    cutoff_pd: 0.25\n", "")
    yml.write_text(
        without.replace("    materiality: medium\n", f"    materiality: medium\n    {line}\n"), encoding="utf-8"
    )
    with pytest.raises(ConfigError, match=re.escape(said)) as refused:
        portfolios.load(folder)
    assert str(yml) in str(refused.value)
