"""The portal's router: ``streamlit run app/main.py``. Each page is one file under ``views``."""

from __future__ import annotations

import logging

import streamlit as st

from app import session, shell
from pipeline.errors import NotFound, ScoretraceError

_log = logging.getLogger("scoretrace.portal")


def main() -> None:
    st.set_page_config(page_title="Scoretrace", page_icon="◎", layout="wide", initial_sidebar_state="expanded")
    st.html(shell.STYLE_SHEET)
    groups = {
        "Watch": [st.Page(shell.TONIGHT, title="Tonight", url_path="tonight", default=True)],
        "Explain": [st.Page(shell.SCORES, title="Scores", url_path="scores")],
    }
    page = st.navigation(groups, position="hidden")
    session.write_address()
    shell.side_navigation(groups)
    try:
        home = session.open_home()
    except ScoretraceError as error:
        shell.header(None, page)
        shell.sentence(error, "there is nothing to open")
        return
    shell.header(home, page)
    try:
        page.run()
    except NotFound as error:
        shell.sentence(error, "not found")
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


if __name__ == "__main__":
    main()
