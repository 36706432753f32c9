"""The commands of ``scoretrace models``: the inventory, comparisons of versions, validation reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from sqlalchemy import Engine

from app.console import JsonFlag, actor, out, plain, print_json, print_table
from app.sign_in import As, PasswordFile, signed_in
from pipeline.config import Settings
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.comparison.facts import Comparison
    from pipeline.governance.inventory_log import Listed
    from pipeline.portfolio import Portfolio

models = typer.Typer(
    no_args_is_help=True, help="The model inventory: what each is for, who answers, when it is reviewed."
)

Name = Annotated[str, typer.Argument(help="Model name.")]
Lines = list[str] | None


@models.command("list")
def list_models(as_json: JsonFlag = False) -> None:
    """Every model with owner, exposure, risk, tier, version in force, and when its review is due."""
    from pipeline.governance.inventory_log import listed

    home = _home()
    found, aliases = listed(*home), _aliases(home[0])
    if as_json:
        print_json([_facts(m, aliases) for m in found])
        return
    today = datetime.now(UTC).date()
    print_table(
        ("model", "owner", "exposure", "inherent risk", "tier", "in force", "review due", "owed"),
        [
            (
                m.name,
                m.entry.owner or "–",
                _exposure(m),
                m.entry.inherent_risk or "–",
                m.spec.materiality,
                (f"v{m.in_force.version}" if m.in_force else "–") + ("" if _at(m, aliases) is None else " ▲ alias"),
                ("▲ " if m.review.overdue(today) else "") + (str(m.review.due) if m.review.due else "–"),
                ", ".join(o.trigger for o in m.owed) or "–",
            )
            for m in found
        ],
    )
    for m in found:
        if said := _at(m, aliases):
            out.print(plain(f"▲ {m.name}: {said}"))


@models.command()
def show(name: Name, as_json: JsonFlag = False) -> None:
    """One model: purpose, use, limits, data, assumptions, triggers, and why its review is due then."""
    from pipeline.governance.inventory_log import one

    home = _home()
    found, aliases = one(*home, name), _aliases(home[0])
    if as_json:
        print_json(_facts(found, aliases))
        return
    _print(found)
    if said := _at(found, aliases):
        out.print(plain(f"▲ {said}"))


@models.command()
def edit(
    name: Name,
    reason: Annotated[str, typer.Option(help="Why; kept for ever.")] = "",
    purpose: Annotated[str | None, typer.Option(help="What it is for.")] = None,
    intended_use: Annotated[str | None, typer.Option(help="Which decisions take it.")] = None,
    owner: Annotated[str | None, typer.Option(help="Who answers for it.")] = None,
    inherent_risk: Annotated[str | None, typer.Option(help="high, medium or low, whatever is done about it.")] = None,
    inherent_risk_reason: Annotated[str | None, typer.Option(help="Why that much.")] = None,
    limits: Annotated[Lines, typer.Option("--limits", help="A limit; repeat for all of them.")] = None,
    data: Annotated[Lines, typer.Option("--data", help="A source of data; repeat for all of them.")] = None,
    assumptions: Annotated[Lines, typer.Option("--assumptions", help="An assumption; repeat for all.")] = None,
    reviewed: Annotated[
        bool, typer.Option("--reviewed", help="A review took place; --reason says what it found.")
    ] = False,
    fired: Annotated[str | None, typer.Option(help="This trigger fired; --reason says why.")] = None,
    responded: Annotated[str | None, typer.Option(help="The response to this trigger was given: --reason.")] = None,
    sign_in_as: As = None,
    password_file: PasswordFile = None,
) -> None:
    """Change fields of a model's entry, or record a review, a trigger that fired, a response; one at a time."""
    from pipeline.governance import inventory_edits as edits
    from pipeline.governance.inventory_log import one

    settings, engine, portfolio = _home()
    given = {
        "purpose": purpose, "intended_use": intended_use, "owner": owner, "inherent_risk": inherent_risk,
        "inherent_risk_reason": inherent_risk_reason, "limits": limits, "data": data, "assumptions": assumptions,
    }  # fmt: skip
    changes = {key: value for key, value in given.items() if value not in (None, [])}
    if sum((bool(changes), reviewed, fired is not None, responded is not None)) != 1:
        raise ConfigError(
            "an edit is one thing at a time",
            "give fields (--owner, --purpose, --limits …), or one of --reviewed, --fired and --responded",
        )
    by = signed_in(settings, engine, sign_in_as, password_file)
    if changes:
        edits.edit(engine, portfolio, by, name, changes, reason)
    elif reviewed:
        edits.reviewed(engine, portfolio, by, name, reason)
    elif fired is not None:
        edits.fire(engine, portfolio, by, name, fired, reason)
    else:
        edits.respond(engine, portfolio, by, name, str(responded), reason)
    _print(one(settings, engine, portfolio, name))


@models.command()
def compare(
    name: Name,
    champion: Annotated[int, typer.Argument(help="Version of the champion.")],
    challenger: Annotated[int, typer.Argument(help="Version of the challenger.")],
    ids: Annotated[bool, typer.Option("--ids", help="Name the largest movers; needs personal_data.read.")] = False,
    sign_in_as: As = None,
    password_file: PasswordFile = None,
    as_json: JsonFlag = False,
) -> None:
    """Two versions on the same held-out rows, as measured when the challenger was trained."""
    from pipeline.comparison import access, store

    settings, engine, portfolio = _home()
    portfolio.model(name)
    kept, found = store.between(settings, engine, name, champion, challenger)
    if ids:
        by = signed_in(settings, engine, sign_in_as, password_file) if sign_in_as else actor()
        found = access.with_ids(engine, by, kept, found)
    else:
        found = access.without_ids(found)
    if as_json:
        print_json(found.document() | {"sha256": kept.sha256})
    else:
        _print_comparison(found, kept.sha256)


@models.command()
def report(
    name: Name,
    version: Annotated[int, typer.Argument(help="Model version.")],
    to: Annotated[Path, typer.Option("--out", help="The HTML file to write; it must not be there yet.")],
    as_json: JsonFlag = False,
) -> None:
    """The validation report of a version: one HTML page made from the records alone.

    Ends with 1 when they are not whole: the model's bytes changed, a recipe or a comparison is lost.
    """
    from pipeline.governance.validation import export
    from pipeline.governance.validation.facts import gather
    from pipeline.registry import Registry

    settings, engine, portfolio = _home()
    facts = gather(settings, engine, Registry(settings), portfolio, name, version, datetime.now(UTC))
    written = export.write(engine, facts, to, actor())
    if as_json:
        print_json(vars(written))
    else:
        out.print(plain(f"{to}: {written.bytes:,} bytes, SHA-256 {written.sha256}"))
        for fault in written.faults:
            out.print(plain(f"✕ {fault}"))
        if written.faults:
            out.print("the records of this version are not whole, and the report says so; do not file it as validated")
    if written.faults:
        raise typer.Exit(1)


def _home() -> tuple[Settings, Engine, Portfolio]:
    from pipeline import ledger
    from pipeline.home import open_home

    settings = Settings.load()
    portfolio, _ = open_home(settings)
    return settings, ledger.open_ledger(settings), portfolio


def _aliases(settings: Settings) -> Callable[[str], int | None]:
    from pipeline.registry import Registry

    return Registry(settings).production_version


def _at(m: Listed, aliases: Callable[[str], int | None]) -> str | None:
    """What is wrong with where the registry's production alias stands; None where it stands as signed."""
    alias, signed = aliases(m.name), m.in_force.version if m.in_force else None
    if alias == signed:
        return None
    stands = "is not set" if alias is None else f"is at version {alias}"
    approved = "no signed promotion is in force" if signed is None else f"the signed promotion is of version {signed}"
    return f"the production alias {stands}, and {approved}: scoring refuses; `scoretrace promotions finish`"


def _facts(m: Listed, aliases: Callable[[str], int | None]) -> dict[str, Any]:
    exposure = m.exposure
    return {
        "model": m.name,
        "subject": m.spec.subject,
        **asdict(m.entry),
        "triggers": [asdict(t) | {"matching": dict(t.matching)} for t in m.entry.triggers],
        "gaps": list(m.entry.gaps),
        "exposure": None
        if exposure is None
        else asdict(exposure) | {"amount": str(exposure.amount) if exposure.amount is not None else None},
        "materiality_tier": m.spec.materiality,
        "in_force": {"promotion": m.in_force.id, "version": m.in_force.version} if m.in_force else None,
        "production_alias": aliases(m.name),
        "alias_differs": _at(m, aliases),
        "review": asdict(m.review) | {"why": m.review.why},
        "responses_owed": [asdict(o) for o in m.owed],
        "shared_data": {k: list(v) for k, v in m.shared_data.items()},
        "shared_assumptions": {k: list(v) for k, v in m.shared_assumptions.items()},
        "edits": [asdict(e) for e in m.standing.edits.values()],
        "reviews": [asdict(r) for r in m.standing.reviews],
        "fired": [asdict(f) for f in m.standing.fired],
    }


def _exposure(m: Listed) -> str:
    if m.exposure is None:
        return "–"
    amount = f"{m.exposure.currency} {m.exposure.amount:,.0f}, " if m.exposure.amount is not None else ""
    return f"{amount}{m.exposure.subjects:,} {m.spec.subject}s"


def _print(m: Listed) -> None:
    e, today = m.entry, datetime.now(UTC).date()
    out.print(plain(f"{m.name}: {e.purpose or 'no purpose stated'}"))
    facts = {
        "intended use": e.intended_use,
        "owner": e.owner,
        "exposure": _exposure(m) + (f" ({m.exposure.what}, {m.exposure.as_of})" if m.exposure else ""),
        "inherent risk": f"{e.inherent_risk}: {e.inherent_risk_reason}" if e.inherent_risk else "",
        "materiality tier": m.spec.materiality,
        "in force": f"version {m.in_force.version}, {m.in_force.id}" if m.in_force else "",
        "last review": str(m.review.last or ""),
        "review due": f"{m.review.due or ''}{' ▲ overdue' if m.review.overdue(today) else ''}: {m.review.why}",
    }
    for key, value in facts.items():
        out.print(plain(f"{key:17} {value or '–'}"))
    for cause in m.review.causes[1:]:
        out.print(plain(f"{'':17} also {cause.due}: {cause.why}"))
    for title, statements, shared in (
        ("limits", e.limits, {}),
        ("data", e.data, m.shared_data),
        ("assumptions", e.assumptions, m.shared_assumptions),
    ):
        for i, statement in enumerate(statements):
            also = f" (shared with {', '.join(shared[statement])})" if statement in shared else ""
            out.print(plain(f"{title if not i else '':17} · {statement}{also}"))
    for trigger in e.triggers:
        out.print(plain(f"trigger           · {trigger.name}: {trigger.when}"))
        out.print(plain(f"{'':19} owed within {trigger.within_days} days by {trigger.owner}: {trigger.response}"))
    for owed in m.owed:
        out.print(plain(f"▲ owed by {owed.owner} until {owed.due}, “{owed.trigger}”: {owed.response} ({owed.why})"))
    for changed in m.standing.edits.values():
        out.print(
            plain(f"edited            · {changed.field} by {changed.by}, {changed.at:%Y-%m-%d}: {changed.reason}")
        )
    if e.gaps:
        out.print(plain(f"◌ nothing stated yet: {', '.join(e.gaps)}"))


def _print_comparison(c: Comparison, sha256: str) -> None:
    from pipeline.comparison import words

    for line in words.summary(c):
        out.print(plain(line))
    print_table(words.SIDES, [words.side(of) for of in (c.champion, c.challenger) if of is not None])
    if c.migration is not None:
        out.print(f"\ngrades: champion's down, challenger's across, {c.migration.rows:,} rows")
        print_table(
            ("", *c.migration.grades),
            [
                (grade, *(f"{n:,}" if n else "·" for n in line))
                for grade, line in zip(c.migration.grades, c.migration.counts, strict=True)
            ],
        )
    if c.movers:
        out.print("\nlargest movers, in log-odds")
    for m in c.movers:
        who = f"{m.subject}, {m.as_of}" if m.subject else m.as_of
        why = "; ".join(f"{r.feature} {r.difference:+.3f}" for r in m.reasons)
        out.print(
            plain(
                f"{m.difference:+.3f}  {m.champion_grade} {m.champion_pd:.2%} → {m.challenger_grade} "
                f"{m.challenger_pd:.2%}  ({who}): {why}; base {m.base:+.3f}, others {m.others:+.3f}"
            )
        )
    for impact in c.fairness.impacts:
        out.print(plain(f"\n{impact.attribute}, {impact.model}, against {impact.reference or 'nobody'}"))
        print_table(
            ("group", "rows", "events", "approved", "AIR", "", "SMD"),
            [
                (
                    g.group,
                    f"{g.rows:,}",
                    f"{g.events:,}",
                    f"{g.rate:.1%}" if g.rate is not None else "–",
                    f"{g.air:.3f}" if g.air is not None else "–",
                    "too small" if g.group in impact.too_small else {True: "✓", False: "✕", None: ""}[g.passes],
                    f"{g.smd:+.3f}" if g.smd is not None else "–",
                )
                for g in impact.groups
            ],
        )
    out.print(f"\ncomparison {sha256}, made by training set {c.training_set[:12]}")
