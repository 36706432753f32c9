"""Alerts: the rule for each kind, the fold over the log, and who may answer for one."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine

from pipeline import control
from pipeline.config import SHIPPED_PORTFOLIOS, Settings
from pipeline.errors import AccessDenied, NotFound, RecordRefused
from pipeline.governance import audit
from pipeline.governance.access import Actor
from pipeline.ledger import DbtResult, GateVerdict
from pipeline.monitoring import alert_rules as rules
from pipeline.monitoring import alerts
from pipeline.monitoring.alert_rules import Finding, drift_findings
from pipeline.monitoring.alert_state import Alert, Cause
from pipeline.monitoring.drift import Drift
from pipeline.monitoring.policy import DriftPolicy, parse
from pipeline.portfolio import load

NIGHT = date(2026, 3, 14)
POLICY = DriftPolicy()
ANALYST = Actor("mo", frozenset({"analyst"}), "password", datetime(2026, 3, 14, tzinfo=UTC))
TABLE = "features.account_features"
UPSTREAM = {"utilization_3m_avg": "feat_utilization", "utilization_max_3m": "feat_utilization", "apr": "feat_pricing"}


def drifted(feature: str = "utilization_3m_avg", *, back: int = 0, psi: float = 0.3, **facts: object) -> Drift:
    """A feature that drifts by all the rule's measures on the night ``back`` nights ago."""
    values: dict[str, object] = {
        "as_of": NIGHT - timedelta(days=back), "model": "pd_default", "version": 1, "scored_by": 1, "dimension": "",
        "segment": "", "feature": feature, "importance": 3, "against": "whole", "psi": psi,
        "psi_without_missing": psi, "critical": 0.01, "p_value": 0.0, "band": POLICY.band(psi),
        "significant": True, "n": 4000, "bins": 10, "floored": False, "missing_rate": 0.0, "new_category_rate": None,
        "wasserstein": 0.1, "jensen_shannon": 0.05, "launch_psi": psi, "launch_p_value": 0.0,
    }  # fmt: skip
    return Drift(**{**values, **facts})  # type: ignore[arg-type]


def told(*nights: Drift, policy: DriftPolicy = POLICY) -> list[Finding]:
    return drift_findings(nights, NIGHT, policy, UPSTREAM, TABLE)


def test_a_high_drift_is_told_at_once_and_names_its_model() -> None:
    (found,) = told(drifted())
    assert (found.id, found.kind, found.level) == ("drift/pd_default/feat_utilization", rules.DRIFT, rules.HIGH)
    assert found.columns == ("features.account_features.utilization_3m_avg",)
    assert "utilization_3m_avg PSI 0.30 (4,000 rows" in found.message


def test_a_moderate_drift_is_told_when_it_stands_on_k_of_n_nights() -> None:
    nights = [drifted(psi=0.15, back=b) for b in (0, 2, 4)]
    assert told(*nights)[0].level == rules.MODERATE
    assert told(*nights[:2]) == []
    (at_once,) = told(drifted(psi=0.15, dimension="arrival", segment="new"))
    assert at_once.level == rules.MODERATE
    quiet = [drifted(psi=0.01, back=b, significant=False, p_value=0.9, launch_p_value=0.9) for b in (1, 2, 3, 4)]
    assert told(drifted(psi=0.15), *quiet) == []


@pytest.mark.parametrize(
    "lacking",
    [
        {"psi": 0.05},
        {"significant": False},
        {"p_value": 0.01},
        {"launch_psi": 0.02},
        {"launch_p_value": 0.01},
        {"launch_psi": None, "launch_p_value": None},
        {"importance": 41},
        {"importance": 0},
        {"importance": None},
        {"n": 99},
        {"psi": None, "p_value": None, "band": "none", "significant": False},
    ],
)
def test_one_condition_that_is_not_met_is_enough_for_silence(lacking: dict[str, object]) -> None:
    assert told(drifted(**lacking)) == []  # type: ignore[arg-type]


def test_features_of_one_model_are_one_alert_and_others_another() -> None:
    found = told(drifted(), drifted("utilization_max_3m", psi=0.5), drifted("apr"), drifted("score"))
    assert [f.id.rpartition("/")[2] for f in found] == ["feat_pricing", "feat_utilization", "score"]
    assert found[1].members == ("utilization_max_3m", "utilization_3m_avg")
    assert found[2].columns == ()


def test_what_stands_stays_told_while_it_drifts_at_all() -> None:
    quiet = [drifted(psi=0.01, back=b, significant=False, p_value=0.9, launch_p_value=0.9) for b in (2, 3, 4)]
    swings = [drifted(psi=0.24), drifted(psi=0.26, back=1), *quiet]
    assert told(*swings) == [], "not told before, moderate on one night and high on another"
    stood = drift_findings(swings, NIGHT, POLICY, UPSTREAM, TABLE, ["drift/pd_default/feat_utilization"])
    assert [(f.level, f.since) for f in stood] == [(rules.MODERATE, NIGHT - timedelta(days=1))]
    over = [drifted(psi=0.05), drifted(psi=0.26, back=1), *quiet]
    assert drift_findings(over, NIGHT, POLICY, UPSTREAM, TABLE, ["drift/pd_default/feat_utilization"]) == []


def test_a_segment_is_named_and_a_feature_once() -> None:
    (found,) = told(drifted(), drifted(dimension="arrival", segment="new", n=130, psi=0.9, launch_psi=0.9))
    assert found.members == ("utilization_3m_avg",) and not found.wants_cause
    assert "in arrival new (130 rows" in found.message


def test_drift_of_tonights_arrivals_alone_is_told_only_with_a_cause(store: Engine) -> None:
    found = told(drifted(dimension="arrival", segment="new"), drifted("score", dimension="arrival", segment="new"))
    assert [(f.id, f.wants_cause) for f in found] == [("drift/pd_default/feat_utilization", True)]
    for explain in (None, lambda f: ()):
        assert alerts.judge(
            store, found, NIGHT, run_id="run", actor="pipeline", covered=KINDS, explain=explain
        ) == []  # fmt: skip
    assert judge(store, *found)[0].startswith("raised: drift/pd_default/feat_utilization")


def verdict(gate: str, subject: str, said: str, observed: float = 0.0) -> GateVerdict:
    return GateVerdict(1, "run", gate, subject, said, observed, "so much", f"{subject}: so little")


def test_gates_by_kind() -> None:
    found = rules.gate_findings(
        [
            verdict("unique", "loan_servicing", "fail"),
            verdict("volume", "loan_servicing", "fail"),
            verdict("volume", "payments_ledger", "warn", observed=0),
            verdict("volume", "bureau_pull", "warn", observed=3),
            verdict("fresh", "account_events", "warn"),
            verdict("categories", "loan_servicing.status", "fail"),
            verdict("nulls", "bureau_pull", "pass"),
        ]
    )
    assert {f.id: f.level for f in found} == {
        "volume/loan_servicing": rules.HIGH,
        "volume/payments_ledger": rules.MODERATE,
        "freshness/account_events": rules.MODERATE,
        "quality/loan_servicing": rules.HIGH,
    }
    assert found[0].members == ("unique loan_servicing", "volume loan_servicing")


def test_landings_by_kind() -> None:
    cascade = load(SHIPPED_PORTFOLIOS / "cascade")
    (late,) = rules.landing_findings(cascade, "missing from /x/2026-03-14: statements (each as .csv)\n  next: deliver")
    assert (late.id, late.level) == ("freshness/loan_servicing", rules.HIGH)
    (broken,) = rules.landing_findings(
        cascade, "bureau.csv.gz, row 3, column 'VS_SCORE': a value of the form 'see events' is not a INTEGER"
    )
    assert (broken.id, broken.columns) == ("schema/bureau_pull", ("raw.bureau_pull",))
    (empty,) = rules.landing_findings(cascade, "payments.csv.gz is empty (0 bytes)")
    assert empty.id == "freshness/payments_ledger"
    uci = load(SHIPPED_PORTFOLIOS / "uci_credit_card")
    (one_file,) = rules.landing_findings(uci, f"missing from /x: {uci.extracts[0].name} (each as .csv)")
    assert one_file.id == "freshness/loan_servicing", "one file is one alert, about the book that it brings"
    assert set(one_file.columns) == {f"raw.{t}" for t in uci.provides if uci.extracts[0].name in uci.mapping(t)}
    (other,) = rules.landing_findings(cascade, "the disk is gone")
    assert other.id == "schema/landing"


def test_failed_data_tests_are_told_by_model() -> None:
    result = DbtResult(
        1, "run", "test.x.y", "test", "feat_bureau", "bureau_score_last", "fail", 3, 0.1, "Got 3", None, None
    )
    (found,) = rules.quality_findings([result, replace(result, status="pass")])
    assert (found.id, found.message) == ("quality/feat_bureau", "bureau_score_last: Got 3")


def test_more_corrections_than_usual_are_told() -> None:
    shares = {"loan_servicing": (30, 150, 0.0), "applications": (5, 20, 0.25), "bureau_pull": (0, 90, 0.0)}
    (found,) = rules.restatement_findings(shares)
    assert found.id == "restatement/loan_servicing"
    assert "30 of tonight's 150 rows" in found.message


# -- what happens to an alert


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Engine]:
    engine = control.create(Settings.at(tmp_path))
    yield engine
    engine.dispose()


SHORT = Finding("volume/loan_servicing", rules.VOLUME, rules.MODERATE, "118 rows", ("volume loan_servicing",))
KINDS = (rules.VOLUME, rules.DRIFT)


def judge(engine: Engine, *findings: Finding, day: date = NIGHT, covered: tuple[str, ...] = KINDS) -> list[str]:
    return alerts.judge(
        engine, findings, day, run_id="run", actor="pipeline", covered=covered,
        explain=lambda f: [Cause("raw.loan_servicing", f"half of {f.message}")],
    )  # fmt: skip


def state(engine: Engine) -> Alert:
    (found,) = alerts.alerts_of(engine).values()
    return found


def test_raised_once_with_its_causes_and_resolved_when_it_is_over(store: Engine) -> None:
    assert judge(store, SHORT) == ["raised: volume/loan_servicing: 118 rows"]
    assert judge(store, SHORT) == []
    raised = state(store)
    assert (raised.state, raised.level, raised.since, raised.run_id) == ("open", "moderate", NIGHT, "run")
    assert raised.causes == (Cause("raw.loan_servicing", "half of 118 rows"),)
    assert alerts.telling_runs(store) == {"run"}
    assert judge(store, day=NIGHT + timedelta(days=1)) == ["resolved: volume/loan_servicing"]
    assert state(store).state == "resolved" and alerts.open_alerts(store) == ()
    assert alerts.telling_runs(store) == frozenset(), "what is over is no longer to look at"
    judge(store, SHORT, day=NIGHT + timedelta(days=2))
    assert (state(store).state, state(store).times) == ("open", 2)
    assert audit.verify(store).ok


def test_a_night_resolves_only_what_it_looked_at(store: Engine) -> None:
    judge(store, SHORT)
    assert judge(store, covered=(rules.DRIFT,)) == []
    assert state(store).state == "open"


def test_acknowledged_it_is_silent_until_its_date_and_reopens_by_itself(store: Engine) -> None:
    judge(store, SHORT)
    until = NIGHT + timedelta(days=2)
    found = alerts.acknowledge(store, ANALYST, SHORT.id, why="known outage", until=until, today=NIGHT, policy=POLICY)
    assert found.acknowledgement is not None and found.acknowledgement.by == "mo"
    assert judge(store, SHORT, day=until) == [] and alerts.open_alerts(store) == ()
    assert alerts.telling_runs(store) == frozenset()
    assert judge(store, SHORT, day=until + timedelta(days=1))[0].startswith("reopened")
    assert (state(store).state, state(store).since) == ("open", NIGHT)


def test_it_reopens_when_it_gets_worse_and_grows_when_more_is_found(store: Engine) -> None:
    judge(store, SHORT)
    more = replace(SHORT, members=(*SHORT.members, "unique loan_servicing"))
    assert judge(store, more)[0].startswith("updated")
    alerts.acknowledge(store, ANALYST, SHORT.id, why="known", until=NIGHT, today=NIGHT, policy=POLICY)
    assert judge(store, replace(more, level=rules.HIGH))[0].startswith("reopened")


def test_answered_for_it_reopens_when_more_is_found_and_not_when_the_same_comes_back(store: Engine) -> None:
    both = replace(SHORT, members=("volume loan_servicing", "unique loan_servicing"))
    until = NIGHT + timedelta(days=9)

    def answer() -> None:
        alerts.acknowledge(store, ANALYST, SHORT.id, why="known", until=until, today=NIGHT, policy=POLICY)

    judge(store, SHORT)
    answer()
    assert judge(store, both, day=NIGHT + timedelta(days=1))[0].startswith("reopened"), "nobody answered for that"
    answer()
    for day, found in ((2, SHORT), (3, both)):
        assert judge(store, found, day=NIGHT + timedelta(days=day)) == [], "all of it was seen and answered for"


def test_more_members_than_are_kept_are_told_once(store: Engine) -> None:
    many = replace(SHORT, members=tuple(f"gate {i:02}" + "x" * 300 for i in range(60)))
    assert len(judge(store, many)) == 1
    assert judge(store, many, day=NIGHT + timedelta(days=1)) == []


def test_two_findings_of_one_id_are_one_alert(store: Engine) -> None:
    worse = replace(SHORT, level=rules.HIGH, message="40 twice", members=("unique loan_servicing",))
    assert judge(store, SHORT, worse) == ["raised: volume/loan_servicing: 118 rows; 40 twice"]
    assert (state(store).level, state(store).members) == (rules.HIGH, (*SHORT.members, *worse.members))
    assert judge(store, SHORT, worse, day=NIGHT + timedelta(days=1)) == []


def test_who_may_not_and_what_cannot_be_acknowledged(store: Engine) -> None:
    judge(store, SHORT)
    reader = replace(ANALYST, roles=frozenset({"viewer"}))
    with pytest.raises(AccessDenied):
        alerts.acknowledge(store, reader, SHORT.id, why="no", until=NIGHT, today=NIGHT, policy=POLICY)
    with pytest.raises(NotFound, match="is not there"):
        alerts.acknowledge(store, ANALYST, "volume/nothing", why="no", until=NIGHT, today=NIGHT, policy=POLICY)
    with pytest.raises(RecordRefused, match="reason"):
        alerts.acknowledge(store, ANALYST, SHORT.id, why="  ", until=NIGHT, today=NIGHT, policy=POLICY)
    with pytest.raises(RecordRefused, match="past"):
        alerts.acknowledge(
            store, ANALYST, SHORT.id, why="no", until=NIGHT - timedelta(days=1), today=NIGHT, policy=POLICY
        )
    with pytest.raises(RecordRefused, match="more than 90 days away"):
        alerts.acknowledge(
            store, ANALYST, SHORT.id, why="no", until=NIGHT + timedelta(days=91), today=NIGHT, policy=POLICY
        )
    judge(store)
    with pytest.raises(NotFound, match="resolved"):
        alerts.acknowledge(store, ANALYST, SHORT.id, why="no", until=NIGHT, today=NIGHT, policy=POLICY)


@pytest.mark.parametrize(
    "section",
    [
        {"moderat": 0.1},
        {"moderate": 0.3},
        {"alpha": 0},
        {"nights": 6},
        {"segments": ["zodiac"]},
        {"segments": ["product"], "watched": {"grade": 1}},
        {"watched": ["grade"]},
        {"watched": {"grade": 9}},
        {"importance": 0},
    ],
)
def test_a_policy_that_makes_no_sense_is_refused(section: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="monitoring"):
        parse(section)
