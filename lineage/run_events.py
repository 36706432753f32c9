"""One run's OpenLineage events, made from the ledger, the archive and the lake at each attempt's snapshot.

Run ids are derived from our own, so an event made twice names the same run.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
from openlineage.client.event_v2 import InputDataset, Job, OutputDataset, Run, RunEvent, RunState
from openlineage.client.serde import Serde
from sqlalchemy import Engine, select

from lineage import event_facets as facets
from lineage.columns import ColumnGraph, lake_at, run_lineage, scored_tables
from lineage.event_datasets import Descriptions, LakeTables, catalog_uri
from lineage.event_transport import Event
from pipeline import archive, control, lake, ledger
from pipeline.config import DBT_PROJECT, REPOSITORY, Settings
from pipeline.errors import NotFound
from pipeline.governance.promotion_log import LetScore, let_score
from pipeline.ledger import DbtResult, ScoredModel, TaskAttempt
from pipeline.portfolio import Portfolio
from pipeline.portfolio import load as load_portfolio

Datasets = tuple[list[InputDataset], list[OutputDataset]]

_WITHOUT_DBT = ("land", "gate", "score", "train")
_SKIPPED = "skipped"
_GOOD = ("success", "pass", "warn")


class RunEvents:
    """Makes the events of one run. Asked in the order things happened: each dbt result is told of once."""

    def __init__(self, settings: Settings, engine: Engine, run_id: str) -> None:
        self.settings = settings
        self.engine = engine
        self.run_id = run_id
        self._record = ledger.run(engine, run_id)
        self._portfolio: Portfolio = load_portfolio(settings.portfolio_dir)
        self._root = facets.run_uuid(run_id)
        self._told = 0  # id of the last dbt result that was told of
        self._verdicts_told = 0
        self._notes: list[str] = []
        self._opened: dict[int | None, duckdb.DuckDBPyConnection] = {}

    @property
    def namespace(self) -> str:
        """Of this portfolio's tables. No path: a home may be moved, and its tables are the same."""
        return f"ducklake://{self._portfolio.name}"

    @property
    def _jobs(self) -> str:
        return f"scoretrace://{self._portfolio.name}"

    def take_notes(self) -> list[str]:
        """What could not be told, since the last time this was asked."""
        notes, self._notes = self._notes, []
        return notes

    def close(self) -> None:
        """Let go of the lake."""
        for con in self._opened.values():
            con.close()
        self._opened.clear()

    def _lake_at(self, snapshot: int | None) -> duckdb.DuckDBPyConnection:
        """The lake as the attempt left it. While the run goes on that is the newest snapshot, and one connection does:
        opening one takes longer than all that is asked of it."""
        if None not in self._opened:
            self._opened[None] = lake.connect(self.settings)
        if snapshot is None or lake.current_snapshot(self._opened[None]) == snapshot:
            return self._opened[None]
        if snapshot not in self._opened:
            self._opened[snapshot] = lake_at(self.settings, snapshot, self._notes)
        return self._opened[snapshot]

    # -- the run and its tasks

    def run_started(self) -> list[Event]:
        """START of the whole run."""
        return [self._event(RunState.START, self._record.started_at, self._run(self._root), self._job_of_run())]

    def run_finished(self) -> list[Event]:
        """COMPLETE or FAIL of the whole run, as the ledger has it by now."""
        record = ledger.run(self.engine, self.run_id)
        run = self._run(self._root, error=record.message if record.failed else None)
        state = RunState.FAIL if record.failed else RunState.COMPLETE
        return [self._event(state, record.ended_at or record.started_at, run, self._job_of_run())]

    def task_started(self, task: str, attempt: int) -> list[Event]:
        """START of one attempt."""
        found = self._attempt(task, attempt)
        return [self._event(RunState.START, found.started_at, self._task_run(found), self._task_job(task))]

    def task_finished(self, task: str, attempt: int) -> list[Event]:
        """The dbt models and tests that the attempt ran, then its own COMPLETE or FAIL."""
        found = self._attempt(task, attempt)
        results: list[DbtResult] = []
        if task not in _WITHOUT_DBT:
            results = [r for r in ledger.dbt_results(self.engine, self.run_id) if r.id > self._told]
            self._told = max((r.id for r in results), default=self._told)
        described = Descriptions.of(self.settings, (found.detail or {}).get("manifest_sha256"))
        place = (self.namespace, catalog_uri(self.settings))
        tables = LakeTables(lambda: self._lake_at(found.snapshot_after), found.snapshot_after, place, described)
        events = self._dbt_events(found, results, tables) if results else []
        inputs, outputs = self._task_datasets(found, tables)
        ended = found.ended_at or found.started_at
        failed = found.status == "failed"
        run = self._task_run(found, error=(found.error or "").partition("\n  next: ")[0] if failed else None)
        state = RunState.FAIL if failed else RunState.COMPLETE
        return [*events, self._event(state, ended, run, self._task_job(task), inputs, outputs)]

    def _task_datasets(self, attempt: TaskAttempt, tables: LakeTables) -> Datasets:
        detail = attempt.detail or {}
        if attempt.task == "land":
            return self._landed(detail.get("loads", []), tables)
        if attempt.task == "gate":
            return self._gated(tables), []
        if attempt.task == "score":
            return self._scored(detail.get("models", []), tables)
        if attempt.task in ("publish", "monitor") and attempt.status == "succeeded":
            return [tables.input(f"scores.{m.subject}_scores") for m in self._portfolio.models], []
        if attempt.task == "train":
            return self._trained(tables)
        return [], []

    def _landed(self, loads: Sequence[Mapping[str, Any]], tables: LakeTables) -> Datasets:
        rows: dict[str, int] = defaultdict(int)
        for load in loads:
            rows[str(load["load_id"]).partition(".")[0]] += 0 if load["outcome"] == "unchanged" else int(load["rows"])
        files = [
            InputDataset(
                f"{self.namespace}/extracts",
                name,
                facets={"version": facets.dataset_version(sha256)},
            )
            for name, sha256 in tables.files([str(load["load_id"]) for load in loads])
        ]
        return files, [tables.output(f"raw.{table}", rows=count) for table, count in rows.items()]

    def _gated(self, tables: LakeTables) -> list[InputDataset]:
        found = [v for v in ledger.gate_verdicts(self.engine, self.run_id) if v.id > self._verdicts_told]
        self._verdicts_told = max((v.id for v in found), default=self._verdicts_told)
        by_table = defaultdict(list)
        for verdict in sorted(found, key=lambda v: v.id):
            by_table[verdict.subject.partition(".")[0]].append(verdict)
        return [
            tables.input(f"raw.{table}", {"dataQualityAssertions": facets.gate_assertions(verdicts)})
            for table, verdicts in by_table.items()
        ]

    def _scored(self, models: Sequence[Mapping[str, Any]], tables: LakeTables) -> Datasets:
        inputs: list[InputDataset] = []
        outputs: list[OutputDataset] = []
        subjects = {spec.name: spec.subject for spec in self._portfolio.models}
        for model in models:
            name, number, rows = str(model["name"]), int(model["version"]), int(model["rows"])
            promoted = let_score(self.engine, name, number)
            inputs.append(tables.input(f"features.{subjects[name]}_features"))
            inputs.append(self._model(InputDataset, name, number, promoted, subjects[name]))
            if promoted is None:
                continue
            scoring = ScoredModel(name, number, promoted.model_digest, subjects[name], rows)
            for table in scored_tables(self.settings, scoring, tables.catalog, self._notes):
                own = rows if table.table.endswith("_scores") else None
                outputs.append(tables.output(table.table, rows=own, lineage=table.lineage))
        return inputs, outputs

    def _trained(self, tables: LakeTables) -> Datasets:
        t = control.training_runs
        with self.engine.connect() as connection:
            found = connection.execute(select(t).where(t.c.run_id == self.run_id).order_by(t.c.id)).mappings().all()
        subjects = {spec.name: spec.subject for spec in self._portfolio.models}
        inputs = [tables.input(f"features.{subjects[row['model_name']]}_features") for row in found]
        outputs: list[OutputDataset] = []
        for row in found:
            if row["model_version"] is None or row["model_digest"] is None:
                continue
            facet = facets.model_version(
                version=row["model_version"],
                digest=row["model_digest"],
                subject=subjects[row["model_name"]],
                trainingSet=row["training_set"],
                trainingSnapshot=str(row["snapshot_id"]),
            )
            outputs.append(self._model_dataset(OutputDataset, row["model_name"], facet))
        return inputs, outputs

    def _model(self, kind: type[Any], name: str, number: int, promoted: LetScore | None, subject: str) -> Any:
        if promoted is None:
            return kind(f"{self._jobs}/models", name, facets={"version": facets.dataset_version(number)})
        facet = facets.model_version(
            version=number,
            digest=promoted.model_digest,
            subject=subject,
            promotedBy=promoted.actor,
            promotedAt=facets.timestamp(promoted.promoted_at),
        )
        return self._model_dataset(kind, name, facet)

    def _model_dataset(self, kind: type[Any], name: str, facet: facets.ModelDatasetFacet) -> Any:
        own = {"version": facets.dataset_version(facet.version), facets.MODEL_FACET: facet}
        return kind(f"{self._jobs}/models", name, facets=own)

    # -- dbt

    def _dbt_events(self, attempt: TaskAttempt, results: Sequence[DbtResult], tables: LakeTables) -> list[Event]:
        models = [r for r in results if r.resource_type == "model" and r.status != _SKIPPED]
        tests = [r for r in results if r.resource_type == "test" and r.status != _SKIPPED]
        graph = self._graph(tables)
        last = {r.model: r.id for r in models}
        events: list[Event] = []
        # The ledger keeps how long each node took, not when it began; models ran one after the other.
        moment, latest = attempt.started_at, attempt.ended_at or attempt.started_at
        for result in models:
            began, moment = moment, min(moment + timedelta(seconds=result.seconds), latest)
            events += self._model_events(attempt, result, (began, moment), graph, tables, last[result.model])
        if tests:
            ended = min(moment + timedelta(seconds=sum(t.seconds for t in tests)), latest)
            events += self._test_events(attempt, tests, (moment, ended), tables)
        return events

    def _model_events(
        self,
        attempt: TaskAttempt,
        result: DbtResult,
        between: tuple[datetime, datetime],
        graph: ColumnGraph | None,
        tables: LakeTables,
        last: int,
    ) -> list[Event]:
        run_id = facets.run_uuid(self.run_id, "dbt", result.id)
        name = f"{self._job_name(attempt.task)}.{result.model}"
        job = Job(self._jobs, name, self._model_code(result.model))
        failed = result.status not in _GOOD
        began = self._event(RunState.START, between[0], self._part_run(attempt, run_id), job)
        known = next((t for t in graph.tables.values() if t.model == result.model), None) if graph else None
        inputs: list[InputDataset] = []
        outputs: list[OutputDataset] = []
        if known is not None and known.lineage is not None:
            inputs = [tables.input(name) for name in known.lineage.tables]
            if not failed:
                # A table that the same attempt built again later, or built in part, no longer has the rows written.
                whole = result.id == last and result.executed_sha256 == result.definition_sha256
                rows = tables.rows(known.table, self._record.as_of) if whole else None
                outputs = [tables.output(known.table, rows=rows, lineage=known.lineage)]
        run = self._part_run(attempt, run_id, error=(result.message or "it failed") if failed else None, language="SQL")
        if result.executed_sha256:
            ran = {"sql": facets.sql(archive.read_text(self.settings, result.executed_sha256))}
            job = Job(self._jobs, name, (job.facets or {}) | ran)
        state = RunState.FAIL if failed else RunState.COMPLETE
        return [began, self._event(state, between[1], run, job, inputs, outputs)]

    def _test_events(
        self, attempt: TaskAttempt, tests: Sequence[DbtResult], between: tuple[datetime, datetime], tables: LakeTables
    ) -> list[Event]:
        """One run for the data tests of an attempt, each tested table an input with its assertions."""
        run_id = facets.run_uuid(self.run_id, "dbt", "test", tests[0].id)
        job = Job(self._jobs, f"{self._job_name(attempt.task)}.tests", {"jobType": facets.job_type("DBT", "TEST")})
        severities = tables.descriptions.severities
        by_table = defaultdict(list)
        for test in tests:
            by_table[test.model].append(test)
        inputs = [
            tables.input(tables.named(model), {"dataQualityAssertions": facets.test_assertions(results, severities)})
            for model, results in sorted(by_table.items())
        ]
        broken = [t for t in tests if t.status not in _GOOD]
        error = f"{len(broken)} of {len(tests)} data tests failed, first {broken[0].unique_id}" if broken else None
        run = self._part_run(attempt, run_id, error=error, language="SQL")
        state = RunState.FAIL if broken else RunState.COMPLETE
        return [
            self._event(RunState.START, between[0], self._part_run(attempt, run_id), job),
            self._event(state, between[1], run, job, inputs),
        ]

    def _graph(self, tables: LakeTables) -> ColumnGraph | None:
        try:
            graph = run_lineage(self.settings, self.engine, self.run_id, catalog=tables.catalog)
        except NotFound as error:
            self._notes.append(error.message)  # every model failed before it had SQL
            return None
        self._notes += graph.notes
        self._notes += [f"{table}.{lost.output} is untraceable: {lost.reason}" for table, lost in graph.untraceable]
        return graph

    def _model_code(self, model: str) -> facets.JobFacets:
        own: facets.JobFacets = {"jobType": facets.job_type("DBT", "MODEL")}
        file = next(iter(sorted(DBT_PROJECT.glob(f"models/*/{model}.sql"))), None)
        return own | ({"sourceCodeLocation": self._location(file)} if file is not None else {})

    # -- pieces

    def _attempt(self, task: str, attempt: int) -> TaskAttempt:
        for found in ledger.task_attempts(self.engine, self.run_id):
            if (found.task, found.attempt) == (task, attempt):
                return found
        raise NotFound(f"run {self.run_id} has no attempt {attempt} of {task}", "`scoretrace status` names the runs")

    def _job_name(self, task: str) -> str:
        return f"{self._record.kind}.{task}"

    def _job_of_run(self) -> Job:
        own: facets.JobFacets = {"jobType": facets.job_type("SCORETRACE", "DAG")}
        return Job(self._jobs, self._record.kind, own | self._task_code())

    def _task_job(self, task: str) -> Job:
        own: facets.JobFacets = {"jobType": facets.job_type("SCORETRACE", "TASK")}
        return Job(self._jobs, self._job_name(task), own | self._task_code())

    def _task_code(self) -> facets.JobFacets:
        file = REPOSITORY / "pipeline" / f"{self._record.kind}.py"
        return {"sourceCodeLocation": self._location(file)} if file.is_file() else {}

    def _location(self, file: Path) -> Any:
        path = file.relative_to(REPOSITORY).as_posix()
        return facets.source_code_location(REPOSITORY, path, str(self._record.environment.get("code", "")))

    def _run(self, run_id: str, *, error: str | None = None, language: str = "PYTHON") -> Run:
        own: facets.RunFacets = {
            "nominalTime": facets.nominal_time(
                self._portfolio.period_start(self._record.as_of), self._record.as_of, self._portfolio.timezone
            ),
            "processing_engine": facets.processing_engine(str(self._record.environment.get("duckdb", "unknown"))),
        }
        if error is not None:
            own["errorMessage"] = facets.error_message(error, language)
        return Run(run_id, own)

    def _task_run(self, attempt: TaskAttempt, error: str | None = None) -> Run:
        run = self._run(facets.run_uuid(self.run_id, attempt.task, attempt.attempt), error=error)
        root = (self._root, self._record.kind)
        return Run(
            run.runId, (run.facets or {}) | {"parent": facets.parent(self._root, self._jobs, self._record.kind, root)}
        )

    def _part_run(self, attempt: TaskAttempt, run_id: str, error: str | None = None, language: str = "SQL") -> Run:
        run = self._run(run_id, error=error, language=language)
        task = facets.run_uuid(self.run_id, attempt.task, attempt.attempt)
        root = (self._root, self._record.kind)
        return Run(
            run_id,
            (run.facets or {}) | {"parent": facets.parent(task, self._jobs, self._job_name(attempt.task), root)},
        )

    def _event(
        self,
        state: RunState,
        moment: datetime,
        run: Run,
        job: Job,
        inputs: Iterable[InputDataset] = (),
        outputs: Iterable[OutputDataset] = (),
    ) -> Event:
        event = RunEvent(
            eventType=state,
            eventTime=facets.timestamp(moment),
            run=run,
            job=job,
            inputs=list(inputs),
            outputs=list(outputs),
            producer=facets.producer(),
        )
        return dict(Serde.to_dict(event))
