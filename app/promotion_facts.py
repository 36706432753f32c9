"""Promotions as fragments of a page: the inbox, the evidence, the review, the signatures. Pure; no Streamlit."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any
from zoneinfo import ZoneInfo

from app import formats, markup
from app.inbox import Waiting
from app.markup import Cell, Column, Html, Table
from app.promotion_reads import Evidence
from pipeline.governance import promotion_rules as rules
from pipeline.governance.manifest import Compared
from pipeline.governance.promotion_state import Book, Finding, Promotion

LEVEL = {"open": "none", "ready": "watch", "promoted": "ok", "expired": "stop", "rejected": "stop", "withdrawn": "none"}
STATES = {
    "open": "Under review",
    "ready": "Complete, not yet in effect",
    "promoted": "Took effect",
    "expired": "Expired",
    "rejected": "Rejected",
    "withdrawn": "Withdrawn",
}


def named(p: Promotion) -> str:
    """``pd_default version 2``."""
    return f"{p.model} version {p.version}"


def standing(book: Book, p: Promotion, now: datetime, disabled: frozenset[str]) -> Html:
    """One status: in force, superseded, or what it waits for."""
    status = rules.status(p, now, disabled)
    held = book.in_force.get(p.model)
    if status == "promoted":
        return (
            markup.status("ok", "in force")
            if held and held.promotion == p.id
            else markup.status("none", "was in force, superseded")
        )
    if status == "ready" and (frozen := book.freeze_on(p.model)):
        return markup.status("watch", f"complete, but changes are frozen by {frozen[0]}")
    if status == "open":
        blocked = " · a finding blocks it" if p.blocking else ""
        have = len(rules.counted(p, now, disabled))
        return markup.status("watch" if p.blocking else "none", f"{have} of {p.policy.quorum} signatures{blocked}")
    return markup.status(LEVEL[status], STATES[status].lower())


def words(p: Promotion) -> str:
    """What of a promotion is looked through for words."""
    people = (p.requester, p.trainer, *(s.signer for s in p.signatures))
    return " ".join([p.id, p.model, f"version {p.version}", p.reason, *people])


def waiting_table(items: Sequence[Waiting], zone: ZoneInfo, today: date) -> Table:
    columns = [Column("promotion"), Column("what"), Column("waits for"), Column("since"), Column("due"),
               Column("reason", "wrap fill")]  # fmt: skip
    rows: list[list[Cell]] = [
        [w.promotion.id, named(w.promotion), w.what, markup.at(w.since, zone), _due(w.due, today), w.promotion.reason]
        for w in items
    ]
    return markup.table(columns, rows, "What waits for you")


def promotion_rows(found: Sequence[Promotion], now: datetime, gone: frozenset[str]) -> Iterator[dict[str, object]]:
    """Requests as rows of a file, in the order given, with who signed each and how it stands."""
    for p in found:
        yield {
            "promotion": p.id,
            "model": p.model,
            "version": p.version,
            "replaces": p.replaces,
            "standing": STATES[rules.status(p, now, gone)],
            "requested_by": p.requester,
            "requested_at": p.requested_at,
            "reason": p.reason,
            "trained_by": p.trainer,
            "signed_by": [s.signer for s in p.signatures],
            "in_force_since": p.promoted_at,
            "findings_open": sum(f.open for f in p.findings),
            "findings": len(p.findings),
            "manifest_sha256": p.manifest_sha256,
        }


ORDERS: Mapping[str, Callable[[Promotion], Any]] = {
    "promotion": lambda p: p.id,
    "what": lambda p: (p.model, p.version),
    "requester": lambda p: p.requester,
    "requested": lambda p: p.requested_at,
    "findings": lambda p: sum(f.open for f in p.findings),
}


def promotion_table(book: Book, found: Sequence[Promotion], zone: ZoneInfo, now: datetime, gone: frozenset[str],
                    caption: str, order: str | None = None) -> Table:  # fmt: skip
    columns = [Column("promotion", order="promotion"), Column("what", order="what"), Column("standing"),
               Column("requested by", order="requester"), Column("on", order="-requested"),
               Column("open findings", "number", order="-findings"), Column("reason", "wrap fill")]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            p.id,
            named(p),
            standing(book, p, now, gone),
            p.requester,
            markup.at(p.requested_at, zone),
            formats.count(sum(f.open for f in p.findings)),
            p.reason,
        ]
        for p in found
    ]
    return markup.table(columns, rows, caption, order=order)


def figures(p: Promotion, e: Evidence, zone: ZoneInfo, now: datetime, disabled: frozenset[str]) -> Html:
    """The decision's facts in one line."""
    same = sum(c.same for c in e.hashes)
    passed = sum(bool(c["passed"]) for c in e.checks)
    whole = not e.changed and not e.faults
    open_ = [f for f in p.findings if f.open]
    answered = sum(q.answer is not None for q in p.questions)
    expires = rules.expires_at(p)
    return markup.facts(
        [
            (
                "evidence",
                markup.status("ok" if whole else "stop", f"{same} of {len(e.hashes)}"),
                "hashes match the records" if whole else "not what was requested",
            ),
            (
                "gates",
                markup.status("ok" if e.checks and passed == len(e.checks) else "stop", f"{passed} of {len(e.checks)}"),
                "passed in training",
            ),
            ("AUC", _auc(e), _auc_note(e)),
            ("open findings", formats.count(len(open_)), f"{sum(f.blocking for f in open_)} blocking"),
            ("questions", formats.count(len(p.questions)), f"{answered} answered"),
            ("signatures", f"{len(rules.counted(p, now, disabled))} of {p.policy.quorum}",
             f"of {' or '.join(p.policy.roles)}"),
            ("valid", formats.day(expires.astimezone(zone).date()) if expires else f"{p.policy.approval_days} days",
             "until" if expires else "from taking effect"),
        ]
    )  # fmt: skip


def _auc(e: Evidence) -> str:
    return f"{e.metrics['auc']:.4f}" if "auc" in e.metrics else formats.MISSING


def _auc_note(e: Evidence) -> str:
    d = e.comparison.difference if e.comparison else None
    return f"{formats.signed(d.auc, 4)} against the champion" if d else "on held-out rows"


def request(p: Promotion, zone: ZoneInfo, trainer_unknown: str | None = None) -> Table:
    """Who asked, for what reason, under which policy. trainer_unknown: what to know of a trainer who is no user."""
    replaced = f"version {p.replaces}" if p.replaces else "nothing: no version was in force"
    policy = (
        f"{p.policy.quorum} of {' or '.join(p.policy.roles)}; a signature counts {p.policy.signature_days} days"
        + (f"; {p.policy.waiting_hours} hours of waiting" if p.policy.waiting_hours else "")
        + ("; effective challenge" if p.policy.challenge else "")
        + ("; an approval elsewhere" if p.policy.external_reference else "")
    )
    rows: list[list[Cell]] = [
        ["requested", markup.join([f"by {p.requester}, ", markup.at(p.requested_at, zone)], "")],
        ["because", p.reason],
        ["replaces", replaced],
        ["trained by", _trainer(p, trainer_unknown)],
        ["policy", policy],
        ["manifest", markup.digest(p.manifest_sha256)],
    ]
    if p.external_reference:
        rows.append(["approved elsewhere", f"{p.external_reference}, recorded by {p.external_by or p.requester}"])
    if p.conditions.ends or p.conditions.max_subjects:
        rows.append(["conditions", f"{conditions(p)}; set by {p.conditions.set_by}"])
    return markup.table([Column(""), Column("", "wrap fill")], rows, "The request")


def _trainer(p: Promotion, unknown: str | None) -> Cell:
    return markup.join([markup.status("watch", p.trainer), markup.quiet(unknown)], " ") if unknown else p.trainer


def conditions(p: Promotion) -> str:
    said = []
    if p.conditions.ends:
        said.append(f"scores up to and including {formats.day(date.fromisoformat(p.conditions.ends))}")
    if p.conditions.max_subjects:
        said.append(f"at most {formats.count(p.conditions.max_subjects)} subjects a night")
    return "; ".join(said) or "none"


def evidence_table(hashes: Sequence[Compared]) -> Table:
    rows: list[list[Cell]] = [[c.what, markup.digest(c.sha256), _records(c)] for c in hashes]
    return markup.table(
        [Column("what"), Column("SHA-256"), Column("the records today", "fill")], rows, "Hashes of the manifest"
    )


def _records(c: Compared) -> Html:
    if c.same:
        return markup.status("ok", "the same") if c.sha256 else markup.status("none", "none, then as now")
    return (
        markup.status("watch", "has changed since, and may")
        if c.moved_on
        else markup.status("stop", "not the same: it cannot be signed")
    )


def gate_table(checks: Sequence[Mapping[str, Any]]) -> Table:
    columns = [Column("check"), Column("observed", "number"), Column("bound", "wrap fill"), Column("verdict")]
    rows: list[list[Cell]] = [
        [
            str(c["check"]),
            # A bound on a difference is met by one, and reads as one.
            (formats.signed if str(c["bound"]).startswith("difference") else formats.decimal)(c["observed"], 4),
            formats.sentence(str(c["bound"])),
            markup.status("ok", "passed") if c["passed"] else markup.status("stop", "failed"),
        ]
        for c in checks
    ]
    return markup.table(columns, rows, "Gate of the training run")


def finding_table(findings: Sequence[Finding], zone: ZoneInfo, today: date) -> Table:
    columns = [Column("finding"), Column("standing"), Column("owner"), Column("due"),
               Column("what is wrong", "wrap fill"), Column("raised")]  # fmt: skip
    rows: list[list[Cell]] = [
        [
            f.id,
            _finding(f),
            f.owner,
            _due(date.fromisoformat(f.due), today) if f.open else formats.day(date.fromisoformat(f.due)),
            f.text
            if f.open
            else markup.join([f.text, markup.quiet(f"closed by {f.closed_by}: {f.closing_note}")], "<br>"),
            markup.join([f"{f.raised_by}, ", markup.at(f.raised_at, zone)], ""),
        ]
        for f in findings
    ]
    return markup.table(columns, rows, "Findings")


Raised = tuple[Promotion, Finding]
FINDING_ORDERS: Mapping[str, Callable[[Raised], Any]] = {
    "promotion": lambda raised: raised[0].id,
    "standing": lambda raised: (raised[1] in raised[0].owed, raised[1].blocking),
    "owner": lambda raised: raised[1].owner,
    "due": lambda raised: raised[1].due,
}


def register_table(raised: Sequence[Raised], zone: ZoneInfo, today: date, order: str) -> Table:
    """Findings of every promotion, in the order given."""
    columns = [
        Column("promotion", order="promotion"),
        Column("of"),
        Column("finding"),
        Column("standing", order="-standing"),
        Column("owner", order="owner"),
        Column("due", order="due"),
        Column("what is wrong", "wrap fill"),
    ]
    rows: list[list[Cell]] = [
        [
            p.id,
            named(p),
            f.id,
            _finding(f) if f in p.owed or not f.open else markup.status("none", "ended with its promotion"),
            f.owner,
            _due(date.fromisoformat(f.due), today) if f in p.owed else formats.day(date.fromisoformat(f.due)),
            f.text,
        ]
        for p, f in raised
    ]
    return markup.table(columns, rows, "Findings of every promotion", order=order)


def register_rows(raised: Sequence[Raised]) -> Iterator[dict[str, object]]:
    """Findings as rows of a file, with who raised and who closed each."""
    for p, f in raised:
        yield {"promotion": p.id, "model": p.model, "version": p.version, **vars(f), "open": f in p.owed}


def finding_words(raised: Raised) -> str:
    """What of a finding is looked through for words."""
    p, f = raised
    return f"{p.id} {p.model} {f.id} {f.text} {f.owner} {f.raised_by} {f.closing_note}"


def _finding(f: Finding) -> Html:
    if not f.open:
        return markup.status("ok", "closed")
    return markup.status("stop", "blocks") if f.blocking else markup.status("watch", "open")


def dialogue(p: Promotion, zone: ZoneInfo) -> Html:
    """Questions with their answers, then effective challenge."""
    parts = []
    for q in p.questions:
        asked = markup.join([f"{q.id} {q.asked_by}, ", markup.at(q.asked_at, zone)], "")
        told: Cell = (
            markup.join([f"{q.answer}", markup.quiet(f"{q.answered_by}")], "<br>")
            if q.answer is not None
            else markup.status("none", "no answer yet")
        )
        parts.append(f"<dt>{asked}</dt><dd class='asked'>{markup.html(q.text)}</dd><dd>{markup.html(told)}</dd>")
    for c in p.challenges:
        head = markup.join([f"Effective challenge by {c.by}, ", markup.at(c.at, zone)], "")
        said = markup.join([f"Expertise: {c.expertise}", f"independence: {c.independence}", f"changed: {c.changed}"])
        parts.append(f"<dt>{head}</dt><dd>{said}</dd>")
    return Html(f"<dl class='dialogue'>{''.join(parts)}</dl>")


def signature_table(p: Promotion, e: Evidence, zone: ZoneInfo, counted: frozenset[str], lacks: Sequence[str]) -> Html:
    """Who signed what and whether it stands; then what is missing."""
    columns = [Column("signed by"), Column("when"), Column("says", "wrap fill")]
    rows: list[list[Cell]] = []
    for s in p.signatures:
        stands = (
            markup.status("stop", "not genuine")
            if s.signer not in e.genuine
            else markup.status("ok", "genuine")
            if s.signer in counted
            else markup.status("watch", "does not count any more")
        )
        said = markup.join([f"“{s.meaning}” ", markup.quiet(s.reason)], "")
        rows.append([markup.join([s.signer, stands], "<br>"), markup.at(s.at, zone), said])
    table = markup.table(columns, rows, "Signatures") if rows else Html("")
    missing = "".join(f"<p class='lacks'>{markup.status('none', line)}</p>" for line in lacks)
    return Html(f"{table}{missing}")


def _due(day: date | None, today: date) -> Cell:
    if day is None:
        return formats.MISSING
    text = formats.day(day)
    if day < today:
        return markup.status("stop", f"{text}, overdue")
    return markup.status("watch", text) if (day - today).days <= 7 else text
