"""Recorded facts as OpenLineage facets. Pure: each function takes facts and returns facets, nothing is read here."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import attr
from openlineage.client.facet_v2 import (
    DatasetFacet,
    InputDatasetFacet,
    JobFacet,
    OutputDatasetFacet,
    RunFacet,
    column_lineage_dataset,
    data_quality_assertions_dataset,
    dataset_version_dataset,
    datasource_dataset,
    error_message_run,
    job_type_job,
    nominal_time_run,
    output_statistics_output_dataset,
    parent_run,
    processing_engine_run,
    schema_dataset,
    source_code_location_job,
    sql_job,
)

from lineage.column_walk import ColumnLineage, Input
from pipeline.ledger import DbtResult, GateVerdict

RUN_IDS = uuid.UUID("6f1d6a0e-5d0b-5f0e-9b7e-2f5c1a3d9e41")
"""Namespace of the UUIDs that this project derives for runs; any fixed UUID would do, this one must never change."""

MODEL_FACET = "scoretrace_model"


@cache
def our_version() -> str:
    """The installed version of this package, looked up once: it is named in every facet."""
    return version("scoretrace")


def producer() -> str:
    """The URI that names this software as the source of an event."""
    return f"urn:scoretrace:{our_version()}"


def run_uuid(*parts: str | int) -> str:
    """The run id of a run, of a task's attempt or of a dbt node: the same each time it is derived."""
    return str(uuid.uuid5(RUN_IDS, "/".join(str(part) for part in parts)))


def timestamp(moment: datetime) -> str:
    """RFC 3339 with zone, in UTC."""
    return moment.astimezone(UTC).isoformat()


# -- runs and jobs


def parent(run_id: str, namespace: str, name: str, root: tuple[str, str] | None = None) -> parent_run.ParentRunFacet:
    """The run that this one is part of, and the night it all is part of (root: its run id and job name)."""
    return parent_run.ParentRunFacet(
        run=parent_run.Run(runId=run_id),
        job=parent_run.Job(namespace=namespace, name=name),
        root=parent_run.Root(
            run=parent_run.RootRun(runId=root[0]), job=parent_run.RootJob(namespace=namespace, name=root[1])
        )
        if root
        else None,
        producer=producer(),
    )


def nominal_time(start: date, as_of: date, zone: str) -> nominal_time_run.NominalTimeRunFacet:
    """The period a night covers, from its first day to the end of the as-of date, in the portfolio's zone."""
    tz = ZoneInfo(zone)
    return nominal_time_run.NominalTimeRunFacet(
        nominalStartTime=datetime.combine(start, time.min, tz).isoformat(),
        nominalEndTime=datetime.combine(as_of + timedelta(days=1), time.min, tz).isoformat(),
        producer=producer(),
    )


def processing_engine(duckdb_version: str) -> processing_engine_run.ProcessingEngineRunFacet:
    """DuckDB, in the version that the run recorded."""
    return processing_engine_run.ProcessingEngineRunFacet(
        version=duckdb_version,
        name="DuckDB",
        openlineageAdapterVersion=our_version(),
        producer=producer(),
    )


def error_message(message: str, language: str) -> error_message_run.ErrorMessageRunFacet:
    """What went wrong, as the user was told."""
    return error_message_run.ErrorMessageRunFacet(message=message, programmingLanguage=language, producer=producer())


def job_type(integration: str, kind: str) -> job_type_job.JobTypeJobFacet:
    """What sort of job: (SCORETRACE, TASK), (DBT, MODEL), (DBT, TEST)."""
    return job_type_job.JobTypeJobFacet(
        processingType="BATCH", integration=integration, jobType=kind, producer=producer()
    )


def sql(query: str) -> sql_job.SQLJobFacet:
    """The statement as it ran."""
    return sql_job.SQLJobFacet(query=query, dialect="duckdb", producer=producer())


def source_code_location(repository: Path, path: str, code: str) -> source_code_location_job.SourceCodeLocationJobFacet:
    """The file in the checkout, and the commit that the run recorded (``+changed``: with changes not committed)."""
    return source_code_location_job.SourceCodeLocationJobFacet(
        type="git", url=(repository / path).as_uri(), path=path, version=code, producer=producer()
    )


# -- datasets


def schema(columns: Mapping[str, str], descriptions: Mapping[str, str]) -> schema_dataset.SchemaDatasetFacet:
    """Columns with their SQL types, in order."""
    return schema_dataset.SchemaDatasetFacet(
        fields=[
            schema_dataset.SchemaDatasetFacetFields(
                name=name,
                type=kind or None,
                description=descriptions.get(name) or None,
                ordinal_position=position,
                fields=None,
            )
            for position, (name, kind) in enumerate(columns.items(), start=1)
        ],
        producer=producer(),
    )


def data_source(name: str, uri: str) -> datasource_dataset.DatasourceDatasetFacet:
    """Where the dataset is kept."""
    return datasource_dataset.DatasourceDatasetFacet(name=name, uri=uri, producer=producer())


def dataset_version(value: str | int) -> dataset_version_dataset.DatasetVersionDatasetFacet:
    """Snapshot of a table, number of a model, hash of a file."""
    return dataset_version_dataset.DatasetVersionDatasetFacet(datasetVersion=str(value), producer=producer())


def output_statistics(rows: int) -> output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet:
    """How many rows were written."""
    return output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(rowCount=rows, producer=producer())


def column_lineage(lineage: ColumnLineage, namespace: str) -> column_lineage_dataset.ColumnLineageDatasetFacet:
    """Inputs by output column, and those that decide over whole rows. The field ``*`` is a table's rows (count(*))."""
    return column_lineage_dataset.ColumnLineageDatasetFacet(
        fields={
            name: column_lineage_dataset.Fields(inputFields=_input_fields(inputs, namespace))
            for name, inputs in lineage.columns.items()
        },
        dataset=_input_fields(lineage.dataset, namespace),
        producer=producer(),
    )


def _input_fields(inputs: Iterable[Input], namespace: str) -> list[column_lineage_dataset.InputField]:
    return [
        column_lineage_dataset.InputField(
            namespace=namespace,
            name=i.table,
            field=i.column,
            transformations=[
                column_lineage_dataset.Transformation(type=t.type, subtype=t.subtype, masking=t.masking)
                for t in i.transformations
            ],
        )
        for i in inputs
    ]


def test_assertions(
    results: Sequence[DbtResult], severities: Mapping[str, str]
) -> data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet:
    """The data tests of one table. severities: dbt's unique id → ``error`` or ``warn``, where it is known."""
    return _assertions(
        data_quality_assertions_dataset.Assertion(
            assertion=_kind_of_test(result),
            success=result.status == "pass",
            column=result.column,
            severity=severities.get(result.unique_id, "warn" if result.status == "warn" else "error"),
            name=result.unique_id.split(".")[2],
            expected="0 rows",
            actual=None if result.failures is None else f"{result.failures} rows",
        )
        for result in results
    )


def gate_assertions(
    verdicts: Sequence[GateVerdict],
) -> data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet:
    """The gates' verdicts on one table."""
    return _assertions(
        data_quality_assertions_dataset.Assertion(
            assertion=verdict.gate,
            success=verdict.verdict == "pass",
            column=verdict.subject.partition(".")[2] or None,
            severity="warn" if verdict.verdict == "warn" else "error",
            name=f"{verdict.gate} {verdict.subject}",
            description=verdict.message,
            expected=verdict.expected,
            actual=None if verdict.observed is None else f"{verdict.observed:g}",
        )
        for verdict in verdicts
    )


def _assertions(
    assertions: Iterable[data_quality_assertions_dataset.Assertion],
) -> data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet:
    return data_quality_assertions_dataset.DataQualityAssertionsDatasetFacet(
        assertions=list(assertions), producer=producer()
    )


def _kind_of_test(result: DbtResult) -> str:
    """``not_null`` of ``not_null_account_features_account_id``: what stands before the table's name."""
    name = result.unique_id.split(".")[2].removeprefix("source_")
    before = name.partition(f"_{result.model}")[0]
    return before.removesuffix("_raw").removesuffix("_scores") if before != name else "custom_sql"


@attr.define
class ModelDatasetFacet(DatasetFacet):  # type: ignore[misc] # the client's classes carry no types here
    """A version of a scoring model as a dataset. Its schema is ``lineage/model_facet.json``."""

    version: int
    digest: str
    subject: str | None = attr.field(default=None)
    trainingSet: str | None = attr.field(default=None)
    trainingSnapshot: str | None = attr.field(default=None)
    promotedBy: str | None = attr.field(default=None)
    promotedAt: str | None = attr.field(default=None)

    @staticmethod
    def _get_schema() -> str:
        return "urn:scoretrace:openlineage:1-0-0:ModelDatasetFacet"


def model_version(**facts: Any) -> ModelDatasetFacet:
    """The model facet of these facts, named as its schema names them."""
    own: dict[str, Any] = {**facts, "producer": producer()}
    return ModelDatasetFacet(**own)


RunFacets = dict[str, RunFacet]
JobFacets = dict[str, JobFacet]
DatasetFacets = dict[str, DatasetFacet]
InputFacets = dict[str, InputDatasetFacet]
OutputFacets = dict[str, OutputDatasetFacet]
Facet = Any
