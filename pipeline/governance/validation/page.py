"""The report as a page: its frame, its summary, and its sections in the order in which a reviewer reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pipeline.comparison import words
from pipeline.governance.promotion_state import Finding
from pipeline.governance.validation import evidence, review
from pipeline.governance.validation.facts import ValidationFacts
from pipeline.governance.validation.markup import Markup, bullets, code, join, paragraph, tag, text

_STYLE = """
@page { size: A4; margin: 18mm 16mm }
:root { --ink: #1a1f24; --note: #5f6368; --line: #d9dee3; --ok: #1b6e3c; --watch: #8a5a00; --stop: #a4262c }
* { box-sizing: border-box }
body { font: 15px/1.5 Georgia, "Times New Roman", serif; color: var(--ink); background: #fff; max-width: 60rem;
       margin: 2.5rem auto; padding: 0 1.5rem }
h1, h2, h3, th, nav, .label, header, .badge { font-family: "Helvetica Neue", Arial, sans-serif }
header { border-bottom: 2px solid var(--ink); padding-bottom: .8rem; margin-bottom: 1.2rem }
h1 { font-size: 1.75rem; line-height: 1.2; margin: .2rem 0 .3rem }
h2 { font-size: 1.15rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem }
h3 { font-size: .95rem; margin: 1.4rem 0 .3rem }
.label { color: var(--note); font-size: .75rem; letter-spacing: .05em; text-transform: uppercase }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .8rem 1.4rem }
.figures b { display: block; font: 600 1.2rem/1.3 "Helvetica Neue", Arial, sans-serif }
.figures small { color: var(--note); font-size: .78rem }
nav { margin-top: 1.2rem }
table { border-collapse: collapse; width: 100%; font-size: .84rem; line-height: 1.4; font-variant-numeric: tabular-nums;
        margin: .4rem 0 .8rem }
th { text-align: left; font-weight: 600; border-bottom: 1px solid var(--ink); padding: .2rem .6rem .2rem 0;
     vertical-align: bottom }
td { border-bottom: 1px solid #e8ecf0; padding: .25rem .6rem .25rem 0; vertical-align: top }
.day { white-space: nowrap } .n { text-align: right; padding-right: .9rem; white-space: nowrap }
.pairs th { width: 13rem; border-bottom: 1px solid #e8ecf0; font-weight: 500; color: var(--note); vertical-align: top;
            padding-top: .25rem }
.grid td, .grid th { text-align: right; padding: .25rem .6rem }
.grid td:first-child, .grid th:first-child { text-align: left; font-weight: 600 }
.stay { background: #e8ecf0 } .worse { background: #f6dcd6 } .better { background: #d8e6f3 }
code { font: .84em/1.4 ui-monospace, Menlo, Consolas, monospace; word-break: break-all }
.scroll { overflow-x: auto } .log td { font-size: .78rem } .log code { word-break: normal; overflow-wrap: anywhere }
.badge { font-size: .8rem; font-weight: 600; white-space: nowrap }
.ok { color: var(--ok) } .watch { color: var(--watch) } .stop { color: var(--stop) } .note { color: var(--note) }
nav ol { columns: 2; font-size: .84rem; padding-left: 1.4rem; margin: .4rem 0 } nav a { color: inherit }
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 1rem } figure { margin: 0 }
img { width: 100% } figcaption { font-size: .75rem; color: var(--note); overflow-wrap: anywhere }
ul { margin: .3rem 0; padding-left: 1.2rem } tr, figure { break-inside: avoid } h2, h3 { break-after: avoid }
blockquote { margin: .2rem 0 .2rem 0; padding-left: .8rem; border-left: 3px solid var(--line); white-space: pre-wrap;
             overflow-wrap: anywhere }
@media print { body { margin: 0; max-width: none; font-size: 10.5pt } nav { display: none } }
"""

Section = Callable[[ValidationFacts], Markup]
_SECTIONS: tuple[tuple[str, Section], ...] = (
    ("Inventory", review.inventory),
    ("Identity and manifest", evidence.identity),
    ("Data", evidence.data),
    ("Features", evidence.features),
    ("Performance", evidence.performance),
    ("Gate", evidence.gate),
    ("Champion against challenger", evidence.champion),
    ("Outcomes by protected group", evidence.fairness),
    ("Use, limits and monitoring", review.monitoring),
    ("Review: findings, questions, challenge, conditions", review.findings),
    ("Signatures", review.signatures),
    ("Audit records", review.records),
)


def page(f: ValidationFacts) -> str:
    """The whole report as one HTML document that asks for nothing outside of itself."""
    title = f"{f.version.name} version {f.version.version}: validation report"
    body = [
        _head(f),
        _summary(f),
        tag("nav", tag("ol", *(Markup(f'<li><a href="#s{i}">{text(t)}</a></li>') for i, (t, _) in _numbered()))),
        *(
            join((Markup(f'<section id="s{i}"><h2>{i}. {text(name)}</h2>'), section(f), Markup("</section>")))
            for i, (name, section) in _numbered()
        ),
        _limits(),
    ]
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">"
        f"<title>{text(title)}</title><style>{_STYLE}</style></head><body>{join(body)}</body></html>\n"
    )


def _numbered() -> Iterator[tuple[int, tuple[str, Section]]]:
    return enumerate(_SECTIONS, start=1)


def _head(f: ValidationFacts) -> Markup:
    return tag(
        "header",
        tag("div", "Model validation report · ", f.portfolio.title, kind="label"),
        tag("h1", f.version.name, ", version ", f.version.version),
        paragraph(
            f"Made from the records on {f.made_at:%-d %B %Y at %H:%M} UTC. Model bytes ",
            code(f.version.digest[:12]),
            f", audit log to record {f.verdict.records:,}. Structured along SR 26-2 (17 April 2026); aligned with it, "
            "not a statement of compliance.",
            kind="note",
        ),
    )


def _summary(f: ValidationFacts) -> Markup:
    m, entry = f.training["metrics"], f.listed.entry
    boxes = [
        ("standing", *_standing(f)),
        ("materiality tier", f.listed.spec.materiality, f"inherent risk {entry.inherent_risk or 'not stated'}"),
        ("AUC", f"{m['auc']:.4f}", f"{m['auc_low']:.4f} to {m['auc_high']:.4f}")
        if "auc_low" in m
        else ("AUC", "–", ""),
        (
            "observed / expected",
            f"{m['observed_over_expected']:.3f}" if "observed_over_expected" in m else "–",
            "events",
        ),
        ("open findings", str(len(_open(f))), f"{sum(1 for x in _open(f) if x.blocking)} blocking"),
    ]
    figures = tag(
        "div",
        *(tag("div", tag("span", n, kind="label"), tag("b", v), tag("small", under)) for n, v, under in boxes),
        kind="figures",
    )
    parts = [paragraph(entry.purpose or "No purpose is stated in the inventory.")]
    if f.faults:
        parts.append(paragraph("✕ The records are not whole:", kind="stop"))
        parts.append(bullets(f.faults))
    if not f.verdict.ok:
        parts.append(paragraph(f"✕ The audit log does not verify: {f.verdict.reason}.", kind="stop"))
    parts.append(figures)
    if f.comparison is not None:
        parts.append(bullets([_sentence(line) for line in words.summary(f.comparison)]))
    return join(parts)


def _sentence(line: str) -> str:
    return f"{line[:1].upper()}{line[1:]}."


def _standing(f: ValidationFacts) -> tuple[Markup, str]:
    if not f.promotions:
        return tag("span", "◌ not requested", kind="note"), "no promotion on record"
    newest = f.promotions[-1]
    counted = f"{len(f.genuine[newest.id])} of {newest.policy.quorum} signatures"
    if f.held is not None:
        return tag("span", "✓ in force", kind="ok"), f"since {f.held.since:%-d %B %Y}; {counted}"
    status = f.status[newest.id]
    sign, kind = {"promoted": ("▲ superseded", "watch"), "expired": ("✕ expired", "stop")}.get(
        status, (f"◌ {status}", "note")
    )
    return tag("span", sign, kind=kind), counted


def _open(f: ValidationFacts) -> list[Finding]:
    return [x for p in f.promotions for x in p.findings if x.open]


def _limits() -> Markup:
    return join(
        (
            tag("h2", "What this report does not say"),
            bullets(
                [
                    "It repeats what was recorded; it judges neither the concept of the model nor the data behind it.",
                    "Figures by protected group are the lender's policy figures on held-out rows, no finding of law.",
                    "Held-out rows are later or other rows of the same book, not another portfolio or another cycle.",
                    "A hash shows that bytes are the same, not that they were right. The audit log shows by itself "
                    "that nothing in it was changed; that its tail is whole is shown by a checkpoint kept elsewhere.",
                ]
            ),
        )
    )
