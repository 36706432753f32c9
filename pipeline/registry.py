"""The model registry: MLflow over SQLite inside the home, with a digest of each model's bytes.

MLflow keeps names, versions, metrics and aliases; it keeps no digest and it stores absolute paths. Both are
ours: each version carries the SHA-256 of its model text and the path of that text relative to the home, so a
home copied elsewhere still scores, and a changed byte is found before the file is parsed.

MLflow takes seconds to import, so it is imported when the registry is first asked something.
"""

from __future__ import annotations

import hashlib
import json
import logging
import sqlite3
import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline import booster as native
from pipeline.config import Settings, prepare_process
from pipeline.errors import HomeDamaged, ModelRefused, NotFound
from pipeline.sql import literal

if TYPE_CHECKING:
    from lightgbm import Booster
    from mlflow import MlflowClient

PRODUCTION = "production"
MODEL_FILE = "model.lgb"
_TAG = "scoretrace."
RECIPE = f"{_TAG}recipe"
"""Tag of a version: SHA-256 of the archived recipe by which it can be trained again."""


@dataclass(frozen=True)
class TrainingRecord:
    """Where a model comes from, as it is registered.

    training_set: SHA-256 of the canonical training set; snapshot_id: the lake snapshot it was read at.
    features: what the model reads, in order; contract: the feature contract as JSON-ready facts, name → facts.
    """

    run_id: str
    as_of: date
    training_set: str
    snapshot_id: int
    features: tuple[str, ...]
    contract: Mapping[str, Mapping[str, Any]]
    contract_sha256: str
    parameters: Mapping[str, Any]
    description: str = ""


@dataclass(frozen=True)
class ModelVersion:
    """One registered version. ``artifact`` is the model text's path, relative to the home."""

    name: str
    version: int
    digest: str
    artifact: str
    training_set: str
    snapshot_id: int
    contract_sha256: str
    created_at: datetime
    mlflow_run_id: str
    tags: Mapping[str, str] = field(repr=False)

    def __str__(self) -> str:
        return f"{self.name} version {self.version}"


class Registry:
    """The models of one home. Making it touches nothing; the store is made on first use."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def register(
        self,
        name: str,
        booster_text: str,
        *,
        training: TrainingRecord,
        metrics: Mapping[str, float],
        plots: Mapping[str, bytes],
        card: str,
        tags: Mapping[str, str],
    ) -> ModelVersion:
        """Store a model with its evidence and give it the next version number.

        The same bytes from the same training set are the same version: a run killed after registering and started
        again gets back what it had registered. plots: file name → bytes. card: Markdown.
        """
        digest = text_digest(booster_text)
        for known in self.versions(name):
            if (known.digest, known.training_set) == (digest, training.training_set):
                return known
        run = self._client.create_run(
            self._experiment(name), run_name=f"{name} {training.as_of}", tags={_TAG + "run_id": training.run_id}
        )
        run_id = run.info.run_id
        for key, value in training.parameters.items():
            self._client.log_param(run_id, key, _short(value))
        for key, number in metrics.items():
            self._client.log_metric(run_id, key, float(number))
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            _write_model(folder / "model", booster_text, training, run_id)
            (folder / "model_card.md").write_text(card, encoding="utf-8")
            contract = {"sha256": training.contract_sha256, "features": training.contract}
            (folder / "feature_contract.json").write_text(json.dumps(contract, indent=1), encoding="utf-8")
            for file, content in plots.items():
                (folder / file).write_bytes(content)
            self._client.log_artifacts(run_id, str(folder))
        artifact = Path(_local_path(run.info.artifact_uri)) / "model" / MODEL_FILE
        own = {
            "digest": digest,
            "artifact": artifact.relative_to(self.settings.home).as_posix(),
            "training_set": training.training_set,
            "snapshot_id": str(training.snapshot_id),
            "contract_sha256": training.contract_sha256,
            "run_id": training.run_id,
            "as_of": training.as_of.isoformat(),
        }
        if not self._find(name):
            self._client.create_registered_model(name)
        created = self._client.create_model_version(
            name,
            source=artifact.parent.as_uri(),
            run_id=run_id,
            description=training.description,
            tags={**dict(tags), **{_TAG + key: value for key, value in own.items()}},
        )
        self._client.set_terminated(run_id)
        return self.get(name, int(created.version))

    def get(self, name: str, version: int) -> ModelVersion:
        """One version. Raises NotFound naming the versions there are."""
        for known in self.versions(name):
            if known.version == version:
                return known
        there = ", ".join(str(v.version) for v in self.versions(name)) or "none"
        raise NotFound(
            f"model {name} has no version {version} (registered: {there})",
            f"`scoretrace retrain --model {name} --as-of DATE` registers a new one",
        )

    def versions(self, name: str) -> tuple[ModelVersion, ...]:
        """Every version of a model, oldest first; none for a name that is not registered."""
        if not self._store.is_file():
            return ()
        if not self._store.stat().st_size:  # MLflow would begin an empty store in its place
            raise HomeDamaged(
                f"the model registry {self._store} is empty", "`scoretrace restore BACKUP NEW_HOME` puts the home back"
            )
        found = self._client.search_model_versions(f"name={literal(name)}", max_results=10_000)
        return tuple(sorted((_version(v) for v in found), key=lambda v: v.version))

    def production(self, name: str) -> ModelVersion:
        """The version the alias ``production`` points to. Raises ModelRefused when there is none."""
        version = self.production_version(name)
        if version is None:
            known = self.versions(name)
            number = known[-1].version if known else 1
            train = "" if known else f"`scoretrace retrain --model {name} --as-of DATE`, then "
            raise ModelRefused(
                f"no approved model for {name} ({len(known)} registered)",
                f'{train}`scoretrace promotions request {name} {number} --reason "…"`, then have it signed',
            )
        return self.get(name, version)

    def production_version(self, name: str) -> int | None:
        """The number the alias ``production`` points to, or None."""
        model = self._find(name) if self._store.is_file() else None
        found = model.aliases.get(PRODUCTION) if model else None
        return None if found is None else int(found)

    def has_production(self, name: str) -> bool:
        """Whether the alias ``production`` points to a version of this model."""
        return self.production_version(name) is not None

    def set_production(self, name: str, version: int) -> None:
        """Move the alias. Only ``governance.approvals`` calls this; by itself it approves nothing."""
        self.get(name, version)
        self._client.set_registered_model_alias(name, PRODUCTION, str(version))

    def metrics(self, version: ModelVersion) -> dict[str, float]:
        """The metrics recorded when the version was registered."""
        return dict(self._client.get_run(version.mlflow_run_id).data.metrics)

    def artifact_path(self, version: ModelVersion) -> Path:
        """Where the version's model text is in this home; its card and plots are in the folder above it."""
        return self.settings.home / version.artifact

    def text(self, version: ModelVersion) -> str:
        """The version's model text. Raises ModelRefused when it is missing or not the bytes that were registered."""
        path = self.artifact_path(version)
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ModelRefused(
                f"{version} cannot be read: {path}: {error.strerror}",
                f"restore that file from a backup of the home; its SHA-256 must be {version.digest}",
            ) from error
        found = hashlib.sha256(content).hexdigest()
        if found != version.digest:
            raise ModelRefused(
                f"{version} has been changed since it was registered: {path} has SHA-256 {found}, "
                f"registered was {version.digest}",
                f"restore that file from a backup, or have another version promoted: `scoretrace "
                f'promotions request {version.name} VERSION --reason "…"`',
            )
        return content.decode("utf-8")

    def load(self, version: ModelVersion) -> Booster:
        """The version's booster, its digest checked first: LightGBM aborts the process on a malformed text."""
        return native.parse(self.text(version))

    @property
    def _store(self) -> Path:
        return self.settings.registry_dir / "mlflow.sqlite"

    @cached_property
    def _client(self) -> MlflowClient:
        prepare_process()
        # MLflow and Alembic tell of each schema step on stderr; set before the import, which reads the level.
        for logger in ("mlflow", "alembic"):
            logging.getLogger(logger).setLevel(logging.WARNING)
        from mlflow import MlflowClient

        logging.getLogger("mlflow").setLevel(logging.WARNING)
        self.settings.registry_dir.mkdir(parents=True, exist_ok=True)
        new = not self._store.is_file()
        uri = f"sqlite:///{self._store}"
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        if new:
            client.search_registered_models(max_results=1)
            # Without WAL a reader and the writer fail on each other with "database is locked".
            with closing(sqlite3.connect(self._store)) as store:
                store.execute("PRAGMA journal_mode=WAL")
        return client

    def _find(self, name: str) -> Any:
        found = self._client.search_registered_models(f"name={literal(name)}", max_results=1)
        return found[0] if found else None

    def _experiment(self, name: str) -> str:
        """The experiment of a model whose artifacts go below this home.

        MLflow stores an experiment's artifact location as an absolute path: in a home that was copied, the old
        experiment still points to the old place, so a new one is made for the new place.
        """
        location = (self.settings.registry_dir / "artifacts").as_uri()
        for title in (name, f"{name} in {self.settings.registry_dir}"):
            found = self._client.get_experiment_by_name(title)
            if found is None:
                return str(self._client.create_experiment(title, artifact_location=location))
            if found.artifact_location == location:
                return str(found.experiment_id)
        raise ModelRefused(
            f"MLflow's experiments of {name} keep their artifacts outside {self.settings.registry_dir}",
            "rename those experiments in MLflow and run the command again",
        )


def text_digest(text: str) -> str:
    """SHA-256 of a model text's bytes (UTF-8)."""
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _write_model(folder: Path, text: str, training: TrainingRecord, run_id: str) -> None:
    """The model in MLflow's own layout, so that MLflow's tools can open it; the text is written byte for byte."""
    from importlib.metadata import version

    from mlflow.models import Model, ModelSignature
    from mlflow.types import ColSpec, Schema

    folder.mkdir()
    (folder / MODEL_FILE).write_bytes(text.encode("utf-8"))
    inputs = Schema([ColSpec("double", feature, required=False) for feature in training.features])
    model = Model(run_id=run_id, signature=ModelSignature(inputs=inputs, outputs=Schema([ColSpec("double", "pd")])))
    model.add_flavor(
        "lightgbm",
        lgb_version=version("lightgbm"),
        data=MODEL_FILE,
        model_class="lightgbm.basic.Booster",
        code=None,
    )
    model.save(str(folder / "MLmodel"))


def _version(found: Any) -> ModelVersion:
    tags = dict(found.tags)
    try:
        return ModelVersion(
            name=found.name,
            version=int(found.version),
            digest=tags[_TAG + "digest"],
            artifact=tags[_TAG + "artifact"],
            training_set=tags[_TAG + "training_set"],
            snapshot_id=int(tags[_TAG + "snapshot_id"]),
            contract_sha256=tags[_TAG + "contract_sha256"],
            created_at=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            mlflow_run_id=found.run_id,
            tags=tags,
        )
    except KeyError as error:
        raise ModelRefused(
            f"{found.name} version {found.version} lacks the tag {error}: it was not registered by Scoretrace",
            "delete that version in MLflow, and register models with `scoretrace retrain` only",
        ) from error


def _local_path(uri: str) -> str:
    from mlflow.utils.file_utils import local_file_uri_to_path

    return str(local_file_uri_to_path(uri))


def _short(value: Any) -> str:
    """A parameter's value as MLflow takes it: at most 6,000 characters."""
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= 500 else text[:497] + "…"
