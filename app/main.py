"""The portal's router, which ``app/portal.py`` serves. Each page is one file under ``views``."""

from __future__ import annotations

import logging
from datetime import UTC, datetime

import streamlit as st

from app import acting, garbage, session, shell, sign_in_form
from app.acting import SignInNeeded
from pipeline.errors import AccessDenied, NotFound, ScoretraceError

_log = logging.getLogger("scoretrace.portal")


def main() -> None:
    st.set_page_config(page_icon="◎", layout="wide", initial_sidebar_state="expanded")
    st.html(shell.STYLE_SHEET)
    groups = {
        "Watch": [
            st.Page(shell.TONIGHT, title="Tonight", url_path="tonight", default=True),
            st.Page(shell.DRIFT, title="Drift", url_path="drift"),
            st.Page(shell.OUTCOMES, title="Outcomes", url_path="outcomes"),
            st.Page(shell.ALERTS, title="Alerts", url_path="alerts"),
        ],
        "Explain": [
            st.Page(shell.SCORES, title="Scores", url_path="scores"),
            st.Page(shell.LINEAGE, title="Lineage", url_path="lineage"),
            st.Page(shell.RUNS, title="Runs", url_path="runs"),
        ],
        "Govern": [
            st.Page(shell.MODELS, title="Models", url_path="models"),
            st.Page(shell.PROMOTIONS, title="Promotions", url_path="promotions"),
            st.Page(shell.AUDIT, title="Audit", url_path="audit"),
        ],
    }
    page = st.navigation(groups, position="hidden")
    st.set_page_config(page_title=shell.window_title(page))
    session.write_address(page.url_path)
    try:
        home = session.open_home()
    except ScoretraceError as error:
        shell.side_navigation(groups)
        shell.header(None, page, None)
        shell.sentence(error, "there is nothing to open")
        return
    try:
        actor = session.actor()
    except SignInNeeded as needed:
        shell.header(home, page, None)
        sign_in_form.show(home, needed)
        return
    except ScoretraceError as error:
        shell.header(home, page, None)
        shell.sentence(error, "nobody can sign in")
        return
    acting.seen(datetime.now(UTC))
    sign_in_form.remember()
    shell.side_navigation(groups)
    shell.header(home, page, actor)
    try:
        page.run()
    except NotFound as error:
        shell.sentence(error, "not found")
        st.page_link(page, label=f"all of {page.title} ▸", icon="")
    except AccessDenied as error:
        shell.sentence(error, "not allowed")
    except ScoretraceError as error:
        shell.sentence(error)
    except Exception:  # noqa: BLE001 - the last resort: the log gets the traceback, the reader a sentence
        _log.exception("page %s broke", page.url_path or page.title)
        shell.sentence(
            ScoretraceError(
                "This page broke while it was made; nothing was changed",
                "the server's log holds the error; `scoretrace status` reads the same records",
            ),
            "this page broke",
        )
    garbage.freeze_imports()


if __name__ == "__main__":
    main()
