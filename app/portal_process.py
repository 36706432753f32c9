"""The portal's server process: ``python -m app.portal_process --server.port 8501``, with any option of Streamlit's.

Streamlit imports what a page needs when the first reader asks for it, and they would wait seconds for scipy and
MLflow. Here the libraries are in before the server listens; pages come fast from the first one on.
"""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

PORTAL = Path(__file__).resolve().parent / "portal.py"
# What pages draw on, by the modules that import it. None of them knows Streamlit, whose caches need its server.
_DRAWN_ON = ("plotly.graph_objects", "pandas", "pipeline.governance.approvals", "pipeline.governance.validation.export",
             "pipeline.monitoring.drift_reads", "pipeline.monitoring.outcome_reads", "lineage.causes", "lineage.trace",
             "lineage.evidence")  # fmt: skip

_SWITCH_SECONDS = 0.0005


def main(options: list[str]) -> None:
    """Serve until stopped."""
    for name in _DRAWN_ON:
        import_module(name)
    from streamlit.web import cli

    # A page says some hundred things to its browser and lets the other sessions' threads on with each. At Python's five
    # milliseconds apiece, one of twenty readers would wait a tenth of a second a hundred times.
    sys.setswitchinterval(_SWITCH_SECONDS)
    sys.argv = ["streamlit", "run", str(PORTAL), *options]
    cli.main(prog_name="streamlit")


if __name__ == "__main__":
    main(sys.argv[1:])
