"""The feature build: dbt in process, on one as-of date, with everything that ran archived by its content.

dbt owns the SQL and its transactions; this module decides *what* dbt must rebuild (from the loads that came,
went or moved since a table was last built), calls it, and turns its results into facts.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
from dbt.adapters.duckdb.connections import DuckDBConnectionManager
from dbt.cli.main import dbtRunner, dbtRunnerResult
from dbt.contracts.graph.manifest import Manifest

from pipeline import archive, lake
from pipeline.config import DBT_PROJECT, Settings
from pipeline.contracts import CONTRACTS
from pipeline.errors import ConfigError, FeatureBuildFailed, TaskTimeout, redacted
from pipeline.portfolio import Portfolio
from pipeline.rebuild import BATCH_ROWS, Rebuilt, count, definition_sha256, exists, stands, to_rebuild
from pipeline.sql import literals

FEATURE_LAYERS = ("path:models/staging", "path:models/intermediate", "path:models/features")
MARTS = ("path:models/marts",)

_PARTITIONED = ("account_features", "application_features")
_IN_MEMORY_ROWS = 300_000  # of some 150 columns: about 400 MB
_NOTHING = Rebuilt(())
_GOOD = ("success", "pass", "warn")


@dataclass(frozen=True)
class DbtNode:
    """One model or test as it ran.

    model: for a test, the model or source it is attached to. failures: rows that broke a test.
    executed_sha256: the compiled SQL as it ran, in the archive (models, and tests that did not pass).
    definition_sha256: the model's whole SQL at this as-of date, however little of it was rebuilt.
    """

    unique_id: str
    resource_type: str
    model: str
    column: str | None
    status: str
    failures: int | None
    seconds: float
    message: str | None
    executed_sha256: str | None
    definition_sha256: str | None


@dataclass(frozen=True)
class BuildResult:
    """What one build did. ``passed`` and ``failed`` count tests."""

    as_of: date
    nodes: tuple[DbtNode, ...]
    rebuilt: Rebuilt
    manifest_sha256: str
    manifest_path: Path
    run_results_sha256: str | None
    test_results_sha256: str | None = None

    @property
    def passed(self) -> int:
        return sum(n.resource_type == "test" and n.status in ("pass", "warn") for n in self.nodes)

    @property
    def failed(self) -> int:
        return sum(n.resource_type == "test" and n.status in ("fail", "error") for n in self.nodes)


class BuildFailed(FeatureBuildFailed):
    """A build that stopped; ``result`` holds what had run by then, the failure included."""

    def __init__(self, message: str, next_step: str, result: BuildResult) -> None:
        super().__init__(message, next_step)
        self.result = result


class Warehouse:
    """The dbt project of one home. Parses once, then reuses the manifest for every build.

    Only the holder of the writer lease may build. Not for several threads at once: dbt is not.
    """

    def __init__(self, settings: Settings, portfolio: Portfolio, *, batch_rows: int = BATCH_ROWS) -> None:
        self.settings = settings
        self.portfolio = portfolio
        self.batch_rows = batch_rows
        self._parsed: Manifest | None = None
        self._manifest: dict[str, Any] | None = None
        self._manifest_file: tuple[str, Path] | None = None
        self._lake: duckdb.DuckDBPyConnection | None = None

    def manifest(self) -> dict[str, Any]:
        """dbt's manifest as a dictionary: models, columns, tests, exposures."""
        if self._manifest is None:
            self._manifest = self._project().writable_manifest().to_dict()
        return self._manifest

    def build(
        self,
        as_of: date,
        *,
        period_start: date | None = None,
        run_id: str | None = None,
        select: Sequence[str] | None = None,
        tests: bool = True,
        tested_dates: Sequence[date] | None = None,
    ) -> BuildResult:
        """Build and test the selected models at an as-of date; by default every layer up to the features.

        period_start: first day of the period the night covers, by default as the portfolio's calendar has it.
        run_id: stands in the archived run results as the run that built. tests: False builds without testing.
        tested_dates: as-of partitions that the tests read, by default the as-of date's alone.
        Raises FeatureBuildFailed (with ``result``) when a model or a test fails; what a model had committed stays.
        """
        with self._session() as con:
            rebuilt = to_rebuild(con, self.manifest(), self._constants(), as_of, self.batch_rows)
        variables = self._variables(as_of, period_start) | rebuilt.as_variables()
        variables["definition_sha256"] = rebuilt.definition_sha256 | {
            table: self._partition_definition(table, date.fromisoformat(variables["period_start"]))
            for table in _PARTITIONED
        }
        if tested_dates is not None:
            variables["tested_dates"] = [d.isoformat() for d in tested_dates]
        selection = ["--select", *(select or FEATURE_LAYERS)]
        built = self._run("run", as_of, selection, variables, run_id, rebuilt)
        if not tests:
            return built
        tested = self._run("test", as_of, selection, variables, run_id, rebuilt, before=built.nodes)
        return replace(
            tested, run_results_sha256=built.run_results_sha256, test_results_sha256=tested.run_results_sha256
        )

    def test(self, dates: Sequence[date], *, select: Sequence[str], run_id: str | None = None) -> BuildResult:
        """Run the data tests of the selected models over the partitions of several dates, building nothing."""
        last = max(dates)
        variables = self._variables(last, min(dates)) | {"tested_dates": [d.isoformat() for d in dates]}
        return self._run("test", last, ["--select", *select], variables, run_id)

    def unit_test(self) -> BuildResult:
        """Run dbt's unit tests: models against fixtures. The tables they stand for must have been built once."""
        today = self._variables(date(2026, 3, 14), None)
        return self._run("test", date(2026, 3, 14), ["--select", "test_type:unit"], today, None)

    def unbuilt(self, table: str, dates: Sequence[date]) -> list[date]:
        """Which of the as-of dates lack a partition of ``account_features`` or ``application_features`` that still
        stands: built for its whole month from today's definition, and no load up to that date came or went since."""
        with self._session() as con:
            return [
                day
                for day in sorted(dates)
                if not stands(con, table, day, self._partition_definition(table, day.replace(day=1)))
            ]

    def _partition_definition(self, table: str, period_start: date) -> str:
        """Hash that a partition is marked with. Which applications one holds depends on where its period starts."""
        definition = definition_sha256(self.manifest(), table, self._constants())
        if table == "account_features":
            return definition
        return hashlib.sha256(f"{definition} from {period_start}".encode()).hexdigest()

    def _session(self) -> closing[duckdb.DuckDBPyConnection]:
        """A reading session; the connection beneath stays open, since loading its extensions takes half a second."""
        if self._lake is None:
            self._lake = lake.connect(self.settings)
        return closing(lake.session(self._lake))

    # -- calling dbt

    def _constants(self) -> dict[str, Any]:
        """Vars that are the same for every night of a home."""
        return {
            "id_type": self.portfolio.id_type.lower(),
            "label_events": list(self.portfolio.label.events),
            "exclude_dpd": self.portfolio.exclude_dpd,
        }

    def _variables(self, as_of: date, period_start: date | None) -> dict[str, Any]:
        start = period_start or self.portfolio.period_start(as_of)
        return self._constants() | {"as_of": as_of.isoformat(), "period_start": start.isoformat()}

    def _project(self) -> Manifest:
        if self._parsed is None:
            outcome = self._invoke("parse", [], self._constants(), None)
            _raise_what_stopped(outcome)
            if not isinstance(outcome.result, Manifest):
                raise ConfigError(
                    f"the dbt project cannot be parsed: {_first_lines(outcome.exception)}",
                    "correct the named file under dbt/ and run the same command again",
                )
            self._parsed = outcome.result
        return self._parsed

    def _invoke(
        self, command: str, selection: Sequence[str], variables: dict[str, Any], run_id: str | None
    ) -> dbtRunnerResult:
        """One dbt invocation in this process: quiet, writing only below the home's work folder."""
        work = self.settings.work_dir / "dbt"
        testing, parsing = command == "test", command == "parse"
        # Parsing reads files alone. dbt keeps what it parsed for as long as vars and environment are the same ones,
        # so they name no home here: one that was moved or copied is not parsed anew, which takes seconds.
        connection = {
            "home": "." if parsing else str(self.settings.home),
            "memory_limit": "" if parsing else self.settings.memory_limit,
            # On a small book a test's query costs less on one DuckDB thread than it costs to share it out.
            "threads": "1" if parsing or variables.get("tables_in_memory") else str(self.settings.threads or ""),
        }
        catalog = "" if parsing else self.settings.lake_catalog
        arguments = [
            "--quiet", "--log-level", "none", "--log-level-file", "none", "--no-use-colors",
            "--no-send-anonymous-usage-stats",
            "--no-write-json",  # the archive keeps manifest and results; writing them again costs a second each
            command,
            "--project-dir", str(DBT_PROJECT),
            "--profiles-dir", str(DBT_PROJECT),
            "--target-path", str(work / "target"),
            "--log-path", str(work / "logs"),
            "--vars", json.dumps(connection | variables | ({"run_id": run_id} if run_id else {})),
            *selection,
        ]  # fmt: skip
        if testing:
            # buildable: a test that also reads a table further down (a mart, before its first night) waits for that.
            arguments += ["--indirect-selection", "buildable"]
            if "test_type:unit" not in selection:
                arguments += ["--exclude-resource-type", "unit_test"]
        manifest = None if parsing else self._project()
        with _working_directory_kept(), _environment("SCORETRACE_LAKE_CATALOG", catalog):
            try:
                return dbtRunner(manifest=manifest).invoke(arguments)
            finally:
                _disconnect()

    # -- results

    def _run(
        self,
        command: str,
        as_of: date,
        selection: Sequence[str],
        variables: dict[str, Any],
        run_id: str | None,
        rebuilt: Rebuilt = _NOTHING,
        before: tuple[DbtNode, ...] = (),
    ) -> BuildResult:
        """Invoke dbt and turn what it reports into a result, archived; raise if anything failed."""
        digest, path = self._archive_manifest()
        if command == "test" and "test_type:unit" not in selection:
            variables = variables | {"tables_in_memory": self._small_tables(variables.get("tested_dates", [as_of]))}
        outcome = self._invoke(command, selection, variables, run_id)
        reported: Any = outcome.result
        if reported is None:
            _raise_what_stopped(outcome)
            raise BuildFailed(
                f"dbt {command} did not run at {as_of}: {_first_lines(outcome.exception)}",
                "correct the named file under dbt/ and run the same command again",
                BuildResult(as_of, before, rebuilt, digest, path, None),
            )
        hook = "operation"  # reading the tested partitions: no model and no test, worth a word only when it fails
        nodes = tuple(
            self._node(r) for r in reported.results if r.node.resource_type != hook or str(r.status) not in _GOOD
        )
        told = reported.to_dict(omit_none=False)
        told.pop("args", None)  # how dbt was called: paths of this machine, and whatever its vars hold
        archived = archive.keep(self.settings, json.dumps(_without_passwords(told), default=str).encode())
        result = BuildResult(
            as_of,
            before + nodes,
            rebuilt,
            digest,
            path,
            archived,
        )
        bad = [n for n in nodes if n.status not in (*_GOOD, "skipped")]
        if bad or not outcome.success:
            raise BuildFailed(*_explain(as_of, bad), result)
        return result

    def _node(self, result: Any) -> DbtNode:
        node, status = result.node, str(result.status)
        is_test = node.resource_type == "test"
        compiled = getattr(node, "compiled_code", None) or ""
        kept = compiled and (not is_test or status != "pass")
        executed = archive.keep(self.settings, compiled.encode()) if kept else None
        return DbtNode(
            unique_id=node.unique_id,
            resource_type=str(node.resource_type),
            model=_attached_to(node) if is_test else node.name,
            column=getattr(node, "column_name", None),
            status=status,
            failures=result.failures,
            seconds=float(result.execution_time),
            message=redacted(result.message) if result.message else None,
            executed_sha256=executed,
            definition_sha256=archive.keep(self.settings, whole_definition(compiled).encode())
            if executed and not is_test
            else None,
        )

    def _small_tables(self, dates: Sequence[date | str]) -> list[str]:
        """Feature tables whose tested partitions fit in memory many times over."""
        days = literals([str(d) for d in dates])
        with self._session() as con:
            return [
                table
                for table in _PARTITIONED
                if exists(con, "features", table)
                and count(con, f"SELECT count(*) FROM features.{table} WHERE as_of_date IN ({days})") <= _IN_MEMORY_ROWS
            ]

    def _archive_manifest(self) -> tuple[str, Path]:
        """Archive the manifest without its time stamps, so that one state of the project is one file."""
        if self._manifest_file is None:
            content = json.dumps(_without_times(self.manifest()), sort_keys=True, default=str).encode()
            digest = archive.keep(self.settings, content)
            self._manifest_file = (digest, archive.path_of(self.settings, digest))
        return self._manifest_file


_REBUILD = re.compile(r"\s*/\* rebuild \*/.*?/\* end rebuild \*/", re.DOTALL)


def whole_definition(compiled: str) -> str:
    """A model's SQL for every month, from the SQL that rebuilt some: what a replay runs."""
    return _REBUILD.sub("", compiled)


# -- edges


def _raise_what_stopped(outcome: dbtRunnerResult) -> None:
    """Raise what ended dbt from outside (a signal, a limit of time, a full disk, no memory): no file of the project is
    to blame for it, and it may be worth another try."""
    if isinstance(outcome.exception, KeyboardInterrupt | TaskTimeout | OSError | MemoryError):
        raise outcome.exception


def _explain(as_of: date, bad: list[DbtNode]) -> tuple[str, str]:
    # Upstream first: a bad raw value breaks every feature made of it, and the raw column is the one to look at.
    tests = sorted((n for n in bad if n.resource_type == "test" and n.status == "fail"), key=_layer)
    broken = [n for n in bad if n not in tests]
    lines = [f"features at {as_of}: {len(broken)} could not run, {len(tests)} data tests failed"]
    for node in broken[:3]:
        lines.append(f"  {node.unique_id}: {_first_lines(node.message)}")
    for node in tests[:5]:
        where = f"{node.model}.{node.column}" if node.column else node.model
        lines.append(f"  {where}: {node.failures} rows break {node.unique_id.split('.')[2]}")
    return "\n".join(lines), (
        "nothing was scored or published; look at the named rows, correct or reject their load, "
        "and run the same command again"
    )


def _layer(node: DbtNode) -> int:
    return 0 if node.model in CONTRACTS else {"stg_": 1, "int_": 2}.get(node.model[:4], 3)


def _attached_to(node: Any) -> str:
    attached = getattr(node, "attached_node", None)
    if attached:
        return str(attached).split(".")[-1]
    parents = node.depends_on.nodes
    return str(parents[0]).split(".")[-1] if parents else node.name


def _without_passwords(told: Any) -> Any:
    """What dbt tells of a build, each text of it without the passwords that a library may have put in."""
    if isinstance(told, str):
        return redacted(told)
    if isinstance(told, dict):
        return {key: _without_passwords(value) for key, value in told.items()}
    return [_without_passwords(value) for value in told] if isinstance(told, list | tuple) else told


def _first_lines(error: object, count: int = 6) -> str:
    text = str(error or "dbt gave no reason").strip()
    return "\n".join(text.splitlines()[:count])


def _without_times(manifest: dict[str, Any]) -> dict[str, Any]:
    """The manifest less what differs between two parses of the same files."""
    passing = ("generated_at", "invocation_id", "invocation_started_at", "env", "user_id", "project_id")

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: clean(v) for k, v in value.items() if k != "created_at"}
        return [clean(v) for v in value] if isinstance(value, list) else value

    metadata = {k: v for k, v in manifest["metadata"].items() if k not in passing}
    return dict(clean({k: v for k, v in manifest.items() if k != "metadata"})) | {"metadata": metadata}


@contextmanager
def _working_directory_kept() -> Iterator[None]:
    """dbt changes into its project; the caller's directory is its own."""
    before = Path.cwd()
    try:
        yield
    finally:
        os.chdir(before)


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """One variable of this process, for as long as dbt reads it."""
    before = os.environ.get(name)
    os.environ[name] = value
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before


def _disconnect() -> None:
    """Close the DuckDB that dbt would keep open until the process ends, with its memory and its hold on the lake."""
    with DuckDBConnectionManager._LOCK:
        environment = DuckDBConnectionManager._ENV
        DuckDBConnectionManager.close_all_connections()
    if environment is not None:
        environment.close()
