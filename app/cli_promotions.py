"""The commands of ``scoretrace promotions``: from the request to the signature that lets a version score."""

from __future__ import annotations

from datetime import date, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from app.console import DAY, JsonFlag, out, plain, print_json, print_table
from app.sign_in import As, PasswordFile, signed_in
from pipeline.config import Settings
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from pipeline.governance.access import Actor
    from pipeline.governance.approvals import Approvals
    from pipeline.governance.promotion_state import Promotion, Signature

promotions = typer.Typer(no_args_is_help=True, help="Let a model version score: request, review, sign.")

Id = Annotated[str, typer.Argument(help="Id of the promotion, or MODEL/VERSION for its newest.")]
Reason = Annotated[str, typer.Option(help="Why; kept for ever.")]
APPROVES = "I approve this version for scoring"


@promotions.command()
def request(
    name: Annotated[str, typer.Argument(help="Model name.")],
    version: Annotated[int, typer.Argument(help="Model version.")],
    reason: Reason,
    external_reference: Annotated[str | None, typer.Option(help="An approval elsewhere: a change ticket.")] = None,
    sign_in_as: As = None,
    password_file: PasswordFile = None,
) -> None:
    """Ask that a registered version may score."""
    desk, actor = _desk(sign_in_as, password_file)
    found = desk.request(actor, name, version, reason, external_reference=external_reference)
    out.print(f"{found.id}: {name} version {version} requested; manifest {found.manifest_sha256[:12]}")
    out.print(f'next: scoretrace promotions sign {found.id} --as APPROVER --reason "…"')


@promotions.command("list")
def list_promotions(as_json: JsonFlag = False) -> None:
    """Every promotion, newest first, with what is missing."""
    desk = _open()
    book, now, disabled = desk.book(), desk.now(), desk.disabled()
    found = list(book.promotions.values())[::-1]
    if as_json:
        print_json([_summary(desk, p) for p in found])
        return
    from pipeline.governance import promotion_rules as rules

    held = {h.promotion for h in book.in_force.values()}
    print_table(
        ("promotion", "model", "status", "signatures", "requested by", "on", "missing"),
        [
            (
                p.id,
                f"{p.model} v{p.version}",
                ("✓ in force" if p.id in held else rules.status(p, now, disabled)),
                f"{len(rules.counted(p, now, disabled))} of {p.policy.quorum}",
                p.requester,
                f"{p.requested_at:%Y-%m-%d}",
                "" if p.closed else "; ".join(rules.missing(p, now, disabled)),
            )
            for p in found
        ],
    )
    for model, (who, why) in book.frozen.items():
        out.print(plain(f"▲ changes of {'all models' if model == '*' else model} are frozen by {who}: {why}"))


@promotions.command()
def show(id_: Id, as_json: JsonFlag = False) -> None:
    """One promotion: manifest, review, signatures, what is missing."""
    desk = _open()
    found = desk.promotion(desk.named(id_))
    if as_json:
        print_json(_summary(desk, found) | {"manifest": dict(found.manifest)})
        return
    _print(desk, found)


@promotions.command()
def review(
    id_: Id,
    finding: Annotated[str | None, typer.Option(help="Raise a finding.")] = None,
    owner: Annotated[str, typer.Option(help="Who owes the answer to the finding.")] = "",
    due: Annotated[datetime | None, typer.Option(help="By when.", **DAY)] = None,
    blocking: Annotated[bool, typer.Option(help="Nothing is promoted while it is open.")] = False,
    close: Annotated[str | None, typer.Option(help="Close this finding, with --note.")] = None,
    note: Annotated[str, typer.Option(help="What was done about the finding.")] = "",
    ask: Annotated[str | None, typer.Option(help="Ask a question.")] = None,
    answer: Annotated[str | None, typer.Option(help="Answer this question, with --note.")] = None,
    expertise: Annotated[str, typer.Option(help="Effective challenge: by whose expertise.")] = "",
    independence: Annotated[str, typer.Option(help="Effective challenge: how independent.")] = "",
    changed: Annotated[str, typer.Option(help="Effective challenge: what changed through it.")] = "",
    ends: Annotated[datetime | None, typer.Option(help="Approve up to this date only.", **DAY)] = None,
    max_subjects: Annotated[int | None, typer.Option(min=1, help="Score at most so many a night.")] = None,
    external_reference: Annotated[
        str | None, typer.Option(help="Reference of an approval elsewhere, such as a change ticket.")
    ] = None,
    sign_in_as: As = None,
    password_file: PasswordFile = None,
) -> None:
    """Review a request, one thing at a time: finding, question, answer, challenge, conditions, approval elsewhere."""
    desk, actor = _desk(sign_in_as, password_file)
    id_ = desk.named(id_)
    challenge = expertise or independence or changed
    asked = [finding, close, ask, answer, challenge or None, ends or max_subjects, external_reference]
    if sum(a is not None for a in asked) != 1:
        raise ConfigError(
            "a review is one thing at a time",
            "give one of --finding, --close, --ask, --answer, --external-reference, --expertise with --independence "
            "and --changed, or --ends and --max-subjects",
        )
    if finding is not None:
        if not owner or due is None:
            raise ConfigError("a finding has an owner and a date", "give --owner and --due too")
        found = desk.raise_finding(actor, id_, finding, owner=owner, due=due.date(), blocking=blocking)
    elif close is not None:
        found = desk.close_finding(actor, id_, close, note)
    elif ask is not None:
        found = desk.ask(actor, id_, ask)
    elif answer is not None:
        found = desk.answer(actor, id_, answer, note)
    elif external_reference is not None:
        found = desk.approve_elsewhere(actor, id_, external_reference)
    elif challenge:
        found = desk.challenge(actor, id_, expertise=expertise, independence=independence, changed=changed)
    else:
        # A limit that is not named stays: who adds the one does not lift the other.
        held = desk.promotion(id_).conditions
        last = ends.date() if ends else held.ends and date.fromisoformat(held.ends)
        found = desk.condition(actor, id_, ends=last or None, max_subjects=max_subjects or held.max_subjects)
    _print(desk, found)


@promotions.command()
def sign(
    id_: Id,
    reason: Reason,
    meaning: Annotated[str, typer.Option(help="What the signature says.")] = APPROVES,
    sign_in_as: As = None,
    password_file: PasswordFile = None,
) -> None:
    """Sign a promotion; with the last signature it lacks, it takes effect."""
    desk, actor = _desk(sign_in_as, password_file)
    id_ = desk.named(id_)
    found = desk.sign(actor, id_, meaning=meaning, reason=reason)
    # Only now: what reads like an approval is one.
    signed = f"{found.model} version {found.version}, manifest {found.manifest_sha256}"
    out.print(plain(f"signed by {actor.name}: “{meaning}”, {signed}"))
    if found.promoted_at:
        out.print(f"{found.model} version {found.version} is in force from now on")
    else:
        _print(desk, found)


@promotions.command()
def reject(id_: Id, reason: Reason, sign_in_as: As = None, password_file: PasswordFile = None) -> None:
    """Refuse a request."""
    desk, actor = _desk(sign_in_as, password_file)
    id_ = desk.named(id_)
    desk.reject(actor, id_, reason)
    out.print(f"{id_} is rejected")


@promotions.command()
def withdraw(id_: Id, reason: Reason, sign_in_as: As = None, password_file: PasswordFile = None) -> None:
    """Take a request back; of a promotion in force, end it: scoring then refuses."""
    desk, actor = _desk(sign_in_as, password_file)
    id_ = desk.named(id_)
    desk.withdraw(actor, id_, reason)
    out.print(f"{id_} is withdrawn")


@promotions.command()
def rollback(id_: Id, reason: Reason, sign_in_as: As = None, password_file: PasswordFile = None) -> None:
    """Break glass: put a formerly approved version back at once. A review is owed within five days."""
    desk, actor = _desk(sign_in_as, password_file)
    id_ = desk.named(id_)
    found = desk.rollback(actor, id_, reason)
    due = desk.book().in_force[found.model].review_due
    out.print(f"{found.model} is back at version {found.version}; a review is owed by {due}")


@promotions.command()
def freeze(
    reason: Reason,
    model: Annotated[str, typer.Option(help="Model name; all models by default.")] = "*",
    lift: Annotated[bool, typer.Option(help="Allow changes again.")] = False,
    sign_in_as: As = None,
    password_file: PasswordFile = None,
) -> None:
    """Stop changes of models: nothing takes effect until the freeze is lifted."""
    desk, actor = _desk(sign_in_as, password_file)
    if model != "*":
        desk.portfolio.model(model)
    if lift:
        for line in desk.unfreeze(actor, model, reason):
            out.print(line)
    else:
        desk.freeze(actor, model, reason)
    out.print(f"changes of {'all models' if model == '*' else model} are {'allowed' if lift else 'frozen'}")


@promotions.command()
def finish() -> None:
    """Carry out what the records have decided and a killed command left: take effect, move the alias."""
    done = _open().finish()
    for line in done:
        out.print(line)
    if not done:
        out.print("nothing is left to do")


def _open() -> Approvals:
    from pipeline import ledger
    from pipeline.governance.approvals import Approvals
    from pipeline.home import open_home
    from pipeline.registry import Registry

    settings = Settings.load()
    portfolio, _ = open_home(settings)
    return Approvals(settings, ledger.open_ledger(settings), Registry(settings), portfolio)


def _desk(name: str | None, password_file: Any) -> tuple[Approvals, Actor]:
    desk = _open()
    return desk, signed_in(desk.settings, desk.engine, name, password_file)


def _summary(desk: Approvals, p: Promotion) -> dict[str, Any]:
    from pipeline.governance import promotion_rules as rules

    now, disabled, genuine = desk.now(), desk.disabled(), _genuine(desk, p)
    return {
        "id": p.id,
        "model": p.model,
        "version": p.version,
        "model_sha256": p.digest,
        "status": rules.status(p, now, disabled),
        "requester": p.requester,
        "requested_at": p.requested_at,
        "reason": p.reason,
        "replaces": p.replaces,
        "manifest_sha256": p.manifest_sha256,
        "external_reference": p.external_reference,
        "external_by": p.external_by,
        "comparison_sha256": p.manifest.get("comparison_sha256") or None,
        "signatures": [
            {k: v for k, v in vars(s).items() if k != "envelope"} | {"genuine": s in genuine} for s in p.signatures
        ],
        "missing": [] if p.closed else list(rules.missing(p, now, disabled)),
        "findings": [vars(f) for f in p.findings],
        "questions": [vars(q) for q in p.questions],
        "challenges": [vars(c) for c in p.challenges],
        "conditions": vars(p.conditions),
        "promoted_at": p.promoted_at,
        "expires_at": rules.expires_at(p),
    }


def _print(desk: Approvals, p: Promotion) -> None:
    facts = _summary(desk, p)
    out.print(plain(f"{p.id}: {p.model} version {p.version} ({p.digest[:12]}), {facts['status']}"))
    out.print(plain(f"requested by {p.requester} on {p.requested_at:%Y-%m-%d %H:%M} UTC: {p.reason}"))
    if note := desk.trainer_unknown(p):
        out.print(plain(f"▲ trained by {p.trainer}, {note}"))
    out.print(f"manifest {p.manifest_sha256}")
    if p.external_reference:
        out.print(plain(f"approved elsewhere as {p.external_reference}, recorded by {p.external_by}"))
    for line in _compared(desk, p):
        out.print(plain(line))
    limits = [f"ends {p.conditions.ends}"] if p.conditions.ends else []
    limits += [f"at most {p.conditions.max_subjects:,} subjects"] if p.conditions.max_subjects is not None else []
    if limits:
        out.print(plain(f"▲ conditional: {', '.join(limits)}"))
    genuine = _genuine(desk, p)
    for s in p.signatures:
        mark, fault = ("✓", "") if s in genuine else ("✕", " (not genuine: the record or its envelope was changed)")
        out.print(plain(f"{mark} {s.signer}, {s.at:%Y-%m-%d %H:%M} UTC: “{s.meaning}” {s.reason}{fault}"))
    for f in p.findings:
        standing = f"closed by {f.closed_by}: {f.closing_note}" if not f.open else f"open, {f.owner}, due {f.due}"
        out.print(
            plain(f"{'✕' if f.open and f.blocking else '▲' if f.open else '✓'} finding {f.id}: {f.text} ({standing})")
        )
    for q in p.questions:
        out.print(plain(f"? {q.id} {q.asked_by}: {q.text}"))
        if q.answer:
            out.print(plain(f"  {q.answered_by}: {q.answer}"))
    for line in facts["missing"]:
        out.print(plain(f"◌ {line}"))


def _genuine(desk: Approvals, p: Promotion) -> tuple[Signature, ...]:
    """The signatures whose envelopes are whole, as scoring asks it."""
    from pipeline.governance import keys
    from pipeline.governance.signatures import genuine

    public = keys.PublicKeys(desk.settings.keys_dir)
    return tuple(s for s in p.signatures if genuine(p, s, public))


def _compared(desk: Approvals, p: Promotion) -> tuple[str, ...]:
    """Champion against challenger in brief; nothing for a request from before comparisons were kept."""
    from pipeline.comparison import store, words
    from pipeline.errors import NotFound

    sha256 = p.manifest.get("comparison_sha256")
    if not sha256:
        return ()
    try:
        return (*words.summary(store.load(desk.settings, sha256)), f"comparison {sha256}")
    except NotFound as error:
        return (f"✕ {error.message}",)
