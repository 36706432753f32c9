"""Which values of a trace are personal data, and the trace without them.

Contracts and features declare it; what is computed from a declared column is found by lineage.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Engine

from lineage.changes import State, Why
from lineage.columns import cached_column_lineage
from lineage.recording import Recording, meta_of
from lineage.replay import SubjectReplay
from lineage.rescore import Difference
from lineage.trace import Trace
from pipeline.contracts import CONTRACTS, LANDING_COLUMNS
from pipeline.governance import audit, guard
from pipeline.governance.access import Actor

MASK = "•••"
TOGETHER = "masked features, together"


def withheld(found: Trace, names: frozenset[str]) -> Trace:
    """The trace with the contributions of these features as one sum: a single one narrows the value that is masked.

    The sum is exact, and with it the total. Of one such feature alone it is that feature's own: what is left of the
    log-odds after the others cannot be hidden.
    """
    apart = [f for f in found.features if f.name in names and f.contribution is not None]
    if not apart:
        return found
    # Without their contributions they stand after the others, by name: their order would tell the rest.
    told = tuple(f for f in found.features if f not in apart)
    hidden = tuple(replace(f, contribution=None) for f in sorted(apart, key=lambda f: f.name))
    return replace(found, features=told + hidden, together=math.fsum(f.contribution or 0.0 for f in apart))


def masked(found: Trace) -> Trace:
    """The trace with every personal value replaced by ``MASK`` and the contributions of personal features as one sum;
    what was proved stays proved."""
    names = frozenset(personal_names(found))
    if not names:
        return found
    found = withheld(found, names)
    features = tuple(
        replace(
            feature,
            value=shown(feature.name, feature.value, names),
            sources=tuple(
                replace(source, rows=tuple(masked_row(source.table, row, names) for row in source.rows))
                for source in feature.sources
            ),
        )
        for feature in found.features
    )
    proof = replace(found.proof, differences=_masked(found.proof.differences, names))
    return replace(found, features=features, proof=proof)


def masked_replay(found: SubjectReplay) -> SubjectReplay:
    """A replay whose differences show no personal value."""
    if not found.differences:
        return found
    return replace(found, differences=_masked(found.differences, personal_features(found.recorded)))


def masked_change(found: Why) -> Why:
    """Why a score moved, with every personal value masked and what those features did told as one feature's.

    Where a single one of them moved, the sum is its own: what is left after the others cannot be hidden.
    """
    names = personal_features(found.first) | personal_features(found.second)
    sides = (found.before, found.after)
    hidden = frozenset(n for n in names if any(side.features.get(n) is not None for side in sides))

    def by_feature(changes: Mapping[str, float]) -> Mapping[str, float]:
        told = {name: change for name, change in changes.items() if name not in hidden}
        apart = [change for name, change in changes.items() if name in hidden]
        return told | ({TOGETHER: math.fsum(apart)} if any(apart) else {})

    def side(state: State) -> State:
        values = {name: shown(name, value, hidden) for name, value in state.features.items()}
        return replace(state, features=values | {TOGETHER: MASK}, contributions=by_feature(state.contributions))

    parts = tuple(
        replace(
            part,
            by_feature=by_feature(part.by_feature),
            rows={t: tuple(masked_row(t, row, frozenset(row)) for row in rows) for t, rows in part.rows.items()},
        )
        for part in found.parts
    )
    before, after = map(side, sides) if hidden else sides
    return replace(found, before=before, after=after, parts=parts)


def _masked(differences: tuple[Difference, ...], names: frozenset[str]) -> tuple[Difference, ...]:
    return tuple(
        replace(d, stored=shown(d.name, d.stored, names), replayed=shown(d.name, d.replayed, names))
        for d in differences
    )


def record_read(engine: Engine, actor: Actor, found: Trace, names: tuple[str, ...]) -> None:
    """Put on record that somebody was shown a subject's personal data in clear. Raises AccessDenied."""
    subject = f"{found.recorded.subject}:{found.subject_id}"
    guard.require(engine, actor, "personal_data.read", subject)
    audit.append(
        engine, actor=actor.name, action="personal_data.read", subject=subject,
        detail={"as_of": found.recorded.as_of.isoformat(), "names": list(names)},
    )  # fmt: skip


def shown(name: str, value: Any, names: frozenset[str]) -> Any:
    """The value, or the mask where its name is personal; nothing is masked where there is nothing."""
    return MASK if name in names and value is not None else value


def masked_row(table: str, row: Mapping[str, Any], names: frozenset[str]) -> dict[str, Any]:
    """A raw row with those of its columns masked that are personal and among ``names``."""
    personal = names.intersection(c.name for c in CONTRACTS[table].columns if c.pii)
    return {k: shown(k, v, personal) for k, v in row.items()}


def personal_names(found: Trace) -> tuple[str, ...]:
    """Names of the columns and features among the trace's values that are personal data, sorted."""
    made = personal_features(found.recorded)
    features = {f.name for f in found.features if f.name in made and f.value is not None}
    columns = {
        column.name
        for table, rows in found.rows.as_dicts().items()
        for column in CONTRACTS[table].columns
        if column.pii and any(row.get(column.name) is not None for row in rows.values())
    }
    return tuple(sorted(features | columns))


def personal_features(recorded: Recording) -> frozenset[str]:
    """Features that are declared personal data, or are made of a column that a contract or a feature declares so.

    What is made of it gives it away: an amount and its ratio to the income give the income.
    """
    schema = {f"raw.{t}": {c.name: "" for c in (*k.columns, *LANDING_COLUMNS)} for t, k in CONTRACTS.items()}
    personal = {(f"raw.{t}", c.name) for t, k in CONTRACTS.items() for c in k.columns if c.pii}
    for model in recorded.models:
        table = model.relation.replace('"', "").removeprefix("lake.")
        lineage = cached_column_lineage(recorded.settings, model.sql, schema)
        schema[table] = dict.fromkeys(lineage.columns, "")
        declared = {name for name, column in model.columns.items() if meta_of(column).get("pii")}
        made = {n for n, inputs in lineage.columns.items() if any((i.table, i.column) in personal for i in inputs)}
        personal |= {(table, name) for name in declared | made}
    return frozenset(name for name in recorded.features if (table, name) in personal)
