"""Who may do what: one table of roles and actions. What it does not allow is refused.

``require`` is called inside the functions that act, not only on the pages. The table below is the rule, the
documentation (``markdown``) and what the tests go by: there is no other place that grants anything.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from pipeline.errors import AccessDenied

# ● may. The service is the pipeline's own identity, the owner whoever runs a command on the home's own files, which
# they can read anyway: no person is given these two. An administrator of users neither scores nor signs; who needs
# both holds two roles, and both are on record.
_TABLE = """
                     | viewer | analyst | data_scientist | developer | approver | admin | service | owner | what it is
scores.read          | ●      | ●       | ●              | ●         | ●        | ●     |         | ●     | see the published book and single scores
run.read             | ●      | ●       | ●              | ●         | ●        | ●     |         | ●     | see runs, gates, tests and times
model.read           | ●      | ●       | ●              | ●         | ●        | ●     |         | ●     | see the inventory, versions and their cards
promotion.read       | ●      | ●       | ●              | ●         | ●        | ●     |         | ●     | see requests, evidence and signatures
drift.read           | ●      | ●       | ●              | ●         | ●        |       |         | ●     | see drift, outcomes and alerts
scores.export        |        | ●       | ●              |           | ●        |       |         | ●     | take a list of scores out of the house
trace.read           |        | ●       | ●              | ●         | ●        |       |         | ●     | take a score apart and replay it
personal_data.read   |        | ●       |                |           |          |       |         | ●     | see columns of personal data in clear
evidence.export      |        | ●       |                |           | ●        |       |         | ●     | take an evidence pack out of the house
drift.acknowledge    |        | ●       | ●              |           |          |       |         |       | answer for an alert until a date
inventory.edit       |        | ●       |                |           |          |       |         |       | keep a model's purpose, risk and owner
run.night            |        |         |                | ●         |          |       | ●       | ●     | land, score and publish a night
run.retrain          |        |         | ●              | ●         |          |       | ●       | ●     | train and register a candidate
run.maintain         |        |         |                | ●         |          |       | ●       | ●     | end what retention ends, merge files
promotion.request    |        |         | ●              | ●         |          |       | ●       |       | ask that a version may score
promotion.withdraw   |        |         | ●              | ●         |          |       |         |       | take one's own request back while it is open
promotion.end        |        |         |                |           | ●        | ●     |         |       | end a promotion, also one in force
promotion.review     |        | ●       |                |           | ●        |       |         |       | question a request and set conditions
promotion.sign       |        |         |                |           | ●        |       |         |       | approve a version with a signature
promotion.reject     |        |         |                |           | ●        |       |         |       | refuse a request
promotion.rollback   |        |         |                | ●         | ●        |       |         |       | put a formerly approved version back, in need
promotion.freeze     |        |         |                |           | ●        | ●     |         |       | stop and allow changes of models
finding.raise        |        | ●       |                |           | ●        |       |         |       | open a finding with an owner and a date
finding.answer       |        |         | ●              | ●         |          |       |         |       | say what was done about a finding
finding.close        |        | ●       |                |           | ●        |       |         |       | accept the answer
audit.read           |        | ●       |                |           | ●        | ●     |         | ●     | search the audit log
audit.verify         |        | ●       |                |           | ●        | ●     | ●       | ●     | check the audit log's chain
audit.export         |        | ●       |                |           |          | ●     |         | ●     | take the audit log out of the house
user.manage          |        |         |                |           |          | ●     |         |       | add users, set roles and passwords, disable
key.rotate           |        |         |                |           |          | ●     |         | ●     | make and retire signing keys
"""  # noqa: E501 - a table is read by its columns

SERVICE = "service"
OWNER = "owner"


@dataclass(frozen=True)
class Rule:
    """One action, the roles that may do it in the table's order, and the action in words."""

    action: str
    roles: tuple[str, ...]
    meaning: str


def _read(table: str) -> tuple[tuple[str, ...], dict[str, Rule]]:
    """The roles and the rules of a table as it is written above."""
    head, *lines = ([cell.strip() for cell in line.split("|")] for line in table.strip("\n").splitlines())
    roles = tuple(head[1:-1])
    rules = {
        action: Rule(action, tuple(role for role, mark in zip(roles, marks, strict=True) if mark == "●"), meaning)
        for action, *marks, meaning in lines
    }
    return roles, rules


ROLES, RULES = _read(_TABLE)
PERSONAL_ROLES = tuple(role for role in ROLES if role not in (SERVICE, OWNER))  # what a person may hold


@dataclass(frozen=True)
class Actor:
    """Who acts, and as what.

    name: as it is printed and recorded; one person, one name.
    method: how that is known: ``password``, ``oidc``, ``home`` (owns the home's folder), ``service``, or ``none``.
    authenticated_at: when the person last proved who they are; a signature wants it fresh.
    subject: what an identity provider calls the person for good: its issuer and its own id.
    """

    name: str
    roles: frozenset[str]
    method: str
    authenticated_at: datetime
    subject: str = ""


def service(now: datetime) -> Actor:
    """The pipeline's own identity: what runs on schedule and is nobody's hand."""
    return Actor("pipeline", frozenset({SERVICE}), SERVICE, now)


def owner(name: str, now: datetime) -> Actor:
    """Whoever works on the home's own files from the command line, by the name that the machine knows them by."""
    return Actor(name, frozenset({OWNER}), "home", now)


def may(actor: Actor, action: str) -> bool:
    """Whether one of the actor's roles allows the action. Raises ValueError for an action that is not in the table."""
    if action not in RULES:
        raise ValueError(f"{action!r} is no action of the access table")
    return not actor.roles.isdisjoint(RULES[action].roles)


def require(actor: Actor, action: str) -> None:
    """Return when the actor may; raise AccessDenied, naming the rule and the roles that could, when not.

    Raises ValueError for an action that is not in the table: an unknown action is a mistake, not a permission.
    """
    if may(actor, action):
        return
    rule = RULES[action]
    held = ", ".join(sorted(actor.roles)) or "no role"
    people = [role for role in rule.roles if role in PERSONAL_ROLES]
    raise AccessDenied(
        f"{actor.name} ({held}) may not {rule.meaning}: {action} needs the role {' or '.join(rule.roles)}",
        f"ask somebody who is {' or '.join(people)}, or ask an administrator for the role "
        "(`scoretrace user roles NAME --role ROLE`)",
    )


def markdown() -> str:
    """The table as Markdown, for the README."""
    lines = [
        f"| action | {' | '.join(role.replace('_', ' ') for role in ROLES)} | what it is |",
        f"|---|{':-:|' * len(ROLES)}---|",
    ]
    for rule in RULES.values():
        marks = " | ".join("●" if role in rule.roles else "" for role in ROLES)
        lines.append(f"| `{rule.action}` | {marks} | {rule.meaning} |")
    return "\n".join(lines)
