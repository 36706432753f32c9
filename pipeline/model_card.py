"""The model card and plots that are registered with a model: what it is for, made of, good at, and not for."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline import booster as native
from pipeline.comparison import words
from pipeline.comparison.facts import Comparison
from pipeline.evaluation import Check
from pipeline.governance.inventory import Entry
from pipeline.portfolio import ModelSpec, Portfolio
from pipeline.registry import TrainingRecord
from pipeline.training_set import HOLDOUT, TRAIN, VALID, TrainingSet

if TYPE_CHECKING:
    from lightgbm import Booster

_TOP = 20


@dataclass(frozen=True, eq=False)
class CardFacts:
    """All that a card is written from."""

    portfolio: Portfolio
    spec: ModelSpec
    data: TrainingSet
    record: TrainingRecord
    digest: str
    metrics: Mapping[str, float]
    checks: Sequence[Check]
    booster: Booster
    comparison: Comparison


def write(facts: CardFacts) -> str:
    """The card as Markdown."""
    label, spec, data, record = facts.portfolio.label, facts.spec, facts.data, facts.record
    m = facts.metrics
    horizon = f"{label.horizon_months} month{'s' if label.horizon_months != 1 else ''}"
    folds = data.counts["folds"]
    entry = facts.portfolio.inventory.get(spec.name, Entry())
    rises = {d.feature: d.rises for d in facts.comparison.drivers}
    sections = [
        f"# {spec.name}",
        f"{facts.portfolio.title}. Probability that an {spec.subject} has {_either(label.events)} within {horizon} "
        f"after the as-of date. Materiality: {spec.materiality}.",
        *_use(entry),
        "## Performance on held-out rows",
        f"{m['holdout_rows']:,.0f} rows with {m['holdout_events']:,.0f} events; holdout: "
        f"{'the latest cohorts' if spec.holdout == 'out_of_time' else 'a fixed share of subjects, by hash'}.",
        _table(
            ("measure", "value"),
            [
                ("AUC (95% DeLong interval)", f"{m['auc']:.4f} ({m['auc_low']:.4f} to {m['auc_high']:.4f})"),
                ("KS", f"{m['ks']:.4f}"),
                ("Brier score", f"{m['brier']:.5f}"),
                ("expected calibration error", f"{m['ece']:.5f}"),
                (
                    "calibration slope, intercept",
                    f"{_number(m, 'calibration_slope')}, {m['calibration_intercept']:.3f}",
                ),
                ("observed rate, expected rate", f"{m['observed_rate']:.4%}, {m['expected_rate']:.4%}"),
                ("PSI of the score, training against holdout", f"{m['psi']:.4f}"),
            ],
        ),
        "## Gate",
        _table(
            ("check", "observed", "bound", ""),
            [(c.check, f"{c.observed:.4f}", c.bound, "passed" if c.passed else "FAILED") for c in facts.checks],
        ),
        "## Champion against challenger",
        "\n".join(f"- {line}" for line in words.summary(facts.comparison)),
        *_groups(facts.comparison),
        "## Training data",
        f"As known at {record.as_of}: {data.counts['eligible']:,} eligible rows, {data.counts['sampled']:,} taken; "
        f"{data.counts['left_out_event_before']:,} left out because the event came before the as-of date.",
        _table(
            ("fold", "rows", "events"),
            [(fold, f"{folds[fold]['rows']:,}", f"{folds[fold]['events']:,}") for fold in (TRAIN, VALID, HOLDOUT)],
        ),
        _table(
            ("cohort", "rows", "events"),
            [(day, f"{c['rows']:,}", f"{c['events']:,}") for day, c in data.counts["cohorts"].items()],
        ),
        f"## Features: the {_TOP} that matter most of {len(data.features)}",
        _table(
            ("feature", "share of gain", "may", "does", "what it is"),
            [
                (
                    name,
                    f"{share:.1%}",
                    _direction(record.contract[name]),
                    {1: "rise", -1: "fall"}.get(rises.get(name, 0), "neither"),
                    str(record.contract[name]["description"]),
                )
                for name, share in importance(facts.booster)[:_TOP]
            ],
        ),
    ]
    if data.dropped:
        sections += ["## Features left out", _table(("feature", "why"), sorted(data.dropped.items()))]
    sections += [
        "## Limits",
        "The model ranks and prices risk of subjects like those it was trained on, over the horizon named above. "
        "Protected attributes and personal data are not among its features; that alone does not make its outcomes "
        "fair. Subjects recur from cohort to cohort, so out-of-time rows are later, not independent.",
        *_statements(entry.limits),
        *(("## Assumptions", *_statements(entry.assumptions)) if entry.assumptions else ()),
        "## To make it again",
        _table(
            ("fact", "value"),
            [
                ("model text, SHA-256", facts.digest),
                ("training set, SHA-256", record.training_set),
                ("lake snapshot", str(record.snapshot_id)),
                ("feature contract, SHA-256", record.contract_sha256),
                ("training run", record.run_id),
                ("trees", str(facts.booster.num_trees())),
                *((k, str(v)) for k, v in record.parameters.items() if k != "monotone_constraints"),
            ],
        ),
    ]
    return "\n\n".join(sections) + "\n"


def importance(booster: Booster) -> list[tuple[str, float]]:
    """(feature, share of the total gain), largest first, ties by name."""
    gain = np.asarray(booster.feature_importance("gain"), dtype=np.float64)
    total = gain.sum() or 1.0
    pairs = zip(native.features(booster), (gain / total).tolist(), strict=True)
    return sorted(pairs, key=lambda pair: (-pair[1], pair[0]))


def plots(
    facts: CardFacts, labels: NDArray[np.int8], holdout: NDArray[np.float64], training: NDArray[np.float64]
) -> dict[str, bytes]:
    """PNG files by name: ROC, calibration by decile, score distributions, importance. holdout, training: log-odds."""
    return {
        "roc.png": _roc(labels, holdout),
        "calibration.png": _calibration(labels, native.probability(holdout)),
        "scores.png": _scores(training, holdout),
        "importance.png": _importance(importance(facts.booster)[:_TOP]),
    }


def _roc(labels: NDArray[np.int8], scores: NDArray[np.float64]) -> bytes:
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(labels[order]) / labels.sum()
    misses = np.cumsum(1 - labels[order]) / (1 - labels).sum()
    figure, axes = _figure("ROC on held-out rows", "share of non-events", "share of events")
    axes.plot(np.append(0, misses), np.append(0, hits))
    axes.plot([0, 1], [0, 1], linestyle=":", color="grey")
    return _png(figure)


def _calibration(labels: NDArray[np.int8], pd: NDArray[np.float64]) -> bytes:
    deciles = [part for part in np.array_split(np.argsort(pd, kind="stable"), 10) if len(part)]
    expected = [pd[part].mean() for part in deciles]
    observed = [labels[part].mean() for part in deciles]
    figure, axes = _figure("Calibration by decile of PD", "mean PD", "observed rate")
    axes.plot(expected, observed, marker="o")
    axes.axline((0, 0), slope=1, linestyle=":", color="grey")
    return _png(figure)


def _scores(training: NDArray[np.float64], holdout: NDArray[np.float64]) -> bytes:
    edges = np.histogram_bin_edges(np.concatenate([training, holdout]), bins=50).tolist()
    figure, axes = _figure("Scores, training against holdout", "log-odds", "density")
    axes.hist(training, bins=edges, density=True, histtype="step", label="training")
    axes.hist(holdout, bins=edges, density=True, histtype="step", label="holdout")
    axes.legend()
    return _png(figure)


def _importance(shares: list[tuple[str, float]]) -> bytes:
    figure, axes = _figure("Share of gain", "share", "")
    names, values = zip(*reversed(shares), strict=True)
    axes.barh(names, values)
    return _png(figure)


def _figure(title: str, x: str, y: str) -> tuple[Any, Any]:
    # The object interface, not pyplot: no global state and no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.4, 4.8), layout="constrained")
    axes = figure.add_subplot()
    axes.set(title=title, xlabel=x, ylabel=y)
    return figure, axes


def _png(figure: Any) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in line) + " |" for line in lines
    )


def _number(metrics: Mapping[str, float], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else "none"


def _direction(facts: Mapping[str, Any]) -> str:
    return {1: "only rise", -1: "only fall", 0: "do either"}[int(facts["monotone"])]


def _use(entry: Entry) -> list[str]:
    """What the inventory says it is for; nothing where it says nothing."""
    said = [
        ("purpose", entry.purpose),
        ("intended use", entry.intended_use),
        ("owner", entry.owner),
        ("inherent risk", ". ".join(x for x in (entry.inherent_risk, entry.inherent_risk_reason) if x)),
    ]
    rows = [(name, text) for name, text in said if text]
    return ["## Purpose and use", _table(("", "as the inventory had it when this was trained"), rows)] if rows else []


def _groups(comparison: Comparison) -> list[str]:
    """Approval rates and scores by protected group; small groups are named and not judged."""
    rows = [
        (
            impact.attribute,
            g.group + (" (reference)" if g.group == impact.reference else ""),
            f"{g.rows:,}",
            f"{g.rate:.1%}" if g.rate is not None else "–",
            "too small" if g.group in impact.too_small else f"{g.air:.3f}" if g.air is not None else "–",
            f"{g.smd:+.3f}" if g.smd is not None else "–",
        )
        for impact in words.of_challenger(comparison)
        for g in impact.groups
    ]
    head = ("attribute", "group", "rows", "approved", "adverse impact ratio", "mean difference of log-odds")
    return ["## By protected group", _table(head, rows)] if rows else []


def _statements(statements: Sequence[str]) -> list[str]:
    return ["\n".join(f"- {statement}" for statement in statements)] if statements else []


def _either(events: Sequence[str]) -> str:
    return " or ".join(events)
