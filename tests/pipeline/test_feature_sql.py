"""What the dbt project declares and compiles to: complete, point in time, and the same bits on every run."""

from __future__ import annotations

import ast
import dataclasses
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest
import sqlglot
from sqlglot import exp

from pipeline import archive, lake
from pipeline.config import DBT_PROJECT, REPOSITORY, Settings
from pipeline.contracts import CONTRACTS
from pipeline.errors import ConfigError
from pipeline.features import FeatureSpec, feature_contract
from pipeline.portfolio import load, resolve
from pipeline.transform import FEATURE_LAYERS, BuildResult, Warehouse

AS_OF = date(2026, 3, 14)
# Order-free on integers and decimals only; on doubles their bits depend on the threads.
SUMS = (exp.Sum, exp.Avg)
# Bits depend on the threads whatever the type, or the answer on the order of the rows.
REFUSED = (
    exp.Stddev, exp.StddevPop, exp.StddevSamp, exp.Variance, exp.VariancePop, exp.Corr, exp.CovarPop, exp.CovarSamp,
    exp.AnyValue, exp.First, exp.Last, exp.FirstValue, exp.LastValue, exp.ArrayAgg, exp.GroupConcat, exp.ArgMax,
    exp.ArgMin, exp.Median, exp.PercentileCont, exp.Quantile, exp.Rand, exp.CurrentTimestamp, exp.CurrentDate,
    exp.CurrentTime, exp.Uuid, exp.Limit,
)  # fmt: skip
REFUSED_NAMES = {
    "now", "random", "uuid", "today", "get_current_timestamp", "regr_slope", "skewness", "kurtosis", "list", "mode",
    "string_agg", "product", "fsum", "favg", "kahan_sum", "entropy", "arg_max_null", "max_by", "min_by",
}  # fmt: skip
# A window's order is total when it ends in one of these: the key, or a row's own place in its file.
TIE_BREAKS = {"statement_date", "pulled_on", "source_row", "event_type"}


@dataclasses.dataclass(frozen=True)
class Project:
    warehouse: Warehouse
    manifest: dict[str, Any]
    result: BuildResult

    def sql(self, model: str) -> str:
        node = next(n for n in self.result.nodes if n.model == model)
        assert node.executed_sha256
        return archive.path_of(self.warehouse.settings, node.executed_sha256).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The project built over empty contracts, with text ids: nothing in it may depend on rows or on the ids' type."""
    settings = Settings.at(tmp_path_factory.mktemp("feature_sql") / "home")
    lake.create(settings, "VARCHAR")
    warehouse = Warehouse(settings, dataclasses.replace(load(resolve("cascade")), id_type="VARCHAR"))
    result = warehouse.build(AS_OF, select=(*FEATURE_LAYERS, "path:models/marts"), tests=False)
    yield Project(warehouse, warehouse.manifest(), result)


@pytest.fixture(scope="module")
def contract(project: Project) -> tuple[FeatureSpec, ...]:
    return feature_contract(project.manifest, "account")


def models(project: Project, *layers: str) -> list[str]:
    return [
        n["name"] for n in project.manifest["nodes"].values() if n["resource_type"] == "model" and n["fqn"][1] in layers
    ]


def offences(sql: str) -> list[str]:
    """What in a SELECT may give other bits on another run."""
    tree = sqlglot.parse_one(sql, dialect="duckdb")
    found = [node.sql("duckdb") for node in tree.find_all(*REFUSED)]
    found += [f.sql("duckdb") for f in tree.find_all(exp.Anonymous) if f.name.lower() in REFUSED_NAMES]
    for window in tree.find_all(exp.Window):
        order = window.args.get("order")
        last = order.expressions[-1].this if order else None
        if not isinstance(last, exp.Column) or last.name not in TIE_BREAKS:
            found.append(f"no total order: {window.sql('duckdb')}")
    for aggregate in tree.find_all(*SUMS):
        if any(c.to.is_type("double", "float") for c in aggregate.this.find_all(exp.Cast)) or aggregate.find(exp.Div):
            found.append(f"a sum of floats: {aggregate.sql('duckdb')}")
    return found


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT stddev_pop(x) FROM t",
        "SELECT first(x) FROM t",
        "SELECT any_value(x) FROM t",
        "SELECT max_by(x, y) FROM t",
        "SELECT random()",
        "SELECT now()",
        "SELECT current_date",
        "SELECT sum(CAST(x AS DOUBLE)) FROM t",
        "SELECT avg(x / y) FROM t",
        "SELECT row_number() OVER (PARTITION BY k) FROM t",
        "SELECT row_number() OVER (PARTITION BY k ORDER BY load_date) FROM t",
        "SELECT x FROM t LIMIT 1",
    ],
)
def test_the_rule_sees_what_it_is_for(sql: str) -> None:
    assert offences(sql)


def test_compiled_sql_gives_the_same_bits_on_every_run(project: Project) -> None:
    names = models(project, "staging", "intermediate", "features", "marts")
    assert len(names) >= 25
    assert {name: offences(project.sql(name)) for name in names if offences(project.sql(name))} == {}


def test_sums_in_the_aggregating_models_are_over_exact_types(project: Project) -> None:
    """The columns under a sum are integers or decimals in the raw contracts: no double enters the lake there."""
    types = {c.sql_type("VARCHAR") for t in CONTRACTS.values() for c in t.columns}
    assert not {t for t in types if t in ("DOUBLE", "FLOAT", "REAL")}


def test_no_select_star_and_no_query_while_compiling(project: Project) -> None:
    for name in models(project, "features", "marts", "staging", "intermediate"):
        assert not list(sqlglot.parse_one(project.sql(name), dialect="duckdb").find_all(exp.Star)) or all(
            isinstance(star.parent, exp.Count)
            for star in sqlglot.parse_one(project.sql(name), dialect="duckdb").find_all(exp.Star)
        ), name
    for path in DBT_PROJECT.rglob("*.sql"):
        if {"target", "logs"}.isdisjoint(path.relative_to(DBT_PROJECT).parts):
            assert "run_query" not in path.read_text(encoding="utf-8"), path


def test_slots_read_literal_months_and_join_on_the_account_alone(project: Project) -> None:
    tree = sqlglot.parse_one(project.sql("int_account_slots"), dialect="duckdb")
    months = [j for j in tree.find_all(exp.Join) if j.this.alias_or_name.startswith("month_")]
    assert len(months) == 25
    for join in months:
        assert isinstance(join.args["on"], exp.EQ)
        assert {c.name for c in join.args["on"].find_all(exp.Column)} == {"account_id"}
    wheres = [w.sql("duckdb") for w in tree.find_all(exp.Where)]
    assert sum("2026-03-01" in w for w in wheres) >= 2
    assert sum("2024-03-01" in w for w in wheres) == 1


def test_there_are_features_and_tests_enough(project: Project, contract: tuple[FeatureSpec, ...]) -> None:
    assert len(contract) >= 140
    assert {"dpd_30_rollup", "utilization_3m_avg", "bureau_score_delta"} <= {f.name for f in contract}
    assert len(feature_contract(project.manifest, "application")) >= 25
    tests = [n for n in project.manifest["nodes"].values() if n["resource_type"] == "test"]
    assert len(tests) >= 300
    assert len(project.manifest["unit_tests"]) >= 15


@pytest.mark.parametrize("subject", ["account", "application"])
def test_every_feature_is_documented(project: Project, subject: str) -> None:
    features = feature_contract(project.manifest, subject)
    for feature in features:
        assert feature.description.endswith("."), feature.name
        assert feature.monotone in (-1, 0, 1), feature.name
        assert min(map(len, (feature.theme, feature.unit, feature.owner, feature.rationale, feature.null_policy))) > 3
    assert len({f.name for f in features}) == len(features)


def test_features_are_declared_once(project: Project, contract: tuple[FeatureSpec, ...]) -> None:
    declared: dict[str, Any] = {}
    for name in models(project, "features"):
        if name.startswith("feat_"):
            node = project.manifest["nodes"][f"model.scoretrace.{name}"]
            declared |= {c: v for c, v in node["columns"].items() if c not in ("account_id", "as_of_date")}
    assert set(declared) == {f.name for f in contract}
    for feature in contract:
        assert declared[feature.name]["description"] == feature.description
        assert declared[feature.name]["config"]["meta"]["theme"] == feature.theme


def test_contracts_are_enforced_and_exposures_owned(project: Project) -> None:
    for name in (*models(project, "features", "marts"), "int_account_month"):
        assert project.manifest["nodes"][f"model.scoretrace.{name}"]["contract"]["enforced"], name
    assert project.manifest["exposures"]
    for exposure in project.manifest["exposures"].values():
        assert exposure["owner"]["name"]
        assert exposure["owner"]["email"]
    exposed = {n for e in project.manifest["exposures"].values() for n in e["depends_on"]["nodes"]}
    assert {f"model.scoretrace.{name}" for name in models(project, "marts")} <= exposed


def test_a_column_without_its_meta_is_named(project: Project) -> None:
    model = project.manifest["nodes"]["model.scoretrace.account_features"]
    column = model["columns"]["dpd_30_rollup"]
    broken = column | {"meta": {}, "config": {"meta": {"theme": "delinquency"}}}
    manifest = {"nodes": {"m": model | {"columns": {"dpd_30_rollup": broken}}}}
    with pytest.raises(ConfigError, match=r"account_features\.dpd_30_rollup declares no unit"):
        feature_contract(manifest, "account")


def test_protected_attributes_reach_no_feature(project: Project) -> None:
    manifest = project.manifest
    pending = [f"model.scoretrace.{n}" for n in ("account_features", "application_features")]
    seen: set[str] = set()
    while pending:
        unique_id = pending.pop()
        seen.add(unique_id)
        pending += manifest["nodes"].get(unique_id, {}).get("depends_on", {}).get("nodes", [])
    assert "source.scoretrace.raw.loan_servicing" in seen
    assert not {n for n in seen if "protected" in n}


def test_no_feature_is_computed_in_python(contract: tuple[FeatureSpec, ...]) -> None:
    """No module assigns, aliases or inserts a column that is named like a feature; only dbt's SQL does."""
    names = {f.name for f in contract}
    for path in (REPOSITORY / "pipeline").rglob("*.py"):
        if path.name == "segments.py":
            continue  # it reads a few of them to split the book by, and makes none
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                words = set(node.value.replace(",", " ").replace('"', " ").split())
                assert not words & names, f"{path.name} names the feature {words & names}"


def test_the_data_tests_read_the_tested_dates_alone(project: Project) -> None:
    tested = [
        n["config"]["where"]
        for n in project.manifest["nodes"].values()
        if n["resource_type"] == "test"
        and (n.get("attached_node") or "").endswith(("account_features", "application_features"))
    ]
    assert len(tested) > 150
    assert set(tested) == {"as_of_partition", "as_of_date_alone"}


def test_id_type_reaches_the_tables(project: Project) -> None:
    with lake.connect(project.warehouse.settings) as con:
        described = dict(row[:2] for row in con.execute("DESCRIBE lake.features.account_features").fetchall())
    assert described["account_id"] == "VARCHAR"
    assert {described[f] for f in ("dpd_30_rollup", "utilization_3m_avg", "bureau_score_delta")} == {
        "INTEGER",
        "DOUBLE",
    }


def test_unit_tests_of_the_models_pass(project: Project) -> None:
    result = project.warehouse.unit_test()
    assert len(result.nodes) >= 15
    assert {n.status for n in result.nodes} == {"pass"}
