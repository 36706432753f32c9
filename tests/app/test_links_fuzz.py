"""Whatever a link asks for, the page answers with a sentence: no page breaks, and none shows another record."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config import REPOSITORY
from tests.app.conftest import Open, html_of
from tests.conftest import examples
from tests.published_home import FIRST_ID, LAST

PAGES = sorted(path.stem for path in (REPOSITORY / "app" / "views").glob("[a-z]*.py"))
KEYS = st.sampled_from(
    ["as_of", "account", "application", "feature", "segment", "model", "version", "from", "to", "run", "with", "kind",
     "page", "promotion", "record", "alert", "column", "order", "all", "q", "since", "month", "groups", "night",
     "nights_by", "nights_page",
     "grade", "decile", "product", "move", "by", "of", "prove", "baseline", "up", "down", "who", "what",
     "about", "until", "against", "table_by", "gates_by", "gates_page", "tests_by", "tests_page", "months_by",
     "impact_by", "impact_page", "causes", "words", "changes_page", "open_page", "resolved_page", "acknowledged_page",
     "loan_servicing_page"]
)  # fmt: skip
VALUES = st.one_of(
    st.sampled_from(
        [LAST.isoformat(), str(FIRST_ID), "0", "-1", "1", "9" * 30, "2026-02-30", "0001-01-01", "9999-12-31", "", " ",
         "pd_default", "pd_default/1", "features.account_features.utilization_3m_avg", "product=card", "x=y=z",
         "<script>alert(1)</script>", "'; DROP TABLE runs; --", "../../etc/passwd", "%00", "[a](javascript:b)", "NaN"]
    ),
    st.text(max_size=20),
)  # fmt: skip


@pytest.mark.parametrize("page", PAGES)
@examples(4)
@given(query=st.dictionaries(KEYS, VALUES, max_size=5))
def test_any_link(portal: Open, history: Path, page: str, query: dict[str, str]) -> None:
    shown = html_of(portal(history, page, **query))
    assert "<script>alert" not in shown and "this page broke" not in shown
