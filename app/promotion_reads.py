"""What a promotion's page shows beside the promotion: its evidence as the records have it at this moment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.comparison import store
from pipeline.comparison.facts import Comparison
from pipeline.comparison.store import Kept
from pipeline.errors import ModelRefused, NotFound
from pipeline.governance import keys
from pipeline.governance.approvals import Approvals
from pipeline.governance.manifest import Compared, compared, manifest_of, training_of
from pipeline.governance.promotion_state import Promotion
from pipeline.governance.signatures import genuine


@dataclass(frozen=True)
class Evidence:
    """hashes: the manifest against the records. faults: what is missing or changed, each as a sentence.

    checks: the training run's gate. comparison: without ids of subjects. genuine: signers whose signature is whole.
    trainer_unknown: what to know of a trainer who is no user.
    """

    hashes: tuple[Compared, ...]
    faults: tuple[str, ...]
    checks: Sequence[Mapping[str, Any]]
    metrics: Mapping[str, float]
    kept: Kept | None
    comparison: Comparison | None
    genuine: frozenset[str]
    trainer_unknown: str | None

    @property
    def changed(self) -> tuple[Compared, ...]:
        return tuple(c for c in self.hashes if not c.same and not c.moved_on)


def evidence(desk: Approvals, p: Promotion) -> Evidence:
    """Read anew on each look: a changed byte is seen at once."""
    faults: list[str] = []
    now: Mapping[str, Any] = {}
    training: Mapping[str, Any] = {}
    try:
        version = desk.registry.get(p.model, p.version)
        training = training_of(desk.engine, version)
        now = manifest_of(desk.engine, desk.portfolio, version, p.policy)
        desk.registry.text(version)
    except (ModelRefused, NotFound) as refused:
        faults.append(refused.message)
    kept, compared_with = _comparison(desk, p, training, faults)
    public = keys.PublicKeys(desk.settings.keys_dir)
    return Evidence(
        hashes=compared(p.manifest, p.manifest_sha256, now),
        faults=tuple(faults),
        checks=training.get("checks", ()),
        metrics=training.get("metrics", {}),
        kept=kept,
        comparison=compared_with,
        genuine=frozenset(s.signer for s in p.signatures if genuine(p, s, public)),
        trainer_unknown=desk.trainer_unknown(p),
    )


def _comparison(
    desk: Approvals, p: Promotion, training: Mapping[str, Any], faults: list[str]
) -> tuple[Kept | None, Comparison | None]:
    """The comparison that the manifest names."""
    if not p.manifest.get("comparison_sha256"):
        return None, None
    kept = store.of_training(desk.engine, str(training.get("run_id", "")), p.digest)
    try:
        return kept, store.load(desk.settings, p.manifest["comparison_sha256"])
    except NotFound as lost:
        faults.append(f"the comparison: {lost.message}")
        return kept, None
