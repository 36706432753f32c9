"""What the records name in the archive: without it a night is not replayed, a version not trained again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from sqlalchemy import Engine, select

from pipeline import control
from pipeline.portfolio import Portfolio
from pipeline.registry import RECIPE, Registry


def named(engine: Engine, registry: Registry, portfolio: Portfolio) -> dict[str, str]:
    """SHA-256 of each file that a record names → the first record that does (``run …``, ``model …``)."""
    found: dict[str, str] = {}
    for digest, record in (*_by_runs(engine), *_by_versions(registry, portfolio)):
        found.setdefault(digest, record)
    return found


def _by_runs(engine: Engine) -> Iterator[tuple[str, str]]:
    """Compiled SQL, manifests, portfolios, models that scored and comparisons: of every run, superseded ones too."""
    results, attempts, comparisons = control.dbt_results.c, control.task_attempts.c, control.comparisons.c
    runs, publications = control.runs.c, control.publications.c
    with engine.connect() as connection:

        def rows(run_id: Any, *columns: Any) -> Iterator[Any]:
            return iter(connection.execute(select(run_id, *columns)))

        for run_id, *compiled in rows(results.run_id, results.executed_sha256, results.definition_sha256):
            yield from ((digest, f"run {run_id}") for digest in compiled if digest)
        for run_id, detail in rows(attempts.run_id, attempts.detail):
            if digest := (detail or {}).get("manifest_sha256"):
                yield digest, f"run {run_id}"
        for run_id, made_with in rows(runs.run_id, runs.environment):
            yield from ((digest, f"run {run_id}") for digest in made_with.get("portfolio_files", {}).values())
        for run_id, models in rows(publications.run_id, publications.models):
            yield from ((model["digest"], f"run {run_id}") for model in models)
        for run_id, digest in rows(comparisons.run_id, comparisons.sha256):
            yield digest, f"run {run_id}"


def _by_versions(registry: Registry, portfolio: Portfolio) -> Iterator[tuple[str, str]]:
    for spec in portfolio.models:
        for version in registry.versions(spec.name):
            if digest := version.tags.get(RECIPE):
                yield digest, f"model {version}"
