"""OpenLineage events: valid against the published schemas, true to the record, delivered once and in order."""

from __future__ import annotations

import copy
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError
from referencing import Registry, Resource
from sqlalchemy import Engine, update

from lineage import event_transport
from lineage.event_datasets import catalog_uri
from lineage.event_facets import RUN_IDS, run_uuid
from lineage.event_transport import EventStore, configured_client
from lineage.events import EventListener, deliver_outbox
from pipeline import control, home, ledger
from pipeline.config import REPOSITORY, Settings
from pipeline.dag import Graph, Task, TaskResult
from pipeline.dag import run as run_graph
from pipeline.nightly import run_night
from pipeline.runs import RunLedger
from tests.conftest import FIRST, SECOND, Cascade
from tests.pipeline.lender import write_portfolio
from tests.signing_off import at_the_home

SPEC = REPOSITORY.parent / "shared" / "data" / "openlineage-spec"
OUR_FACETS = REPOSITORY / "lineage" / "model_facet.json"


@pytest.fixture(autouse=True)
def unconfigured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No test inherits a transport, of the machine or of the test before it: the client writes to the environment."""
    kept = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("OPENLINEAGE_")}
    monkeypatch.setenv("HOME", str(tmp_path / "nobody"))
    monkeypatch.chdir(tmp_path)
    yield
    for name in [n for n in os.environ if n.startswith("OPENLINEAGE_")]:
        del os.environ[name]
    os.environ.update(kept)


# -- validity


class Specification:
    """The core schema and every facet's own, with formats checked."""

    def __init__(self, folder: Path) -> None:
        files = [folder / "OpenLineage.json", *sorted((folder / "facets").glob("*.json")), OUR_FACETS]
        schemas = [json.loads(file.read_text(encoding="utf-8")) for file in files]
        self._registry: Registry[Any] = Registry().with_resources(
            (schema["$id"], Resource.from_contents(schema)) for schema in schemas
        )
        self._core = self._validator({"$ref": f"{schemas[0]['$id']}#/$defs/RunEvent"})
        self._facets = {
            (kind, name): self._validator({"$ref": f"{schema['$id']}#/properties/{name}"})
            for schema in schemas[1:]
            for name in schema.get("properties", {})
            for kind in [schema["$id"].rpartition("/")[2].rpartition(":")[2].removesuffix(".json")]
        }

    def _validator(self, schema: dict[str, Any]) -> Draft202012Validator:
        return Draft202012Validator(schema, registry=self._registry, format_checker=formats())

    def check(self, event: dict[str, Any]) -> set[str]:
        """Raise ValidationError for what is wrong with the event or one of its facets; returns the facets' names."""
        self._core.validate(event)
        seen: set[str] = set()
        for facets in facets_of(event):
            for name, body in facets.items():
                schema_url = body["_schemaURL"]
                matching = [v for (kind, n), v in self._facets.items() if n == name and kind in schema_url]
                assert len(matching) == 1, f"{name} names the schema {schema_url}, which is none of the published"
                matching[0].validate(body)
                seen.add(name)
        return seen


def formats() -> FormatChecker:
    """jsonschema checks no date-time and no uri without further packages; these two are RFC 3339 and RFC 3986."""
    checker = FormatChecker(("uuid",))

    @checker.checks("date-time", raises=ValueError)
    def _moment(value: object) -> bool:
        full = re.fullmatch(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)", str(value))
        return full is not None and datetime.fromisoformat(str(value)).tzinfo is not None

    @checker.checks("uri")
    def _uri(value: object) -> bool:
        return re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:[A-Za-z0-9._~:/?#\[\]@!$&'()*+,;=%-]+", str(value)) is not None

    return checker


def facets_of(event: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield event["run"].get("facets", {})
    yield event["job"].get("facets", {})
    for dataset in (*event.get("inputs", ()), *event.get("outputs", ())):
        for kind in ("facets", "inputFacets", "outputFacets"):
            yield dataset.get(kind, {})


@pytest.fixture(scope="module")
def specification() -> Specification:
    if not SPEC.is_dir():
        pytest.skip(f"the OpenLineage schemas are not at {SPEC}")
    return Specification(SPEC)


# -- the events of a real night, told again from its record


@pytest.fixture(scope="module")
def told(cascade: Cascade, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    settings = cascade.copy(tmp_path_factory.mktemp("told") / "home")
    engine = ledger.open_ledger(settings)
    complaints: list[str] = []
    with EventListener(settings, engine, complaints.append) as listener:
        tell(listener, engine, run_of(engine))
    assert complaints == []
    return EventStore(settings).read(run_of(engine))


def run_of(engine: Engine) -> str:
    publication = ledger.publication_for(engine, FIRST)
    assert publication is not None
    return publication.run_id


def tell(listener: EventListener, engine: Engine, run_id: str) -> None:
    for attempt in ledger.task_attempts(engine, run_id):
        listener.task_started(run_id, attempt.task, attempt.attempt)
        listener.task_finished(run_id, attempt.task, attempt.attempt, None, attempt.error)


def named(events: list[dict[str, Any]], job: str, kind: str = "COMPLETE") -> dict[str, Any]:
    (found,) = [e for e in events if (e["job"]["name"], e["eventType"]) == (job, kind)]
    return found


def dataset(event: dict[str, Any], side: str, name: str) -> dict[str, Any]:
    (found,) = [d for d in event[side] if d["name"] == name]
    return found


def test_every_event_and_every_facet_of_a_night_is_valid(
    told: list[dict[str, Any]], specification: Specification
) -> None:
    seen: set[str] = set()
    for event in told:
        seen |= specification.check(event)
    assert seen == {
        "schema", "dataSource", "version", "columnLineage", "dataQualityAssertions", "outputStatistics", "sql",
        "sourceCodeLocation", "processing_engine", "parent", "nominalTime", "jobType", "scoretrace_model",
    }  # fmt: skip


def test_the_check_finds_what_is_wrong(told: list[dict[str, Any]], specification: Specification) -> None:
    for path, value in (
        (("eventTime",), "yesterday"),
        (("run", "runId"), "not-a-uuid"),
        (("producer",), "no uri"),
        (("job", "facets", "sql", "query"), 1),
        (("run", "facets", "nominalTime", "nominalStartTime"), "2026-03-12"),
    ):
        broken = copy.deepcopy(named(told, "nightly.features.feat_bureau"))
        place: Any = broken
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value
        with pytest.raises(ValidationError):
            specification.check(broken)


def test_every_run_starts_and_ends_once(told: list[dict[str, Any]]) -> None:
    states: dict[str, list[str]] = {}
    for event in told:
        states.setdefault(event["run"]["runId"], []).append(event["eventType"])
    assert set(map(tuple, states.values())) == {("START", "COMPLETE")}
    jobs = [e["job"]["name"] for e in told if e["eventType"] == "START"]
    assert jobs[0] == "nightly"
    tasks = [job for job in jobs if job.count(".") == 1]
    assert tasks == [f"nightly.{t}" for t in ("land", "gate", "features", "score", "publish", "monitor")]
    assert told[0]["run"]["runId"] == told[-1]["run"]["runId"], "the run opens and closes its file"


def test_a_model_tells_what_it_read_made_and_ran(told: list[dict[str, Any]]) -> None:
    event = named(told, "nightly.features.feat_bureau")
    assert {d["name"] for d in event["inputs"]} == {"intermediate.int_account_slots", "intermediate.int_account_bureau"}
    made = dataset(event, "outputs", "features.feat_bureau")
    assert made["namespace"] == "ducklake://cascade"
    assert made["outputFacets"]["outputStatistics"]["rowCount"] > 3_000
    fields = {f["name"]: f for f in made["facets"]["schema"]["fields"]}
    assert fields["bureau_score_delta"]["type"] in ("INTEGER", "DECIMAL(18,2)", "BIGINT", "DOUBLE")
    lineage = made["facets"]["columnLineage"]["fields"]["bureau_score_delta"]["inputFields"]
    assert {(i["name"], i["field"]) for i in lineage} == {
        ("intermediate.int_account_bureau", "bureau_score_1"),
        ("intermediate.int_account_bureau", "bureau_score_2"),
    }
    joined = made["facets"]["columnLineage"]["dataset"]
    assert {t["subtype"] for i in joined for t in i["transformations"]} == {"JOIN"}
    assert 'from "lake"."intermediate"."int_account_slots"' in event["job"]["facets"]["sql"]["query"]
    assert "feat_bureau" in event["job"]["facets"]["sourceCodeLocation"]["path"]
    parent = event["run"]["facets"]["parent"]
    assert parent["job"]["name"] == "nightly.features"
    assert parent["root"]["job"]["name"] == "nightly"
    task = named(told, "nightly.features")["run"]["runId"]
    assert parent["run"]["runId"] == task


def test_tests_gates_loads_and_scores_are_told(told: list[dict[str, Any]], published: Settings) -> None:
    tests = named(told, "nightly.features.tests")
    assertions = [a for d in tests["inputs"] for a in d["inputFacets"]["dataQualityAssertions"]["assertions"]]
    results = ledger.dbt_results(ledger.open_ledger(published), run_of(ledger.open_ledger(published)), ("pass", "warn"))
    assert len(assertions) == sum(r.resource_type == "test" for r in results)
    assert {"not_null", "in_range"} <= {a["assertion"] for a in assertions}
    gates = named(told, "nightly.gate")
    servicing = dataset(gates, "inputs", "raw.loan_servicing")["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert all(a["success"] for a in servicing if a["severity"] == "error")
    landed = named(told, "nightly.land")
    assert dataset(landed, "outputs", "raw.loan_servicing")["outputFacets"]["outputStatistics"]["rowCount"] > 0
    assert all(re.fullmatch("[0-9a-f]{64}", d["facets"]["version"]["datasetVersion"]) for d in landed["inputs"])
    scored = named(told, "nightly.score")
    model = dataset(scored, "inputs", "pd_default")["facets"]["scoretrace_model"]
    assert (model["version"], model["promotedBy"]) == (1, "ada approver, ben approver")
    pd = dataset(scored, "outputs", "scores.account_scores")["facets"]["columnLineage"]["fields"]["pd"]["inputFields"]
    assert {i["name"] for i in pd} == {"features.account_features"}
    assert len(pd) > 50


def test_run_ids_are_derived_and_stay_the_same(told: list[dict[str, Any]], published: Settings) -> None:
    run_id = run_of(ledger.open_ledger(published))
    assert told[0]["run"]["runId"] == run_uuid(run_id)
    assert named(told, "nightly.land")["run"]["runId"] == run_uuid(run_id, "land", 1)
    assert run_uuid(run_id, "land", 1) != run_uuid(run_id, "land", 2)
    assert str(RUN_IDS) == "6f1d6a0e-5d0b-5f0e-9b7e-2f5c1a3d9e41", "every run's id follows from it"


def test_a_night_that_is_listened_to_is_told_as_it_goes(
    own_home: Settings, monkeypatch: pytest.MonkeyPatch, specification: Specification
) -> None:
    portfolio, engine = home.open_home(own_home)
    complaints: list[str] = []
    with receiving() as receiver:
        monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
        with EventListener(own_home, engine, complaints.append) as listener:
            run_id = run_night(own_home, portfolio, engine, SECOND, actor=at_the_home(), listeners=[listener]).run_id
    assert complaints == []
    events = EventStore(own_home).read(run_id)
    assert identity(receiver.events) == identity(events)
    for received in receiver.events:
        specification.check(received)
    assert dataset(named(events, "nightly.publish.underwriting_queue"), "outputs", "marts.underwriting_queue")
    built = {r.model for r in ledger.dbt_results(engine, run_id) if r.resource_type == "model"}
    finished = [e["job"]["name"].split(".") for e in events if e["eventType"] == "COMPLETE"]
    assert {parts[2] for parts in finished if len(parts) == 3} - {"tests"} == built
    assert [e["eventTime"] for e in events[:2]] == sorted(e["eventTime"] for e in events[:2])


# -- failures, and a listener at a real runner


@pytest.fixture
def small(tmp_path: Path) -> tuple[Settings, Engine]:
    """A home without any night, where runs of two plain tasks are recorded."""
    settings = Settings.at(tmp_path / "home")
    home.init(settings, write_portfolio(tmp_path / "portfolio"))
    return settings, home.open_home(settings)[1]


def run_small(settings: Settings, engine: Engine, listener: EventListener, *, fail: bool = False) -> str:
    """A run of two tasks through the runner itself; the second fails on its first attempt, or on every one."""
    portfolio, _ = home.open_home(settings)
    book = RunLedger.start(engine, kind="nightly", as_of=date(2026, 3, 12), actor="me", portfolio=portfolio, snapshot=1)
    tries: list[int] = []

    def second(_: None) -> TaskResult:
        tries.append(1)
        if fail or len(tries) == 1:
            raise OSError("the disk is full")
        return TaskResult(3)

    graph = Graph("nightly", (Task("land", lambda _: TaskResult(0, {"loads": []})), Task("tidy", second, ("land",), 1)))
    with listener:
        try:
            run_graph(graph, None, book, snapshot=lambda: 1, listeners=[listener], sleep=lambda _: None)
        except OSError as error:
            book.finish("failed", snapshot=1, error=str(error))
        else:
            book.finish("succeeded", snapshot=1)
    return book.run_id


def test_a_failed_attempt_and_a_failed_run_tell_why(
    small: tuple[Settings, Engine], specification: Specification
) -> None:
    settings, engine = small
    run_id = run_small(settings, engine, EventListener(settings, engine), fail=True)
    events = EventStore(settings).read(run_id)
    told = [(e["job"]["name"], e["eventType"]) for e in events]
    assert told == [
        ("nightly", "START"),
        ("nightly.land", "START"),
        ("nightly.land", "COMPLETE"),
        ("nightly.tidy", "START"),
        ("nightly.tidy", "FAIL"),
        ("nightly.tidy", "START"),
        ("nightly.tidy", "FAIL"),
        ("nightly", "FAIL"),
    ]
    for event in events:
        specification.check(event)
    assert events[4]["run"]["facets"]["errorMessage"]["message"] == "the disk is full"
    assert events[4]["run"]["runId"] != events[6]["run"]["runId"], "each attempt is a run of its own"
    assert events[0]["run"]["facets"]["nominalTime"]["nominalStartTime"] == "2026-03-12T00:00:00+01:00"


def test_a_failed_model_and_a_broken_test_are_told(own_home: Settings, specification: Specification) -> None:
    engine = ledger.open_ledger(own_home)
    run_id = run_of(engine)
    d = control.dbt_results
    with engine.begin() as connection:
        connection.execute(
            update(d)
            .where(d.c.run_id == run_id, d.c.model == "feat_bureau", d.c.resource_type == "model")
            .values(status="error", message="Binder Error: no such column")
        )
        broken = connection.execute(
            d.select().where(d.c.run_id == run_id, d.c.resource_type == "test", d.c.model == "account_features")
        ).first()
        assert broken is not None
        connection.execute(update(d).where(d.c.id == broken.id).values(status="fail", failures=7))
    with EventListener(own_home, engine) as listener:
        tell(listener, engine, run_id)
    events = EventStore(own_home).read(run_id)
    failed = named(events, "nightly.features.feat_bureau", "FAIL")
    assert failed["run"]["facets"]["errorMessage"]["message"] == "Binder Error: no such column"
    assert failed["outputs"] == []
    tests = named(events, "nightly.features.tests", "FAIL")
    found = dataset(tests, "inputs", "features.account_features")["inputFacets"]["dataQualityAssertions"]["assertions"]
    assert [a["actual"] for a in found if not a["success"]] == ["7 rows"]
    for event in (failed, tests):
        specification.check(event)


def test_a_listener_that_cannot_write_stops_no_run(small: tuple[Settings, Engine]) -> None:
    settings, engine = small
    (settings.home / "lineage").write_text("a file where the folder should be")
    complaints: list[str] = []
    run_id = run_small(settings, engine, EventListener(settings, engine, complaints.append))
    assert ledger.run(engine, run_id).status == "succeeded"
    assert complaints and all("lineage events were not written" in c for c in complaints)


# -- delivery


class Receiver:
    """An HTTP endpoint on loopback that keeps what it is sent."""

    def __init__(self, port: int = 0) -> None:
        self.events: list[dict[str, Any]] = []
        self.answers: list[int] = []  # status codes for the next events, 200 when used up
        self.delay = 0.0
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                time.sleep(receiver.delay)
                status = receiver.answers.pop(0) if receiver.answers else 200
                if status == 200:
                    receiver.events.append(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def receiving(port: int = 0) -> Iterator[Receiver]:
    receiver = Receiver(port)
    try:
        yield receiver
    finally:
        receiver.close()


def identity(events: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(e["run"]["runId"], e["eventType"]) for e in events]


def test_nothing_is_sent_or_kept_for_sending_when_nothing_is_configured(
    small: tuple[Settings, Engine], capfd: pytest.CaptureFixture[str]
) -> None:
    settings, engine = small
    assert configured_client() is None
    run_id = run_small(settings, engine, EventListener(settings, engine))
    assert len(EventStore(settings).read(run_id)) == 8
    assert EventStore(settings).waiting() == []
    out, err = capfd.readouterr()
    assert "OpenLineage" not in out + err


@pytest.mark.parametrize("how", ["url", "file", "variables"])
def test_a_live_receiver_gets_every_event_in_order(
    small: tuple[Settings, Engine], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, how: str
) -> None:
    settings, engine = small
    with receiving() as receiver:
        if how == "url":
            monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
        elif how == "file":
            (tmp_path / "openlineage.yml").write_text(f"transport: {{type: http, url: '{receiver.url}'}}")
        else:
            monkeypatch.setenv("OPENLINEAGE__TRANSPORT", json.dumps({"type": "http", "url": receiver.url}))
        run_id = run_small(settings, engine, EventListener(settings, engine))
    kept = EventStore(settings).read(run_id)
    assert identity(receiver.events) == identity(kept)
    assert receiver.events[1]["run"]["facets"]["parent"] == kept[1]["run"]["facets"]["parent"]
    assert EventStore(settings).waiting() == []


def test_a_dead_receiver_costs_little_and_gets_all_of_it_next_time_once(
    small: tuple[Settings, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, engine = small
    with receiving() as gone:
        port = gone.port
    monkeypatch.setenv("OPENLINEAGE_URL", f"http://127.0.0.1:{port}")
    complaints: list[str] = []
    started = time.monotonic()
    first = run_small(settings, engine, EventListener(settings, engine, complaints.append))
    assert time.monotonic() - started < 10
    assert ledger.run(engine, first).status == "succeeded"
    assert len(complaints) == 1 and "kept for the next run" in complaints[0]
    store = EventStore(settings)
    assert identity(store.waiting()) == identity(store.read(first))
    with receiving(port) as back:
        second = run_small(settings, engine, EventListener(settings, engine, complaints.append))
        assert deliver_outbox(settings) == 0
    assert identity(back.events) == identity([*store.read(first), *store.read(second)])
    assert store.waiting() == []
    assert len(complaints) == 1


def test_a_receiver_that_hangs_is_waited_for_once(
    small: tuple[Settings, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, engine = small
    monkeypatch.setattr(event_transport, "_TIMEOUT", 0.3)
    with receiving() as receiver:
        receiver.delay = 2.0
        monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
        started = time.monotonic()
        run_small(settings, engine, EventListener(settings, engine))
        assert time.monotonic() - started < 2.0
        assert len(EventStore(settings).waiting()) == 8


def test_a_receiver_that_fails_in_the_middle_loses_and_doubles_nothing(
    small: tuple[Settings, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, engine = small
    store = EventStore(settings)
    with receiving() as receiver:
        monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
        receiver.answers = [200, 200, 503]
        run_id = run_small(settings, engine, EventListener(settings, engine))
        assert len(receiver.events) == 2
        assert identity(store.waiting()) == identity(store.read(run_id))[2:]
        assert deliver_outbox(settings) == 0
        assert identity(receiver.events) == identity(store.read(run_id))
        assert deliver_outbox(settings) == 0
        assert len(receiver.events) == 8


def test_an_event_called_invalid_is_set_aside_and_the_rest_goes_on(
    small: tuple[Settings, Engine], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, engine = small
    store = EventStore(settings)
    with receiving() as receiver:
        monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
        receiver.answers = [200, 422]
        complaints: list[str] = []
        run_id = run_small(settings, engine, EventListener(settings, engine, complaints.append))
    sent = identity(store.read(run_id))
    assert identity(receiver.events) == [sent[0], *sent[2:]]
    (refused,) = [json.loads(line) for line in store.refused.read_text().splitlines()]
    assert refused["status"] == 422
    assert identity([refused["event"]]) == [sent[1]]
    assert len(complaints) == 1 and "1 refused" in complaints[0]
    assert store.waiting() == []


def event(number: int) -> dict[str, Any]:
    return {
        "eventType": "START",
        "eventTime": datetime(2026, 3, 12, tzinfo=UTC).isoformat(),
        "producer": "urn:test",
        "run": {"runId": run_uuid("test", number)},
        "job": {"namespace": "n", "name": str(number)},
    }


def test_the_outbox_survives_a_killed_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.at(tmp_path / "home")
    store = EventStore(settings)
    store.queue([event(1), event(2)])
    outbox, mark = store.folder / "outbox.jsonl", store.folder / "outbox.sent"
    with outbox.open("a") as handle:
        handle.write('{"eventType": "START", "cut')  # killed while it wrote
    store.queue([event(3)])
    assert [e["job"]["name"] for e in store.waiting()] == ["1", "2", "3"]
    with receiving() as receiver:
        monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
        mark.write_text("another-outbox 4096")  # killed after the last outbox was removed, before its mark was
        assert deliver_outbox(settings) == 0
        assert [e["job"]["name"] for e in receiver.events] == ["1", "2", "3"]
        store.queue([event(4)])
        assert deliver_outbox(settings) == 0
    assert [e["job"]["name"] for e in receiver.events] == ["1", "2", "3", "4"]
    assert not outbox.exists()


def test_two_processes_never_send_one_event_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings.at(tmp_path / "home")
    EventStore(settings).queue([event(n) for n in range(20)])
    with receiving() as receiver:
        receiver.delay = 0.01
        monkeypatch.setenv("OPENLINEAGE_URL", receiver.url)
        threads = [threading.Thread(target=deliver_outbox, args=(settings,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert [e["job"]["name"] for e in receiver.events] == [str(n) for n in range(20)]


@pytest.mark.parametrize(
    ("catalog", "uri"),
    [
        ("sqlite:/a home/catalog.sqlite", "file:///a%20home/catalog.sqlite"),
        ("postgres:dbname=lake host=db user=me password=secret", "postgresql://db:5432/lake"),
        ("postgres:postgresql://me:secret@db:6543/lake", "postgresql://db:6543/lake"),
    ],
)
def test_the_data_source_names_the_catalog_and_no_password(tmp_path: Path, catalog: str, uri: str) -> None:
    assert catalog_uri(Settings.at(tmp_path, lake_catalog=catalog)) == uri


def test_a_switched_off_client_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENLINEAGE_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("OPENLINEAGE_DISABLED", "true")
    assert configured_client() is None
