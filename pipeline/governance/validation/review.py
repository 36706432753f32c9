"""The sections of the report that come from people: inventory, monitoring, review, signatures, audit records."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pipeline.governance.promotion_state import Finding, Promotion
from pipeline.governance.validation.facts import ValidationFacts
from pipeline.governance.validation.markup import Markup, bullets, code, join, pairs, paragraph, table, tag


def inventory(f: ValidationFacts) -> Markup:
    m, e = f.listed, f.listed.entry
    exposure = "no night is published yet"
    if m.exposure is not None:
        amount = f"{m.exposure.currency} {m.exposure.amount:,.2f}" if m.exposure.amount is not None else "no amount"
        exposure = f"{amount} and {m.exposure.subjects:,} {m.spec.subject}s on {m.exposure.as_of} ({m.exposure.what})"
    review = f"{m.review.due or '–'}: {m.review.why}"
    parts = [
        pairs(
            [
                ("purpose", e.purpose or "not stated"),
                ("exposure", exposure),
                ("inherent risk", f"{e.inherent_risk or 'not stated'}. {e.inherent_risk_reason}"),
                ("materiality tier", m.spec.materiality),
                ("owner", e.owner or "not stated"),
                ("last approval or review", str(m.review.last or "none on record")),
                ("next review", review),
                *(("", f"also {cause.due}: {cause.why}") for cause in m.review.causes[1:]),
            ]
        )
    ]
    if e.gaps:
        parts.append(paragraph(f"▲ Nothing is stated yet of: {', '.join(e.gaps).replace('_', ' ')}.", kind="watch"))
    if m.standing.edits:
        parts.append(tag("h3", "Edited since the portfolio declared it"))
        parts.append(
            table(
                ("field", "by", "on", "why"),
                [(x.field, x.by, f"{x.at:%Y-%m-%d %H:%M}", x.reason) for x in m.standing.edits.values()],
            )
        )
    return join(parts)


def monitoring(f: ValidationFacts) -> Markup:
    e, shared = f.listed.entry, f.listed.shared_assumptions
    assumptions = [f"{s} (shared with {', '.join(shared[s])})" if s in shared else s for s in e.assumptions]
    return join(
        (
            tag("h3", "Intended use"),
            paragraph(e.intended_use or "Not stated."),
            tag("h3", "Limits"),
            bullets(e.limits),
            tag("h3", "Assumptions"),
            bullets(assumptions),
            tag("h3", "Monitoring triggers, and the response owed to each"),
            table(
                ("trigger", "fires when", "response owed", "by", "within"),
                [(t.name, t.when, t.response, t.owner, f"{t.within_days} days") for t in e.triggers],
            ),
            tag("h3", "Triggers that fired"),
            table(
                ("trigger", "on", "why", "response"),
                [
                    (
                        x.trigger,
                        f"{x.at:%Y-%m-%d}",
                        x.why,
                        tag("span", "▲ owed", kind="badge watch")
                        if x.responded_at is None
                        else f"{x.responded_by}, {x.responded_at:%Y-%m-%d}: {x.response}",
                    )
                    for x in f.listed.standing.fired
                ],
            ),
        )
    )


def findings(f: ValidationFacts) -> Markup:
    return _by_promotion(f, _reviewed)


def _reviewed(f: ValidationFacts, p: Promotion) -> Markup:
    conditions = [
        text
        for text in (
            f"scores up to and including {p.conditions.ends}" if p.conditions.ends else "",
            f"at most {p.conditions.max_subjects:,} subjects a night" if p.conditions.max_subjects else "",
        )
        if text
    ]
    rows: list[tuple[Any, Any]] = [
        ("status", f.status[p.id] + (f"; missing: {'; '.join(f.missing[p.id])}" if f.missing[p.id] else "")),
        ("requested", f"by {p.requester} on {p.requested_at:%Y-%m-%d %H:%M} UTC: {p.reason}"),
        ("replaces", f"version {p.replaces}" if p.replaces else "nothing: the first version in force"),
        ("conditions", f"{'; '.join(conditions)} (set by {p.conditions.set_by})" if conditions else "none"),
        (
            "approval elsewhere",
            f"{p.external_reference}, recorded by {p.external_by}"
            if p.external_reference
            else ("required by policy, none on record" if p.policy.external_reference else "not asked for by policy"),
        ),
    ]
    for what, ended in (("rejected", p.rejected), ("withdrawn", p.withdrawn)):
        if ended:
            rows.append((what, f"by {ended[0]} on {ended[1]:%Y-%m-%d %H:%M} UTC: {ended[2]}"))
    return join(
        (
            pairs(rows),
            tag("h3", "Findings"),
            table(
                ("id", "finding", "raised by", "owner, due", "standing"),
                [
                    (
                        x.id,
                        x.text,
                        f"{x.raised_by}, {x.raised_at:%Y-%m-%d}",
                        f"{x.owner}, {x.due}",
                        tag("span", "✕ open, blocks" if x.blocking else "▲ open", kind=f"badge {_colour(x)}")
                        if x.open
                        else f"✓ closed by {x.closed_by}: {x.closing_note}",
                    )
                    for x in p.findings
                ],
            ),
            tag("h3", "Questions and answers"),
            table(
                ("id", "question", "asked by", "answer"),
                [
                    (q.id, q.text, q.asked_by, f"{q.answer} ({q.answered_by})" if q.answer else "not answered yet")
                    for q in p.questions
                ],
            ),
            tag("h3", "Effective challenge"),
            table(
                ("by", "expertise", "independence", "what changed"),
                [(c.by, c.expertise, c.independence, c.changed) for c in p.challenges],
            ),
        )
    )


def _colour(finding: Finding) -> str:
    return "stop" if finding.blocking else "watch"


def signatures(f: ValidationFacts) -> Markup:
    return _by_promotion(f, _signed)


def _signed(f: ValidationFacts, p: Promotion) -> Markup:
    policy = p.policy
    people = f"{policy.quorum} different people" if policy.quorum > 1 else "one person"
    asked = (
        f"Policy: {people} in the role {' or '.join(policy.roles)}, neither {p.trainer}, who trained it, nor "
        f"{p.requester}, who requested it. A signature counts for {policy.signature_days} days, the approval for "
        f"{policy.approval_days}."
    )
    effect = f"Took effect on {p.promoted_at:%Y-%m-%d %H:%M} UTC." if p.promoted_at else "It has not taken effect."
    return join(
        (
            paragraph(f"{asked} {effect}"),
            table(
                ("signed by", "as", "at (UTC)", "meaning", "reason", "key", "envelope"),
                [
                    (
                        s.signer,
                        ", ".join(s.roles),
                        f"{s.at:%Y-%m-%d %H:%M:%S}",
                        f"“{s.meaning}”",
                        s.reason,
                        code(_key(s.envelope)),
                        tag("span", "✓ genuine", kind="badge ok")
                        if s.signer in f.genuine[p.id]
                        else tag("span", "✕ not genuine", kind="badge stop"),
                    )
                    for s in p.signatures
                ],
            ),
        )
    )


def _key(envelope: Any) -> str:
    signatures = envelope.get("signatures") or [{}]
    return str(signatures[0].get("keyid", ""))[:12]


def records(f: ValidationFacts) -> Markup:
    kept = "There is no checkpoint to compare with."
    if f.checkpoint is not None:
        at = datetime.fromisoformat(f.checkpoint.at)
        kept = f"The checkpoint of {at:%Y-%m-%d %H:%M} UTC agrees at record {f.checkpoint.seq:,}."
    said = (
        tag("span", f"✓ {f.verdict.records:,} records verify, none changed, missing or moved. {kept}", kind="ok")
        if f.verdict.ok
        else tag("span", f"✕ record {f.verdict.first_bad}: {f.verdict.reason}.", kind="stop")
    )
    return join(
        (
            paragraph(said, " Head of the chain: ", code(f.verdict.head)),
            table(
                ("record", "at (UTC)", "by", "action", "about", "SHA-256"),
                [
                    (f"{r.seq:,}", r.at[:19].replace("T", " "), r.actor, r.action, r.subject, code(r.sha256))
                    for r in f.records
                ],
                figures=(0,),
                kind="log",
            ),
        )
    )


def _by_promotion(f: ValidationFacts, part: Any) -> Markup:
    if not f.promotions:
        return paragraph("No promotion of this version was requested.", kind="note")
    if len(f.promotions) == 1:
        return join((part(f, f.promotions[0]),))
    return join(x for p in f.promotions for x in (tag("h3", "Promotion ", p.id), part(f, p)))
