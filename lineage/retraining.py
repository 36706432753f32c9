"""A model trained again: from its recorded recipe, over the lake at its snapshot, to the same bytes or not."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import date
from importlib.metadata import version as package_version
from typing import Any

from pipeline import archive, lake
from pipeline.config import Settings
from pipeline.errors import NotFound
from pipeline.features import FeatureSpec
from pipeline.governance.access import Actor, require
from pipeline.portfolio import Label, ModelSpec
from pipeline.registry import RECIPE, ModelVersion, Registry, text_digest
from pipeline.train import fit
from pipeline.training_set import collect


@dataclass(frozen=True)
class ModelReplay:
    """A version trained again. Equal digests mean: the same bytes from the same rows."""

    version: ModelVersion
    training_set: str
    digest: str
    rows: int
    lightgbm: tuple[str, str]
    seconds: float

    @property
    def same_training_set(self) -> bool:
        return self.training_set == self.version.training_set

    @property
    def equal(self) -> bool:
        return self.same_training_set and self.digest == self.version.digest

    def as_dict(self) -> dict[str, Any]:
        return {
            "model": {"name": self.version.name, "version": self.version.version},
            "equal": self.equal,
            "digest": {"registered": self.version.digest, "replayed": self.digest},
            "training_set": {"registered": self.version.training_set, "replayed": self.training_set},
            "rows": self.rows,
            "lightgbm": {"registered": self.lightgbm[0], "replayed": self.lightgbm[1]},
            "seconds": round(self.seconds, 3),
        }


def replay_model(settings: Settings, name: str, number: int, *, actor: Actor) -> ModelReplay:
    """Train a registered version again from its recipe and compare the digests.

    Raises NotFound for an unknown version, one registered without a recipe, or a snapshot that was expired.
    """
    require(actor, "trace.read")
    version = Registry(settings).get(name, number)
    sha256 = version.tags.get(RECIPE)
    if not sha256:
        raise NotFound(
            f"{version} was registered without the recipe of its training",
            f"versions trained since can be replayed: `scoretrace retrain --model {name} --as-of DATE`",
        )
    recipe = json.loads(archive.read_text(settings, sha256))
    spec = ModelSpec(**recipe["spec"])
    label = Label(tuple(recipe["label"]["events"]), int(recipe["label"]["horizon_months"]))
    contract = tuple(FeatureSpec(**feature) for feature in recipe["contract"])
    cohorts = [date.fromisoformat(day) for day in recipe["cohorts"]]
    started = time.perf_counter()
    try:
        con = lake.connect(settings, snapshot=int(recipe["snapshot_id"]))
    except NotFound as error:
        raise NotFound(
            f"{version} cannot be trained again: the lake's snapshot {recipe['snapshot_id']}, which its training set "
            "was read at, has been expired",
            "restore the lake folder from a backup that has it",
        ) from error
    with closing(con):
        data = collect(con, label, spec, date.fromisoformat(recipe["as_of"]), cohorts, contract)
    text = fit(data, recipe["parameters"], settings.threads)
    return ModelReplay(
        version, data.sha256, text_digest(text), len(data.labels),
        (str(recipe["lightgbm"]), package_version("lightgbm")), time.perf_counter() - started,
    )  # fmt: skip
