"""The registry keeps bytes, and says so when they are not the ones it was given."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from pipeline import booster as native
from pipeline.config import REPOSITORY, Settings
from pipeline.errors import ModelRefused, NotFound
from pipeline.registry import MODEL_FILE, Registry, text_digest
from tests.pipeline import small_book
from tests.pipeline.small_book import Book

ROWS = np.array([[0.1, 0.0, 10.0, 5.0, 0.0], [0.9, 55.0, np.nan, 100.0, 1.0]])


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Book:
    """A home with one approved model; read only."""
    return small_book.promoted(tmp_path_factory)


@pytest.fixture
def book(home: Book, tmp_path: Path) -> Book:
    """A copy of it that a test may spoil."""
    return small_book.copy(home, tmp_path / "home")


def test_a_version_carries_its_evidence(home: Book) -> None:
    version = home.registry.production("pd_default")
    path = home.registry.artifact_path(version)
    assert (version.version, path.name) == (1, MODEL_FILE)
    assert version.digest == hashlib.sha256(path.read_bytes()).hexdigest()
    assert version.created_at.tzinfo is not None
    assert not Path(version.artifact).is_absolute()
    folder = path.parents[1]
    for name in ("roc.png", "calibration.png", "scores.png", "importance.png"):
        assert (folder / name).read_bytes().startswith(b"\x89PNG")
    card = (folder / "model_card.md").read_text(encoding="utf-8")
    for fact in (version.digest, version.training_set, version.contract_sha256, "utilization_3m_avg"):
        assert fact in card
    assert home.registry.metrics(version)["auc"] > 0.6
    assert version.tags["materiality"] == "high"


def test_mlflow_opens_the_model_by_itself(home: Book) -> None:
    import mlflow.lightgbm
    from mlflow.models import Model

    version = home.registry.production("pd_default")
    folder = home.registry.artifact_path(version).parent
    booster = mlflow.lightgbm.load_model(str(folder))
    ours = home.registry.load(version)
    assert booster.predict(ROWS, raw_score=True).tobytes() == native.log_odds(ours, ROWS).tobytes()
    signature = Model.load(str(folder)).signature
    assert tuple(signature.inputs.input_names()) == native.features(ours)


def test_no_approved_model_says_how_to_get_one(book: Book) -> None:
    with pytest.raises(ModelRefused, match="no approved model for pd_unheard") as refused:
        book.registry.production("pd_unheard")
    assert "scoretrace retrain --model pd_unheard" in refused.value.next_step
    book.registry._client.delete_registered_model_alias("pd_default", "production")
    with pytest.raises(ModelRefused) as refused:
        book.registry.production("pd_default")
    assert "scoretrace promotions request pd_default 1 --reason" in refused.value.next_step


def test_an_unknown_version_names_those_there_are(home: Book) -> None:
    with pytest.raises(NotFound, match=r"no version 7 \(registered: 1\)"):
        home.registry.get("pd_default", 7)


def test_the_same_bytes_are_the_same_version(book: Book) -> None:
    version = book.registry.production("pd_default")
    again = small_book.register(book, book.registry.text(version), training_set=version.training_set)
    assert again == version
    other = small_book.register(book, book.registry.text(version), training_set="1" * 64)
    assert other.version == 2


def test_one_changed_byte_is_refused_before_parsing(book: Book) -> None:
    version = book.registry.production("pd_default")
    path = book.registry.artifact_path(version)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ModelRefused) as refused:
        book.registry.load(version)
    assert version.digest in refused.value.message
    assert hashlib.sha256(content).hexdigest() in refused.value.message
    assert "pd_default version 1" in refused.value.message
    assert refused.value.next_step
    path.write_bytes(b"tree\nnot a model at all\n")  # LightGBM would end the process on this
    with pytest.raises(ModelRefused, match="has been changed"):
        book.registry.load(version)
    path.unlink()
    with pytest.raises(ModelRefused, match="cannot be read"):
        book.registry.load(version)


def test_a_home_copied_elsewhere_still_loads_and_registers(home: Book, tmp_path: Path) -> None:
    first = small_book.copy(home, tmp_path / "first")
    second = small_book.copy(first, tmp_path / "second")
    shutil.rmtree(first.settings.home)
    version = second.registry.production("pd_default")
    booster = second.registry.load(version)
    assert native.log_odds(booster, ROWS).tobytes() == native.log_odds(home.registry.load(version), ROWS).tobytes()
    new = small_book.register(second, second.registry.text(version), training_set="2" * 64)
    assert second.registry.artifact_path(new).is_relative_to(second.settings.home)
    assert second.registry.load(new).num_trees() == booster.num_trees()
    assert not first.settings.home.exists()
    assert [v.version for v in home.registry.versions("pd_default")] == [1]


def test_an_empty_home_has_no_versions_and_makes_no_store(tmp_path: Path) -> None:
    registry = Registry(Settings.at(tmp_path))
    assert registry.versions("pd_default") == ()
    assert registry.production_version("pd_default") is None
    assert list(tmp_path.iterdir()) == []


def test_the_digest_is_of_the_utf_8_bytes() -> None:
    assert text_digest("tree · 1") == hashlib.sha256("tree · 1".encode()).hexdigest()


def test_importing_is_fast_and_using_is_quiet_and_untracked(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from pipeline.config import Settings
from pipeline import nightly, registry, retrain, score
from pipeline.governance import approvals
heavy = {"mlflow", "lightgbm", "matplotlib", "pandas"} & set(sys.modules)
assert not heavy, heavy
client = registry.Registry(Settings.at(Path(sys.argv[1])))._client
assert client.search_registered_models() == []
from mlflow.telemetry.client import get_telemetry_client
assert get_telemetry_client() is None
"""
    # Without the variables by which MLflow recognises a test run, and turns its telemetry off by itself.
    env = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=REPOSITORY, env=env, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
