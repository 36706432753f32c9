"""What a comparison says, as frozen facts that become one JSON document and come back from it unchanged.

Figures are rates, probabilities or log-odds; None where one does not exist (a slope of a constant score). ``champion``
is None throughout where there is nobody to compare with, and ``alone`` says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from pipeline.monitoring.interval import Interval

FORMAT = 1


@dataclass(frozen=True)
class Measures:
    """One model on the holdout. auc carries DeLong's 95% interval; ratio is observed over expected events."""

    auc: Interval
    ks: float
    brier: float
    ece: float
    slope: float | None
    intercept: float
    observed: float
    expected: float
    ratio: float


@dataclass(frozen=True)
class Side:
    """One of the two models. version is None for a candidate that was not registered."""

    version: int | None
    digest: str
    measures: Measures


@dataclass(frozen=True)
class Difference:
    """AUC of the challenger minus the champion's, by DeLong's paired test."""

    auc: float
    low: float
    high: float
    p_value: float


@dataclass(frozen=True)
class Migration:
    """Rows by the champion's grade (lines) and the challenger's (columns), best grade first."""

    grades: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]

    @property
    def rows(self) -> int:
        return sum(map(sum, self.counts))

    @property
    def steps(self) -> dict[int, int]:
        """How many rows move by how many grades: positive is to a worse grade, 0 stays."""
        found: dict[int, int] = {}
        for i, line in enumerate(self.counts):
            for j, count in enumerate(line):
                if count:
                    found[j - i] = found.get(j - i, 0) + count
        return dict(sorted(found.items()))

    @property
    def worse(self) -> int:
        return sum(n for step, n in self.steps.items() if step > 0)

    @property
    def better(self) -> int:
        return sum(n for step, n in self.steps.items() if step < 0)

    @property
    def moved(self) -> int:
        return self.worse + self.better


@dataclass(frozen=True)
class Reason:
    """One feature's contribution to the log-odds in either model; 0 in one that does not read it."""

    feature: str
    value: float | None
    champion: float
    challenger: float

    @property
    def difference(self) -> float:
        return self.challenger - self.champion


@dataclass(frozen=True)
class Mover:
    """A row that the two models see most differently. ``subject`` is an id: shown only to who may see it.

    reasons: the features that differ most, largest first; base and others carry the rest, so that base + others + the
    reasons' differences is the difference in log-odds.
    """

    subject: str
    as_of: str
    event: bool
    champion_pd: float
    challenger_pd: float
    champion_grade: str
    challenger_grade: str
    difference: float
    reasons: tuple[Reason, ...]
    base: float
    others: float


@dataclass(frozen=True)
class Group:
    """One protected group under one model. rate: approved at the cut-off; air: its rate over the reference's.

    passes is None where nothing is judged: the group is too small, there is no cut-off, or it is alone. smd is the
    standardised mean difference of log-odds to the reference: positive means scored as riskier.
    """

    group: str
    rows: int
    events: int
    approved: int | None
    rate: float | None
    air: float | None
    passes: bool | None
    smd: float | None


@dataclass(frozen=True)
class Impact:
    """One protected attribute under one model (``champion`` or ``challenger``)."""

    attribute: str
    model: str
    reference: str | None
    too_small: tuple[str, ...]
    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Fairness:
    """Policy figures by protected group, not a finding of law. cutoff_pd: approved up to and including it.

    unknown: rows of the holdout without a recorded attribute. why_none: why there are no figures at all.
    """

    cutoff_pd: float | None
    threshold: float
    smallest: int
    unknown: int
    impacts: tuple[Impact, ...]
    why_none: str = ""


@dataclass(frozen=True)
class Driver:
    """A feature of the challenger on a sample of the holdout: mean |contribution| to the log-odds, and its direction.

    rises: +1 the risk rises with the value, −1 it falls, 0 neither clearly (``measure.direction``).
    """

    feature: str
    mean_effect: float
    rises: int


@dataclass(frozen=True)
class Comparison:
    """Champion and challenger on the same holdout. seen_by_champion: holdout rows that it was itself trained on."""

    model: str
    training_set: str
    rows: int
    events: int
    challenger: Side
    champion: Side | None
    alone: str
    difference: Difference | None
    psi: float | None
    rank_correlation: float | None
    migration: Migration | None
    movers: tuple[Mover, ...]
    seen_by_champion: int | None
    fairness: Fairness
    drivers: tuple[Driver, ...]

    def document(self) -> dict[str, Any]:
        """JSON values only, ids of movers included: it is kept in the archive, and only its SHA-256 goes elsewhere."""
        return {"format": FORMAT, **_plain(asdict(self))}


def read(document: Mapping[str, Any]) -> Comparison:
    """The comparison of a document. Raises ValueError for one of another format."""
    if document.get("format") != FORMAT:
        raise ValueError(f"a comparison of format {document.get('format')!r} cannot be read; this reads {FORMAT}")
    d = {k: v for k, v in document.items() if k != "format"}
    fairness, migration, difference = d["fairness"], d["migration"], d["difference"]
    return Comparison(
        **{
            **d,
            "challenger": _side(d["challenger"]),
            "champion": _side(d["champion"]) if d["champion"] else None,
            "difference": Difference(**difference) if difference else None,
            "migration": Migration(tuple(migration["grades"]), tuple(map(tuple, migration["counts"])))
            if migration
            else None,
            "movers": tuple(Mover(**{**m, "reasons": tuple(Reason(**r) for r in m["reasons"])}) for m in d["movers"]),
            "fairness": Fairness(**{**fairness, "impacts": tuple(map(_impact, fairness["impacts"]))}),
            "drivers": tuple(Driver(**driver) for driver in d["drivers"]),
        }
    )


def _side(raw: Mapping[str, Any]) -> Side:
    measures = raw["measures"]
    return Side(raw["version"], raw["digest"], Measures(**{**measures, "auc": Interval(**measures["auc"])}))


def _impact(raw: Mapping[str, Any]) -> Impact:
    groups = tuple(Group(**g) for g in raw["groups"])
    return Impact(raw["attribute"], raw["model"], raw["reference"], tuple(raw["too_small"]), groups)


def _plain(value: Any) -> Any:
    """Tuples as lists, numbers that are none as None."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
