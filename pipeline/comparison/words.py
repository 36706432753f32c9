"""A comparison in a few sentences: what a reviewer reads first."""

from __future__ import annotations

from pipeline.comparison.facts import Comparison, Impact, Side


def summary(c: Comparison) -> tuple[str, ...]:
    """At most a handful of lines, without any id."""
    new = c.challenger.measures
    lines = [f"on {c.rows:,} held-out rows with {c.events:,} events: AUC {new.auc.estimate:.4f}, KS {new.ks:.3f}"]
    if c.champion is None:
        lines.append(f"champion: {c.alone}")
    else:
        lines += _against(c)
    return (*lines, fairness_line(c))


def _against(c: Comparison) -> list[str]:
    assert c.champion is not None and c.difference is not None and c.migration is not None
    d, old, m = c.difference, c.champion.measures, c.migration
    named = f"version {c.champion.version}"
    lines = [
        f"against {named} (AUC {old.auc.estimate:.4f}): {d.auc:+.4f} ({d.low:+.4f} to {d.high:+.4f}, "
        f"p {p_value(d.p_value)}); PSI of the scores {c.psi:.3f}",
        f"{m.moved:,} of {m.rows:,} ({m.moved / m.rows:.1%}) change grade: {m.worse:,} to a worse one, "
        f"{m.better:,} to a better one"
        + (f", by {_steps(m.steps)}" if m.moved else ""),
    ]  # fmt: skip
    if c.seen_by_champion:
        lines.append(f"▲ {named} was itself trained on {c.seen_by_champion:,} of these rows: they flatter it")
    return lines


def p_value(p: float) -> str:
    """A p-value as it is printed: never 0."""
    return "< 0.0001" if p < 0.0001 else f"= {p:.4f}"


def _steps(steps: dict[int, int]) -> str:
    by_size: dict[int, int] = {}
    for step, count in steps.items():
        if step:
            by_size[abs(step)] = by_size.get(abs(step), 0) + count
    return ", ".join(f"{size} grade{'s' if size > 1 else ''}: {n:,}" for size, n in sorted(by_size.items()))


def fairness_line(c: Comparison) -> str:
    """The lowest adverse impact ratio of the challenger, or why there is none."""
    f = c.fairness
    if f.why_none:
        return f"fairness: {f.why_none}"
    if f.cutoff_pd is None:
        return "fairness: the model declares no cutoff_pd, so approval rates are not compared"
    judged = [(g, i) for i in of_challenger(c) for g in i.groups if g.passes is not None and g.group != i.reference]
    small = sum(len(i.too_small) for i in of_challenger(c))
    tail = f"; {small} group{'s' if small > 1 else ''} too small to judge" if small else ""
    if not judged:
        return f"fairness: no group is large enough to be compared{tail}"
    lowest, impact = min(judged, key=lambda found: found[0].air or 0.0)
    below = sum(1 for g, _ in judged if g.passes is False)
    verdict = "each at or above" if not below else f"{below} under"
    return (
        f"fairness at PD {f.cutoff_pd:g}: lowest AIR {lowest.air:.3f} ({impact.attribute} {lowest.group} against "
        f"{impact.reference}), {verdict} {f.threshold:g}{tail}"
    )


def of_challenger(c: Comparison) -> tuple[Impact, ...]:
    """The impacts of the challenger alone."""
    return tuple(i for i in c.fairness.impacts if i.model == "challenger")


SIDES = ("", "AUC, 95% interval", "KS", "Brier", "slope", "intercept", "observed", "expected", "O/E")
"""Heads of the table of both sides; ``side`` is a line of it."""


def side(of: Side) -> tuple[str, ...]:
    """One version's figures, as text."""
    s = of.measures
    return (
        f"version {of.version}",
        f"{s.auc.estimate:.4f} ({s.auc.low:.4f} to {s.auc.high:.4f})",
        f"{s.ks:.4f}",
        f"{s.brier:.5f}",
        f"{s.slope:.3f}" if s.slope is not None else "–",
        f"{s.intercept:+.3f}",
        f"{s.observed:.3%}",
        f"{s.expected:.3%}",
        f"{s.ratio:.3f}",
    )
