"""The access table: what it says is what is done, and separate duties stay separate."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from pipeline.config import REPOSITORY
from pipeline.errors import AccessDenied
from pipeline.governance import access
from pipeline.governance.access import PERSONAL_ROLES, ROLES, RULES, Actor, may, require

NOW = datetime(2026, 3, 14, 9, 0, tzinfo=UTC)


def somebody(*roles: str, name: str = "anna") -> Actor:
    return Actor(name, frozenset(roles), "password", NOW)


def allowed(role: str) -> set[str]:
    return {action for action in RULES if may(somebody(role), action)}


def test_every_cell_of_the_table_is_what_may_and_require_do() -> None:
    lines = access._TABLE.strip("\n").splitlines()[1:]
    assert len(lines) == len(RULES), "an action stands in the table once"
    for line in lines:
        action, *marks, _ = (cell.strip() for cell in line.split("|"))
        for role, mark in zip(ROLES, marks, strict=True):
            assert mark in ("", "●"), f"{action}, {role}: {mark!r}"
            assert may(somebody(role), action) is (mark == "●")
            if mark:
                require(somebody(role), action)
            else:
                with pytest.raises(AccessDenied, match=action.replace(".", r"\.")):
                    require(somebody(role), action)


def test_the_roles_are_those_of_the_design() -> None:
    assert ROLES == ("viewer", "analyst", "data_scientist", "developer", "approver", "admin", "service", "owner")
    assert set(ROLES) - set(PERSONAL_ROLES) == {"service", "owner"}


def test_the_marks_stand_under_their_roles() -> None:
    """A mark that slid into the next column would read as another role's."""
    head, *lines = access._TABLE.strip("\n").splitlines()
    bars = [i for i, c in enumerate(head) if c == "|"]
    assert all([i for i, c in enumerate(line) if c == "|"] == bars for line in lines)


@pytest.mark.parametrize("maker", ["data_scientist", "developer", "service"])
def test_who_makes_a_model_neither_reviews_nor_signs(maker: str) -> None:
    assert not allowed(maker) & {"promotion.sign", "promotion.reject", "promotion.review", "finding.close"}


@pytest.mark.parametrize("judge", ["approver", "analyst"])
def test_who_judges_a_model_neither_trains_nor_runs(judge: str) -> None:
    assert not allowed(judge) & {"run.night", "run.retrain", "promotion.request"}


def test_who_manages_users_and_keys_does_nothing_with_models() -> None:
    assert {r for r in ROLES if "user.manage" in allowed(r)} == {"admin"}
    assert not allowed("admin") & {"promotion.sign", "run.night", "run.retrain", "personal_data.read", "finding.close"}


def test_a_viewer_reads_and_sees_no_person() -> None:
    assert all(action.endswith(".read") for action in allowed("viewer"))
    assert not allowed("viewer") & {"personal_data.read", "trace.read", "audit.read"}


def test_the_service_runs_and_reads_nobodys_scores() -> None:
    assert allowed("service") == {"run.night", "run.retrain", "run.maintain", "promotion.request", "audit.verify"}
    assert access.service(NOW).roles == {"service"}


def test_whoever_owns_the_home_reads_and_runs_and_decides_nothing() -> None:
    assert access.owner("root", NOW).roles == {"owner"}
    decides = {"promotion.", "finding.", "inventory.", "drift.acknowledge", "user."}
    assert {a for a in allowed("owner") if a.startswith(tuple(decides))} == {"promotion.read"}


def test_some_person_may_do_every_action() -> None:
    assert all(set(rule.roles) & set(PERSONAL_ROLES) for rule in RULES.values())


def test_roles_add_up() -> None:
    both = somebody("viewer", "approver")
    assert may(both, "promotion.sign") and not may(both, "run.night")


def test_a_refusal_names_the_rule_who_could_and_the_way_on() -> None:
    with pytest.raises(AccessDenied) as caught:
        require(somebody("viewer", "developer", name="m.okafor"), "promotion.review")
    assert caught.value.message == (
        "m.okafor (developer, viewer) may not question a request and set conditions: "
        "promotion.review needs the role analyst or approver"
    )
    assert "somebody who is analyst or approver" in caught.value.next_step


@pytest.mark.parametrize("roles", [(), ("root",), ("Admin",), ("admin ",)])
def test_what_is_no_role_allows_nothing(roles: tuple[str, ...]) -> None:
    assert not any(may(somebody(*roles), action) for action in RULES)
    with pytest.raises(AccessDenied):
        require(somebody(*roles), "scores.read")


def test_an_unknown_action_is_a_mistake_even_for_every_role() -> None:
    for action in ("scores.write", "", "scores.read "):
        with pytest.raises(ValueError, match="no action of the access table"):
            may(somebody(*ROLES), action)


def test_the_readme_shows_the_table() -> None:
    assert access.markdown() in (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert access.markdown().count("\n") == len(RULES) + 1
