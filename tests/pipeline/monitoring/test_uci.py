"""Real statements: the source's own coding of delay breaks in September 2005, and that shows as drift."""

from __future__ import annotations

from contextlib import closing

import pytest

from pipeline import portfolio
from pipeline.monitoring import stability
from pipeline.monitoring.bins import count_bins, read_bins
from pipeline.monitoring.policy import DriftPolicy
from tests.pipeline.test_portfolios import REAL_UCI, UCI_DATE, mapped


@pytest.mark.skipif(not REAL_UCI.is_dir(), reason="the UCI file does not lie beside the repository")
def test_septembers_break_in_the_status_codes_is_high_drift_and_the_months_before_are_quiet() -> None:
    lender = portfolio.load(portfolio.resolve("uci_credit_card"))
    policy = DriftPolicy()
    with closing(mapped(lender, REAL_UCI, UCI_DATE)) as con:

        def month(number: int) -> str:
            return f"SELECT days_past_due, balance FROM loan_servicing WHERE month(statement_date) = {number}"

        bands: dict[str, dict[int, str]] = {"days_past_due": {}, "balance": {}}
        for later in (6, 7, 8, 9):
            bins = read_bins(con, month(later - 1), list(bands), ["days_past_due"])
            before, after = (count_bins(con, month(n), bins) for n in (later - 1, later))
            for feature in bands:
                found = stability.judged_psi(before.of(feature), after.of(feature), policy.alpha)
                bands[feature][later] = policy.band(found.value)
                if (feature, later) == ("days_past_due", 9):
                    assert found.significant
    assert bands["days_past_due"] == {6: "stable", 7: "stable", 8: "stable", 9: "high"}
    assert set(bands["balance"].values()) == {"stable"}
