"""The sections of the report that come from the training run: identity, data, features, figures, comparison."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from pipeline.comparison.facts import Comparison, Impact, Migration, Side
from pipeline.comparison.words import SIDES, p_value, side
from pipeline.governance.manifest import Compared, compared
from pipeline.governance.validation.facts import ValidationFacts
from pipeline.governance.validation.markup import Markup, bullets, code, join, pairs, paragraph, picture, table, tag

_PLOTS = {
    "roc.png": "ROC curve on held-out rows",
    "calibration.png": "Observed rate against mean PD by decile",
    "scores.png": "Scores in training and on held-out rows",
    "importance.png": "Share of gain by feature",
}
_DIRECTION = {1: "rises", -1: "falls", 0: "neither clearly", None: "–"}
_CONSTRAINT = {1: "may only rise", -1: "may only fall", 0: "free"}
_TOP = 25


def identity(f: ValidationFacts) -> Markup:
    v, t = f.version, f.training
    parts = [
        pairs(
            [
                ("model", f"{v.name} version {v.version}, {f.listed.spec.subject}s"),
                ("model text, SHA-256", code(v.digest)),
                ("training run", join((code(t["run_id"]), f", by {t['actor']}, as of {t['as_of']}"))),
                ("registered", f"{v.created_at:%Y-%m-%d %H:%M} UTC"),
                ("lake snapshot", str(v.snapshot_id)),
                ("algorithm", f"LightGBM {f.recipe.get('lightgbm', '')}, binary log-loss, monotone constraints"),
                ("parameters", _parameters(f.recipe.get("parameters", {}))),
            ]
        )
    ]
    for p in f.promotions:
        parts.append(tag("h3", "Manifest of promotion ", p.id))
        rows = [
            (c.what, code(c.sha256 or "none"), _standing(c))
            for c in compared(p.manifest, p.manifest_sha256, f.manifest_now[p.id])
        ]
        parts.append(table(("what", "SHA-256 in the manifest", "records today"), rows))
    return join(parts)


def _standing(c: Compared) -> Markup:
    if c.same:
        return tag("span", "✓ the same", kind="badge ok")
    if c.moved_on:
        return tag("span", "▲ the portfolio has changed since", kind="watch")
    return tag("span", "✕ not the same", kind="badge stop")


def _parameters(parameters: Mapping[str, Any]) -> str:
    shown = {k: v for k, v in sorted(parameters.items()) if k != "monotone_constraints"}
    return ", ".join(f"{key} {value}" for key, value in shown.items()) or "not on record"


def data(f: ValidationFacts) -> Markup:
    label = f.recipe.get("label", {})
    cohorts: dict[str, dict[str, tuple[int, int]]] = {}
    for fold in f.folds:
        cohorts.setdefault(fold.cohort, {})[fold.fold] = (fold.rows, fold.events)
    folds = ("train", "valid", "holdout")
    rows = [(cohort, *(cell for fold in folds for cell in _pair(found.get(fold)))) for cohort, found in cohorts.items()]
    totals = [sum(x.rows if i == 0 else x.events for x in f.folds if x.fold == fold) for fold in folds for i in (0, 1)]
    return join(
        (
            paragraph(
                f"Event: {' or '.join(label.get('events', ['not on record']))} within "
                f"{label.get('horizon_months', '–')} months after the as-of date, as known on {f.training['as_of']}. "
                "One row is one subject at one as-of date."
            ),
            table(
                ("cohort", "train rows", "events", "valid rows", "events", "held-out rows", "events"),
                [*rows, ("all", *(f"{n:,}" for n in totals))] if rows else [],
                figures=range(1, 7),
            ),
            tag("h3", "Sources"),
            bullets(_with_shared(f.listed.entry.data, f.listed.shared_data)),
        )
    )


def _pair(found: tuple[int, int] | None) -> tuple[str, str]:
    return (f"{found[0]:,}", f"{found[1]:,}") if found else ("–", "–")


def _with_shared(statements: tuple[str, ...], shared: Mapping[str, tuple[str, ...]]) -> list[str]:
    return [f"{s} (shared with {', '.join(shared[s])})" if s in shared else s for s in statements]


def features(f: ValidationFacts) -> Markup:
    rest = f.features[_TOP:]
    effect = {d.feature: d.mean_effect for d in f.comparison.drivers} if f.comparison else {}
    return join(
        (
            paragraph(
                f"The model reads {len(f.features)} features; {f.dropped} more of the contract were left out at "
                "training (personal data, no number, or no value). Constraint: how the PD may change as the value "
                "rises. Observed: how it does on a sample of held-out rows, where effect is the mean absolute "
                "contribution to the log-odds."
            ),
            table(
                ("feature", "share of gain", "constraint", "observed", "effect", "owner", "what it is"),
                [
                    (
                        code(x.name),
                        f"{x.share:.1%}",
                        _CONSTRAINT[x.constraint],
                        _DIRECTION[x.rises],
                        f"{effect[x.name]:.3f}" if x.name in effect else "–",
                        x.owner,
                        x.description,
                    )
                    for x in f.features[:_TOP]
                ],
                figures=(1, 4),
            ),
            paragraph(f"{len(rest)} more share {sum(x.share for x in rest):.1%} of the gain.", kind="note")
            if rest
            else "",
        )
    )


def performance(f: ValidationFacts) -> Markup:
    m = f.training["metrics"]

    def figure(key: str, shape: str) -> str:
        return format(m[key], shape) if key in m else "–"

    interval = f" ({m['auc_low']:.4f} to {m['auc_high']:.4f})" if "auc_low" in m else ""
    rows = [
        ("held-out rows, events", f"{figure('holdout_rows', ',.0f')}, {figure('holdout_events', ',.0f')}"),
        ("AUC, 95% interval after DeLong", figure("auc", ".4f") + interval),
        ("Gini", figure("gini", ".4f")),
        ("KS", figure("ks", ".4f")),
        ("Brier score", figure("brier", ".5f")),
        ("expected calibration error", figure("ece", ".5f")),
        (
            "calibration slope, intercept",
            f"{figure('calibration_slope', '.3f')}, {figure('calibration_intercept', '+.3f')}",
        ),
        ("observed rate, expected rate", f"{figure('observed_rate', '.3%')}, {figure('expected_rate', '.3%')}"),
        ("PSI of the score, training against held-out", figure("psi", ".4f")),
    ]
    pictures = [
        picture(content, _PLOTS[name], join((_PLOTS[name], "; SHA-256 ", code(hashlib.sha256(content).hexdigest()))))
        for name, content in f.plots.items()
    ]
    return join((pairs(rows), tag("div", *pictures, kind="plots")))


def gate(f: ValidationFacts) -> Markup:
    return table(
        ("check", "observed", "bound", "verdict"),
        [
            (
                c["check"],
                f"{c['observed']:.4f}",
                c["bound"],
                tag("span", "✓ passed", kind="badge ok") if c["passed"] else tag("span", "✕ failed", kind="badge stop"),
            )
            for c in f.training["checks"]
        ],
        figures=(1,),
    )


def champion(f: ValidationFacts) -> Markup:
    c = f.comparison
    if c is None:
        return paragraph("No comparison is on record for this training run.", kind="note")
    if c.champion is None or c.difference is None or c.migration is None:
        return join((paragraph(f"No champion: {c.alone}."), _sides([c.challenger]), _kept(f)))
    d = c.difference
    parts = [
        _sides([c.champion, c.challenger]),
        paragraph(
            f"Difference in AUC, challenger less champion, after DeLong: {d.auc:+.4f} "
            f"({d.low:+.4f} to {d.high:+.4f}), p {p_value(d.p_value)}. PSI of the scores {c.psi:.4f}. Rank correlation "
            + (f"{c.rank_correlation:.4f}." if c.rank_correlation is not None else "undefined.")
        ),
    ]
    if c.seen_by_champion:
        parts.append(
            paragraph(
                f"▲ The champion was itself trained on {c.seen_by_champion:,} of the {c.rows:,} rows: they flatter it.",
                kind="watch",
            )
        )
    parts += [
        tag("h3", "Migration of grades"),
        _migration(c.migration),
        tag("h3", "Largest movers"),
        _movers(c),
        _kept(f),
    ]
    return join(parts)


def _kept(f: ValidationFacts) -> Markup:
    return paragraph("Comparison, SHA-256 ", code(f.comparison_sha256), kind="note")


def _sides(sides: list[Side]) -> Markup:
    return table(SIDES, [side(of) for of in sides], figures=range(1, len(SIDES)))


def _migration(m: Migration) -> Markup:
    def cell(i: int, j: int, count: int) -> Markup:
        kind = "stay" if i == j else "worse" if j > i else "better"
        return tag("td", f"{count:,}" if count else "·", kind=kind if count else "")

    head = tag("tr", tag("th", "champion ↓ challenger →"), *(tag("th", g) for g in m.grades), tag("th", "all"))
    lines = [
        tag(
            "tr",
            tag("td", grade),
            *(cell(i, j, n) for j, n in enumerate(m.counts[i])),
            tag("td", f"{sum(m.counts[i]):,}"),
        )
        for i, grade in enumerate(m.grades)
    ]
    steps = [(f"{s:+d}" if s else "0", f"{n:,}", f"{n / m.rows:.1%}") for s, n in m.steps.items()]
    return join(
        (
            tag("div", tag("table", tag("thead", head), tag("tbody", *lines), kind="grid"), kind="scroll"),
            paragraph(
                f"{m.moved:,} of {m.rows:,} rows change grade: {m.worse:,} to a worse one, "
                f"{m.better:,} to a better one."
            ),
            table(("grades moved (positive is worse)", "rows", "share"), steps, figures=(1, 2)),
        )
    )


def _movers(c: Comparison) -> Markup:
    return join(
        (
            paragraph(
                "Without ids. Reasons are the features whose contributions differ most between the two models; with "
                "the base and the others they add up to the change in log-odds exactly.",
                kind="note",
            ),
            table(
                ("as of", "champion", "challenger", "change", "event", "reasons"),
                [
                    (
                        tag("span", m.as_of, kind="day"),
                        f"{m.champion_grade} {m.champion_pd:.2%}",
                        f"{m.challenger_grade} {m.challenger_pd:.2%}",
                        f"{m.difference:+.3f}",
                        "yes" if m.event else "no",
                        "; ".join(f"{r.feature} {r.difference:+.3f}" for r in m.reasons)
                        + f"; base {m.base:+.3f}; others {m.others:+.3f}",
                    )
                    for m in c.movers
                ],
                figures=(1, 2, 3),
            ),
        )
    )


def fairness(f: ValidationFacts) -> Markup:
    c = f.comparison
    if c is None:
        return paragraph("No comparison is on record for this training run.", kind="note")
    found = c.fairness
    if found.why_none:
        return paragraph(f"No figures: {found.why_none}.")
    said = (
        f"Approved: PD up to {found.cutoff_pd:g}, the policy's cut-off. AIR is a group's approval rate over the "
        f"reference's; under {found.threshold:g} it is adverse by the four-fifths rule (29 CFR 1607.4(D)), at it, it "
        "is not."
        if found.cutoff_pd is not None
        else "The model declares no cut-off, so approval rates are not compared."
    )
    return join(
        (
            paragraph(
                f"{said} Groups under {found.smallest} rows are not judged. {found.unknown:,} of {c.rows:,} rows have "
                "no attribute on record. Protected attributes are no features of the model. SMD is the standardised "
                "mean difference of log-odds: positive is scored as riskier."
            ),
            *(_impact(i, c) for i in found.impacts),
        )
    )


def _impact(i: Impact, c: Comparison) -> Markup:
    verdicts = {True: ("✓ at or above", "ok"), False: ("✕ below", "stop"), None: ("not judged", "note")}

    def verdict(group: str, passes: bool | None) -> Markup:
        if group in i.too_small:
            return tag("span", "too small", kind="note")
        words, kind = verdicts[passes]
        return tag("span", words, kind=f"badge {kind}")

    name = f"{i.attribute.replace('_', ' ')}, {i.model}"
    version = {"champion": c.champion.version if c.champion else None, "challenger": c.challenger.version}[i.model]
    return join(
        (
            tag("h3", f"{name} (version {version}), against {i.reference or 'nobody: no group is large enough'}"),
            table(
                ("group", "rows", "events", "approved", "rate", "AIR", "SMD", "verdict"),
                [
                    (
                        g.group,
                        f"{g.rows:,}",
                        f"{g.events:,}",
                        f"{g.approved:,}" if g.approved is not None else "–",
                        f"{g.rate:.1%}" if g.rate is not None else "–",
                        f"{g.air:.3f}" if g.air is not None else "–",
                        f"{g.smd:+.3f}" if g.smd is not None else "–",
                        verdict(g.group, g.passes),
                    )
                    for g in i.groups
                ],
                figures=range(1, 7),
            ),
        )
    )
